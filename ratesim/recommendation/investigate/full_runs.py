"""The runs of the contenders in full: on all of the traffic, or on as much of it as the budget allows, over several seeds.

A contender that the compiled engine plays is nearly always run on all of it. Those of which the budget allows a part only,
because SimPy has to play them, share one part, the busiest, so that they meet the same requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ratesim.recommendation.assess.pareto import best, rank
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.investigate.budget import MOST, RunCost, allot
from ratesim.recommendation.investigate.contender_detail import ContenderDetail, contender_details
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import Job, is_refused, jobs_of

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment
    from ratesim.recommendation.assess.assessor import Assessor
    from ratesim.simulation.runner import Engine
    from ratesim.simulation.scenario.scenario import Candidate, Preference, Scenario

__all__ = ["FULL", "FullRuns", "full_runs", "run_table"]

FULL = 50_000  # requests of a run in full, at least, or all that there are, whatever they take
REPLICATIONS = 24  # at most, of a candidate that is too close to call


@dataclass(frozen=True)
class FullRuns:
    """The contenders in full.

    Attributes
    ----------
    rows
        One for each contender and seed.
    details
        Percentiles, the run over time, and keys of each contender, by its name.
    traffic
        All of the traffic, or its busiest `MOST` requests.
    part
        The busiest part of it, on which those in `reasons` were run; the same where there are none.
    reasons
        Why contenders were run on a part, by their names: what has to be played by SimPy, and why.
    costs
        The cost of a request of each contender, by its name.
    """

    rows: pd.DataFrame
    details: dict[str, ContenderDetail]
    traffic: Scenario
    part: Scenario
    reasons: dict[str, str]
    costs: dict[str, RunCost]


@dataclass(frozen=True)
class _Lot:
    """A contender, what it is run on, the engine that has to play it, and the nominal seconds of one run."""

    candidate: Candidate
    scenario: Scenario
    engine: Engine
    seconds: float
    is_short: bool


def full_runs(
    assessor: Assessor,
    cut: Callable[[int], Scenario],
    requests: int,
    contenders: Sequence[Candidate],
    costs: Mapping[str, RunCost],
    seconds: float,
    show_keys: bool,
) -> AdaptiveRuns[FullRuns]:
    """Run every contender over the scenario's replications, and those that are too close to call over more.

    A run of more than `FULL` requests that the compiled engine refuses is not made by SimPy as it is: its contender joins
    those that are run on a part.

    Parameters
    ----------
    assessor
        Judges the runs.
    cut
        Cuts the traffic to about so many requests.
    requests
        Of all of the traffic.
    contenders, costs
        The contenders, and the cost of a request of each, by its name.
    seconds
        Nominal seconds for the runs of all of them.
    show_keys
        Whether keys of a log are named in full.
    """
    costs, replications, prefer = dict(costs), assessor.scenario.replications, assessor.scenario.requirements.prefer
    counts = dict.fromkeys(costs, replications)
    largest = min(requests, MOST)
    traffic = cut(largest)
    while True:
        amounts = allot({name: replications * cost.seconds for name, cost in costs.items()}, seconds, FULL, largest)
        smallest = min(amounts.values())
        part = traffic if smallest == largest else cut(smallest)
        lots = []
        for each in contenders:
            cost, on_all = costs[each.name], amounts[each.name] == largest or part == traffic
            size = largest if on_all else smallest
            engine: Engine = "compiled" if cost.engine == "compiled" and size > FULL else "auto"
            lots.append(_Lot(each, traffic if on_all else part, engine, size * cost.seconds, size <= FULL))
        jobs = [job for lot in lots for job in _jobs(lot, assessor, counts[lot.candidate.name], show_keys)]
        in_turn = sorted(jobs, key=lambda job: (job.seed, job.workload))  # a trace is made once for all that have it
        found = dict(zip((job.key for job in in_turn), (yield in_turn), strict=True))
        runs = [(job.candidate.name, found[job.key]) for job in jobs]
        refused = {name: row["engine_reason"] for name, row in runs if is_refused(row)}
        if refused:
            costs |= {name: costs[name].in_simpy(reason) for name, reason in refused.items()}
            continue
        table = run_table(runs)
        assessed = assessor.assess(table).assessments
        unsure = {name for name in _unsure(assessed, prefer) if counts[name] < REPLICATIONS and replications > 1}
        spent = sum(counts[lot.candidate.name] * lot.seconds for lot in lots)
        granted = False
        for lot in lots:
            name = lot.candidate.name
            more = min(counts[name], REPLICATIONS - counts[name])
            if name in unsure and (lot.is_short or spent + more * lot.seconds <= seconds):
                spent += more * lot.seconds
                counts[name] += more
                granted = True
        if not granted:
            reasons = {lot.candidate.name: costs[lot.candidate.name].reason for lot in lots if lot.scenario != traffic}
            return FullRuns(table, contender_details(runs), traffic, part, reasons, costs)


def _jobs(lot: _Lot, assessor: Assessor, count: int, show_keys: bool) -> list[Job]:
    """List the first `count` replications of a contender."""
    seeds = range(lot.scenario.seed, lot.scenario.seed + count)
    shown: dict[str, Any] = {"detail": True, "show_keys": show_keys, "engine": lot.engine}
    return jobs_of(lot.scenario, [lot.candidate], seeds, None, assessor.profile, **shown)


def _unsure(assessments: Sequence[Assessment], prefer: Preference) -> list[str]:
    """Candidates whose confidence interval straddles a threshold and that would become the choice if they passed.

    The configuration in force is among them whenever its interval straddles one. Where the model's error straddles it, more
    seeds tell nothing.
    """
    chosen = best(assessments, prefer)
    first = () if chosen is None else rank(chosen, prefer)
    close = [each for each in assessments if not each.fails and each.undecided_by == {"seeds"}]
    return [each.candidate for each in close if not first or each.candidate == CURRENT or rank(each, prefer) < first]


def run_table(runs: Iterable[tuple[str, Row]]) -> pd.DataFrame:
    """One row for each run, under the name that its candidate has here: the same run may have been made under another.

    Details are no columns of it.
    """
    table = pd.DataFrame([{**row, "candidate": name} for name, row in runs])
    return table.drop(columns="detail", errors="ignore")
