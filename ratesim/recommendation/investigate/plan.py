"""The plan of an investigation: which runs are made, in which order, until enough is known to choose.

1. Screening: every candidate once, on a small part of the traffic, and again on as much of it as is cheap (`screening.py`);
   and a larger cluster, where the load needs one.
2. In full: the contenders, over several seeds, on all of the traffic, or as much of it as the budget allows; and more seeds
   of those that are too close to call, while that may move the choice.
3. Faults, of every contender.
4. Of the choice: how much more load it bears, and which assumption would make it another.
5. Where the choice was run on a part of the traffic: it, once, on all of it, if the budget allows that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ratesim.formatting import format_count, format_length
from ratesim.progress import Progress, no_progress
from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.assessor import AssessedRuns, Assessor
from ratesim.recommendation.assess.pareto import ORDERS, best, rank
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.current import CURRENT, with_current
from ratesim.recommendation.investigate.assumed import with_defaults
from ratesim.recommendation.investigate.budget import MOST, OF_A_REQUEST, SECONDS, RunCost
from ratesim.recommendation.investigate.contender_detail import ContenderDetail
from ratesim.recommendation.investigate.fault_impact import FaultImpact, blast_radius, fault_impact, plan_fault_trials
from ratesim.recommendation.investigate.full_runs import FULL, FullRuns, full_runs, run_table
from ratesim.recommendation.investigate.headroom import Headroom, headroom
from ratesim.recommendation.investigate.sampling import AT_MOST, busiest_window, sample_keys
from ratesim.recommendation.investigate.screening import FIRST_LOOK, FOR_SCREENING, Screening, screen
from ratesim.recommendation.investigate.sensitivity import Flip, sensitivity
from ratesim.server_url import redis_topology
from ratesim.simulation.analysis.alive_keys import AliveKeys
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, gather
from ratesim.simulation.experiments.job import jobs_of, share_log
from ratesim.simulation.kernel.kinds import covers
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Candidate, Preference, Scenario
    from traffic import Trace

__all__ = ["Findings", "Investigation", "Traffic", "choose_contenders", "estimated_requests", "investigate"]

LEFT_OUT = "left out"  # the part that names what was not simulated, and why, where there is such
FAULTY = 4_500  # requests around a fault, of which a quarter, at least, come during it
LOADED = 5_000  # requests of the part that is tried at other loads, at least; a run has up to twice as many
LOADS, FOR_LOADS = 30, 0.3  # runs at other loads, about, and their share of the seconds
MOST_LOADED = 5_000_000  # requests of such a run: with the trace that is made for it, some 400 bytes each
ALIKE = 8  # times today's load is tried on the same stretch, where the compiled engine plays it
ASSUMED = 1_000  # requests of the part that is tried under other assumptions, at least
ASSUMPTIONS, FOR_ASSUMPTIONS = 80, 0.4  # runs of each rival under other assumptions, about, and their share of the seconds
CONTENDERS = 11
RIVALS = 3  # beside the choice, where assumptions are changed
HOPELESS = 0.5  # by what share requirements are missed on the small part, for a candidate to be out


@dataclass(frozen=True)
class Investigation:
    """The question that is to be decided.

    Attributes
    ----------
    scenario
        Traffic, limit, deployment and requirements, with those that apply where nothing is said.
    candidates
        All that compete, with the configuration in force first where there is one.
    profile, prices
        Measured costs and unit prices.
    beyond
        Whether more load and other assumptions are tried as well. The choice itself does not rest on them.
    show_keys
        Whether the keys of a log are named in full.
    seconds
        The budget of the contenders' runs in full, in nominal seconds of one core.
    """

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    profile: Profile
    prices: Prices
    beyond: bool = True
    show_keys: bool = False
    seconds: float = SECONDS

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        *,
        current: Candidate | None = None,
        profile: Profile | None = None,
        prices: Prices | None = None,
        beyond: bool = True,
        keys: AliveKeys | None = None,
        show_keys: bool = False,
        seconds: float = SECONDS,
    ) -> Investigation:
        """Resolve the candidates of a scenario, and the requirements, the profile and the prices that apply unless given.

        Parameters
        ----------
        keys
            The keys of its traffic, where the scenario does not say how many must fit.
        current
            The configuration in force. It competes, and the scenario then names all candidates.
        """
        scenario = with_defaults(scenario, keys)
        candidates = default_candidates(scenario)
        if current is not None:
            candidates = with_current(current, candidates, scenario.deployment)
            scenario = scenario.model_copy(update={"candidates": candidates})
        return cls(scenario, candidates, profile or Profile.load(), prices or Prices.load(), beyond, show_keys, seconds)


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
    def of(cls, scenario: Scenario, tell: Progress = no_progress) -> Traffic:
        """Read the traffic of a scenario."""
        workload = scenario.workload
        stage = "making the traffic" if workload.log is None else f"reading {workload.log_name}"
        tell(0, 1, stage)

        def read(done: int, total: int) -> None:
            tell(0, 1, f"{stage}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

        log = None if workload.log is None else workload.read(read)
        if log is not None:
            tell(0, 1, f"{stage}: {log.provenance.lines:,} lines, {len(log):,} requests")
            log = share_log(scenario, log)
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
        One run of each candidate, on a part of the traffic.
    results
        One run of each contender and seed.
    whole
        One run of the choice, and of the configuration in force, on all of the traffic, where `results` are of a part;
        else without rows.
    fault_impacts, headroom, flips
        What faults do to the contenders; how much more load the choice bears; which assumptions would change it.
    parts
        In words, what of the traffic was simulated, by what for.
    details
        Percentiles, the run over time, and keys of each contender, by its name.
    """

    screened: AssessedRuns
    results: AssessedRuns
    whole: AssessedRuns
    fault_impacts: tuple[FaultImpact, ...]
    headroom: tuple[Headroom, ...]
    flips: tuple[Flip, ...]
    parts: dict[str, str]
    details: Mapping[str, ContenderDetail]


def investigate(
    investigation: Investigation, traffic: Traffic, enter: Callable[[str], None] = lambda stage: None
) -> AdaptiveRuns[Findings]:
    """Make the runs of an investigation. Raises what runs raise.

    Parameters
    ----------
    enter
        Called with the name of each stage as it begins.
    """
    scenario, trace, profile = investigation.scenario, traffic.trace, investigation.profile
    assessor = Assessor(scenario, profile, investigation.prices, traffic.summary)

    def cut(requests: int) -> Scenario:
        if scenario.faults:
            return sample_keys(scenario, trace, requests)
        return busiest_window(scenario, trace, requests, at_most=max(1.0, AT_MOST * FULL / requests))

    enter(f"screening {format_count(len(investigation.candidates), 'candidate')}")
    named, seconds = investigation.show_keys, investigation.seconds
    screening = yield from screen(assessor, cut, len(trace), investigation.candidates, seconds, named)
    screened = screening.runs
    finalists = choose_contenders(screening.candidates, screened.assessments)
    contenders = _with_variants(finalists, scenario.limit.variants)
    # A variant by another algorithm has as many events.
    costs = {each.name: screening.costs[own.name] for each, own in zip(contenders, cycle(finalists), strict=False)}
    enter(f"in full, {format_count(len(contenders), 'contender')}")
    full = yield from full_runs(assessor, cut, len(trace), contenders, costs, investigation.seconds, named)
    trial = plan_fault_trials(scenario, trace, FAULTY, traffic.cut)
    enter("with faults")
    impacts = yield from fault_impact(contenders, trial, profile, trial.scenario == full.traffic, named)
    results = assessor.assess(full.rows, blast_radius(impacts))
    chosen, rivals = _leaders(results.assessments, contenders, scenario.requirements.prefer)
    name = chosen.name if any(each.passes for each in results.assessments) else None
    parts = {"screening": _screened_part(screening, scenario, traffic), "in full": _full_part(full, scenario, traffic)}
    parts["faults"] = _part(trial.scenario, scenario, traffic)
    load: tuple[Headroom, ...] = ()
    flips: tuple[Flip, ...] = ()
    if investigation.beyond:
        enter("with more load, and other assumptions")
        steady = scenario.model_copy(update={"faults": ()})
        loaded, run = _loaded(full.costs[chosen.name], len(trace), investigation.seconds)
        assumed = _assumed([full.costs[each.name] for each in rivals], len(trace), investigation.seconds)
        parts["more load"] = _stretch(loaded, len(trace))
        parts["other assumptions"] = _stretch(assumed, len(trace))
        load, flips = yield from gather(
            headroom(steady, chosen, profile, trace, requests=run, part=loaded),
            _sensitivity(assessor, steady, rivals, name, trace, blast_radius(impacts), assumed),
        )
    whole = pd.DataFrame(columns=full.rows.columns)
    repeated = [each for each in contenders if each.name in (chosen.name, CURRENT) and each.name in full.reasons]
    if repeated and len(trace) <= MOST and _takes(full, repeated, len(trace)) <= investigation.seconds:
        enter("on all of the traffic")
        rows = yield jobs_of(scenario, repeated, [scenario.seed], None, profile)
        whole = run_table(zip((each.name for each in repeated), rows, strict=True))
    if left_out := _left_out(full, scenario, len(trace)):
        parts[LEFT_OUT] = left_out
    return Findings(screened, results, assessor.assess(whole), impacts, load, flips, parts, full.details)


def estimated_requests(investigation: Investigation, trace: Trace) -> int:
    """Estimate how many requests will be simulated, as a measure of progress."""
    scenario, candidates, requests = investigation.scenario, len(investigation.candidates), len(trace)
    names = min(candidates, CONTENDERS) * (1 + len(scenario.limit.variants))
    is_compiled = all(
        covers(scenario.with_algorithm(each.algorithm), each, investigation.profile, trace) is None
        for each in investigation.candidates
    )
    total = candidates * min(FIRST_LOOK, requests)
    if is_compiled:
        total += min(candidates * requests, int(FOR_SCREENING * investigation.seconds / OF_A_REQUEST["compiled"]))
    total += names * scenario.replications * (min(requests, MOST) if is_compiled else min(FULL, requests))
    total += names * (1 + len(scenario.faults or range(3))) * min(FAULTY, requests)
    if investigation.beyond:
        loaded, assumed = (requests, requests) if is_compiled else (2 * LOADED, min(2 * ASSUMED, requests))
        total += 12 * loaded + 60 * assumed
    return total


def _loaded(cost: RunCost, requests: int, seconds: float) -> tuple[int, int]:
    """Return the requests of the part that is tried at other loads, and of a run at most.

    Where the compiled engine plays the choice, the part is all of the traffic, or as much as the seconds allow at `ALIKE`
    times the load.
    """
    if cost.engine != "compiled":
        return min(LOADED, requests), 2 * LOADED
    run = max(2 * LOADED, min(ALIKE * requests, MOST_LOADED, int(FOR_LOADS * seconds / LOADS / cost.seconds)))
    return min(requests, max(LOADED, run // ALIKE)), run


def _assumed(costs: Sequence[RunCost], requests: int, seconds: float) -> int:
    """Return the requests that are tried under other assumptions: as `_loaded`, where all rivals are compiled."""
    if any(each.engine != "compiled" for each in costs):
        return min(ASSUMED, requests)
    most = int(FOR_ASSUMPTIONS * seconds / ASSUMPTIONS / sum(each.seconds for each in costs))
    return min(requests, MOST, max(ASSUMED, most))


def _sensitivity(
    assessor: Assessor,
    steady: Scenario,
    rivals: Sequence[Candidate],
    chosen: str | None,
    trace: Trace,
    worst: Mapping[str, float],
    requests: int,
) -> AdaptiveRuns[tuple[Flip, ...]]:
    """Other assumptions. chosen: the name of the choice, None where nobody passes.

    Blast radii, `worst`, are those of today: faults are not tried again under each assumption.
    """

    def choose(scenario: Scenario, rows: list[Row]) -> str | None:
        table = run_table(zip((each.name for each in rivals), rows, strict=True))
        winner = best(assessor.assess(table, worst, scenario).assessments, scenario.requirements.prefer)
        return None if winner is None else winner.candidate

    flips = yield from sensitivity(steady, rivals, chosen, assessor.profile, choose, trace, requests=2 * requests)
    return flips


def _takes(full: FullRuns, candidates: Iterable[Candidate], requests: int) -> float:
    """Return the nominal seconds of one run of each of these."""
    return sum(requests * full.costs[each.name].seconds for each in candidates)


def choose_contenders(candidates: Sequence[Candidate], screened: Sequence[Assessment]) -> list[Candidate]:
    """All candidates, where they are few. Else the best of each kind, and the first of those that are not hopeless.

    First by each preference in turn, whichever the scenario has: what another one would choose is then among the contenders.
    """
    if len(candidates) <= CONTENDERS:
        return list(candidates)
    first: dict[tuple[str, str, str], Assessment] = {}
    for each in sorted(screened, key=lambda each: (not each.passes, each.violation, rank(each))):
        first.setdefault(_kind(each), each)
    names = dict.fromkeys(each.candidate for each in first.values())
    hopeful = [each for each in screened if each.violation <= HOPELESS]
    orders = [sorted(hopeful, key=partial(rank, prefer=prefer)) for prefer in ORDERS]
    for each in (each for nexts in zip(*orders, strict=True) for each in nexts):
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


def _leaders(
    assessments: Sequence[Assessment], contenders: Sequence[Candidate], prefer: Preference
) -> tuple[Candidate, list[Candidate]]:
    """Return the choice, or where there is none the nearest to one; and it with its rivals, in the order of rank."""
    by_name = {each.name: each for each in contenders}
    nearest_first = sorted(assessments, key=lambda each: (each.violation > 0.0, each.violation, rank(each, prefer)))
    chosen = best(assessments, prefer) or min(assessments, key=lambda each: (each.violation, rank(each, prefer)))
    others: dict[str, Assessment] = {}
    for each in nearest_first:  # one of each backend: a variant of the same one would teach little
        if each.backend != chosen.backend:
            others.setdefault(each.backend, each)
    rivals = [chosen, *others.values()][: RIVALS + 1]
    return by_name[chosen.candidate], [by_name[each.candidate] for each in rivals]


def _part(cut: Scenario, scenario: Scenario, traffic: Traffic) -> str:
    """In words, what of the traffic is left in a scenario that was cut."""
    if cut.workload == scenario.workload:
        return "all of it"
    part, whole = traffic.cut(cut), traffic.trace
    keys, all_keys = (len(np.unique(each.key)) for each in (part, whole))
    of_keys = f", of {keys:,} of {all_keys:,} keys" if cut.workload.scale < 0.99 * scenario.workload.scale else ""
    return f"{len(part):,} of {len(whole):,} requests, within {part.duration:,.0f} of {whole.duration:,.0f} s{of_keys}"


def _screened_part(screening: Screening, scenario: Scenario, traffic: Traffic) -> str:
    """In words, what of the traffic the candidates were screened on."""
    most = _part(screening.part, scenario, traffic)
    if not screening.on_first:
        return most
    most = f"all {len(traffic.trace):,} requests" if most == "all of it" else most
    few = format_count(len(screening.on_first), "candidate")
    return f"{most}; {few} that SimPy has to play: on {_part(screening.first, scenario, traffic)}"


def _full_part(full: FullRuns, scenario: Scenario, traffic: Traffic) -> str:
    """In words, what of the traffic the contenders were run on."""
    most = _part(full.traffic, scenario, traffic)
    if not full.reasons:
        return most
    part = _part(full.part, scenario, traffic)
    if len(full.reasons) == len(full.costs):
        return part
    most = f"all {len(traffic.trace):,} requests" if most == "all of it" else most
    return f"{most}; {', '.join(full.reasons)}: on {part}"


def _stretch(requests: int, whole: int) -> str:
    """In words, what of the traffic is tried at another load, or under another assumption."""
    if requests >= whole:
        return "all of it"
    return f"about {requests:,} requests of the busiest stretch, or more where the limit's period takes that"


def _left_out(full: FullRuns, scenario: Scenario, requests: int) -> str:
    """Say which contenders were not simulated on all of the traffic, what that would have taken, and why; "" if all were."""
    said = []
    if full.traffic.workload != scenario.workload:
        said.append(f"a run of more than {MOST:,} requests would take more than 4 GB of memory")
    for reason in dict.fromkeys(full.reasons.values()):
        names = [name for name, why in full.reasons.items() if why == reason]
        seconds = scenario.replications * requests * max(full.costs[name].seconds for name in names)
        because = f", since {reason}" if reason else ""
        said.append(f"all of it would take {', '.join(names)} some {format_length(seconds)} of one core each{because}")
    return "; ".join(said)
