"""Bounds of limiters that do not know, or forget: separate memories, evictions, failovers: docs/bounds.md, 6 to 8."""

from __future__ import annotations

import asyncio
from math import inf

import numpy as np
import pytest
from admitted import (
    ALGORITHMS,
    PERIOD,
    ROUNDING,
    against_its_bound,
    asked,
    by_key,
    comes_near,
    generated,
    limits,
    networks,
    overtaken,
    play,
    routings,
    traffic,
)
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.simulation.results.accuracy import Accuracy, measure_accuracy
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import EPOCH
from ratesim.storage import MemoryStorage, MemoryStorageConfig
from ratesim.storage.base import StorageStats
from ratesim.storage.eviction import POLICIES
from traffic import Trace

NODES = 8

# -- separate memories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@generated
@given(data=st.data())
def test_n_memories_that_share_nothing_admit_at_most_n_times_what_one_would(algorithm: str, data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 6))
    limit = data.draw(limits(algorithm))
    result = play(data.draw(traffic()), "memory://", limit, nodes, routing=data.draw(routings))
    assert result.accuracy.net_over_admission <= (nodes - 1) * (1 + ROUNDING)
    if algorithm == "fixed_window":
        assert result.accuracy.over_admission <= nodes - 1
    for _, time, cost in by_key(result):
        for admitted, bound in against_its_bound(limit, time, cost, limiters=nodes):
            assert admitted <= bound * (1 + ROUNDING)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_flood_dealt_out_in_turn_gets_the_limit_of_every_memory(algorithm: str) -> None:
    limit = Limit(20.0, PERIOD, algorithm)
    result = play(asked(np.arange(0.0, 2 * PERIOD, 1 / 256)), "memory://", limit, NODES)
    comes_near("no sharing", result.accuracy.net_over_admission, NODES - 1)


# -- evictions --------------------------------------------------------------------------------------------------------


def decided(trace: Trace, limit: Limit, places: int, policy: str) -> tuple[Accuracy, StorageStats]:
    storage = MemoryStorage(MemoryStorageConfig(max_entries=places, eviction_policy=policy))
    rows = zip(trace.key.tolist(), trace.time.tolist(), trace.cost.tolist(), strict=True)
    allowed = [storage.acquire_nowait(trace.keys[key], limit, cost, now).allowed for key, now, cost in rows]
    return measure_accuracy(limit, trace.key, trace.time, trace.cost, allowed), asyncio.run(storage.get_stats())


@pytest.mark.parametrize("policy", POLICIES)
@generated
@given(data=st.data())
def test_what_is_admitted_too_much_was_forgotten(policy: str, data: st.DataObject) -> None:
    """A bucket's forgotten cost is a fraction where requests are whole, so each harmful eviction may round up by one."""
    limit = data.draw(limits(data.draw(st.sampled_from(["fixed_window", "token_bucket", "gcra"]))))
    found, stats = decided(data.draw(traffic()), limit, data.draw(st.integers(1, 2)), policy)
    if limit.algorithm == "fixed_window":
        assert found.over_admission * found.exact_total <= stats.cost_forgotten * (1 + ROUNDING)
    else:
        most = stats.cost_forgotten + stats.harmful_evictions
        assert found.net_over_admission * found.exact_total <= most * (1 + ROUNDING)


@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket", "sliding_window"])
def test_who_has_himself_evicted_whenever_he_is_denied_gets_all_that_is_forgotten(algorithm: str) -> None:
    """All at one instant: the limit is used up, a key that costs next to nothing takes the only place, and so on."""
    turn = [0] * 100 + [1]
    trace = asked(np.ones(20 * len(turn)), turn * 20, ([1.0] * 100 + [0.01]) * 20)
    found, stats = decided(trace, Limit(100.0, PERIOD, algorithm), 1, "LRU")
    comes_near("eviction", found.over_admission * found.exact_total, stats.cost_forgotten)


# -- a store that comes back with less --------------------------------------------------------------------------------


@st.composite
def losses(draw: st.DrawFn) -> dict[str, object]:
    fault: dict[str, object] = {"start": draw(st.integers(1, 300)) / 16, "duration": draw(st.sampled_from([0.1, 0.5, 3.0]))}
    if draw(st.booleans()):
        return {**fault, "kind": "failover", "lag": draw(st.sampled_from([0.0, 0.05, 0.5, 5.0]))}
    return {**fault, "kind": "crash", "keeps_memory": draw(st.booleans())}


def lost(result: RunResult, key: int | None = None) -> float:
    """The cost, of one key or all, that the store may have admitted within the lag before it went down."""
    total, since = 0.0, result.trace.time - result.trace.time[0]
    mine = result.allowed if key is None else result.allowed & (result.trace.key == key)
    for fault in result.scenario.faults:
        behind = fault.lag if fault.kind == "failover" else 0.0 if fault.keeps_memory else inf
        # A request is decided between the moment it is sent and the moment of its answer.
        within = (since <= fault.start) & (since + result.latency > fault.start - behind)
        total += float(result.trace.cost[mine & within].sum()) if behind > 0 else 0.0
    return total


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_log", "token_bucket"])
@generated
@given(data=st.data())
def test_a_failover_gives_back_at_most_what_was_admitted_within_the_lag(algorithm: str, data: st.DataObject) -> None:
    faults = data.draw(st.lists(losses(), min_size=1, max_size=2))
    limit, nodes = data.draw(limits(algorithm)), data.draw(st.integers(1, 4))
    network = data.draw(networks)
    result = play(data.draw(traffic()), "redis://h", limit, nodes, *faults, network=network)
    late = overtaken(result)
    for rows, time, cost in by_key(result):
        for admitted, bound in against_its_bound(limit, time, cost, late):
            assert admitted <= (bound + lost(result, int(result.trace.key[rows[0]]))) * (1 + ROUNDING)
    if algorithm == "fixed_window":
        assert result.accuracy.over_admission * result.accuracy.exact_total <= lost(result) * (1 + ROUNDING)


@pytest.mark.parametrize("kind", ["failover", "crash"])
def test_what_is_admitted_right_before_a_failover_is_admitted_again(kind: str) -> None:
    """Most of the limit is used up early; the rest within the lag, and after the failover once more."""
    limit, lag, start = Limit(100.0, PERIOD, "fixed_window"), 0.5, 4.0
    early, rest = np.linspace(0.0, 2.0, 60), start - lag + 0.05 + np.linspace(0.0, lag - 0.1, 40)
    after = 5.0 + np.linspace(0.0, 1.0, 200)
    fault = {"kind": kind, "start": start, "duration": 0.5, **({"lag": lag} if kind == "failover" else {})}
    result = play(asked(np.concatenate([early, rest, after])), "redis://h", limit, NODES, fault)
    assert result.trace.time[0] == EPOCH
    comes_near(kind, result.accuracy.over_admission * result.accuracy.exact_total, lost(result))
