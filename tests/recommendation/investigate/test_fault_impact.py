"""What faults do to candidates, and how far the harm of one failure reaches."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Scenario
from ratesim.recommendation.investigate.fault_impact import (
    FaultImpact,
    FaultTrial,
    _other_policies,
    blast_radius,
    failing,
    fault_impact,
    plan_fault_trials,
)
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.experiments.job import jobs_of
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.candidates import cluster_candidate
from ratesim.simulation.scenario.faults import Fault
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


def test_the_node_that_crashes_is_the_one_that_has_the_most_to_lose() -> None:
    asked = scenario(workload={"requests_per_second": 20, "keys": 1, "duration": 120}, limit={"rate": "100/minute"})
    where = plan_fault_trials(asked, asked.trace(), 3000, lambda cut: cut.trace())
    sticky = Candidate(name="sticky", storage="memory://", routing="sticky")
    (crash,) = (each for each in where.faults if each.kind == "restart")
    assert where.of(crash, sticky).nodes == (where.busiest["sticky"],)
    assert where.of(crash, CANDIDATES[0]).nodes == (0,)
    only = FaultTrial(where.scenario, (crash,), where.hottest, where.busiest)
    (found,) = run_adaptive(fault_impact([sticky], only, Profile.load()), processes=1).result
    assert found.over_admission > found.healthy == 0.0
    assert found.affected_share > 0.1


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


def test_of_a_cluster_the_primary_of_the_hottest_key_fails_for_as_long_as_a_takeover_lasts() -> None:
    asked = scenario(workload={"requests_per_second": 20, "keys": 40, "zipf": 1.0, "duration": 200})
    where = plan_fault_trials(asked, asked.trace(), 3000, lambda cut: cut.trace())
    cluster, alone = cluster_candidate(3), CANDIDATES[1]
    found = run_adaptive(fault_impact([cluster, alone], where, Profile.load()), processes=1).result
    by_name = {(each.candidate, each.fault): each for each in found}
    takeover = asked.servers(cluster).takeover
    one = by_name[cluster.name, f"failover of one primary, {takeover:g} s"]
    trace = where.scenario.trace()
    requests = np.bincount(trace.key, minlength=len(trace.keys))
    assert where.hottest == trace.keys[int(requests.argmax())]
    mine = [shard_of(key, 3) == shard_of(where.hottest, 3) for key in trace.keys]
    assert one.failed_share == pytest.approx(requests[mine].sum() / requests.sum(), abs=0.06)
    assert one.failed_share < 0.8
    assert by_name[alone.name, "failover of the store, 30 s"].failed_share > 0.9
    assert by_name[cluster.name, "partition, 30 s"].failed_share > 0.9
    bare = cluster.model_copy(update={"replicas": 0})
    lost = where.of(where.faults[0], bare)
    assert (lost.kind, lost.shard, lost.duration) == ("crash", shard_of(where.hottest, 3), 30.0)
    assert where.named(lost) == "crash of one primary, 30 s"
    assert where.of(where.faults[0], alone.model_copy(update={"replicas": 0})).shard is None
    own = scenario(faults=[{"kind": "failover", "start": 50, "duration": 10}], deployment={"shards": 3, "nodes": 4})
    kept = plan_fault_trials(own, own.trace(), 1000, lambda cut: cut.trace())
    assert kept.of(kept.faults[0], cluster) == kept.faults[0]


@pytest.mark.parametrize("kind", ["failover", "crash", "partition", "lossy", "slow", "reshard"])
def test_a_fault_of_one_primary_is_said_to_be_one(kind: str) -> None:
    trial = FaultTrial(scenario(), ())
    whole, one = (Fault(kind=kind, start=1, duration=2, shard=shard) for shard in (None, 0))
    assert trial.named(whole) != trial.named(one)
    assert "one primary" in trial.named(one)


def test_a_fault_of_a_primary_that_a_candidate_does_not_have_is_said_to_be_elsewhere() -> None:
    trial = FaultTrial(scenario(), ())
    memory, redis, _ = CANDIDATES
    cluster = cluster_candidate(3)
    second, third, fourth = (Fault(kind="crash", start=1, duration=2, shard=shard) for shard in (1, 2, 3))
    moved = Fault(kind="reshard", start=1, duration=2)
    assert [trial.misses(second, each) for each in (memory, redis, cluster)] == [False, True, False]
    assert [trial.misses(each, cluster) for each in (third, fourth, moved)] == [False, True, False]
    assert trial.misses(moved, redis)
    assert not trial.misses(second.model_copy(update={"shard": None}), redis)
    assert not trial.misses(Fault(kind="restart", start=1, duration=2), redis)


def test_the_figures_of_a_fault_elsewhere_say_so() -> None:
    own = scenario(faults=[{"kind": "crash", "start": 50, "duration": 9.8765, "shard": 1}])
    where = plan_fault_trials(own, own.trace(), 500, lambda cut: cut.trace())
    found = run_adaptive(fault_impact([CANDIDATES[1], cluster_candidate(3)], where, Profile.load()), processes=1).result
    assert [each.fault for each in found] == ["crash of one primary, 9.88 s, elsewhere", "crash of one primary, 9.88 s"]
    assert found[0].affected_share == 0.0 < found[1].affected_share
    assert set(blast_radius(found)) == {found[1].candidate}  # of the other one nothing is known


@pytest.mark.parametrize(
    ("storage", "replicas", "behind"),
    [
        ("redis://h", None, 2.0),
        ("redis+cluster://h", None, 2.0),
        ("postgresql://h", None, 2.0),
        ("postgresql://h?synchronous_commit=off", 1, 2.6),
        ("postgresql://h?synchronous_commit=remote_apply", 1, 0.0),
    ],
)
def test_a_replica_is_as_far_behind_as_the_deployment_says(storage: str, replicas: int | None, behind: float) -> None:
    trial = FaultTrial(scenario(deployment={"type": "high_availability", "replica_lag": 2.0}), (), "hottest")
    failover = trial.of(Fault(kind="failover", start=1, duration=2), Candidate(name="c", storage=storage, replicas=replicas))
    assert failover.lag == behind


@pytest.mark.slow
def test_what_an_open_and_a_closed_api_do_is_the_same_whichever_policy_was_run() -> None:
    strong, eventual = "consistency=strong&write=write_through", "sync_interval=0.1&l1_ttl=0.1"
    policies = ("fail_open", "fail_closed")
    hybrids = [
        Candidate(name=f"{name} {policy}", storage=f"hybrid+redis://h?{options}&on_store_failure={policy}")
        for name, options in (("strong", strong), ("eventual", eventual))
        for policy in policies
    ]
    own = scenario(
        workload={"requests_per_second": 40, "keys": 10, "duration": 30},
        limit={"rate": "3/second"},
        faults=[{"kind": "partition", "start": 10, "duration": 10}],
    )
    where = plan_fault_trials(own, own.trace(), 5000, lambda cut: cut.trace())
    profile = Profile.load()
    found = run_adaptive(fault_impact([CANDIDATES[1], *hybrids], where, profile), processes=1).result
    by_name = {each.candidate: each for each in found}
    for name in ("strong", "eventual"):
        opened, closed = (by_name[f"{name} {policy}"] for policy in policies)
        assert opened.undecided_share == closed.undecided_share > 0.99
        assert opened.open_over_admission == closed.open_over_admission > 0.05
        assert opened.closed_false_denial == closed.closed_false_denial > 0.99
    redis = by_name["redis"]  # as a strong hybrid, of which no request is decided either
    assert redis.failed_share == redis.undecided_share == 1.0
    assert (redis.p99, redis.open_over_admission) == (None, by_name["strong fail_open"].open_over_admission)
    # The figures of a run with that policy, over the time of the fault and beyond it.
    (fault,) = where.faults
    (ran,) = [
        run(where.scenario.model_copy(update={"faults": (fault,)}), each, profile=profile)
        for each in hybrids
        if each.name == "strong fail_closed"
    ]
    meanwhile = (ran.trace.time >= ran.start_time + 10) & (ran.trace.time < ran.start_time + 20)
    assert not ran.allowed[meanwhile].any()
    assert by_name["strong fail_closed"].closed_false_denial == 1.0


def test_a_store_that_answers_late_is_run_under_both_policies() -> None:
    slow = scenario(faults=[{"kind": "slow", "start": 50, "duration": 10, "factor": 100}])
    away = scenario(faults=[{"kind": "partition", "start": 50, "duration": 10}])

    def policies(asked: Scenario, storage: str) -> list[str]:
        candidate = Candidate(name="c", storage=storage)
        (job,) = jobs_of(asked, [candidate], [1], None, Profile.load())
        return list(_other_policies(job))

    for hybrid in ("hybrid+redis://h", "hybrid+redis://h?on_store_failure=fail_closed"):
        assert policies(away, hybrid) == ["fail_open"] * ("closed" in hybrid)
        assert policies(slow, hybrid) == (["fail_open"] if "closed" in hybrid else ["fail_closed"])
    assert policies(slow, "hybrid+redis://h?consistency=strong&write=write_through") == []
    assert policies(slow, "redis://h") == []


@pytest.mark.parametrize("zipf", [0.0, 1.5])
def test_a_thousand_requests_come_during_a_fault_where_the_traffic_has_them(zipf: float) -> None:
    asked = scenario(workload={"requests_per_second": 100, "keys": 300, "zipf": zipf, "duration": 300})
    where = plan_fault_trials(asked, asked.trace(), 2000, lambda cut: cut.trace())
    trace, fault = where.scenario.trace(), where.faults[0]
    since = trace.time - trace.time[0]
    assert ((since >= fault.start) & (since < fault.start + fault.duration)).sum() >= 1000
    assert len(trace) < 9000


def test_the_faults_of_a_scenario_are_said_with_their_starts() -> None:
    two = [{"kind": "crash", "start": 2.5, "duration": 5}, {"kind": "lossy", "start": 60, "duration": 1, "loss": 0.2}]
    said = "crash of the store, 5 s, from 2.5 s on; 20 % of messages lost, 1 s, from 60 s on"
    assert failing(scenario(faults=two)) == said
    assert failing(scenario()) == ""
