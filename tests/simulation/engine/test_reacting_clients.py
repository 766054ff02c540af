"""Runs whose clients react to their answers."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Scenario, run
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError


def scenario(workload: dict, **parts: object) -> Scenario:
    limit = {"rate": "30 per 10 seconds", "algorithm": "fixed_window"}
    return Scenario.of({"workload": workload, "limit": limit, "deployment": {"nodes": 4}, **parts})


def played(workload: dict, storage: str = "redis://h", **parts: object) -> RunResult:
    return run(scenario(workload, **parts), Candidate(name="c", storage=storage))


OPEN = {"requests_per_second": 60.0, "keys": 5, "duration": 20.0}


def test_clients_that_ask_again_at_once_ask_more_and_get_no_more() -> None:
    within = {**OPEN, "duration": 19.0}  # so that also the last one is denied for good before the third window
    patient = played(within)
    pushy = played({**within, "clients": {"retry": "at_once", "attempts": 4}})
    denied = len(patient.trace) - int(patient.allowed.sum())
    assert len(pushy.trace) > len(patient.trace) + 2 * denied
    assert pushy.accuracy.over_admission == 0.0
    assert int(pushy.allowed.sum()) == int(patient.allowed.sum())


def test_clients_that_wait_as_they_are_told_are_admitted_more_often() -> None:
    pushy, polite = (played({**OPEN, "clients": {"retry": retry, "attempts": 3}}) for retry in ("at_once", "retry_after"))
    assert polite.allowed.mean() > 1.3 * pushy.allowed.mean()
    assert len(polite.trace) < len(pushy.trace)


def test_a_closed_loop_asks_as_often_as_the_response_time_law_says() -> None:
    users, think = 40, 0.5
    result = played(
        {"clients": {"users": users, "think": think}, "duration": 60.0},
        limit={"rate": "1e6/second"},
        deployment={"nodes": 4, "network": "mobile_edge"},
    )
    assert result.allowed.all()
    rate = len(result.trace) / 60.0
    law = users / (think + result.latency.mean())
    assert rate == pytest.approx(law, rel=0.05)
    assert result.latency.mean() > 0.04, "the answers take long enough to matter"


def test_a_slow_store_slows_a_closed_loop_and_not_an_open_one() -> None:
    slow = [{"kind": "slow", "start": 0, "duration": 100, "factor": 3000}]
    closed = {"clients": {"users": 20, "think": 0.05}, "duration": 5.0}
    assert len(played(closed, faults=slow).trace) < 0.5 * len(played(closed).trace)
    open_loop = {"requests_per_second": 100.0, "keys": 5, "duration": 5.0}
    assert len(played(open_loop, faults=slow).trace) == len(played(open_loop).trace)


@pytest.mark.parametrize("routing", ["round_robin", "random", "sticky", "key_hash", "least_outstanding"])
def test_every_routing_knows_clients_that_nobody_knew_before(routing: str) -> None:
    asked = scenario({"clients": {"users": 30, "think": 0.2}, "keys": 10, "duration": 5.0})
    result = run(asked, Candidate(name="c", storage="memory://", routing=routing))  # type: ignore[arg-type]
    assert set(result.node) == {0, 1, 2, 3} if routing != "key_hash" else len(set(result.node)) > 1
    assert len(result.trace.keys) == 10
    if routing == "key_hash":
        assert result.accuracy.over_admission == 0.0


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    asked = scenario({"clients": {"users": 30, "think": 0.2, "retry": "backoff"}, "keys": 10, "duration": 5.0})
    candidate = Candidate(name="c", storage="hybrid+redis://h?sync_interval=0.1")
    first, again, other = (run(asked, candidate, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.trace.time, again.trace.time)
    assert np.array_equal(first.allowed, again.allowed)
    assert not np.array_equal(first.trace.time, other.trace.time)


def test_the_demand_of_a_closed_loop_is_what_it_would_ask_unhindered() -> None:
    asked = scenario({"clients": {"users": 30, "think": 0.5}, "duration": 20.0})
    assert len(asked.trace()) / 20.0 == pytest.approx(30 / 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ({"clients": {"think": 2}, "requests_per_second": 5.0}, "give `users`"),
        ({"clients": {"users": 5}, "requests_per_second": 5.0}, "give one of"),
        ({"clients": {"retry": "at_once"}}, "give one of"),
        ({"clients": {"users": 5, "patience": 3}}, "patience: unknown key; known here: users, think"),
    ],
)
def test_clients_that_cannot_be_are_refused_with_the_reason(workload: dict, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        scenario(workload)


def test_clients_survive_the_way_through_a_file() -> None:
    asked = scenario({"clients": {"users": 7, "retry": "retry_after", "constant": True}, "duration": 5.0})
    assert Scenario.parse(asked.to_toml()).workload == asked.workload


def test_a_pause_of_all_clients_is_not_the_end_of_a_run() -> None:
    lonely = {"clients": {"users": 1, "think": 300.0, "constant": True}, "duration": 3000.0}
    assert len(played(lonely).trace) == 10
    rare = {"requests_per_second": 0.005, "arrivals": "steady", "duration": 2000.0, "clients": {"retry": "at_once"}}
    assert len(played(rare).trace) == 10
