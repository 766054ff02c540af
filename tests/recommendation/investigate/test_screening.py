"""Candidates are screened on as much of the traffic as is cheap; those that SimPy has to play stay with the first look."""

from __future__ import annotations

from typing import Any

import pytest
from stub_world import answered

from ratesim import Scenario
from ratesim.recommendation.assess.assessor import Assessor
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.investigate.screening import FIRST_LOOK, FOR_SCREENING, Screening, screen
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.job import Job
from ratesim.simulation.scenario.scenario import Candidate

RATE = 1000
SIMPY = "clients that react"
DEADLINE = "a deadline was reached"
FAST, SLOW, LATE = (
    Candidate(name=name, storage=url)
    for name, url in (("redis", "redis://localhost"), ("fake", "memory://"), ("late", "redis://localhost?pool_size=1"))
)


def screened(requests: int, seconds: float, *candidates: Candidate) -> tuple[Screening, list[Job]]:
    scenario = Scenario.of(
        {"workload": {"requests_per_second": RATE, "duration": requests / RATE}, "limit": {"rate": "9/second"}}
    )
    assessor = Assessor(scenario, Profile.load(), Prices.load(), scenario.trace().summary())

    def cut(count: int) -> Scenario:
        workload = scenario.workload.model_copy(update={"duration": min(count, requests) / RATE})
        return scenario.model_copy(update={"workload": workload})

    def world(job: Job) -> dict[str, Any]:
        count = round(job.scenario.workload.duration * RATE)
        if job.candidate == LATE and count > FIRST_LOOK:
            return {"requests": 0, "engine_reason": DEADLINE}
        engine, reason = ("simpy", SIMPY) if job.candidate == SLOW else ("compiled", "")
        return {"requests": count, "events": 4 * count, "engine": engine, "engine_reason": reason}

    return answered(screen(assessor, cut, requests, candidates, seconds, False), world)


def requests_of(screening: Screening) -> dict[str, int]:
    return dict(zip(screening.runs.rows["candidate"], screening.runs.rows["requests"], strict=True))


def test_what_the_compiled_engine_plays_is_screened_on_all_and_the_rest_on_the_first_look() -> None:
    screening, jobs = screened(20_000, 600.0, FAST, SLOW, LATE)
    assert requests_of(screening) == {"redis": 20_000, "fake": FIRST_LOOK, "late": FIRST_LOOK}
    assert screening.on_first == ("fake", "late")
    assert screening.costs["late"].engine == "simpy"
    assert screening.costs["late"].reason == DEADLINE
    assert [job.engine for job in jobs] == ["auto"] * 3 + ["compiled"] * 2


def test_the_budget_bounds_the_second_look() -> None:
    screening, _ = screened(20_000, 600.0, FAST)
    seconds = 5_000 * screening.costs["redis"].seconds / FOR_SCREENING
    assert requests_of(screened(20_000, seconds, FAST)[0])["redis"] == pytest.approx(5_000, abs=1)


@pytest.mark.parametrize(("requests", "seconds"), [(500, 600.0), (20_000, 0.0)])
def test_there_is_no_second_look_where_it_would_show_no_more(requests: int, seconds: float) -> None:
    screening, jobs = screened(requests, seconds, FAST, SLOW)
    assert len(jobs) == 2
    assert screening.on_first == ()
    assert all(job.detail == (requests < FIRST_LOOK) for job in jobs)
