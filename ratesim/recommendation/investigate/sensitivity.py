"""Sensitivity: which assumption would flip the choice, and at what value.

Each assumption is changed by itself, up and down, in coarse steps; where the choice flips, bisection finds the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.recommendation.investigate.assumptions import Alternative, Assumption, FixedAssumption, assumptions
from ratesim.recommendation.investigate.sampling import busiest_window
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, gather
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.scenario.grid import variants

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["Choose", "Flip", "sensitivity"]

Choose = Callable[["Scenario", list[Row]], str | None]
"""Which candidate the rows of all contenders, in a scenario, speak for."""

STEP = 4.0  # from one coarse value to the next


@dataclass(frozen=True)
class Flip:
    """An assumption that was changed in one direction, and the effect on the choice.

    Values are in the assumption's unit (seconds, a share, a number of nodes, an exponent).

    Attributes
    ----------
    assumption
        Its name.
    direction
        up or down; none where the assumption was not varied, and the sentence gives the reason.
    today
        The present value, of all of the traffic.
    value
        The smallest change that was seen to flip the choice; None where none did, up to `looked`.
    keeps
        The largest change before it that was seen not to flip it.
    looked
        The largest change that was tried.
    to
        The choice at `value`; None where nobody is chosen.
    sentence
        All of that in words.
    """

    assumption: str
    direction: Literal["up", "down", "none"]
    today: float | None
    value: float | None
    keeps: float | None
    looked: float | None
    to: str | None
    sentence: str

    @property
    def flips(self) -> bool:
        """Whether the choice flips."""
        return self.value is not None


def sensitivity(
    scenario: Scenario,
    contenders: Sequence[Candidate],
    chosen: str | None,
    profile: Profile,
    choose: Choose,
    trace: Trace,
    *,
    requests: int = 4000,
    ratio: float = 1.2,
    seeds: int = 1,
) -> AdaptiveRuns[tuple[Flip, ...]]:
    """Search for the assumptions that would change the choice among these contenders.

    All is judged on an excerpt, without the faults, today's choice as well: where that is another there, flips are from it,
    and every sentence says so. A choice that flips and flips back within a factor of four may go unseen.

    Parameters
    ----------
    scenario, contenders, profile
        The question.
    chosen
        The name of the choice; None where nobody meets the requirements.
    choose
        Makes the choice from the rows of all contenders, in their order and for each seed, in a changed scenario.
    trace
        The traffic of the scenario.
    requests
        Of a run, about: the busiest so many; half as many or up to twice as many, as it takes to cover two periods of the
        limit.
    ratio
        Of the value that flips the choice to the one before it that does not, at most.
    seeds
        Runs of each, from the scenario's seed on.

    Raises
    ------
    ScenarioError
        If a value cannot be simulated. What `choose` raises passes through.
    """
    excerpt = busiest_window(scenario, trace, max(1, requests // 2))
    world = _World(excerpt, tuple(contenders), profile, choose, range(scenario.seed, scenario.seed + seeds))
    here = yield from world.today()
    aside = ""
    if here != chosen:
        place = "In one run" if excerpt.workload == scenario.workload else "On the excerpt"
        other = f"not for {chosen}" if chosen else "although nobody is chosen on all of the traffic"
        aside = f" {place}, without faults, the evidence speaks for {_named(here)} today, {other}."
    fixed: list[Flip] = []
    searches: list[AdaptiveRuns[Flip]] = []
    whole = float(trace.summary()["top_key_share"])
    for each in assumptions(excerpt, contenders, here, profile, whole, _top_share(scenario, excerpt, trace)):
        if isinstance(each, FixedAssumption):
            fixed.append(_unvaried(each))
            continue
        for up in (True, False):
            points = _coarse(each, up)
            if points:
                searches.append(_search(world, each, up, points, here, ratio, aside))
    flips: list[Flip] = yield from gather(*searches)
    return (*flips, *fixed)


def _top_share(scenario: Scenario, excerpt: Scenario, trace: Trace) -> float:
    """Return the share of the excerpt's busiest key; of a recipe that only runs for a shorter time that of the whole."""
    cut = excerpt.workload
    part = trace
    if cut.top_share is not None:  # the excerpt is made so
        return cut.top_share
    if cut.busiest != scenario.workload.busiest and cut.busiest is not None:
        part = trace.busiest(cut.busiest / cut.speed)
    elif cut.head != scenario.workload.head and cut.head is not None:
        part = trace.head(cut.head)
    return float(part.summary()["top_key_share"])


@dataclass(frozen=True)
class _World:
    scenario: Scenario
    contenders: tuple[Candidate, ...]
    profile: Profile
    choose: Choose
    seeds: range

    def today(self) -> AdaptiveRuns[str | None]:
        jobs = [job for each in self.contenders for job in self._jobs(Alternative({}, each, self.profile))]
        rows = yield jobs
        return self.choose(self.scenario, rows)

    def look(self, assumption: Assumption, values: Sequence[float]) -> AdaptiveRuns[list[str | None]]:
        """Who would be chosen at these values."""
        alternatives = [[assumption.other(value, each) for each in self.contenders] for value in values]
        jobs = [[job for other in others for job in self._jobs(other)] for others in alternatives]
        rows = yield [job for own in jobs for job in own]
        chosen: list[str | None] = []
        for others, own in zip(alternatives, jobs, strict=True):
            # Those whom it does not concern were run without it, but it is there for all.
            fields = max((other.fields for other in others), key=len, default={})
            (changed,) = variants(self.scenario, {field: [value] for field, value in fields.items()})
            chosen.append(self.choose(changed.scenario, rows[: len(own)]))
            rows = rows[len(own) :]
        return chosen

    def _jobs(self, other: Alternative) -> list[Job]:
        grid = {field: [value] for field, value in other.fields.items()}
        return jobs_of(self.scenario, [other.candidate], self.seeds, grid, other.profile)


def _search(
    world: _World, assumption: Assumption, up: bool, points: list[float], here: str | None, ratio: float, aside: str
) -> AdaptiveRuns[Flip]:
    chosen = yield from world.look(assumption, points)
    keeps, value, to = assumption.today, None, None
    for point, name in zip(points, chosen, strict=True):
        if name != here:
            value, to = point, name
            break
        keeps = point
    while value is not None and max(value / keeps, keeps / value) > ratio:
        middle = (keeps * value) ** 0.5
        if assumption.whole:
            middle = round(middle)
            if middle in (keeps, value):  # neighbours, or as good as
                middle = (keeps + value) // 2
            if middle in (keeps, value):
                break
        (name,) = yield from world.look(assumption, [middle])
        if name == here:
            keeps = middle
        else:
            value, to = middle, name
    return Flip(
        assumption.name,
        "up" if up else "down",
        float(assumption.today),  # a number of nodes is whole, and reads the same when it was kept
        None if value is None else float(value),
        float(keeps),
        float(points[-1]),
        to,
        _sentence(assumption, up, value, points[-1], to, here) + aside,
    )


def _coarse(assumption: Assumption, up: bool) -> list[float]:
    """Return values ever farther from today's, the last one at the end of the range."""
    end = assumption.high if up else assumption.low
    points: list[float] = []
    value = assumption.today
    while value != end:
        value = min(value * STEP, end) if up else max(value / STEP, end)
        if assumption.whole:
            value = round(value)
        if max(value / end, end / value) < STEP**0.5:  # what would be left is less than half a step
            value = end
        points.append(value)
    return points


def _sentence(assumption: Assumption, up: bool, value: float | None, last: float, to: str | None, here: str | None) -> str:
    phrase, now = assumption.told(last if value is None else value)
    if value is None:
        stays = "nobody is chosen either" if here is None else f"the choice stays {here}"
        return f"{'Up' if up else 'Down'} to {phrase} ({now}) {stays}."
    then = "no candidate would meet all requirements" if to is None else f"{to} would be chosen"
    return f"From {phrase} on ({now}) {then}." if up else f"At {phrase} or less ({now}) {then}."


def _unvaried(each: FixedAssumption) -> Flip:
    sentence = f"The {each.name} was not varied: {each.reason}."
    return Flip(each.name, "none", None, None, None, None, None, sentence)


def _named(candidate: str | None) -> str:
    return "nobody" if candidate is None else candidate
