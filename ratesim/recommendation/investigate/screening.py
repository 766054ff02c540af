"""The screening: every candidate once, first on a small part of the traffic, then on as much of it as is cheap.

The first look tells what a request of each candidate costs. Those that the compiled engine plays are looked at again, on all
of the traffic or on the part that their share of the budget allows, because the order of candidates on a small part is not
that on all of it (`ratesim.benchmarks.excerpts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratesim.recommendation.assess.assessor import AssessedRuns, Assessor
from ratesim.recommendation.investigate.budget import MOST, RunCost, run_cost
from ratesim.recommendation.investigate.cluster_size import sized_cluster
from ratesim.recommendation.investigate.full_runs import run_table
from ratesim.simulation.experiments.adaptive import AdaptiveRuns
from ratesim.simulation.experiments.job import is_refused, jobs_of

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["FIRST_LOOK", "FOR_SCREENING", "Screening", "screen"]

FIRST_LOOK = 1_000  # requests of the part on which all candidates are looked at first
FOR_SCREENING = 0.1  # share of the seconds that the second look may take beside them
WORTH = 2  # times as many requests, at least, for a second look


@dataclass(frozen=True)
class Screening:
    """What the screening shows.

    Attributes
    ----------
    candidates
        All candidates, and a larger cluster where the load needs one.
    runs
        One run of each of them.
    costs
        The cost of a request of each, by its name.
    part
        The traffic of those runs.
    first, on_first
        The traffic of the first look, and the names of those that SimPy has to play, whose runs are of that.
    """

    candidates: tuple[Candidate, ...]
    runs: AssessedRuns
    costs: dict[str, RunCost]
    part: Scenario
    first: Scenario
    on_first: tuple[str, ...]


def screen(
    assessor: Assessor,
    cut: Callable[[int], Scenario],
    requests: int,
    candidates: Sequence[Candidate],
    seconds: float,
    show_keys: bool,
) -> AdaptiveRuns[Screening]:
    """Run every candidate once.

    Parameters
    ----------
    assessor
        Judges the runs.
    cut
        Cuts the traffic to about so many requests.
    requests
        Of all of the traffic.
    candidates
        All that compete.
    seconds
        The budget of an investigation, of which the second look has a share.
    show_keys
        Whether keys of a log are named in full.
    """
    seed, profile = assessor.scenario.seed, assessor.profile
    first = part = cut(min(FIRST_LOOK, requests))
    is_whole = first == cut(requests)  # then these runs are also the first of those in full
    found = yield jobs_of(first, candidates, [seed], None, profile, detail=is_whole, show_keys=show_keys)
    rows = {each.name: row for each, row in zip(candidates, found, strict=True)}
    costs = {name: run_cost(row) for name, row in rows.items()}
    compiled = [each for each in candidates if costs[each.name].engine == "compiled"]
    more = _affordable([costs[each.name] for each in compiled], requests, seconds)
    again: set[str] = set()
    if more >= WORTH * max(row["requests"] for row in rows.values()):
        part = cut(more)
        found = yield jobs_of(part, compiled, [seed], None, profile, engine="compiled")
        for each, row in zip(compiled, found, strict=True):
            if is_refused(row):
                costs[each.name] = costs[each.name].in_simpy(row["engine_reason"])
            else:
                rows[each.name] = row
                again.add(each.name)
    screened = assessor.assess(run_table(rows.items()))
    larger = yield from sized_cluster(assessor, part, candidates, screened.capacities)
    if larger is not None:
        candidate, row = larger
        candidates = (*candidates, candidate)
        rows[candidate.name], costs[candidate.name] = row, run_cost(row)
        again.add(candidate.name)
        screened = assessor.assess(run_table(rows.items()))
    on_first = tuple(name for name in rows if name not in again) if part != first else ()
    return Screening(tuple(candidates), screened, costs, part, first, on_first)


def _affordable(costs: Sequence[RunCost], requests: int, seconds: float) -> int:
    """Return the requests that one run of each may have, within the share of the seconds; 0 for none."""
    if not costs:
        return 0
    return min(requests, MOST, int(FOR_SCREENING * seconds / sum(each.seconds for each in costs)))
