"""The investigation: which runs are made, in which order, until enough is known to choose.

1. Screening: every candidate once, on a small part of the traffic.
2. In full: the contenders, over several seeds; and more of those that are too close to call, while that may move the choice.
3. Faults, of every contender.
4. Of the choice: how much more load it bears, and which assumption would make it another.
5. Where the traffic is so long that all this was done on a part of it: the choice, once, on all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from ratesim.recommendation.assess.assessment import Assessment, assess
from ratesim.recommendation.assess.capacity import capacities
from ratesim.recommendation.assess.pareto import best, rank
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.investigate.fault_impact import FaultImpact, fault_impact, plan_fault_trials
from ratesim.recommendation.investigate.headroom import Headroom, headroom
from ratesim.recommendation.investigate.sampling import busiest_window, sample_keys
from ratesim.recommendation.investigate.sensitivity import Flip, sensitivity
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, gather
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["Findings", "Investigation", "assess_candidates", "estimated_requests", "investigate"]

SCREENED = 1_000  # requests of the part on which all candidates are looked at
FULL = 50_000  # requests in full: traffic that is longer is cut to its busiest
FAULTY = 2_000  # requests around a fault
LOADED = 10_000  # requests of a run at another load
ASSUMED = 2_000  # requests of a run under another assumption
CONTENDERS = 11
RIVALS = 3  # beside the choice, where assumptions are changed
HOPELESS = 0.5  # by what share requirements are missed on the small part, for a candidate to be out
REPLICATIONS = 24  # at most, of a candidate that is too close to call


class AssessmentContext(Protocol):
    """By what results are assessed: of something that is being asked, or of a study that is finished."""

    @property
    def scenario(self) -> Scenario: ...
    @property
    def profile(self) -> Profile: ...
    @property
    def prices(self) -> Prices: ...
    @property
    def summary(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Investigation:
    """What is to be decided. trace: of the scenario. cut: makes the trace of the scenario when it was cut.

    summary: of the trace (`Trace.summary`), by which capacities are worked out. beyond: whether to ask also for more load
    and under other assumptions, on which the choice itself does not rest."""

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    profile: Profile
    prices: Prices
    trace: Trace
    summary: Mapping[str, float]
    cut: Callable[[Scenario], Trace]
    beyond: bool = True


@dataclass(frozen=True)
class Findings:
    """What was found. screened: one row for each candidate, on the small part. results: one for each contender and seed.
    whole: of the choice, and of what is in force, on all of the traffic, where `results` are of a part; else without rows.
    parts: in words, what of the traffic was simulated, by what for."""

    screened: pd.DataFrame
    results: pd.DataFrame
    whole: pd.DataFrame
    fault_impacts: tuple[FaultImpact, ...]
    headroom: tuple[Headroom, ...]
    flips: tuple[Flip, ...]
    parts: dict[str, str]


def investigate(asked: Investigation) -> AdaptiveRuns[Findings]:
    """Raises what runs raise."""
    scenario, trace = asked.scenario, asked.trace
    cut = sample_keys if scenario.faults else busiest_window
    small, full = cut(scenario, trace, SCREENED), cut(scenario, trace, FULL)
    rows = yield jobs_of(small, asked.candidates, [scenario.seed], None, asked.profile)
    screened = _table(rows, (each.name for each in asked.candidates))
    contenders = _varied(_contenders(asked, assess_candidates(screened, asked)), scenario.limit.variants)
    results = yield from _replicated(asked, full, contenders)
    place = plan_fault_trials(scenario, trace, FAULTY, asked.cut)
    harms = yield from fault_impact(contenders, place, asked.profile)
    found = assess_candidates(results, asked, harms)
    chosen, rivals = _leaders(found, contenders)
    name = chosen.name if any(each.passes for each in found) else None
    load: tuple[Headroom, ...] = ()
    flips: tuple[Flip, ...] = ()
    if asked.beyond:
        load, flips = yield from _beyond(asked, chosen, name, rivals)
    whole = pd.DataFrame(columns=results.columns)
    if full.workload != scenario.workload:
        tried = [each for each in contenders if each.name in (chosen.name, CURRENT)]
        rows = yield jobs_of(scenario, tried, [scenario.seed], None, asked.profile)
        whole = _table(rows, (each.name for each in tried))
    parts = {"screening": _part(small, asked), "in full": _part(full, asked), "faults": _part(place.scenario, asked)}
    return Findings(screened, results, whole, harms, load, flips, parts)


def estimated_requests(asked: Investigation) -> int:
    """Requests that will be simulated, about: what progress is measured by."""
    requests, names = len(asked.trace), min(len(asked.candidates), CONTENDERS)
    found = len(asked.candidates) * min(SCREENED, requests)
    found += names * asked.scenario.replications * min(FULL, requests)
    found += names * (1 + len(asked.scenario.faults or range(3))) * min(FAULTY, requests)
    if asked.beyond:
        found += 12 * LOADED + 60 * min(ASSUMED, requests)
    return found + (requests if requests > FULL else 0)


def assess_candidates(
    results: pd.DataFrame, asked: AssessmentContext, harms: Sequence[FaultImpact] = (), scenario: Scenario | None = None
) -> tuple[Assessment, ...]:
    """The candidates of a table of results, with what they cost and what faults did to them."""
    scenario = scenario or asked.scenario
    capacity = capacities(results, scenario, asked.summary, asked.prices, asked.profile)
    costs = {name: each.price.per_month for name, each in capacity.items()}
    blasts: dict[str, float] = {}
    for each in harms:
        if each.requests:
            blasts[each.candidate] = max(blasts.get(each.candidate, 0.0), each.affected_share)
    found = assess(results, scenario.requirements, scenario.deployment.nodes, costs)
    return tuple(replace(each, blast_radius=blasts.get(each.candidate)) for each in found)


def _beyond(
    asked: Investigation, chosen: Candidate, name: str | None, rivals: Sequence[Candidate]
) -> AdaptiveRuns[tuple[tuple[Headroom, ...], tuple[Flip, ...]]]:
    """More load, and other assumptions. name: of the choice, None where nobody passes and `chosen` is only the nearest."""
    steady = asked.scenario.model_copy(update={"faults": ()})

    def choose(scenario: Scenario, rows: list[Row]) -> str | None:
        found = best(assess_candidates(_table(rows, (each.name for each in rivals)), asked, scenario=scenario))
        return None if found is None else found.candidate

    load, flips = yield from gather(
        headroom(steady, chosen, asked.profile, asked.trace, requests=LOADED),
        sensitivity(steady, rivals, name, asked.profile, choose, asked.trace, requests=ASSUMED),
    )
    return load, flips


def _replicated(asked: Investigation, full: Scenario, contenders: Sequence[Candidate]) -> AdaptiveRuns[pd.DataFrame]:
    """Replications of all, and twice as many of those of which more might move the choice, until none does."""
    counts = dict.fromkeys((each.name for each in contenders), full.replications)
    while True:
        jobs: list[Job] = []
        for each in contenders:
            seeds = range(full.seed, full.seed + counts[each.name])
            jobs += jobs_of(full, [each], seeds, None, asked.profile)
        rows = yield jobs
        results = _table(rows, (job.candidate.name for job in jobs))
        unsure = [name for name in _unsure(assess_candidates(results, asked)) if counts[name] < REPLICATIONS]
        if not unsure or full.replications < 2:
            return results
        for name in unsure:
            counts[name] = min(2 * counts[name], REPLICATIONS)


def _unsure(assessments: Sequence[Assessment]) -> list[str]:
    """Those that fail nothing for sure, and would be chosen if they passed, or are in force."""
    chosen = best(assessments)
    close = [each for each in assessments if not each.passes and not each.fails]
    return [each.candidate for each in close if chosen is None or each.candidate == CURRENT or rank(each) < rank(chosen)]


def _contenders(asked: Investigation, screened: Sequence[Assessment]) -> list[Candidate]:
    """All, where they are few. Else the best of each kind, so that every kind is shown, and those of least cost that are not
    hopeless."""
    if len(asked.candidates) <= CONTENDERS:
        return list(asked.candidates)
    hopeful = sorted((each for each in screened if each.violation <= HOPELESS), key=rank)
    first: dict[tuple[str, str, str], Assessment] = {}
    for each in sorted(screened, key=lambda each: (not each.passes, each.violation, rank(each))):
        first.setdefault(_kind(each), each)
    kept = dict.fromkeys(each.candidate for each in first.values())
    for each in hopeful:
        if len(kept) < CONTENDERS:
            kept[each.candidate] = None
    return [each for each in asked.candidates if each.name in kept]


def _varied(contenders: Sequence[Candidate], algorithms: Sequence[str]) -> list[Candidate]:
    """The contenders, and each of them by these algorithms as well."""
    found = list(contenders)
    for algorithm in algorithms:
        for each in contenders:
            found.append(each.model_copy(update={"name": f"{each.name}, {algorithm}", "algorithm": algorithm}))
    return found


def _kind(each: Assessment) -> tuple[str, str, str]:
    if each.candidate == CURRENT:  # competes whatever it is
        return CURRENT, "", ""
    hybrid = StorageURL.parse(each.storage).hybrid
    return each.backend, "" if hybrid is None else hybrid.consistency, each.routing if each.backend == "memory" else ""


def _leaders(assessments: Sequence[Assessment], contenders: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
    """The choice, or where there is none the nearest to one; and it with its rivals, in the order of rank."""
    by_name = {each.name: each for each in contenders}
    chosen = best(assessments) or min(assessments, key=lambda each: (each.violation, rank(each)))
    near = sorted(assessments, key=lambda each: (each.violation > 0.0, each.violation, rank(each)))
    others: dict[str, Assessment] = {}
    for each in near:  # one of each backend: a variant of the same one would teach little
        if each.backend != chosen.backend:
            others.setdefault(each.backend, each)
    rivals = [chosen, *others.values()][: RIVALS + 1]
    return by_name[chosen.candidate], [by_name[each.candidate] for each in rivals]


def _table(rows: Sequence[Row], names: Iterable[str]) -> pd.DataFrame:
    """One row for each run, under the name that its candidate has here: a run that was found may have had another."""
    return pd.DataFrame([{**row, "candidate": name} for row, name in zip(rows, names, strict=True)])


def _part(cut: Scenario, asked: Investigation) -> str:
    """In words, what of the traffic is left in a scenario that was cut."""
    if cut.workload == asked.scenario.workload:
        return "all of it"
    kept, whole = asked.cut(cut), asked.trace
    keys, all_keys = (len(np.unique(each.key)) for each in (kept, whole))
    of_keys = f", of {keys:,} of {all_keys:,} keys" if cut.workload.scale < 0.99 * asked.scenario.workload.scale else ""
    return f"{len(kept):,} of {len(whole):,} requests, within {kept.duration:,.0f} of {whole.duration:,.0f} s{of_keys}"
