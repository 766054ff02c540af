"""The scenario that a notebook's parameters ask for: one by its name or file, or a log, with some of it said otherwise.

A parameter that is empty, or 0, leaves what the scenario says.
"""

from __future__ import annotations

from typing import Any

from ratesim.pages.log_traffic import LogFields
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError, log_tables

__all__ = ["scenario_from_parameters"]


def scenario_from_parameters(
    scenario: str = "quickstart",
    limit: str = "",
    nodes: int = 0,
    network: str = "",
    **log_fields: str,
) -> Scenario:
    """Build a scenario from the parameters of a notebook.

    Parameters
    ----------
    scenario
        A name or a file.
    limit
        A limit, such as "100/minute".
    nodes
        API nodes.
    network
        A name in `simulation.network.links.PRESETS`.
    log_fields
        The fields of `LogFields`. A log replaces the traffic of the scenario. Without one, they are of the scenario's log.

    Raises
    ------
    ScenarioError
        The parameters are invalid.
    """
    fields = LogFields(**log_fields)
    found = Scenario.load(scenario)
    if fields.log or fields.given() or limit or nodes or network:
        found = _changed(found, scenario, fields, limit, nodes, network)
    return found


def _changed(loaded: Scenario, scenario: str, fields: LogFields, limit: str, nodes: int, network: str) -> Scenario:
    data: dict[str, Any] = loaded.model_dump(exclude_unset=True)
    if fields.log:
        if not limit:
            raise ScenarioError("limit: say what is allowed to each key of the log, such as 100/minute")
        data |= log_tables([fields.log])
    said: dict[tuple[str, str], Any] = {("workload", name): value for name, value in fields.given().items()}
    said |= {("limit", "rate"): limit, ("deployment", "nodes"): nodes, ("deployment", "network"): network}
    for (part, field), value in said.items():
        if value:
            data.setdefault(part, {})[field] = value
    if nodes > 1 and data.get("deployment", {}).get("type") == "single_instance":
        data["deployment"]["type"] = "clustered"
    return Scenario.of(data, fields.log or scenario)
