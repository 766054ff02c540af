"""What a run can tell of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ratesim.simulation.results.run_detail import SHARES, TOP_KEYS, bin_seconds, carried
from ratesim.simulation.results.run_result import RunResult, jain
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario


@pytest.fixture(scope="module")
def result() -> RunResult:
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 30.0},
            "limit": {"rate": "30/minute"},
            "deployment": {"nodes": 4},
        }
    )
    return run(scenario, Candidate(name="memory", storage="memory://"))


def test_every_request_is_a_row_and_the_rows_add_up(result: RunResult) -> None:
    rows = result.decisions()
    assert len(rows) == len(result.trace)
    assert (rows["decision"] == "admitted").sum() == result.row()["admitted"]
    assert (rows["decision"] == "denied").sum() == result.row()["denied"]
    assert rows["time"].is_monotonic_increasing
    assert sorted(rows["sequence"]) == list(range(1, len(rows) + 1))
    assert rows.groupby("key", observed=True)["cost"].sum().sum() == result.trace.cost.sum()


def test_the_series_has_every_request_in_its_bin(result: RunResult) -> None:
    series = result.series(10.0)
    assert series["begin"].tolist() == [0.0, 10.0, 20.0]
    assert series["offered"].sum() == len(result.trace)
    assert (series["admitted"] + series["denied"] + series["failed"] == series["offered"]).all()
    assert series["admitted"].iloc[0] > series["admitted"].iloc[2], "the limit binds once it is used up"
    assert (series["latency_p50"] <= series["latency_p99"]).all()


def test_nodes_and_keys_have_their_shares(result: RunResult) -> None:
    nodes, keys = result.by_node(), result.by_key()
    assert nodes["requests"].sum() == keys["requests"].sum() == len(result.trace)
    assert nodes["admitted"].sum() == keys["admitted"].sum() == result.accuracy.admitted_total
    assert jain(nodes["requests"].to_numpy(float)) > 0.99, "round robin is fair"
    assert jain(keys["requests"].to_numpy(float)) < 0.7, "zipf is not"


def test_what_was_admitted_too_much_is_the_same_by_time_and_by_key(result: RunResult) -> None:
    total = result.accuracy.over_admission * result.accuracy.exact_total
    series, keys = result.series(10.0), result.by_key()
    assert total > 0
    assert series["over_admitted"].sum() == pytest.approx(total)
    assert keys["over_admitted"].sum() == pytest.approx(total)
    assert keys["exact"].sum() == result.accuracy.exact_total
    assert series["exact_denied"].sum() == len(result.trace) - result.granted.sum()


def test_the_detail_has_the_figures_of_the_row(result: RunResult) -> None:
    detail, row = result.detail(), result.row()
    latency = dict(zip(SHARES, detail.latency, strict=False))
    assert [latency[share] for share in (0.5, 0.9, 0.99)] == [row[f"latency_p{share}"] for share in (50, 90, 99)]
    assert list(detail.latency) == sorted(detail.latency)
    assert detail.requests == row["requests"] - row["failed"]
    assert sum(detail.series["offered"]) == row["requests"]
    assert sum(detail.series["denied"]) == row["denied"]
    assert detail.keys[0].over_admitted == result.by_key()["over_admitted"].max()
    assert len(detail.keys) == min(detail.keys_over, TOP_KEYS)
    assert detail.keys_asked == len(np.unique(result.trace.key))


def test_a_detail_without_a_decision_has_no_latency(result: RunResult) -> None:
    nobody = np.zeros(len(result.trace), bool)
    lost = dataclasses.replace(
        result, allowed=nobody, failed=~nobody, granted=nobody, excess=None, errors={"down": len(nobody)}
    )
    assert lost.detail().latency == ()
    assert lost.detail().keys == ()


@pytest.mark.parametrize(
    ("requests", "last"), [(1, None), (2, 0.5), (99, 0.989227827), (100, 0.99), (9_999, 0.999892278), (10**6, 0.9999)]
)
def test_no_quantile_is_shown_beyond_which_no_request_lies(requests: int, last: float | None) -> None:
    assert [*carried(requests)][-1:] == ([] if last is None else [last])


@pytest.mark.parametrize(
    ("duration", "seconds"), [(0.5, 0.01), (3.0, 0.05), (60.0, 1.0), (61.0, 2.0), (3601.0, 120.0), (31_536_000.0, 604_800.0)]
)
def test_a_bin_has_a_round_length_and_there_are_at_most_sixty(duration: float, seconds: float) -> None:
    assert bin_seconds(duration) == pytest.approx(seconds)


def test_the_worst_window_can_be_looked_at(result: RunResult) -> None:
    worst = result.worst()
    limit = result.scenario.limit.limit()
    assert worst["cost"].sum() == pytest.approx((1 + result.accuracy.worst_excess) * limit.rate)
    assert worst["key"].nunique() == 1
    assert worst["time"].max() - worst["time"].min() < limit.period


def test_jain_is_1_for_equal_shares_and_1_over_n_when_one_has_all() -> None:
    assert jain(np.full(7, 3.0)) == pytest.approx(1.0)
    assert jain(np.array([5.0, 0.0, 0.0, 0.0])) == 0.25
    assert jain(np.zeros(3)) == 1.0


def test_a_request_that_vanished_is_noticed(result: RunResult) -> None:
    latency = result.latency.copy()
    latency[7] = np.nan
    with pytest.raises(AssertionError, match=r"1 of \d+ requests were never answered"):
        dataclasses.replace(result, latency=latency)
    failed = result.failed.copy()
    failed[np.flatnonzero(result.allowed)[0]] = True
    with pytest.raises(AssertionError):
        dataclasses.replace(result, failed=failed)
