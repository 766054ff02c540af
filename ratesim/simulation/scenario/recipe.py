"""A recipe that was learned from a log, as the `[workload]` table of a scenario and in the place of a scenario's log."""

from __future__ import annotations

import numpy as np

from ratesim.simulation.scenario.fields import StrictModel
from ratesim.simulation.scenario.scenario import Scenario
from ratesim.simulation.scenario.toml_writer import toml_text
from ratesim.simulation.scenario.workload import CUTS, WorkloadSpec
from traffic import Tenants
from traffic.fit import fit

__all__ = ["recipe_scenario", "recipe_toml"]


class _Recipe(StrictModel):
    workload: WorkloadSpec


def recipe_toml(recipe: Tenants) -> str:
    """Write a recipe as TOML: the `[workload]` table of a scenario, and a `[[workload.tenants]]` for each group of keys."""
    return toml_text(_Recipe(workload=WorkloadSpec.of(recipe)))


def recipe_scenario(scenario: Scenario, rng: np.random.Generator | None = None) -> Scenario:
    """Put a recipe in the place of a scenario's log. Its cuts (`busiest`, `speed`, `scale`, `head` and so on) stay.

    Parameters
    ----------
    scenario : Scenario
        A scenario with a log, which is read.
    rng : numpy.random.Generator, optional
        As for `Workload.fit`.

    Raises
    ------
    LogError, TraceError
        If the log cannot be read, or no recipe be learned from it.
    """
    was = scenario.workload
    cuts = {name: getattr(was, name) for name in CUTS & was.model_fields_set}
    workload = WorkloadSpec.of(fit(was.read(), rng)).model_copy(update=cuts)
    given = scenario.model_dump(exclude_unset=True) | {"workload": workload.model_dump(exclude_unset=True) | cuts}
    return Scenario.model_validate(given)
