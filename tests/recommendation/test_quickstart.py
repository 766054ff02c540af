"""The quickstart teaches: its candidates differ, its limit denies, its store has work, and its faults meet requests."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

from ratesim import Scenario, run
from ratesim.recommendation.investigate.fault_impact import plan_fault_trials
from ratesim.recommendation.investigate.plan import FAULTY
from ratesim.simulation.analysis.limit_pressure import limit_pressure

HEAD = 10_000
# From the slowest to the fastest of the 99th percentiles, each with the over-admission that belongs to it.
GROUPS = ("hybrid session 100 ms", "hybrid eventual 10 ms", "redis", "memory")


@cache
def quickstart() -> Scenario:
    whole = Scenario.load("quickstart")
    return whole.model_copy(update={"workload": whole.workload.model_copy(update={"head": HEAD})})


@cache
def rows(candidate: str) -> list[dict[str, Any]]:
    return [run(quickstart(), candidate, seed).row() for seed in (1, 2)]


def around(candidate: str, figure: str) -> tuple[float, float]:
    """Return the smallest and the largest of a figure over the seeds."""
    values = [row[figure] for row in rows(candidate)]
    return min(values), max(values)


def test_its_limit_denies_some_and_not_most() -> None:
    scenario = Scenario.load("quickstart")
    assert 0.05 <= limit_pressure(scenario.limit.limit(), scenario.trace()).exact_denied_share <= 0.30


def test_four_kinds_of_storage_differ_in_latency_and_in_over_admission() -> None:
    for figure, spans in ((each, [around(name, each) for name in GROUPS]) for each in ("latency_p99", "over_admission")):
        ordered = sorted(spans)
        assert all(low[1] < high[0] for low, high in pairwise(ordered)), (figure, spans)


def test_its_store_has_work_to_do_and_local_decisions_are_visibly_faster() -> None:
    assert around("redis", "utilization_max")[0] > 0.10
    assert around("hybrid eventual 100 ms, long views", "latency_p50")[1] < around("redis", "latency_p50")[0] / 5


def test_a_fault_of_it_meets_a_thousand_requests() -> None:
    scenario = Scenario.load("quickstart")
    trial = plan_fault_trials(scenario, scenario.trace(), FAULTY, lambda part: part.trace())
    fault = trial.faults[0]
    trace = trial.scenario.trace()
    since = trace.time - trace.time[0]
    assert int(((since >= fault.start) & (since < fault.start + fault.duration)).sum()) >= 1_000
