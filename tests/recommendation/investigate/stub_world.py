"""A world that is known: an inquiry's rows come of a formula, so that what it finds can be compared with what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from ratesim import Scenario
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import Job, jobs_of, work
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.storage import StorageURL

T = TypeVar("T")


def answered(inquiry: AdaptiveRuns[T], world: Callable[[Job], dict[str, Any]]) -> tuple[T, list[Job]]:
    """What it returns where runs give these figures, and the jobs that it asked for, each once."""
    asked: dict[str, Job] = {}
    try:
        jobs = next(inquiry)
        while True:
            asked |= {job.key: job for job in jobs}
            jobs = inquiry.send([_row(job, world(job)) for job in jobs])
    except StopIteration as end:
        return end.value, list(asked.values())


def _row(job: Job, figures: dict[str, Any]) -> Row:
    url = StorageURL.parse(job.candidate.storage)
    named = {
        "candidate": job.candidate.name,
        "storage": job.candidate.storage,
        "backend": "hybrid" if url.hybrid else url.backend,
        "routing": job.candidate.routing or job.scenario.deployment.routing,
        "seed": job.seed,
    }
    return {**_plain(), **named, **figures}


@cache
def _plain() -> Row:
    """A row as runs make it, so that it has every column."""
    scenario = Scenario.of(
        {"workload": {"requests_per_second": 100, "keys": 5, "duration": 1}, "limit": {"rate": "10/second"}}
    )
    return work(jobs_of(scenario, [Candidate(name="memory", storage="memory://")], [1], None, Profile.load())[0])
