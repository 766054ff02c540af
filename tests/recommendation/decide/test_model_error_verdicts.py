"""What a recommendation says of the model's error: its sentences, its confidence, its check, and its difference."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pandas as pd
from test_diff import BEFORE, changed, figure
from test_recommendation import rows

from ratesim.recommendation.assess.assessment import Assessment, assess
from ratesim.recommendation.assess.pareto import best, rank
from ratesim.recommendation.assess.rejections import relaxations
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.check import CheckResult, check
from ratesim.recommendation.decide.diff import diff, text
from ratesim.recommendation.decide.markdown import markdown
from ratesim.recommendation.decide.profile_origin import profile_origin
from ratesim.recommendation.decide.verdict import Confidence, caveat, confidence, no_choice, numbers
from ratesim.simulation.cost_model.profile import ModelError, Profile
from ratesim.simulation.scenario.scenario import Requirements

STEADY = [1.0e-3] * 3


def entry(utilization: float, p99: float) -> ModelError:
    return ModelError(utilization=utilization, p50=p99, p95=p99, p99=p99, throughput=0.05, rounds=20)


def profile(*errors: ModelError) -> Profile:
    shipped = Profile.shipped()
    redis = msgspec.structs.replace(shipped.backends["redis"], errors=errors)
    return msgspec.structs.replace(shipped, machine="m", backends={**shipped.backends, "redis": redis}, source="mine")


VALIDATED = profile(entry(0.3, 0.1), entry(0.6, 0.25))


def assessed(*tables: list[dict[str, Any]], store: float = 0.2, **required: Any) -> list[Assessment]:
    """Assess the candidates of these tables, in the order of rank, with their store busy for this share of the time."""
    busy = {"utilization_max": store, "node_utilization_max": 0.1}
    results = pd.DataFrame([row | busy for table in tables for row in table])
    return sorted(assess(results, Requirements(**required), 8, profile=VALIDATED), key=rank)


def checked(found: list[Assessment], **more: Any) -> CheckResult:
    chosen = best(found)
    sure = confidence(chosen, [], "USD", 10_000) if chosen else Confidence("too thin", "None passes for sure.")
    return check(
        SimpleNamespace(  # type: ignore[arg-type]
            lost_note="",
            assessments=found,
            choice=chosen.candidate if chosen else None,
            verdict=no_choice(found) if chosen is None else "Use it.",
            confidence=sure,
            requirements={"p99": 1.0},
            limit_is_binding=True,
            limit_pressure_note="",
            whole=more.get("whole", ()),
        )
    )


REDIS = rows("redis", STEADY, 0.0, 60e-6)
OTHER = [{**row, "candidate": "other"} for row in rows("redis", STEADY, 0.0, 90e-6)]


def test_the_confidence_is_measured_from_the_end_of_the_interval() -> None:
    (alone,) = assess(pd.DataFrame(REDIS), Requirements(p99="2.1ms"), 8)
    (found,) = assessed(REDIS, p99="2.1ms")
    (near,) = assessed(REDIS, store=0.6, p99="2.1ms")
    levels = [confidence(each, [], "USD", 10_000).level for each in (alone, found, near)]
    assert levels == ["high", "fair", "fair"]
    said = confidence(near, [], "USD", 10_000).sentence
    assert "p99 1 ms [0.75 to 1.25 ms], clearly within the threshold (2.1 ms allowed)" in said
    assert "The model's error: 25 % at 60 % utilization of its store; redis was validated up to 60 % utilization" in said


def test_a_backend_that_nobody_validated_is_no_reason_for_high_confidence() -> None:
    (validated,) = assessed(REDIS, p99="100ms")
    assert validated.model_error is not None
    unknown = replace(validated, model_error=replace(validated.model_error, source="unknown"))
    assert [confidence(each, [], "USD", 10_000).level for each in (validated, unknown)] == ["high", "fair"]
    assert "redis was not validated" in confidence(unknown, [], "USD", 10_000).sentence


def test_near_saturation_nothing_is_chosen_and_it_is_said_why_and_what_to_do() -> None:
    found = assessed(REDIS, OTHER, store=0.7, p99="2ms")
    assert best(found) is None
    assert no_choice(found) == (
        "No candidate meets all requirements for sure: redis and other are too close to call; for redis, near saturation a "
        "simulated p99 is a lower bound (at least, at 70 % utilization of its store; redis was validated up to 60 % "
        "utilization in 20 rounds on m): `ratesim validate --store` tells how far it is on your machines, and more servers "
        "take load off it."
    )
    assert relaxations(found) == ()
    status = checked(found)
    assert (status.status, status.sentence) == (3, no_choice(found))
    (figure_of_p99, *_) = numbers(found[0], "USD", "yours")
    assert figure_of_p99.value == "at least 0.75 ms"


def test_what_fails_at_its_low_end_fails_near_saturation_too() -> None:
    found = assessed(REDIS, store=0.7, p99="0.7ms")
    assert checked([replace(found[0], candidate=CURRENT)]).status == 1


def test_within_the_model_s_error_no_replication_tells() -> None:
    (found,) = assessed(REDIS, p99="1.05ms")
    said = no_choice([found])
    assert "its p99 is within the model's error (10 % at 20 % utilization of its store;" in said
    assert "no replication tells, but `ratesim calibrate` and `ratesim validate --store` on your machines may" in said
    status = checked([replace(found, candidate=CURRENT)])
    assert status.status == 3
    assert status.sentence.startswith(
        "The configuration in force is too close to call: it misses only p99: p99 1 ms [0.9 to 1.1 ms] (1.05 ms allowed, "
        "too close to call); its p99 is within the model's error"
    )


def test_a_part_within_and_the_whole_within_the_model_s_error_ends_with_3() -> None:
    part, whole = assessed(REDIS, p99="1.2ms")[0], assessed(REDIS, store=0.6, p99="1.2ms")
    assert checked([part]).status == 0
    status = checked([part], whole=whole)
    assert status.status == 3
    assert "does not hold on all of the traffic" in status.sentence
    assert "within the model's error" in status.sentence


def test_candidates_are_ranked_by_their_means_and_not_by_the_ends_of_intervals() -> None:
    faster = [{**row, "candidate": "faster"} for row in rows("redis", [0.95e-3] * 3, 0.0, 60e-6)]
    tables = {0.2: REDIS, 0.6: faster}
    busy = [
        row | {"utilization_max": store, "node_utilization_max": 0.1} for store, table in tables.items() for row in table
    ]
    results = pd.DataFrame(busy)
    found = assess(results, Requirements(p99="5ms"), 8, profile=VALIDATED)
    slow, fast = found
    assert fast.p99.high > slow.p99.high
    assert best(found) is fast


def test_the_caveat_of_a_validated_profile_is_its_verdict() -> None:
    (found,) = assessed(REDIS, p99="5ms")
    assert caveat(found, None, (), (), "", "mine.json", live=True) == (
        "What was simulated is a model of your servers: redis was validated up to 60 % utilization in 20 rounds on m, and "
        "its p99 was within 10 % of the measured one up to the load of this choice."
    )
    (bound,) = assessed(REDIS, store=0.7)
    assert "how far it is from this machine's" in caveat(bound, None, (), (), "", "mine.json", live=True)


def test_a_comment_on_a_pull_request_says_at_least() -> None:
    found = assessed(REDIS, store=0.7, p99="2ms")
    told = SimpleNamespace(
        lost_note="",
        log=None,
        verdict="V.",
        numbers=(),
        confidence=Confidence("too thin", "C."),
        size="",
        caveat="B.",
        alternatives=(),
        assumed=(),
        assessments=found,
        choice=None,
        currency="USD",
        relaxations=(),
        headroom=(),
        flips=(),
        rejected=(),
        requirements={},
        scenario="s",
        limit="l",
    )
    assert "| redis | too close | at least 0.75 ms | exactly 0 |" in markdown(told)  # type: ignore[arg-type]


def test_a_difference_is_noise_by_the_seeds_alone() -> None:
    def widened(mean: float, spread: float) -> dict[str, Any]:
        return figure(mean, 0.5 * mean) | {"spread": spread, "is_lower_bound": False}

    before = changed(p99=widened(1.0e-3, 0.1e-3))
    for mean, noise in ((1.14e-3, True), (1.15e-3, False)):
        (move,) = diff(before, changed(p99=widened(mean, 0.1e-3))).changes
        assert move.noise is noise
    bound = changed(p99={"mean": 3e-3, "low": 2e-3, "high": None, "seeds": 3, "spread": 0.1e-3, "is_lower_bound": True})
    assert "p99 moved, from 1 ms to at least 2 ms" in text(diff(BEFORE, bound))


def test_a_profile_s_origin_age_and_other_versions_are_named() -> None:
    shipped = Profile.shipped()
    mine = msgspec.structs.replace(
        shipped,
        machine="mine, 8 cores",
        measured="2026-01-01",
        source="folder/profile.json",
        versions={"redis": "8.0.0", "psycopg": "3.3.9"},
    )
    here = {"machine": "mine, 8 cores", "date": "2026-03-02", "redis": "8.1.0", "psycopg": "3.3.9", "ratesim": "0.1.0"}
    found = profile_origin(mine, here)
    assert (found.source, found.machine, found.measured, found.age_days) == (
        "profile.json",
        "mine, 8 cores",
        "2026-01-01",
        60,
    )
    assert found.other_versions == ("redis 8.0.0, installed is 8.1.0",)
    assert found.sentence == (
        "Service times are from the profile profile.json, measured on mine, 8 cores on 2026-01-01. That was 60 days before "
        "this study. The profile was measured with redis 8.0.0, installed is 8.1.0. `ratesim calibrate` measures again."
    )
    assert "This machine is another (yours)." in profile_origin(mine, here | {"machine": "yours"}).sentence
    assert profile_origin(msgspec.structs.replace(mine, measured="some day"), here).age_days is None
    assert profile_origin(mine, {}).other_versions == ()
