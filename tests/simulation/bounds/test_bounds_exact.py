"""Bounds of one exact limiter, wherever its nodes and however slow its network: docs/bounds.md, 1 to 5."""

from __future__ import annotations

import numpy as np
import pytest
from admitted import (
    ALGORITHMS,
    BUCKETS,
    PERIOD,
    ROUNDING,
    against_its_bound,
    asked,
    by_key,
    comes_near,
    generated,
    heaviest,
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
from ratesim.simulation.results.oracle import exact
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import EPOCH
from traffic import Trace

EXACT = st.sampled_from(["redis://h", "postgresql://h", "hybrid+redis://h?consistency=strong"])
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@st.composite
def exact_runs(draw: st.DrawFn, algorithm: str) -> RunResult:
    """Any traffic, limit, number of nodes, way to them and network; also a store that is slow for a while."""
    trace, limit = draw(traffic(costs=True)), draw(limits(algorithm))
    if draw(st.booleans()):
        return play(trace, "memory://", limit, 1)
    slow = {"kind": "slow", "start": 2.0, "duration": 3.0, "factor": draw(st.sampled_from([3.0, 30.0]))}
    faults = [slow] if draw(st.booleans()) else []
    how = {"routing": draw(routings), "network": draw(networks), "seed": draw(st.integers(0, 99))}
    return play(trace, draw(EXACT), limit, draw(st.integers(1, 8)), *faults, **how)


@each_algorithm
@generated
@given(data=st.data())
def test_one_exact_store_decides_as_the_oracle_and_keeps_its_algorithm_s_bound(algorithm: str, data: st.DataObject) -> None:
    result = data.draw(exact_runs(algorithm))
    limit, trace = result.scenario.limit.limit(), result.trace
    assert not result.failed.any()
    order = np.argsort(result.sequence)
    granted = exact(limit, trace.key[order], trace.time[order], trace.cost[order], len(trace.keys))
    assert np.array_equal(result.allowed[order], granted)
    assert (result.accuracy.over_admission, result.accuracy.false_denial) == (0.0, 0.0)
    late = overtaken(result)
    for _, time, cost in by_key(result):
        for admitted, bound in against_its_bound(limit, time, cost, late):
            assert admitted <= bound * (1 + ROUNDING)


# -- the workloads made for them -------------------------------------------------------------------------------------


def herd(limit: Limit, edge: float = PERIOD) -> Trace:
    """Twice the limit around an edge of a window: half of it right before, half right after."""
    size = int(limit.rate)
    apart = 0.1 / size  # seconds
    return asked(np.concatenate([edge - apart * np.arange(size, 0, -1), edge + apart * np.arange(size)]))


@pytest.mark.parametrize("storage", ["memory://", "redis://h"])
def test_a_herd_at_the_edge_gets_a_fixed_window_twice(storage: str) -> None:
    limit = Limit(100.0, PERIOD, "fixed_window")
    result = play(herd(limit), storage, limit, 1 if storage == "memory://" else 8)
    _, time, cost = next(by_key(result))
    comes_near("fixed window", heaviest(time, cost, PERIOD - overtaken(result)), 2 * limit.rate)


@pytest.mark.parametrize("k", [1, 4])
def test_who_comes_late_in_a_sub_window_and_again_a_period_later_gets_a_sliding_window_almost_twice(k: int) -> None:
    limit = Limit(100.0, PERIOD, "sliding_window", options={"buckets": float(k)})
    width = PERIOD / k
    first = PERIOD + 0.95 * width + np.linspace(0.0, 0.04 * width, 100)
    again = first[0] + PERIOD - 0.01 * width * np.ones(100)
    result = play(asked(np.concatenate([first, again])), "redis://h", limit, 4)
    _, time, cost = next(by_key(result))
    comes_near(f"sliding window, {k}", heaviest(time, cost, PERIOD - overtaken(result)), 2 * limit.rate)


def test_a_herd_at_once_gets_all_that_a_sliding_window_permits_in_a_sub_window_less_than_the_period() -> None:
    limit = Limit(100.0, PERIOD, "sliding_window", options={"buckets": 4.0})
    result = play(herd(limit), "redis://h", limit, 4)
    _, time, cost = next(by_key(result))
    comes_near("sliding window, short", heaviest(time, cost, PERIOD * 3 / 4 - overtaken(result)), limit.rate)


@pytest.mark.parametrize("algorithm", BUCKETS)
def test_who_asks_for_the_burst_and_then_as_fast_as_it_refills_gets_both(algorithm: str) -> None:
    limit = Limit(80.0, PERIOD, algorithm, 40.0)
    flood = np.concatenate([np.zeros(40), np.arange(0.0, 2 * PERIOD, 1 / 20)])
    result = play(asked(flood), "redis://h", limit, 4)
    _, time, cost = next(by_key(result))
    late = overtaken(result)
    admitted = heaviest(time, cost, PERIOD)
    comes_near("bucket", admitted, 40.0 + 80.0 * (PERIOD + late) / PERIOD)


def test_requests_that_overtake_each_other_on_their_way_widen_a_window_by_their_flight() -> None:
    """Some are sent within the period and decided after one that was sent later, when the first are forgotten."""
    limit = Limit(100.0, PERIOD, "sliding_log")
    trace = asked(np.concatenate([1.0 + np.arange(100) * 1e-5, 1.0 + PERIOD + np.linspace(-0.02, 0.02, 100)]))
    result = play(trace, "redis://h", limit, 8, network="mobile_edge")
    _, time, cost = next(by_key(result))
    assert heaviest(time, cost, PERIOD) > limit.rate >= heaviest(time, cost, PERIOD - overtaken(result))
    assert result.accuracy.over_admission == 0.0


# -- clocks ----------------------------------------------------------------------------------------------------------


@st.composite
def skews(draw: st.DrawFn, nodes: int) -> dict[str, object]:
    some = draw(st.lists(st.integers(0, nodes - 1), min_size=1, unique=True))
    return {
        "kind": "clock_skew",
        "start": draw(st.sampled_from([0.0, 3.0])),
        "duration": draw(st.sampled_from([4.0, 60.0])),
        "nodes": some,
        # Together below the bound, which is the period here.
        "offset": draw(st.sampled_from([-4.0, -0.5, 0.5, 2.0, 4.0])),
        "drift": draw(st.sampled_from([0.0, 0.0, 0.03, -0.03])),
    }


def shifts(result: RunResult) -> tuple[float, float]:
    """The seconds that a clock was behind and ahead at most."""
    behind = ahead = 0.0
    for fault in result.scenario.faults:
        # A fault's clock is furthest off when it begins or when it, or the run, ends.
        held = min(fault.duration, max(result.trace.duration - fault.start, 0.0))
        for off in (fault.offset, fault.offset + fault.drift * held):
            behind, ahead = max(behind, -off), max(ahead, off)
    return behind, ahead


def near_edges(result: RunResult, behind: float, ahead: float) -> float:
    """The cost that was admitted within `behind` seconds after an edge of a window, or `ahead` before one."""
    into = result.trace.time % PERIOD  # exact: PERIOD is a power of two
    near = (into < behind) | (into >= PERIOD - ahead)
    return float(result.trace.cost[near & result.allowed].sum())


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_log", "token_bucket"])
@generated
@given(data=st.data())
def test_clocks_that_differ_by_e_shift_a_window_by_e_and_give_a_bucket_e_seconds_more(
    algorithm: str, data: st.DataObject
) -> None:
    nodes = data.draw(st.integers(1, 4))
    limit = data.draw(limits(algorithm))
    trace, skew = data.draw(traffic()), data.draw(skews(nodes))
    storage = data.draw(st.sampled_from(["redis://h", "memory://"])) if nodes == 1 else "redis://h"
    result = play(trace, f"{storage}?max_clock_skew=60", limit, nodes, skew, network=data.draw(networks))
    late = overtaken(result)
    behind, ahead = shifts(result)
    for _, time, cost in by_key(result):
        for admitted, bound in against_its_bound(limit, time, cost, behind + ahead + late):
            assert admitted <= bound * (1 + ROUNDING)
    if algorithm == "fixed_window":
        extra = result.accuracy.over_admission * result.accuracy.exact_total
        assert extra <= near_edges(result, behind, ahead + late) * (1 + ROUNDING)


def test_a_node_whose_clock_is_ahead_opens_the_next_window_early() -> None:
    """The limit is used up when the node that is ahead is asked, within e of the edge: it is all admitted again."""
    limit, e = Limit(100.0, PERIOD, "fixed_window"), 2.0
    time = np.concatenate([np.linspace(1.0, 3.0, 100), PERIOD - e + np.linspace(0.1, 1.5, 200)])
    skew = {"kind": "clock_skew", "start": 0, "duration": 60, "nodes": [0], "offset": e}
    # Before 3 s node 0 is not behind an edge, as it is 2 s ahead of windows of 8.
    result = play(asked(time), "redis://h", limit, 2, skew)
    extra = result.accuracy.over_admission * result.accuracy.exact_total
    comes_near("clock skew", extra, near_edges(result, 0.0, e + overtaken(result)))
    assert result.trace.time[0] == EPOCH + 1.0
