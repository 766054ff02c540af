"""A grid: every combination of values for some fields of a scenario, each validated like a scenario of its own.

A field is named by its place in the TOML file: "deployment.nodes", "limit.rate", and "faults.0.duration" of the first fault.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ratesim.documents import DocumentError, parse_json
from ratesim.safe_text import shorten_repr, shorten_text
from ratesim.simulation.scenario.fields import inner_model, unit_of
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError

__all__ = ["Variant", "is_field", "parse_grid", "parse_seeds", "variants"]

MOST_RUNS = 100_000  # points of a grid, or seeds
_ALONE = ("warmup",)  # fields that belong to no part
_PARTS = tuple(part for part in Scenario.model_fields if part not in ("name", "seed", "replications", "candidates", *_ALONE))


@dataclass(frozen=True)
class Variant:
    """One point of a grid.

    Attributes
    ----------
    scenario : Scenario
        The scenario at this point.
    values : dict[str, Any]
        The values that were set, by field, as the scenario understood them: "10 ms" is 0.01 here.
    """

    scenario: Scenario
    values: dict[str, Any]


def is_field(column: str) -> bool:
    """Tell whether a column of a table is a field of a grid."""
    return "." in column or column in _ALONE


def variants(scenario: Scenario, grid: Mapping[str, Sequence[Any]] | None = None) -> tuple[Variant, ...]:
    """Return the scenario at every point of the grid; the last field varies fastest.

    Without a grid the result is the scenario alone. Raises ScenarioError, which names the field and the value, before any
    run.
    """
    grid = {} if grid is None else grid
    if not isinstance(grid, Mapping):
        raise ScenarioError(f'grid {shorten_repr(grid)}: give values by field, such as {{"deployment.nodes": [1, 8, 64]}}')
    for field, values in grid.items():
        part, dot, _ = field.partition(".")
        if field not in _ALONE and (part not in _PARTS or not dot):
            raise ScenarioError(
                f"grid: {shorten_text(field)}: vary a field of {', '.join(_PARTS)}, such as deployment.nodes, or "
                f"{_ALONE[0]}; candidates and seeds are given as such"
            )
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ScenarioError(f"grid: {shorten_text(field)}: give a list of at least one value")
    points = math.prod(len(values) for values in grid.values())
    if points > MOST_RUNS:
        raise ScenarioError(f"grid: has {points} points; give at most {MOST_RUNS:,}")
    return tuple(_variant(scenario, dict(zip(grid, point, strict=True))) for point in itertools.product(*grid.values()))


def _variant(scenario: Scenario, point: dict[str, Any]) -> Variant:
    source = ", ".join(f"{shorten_text(field)} = {shorten_repr(value)}" for field, value in point.items())
    changed = scenario
    if point:
        data = scenario.model_dump(mode="json", exclude_unset=True)
        for field, value in point.items():
            _set(data, field, value)
        changed = Scenario.of(data, f"grid: with {source}")
    return Variant(changed, {field: _value(changed, field) for field in point})


def _set(data: dict[str, Any], field: str, value: Any) -> None:
    *parts, last = field.split(".")
    table: Any = data
    for part in parts:
        table = table[_place(table, part, field)] if isinstance(table, list) else table.setdefault(part, {})
        if not isinstance(table, dict | list):
            raise ScenarioError(f"grid: {shorten_text(field)}: {shorten_text(part)} has no fields of its own")
    if isinstance(table, list):
        table[_place(table, last, field)] = value
    else:
        table[last] = value


def _place(table: list[Any], part: str, field: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", part) or int(part) >= len(table):
        raise ScenarioError(
            f"grid: {field}: the scenario has {len(table)} of these, counted from 0; {shorten_repr(part)} is none"
        )
    return int(part)


def _value(scenario: Scenario, field: str) -> Any:
    """Make a value that a table can hold; a table of the scenario becomes JSON."""
    value: Any = scenario.model_dump(mode="json")
    for part in field.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read a grid from a command line, "deployment.nodes=1,8,64": numbers, true, false and null as in JSON."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not field or not values:
            raise ScenarioError(f"grid: {shorten_repr(text)}: write field=value,value such as deployment.nodes=1,8,64")
        if field in grid:
            raise ScenarioError(f"grid: {shorten_text(field)}: given twice; list its values in one place")
        has_unit = _has_unit(field)
        grid[field] = [_read(value.strip(), has_unit) for value in values.split(",")]
    return grid


def _has_unit(field: str) -> bool:
    """Tell whether a field is a time or a share, whose number must name its unit."""
    model: type[BaseModel] | None = Scenario
    found = None
    for part in field.split("."):
        if model is None or part.isdecimal():
            continue
        found = model.model_fields.get(part)
        model = inner_model(found) if found is not None else None
    return found is not None and unit_of(found) is not None


def _read(text: str, has_unit: bool) -> Any:
    try:
        value = parse_json(text)
    except DocumentError:
        return text
    return text if has_unit and isinstance(value, int | float) else value


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds from a command line: "1-10,25"."""
    ranges: list[range] = []
    for part in text.split(",", MOST_RUNS):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])) or int(match[2] or match[1]) >= 2**32:
            shown = shorten_repr(text)
            raise ScenarioError(f"seeds: {shown}: write numbers below 2**32 and ranges of them, such as 1-10,25")
        ranges.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    total = sum(map(len, ranges))
    if total > MOST_RUNS:
        raise ScenarioError(f"seeds: {shorten_repr(text)}: are {total}; give at most {MOST_RUNS:,}")
    return tuple(itertools.chain.from_iterable(ranges))
