"""Headroom: the load, as a multiple of today's, at which a candidate stops meeting a requirement.

It is found by runs at that load, never by extrapolation: larger loads until one fails, then bisection between the largest
that is met and the smallest that fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ratesim.formatting import format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Check, assess
from ratesim.recommendation.investigate.load_growth import LoadGrowth, load_growths
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, gather
from ratesim.simulation.experiments.job import Job, jobs_of

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Requirements, Scenario
    from traffic import Trace

__all__ = ["WORDS", "Headroom", "headroom"]

STEP = 4.0  # from one load to the next while none has failed
COLUMNS = {"p99": "latency_p99", "max_over_admission": "over_admission"}
WORDS = {"p99": ("p99", format_seconds), "max_over_admission": ("over-admission", format_percent)}


@dataclass(frozen=True)
class Headroom:
    """The load at which one requirement is no longer met.

    Attributes
    ----------
    requirement
        p99 or max_over_admission.
    way
        "more clients" (more keys, each requested as often as today) or "busier clients" (each key requested more often).
    threshold
        The requirement, in seconds or as a share.
    meets
        The largest load, in multiples of today's, that was seen to meet it below `fails`; None where today's does not.
    fails
        The smallest load that was not seen to meet it; None where all did, up to `meets`.
    today, at_meets, at_fails
        The figure at these loads (mean over the seeds); None where there is none.
    failed_share
        Of the requests that get no decision at `fails`; 0 where nothing fails.
    covered
        Seconds of traffic that were simulated at the largest of these loads.
    rate
        Requests/s of today's load, in the stretch of traffic that is simulated.
    sentence
        All of that in words.
    is_open
        Whether the requirement may yet be met at `fails`: it is within the model's error there, or that load was not
        validated.
    """

    requirement: str
    way: str
    threshold: float
    meets: float | None
    fails: float | None
    today: float | None
    at_meets: float | None
    at_fails: float | None
    failed_share: float
    covered: float
    rate: float
    sentence: str
    is_open: bool = False


def headroom(
    scenario: Scenario,
    candidate: Candidate,
    profile: Profile,
    trace: Trace,
    *,
    requests: int = 20_000,
    part: int | None = None,
    most: float = 4096.0,
    ratio: float = 1.1,
    seeds: int = 1,
) -> AdaptiveRuns[tuple[Headroom, ...]]:
    """Search for the headroom of p99 and max_over_admission, where required, in both ways in which load grows.

    A load is met where the mean over the seeds is within the threshold, also with the model's error; at a load at which the
    model was not validated none is. Every load is tried on the same stretch of the traffic: the busiest with about `part`
    requests at today's load, or more where it takes that to cover two periods of the limit. So `today` need not be the
    figure of the whole traffic. Of a larger load the first `requests` are simulated: of twice the load for half as long. All
    runs begin with fresh state, and faults are left out. A latency settles within a fraction of a second, or grows without
    end, so a short run suffices. Over-admission builds up anew in each period of the limit. A run that covers less than one
    has only the start of it, when no key has used up its limit and nodes have not heard of each other. So loads above four
    times today's are tried as long as the run covers a period; otherwise the sentence says so.

    Parameters
    ----------
    scenario, candidate, profile
        The question.
    trace
        The traffic of the scenario.
    requests
        Of one run, at most.
    part
        Of the stretch at today's load; half of `requests` unless given, and all of the traffic where it has no more.
    most
        The largest load, as a multiple of today's.
    ratio
        fails / meets, at most, when the search ends.
    seeds
        Runs at each load, from the scenario's seed on.

    Raises
    ------
    ScenarioError
        If a load cannot be simulated.
    """
    named = _thresholds(scenario.requirements)
    searches = [
        _Search(growth, requirement, threshold, candidate, profile, range(scenario.seed, scenario.seed + seeds), ratio)
        for growth in (load_growths(scenario, trace, requests, most, part) if named else ())
        for requirement, threshold in named.items()
    ]
    headrooms: list[Headroom] = yield from gather(*(each.search(alone=len(searches) == 1) for each in searches))
    return tuple(headrooms)


def _thresholds(requirements: Requirements) -> dict[str, float]:
    named = {"p99": requirements.p99, "max_over_admission": requirements.max_over_admission}
    return {name: threshold for name, threshold in named.items() if threshold is not None}


@dataclass(frozen=True)
class _LoadPoint:
    """A load, and what was seen there."""

    factor: float
    check: Check
    value: float | None
    failed: float
    covered: float

    @property
    def is_met(self) -> bool:
        return self.check.violation == 0.0 and not self.is_open

    @property
    def is_open(self) -> bool:
        return self.check.undecided_by in ("model error", "load")

    @property
    def figure(self) -> str:
        return self.check.evidence if self.is_open else self.check.measured


@dataclass(frozen=True)
class _Search:
    growth: LoadGrowth
    requirement: str
    threshold: float
    candidate: Candidate
    profile: Profile
    seeds: range
    ratio: float

    def search(self, alone: bool) -> AdaptiveRuns[Headroom]:
        """alone: nobody else asks, so that two loads at a time keep two cores busy all the way."""
        ladder = self._ladder()
        today: _LoadPoint | None = None
        met: _LoadPoint | None = None
        failed: _LoadPoint | None = None
        while ladder and failed is None:
            points = yield from self._look(ladder[:2])
            ladder = ladder[2:]
            today = today or points[0]
            failed = next((each for each in points if not each.is_met), None)
            met = max((each for each in points if failed is None or each.factor < failed.factor), key=_factor, default=met)
        assert today is not None
        while met is not None and failed is not None and failed.factor / met.factor > self.ratio:
            points = yield from self._look(_between(met.factor, failed.factor, 2 if alone else 1))
            failed = next((each for each in points if not each.is_met), failed)
            met = max([met, *(each for each in points if each.factor < failed.factor)], key=_factor)
        return self._result(today, met, failed)

    def _ladder(self) -> list[float]:
        steps = math.floor(math.log(self.growth.most, STEP) + 1e-9)
        ladder = [STEP**step for step in range(steps + 1)]
        if ladder[-1] != self.growth.most:
            ladder.append(self.growth.most)
        if self.requirement == "p99":
            return ladder
        period = self.growth.scenario.limit.limit().period
        return [factor for factor in ladder if factor <= STEP or self.growth.covers(factor) >= period]

    def _look(self, factors: Sequence[float]) -> AdaptiveRuns[list[_LoadPoint]]:
        jobs: list[list[Job]] = []
        for factor in factors:
            grid = {field: [value] for field, value in self.growth.at(factor).items()}
            jobs.append(jobs_of(self.growth.scenario, [self.candidate], self.seeds, grid, self.profile))
        rows = yield [job for own in jobs for job in own]
        n = len(self.seeds)
        return [self._point(factor, rows[n * i : n * (i + 1)]) for i, factor in enumerate(factors)]

    def _point(self, factor: float, rows: list[Row]) -> _LoadPoint:
        scenario = self.growth.scenario
        (assessed,) = assess(pd.DataFrame(rows), scenario.requirements, scenario.deployment.nodes, profile=self.profile)
        check = next(each for each in assessed.checks if each.requirement == self.requirement)
        values = [row[COLUMNS[self.requirement]] for row in rows]
        mean = sum(values) / len(values)
        covered = min(row["simulated_seconds"] for row in rows)
        return _LoadPoint(factor, check, mean if math.isfinite(mean) else None, assessed.failed_share, covered)

    def _result(self, today: _LoadPoint, met: _LoadPoint | None, failed: _LoadPoint | None) -> Headroom:
        last = failed or met
        assert last is not None
        return Headroom(
            requirement=self.requirement,
            way=self.growth.way,
            threshold=self.threshold,
            meets=met.factor if met else None,
            fails=failed.factor if failed else None,
            today=today.value,
            at_meets=met.value if met else None,
            at_fails=failed.value if failed else None,
            failed_share=failed.failed if failed else 0.0,
            covered=last.covered,
            rate=self.growth.rate,
            sentence=self._sentence(met, failed, last.covered),
            is_open=failed is not None and failed.is_open,
        )

    def _sentence(self, met: _LoadPoint | None, failed: _LoadPoint | None, covered: float) -> str:
        name, unit = WORDS[self.requirement]
        allowed = "none is allowed" if self.threshold == 0.0 else f"{unit(self.threshold)} is allowed"
        phrase = self.growth.phrase
        period = self.growth.scenario.limit.limit().period
        if failed is None:
            assert met is not None
            # Of p99 larger loads may have been looked at, in runs that cover less than a period of the limit, and of each
            # requirement one step.
            is_last = self._ladder()[-1] == self.growth.most or self.growth.covers(met.factor) < period
            most = "was looked at" if is_last else "a run shows over about a period of the limit"
            looked = "" if met.factor == 1.0 else f", the most that {most}"
            text = f"Met {phrase(met.factor, 'up to ')}{looked} ({met.check.measured}; {allowed})"
        elif met is None:
            not_met = "Not shown to be met" if failed.is_open else "Not met"
            place = "" if self.growth.is_whole else ", on the excerpt"
            text = f"{not_met} at today's load{place} ({failed.figure}; {allowed})"
        else:
            not_met = "not shown" if failed.is_open else "not"
            text = f"Met {phrase(met.factor, 'up to ')} ({met.check.measured}), {not_met} {phrase(failed.factor)} "
            text += f"({failed.figure}; {allowed})"
        if name == "over-admission" and covered < period:
            text += f"; seen in {format_seconds(covered)} of traffic, less than the {format_seconds(period)} of the limit"
        return f"{text}."


def _factor(point: _LoadPoint) -> float:
    return point.factor


def _between(low: float, high: float, points: int) -> list[float]:
    """So many factors that divide the way from low to high into equal ratios."""
    return [low * (high / low) ** (i / (points + 1)) for i in range(1, points + 1)]
