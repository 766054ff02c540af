"""The table of guarantees (guarantees.toml, docs/guarantees.md), and the check of what was measured against a row of it."""

from __future__ import annotations

import re
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outage import Measured, descriptor_count, nothing_is_left, play
from stores import Store
from subjects import SLACK, Policy

TABLE: dict[str, Any] = tomllib.loads((Path(__file__).parent / "guarantees.toml").read_text("utf-8"))
BOUNDS = ("over", "lost", "vain")
LATE = ("StorageTimeoutError", "StorageConnectionError")
TIMES = {"waits": "longest", "well": "well"}


@dataclass(frozen=True)
class Cell:
    """One store and policy under one fault, with the row that holds for it."""

    fault: str
    store: str
    policy: Policy
    row: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.fault}, {self.store}, {self.policy}"

    def value(self, name: str, found: Measured) -> float:
        """The value of one of the row's bounds."""
        return value(self.row[name], found.letters)

    def deviations(self, found: Measured) -> list[str]:
        """What was measured and is not in the row."""
        expected = set(self.row.get("errors", []))
        late = LATE if found.lag > found.letters["command_timeout"] / 5 else ()  # errors of a machine that is too busy
        wrong = [f"{name} {count}" for name, count in sorted(found.errors.items()) if name not in expected.union(late)]
        if expected and not found.errors and not self.row.get("none_if_idle"):
            wrong.append(f"none of {', '.join(sorted(expected))}")
        for name in BOUNDS:
            if name in self.row and getattr(found, name) > value(self.row[name], found.letters) + 1e-6:
                wrong.append(f"{name} {getattr(found, name):g} above {self.row[name]}")
        for name, attribute in TIMES.items():
            if name in self.row and getattr(found, attribute) > SLACK * value(self.row[name], found.letters) + found.lag:
                wrong.append(f"{attribute} {getattr(found, attribute):.2f} s above {SLACK:g} times {self.row[name]}")
        return [f"{self}: {each} ({found})" for each in wrong]


def value(expression: str, letters: dict[str, float]) -> float:
    """The value of a bound, or of a time in seconds."""
    for name, meaning in TABLE["times"].items():
        expression = re.sub(rf"\b{name}\b", f"({meaning})", expression)
    return float(eval(expression, {"__builtins__": {}}, letters))


def cells(fault: str, store: str) -> list[Cell]:
    """Every cell of a fault and store."""
    found = []
    for row in TABLE["faults"][fault]["rows"]:
        if store in row["stores"]:
            for consistency in row["policies"]:
                choices = [("", "")] if consistency == "plain" else [(consistency, each) for each in row["fallbacks"]]
                policies = [Policy(*choice, row.get("options", "")) for choice in choices]
                found += [Cell(fault, store, policy, row) for policy in policies]
    return found


async def hold_against_the_table(store: Store, fault: str, tag: str = "") -> None:
    """Measure every cell of a fault and store; identifiers begin with a tag."""
    expected = cells(fault, store.name)
    descriptors, connections = descriptor_count(), store.connections()
    measured = await play(store, fault, [cell.policy for cell in expected], tag + uuid.uuid4().hex[:8])
    deviations = [each for cell, found in zip(expected, measured, strict=True) for each in cell.deviations(found)]
    assert not deviations, "\n".join(deviations)
    await nothing_is_left(store, descriptors, connections)
