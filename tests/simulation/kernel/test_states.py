"""The states of a kernel decide, merge and travel as those of MemoryStorage, to the bit, compiled and interpreted."""

from __future__ import annotations

import ctypes
import random
from math import inf
from typing import Any

import msgspec
import numpy as np
import pytest
from examples import examples

from ratesim.algorithms import bind
from ratesim.limit import Decision, Limit
from ratesim.simulation.engine.cluster import UNBOUNDED
from ratesim.simulation.kernel.rule_functions import compile_rule, interpret_rule
from ratesim.simulation.kernel.state_layout import (
    ANSWER_CONSUMED,
    ANSWER_EPOCH,
    DECIDE_CONSUMES,
    DECIDE_TELLS,
    FUNCTIONS,
    ROW_ACCESSED_AT,
    ROW_CREATED_AT,
    ROW_EXPIRES_AT,
    ROW_REQUESTS,
)
from ratesim.simulation.kernel.state_merging import state_micro
from ratesim.simulation.kernel.states import StateTable
from ratesim.state import AlgorithmData, RateLimitState, Watermark
from ratesim.storage.base import EXPIRY_MARGIN, Charge
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.memory import Entry, MemoryStorage

LIMITS = [
    Limit(5.0, 2.0, algorithm="token_bucket", burst=8.0),
    Limit(5.0, 0.3, algorithm="leaky_bucket"),
    Limit(3.0, 7.0, algorithm="gcra", burst=4.5),
    Limit(4.0, 1.0, algorithm="fixed_window"),
    Limit(6.0, 3.0, algorithm="sliding_window"),
    Limit(6.0, 3.0, algorithm="sliding_window", options={"buckets": 7.0}),
    Limit(30.0, 2.0, algorithm="sliding_log"),
    Limit(5.0, 1.5, algorithm="adaptive", options={"min_rate": 1.0, "used_share": 0.5}),
]
KEYS, NODES, SKEW = 3, 3, 0.8
OPERATIONS, AT_NIGHT = 400, 40_000
KINDS = {"types.int64": ctypes.c_int64, "types.float64": ctypes.c_double, "types.void": None}


class Tables:
    """A table of a store, one of views and one of answers, and the functions of a rule on them."""

    def __init__(self, limit: Limit, compiled: bool, arena: int = 1 << 20) -> None:
        self.store = StateTable(limit, KEYS, SKEW, arena, NODES, KEYS * NODES)
        self.views = StateTable(limit, KEYS, SKEW, arena)
        self.answers = StateTable(limit, 1, SKEW, arena, NODES, NODES)
        if compiled:
            addresses = compile_rule(limit)
            kinds = {name: [KINDS[kind] for kind in types] for name, types in FUNCTIONS.items()}
            self._call: dict[str, Any] = {name: ctypes.CFUNCTYPE(*kinds[name])(addresses[name]) for name in FUNCTIONS}
        else:
            self._call = {**interpret_rule(limit)}
        self._compiled = compiled

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function with tables among its arguments."""
        return self._call[name](
            *(
                (each.address if self._compiled else each.plain) if isinstance(each, StateTable) else each
                for each in arguments
            )
        )


class Node:
    """What a node has consumed of a key: flushes that it has sent, and may send again or late."""

    def __init__(self) -> None:
        self.epoch, self.consumed = 1, 0.0
        self.sent: list[Charge] = []


class Both:
    """A store, views and nodes, and the tables that hold the same."""

    def __init__(self, limit: Limit, compiled: bool) -> None:
        self.rng, self.limit, self.tables = random.Random(limit.algorithm), limit, Tables(limit, compiled)
        config = msgspec.structs.replace(UNBOUNDED, max_clock_skew=SKEW)
        self.store, self.views = MemoryStorage(config), MemoryStorage(config)
        self.nodes = {(key, node): Node() for key in range(KEYS) for node in range(NODES)}

    def decided(self, memory: MemoryStorage, table: StateTable, flags: int, key: int, now: float) -> bool:
        """Decide in both."""
        cost, tells = cost_of(self.rng, self.limit), self.rng.random() < 0.7
        decide = memory.acquire_nowait if flags else memory.peek_nowait
        expected: Decision = decide(str(key), self.limit, cost, now)
        flags |= DECIDE_TELLS if tells else 0
        assert self.tables.call("rule_decide", table, key, flags, cost, now) == expected.allowed
        if tells:
            assert table.answer[:3].tolist() == [expected.remaining, expected.retry_after, expected.reset_after]
        return expected.allowed


@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.algorithm}-{limit.burst or len(limit.options)}")
def test_operations_at_random_leave_the_same_states_and_give_the_same_answers(limit: Limit, compiled: bool) -> None:
    both = Both(limit, compiled)
    rng, tables, store, views = both.rng, both.tables, both.store, both.views
    operations = [acquired, acquired, acquired, peeked, applied, applied, viewed, read]
    weights = [6, 6, 6, 2, 4, 4, 3, 1]
    now = 1.7e9
    done = set()
    for _ in range(examples(OPERATIONS, AT_NIGHT)):
        now = later(rng, limit, now)
        key = rng.randrange(KEYS)
        (operation,) = rng.choices(operations, weights)
        done.add((operation.__name__, operation(both, key, now)))
        for memory, table in ((store, tables.store), (views, tables.views)):
            assert entry_of(memory, key) == row_of(table, limit, key), operation
    assert [table.exhausted for table in (tables.store, tables.views, tables.answers)] == [0, 0, 0]
    outcomes = {("acquired", True), ("acquired", False), ("peeked", True), ("peeked", False), ("applied", True)}
    assert done >= outcomes | {("applied", False), ("viewed", True), ("viewed", False), ("read", True)}
    assert store.get_stats_nowait().clock_rewinds > 0


def later(rng: random.Random, limit: Limit, now: float) -> float:
    """Draw the time of the next operation: of the same instant, soon, after all is fresh, or before the last one."""
    step = rng.choice([0.0, 0.0, 0.01, rng.random() * limit.period, limit.period, -rng.random() * SKEW, -2.0 * rng.random()])
    return now + step + (20.0 * limit.period if rng.random() < 0.02 else 0.0)


def cost_of(rng: random.Random, limit: Limit) -> float:
    """Draw a cost."""
    return rng.choice([0.0, 1.0, 1.0, 1.0, 2.0, 0.3, 1e-6, limit.rate, 3.0 * limit.rate])


def acquired(both: Both, key: int, now: float) -> bool:
    """Decide on the store's state, or on a view."""
    memory, table = (both.store, both.tables.store) if both.rng.random() < 0.7 else (both.views, both.tables.views)
    return both.decided(memory, table, DECIDE_CONSUMES, key, now)


def peeked(both: Both, key: int, now: float) -> bool:
    """Look what would be decided."""
    return both.decided(both.store, both.tables.store, 0, key, now)


def applied(both: Both, key: int, now: float) -> bool:
    """Send a flush of a node: a new one, one that was sent before, or one behind a lost one."""
    rng, tables, store, nodes = both.rng, both.tables, both.store, both.nodes
    number = rng.randrange(NODES)
    node = nodes[key, number]
    again = bool(node.sent) and rng.random() < 0.4
    charge = rng.choice(node.sent[-4:]) if again else flush(rng, both.limit, node, key, number, now)
    known = charge.node in entry_marks(store, key)
    store.charge_nowait(charge)
    total = total_consumed(charge.before, charge.entries)
    first, last = charge.entries[0][0], charge.entries[-1][0]
    tables.call("rule_apply_begin", tables.store, key, number, charge.epoch, charge.before, total, first)
    for time, cost, requests in charge.entries:
        tables.call("rule_apply", tables.store, key, time, cost, requests)
    tables.call("rule_apply_end", tables.store, key, last)
    marks = entry_marks(store, key)
    for other in range(NODES):
        there = tables.call("rule_mark", tables.store, key, other)
        mark = marks.get(str(other))
        assert there == (mark is not None)
        if mark is not None:
            assert tables.store.answer[[ANSWER_EPOCH, ANSWER_CONSUMED]].tolist() == [mark.epoch, mark.consumed]
    return known


def flush(rng: random.Random, limit: Limit, node: Node, key: int, number: int, now: float) -> Charge:
    if rng.random() < 0.1:
        node.epoch, node.consumed = node.epoch + rng.choice([1, 5]), 0.0
    if rng.random() < 0.1:
        node.consumed += 1.5  # of a flush that is lost
    times = sorted(now - rng.random() * rng.choice([0.0, 0.1, 3.0]) * limit.period for _ in range(rng.randint(1, 4)))
    entries = tuple((time, max(cost_of(rng, limit), 1e-6), rng.randint(0, 3)) for time in times)
    node.sent.append(Charge(str(key), limit, str(number), node.epoch, node.consumed, entries))
    node.consumed = total_consumed(node.consumed, entries)
    return node.sent[-1]


def viewed(both: Both, key: int, now: float) -> bool:
    """Rebuild a view of the store's state and of consumption that it may not know, as `ViewCache.store` does."""
    rng, limit, tables, store, views = both.rng, both.limit, both.tables, both.store, both.views
    rule, p = bind(limit).algorithm.rule, bind(limit).params
    entry = store.live_entry(str(key), "", now)
    found = tables.call("rule_get", tables.store, key, now, tables.answers, 0)
    assert found == (entry is not None)
    unsettled = [(now - limit.period + i, cost_of(rng, limit)) for i in range(rng.randint(0, 3))]
    if entry is None:
        if not unsettled:
            return False
        first = unsettled[0][0]
        s = [0.0] * rule.size(p)
        rule.start(s, p, first)
        tables.call("rule_begin", tables.views, key, first)
        state = RateLimitState(AlgorithmData.of(limit.algorithm, bind(limit).algorithm.stored(s)), first, first)
    else:
        state = entry.export()
        tables.call("rule_export", tables.answers, 0, tables.views, key)
    view = views.set_state_nowait(str(key), state, inf)
    working = view.load()
    for time, cost in unsettled:
        if time > working[0]:
            rule.refresh(working, p, time)
        rule.charge(working, p, cost, time)
        tables.call("rule_charge", tables.views, key, time, cost)
    view.store(working)
    assert tables.call("rule_time", tables.views, key) == working[0]
    view.expires_at = working[0] + rule.reset_after(working, p, working[0]) + EXPIRY_MARGIN
    tables.call("rule_settle", tables.views, key)
    return entry is not None


def read(both: Both, key: int, now: float) -> bool:
    """Copy a state as an answer, with its watermarks."""
    tables, store = both.tables, both.store
    entry = store.live_entry(str(key), "", now)
    assert tables.call("rule_get", tables.store, key, now, tables.answers, 0) == (entry is not None)
    if entry is None:
        return False
    state, row = entry.export(), tables.answers.rows[0]
    assert row[[ROW_CREATED_AT, ROW_ACCESSED_AT, ROW_REQUESTS]].tolist() == [
        state.created_at,
        state.last_accessed,
        state.request_count,
    ]
    algorithm = bind(both.limit).algorithm
    assert algorithm.stored(tables.answers.state(0).tolist()) == state.algorithm_data.values()
    for node in range(NODES):
        known = tables.call("rule_mark", tables.answers, 0, node)
        mark = tuple(tables.answers.answer[[ANSWER_EPOCH, ANSWER_CONSUMED]].tolist()) if known else None
        expected = state.watermarks.get(str(node))
        assert mark == (expected and (expected.epoch, expected.consumed))
    return True


def entry_of(memory: MemoryStorage, key: int) -> tuple[Any, ...] | None:
    """Return all that an entry holds."""
    entry = memory.entries.get(str(key))
    if entry is None:
        return None
    assert isinstance(entry, Entry)
    state = entry.algorithm.stored(entry.load())
    return entry.expires_at, entry.details().created_at, entry.last_accessed, entry.request_count, state


def entry_marks(memory: MemoryStorage, key: int) -> dict[str, Watermark]:
    entry = memory.entries.get(str(key))
    return entry.details().watermarks if isinstance(entry, Entry) else {}


def row_of(table: StateTable, limit: Limit, key: int) -> tuple[Any, ...] | None:
    """Return all that a row holds."""
    row = table.rows[key]
    if row[ROW_EXPIRES_AT] == 0.0:
        return None
    state = bind(limit).algorithm.stored(table.state(key).tolist())
    return (*row[[ROW_EXPIRES_AT, ROW_CREATED_AT, ROW_ACCESSED_AT, ROW_REQUESTS]].tolist(), state)


@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
def test_an_arena_that_is_too_small_is_exhausted_for_good(compiled: bool) -> None:
    tables = Tables(Limit(100.0, 10.0, algorithm="sliding_log"), compiled, arena=60)
    answers = [tables.call("rule_decide", tables.store, 0, DECIDE_CONSUMES, 1.0, 100.0 + i / 10) for i in range(30)]
    admitted = answers.index(-1)
    assert 4 < admitted < 30
    assert answers == [1] * admitted + [-1] * (30 - admitted)
    assert tables.store.exhausted


def test_times_are_rounded_to_the_microsecond_as_an_export_rounds_them() -> None:
    rng = np.random.default_rng(1)
    size = examples(20_000, 2_000_000)
    ranges = [rng.random(size) * scale for scale in (1.0, 1e3, 1.7e9, 4.3e9, 8.6e9, 1e11)]
    halves = (np.floor(rng.random(size) * 1e6) + 0.5) / 1e6
    ties = np.floor(rng.random(size) * 2.0**32) + np.floor(rng.random(size) * 128.0) / 128.0
    for times in (*ranges, halves, ties):
        assert [state_micro(each) for each in times.tolist()] == [round(each, 6) for each in times.tolist()]
