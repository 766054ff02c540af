"""Load balancing: which API node a request goes to."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.network.counter_rng import name_hash
from traffic import Trace

__all__ = ["LeastOutstanding", "Router", "Routing", "consistent_hash", "route"]

Routing = Literal["round_robin", "random", "sticky", "key_hash", "least_outstanding"]

POINTS = 128  # of each node on the ring: the share of a node varies by about 1/sqrt(POINTS), 9 %
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

Nodes = NDArray[np.int64]


def route(trace: Trace, routing: Routing, nodes: int, seed: int = 0) -> Nodes | None:
    """Return the node of each request, or None if it depends on the answers to other requests.

    Parameters
    ----------
    trace : Trace
        The requests.
    routing : Routing
        round_robin: in turn. random: any node, by `seed`. sticky: a session stays on its node. key_hash: a key stays on its
        node, on a ring (`consistent_hash`). least_outstanding: see `LeastOutstanding`.
    nodes : int
        Number of nodes.
    seed : int
        Seed of the random routing.

    Returns
    -------
    Nodes or None
        Shape (len(trace),); None for least_outstanding.
    """
    if routing == "round_robin":
        return np.tile(np.arange(nodes, dtype=np.int64), -(-len(trace) // nodes))[: len(trace)]
    if routing == "random":
        return np.random.default_rng([seed, 2]).integers(0, nodes, len(trace))
    if routing == "sticky":
        return _spread(trace.session, nodes)
    if routing == "key_hash":
        return consistent_hash(trace.keys, range(nodes))[trace.key]
    return None


def _spread(sessions: NDArray[np.int64], nodes: int) -> Nodes:
    """Spread sessions by Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4), so that neighbors part ways."""
    mixed = (sessions.astype(np.uint64) + np.uint64(1)) * GOLDEN
    return ((mixed >> np.uint64(33)) % np.uint64(nodes)).astype(np.int64)


def consistent_hash(keys: Sequence[str], nodes: Sequence[int]) -> Nodes:
    """Assign each key to one of the nodes by consistent hashing (Karger et al., STOC 1997).

    Every node stands at 128 points of a ring, and a key belongs to the next point. So if a node leaves, only its keys move,
    to all other nodes. A node that joins takes its share from each other node.
    """
    points = np.array([_mix(np.array([name_hash(f"node {node}, point {i}")]))[0] for node in nodes for i in range(POINTS)])
    order = np.argsort(points, kind="stable")
    at = np.searchsorted(points[order], _mix(np.array([name_hash(key) for key in keys], np.uint64)))
    return np.repeat(np.asarray(nodes, np.int64), POINTS)[order[at % len(order)]]


def _mix(codes: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Spread CRCs over 64 bits (the finalizer of splitmix64), so that neighbors part ways."""
    x = codes.astype(np.uint64) * GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class LeastOutstanding:
    """Sends each request to the node with the fewest unanswered requests; of several, to the next in turn."""

    def __init__(self, nodes: int) -> None:
        self._outstanding = [0] * nodes
        self._next = 0

    def send(self) -> int:
        """Choose the node of a request that comes now, and count it."""
        outstanding, first = self._outstanding, self._next
        least = min(outstanding)
        node: int = next(i for i in (*range(first, len(outstanding)), *range(first)) if outstanding[i] == least)
        self._next = (node + 1) % len(outstanding)
        outstanding[node] += 1
        return node

    def record_sent(self, node: int) -> None:
        """Count a request that was sent to this node for another reason."""
        self._outstanding[node] += 1

    def record_answer(self, node: int) -> None:
        """Count a request of this node as answered, or given up."""
        self._outstanding[node] -= 1


class Router:
    """Routes requests by any policy: those of a trace, or (with an empty trace) requests that are added.

    Attributes
    ----------
    known : bool
        Whether every request's node is known before it is sent.
    node : array of int16
        Node of each request, by row; -1 before it is sent. It takes 2 bytes, because nodes are 1000 at most.
    """

    def __init__(self, trace: Trace, routing: Routing, nodes: int, seed: int = 0) -> None:
        self._routing, self._nodes = routing, nodes
        self._names = trace.keys
        self._key: Any = trace.key if len(trace) else array("q")
        self._heirs: dict[tuple[int, ...], Nodes] = {}
        places = route(trace, routing, nodes, seed)
        self.known = places is not None
        self.node = array("h", [-1]) * len(trace) if places is None else array("h", places.astype(np.int16).tobytes())
        self._least = LeastOutstanding(nodes)
        self._rng = np.random.default_rng([seed, 2])

    def add(self, key: int, session: int) -> None:
        """Add one more request, in the next row."""
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
        """Choose the node of the request in row i, which comes now."""
        if not self.known:
            self.node[i] = self._least.send()
        return self.node[i]

    def reroute(self, i: int, alive: Sequence[int]) -> int:
        """Choose another node for a request once the balancer knows which nodes are alive.

        A request stays on its node if that is alive. If no node is, the result is -1, and the request is no longer
        outstanding.
        """
        node = self.node[i]
        if node in alive:
            return node
        self.record_answer(i)
        if not alive:
            return -1
        hashed = self._routing == "key_hash"
        node = self._failover_node(self._key[i], tuple(alive)) if hashed else alive[node % len(alive)]
        self.node[i] = node
        if not self.known:
            self._least.record_sent(node)
        return node

    def _failover_node(self, key: int, alive: tuple[int, ...]) -> int:
        heirs = self._heirs.get(alive)
        if heirs is None:
            heirs = self._heirs[alive] = consistent_hash(self._names, alive)
        return int(heirs[key])

    def record_answer(self, i: int) -> None:
        """Count the request in row i as answered."""
        if not self.known:
            self._least.record_answer(self.node[i])
