"""A grid: every combination of values for some fields of a scenario, each one validated as if it had been written so.

A field is named by its place in the TOML file: "deployment.nodes", "limit.rate", "workload.zipf".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ratesim.simulation.network import PRESETS
from ratesim.simulation.scenario import Scenario, ScenarioError

__all__ = ["Variant", "grid_of", "seeds_of", "variants"]

_PARTS = ("workload", "limit", "deployment", "requirements")


@dataclass(frozen=True)
class Variant:
    """One point of a grid. values: what was set, by field, as the scenario understood it: "10 ms" is 0.01 here."""

    scenario: Scenario
    values: dict[str, Any]


def variants(scenario: Scenario, grid: Mapping[str, Sequence[Any]] | None = None) -> tuple[Variant, ...]:
    """The scenario at every point of the grid; the last field varies fastest. Without a grid, the scenario alone.

    Raises ScenarioError, which names the field and the value, before anything has run.
    """
    grid = grid or {}
    for field, values in grid.items():
        part, dot, _ = field.partition(".")
        if part not in _PARTS or not dot:
            raise ScenarioError(
                f"grid: {field}: vary a field of {', '.join(_PARTS)}, such as deployment.nodes; "
                "candidates and seeds are given as such"
            )
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ScenarioError(f"grid: {field}: give a list of at least one value")
    return tuple(_variant(scenario, dict(zip(grid, point, strict=True))) for point in itertools.product(*grid.values()))


def _variant(scenario: Scenario, point: dict[str, Any]) -> Variant:
    source = ", ".join(f"{field} = {value!r}" for field, value in point.items())
    changed = scenario
    if point:
        data = scenario.model_dump(exclude_none=True)
        for field, value in point.items():
            *parts, last = field.split(".")
            table = data
            for part in parts:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise ScenarioError(f"grid: {field}: {part} has no fields of its own")
            table[last] = value
        changed = Scenario.of(data, f"grid: with {source}")
    if changed.deployment.network not in PRESETS:
        raise ScenarioError(f"deployment.network {changed.deployment.network!r}: known are {', '.join(PRESETS)}")
    return Variant(changed, {field: _value(changed, field) for field in point})


def _value(scenario: Scenario, field: str) -> Any:
    """What a table can hold of it: a table of the scenario as JSON."""
    value: Any = scenario
    for part in field.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def grid_of(texts: Sequence[str]) -> dict[str, list[Any]]:
    """A grid as it is written on a command line, "deployment.nodes=1,8,64": numbers, true, false and null as in JSON."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not field or not values:
            raise ScenarioError(f"grid: {text!r}: write field=value,value such as deployment.nodes=1,8,64")
        if field in grid:
            raise ScenarioError(f"grid: {field}: given twice; list its values in one place")
        grid[field] = [_read(value.strip()) for value in values.split(",")]
    return grid


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds as they are written on a command line: "1-10,25"."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])) or int(match[2] or match[1]) >= 2**32:
            raise ScenarioError(f"seeds: {text!r}: write numbers below 2**32 and ranges of them, such as 1-10,25")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(seeds)
