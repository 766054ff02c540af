"""Candidates in memory: every node decides at once, and how long it takes is worked out from all of its requests."""

from __future__ import annotations

import sys
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.progress import Progress
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.simulation.engine.cluster import Cluster, build_cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.event_loop import run_until_done
from ratesim.simulation.engine.node_memory import entry_bytes, every, growing_bytes, table_bytes, tables_of
from ratesim.simulation.engine.outcome_columns import OutcomeColumns
from ratesim.simulation.engine.playback import Playback, playback_of
from ratesim.simulation.engine.replay import GRACE, ReplayResult, add_waits, answered_part
from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.kernel import memory_loop
from ratesim.simulation.kernel.assembly import AbortError
from ratesim.simulation.kernel.memory_rule import compile_memory, interpret_memory
from ratesim.simulation.kernel.rule_functions import growth_reason
from ratesim.simulation.kernel.state_layout import ROW_ACCESSED_AT, ROW_CREATED_AT, ROW_EXPIRES_AT, ROW_HEADER
from ratesim.simulation.kernel.states import StateTable
from ratesim.simulation.network.load_balancer import route
from ratesim.simulation.queueing.fifo_station import rows_by_queue
from ratesim.storage import StorageURL
from ratesim.storage.config import MemoryStorageConfig
from traffic import Trace

__all__ = ["COMPILED", "PLAIN", "MemoryKernel", "memory_reason", "play_memory"]

# Floats for growing states, of which each life of a pair begins with a small ring, and each ring is twice the one before. Of
# those that no state needs nothing is allocated.
ARENA, ARENA_OF_PAIR, ARENA_OF_REQUEST = 1 << 16, 128, 40
WARMUP_EVENTS = 2  # the task that ends the warm-up begins, and wakes up

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class MemoryKernel(NamedTuple):
    """The functions that decide: compiled, or the same uncompiled.

    Attributes
    ----------
    loop
        Returns the module with the functions of `memory_loop`.
    rule
        Returns `memory_decide` for a limit.
    table
        Returns a table of states as `memory_decide` takes it.
    """

    loop: Any
    rule: Any
    table: Any


COMPILED = MemoryKernel(lambda: compiled(memory_loop), compile_memory, attrgetter("address"))
PLAIN = MemoryKernel(lambda: memory_loop, interpret_memory, attrgetter("plain"))


def memory_reason(config: MemoryStorageConfig, limit: Limit, trace: Trace) -> str | None:
    """Return why nodes in memory have to be played by SimPy; None if they do not."""
    if config.memory_limit is not None:
        return "memory_limit may evict states"
    if config.eviction_policy != "LRU":
        return f"the eviction policy {config.eviction_policy} keeps records of its own"
    if len(trace.keys) > config.max_entries:
        return f"{len(trace.keys):,} keys may be more than a node keeps, and it would evict states"
    return growth_reason(limit)


def play_memory(
    context: RunContext,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
    kernel: MemoryKernel = COMPILED,
) -> Playback:
    """Play a run to its end.

    Parameters
    ----------
    context, progress, interruptible
        As for the `play` of the engine.
    kernel
        What decides.
    """
    cluster, trace, warmup = build_cluster(context), context.trace, context.scenario.warmup
    nodes = _Nodes(context, cluster, kernel)
    due = nodes.due
    partial = run_until_done(nodes, due, progress, interruptible, None, nodes.last_answer, GRACE)
    allowed = nodes.allowed.view(np.bool_)
    outcome = OutcomeColumns(allowed, np.zeros(len(trace), np.bool_), nodes.latency, nodes.sequence(), None)
    result = ReplayResult(trace, outcome, nodes.node, {}, partial, in_flight=0)
    events = len(trace)
    if not nodes.in_turn:
        add_waits(cluster, due, result, warmup)
    elif warmup > 0.0:
        events += WARMUP_EVENTS
    nodes.settle()
    for station in cluster.stations.values():
        station.close(nodes.now if partial else inf)
    if partial:
        result = answered_part(result, context, nodes.now)
    return playback_of(cluster, result, nodes.bytes(), events)


class _Nodes:
    """The nodes of a run, with the clock of a simulation.

    Attributes
    ----------
    due
        When each request comes, in simulated seconds.
    node
        The node of each.
    in_turn
        Whether nodes are chosen when requests come. As all are answered at once, that is one after the other.
    """

    def __init__(self, context: RunContext, cluster: Cluster, kernel: MemoryKernel) -> None:
        trace, nodes = context.trace, len(cluster.loops)
        self.due = trace.time - context.runtime.epoch
        places = route(trace, context.routing, nodes, context.seed)
        self.in_turn = places is None
        places = np.arange(len(trace)) % nodes if places is None else places
        self.node = places.astype(np.int16)
        self.allowed, self.latency = np.zeros(len(trace), np.uint8), np.full(len(trace), np.nan)
        self.now = 0.0
        self._trace, self._cluster, self._limit = trace, cluster, context.limit
        self._done = 0
        self._loop, self._decide = kernel.loop(), kernel.rule(context.limit)
        self._pair, self._codes = self._paired(places, nodes)
        skew = StorageURL.parse(context.candidate.storage).config.max_clock_skew
        arena = ARENA_OF_PAIR * len(self._codes) + ARENA_OF_REQUEST * len(trace) + ARENA
        self._states = StateTable(context.limit, len(self._codes), skew, arena)
        self._table = kernel.table(self._states)
        self._touched = np.full(len(self._codes), -1, np.int64)
        self._loops = np.zeros((nodes, 6))
        self._loops[:, memory_loop.CAME] = memory_loop.NOTHING
        self._costs: BackendCosts = cluster.memory_costs
        self._warmup = context.scenario.warmup if self.in_turn else 0.0

    def _paired(self, places: Ints, nodes: int) -> tuple[Ints, Ints]:
        """Return the number of each request's pair of node and key, and key * nodes + node of each pair."""
        trace = self._trace
        most = min(len(trace), nodes * len(trace.keys))
        table = np.full(1 << (2 * most + 1).bit_length(), -1, np.int64)
        codes, pair = np.empty(most, np.int64), np.empty(len(trace), np.int64)
        key = np.ascontiguousarray(trace.key, np.int64)
        pairs = self._loop.memory_pairs(np.ascontiguousarray(places, np.int64), key, nodes, table, codes, pair)
        return pair, codes[:pairs]

    def peek(self) -> float:
        """Return when the next request comes or the warm-up ends; inf if nothing happens."""
        due = float(self.due[self._done]) if self._done < len(self.due) else inf
        return min(due, self._warmup or inf)

    def run(self, until: float) -> None:
        """Decide the requests that come before a time."""
        last = int(np.searchsorted(self.due, until))
        columns = self._pair, np.ascontiguousarray(self._trace.time), np.ascontiguousarray(self._trace.cost)
        growing = bind(self._limit).size is None
        if self._decide(self._table, *columns, self._done, last, growing, self._touched, self.allowed) < last:
            raise AbortError("the states of a node grow beyond the room for them")
        if not self.in_turn:
            self.latency[self._done : last] = 0.0
            self._done = last
        elif self._warmup > 0.0 and until > self._warmup:
            self._work(int(np.searchsorted(self.due, self._warmup, "right")))
            self.settle()
            self._cluster.discount(self._warmup)
            self._warmup = 0.0
        if self.in_turn:
            self._work(last)
        self.now = until

    def _work(self, last: int) -> None:
        """Work for the requests up to a row, each by the next node."""
        cold = self._costs.cold
        points = (np.empty(0), np.empty(0)) if cold is None else (np.array(cold.idle), np.array(cold.ask))
        customers = np.empty((2 * (last - self._done), 4))
        steps = self._loop.memory_in_turn(
            self.due, self._done, last, self._loops, self._costs.client_cpu, *points, self.latency, customers
        )
        self._account(customers[:steps])
        self._done = last

    def settle(self) -> None:
        """Account for the last steps of the nodes."""
        customers, steps = np.empty((len(self._loops), 4)), 0
        for number, loop in enumerate(self._loops):
            steps = self._loop.memory_settle(loop, number, customers, steps)
        self._account(customers[:steps])

    def _account(self, customers: Floats) -> None:
        loops = self._cluster.loops
        for loop, rows in zip(loops, rows_by_queue(customers[:, 0].astype(np.int64), len(loops)), strict=True):
            loop.station.stats.add(np.ascontiguousarray(customers[rows, 1:]))

    def sequence(self) -> Ints:
        """Return the numbers of the decisions in their order; 0 for a request that did not come."""
        numbers = np.arange(1, len(self.due) + 1)
        numbers[self._done :] = 0
        return numbers

    def last_answer(self) -> float:
        """Return when the last request was answered, as far as is known before the waits are."""
        return float(self.due[-1]) if len(self.due) else 0.0

    def bytes(self) -> Ints:
        """Return the bytes of the nodes' entries, shape (nodes,)."""
        nodes, keys = len(self._loops), self._trace.keys
        there = np.flatnonzero(self._states.rows[:, ROW_EXPIRES_AT] > 0.0)
        there = there[np.argsort(self._touched[there])]  # in the order of their use
        mine = [there[self._codes[there] % nodes == number] for number in range(nodes)]
        some = [entries[:: every(len(entries))] for entries in mine]
        of_all = np.concatenate(some)
        names = [sys.getsizeof(keys[code]) for code in (self._codes[of_all] // nodes).tolist()]
        numbers = self._states.rows[of_all][:, [ROW_EXPIRES_AT, ROW_CREATED_AT, ROW_ACCESSED_AT]]
        if bind(self._limit).size is None:
            counted = growing_bytes(self._limit, numbers, [self._states.state(slot) for slot in of_all.tolist()])
        else:
            counted = entry_bytes(self._limit, np.hstack([numbers, self._states.rows[of_all][:, ROW_HEADER:]]))
        counted += np.array(names, np.int64)
        parts = np.split(counted, np.cumsum([len(each) for each in some])[:-1])
        tables = tables_of(keys, [len(entries) for entries in mine])
        return np.array(
            [table_bytes(table, part.tolist(), len(each)) for table, part, each in zip(tables, parts, mine, strict=True)],
            np.int64,
        )
