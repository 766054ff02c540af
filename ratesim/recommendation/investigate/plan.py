"""The plan of an investigation: which runs are made, in which order, until enough is known to choose.

1. Screening: every candidate once, on a small part of the traffic; and a larger cluster, where the load needs one.
2. In full: the contenders, over several seeds; and more of those that are too close to call, while that may move the choice.
3. Faults, of every contender.
4. Of the choice: how much more load it bears, and which assumption would make it another.
5. Where the traffic is so long that all this was done on a part of it: the choice, once, on all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.assessor import AssessedRuns, Assessor
from ratesim.recommendation.assess.pareto import best, rank
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.current import CURRENT, with_current
from ratesim.recommendation.investigate.cluster_size import sized_cluster
from ratesim.recommendation.investigate.fault_impact import FaultImpact, blast_radius, fault_impact, plan_fault_trials
from ratesim.recommendation.investigate.headroom import Headroom, headroom
from ratesim.recommendation.investigate.sampling import busiest_window, sample_keys
from ratesim.recommendation.investigate.sensitivity import Flip, sensitivity
from ratesim.server_url import redis_topology
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, gather
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["Findings", "Investigation", "Traffic", "estimated_requests", "investigate"]

SCREENED = 1_000  # requests of the part on which all candidates are looked at
FULL = 50_000  # requests in full: traffic that is longer is cut to its busiest
FAULTY = 2_000  # requests around a fault
LOADED = 10_000  # requests of a run at another load
ASSUMED = 2_000  # requests of a run under another assumption
CONTENDERS = 11
RIVALS = 3  # beside the choice, where assumptions are changed
HOPELESS = 0.5  # by what share requirements are missed on the small part, for a candidate to be out
REPLICATIONS = 24  # at most, of a candidate that is too close to call


@dataclass(frozen=True)
class Investigation:
    """The question that is to be decided.

    Attributes
    ----------
    scenario
        Traffic, limit, deployment and requirements.
    candidates
        All that compete, with the configuration in force first where there is one.
    profile, prices
        Measured costs and unit prices.
    beyond
        Whether more load and other assumptions are tried as well. The choice itself does not rest on them.
    """

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    profile: Profile
    prices: Prices
    beyond: bool = True

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        *,
        current: Candidate | None = None,
        profile: Profile | None = None,
        prices: Prices | None = None,
        beyond: bool = True,
    ) -> Investigation:
        """Resolve the candidates of a scenario, and the profile and prices that apply unless others are given.

        Parameters
        ----------
        current
            The configuration in force. It competes, and the scenario then names all candidates.
        """
        candidates = default_candidates(scenario)
        if current is not None:
            candidates = with_current(current, candidates, scenario.deployment)
            scenario = scenario.model_copy(update={"candidates": candidates})
        return cls(scenario, candidates, profile or Profile.load(), prices or Prices.load(), beyond)


@dataclass(frozen=True)
class Traffic:
    """The traffic of a scenario, read once.

    Attributes
    ----------
    trace
        All of it.
    summary
        Its `Trace.summary`.
    log
        The log that it was read from; None for a recipe.
    """

    trace: Trace
    summary: Mapping[str, float]
    log: Trace | None

    @classmethod
    def of(cls, scenario: Scenario) -> Traffic:
        """Read the traffic of a scenario."""
        log = None if scenario.workload.log is None else scenario.workload.read()
        trace = scenario.trace(read=log)
        return cls(trace, {key: float(value) for key, value in trace.summary().items()}, log)

    def cut(self, part: Scenario) -> Trace:
        """Return the trace of a scenario whose traffic is a part of this."""
        return part.trace(read=self.log)


@dataclass(frozen=True)
class Findings:
    """What the runs of an investigation show.

    Attributes
    ----------
    screened
        One run of each candidate, on a small part of the traffic.
    results
        One run of each contender and seed.
    whole
        One run of the choice, and of the configuration in force, on all of the traffic, where `results` are of a part;
        else without rows.
    fault_impacts, headroom, flips
        What faults do to the contenders; how much more load the choice bears; which assumptions would change it.
    parts
        In words, what of the traffic was simulated, by what for.
    """

    screened: AssessedRuns
    results: AssessedRuns
    whole: AssessedRuns
    fault_impacts: tuple[FaultImpact, ...]
    headroom: tuple[Headroom, ...]
    flips: tuple[Flip, ...]
    parts: dict[str, str]


def investigate(investigation: Investigation, traffic: Traffic) -> AdaptiveRuns[Findings]:
    """Make the runs of an investigation. Raises what runs raise."""
    scenario, trace, profile = investigation.scenario, traffic.trace, investigation.profile
    assessor = Assessor(scenario, profile, investigation.prices, traffic.summary)
    cut = sample_keys if scenario.faults else busiest_window
    small, full = cut(scenario, trace, SCREENED), cut(scenario, trace, FULL)
    rows = yield jobs_of(small, investigation.candidates, [scenario.seed], None, profile)
    candidates = investigation.candidates
    screened = assessor.assess(_table(rows, (each.name for each in candidates)))
    larger = yield from sized_cluster(assessor, small, candidates, screened.capacities)
    if larger is not None:
        candidates = (*candidates, larger[0])
        screened = assessor.assess(_table([*rows, larger[1]], (each.name for each in candidates)))
    finalists = _contenders(candidates, screened.assessments)
    contenders = _with_variants(finalists, scenario.limit.variants)
    replicated = yield from _replicated(assessor, full, contenders)
    trial = plan_fault_trials(scenario, trace, FAULTY, traffic.cut)
    impacts = yield from fault_impact(contenders, trial, profile)
    results = assessor.assess(replicated, blast_radius(impacts))
    chosen, rivals = _leaders(results.assessments, contenders)
    name = chosen.name if any(each.passes for each in results.assessments) else None
    load: tuple[Headroom, ...] = ()
    flips: tuple[Flip, ...] = ()
    if investigation.beyond:
        load, flips = yield from _beyond(assessor, trace, chosen, name, rivals)
    whole = pd.DataFrame(columns=replicated.columns)
    if full.workload != scenario.workload:
        repeated = [each for each in contenders if each.name in (chosen.name, CURRENT)]
        rows = yield jobs_of(scenario, repeated, [scenario.seed], None, profile)
        whole = _table(rows, (each.name for each in repeated))
    cuts = {"screening": small, "in full": full, "faults": trial.scenario}
    parts = {name: _part(part, scenario, traffic) for name, part in cuts.items()}
    return Findings(screened, results, assessor.assess(whole), impacts, load, flips, parts)


def estimated_requests(investigation: Investigation, requests: int) -> int:
    """Estimate how many requests will be simulated, as a measure of progress.

    Parameters
    ----------
    requests
        Of the whole traffic.
    """
    scenario, candidates = investigation.scenario, len(investigation.candidates)
    names = min(candidates, CONTENDERS)
    total = candidates * min(SCREENED, requests)
    total += names * scenario.replications * min(FULL, requests)
    total += names * (1 + len(scenario.faults or range(3))) * min(FAULTY, requests)
    if investigation.beyond:
        total += 12 * LOADED + 60 * min(ASSUMED, requests)
    return total + (requests if requests > FULL else 0)


def _beyond(
    assessor: Assessor, trace: Trace, chosen: Candidate, name: str | None, rivals: Sequence[Candidate]
) -> AdaptiveRuns[tuple[tuple[Headroom, ...], tuple[Flip, ...]]]:
    """More load, and other assumptions. name: of the choice, None where nobody passes and `chosen` is only the nearest."""
    steady = assessor.scenario.model_copy(update={"faults": ()})

    def choose(scenario: Scenario, rows: list[Row]) -> str | None:
        runs = assessor.assess(_table(rows, (each.name for each in rivals)), scenario=scenario)
        winner = best(runs.assessments)
        return None if winner is None else winner.candidate

    load, flips = yield from gather(
        headroom(steady, chosen, assessor.profile, trace, requests=LOADED),
        sensitivity(steady, rivals, name, assessor.profile, choose, trace, requests=ASSUMED),
    )
    return load, flips


def _replicated(assessor: Assessor, full: Scenario, contenders: Sequence[Candidate]) -> AdaptiveRuns[pd.DataFrame]:
    """Replications of all, and twice as many of those of which more might move the choice, until none does."""
    counts = dict.fromkeys((each.name for each in contenders), full.replications)
    while True:
        jobs: list[Job] = []
        for each in contenders:
            seeds = range(full.seed, full.seed + counts[each.name])
            jobs += jobs_of(full, [each], seeds, None, assessor.profile)
        rows = yield jobs
        results = _table(rows, (job.candidate.name for job in jobs))
        unsure = [name for name in _unsure(assessor.assess(results).assessments) if counts[name] < REPLICATIONS]
        if not unsure or full.replications < 2:
            return results
        for name in unsure:
            counts[name] = min(2 * counts[name], REPLICATIONS)


def _unsure(assessments: Sequence[Assessment]) -> list[str]:
    """Candidates whose confidence interval straddles a threshold and that would become the choice if they passed.

    The configuration in force is among them whenever its interval straddles one. Where the model's error straddles it, more
    seeds tell nothing.
    """
    chosen = best(assessments)
    close = [each for each in assessments if not each.fails and each.undecided_by == {"seeds"}]
    return [each.candidate for each in close if chosen is None or each.candidate == CURRENT or rank(each) < rank(chosen)]


def _contenders(candidates: Sequence[Candidate], screened: Sequence[Assessment]) -> list[Candidate]:
    """All candidates, where they are few. Else the best of each kind and the cheapest of those that are not hopeless."""
    if len(candidates) <= CONTENDERS:
        return list(candidates)
    hopeful = sorted((each for each in screened if each.violation <= HOPELESS), key=rank)
    first: dict[tuple[str, str, str], Assessment] = {}
    for each in sorted(screened, key=lambda each: (not each.passes, each.violation, rank(each))):
        first.setdefault(_kind(each), each)
    names = dict.fromkeys(each.candidate for each in first.values())
    for each in hopeful:
        if len(names) < CONTENDERS:
            names[each.candidate] = None
    return [each for each in candidates if each.name in names]


def _with_variants(contenders: Sequence[Candidate], algorithms: Sequence[str]) -> list[Candidate]:
    """Add to the contenders each of them by these algorithms as well."""
    variants = list(contenders)
    for algorithm in algorithms:
        for each in contenders:
            variants.append(each.model_copy(update={"name": f"{each.name}, {algorithm}", "algorithm": algorithm}))
    return variants


def _kind(each: Assessment) -> tuple[str, str, str]:
    if each.candidate == CURRENT:  # competes whatever it is
        return CURRENT, "", ""
    url = StorageURL.parse(each.storage)
    if url.backend == "memory":
        return each.backend, "", each.routing
    place = "standby" if each.standby else "partitions"
    if url.backend == "redis":
        place = redis_topology(url.config.url)
    elif not each.standby and url.config.partition_strategy is None:
        place = "standalone"
    return each.backend, "" if url.hybrid is None else url.hybrid.consistency, "" if place == "standalone" else place


def _leaders(assessments: Sequence[Assessment], contenders: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
    """Return the choice, or where there is none the nearest to one; and it with its rivals, in the order of rank."""
    by_name = {each.name: each for each in contenders}
    chosen = best(assessments) or min(assessments, key=lambda each: (each.violation, rank(each)))
    nearest_first = sorted(assessments, key=lambda each: (each.violation > 0.0, each.violation, rank(each)))
    others: dict[str, Assessment] = {}
    for each in nearest_first:  # one of each backend: a variant of the same one would teach little
        if each.backend != chosen.backend:
            others.setdefault(each.backend, each)
    rivals = [chosen, *others.values()][: RIVALS + 1]
    return by_name[chosen.candidate], [by_name[each.candidate] for each in rivals]


def _table(rows: Sequence[Row], names: Iterable[str]) -> pd.DataFrame:
    """One row for each run, under the name that its candidate has here: the same run may have been made under another."""
    return pd.DataFrame([{**row, "candidate": name} for row, name in zip(rows, names, strict=True)])


def _part(cut: Scenario, scenario: Scenario, traffic: Traffic) -> str:
    """In words, what of the traffic is left in a scenario that was cut."""
    if cut.workload == scenario.workload:
        return "all of it"
    part, whole = traffic.cut(cut), traffic.trace
    keys, all_keys = (len(np.unique(each.key)) for each in (part, whole))
    of_keys = f", of {keys:,} of {all_keys:,} keys" if cut.workload.scale < 0.99 * scenario.workload.scale else ""
    return f"{len(part):,} of {len(whole):,} requests, within {part.duration:,.0f} of {whole.duration:,.0f} s{of_keys}"
