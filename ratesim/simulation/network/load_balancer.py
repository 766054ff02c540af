"""Routing: which API node a request goes to. What a load balancer in front of them does."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.network.counter_rng import code_of
from traffic import Trace

__all__ = ["LeastOutstanding", "Router", "Routing", "consistent_hash", "route"]

Routing = Literal["round_robin", "random", "sticky", "key_hash", "least_outstanding"]

POINTS = 128  # of each node on the ring: the share of a node varies by about 1/sqrt(POINTS), 9 %
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

Nodes = NDArray[np.int64]


def route(trace: Trace, routing: Routing, nodes: int, seed: int = 0) -> Nodes | None:
    """The node of each request, shape (len(trace),); None where it depends on what becomes of the others.

    round_robin: in turn. random: any, by `seed`. sticky: a session stays where it is. key_hash: a key stays where it is, on
    a ring (`consistent_hash`). least_outstanding: see there.
    """
    if routing == "round_robin":
        return np.arange(len(trace), dtype=np.int64) % nodes
    if routing == "random":
        return np.random.default_rng([seed, 2]).integers(0, nodes, len(trace))
    if routing == "sticky":
        return _spread(trace.session, nodes)
    if routing == "key_hash":
        return consistent_hash(trace.keys, range(nodes))[trace.key]
    return None


def _spread(sessions: NDArray[np.int64], nodes: int) -> Nodes:
    """Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): neighboring sessions part ways."""
    mixed = (sessions.astype(np.uint64) + np.uint64(1)) * GOLDEN
    return ((mixed >> np.uint64(33)) % np.uint64(nodes)).astype(np.int64)


def consistent_hash(keys: Sequence[str], nodes: Sequence[int]) -> Nodes:
    """The node that each key belongs to, of those that are there: consistent hashing (Karger et al., STOC 1997).

    Every node stands at 128 points of a ring, and a key belongs to the next point. So where a node goes, only its keys move,
    to all of the others, and where one comes, it takes of each its share.
    """
    points = np.array([_mixed(np.array([code_of(f"node {node}, point {i}")]))[0] for node in nodes for i in range(POINTS)])
    order = np.argsort(points, kind="stable")
    at = np.searchsorted(points[order], _mixed(np.array([code_of(key) for key in keys], np.uint64)))
    return np.repeat(np.asarray(nodes, np.int64), POINTS)[order[at % len(order)]]


def _mixed(codes: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """CRCs spread over 64 bits (the finalizer of splitmix64), so that neighbors part ways."""
    x = codes.astype(np.uint64) * GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class LeastOutstanding:
    """Each request goes to the node with the fewest that are not answered yet; of several, to the next in turn."""

    def __init__(self, nodes: int) -> None:
        self._outstanding = [0] * nodes
        self._next = 0

    def send(self) -> int:
        """The node for a request that comes now."""
        outstanding, first = self._outstanding, self._next
        least = min(outstanding)
        node: int = next(i for i in (*range(first, len(outstanding)), *range(first)) if outstanding[i] == least)
        self._next = (node + 1) % len(outstanding)
        outstanding[node] += 1
        return node

    def took(self, node: int) -> None:
        """A request was sent to this node for another reason."""
        self._outstanding[node] += 1

    def answered(self, node: int) -> None:
        """A request that this node had is answered, or given up."""
        self._outstanding[node] -= 1


class Router:
    """Sends requests on their way, by any routing: those of a trace, or (of an empty one) those that are added.

    known: whether every request's node is known before it is sent. node: of each request, by row; -1 before it is sent. It
    takes 2 bytes: nodes are 1000 at most.
    """

    def __init__(self, trace: Trace, routing: Routing, nodes: int, seed: int = 0) -> None:
        self._routing, self._nodes = routing, nodes
        self._names, self._key = trace.keys, array("q", trace.key.tobytes())
        self._heirs: dict[tuple[int, ...], Nodes] = {}
        places = route(trace, routing, nodes, seed)
        self.known = places is not None
        self.node = array("h", [-1]) * len(trace) if places is None else array("h", places.astype(np.int16).tobytes())
        self._least = LeastOutstanding(nodes)
        self._rng = np.random.default_rng([seed, 2])

    def add(self, key: int, session: int) -> None:
        """One more request, in the next row."""
        self._key.append(key)
        if self._routing == "round_robin":
            node = len(self.node) % self._nodes
        elif self._routing == "random":
            node = int(self._rng.integers(0, self._nodes))
        elif self._routing == "sticky":
            node = int(_spread(np.array([session]), self._nodes)[0])
        elif self._routing == "key_hash":
            node = self._failover_node(key, tuple(range(self._nodes)))
        else:
            node = -1
        self.node.append(node)

    def send(self, i: int) -> int:
        """The node of the request in row i, which comes now."""
        if not self.known:
            self.node[i] = self._least.send()
        return self.node[i]

    def reroute(self, i: int, alive: Sequence[int]) -> int:
        """The node of a request that was sent, once the balancer has seen who is there: its own if that is, else another; -1
        and nothing outstanding, if nobody is."""
        node = self.node[i]
        if node in alive:
            return node
        self.answered(i)
        if not alive:
            return -1
        hashed = self._routing == "key_hash"
        node = self._failover_node(self._key[i], tuple(alive)) if hashed else alive[node % len(alive)]
        self.node[i] = node
        if not self.known:
            self._least.took(node)
        return node

    def _failover_node(self, key: int, alive: tuple[int, ...]) -> int:
        heirs = self._heirs.get(alive)
        if heirs is None:
            heirs = self._heirs[alive] = consistent_hash(self._names, alive)
        return int(heirs[key])

    def answered(self, i: int) -> None:
        if not self.known:
            self._least.answered(self.node[i])
