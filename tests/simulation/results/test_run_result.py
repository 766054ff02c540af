"""What a run can tell of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ratesim.simulation.engine.run import run
from ratesim.simulation.results.run_result import RunResult, jain
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
