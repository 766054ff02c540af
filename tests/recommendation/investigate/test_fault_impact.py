"""What faults do to candidates, and how far the harm of one failure reaches."""

from __future__ import annotations

import pytest

from ratesim import Scenario
from ratesim.recommendation.investigate.fault_impact import FaultImpact, fault_impact, plan_fault_trials
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.scenario.scenario import Candidate

CANDIDATES = [
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://h"),
    Candidate(name="eventual", storage="hybrid+redis://h?sync_interval=0.1&l1_ttl=0.1"),
]


def scenario(**more: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 20, "keys": 10, "duration": 200},
            "limit": {"rate": "10/second"},
            "deployment": {"nodes": 4},
            **more,
        }
    )


@pytest.fixture(scope="module")
def harms() -> dict[tuple[str, str], FaultImpact]:
    asked = scenario()
    where = plan_fault_trials(asked, asked.trace(), 3000, lambda cut: cut.trace())
    found = run_adaptive(fault_impact(CANDIDATES, where, Profile.load()), processes=1).result
    return {(each.candidate, each.fault): each for each in found}


@pytest.mark.slow
def test_a_failover_a_node_and_a_partition_are_tried_unless_the_scenario_has_its_own(harms) -> None:
    faults = {fault for _, fault in harms}
    assert faults == {"failover of the store, 30 s", "crash of a node, 30 s", "partition, 30 s"}
    own = scenario(faults=[{"kind": "slow", "start": 50, "duration": 10, "factor": 100}])
    where = plan_fault_trials(own, own.trace(), 1000, lambda cut: cut.trace())
    assert [where.named(each) for each in where.faults] == ["store 100 times as slow, 10 s"]
    assert where.faults[0].start == 50
    assert where.scenario.faults == ()


def test_who_decides_in_memory_does_not_feel_a_store_that_is_away(harms) -> None:
    for fault in ("failover of the store, 30 s", "partition, 30 s"):
        assert harms["memory", fault].affected_share == 0.0
        assert harms["redis", fault].failed_share > 0.9
        assert harms["redis", fault].affected_share > 0.9
        assert harms["eventual", fault].failed_share == 0.0


def test_a_node_that_crashes_harms_nobody_whose_count_is_elsewhere(harms) -> None:
    assert harms["redis", "crash of a node, 30 s"].affected_share == 0.0
    assert harms["redis", "crash of a node, 30 s"].requests > 400


def test_the_faults_come_when_most_requests_do() -> None:
    rush = scenario(
        workload={
            "requests_per_second": 5,
            "keys": 10,
            "duration": 600,
            "arrivals": "flash_crowd",
            "surge": 20,
            "surge_at": 300,
            "ramp": 1,
            "hold": 20,
            "fade": 1,
        }
    )
    where = plan_fault_trials(rush, rush.trace(), 100_000, lambda cut: cut.trace())
    assert all(280 < each.start < 310 for each in where.faults)
    assert all(each.duration == 30.0 for each in where.faults)


def test_faults_come_after_the_warm_up() -> None:
    late = scenario(warmup=120)
    where = plan_fault_trials(late, late.trace(), 100_000, lambda cut: cut.trace())
    assert all(each.start >= where.scenario.warmup > 0 for each in where.faults)


def test_traffic_that_is_shorter_than_a_fault_has_shorter_ones() -> None:
    short = scenario(workload={"requests_per_second": 100, "keys": 5, "duration": 4})
    where = plan_fault_trials(short, short.trace(), 1000, lambda cut: cut.trace())
    assert all(each.duration == pytest.approx(1.0, abs=0.05) for each in where.faults)
