"""The number of primaries that a load needs, found by runs, since batches are fuller the fewer primaries there are.

A cluster of the number that the last run speaks for is tried next, until a cluster has as many as its own run asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ratesim.recommendation.assess.capacity import Capacity
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import jobs_of
from ratesim.simulation.scenario.candidates import cluster_candidate

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessor import Assessor
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["sized_cluster"]

ROUNDS = 8
MOST = 1000  # primaries of a candidate


def sized_cluster(
    assessor: Assessor, small: Scenario, candidates: Sequence[Candidate], capacities: dict[str, Capacity]
) -> AdaptiveRuns[tuple[Candidate, Row] | None]:
    """Return a cluster that is large enough, with its run, where no cluster among the candidates is.

    Parameters
    ----------
    assessor
        Works out capacities.
    small
        The part of the traffic on which candidates are screened.
    candidates, capacities
        The candidates, and what the screening says of each. Unless a cluster of the default kind is among them, none is
        made.
    """
    default = [each for each in candidates if each.primaries and each == cluster_candidate(each.primaries)]
    needed = max((_needed(capacities[each.name]) for each in default if each.name in capacities), default=0)
    tried = max((each.primaries or 0 for each in default), default=0)
    for _ in range(ROUNDS):
        if not tried < needed <= MOST:
            return None
        tried = needed
        candidate = cluster_candidate(tried)
        (row,) = yield jobs_of(small, [candidate], [small.seed], None, assessor.profile)
        needed = _needed(assessor.assess(pd.DataFrame([row])).capacities[candidate.name])
        if needed <= tried:
            return candidate, row
    return None


def _needed(capacity: Capacity) -> int:
    """Return the primaries that a run asks for; 0 where no number carries the hottest key."""
    return max(capacity.servers_by_processor, capacity.servers_by_memory) if capacity.hot_key_fits else 0
