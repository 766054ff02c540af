"""What goes wrong in a run, and what clients and limits see of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ratesim import Scenario, run
from ratesim.simulation.cost_model.profile import EVEN, Coldness, Profile
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, Fault, ScenarioError

NODES = 4


def scenario(
    *faults: dict,
    algorithm: str = "fixed_window",
    rate: str = "50 per 20 seconds",
    deployment: dict | None = None,
    **workload: object,
) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 20.0, **workload},
            "limit": {"rate": rate, "algorithm": algorithm},
            "deployment": {"nodes": NODES, **(deployment or {})},
            "faults": list(faults),
        }
    )


def played(
    *faults: dict,
    storage: str = "redis://h",
    routing: str | None = None,
    profile: Profile | None = None,
    **changes: object,
) -> RunResult:
    candidate = Candidate(name="c", storage=storage, routing=routing)  # type: ignore[arg-type]
    return run(scenario(*faults, **changes), candidate, profile=profile)  # type: ignore[arg-type]


def during(result: RunResult, start: float, end: float) -> np.ndarray:
    since = result.trace.time - result.trace.time[0]
    return (since >= start) & (since < end)


CRASH = {"kind": "crash", "start": 5, "duration": 3}


def test_a_server_that_is_down_answers_nobody_and_then_everybody_again() -> None:
    result = played(CRASH)
    failed = result.failed
    assert failed[during(result, 5.1, 7.0)].all()
    assert not failed[during(result, 0, 4.9)].any()
    assert not failed[during(result, 10.0, 20.0)].any()
    assert set(result.errors) <= {"StorageConnectionError", "StorageTimeoutError"}
    assert result.errors["StorageConnectionError"] > 0


def test_a_crash_forgets_and_one_that_keeps_its_memory_does_not() -> None:
    assert played({**CRASH, "keeps_memory": True}).accuracy.over_admission == 0.0
    assert played(CRASH).accuracy.over_admission > 0.05


def test_before_the_first_fault_nothing_is_different() -> None:
    healthy, faulty = played(), played(CRASH)
    before = during(healthy, 0, 4.9)
    assert np.array_equal(healthy.allowed[before], faulty.allowed[before])
    assert healthy.latency[before] == pytest.approx(faulty.latency[before])


def test_a_failover_loses_what_the_replica_had_not_taken_in() -> None:
    over = [
        played(
            {"kind": "failover", "start": 5, "duration": 0.5, "lag": lag}, rate="200 per 20 seconds"
        ).accuracy.over_admission
        for lag in (0.0, 0.5, 4.0)
    ]
    assert over[0] == 0.0
    assert over[0] < over[1] < over[2]


def test_a_second_failover_goes_on_from_the_first() -> None:
    twice = [{"kind": "failover", "start": start, "duration": 0.2, "lag": 0.0} for start in (4, 9)]
    assert played(*twice).accuracy.over_admission == 0.0


REPLICATED = {"type": "high_availability", "election": "500ms", "replica_lag": "1s"}


def test_where_a_replica_takes_over_a_crash_is_a_failover_as_long_as_the_election() -> None:
    crash = {"kind": "crash", "start": 5, "duration": 12}
    failover = {"kind": "failover", "start": 5, "duration": 0.5, "lag": 1}
    over, said = played(crash, deployment=REPLICATED, storage="redis://h"), played(failover)
    for column in ("allowed", "failed", "latency"):
        assert np.array_equal(getattr(over, column), getattr(said, column))
    assert over.accuracy == said.accuracy
    assert over.accuracy.over_admission > 0.0, "the last second is lost"
    alone = played(crash)
    assert alone.failed.sum() > 10 * over.failed.sum()
    phases = over.phases().set_index("phase")
    assert phases["requests"]["crash at 5 s"] == during(over, 5, 5.5).sum()


def test_a_crash_that_is_over_before_the_election_stays_a_crash() -> None:
    for keeps in (False, True):
        brief = {"kind": "crash", "start": 5, "duration": 0.4, "keeps_memory": keeps}
        replicated, alone = played(brief, deployment=REPLICATED), played(brief)
        assert np.array_equal(replicated.allowed, alone.allowed)
        assert np.array_equal(replicated.latency, alone.latency)


def test_a_failover_by_hand_keeps_its_own_numbers_before_a_crash_and_after() -> None:
    by_hand = [{"kind": "failover", "start": start, "duration": 0.2, "lag": 0.0} for start in (3, 12)]
    crash = {"kind": "crash", "start": 7, "duration": 60}
    at_once = {**REPLICATED, "replica_lag": 0.0}
    assert played(*by_hand, crash, deployment=at_once).accuracy.over_admission == 0.0
    assert played(*by_hand, crash, deployment=REPLICATED).accuracy.over_admission > 0.0
    assert played(*by_hand, deployment=REPLICATED).accuracy.over_admission == 0.0


def test_a_second_crash_is_taken_over_as_well() -> None:
    crashes = [{"kind": "crash", "start": start, "duration": 60} for start in (4, 9)]
    at_once = {**REPLICATED, "replica_lag": 0.0}
    result = played(*crashes, deployment=at_once)
    assert result.accuracy.over_admission == 0.0
    assert not result.failed[during(result, 14, 20)].any()


def test_of_a_cluster_only_the_shard_that_crashed_is_taken_over() -> None:
    crash = {"kind": "crash", "start": 5, "duration": 60, "shard": 1}
    result = played(crash, deployment={**REPLICATED, "shards": 3})
    assert 0 < result.failed.sum() < during(result, 5, 9).sum()
    assert not result.failed[during(result, 12, 20)].any()


def test_what_belongs_to_a_replica_is_refused_where_there_is_none() -> None:
    with pytest.raises(ScenarioError, match="election belongs to type = 'high_availability', not to 'clustered'"):
        scenario(deployment={"election": "5s"})
    assert scenario(deployment={"type": "high_availability"}).deployment.election == 30.0


def test_a_partition_cuts_its_nodes_off_and_no_others() -> None:
    result = played({"kind": "partition", "start": 5, "duration": 5, "nodes": [1]})
    cut = during(result, 5, 9) & (result.node == 1)
    assert result.failed[cut].all()
    assert not result.failed[result.node != 1].any()
    assert not result.failed[during(result, 13, 20)].any()
    assert "StorageTimeoutError" in result.errors


def test_an_answer_that_is_lost_was_charged_all_the_same() -> None:
    one_way = {"kind": "partition", "start": 0, "duration": 20, "nodes": [0], "direction": "from_server"}
    assert played(one_way).accuracy.false_denial > 0.02  # until the breaker opens
    assert played({**one_way, "direction": "to_server"}).accuracy.false_denial == 0.0


def test_a_hybrid_goes_on_while_its_l2_is_away() -> None:
    cut = {"kind": "partition", "start": 2, "duration": 10}
    hybrid = played(cut, storage="hybrid+redis://h?sync_interval=0.1")
    assert not hybrid.failed.any()
    assert hybrid.accuracy.over_admission > played(storage="hybrid+redis://h?sync_interval=0.1").accuracy.over_admission


def test_what_is_admitted_because_the_store_is_away_is_told_apart() -> None:
    crash = {"kind": "crash", "start": 5, "duration": 3, "keeps_memory": True}
    strong = "hybrid+redis://h?consistency=strong&command_timeout=0.05&retries=0&breaker_reset=0.1&on_store_failure="
    generous = played(crash, storage=strong + "fail_open")
    phases = generous.phases().set_index("phase")
    assert phases["fail_open"]["crash at 5 s"] > 0.9 * phases["requests"]["crash at 5 s"]
    assert phases["fail_open"]["healthy"] < 0.02 * phases["requests"]["healthy"]
    assert generous.row()["fail_open"] == phases["fail_open"].sum()
    assert played(crash, storage=strong + "fail_closed").row()["fail_open"] == 0
    assert played().row()["fail_open"] == 0


def test_a_slow_server_shows_in_its_phase_of_the_run() -> None:
    phases = played({"kind": "slow", "start": 5, "duration": 5, "factor": 50}).phases().set_index("phase")
    assert phases["latency_p50"]["slow at 5 s"] > 2 * phases["latency_p50"]["healthy"]
    assert phases["requests"].sum() == len(scenario().trace())


def test_a_message_that_is_lost_is_sent_again_and_comes_later() -> None:
    patient = "redis://h?command_timeout=20"  # who waits a second gives up a message that is lost three times
    result = played({"kind": "lossy", "start": 5, "duration": 10, "loss": "5%"}, storage=patient)
    slow = result.latency > 0.2
    assert 0.05 < slow[during(result, 5, 15)].mean() < 0.15, "5 % on each of two ways"
    assert not slow[during(result, 0, 4.9)].any()
    assert result.failed.sum() == 0
    assert result.accuracy.over_admission == 0.0


def test_a_node_that_restarts_forgets_and_its_requests_go_elsewhere_meanwhile() -> None:
    restart = {"kind": "restart", "start": 5, "duration": 5, "nodes": [2]}
    result = played(restart, storage="memory://", routing="key_hash")
    assert not (result.node[during(result, 5, 10)] == 2).any()
    assert (result.node[during(result, 10, 20)] == 2).any()
    assert not result.failed.any()
    assert result.accuracy.over_admission > 0.0
    healthy = played(storage="memory://", routing="key_hash")
    elsewhere = healthy.node != 2
    assert np.array_equal(healthy.node[elsewhere], result.node[elsewhere]), "only its own keys move"


FAR = {"rtt": "2s"}
PATIENT = "redis://h?command_timeout=30&pool_size=1000"


@pytest.mark.parametrize("storage", [PATIENT, PATIENT + "0", "hybrid+" + PATIENT + "&consistency=strong"])
def test_a_request_under_way_in_a_node_that_restarts_fails_at_that_moment(storage: str) -> None:
    # A node that sleeps begins at once, so that all latencies count from when the request was sent.
    shipped = Profile.shipped()
    redis = msgspec.structs.replace(shipped.backends["redis"], cold=None)
    profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis})
    asked = {"storage": storage, "requests_per_second": 20.0, "rate": "1000/second", "deployment": FAR, "profile": profile}
    restart = {"kind": "restart", "start": 10, "duration": 2, "nodes": [1]}
    result, healthy = played(restart, **asked), played(**asked)
    since = result.trace.time - result.trace.time[0]
    under_way = (healthy.node == 1) & (since < 10) & (since + healthy.latency > 10)
    assert under_way.sum() >= 3
    assert np.array_equal(result.failed, under_way)
    assert result.errors == {"NodeDownError": int(under_way.sum())}
    assert result.latency[under_way] == pytest.approx(10 - since[under_way])
    assert not result.allowed[under_way].any()


def test_what_the_store_charged_for_a_request_that_was_lost_with_its_node_stays_charged() -> None:
    asked = {"storage": PATIENT, "requests_per_second": 4.0, "keys": 1, "rate": "60 per hour", "deployment": FAR}
    restart = {"kind": "restart", "start": 10, "duration": 2}
    result = played(restart, **asked)
    lost = result.errors["NodeDownError"] - int(during(result, 10, 12).sum())  # the others came while nobody was there
    assert lost >= 3
    assert int(result.allowed.sum()) == 60 - lost
    assert result.accuracy.false_denial > 0.0


def test_what_waits_in_a_node_that_restarts_is_never_sent() -> None:
    one = "redis://h?command_timeout=30&pool_size=1"
    asked = {"storage": one, "requests_per_second": 20.0, "keys": 1, "rate": "1000 per hour", "deployment": FAR}
    restart = {"kind": "restart", "start": 10, "duration": 60}
    result = played(restart, **asked)
    assert result.l2_operations < during(result, 0, 10).sum() - 10
    assert int(result.allowed.sum()) + result.errors["NodeDownError"] == len(result.trace)


def test_an_answer_that_waits_for_its_node_s_processor_is_lost_with_it() -> None:
    crowd = {"storage": "memory://", "requests_per_second": 1e6, "duration": 0.03, "deployment": {"nodes": 2}}
    result = played({"kind": "restart", "start": 0.02, "duration": 1, "nodes": [0]}, **crowd)
    healthy = played(**crowd)
    since = result.trace.time - result.trace.time[0]
    lost = (healthy.node == 0) & (since < 0.02) & (since + healthy.latency > 0.02)
    assert lost.sum() > 10
    assert np.array_equal(result.failed, lost)


@pytest.mark.parametrize("load", [0.1, 0.9, 1.1])
def test_a_decision_in_memory_takes_as_long_where_nodes_may_restart(load: float) -> None:
    rate = load / Profile.shipped().backends["memory"].client_cpu
    crowd = {"storage": "memory://", "requests_per_second": rate, "duration": 0.04, "deployment": {"nodes": 1}}
    never = {"kind": "restart", "start": 10, "duration": 1, "nodes": [0]}
    one_by_one, at_once = (played(*faults, profile=Profile.shipped(), **crowd) for faults in ([never], []))
    assert one_by_one.latency == pytest.approx(at_once.latency, abs=2e-9)


@pytest.mark.parametrize("storage", ["redis://h", "hybrid+redis://h?l1_ttl=100"])
def test_a_request_for_which_a_node_wakes_up_is_lost_if_that_goes_down_meanwhile(storage: str) -> None:
    wake = 0.16
    no = (0.0,)
    cold = Coldness(idle=no, wake=(wake,), ask=no, answer=no, after=no, served=no)
    shipped = Profile.shipped()
    redis = msgspec.structs.replace(shipped.backends["redis"], cold=cold, client_pace=EVEN)
    profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis})
    # Each node is asked every 0.2 s.
    asked = {"storage": storage, "requests_per_second": 20.0, "arrivals": "steady", "routing": "round_robin"}
    result = played({"kind": "restart", "start": 10, "duration": 2, "nodes": [1]}, profile=profile, **asked)
    since = result.trace.time - result.trace.time[0]
    lost = (result.node == 1) & (since < 10) & (since + wake > 10)
    assert lost.sum() == 1
    assert np.array_equal(result.failed, lost)
    assert result.latency[lost] == [0.0], "its handler has not begun"


def test_users_whose_node_restarts_ask_again_at_once_and_not_when_they_would_have_been_answered() -> None:
    loop = {"users": 40, "think": 0.01, "constant": True}
    result = run(
        Scenario.of(
            {
                "workload": {"clients": loop, "duration": 6.0},
                "limit": {"rate": "1e6/second"},
                "deployment": {"nodes": 2, "routing": "least_outstanding", **FAR},
                "faults": [{"kind": "restart", "start": 3, "duration": 1, "nodes": [0]}],
            }
        ),
        Candidate(name="c", storage=PATIENT),
    )
    assert result.errors["NodeDownError"] >= 15
    assert during(result, 3.0, 3.1).sum() >= result.errors["NodeDownError"]


def test_where_no_node_is_left_requests_fail_and_say_why() -> None:
    result = played({"kind": "restart", "start": 5, "duration": 5}, storage="memory://", routing="least_outstanding")
    assert result.errors == {"NodeDownError": int(during(result, 5, 10).sum())}


def test_a_hybrid_s_node_loses_what_it_had_not_flushed_and_begins_a_new_epoch() -> None:
    result = played({"kind": "restart", "start": 5, "duration": 1}, storage="hybrid+redis://h?sync_interval=30")
    flushed = played({"kind": "restart", "start": 5, "duration": 1}, storage="hybrid+redis://h?sync_interval=0.05")
    assert result.accuracy.over_admission > flushed.accuracy.over_admission


def test_a_clock_that_is_ahead_moves_its_windows() -> None:
    def over(offset: float, drift: float = 0.0) -> float:
        skew = {"kind": "clock_skew", "start": 0, "duration": 60, "nodes": [0, 1], "offset": offset, "drift": drift}
        return played(skew, rate="30 per 10 seconds", duration=30.0).accuracy.over_admission

    assert over(0.0) == 0.0
    assert over(5.0) > 0.01
    assert over(0.0, 0.1) > 0.0


def denied(offset: float, storage: str) -> float:
    """The cost that an exact limiter would have admitted, with one of four clocks that far ahead."""
    skew = {"kind": "clock_skew", "start": 0, "duration": 60, "nodes": [0], "offset": offset}
    return played(skew, storage=storage, rate="30 per 10 seconds", duration=30.0).accuracy.false_denial


@pytest.mark.parametrize("storage", ["redis://h", "hybrid+redis://h?sync_interval=0.1&l1_ttl=0.1"])
@pytest.mark.parametrize("offset", [3600.0, -3600.0])
def test_a_clock_that_is_wrong_beyond_the_bound_makes_nobody_wait(storage: str, offset: float) -> None:
    assert denied(offset, storage) < 0.05


@pytest.mark.parametrize("storage", ["redis://h", "postgresql://h", "hybrid+redis://h?consistency=strong"])
def test_at_the_servers_time_the_clocks_of_nodes_do_not_matter(storage: str) -> None:
    by_server = f"{storage}{'&' if '?' in storage else '?'}clock=server"
    right = played(storage=by_server)
    for offset in (3600.0, -3600.0):
        wrong = played(
            {"kind": "clock_skew", "start": 0, "duration": 60, "nodes": [0, 1], "offset": offset}, storage=by_server
        )
        assert np.array_equal(wrong.allowed, right.allowed)
    assert right.accuracy.over_admission < 0.01
    assert right.accuracy.false_denial < 0.01


def test_any_mix_at_once_runs_to_its_end_and_twice_alike() -> None:
    mix = [
        {"kind": "lossy", "start": 1, "duration": 10, "loss": 0.1},
        {"kind": "slow", "start": 2, "duration": 6, "factor": 5},
        {"kind": "partition", "start": 3, "duration": 2, "nodes": [0, 1]},
        {"kind": "crash", "start": 6, "duration": 1},
        {"kind": "failover", "start": 9, "duration": 0.5, "lag": 1},
        {"kind": "restart", "start": 4, "duration": 3, "nodes": [3]},
        {"kind": "clock_skew", "start": 5, "duration": 30, "nodes": [2], "offset": -1.5},
    ]
    for storage in (
        "redis://h",
        "postgresql://h",
        "hybrid+redis://h?sync_interval=0.2",
        "hybrid+redis://h?consistency=strong",
    ):
        first, second = (played(*mix, storage=storage) for _ in range(2))
        assert np.array_equal(first.allowed, second.allowed)
        assert np.array_equal(first.latency, second.latency)
        assert first.errors == second.errors


def test_what_holds_multiplies_or_adds_up() -> None:
    timeline = FaultTimeline(
        [
            Fault(kind="slow", start=1, duration=4, factor=3),
            Fault(kind="slow", start=2, duration=1, factor=5),
            Fault(kind="lossy", start=0, duration=9, loss=0.5),
            Fault(kind="lossy", start=0, duration=9, loss=0.5, nodes=(1,), direction="to_server"),
            Fault(kind="clock_skew", start=0, duration=9, offset=2, drift=0.1),
            Fault(kind="crash", start=7, duration=1),
        ]
    )
    assert [timeline.slowness(at) for at in (0.9, 1, 2, 3, 5)] == [1, 3, 15, 3, 1]
    assert (timeline.loss(0, 1, "to_server"), timeline.loss(1, 1, "to_server")) == (0.5, 0.75)
    assert timeline.loss(1, 1, "from_server") == 0.5
    assert timeline.skew(0, 3.0) == pytest.approx(2.3)
    assert (timeline.server_down(6.9), timeline.server_down(7.0), timeline.server_down(8.0)) == (False, True, False)
    assert (timeline.next_outage(0.0), timeline.next_outage(7.0)) == (7.0, float("inf"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "crash", "start": 1, "duration": 2, "nodes": [0]}, "a crash takes no nodes; it takes host_lost"),
        ({"kind": "partition", "start": 1, "duration": 2, "nodes": [4]}, "nodes are 0 to 3"),
        ({"kind": "quake", "start": 1, "duration": 2}, r"faults\.0\.kind"),
        (
            {"kind": "slow", "start": 1, "duration": 2, "factr": 2},
            "factr: unknown key; did you mean factor[?] known here: kind, start",
        ),
        ({"kind": "lossy", "start": 1, "duration": 2, "loss": 1}, "loss"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_the_reason(fault: dict, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        scenario(fault)


def test_faults_survive_the_way_through_a_file() -> None:
    asked = scenario(
        {"kind": "partition", "start": "2s", "duration": "500ms", "nodes": [0, 3], "direction": "to_server"},
        {"kind": "crash", "start": 4, "duration": 1, "keeps_memory": True},
    )
    assert Scenario.parse(asked.to_toml()).faults == asked.faults
    assert Scenario.of(asked.model_dump(exclude_none=True)).faults == asked.faults
