"""A warm-up: decided as all the rest, and in no figure."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Limit, Scenario, run, sweep
from ratesim.simulation.results.accuracy import measure_accuracy
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError

FIXED = Limit(10, 10.0, "fixed_window")


def scenario(warmup: object = 0.0, **parts: dict) -> Scenario:
    data = {
        "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 20.0},
        "limit": {"rate": "10 per 4 seconds", "algorithm": "fixed_window"},
        "deployment": {"nodes": 4},
        "warmup": warmup,
    }
    return Scenario.of(data | parts)


def played(storage: str, warmup: object = 0.0, **parts: dict) -> RunResult:
    return run(scenario(warmup, **parts), Candidate(name="c", storage=storage))


STORAGES = ["memory://", "redis://h", "postgresql://h", "hybrid+redis://h?sync_interval=0.5"]


@pytest.mark.parametrize("storage", STORAGES)
def test_what_comes_after_it_is_decided_as_without_it(storage: str) -> None:
    whole, cut = played(storage), played(storage, "7s")
    after = whole.trace.time >= whole.trace.time[0] + 7
    assert 0 < after.sum() < len(after)
    for column in ("allowed", "failed", "latency", "sequence", "node"):
        assert np.array_equal(getattr(whole, column)[after], getattr(cut, column))
    assert np.array_equal(whole.trace.time[after], cut.trace.time)
    assert cut.decisions().equals(whole.decisions()[after].reset_index(drop=True))


@pytest.mark.parametrize("storage", STORAGES)
def test_no_figure_holds_anything_of_it(storage: str) -> None:
    whole, cut = played(storage), played(storage, "7s")
    row, all_of_it = cut.row(), whole.row()
    assert row["requests"] == len(cut.trace) == row["admitted"] + row["denied"] + row["failed"]
    assert row["latency_p99"] == np.quantile(cut.latency, 0.99)
    share = len(cut.trace) / len(whole.trace)
    for column in ("l2_operations", "bytes_to_store", "bytes_from_store", "store_busy_seconds"):
        assert getattr(cut, column) == pytest.approx(share * getattr(whole, column), rel=0.2)
    for column in ("utilization", "node_utilization", "l2_busy_per_request"):
        assert row[column] == pytest.approx(all_of_it[column], rel=0.2)
    queues, rest = whole.queues(), cut.queues()
    assert rest["customers"].sum() == pytest.approx(share * queues["customers"].sum(), rel=0.4)
    assert rest["seconds"].tolist() == pytest.approx((queues["seconds"] - 7).tolist(), abs=1e-6)
    assert (rest["inside"] - rest["rate"] * rest["stay"]).abs().max() < 1e-9


def test_the_most_at_once_is_that_after_it() -> None:
    slow = {"kind": "slow", "start": 1, "duration": 2, "factor": 400}
    assert played("redis://h", faults=[slow]).row()["store_inside_max"] > 20
    assert played("redis://h", "15s", faults=[slow]).row()["store_inside_max"] < 10


def test_phases_and_errors_are_those_after_it_at_their_own_times() -> None:
    crashes = [{"kind": "crash", "start": start, "duration": 1, "keeps_memory": True} for start in (2, 12)]
    whole, cut = played("redis://h", faults=crashes), played("redis://h", "7s", faults=crashes)
    assert 0 < sum(cut.errors.values()) < sum(whole.errors.values())
    phases = cut.phases().set_index("phase")
    assert phases["requests"]["crash at 2 s"] == 0
    assert phases["failed"]["crash at 12 s"] == whole.phases().set_index("phase")["failed"]["crash at 12 s"]
    assert cut.series(1.0)["begin"].min() == 7.0


def test_it_may_be_varied_in_a_sweep_and_survives_a_file() -> None:
    found = sweep(scenario(), [Candidate(name="c", storage="redis://h")], [1], grid={"warmup": ["0s", "10s"]}, processes=1)
    assert found["warmup"].tolist() == [0.0, 10.0]
    assert found["requests"][1] < 0.6 * found["requests"][0]
    assert Scenario.parse(scenario("3s").to_toml()) == scenario("3s")


def test_clients_that_react_have_one_too() -> None:
    loop = {"workload": {"clients": {"users": 20, "think": 0.1}, "duration": 10.0}}
    cut = played("redis://h", "5s", **loop)
    assert 0 < len(cut.trace) < 0.6 * len(played("redis://h", **loop).trace)
    assert (cut.trace.time - cut.start_time).min() >= 5.0


def test_one_that_outlasts_the_requests_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"warmup: it is not over before the last request, .* s after the first"):
        played("memory://", "1h")
    for wrong in (-1, "nan", float("nan")):
        with pytest.raises(ScenarioError, match="warmup"):
            scenario(wrong)


# The score ------------------------------------------------------------------------------------------------------


def scored(stamps: list[float], admitted: list[bool], since: float) -> object:
    return measure_accuracy(FIXED, np.zeros(len(stamps), np.int64), stamps, np.ones(len(stamps)), admitted, since=since)


def test_what_was_admitted_too_much_before_the_cut_is_not_counted_after_it() -> None:
    stamps = [*np.linspace(0, 4, 15), *np.linspace(12, 14, 5)]  # 15 in a window of 10, then 5 in the next
    found = scored(stamps, [True] * 20, 5.0)
    assert (found.over_admission, found.false_denial, found.net_over_admission) == (0.0, 0.0, 0.0)
    assert found.exact_total == 5.0
    assert found.worst_excess == pytest.approx(-0.5)
    assert scored(stamps, [True] * 20, -np.inf).over_admission == pytest.approx(5 / 15)


def test_a_window_that_straddles_the_cut_counts_by_what_it_grew() -> None:
    before, after = list(np.linspace(0, 4, 8)), list(np.linspace(6, 9, 7))  # an exact limiter admits 8 and then 2
    assert scored(before + after, [True] * 15, 5.0).over_admission == pytest.approx(5 / 2)
    assert scored(before + after, [True] * 10 + [False] * 5, 5.0).over_admission == 0.0


def test_a_denial_that_makes_up_for_the_warm_up_is_no_false_one() -> None:
    before, after = list(np.linspace(0, 4, 9)), list(np.linspace(6, 9, 2))
    # The run denied the first, so that it admits the tenth of the window later than the oracle would: nobody is wronged.
    late = scored(before + after, [False] + [True] * 10, 5.0)
    assert (late.over_admission, late.false_denial) == (0.0, 0.0)
    # It was one short before the cut, and is two short at the end.
    short = scored(before + after, [False] + [True] * 8 + [False, False], 5.0)
    assert short.false_denial == pytest.approx(1.0)
