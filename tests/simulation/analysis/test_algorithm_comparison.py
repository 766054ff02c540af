"""The algorithms side by side: the workloads are what they say, and the figures are what a slow, plain count gives."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.algorithms import names
from ratesim.limit import Limit
from ratesim.simulation.analysis.algorithm_comparison import WORKLOADS, compare, measure, summarize, workloads
from ratesim.simulation.analysis.two_window_error import crowd, two_window
from ratesim.simulation.results.oracle import exact_trace
from traffic import Trace

LIMIT = Limit(20, 60.0)


@pytest.fixture(scope="module")
def traces():
    return workloads(LIMIT, np.random.default_rng(5))


@pytest.fixture(scope="module")
def rows(traces):
    return compare(LIMIT, traces)


def cell(rows, workload, algorithm, column):
    return rows.set_index(["workload", "algorithm"]).loc[(workload, algorithm), column]


def heaviest(trace, admitted, length):
    """The most cost of one key in any [t, t + length), by trying every admitted request as the first."""
    found = 0.0
    for key in np.unique(trace.key):
        mine = admitted & (trace.key == key)
        time, cost = trace.time[mine], trace.cost[mine]
        found = max([found, *(cost[(time >= t) & (time - t < length)].sum() for t in time)])
    return found


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another():
    for name, make in WORKLOADS.items():
        first, again, other = (make(LIMIT, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == again, name
        assert first != other, name


@pytest.mark.parametrize("limit", [Limit(0.5, 60.0), Limit(3, 3600.0), Limit(1e6, 1.0)])
def test_a_workload_scales_with_the_limit_and_stays_small(limit):
    for name, trace in workloads(limit, np.random.default_rng(1)).items():
        assert 0 < len(trace) < 1_500_000, name
        assert trace.cost.max() <= limit.rate, name
        assert trace.duration <= 20 * limit.period, name


def test_the_overload_asks_for_three_times_the_limit(traces):
    trace = traces["steady overload"]
    assert trace.cost.sum() / (20 * LIMIT.rate) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("workload", ["burst at an edge", "burst, then more", "steady overload", "on and off"])
@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "sliding_log", "token_bucket"])
def test_the_worst_windows_are_those_that_a_plain_count_finds(traces, rows, workload, algorithm):
    trace = traces[workload]
    admitted = exact_trace(Limit(LIMIT.rate, LIMIT.period, algorithm), trace)
    for column, length in (("worst_period", LIMIT.period), ("worst_tenth", LIMIT.period / 10)):
        assert cell(rows, workload, algorithm, column) == pytest.approx(heaviest(trace, admitted, length) / LIMIT.rate)


def test_a_sliding_log_is_exact(rows):
    log = rows[rows["algorithm"] == "sliding_log"]
    assert (log["worst_period"] <= 1.0).all()
    assert (log["share"] == 1.0).all()
    assert (log[["over_admission", "false_denial"]] == 0.0).all(axis=None)


def test_a_fixed_window_admits_twice_the_limit_across_an_edge_and_a_two_window_counter_does_not(rows):
    assert cell(rows, "burst at an edge", "fixed_window", "worst_tenth") == 2.0
    assert cell(rows, "burst at an edge", "sliding_window", "worst_tenth") <= 1.05


def test_a_two_window_counter_comes_near_twice_the_limit_when_its_window_was_filled_at_the_end(rows):
    assert 1.8 <= cell(rows, "burst, then more", "sliding_window", "worst_period") <= 2.0


def test_no_algorithm_admits_more_than_twice_the_limit(rows):
    assert rows["worst_period"].max() <= 2.0 + 1e-9


def test_equal_digests_are_equal_decisions(traces, rows):
    for workload, trace in traces.items():
        decided = {name: exact_trace(Limit(LIMIT.rate, LIMIT.period, name), trace) for name in names()}
        for name, other in ((name, other) for name in decided for other in decided):
            same = cell(rows, workload, name, "decisions") == cell(rows, workload, other, "decisions")
            assert same == np.array_equal(decided[name], decided[other]), (workload, name, other)


def test_what_is_summarized_is_the_worst_and_says_who_decides_alike(traces, rows):
    found = summarize(rows, measure(LIMIT, traces["one hot key"].head(200), keys=30, rounds=1))
    assert set(found) == set(names())
    for name, standing in found.items():
        assert standing.worst_period == rows[rows["algorithm"] == name]["worst_period"].max()
    assert found["adaptive"].alike == ("sliding_window",)
    assert set(found["gcra"].alike) == {"leaky_bucket", "token_bucket"}
    assert found["sliding_log"].alike == ()


def test_only_the_log_grows_and_by_the_entries_of_its_limit():
    measured = measure(LIMIT, WORKLOADS["steady overload"](LIMIT, np.random.default_rng(1)).head(100), 50, 1)
    bytes_ = measured.set_index("algorithm")[["bytes_once", "bytes_full"]]
    grown = bytes_["bytes_full"] - bytes_["bytes_once"]
    assert grown["sliding_log"] >= 19 * 8 * 2  # a time and a cost for each further entry, at least a pointer each
    assert grown.drop("sliding_log").max() < 100
    assert measured.set_index("algorithm")["time_ratio"]["fixed_window"] == 1.0


# the two-window counter


def plain_counts(trace, period):
    """Of each request, in order: the true and the estimated number of its key's in the trailing period, itself included."""
    seen = defaultdict(list)
    counts = []
    for key, now in zip(trace.key.tolist(), trace.time.tolist(), strict=True):
        seen[key].append(now)
        start = np.floor(now / period) * period
        true = sum(1 for t in seen[key] if now < t + period)
        current = sum(1 for t in seen[key] if t >= start)
        before = sum(1 for t in seen[key] if start - period <= t < start)
        counts.append((true, current + before * (1 - (now - start) / period)))
    return np.array(counts)


# Quarters of a second are exact, so edges are met exactly too.
@given(st.lists(st.tuples(st.integers(0, 160), st.integers(0, 2)), min_size=1, max_size=60), st.integers(1, 8))
def test_the_counts_are_those_of_a_plain_loop(asked, threshold):
    asked.sort()
    trace = Trace([quarter / 4 for quarter, _ in asked], [key for _, key in asked], ("a", "b", "c"))
    true, estimate = plain_counts(trace, 8.0).T
    (found,) = two_window(trace, 8.0, [threshold])
    assert found.difference == pytest.approx(np.mean(abs(estimate - true) / true))
    assert found.wrongly_allowed == np.count_nonzero((true > threshold) & (estimate <= threshold))
    assert found.wrongly_limited == np.count_nonzero((estimate > threshold) & (true <= threshold))
    over = {key for key, count in zip(trace.key.tolist(), true, strict=True) if count > threshold}
    thought = {key for key, count in zip(trace.key.tolist(), estimate, strict=True) if count > threshold}
    assert (found.above, found.missed, found.mistaken) == (len(over), len(over - thought), len(thought - over))


def test_nobody_near_the_threshold_means_nothing_is_wrong():
    trace = crowd(60.0, 20_000, 500, np.random.default_rng(1))
    few, many = two_window(trace, 60.0, [100_000.0, 5.0])
    assert (few.wrong, few.near, few.differing, few.share) == (0.0, 0.0, 0.0, 1.0)
    assert many.wrong > 0.0
    assert many.near > 0.0
