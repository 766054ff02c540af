"""`Assessor`: holds a table of runs against a scenario's requirements and prices, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ratesim.recommendation.assess.assessment import Assessment, assess
from ratesim.recommendation.assess.capacity import Capacity, capacities

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.recommendation.assess.prices import Prices
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["AssessedRuns", "Assessor"]


@dataclass(frozen=True)
class AssessedRuns:
    """A table of runs, and what follows from it.

    Attributes
    ----------
    rows
        One row for each candidate and seed, as of `RunResult.row`.
    assessments
        One for each candidate, in the order of the rows.
    capacities
        What each candidate needs and costs, by its name.
    """

    rows: pd.DataFrame
    assessments: tuple[Assessment, ...]
    capacities: dict[str, Capacity]


@dataclass(frozen=True)
class Assessor:
    """What a table of runs is held against.

    Attributes
    ----------
    scenario
        Its requirements and deployment.
    profile
        Measured costs, of which the memory of a key is part, and the model's error.
    prices
        Unit prices.
    summary
        Rates and key counts of the whole traffic (`Trace.summary`), from which capacities follow.
    """

    scenario: Scenario
    profile: Profile
    prices: Prices
    summary: Mapping[str, float]

    def assess(
        self,
        rows: pd.DataFrame,
        blast_radius: Mapping[str, float] | None = None,
        scenario: Scenario | None = None,
    ) -> AssessedRuns:
        """Assess the candidates of a table of runs.

        Parameters
        ----------
        rows
            The runs; none are fine.
        blast_radius
            What faults do to each candidate, where they were tried.
        scenario
            A variant of the scenario, if the runs are of one.
        """
        scenario, worst = scenario or self.scenario, blast_radius or {}
        needed = capacities(rows, scenario, self.summary, self.prices, self.profile)
        costs = {name: each.price.per_month for name, each in needed.items()}
        plain = assess(rows, scenario.requirements, scenario.deployment.nodes, costs, self.profile)
        assessments = tuple(
            replace(
                each,
                blast_radius=worst.get(each.candidate),
                topology=needed[each.candidate].topology,
                servers=needed[each.candidate].servers,
                replicas=needed[each.candidate].replicas,
                standby=needed[each.candidate].standby,
            )
            for each in plain
        )
        return AssessedRuns(rows, assessments, needed)
