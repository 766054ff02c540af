"""The scenario that a notebook's parameters ask for: one by its name or file, or a log, with some of it said otherwise.

A parameter that is empty, or 0, leaves what the scenario says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ratesim.safe_text import shorten_repr
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError

__all__ = ["scenario_from_parameters"]


def scenario_from_parameters(
    scenario: str = "quickstart",
    log: str = "",
    key: str = "",
    limit: str = "",
    nodes: int = 0,
    network: str = "",
    busiest: str = "",
) -> Scenario:
    """Build a scenario from the parameters of a notebook.

    Parameters
    ----------
    scenario
        A name or a file.
    log
        A file, which replaces the traffic of the scenario.
    key
        The column that is limited.
    limit
        A limit, such as "100/minute".
    busiest
        The length of the busiest part that is kept of the log, such as "1h".

    Raises
    ------
    ScenarioError
        The parameters are invalid.
    """
    data: dict[str, Any] = Scenario.load(scenario).model_dump(exclude_none=True, exclude_defaults=True)
    if log:
        if not limit:
            raise ScenarioError("limit: say what is allowed to each key of the log, such as 100/minute")
        data["name"], data["workload"] = Path(log).name, {"log": str(Path(log).absolute())}
    said = {
        ("workload", "key"): key,
        ("workload", "busiest"): busiest,
        ("limit", "rate"): limit,
        ("deployment", "nodes"): nodes,
        ("deployment", "network"): network,
    }
    for (part, field), value in said.items():
        if value:
            data.setdefault(part, {})[field] = value
    if nodes > 1 and data["deployment"].get("type") == "single_instance":
        data["deployment"]["type"] = "clustered"
    found = Scenario.of(data, log or scenario)
    if found.deployment.network not in PRESETS:
        raise ScenarioError(f"network {shorten_repr(found.deployment.network)}: known are {', '.join(PRESETS)}")
    return found
