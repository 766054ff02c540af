"""Scenarios: the question of a simulation as pydantic models, read from one TOML file.

Use `scenario.Scenario`, `scenario.Candidate`, `grid.variants` and `candidates.default_candidates`; the other modules hold
one table of the file each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.scenario.candidates import default_candidates
    from ratesim.simulation.scenario.clients import ClientsSpec
    from ratesim.simulation.scenario.deployment import Deployment
    from ratesim.simulation.scenario.faults import Fault
    from ratesim.simulation.scenario.grid import Variant, parse_grid, parse_seeds, variants
    from ratesim.simulation.scenario.scenario import Candidate, LimitSpec, Requirements, Scenario, ScenarioError
    from ratesim.simulation.scenario.workload import WorkloadSpec

__all__ = [
    "Candidate",
    "ClientsSpec",
    "Deployment",
    "Fault",
    "LimitSpec",
    "Requirements",
    "Scenario",
    "ScenarioError",
    "Variant",
    "WorkloadSpec",
    "default_candidates",
    "parse_grid",
    "parse_seeds",
    "variants",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "default_candidates": "ratesim.simulation.scenario.candidates",
        "ClientsSpec": "ratesim.simulation.scenario.clients",
        "Deployment": "ratesim.simulation.scenario.deployment",
        "Fault": "ratesim.simulation.scenario.faults",
        "Variant": "ratesim.simulation.scenario.grid",
        "parse_grid": "ratesim.simulation.scenario.grid",
        "parse_seeds": "ratesim.simulation.scenario.grid",
        "variants": "ratesim.simulation.scenario.grid",
        "Candidate": "ratesim.simulation.scenario.scenario",
        "LimitSpec": "ratesim.simulation.scenario.scenario",
        "Requirements": "ratesim.simulation.scenario.scenario",
        "Scenario": "ratesim.simulation.scenario.scenario",
        "ScenarioError": "ratesim.simulation.scenario.scenario",
        "WorkloadSpec": "ratesim.simulation.scenario.workload",
    },
)
