"""What a pipeline is told: met, not met, or too thin to tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from test_recommendation import REDIS, assessed, rows

from ratesim.recommendation.assess.pareto import best
from ratesim.recommendation.current import CURRENT, with_current
from ratesim.recommendation.decide.check import check
from ratesim.recommendation.decide.verdict import Confidence
from ratesim.simulation.scenario.deployment import Deployment
from ratesim.simulation.scenario.scenario import Candidate

SHAKY = rows("redis", [1.8e-3, 2.0e-3, 2.1e-3], 0.0, 60e-6)


def told(*tables, level="high", binds=True, whole=(), disagreement="", **requirements):
    found = assessed(*tables, **requirements)
    chosen = best(found)
    return check(
        SimpleNamespace(
            lost_note="",
            assessments=found,
            choice=chosen.candidate if chosen else None,
            verdict="No candidate meets all requirements.",
            confidence=Confidence(level, "Why.", disagreement),
            requirements=requirements,
            limit_is_binding=binds,
            limit_pressure_note="The limit hardly ever binds.",
            whole=assessed(*whole, **requirements) if whole else (),
        )
    )


def in_force(table):
    return [{**row, "candidate": CURRENT} for row in table]


def test_a_configuration_that_meets_the_requirements_ends_with_0():
    found = told(REDIS, in_force(REDIS), p99="2ms", max_over_admission="1%")
    assert found.status == 0
    assert found.sentence.startswith("The configuration in force meets the requirements: p99 1.05 ms (2 ms allowed)")


def test_one_that_no_longer_does_ends_with_1_though_another_would():
    slow = in_force(rows("redis", [5e-3] * 3, 0.0, 60e-6))
    found = told(REDIS, slow, p99="2ms")
    assert found.status == 1
    assert "no longer meets the requirements: it misses only p99" in found.sentence


def test_evidence_that_does_not_carry_a_verdict_ends_with_3():
    assert told(in_force(SHAKY), p99="2ms").status == 3
    assert told(in_force(REDIS), level="too thin", p99="2ms").sentence == "The evidence is too thin. Why."
    assert told(in_force(REDIS), binds=False, max_over_admission="1%").status == 3
    assert told(in_force(REDIS), binds=False, p99="2ms").status == 0  # a latency needs no limit that binds


def test_a_live_replay_that_its_own_simulation_misses_makes_the_evidence_too_thin():
    note, slow = "redis p99 4 ms live, 1.3 ms simulated.", in_force(rows("redis", [5e-3] * 3, 0.0, 60e-6))
    for table in (in_force(REDIS), slow):  # what was simulated tells neither
        found = told(table, disagreement=note, p99="2ms")
        assert (found.status, found.sentence) == (3, f"The evidence is too thin. {note}")
    assert told(slow, p99="2ms").status == 1


def test_what_fails_by_more_than_a_latency_fails_whatever_a_live_replay_says():
    open_handed = in_force(rows("redis", [1e-3] * 3, 0.5, 60e-6))
    assert told(open_handed, disagreement="Off.", p99="2ms", max_over_admission="1%").status == 1


def test_where_nothing_is_chosen_a_live_replay_may_still_be_the_reason():
    slow, open_handed = rows("redis", [5e-3] * 3, 0.0, 60e-6), rows("memory", [5e-3] * 3, 0.5, 0.0)
    assert told(slow, level="low", disagreement="Off.", p99="2ms").status == 3
    assert told(slow, level="low", p99="2ms").status == 1
    assert told(open_handed, level="low", disagreement="Off.", p99="2ms", max_over_admission="1%").status == 1


def test_one_that_holds_on_a_part_and_not_on_all_of_the_traffic_ends_with_1():
    found = told(in_force(REDIS), whole=[in_force(rows("redis", [5e-3]))], p99="2ms")
    assert found.status == 1
    assert "does not hold on all of the traffic: it misses only p99" in found.sentence


def test_nobody_is_compared_with_what_is_in_force_already():
    def candidate(name, storage, **more):
        return Candidate(name=name, storage=storage, **more)

    current = candidate(CURRENT, "redis://localhost?pool_size=20")
    others = [
        candidate("in force", "memory://"),  # of an earlier check
        candidate("the same", "redis://h?pool_size=20"),
        candidate("smaller", "redis://h?pool_size=10"),
        candidate("another rule", "redis://h?pool_size=20", algorithm="gcra"),
    ]
    assert [each.name for each in with_current(current, others)] == [CURRENT, "smaller", "another rule"]


def test_a_cluster_of_another_size_is_another_candidate():
    current = Candidate(name=CURRENT, storage="redis+cluster://localhost", primaries=3, replicas=1)
    others = [
        Candidate(name="the same", storage="redis+cluster://h"),
        Candidate(name="larger", storage="redis+cluster://h", primaries=6),
        Candidate(name="bare", storage="redis+cluster://h", replicas=0),
    ]
    assert [each.name for each in with_current(current, others)] == [CURRENT, "larger", "bare"]
    four = [each.name for each in with_current(current, others, Deployment(shards=4))]
    assert four == [CURRENT, "the same", "larger", "bare"]


@pytest.mark.parametrize(("p99", "status"), [("2ms", 0), ("0.5ms", 1)])
def test_where_none_is_named_the_choice_is_checked(p99, status):
    assert told(REDIS, p99=p99).status == status
