"""The difference of two recommendations: what was asked otherwise, what moved, and whether that is noise.

A figure has moved where the two are further apart than chance explains: two means with the half-widths a and b, of their
95 % intervals, are within sqrt(a**2 + b**2), since their errors are independent and each half-width has Student's t in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratesim.errors import RatesimError
from ratesim.formatting import escape_control_chars, format_percent, format_seconds
from ratesim.recommendation.decide.recommendation import SCHEMA_VERSION

__all__ = ["Change", "DiffError", "RecommendationDiff", "diff", "load", "text"]

FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "p99": ("p99", format_seconds),
    "over_admission": ("over-admission", format_percent),
    "false_denial": ("false denials", format_percent),
}
COST = 0.05  # share by which a cost may differ and still read the same in two digits


class DiffError(RatesimError, ValueError):
    """A file that is no recommendation: one line that names it and the remedy."""


@dataclass(frozen=True)
class Change:
    """candidate: whose. what: a figure, a verdict or the cost. noise: whether chance alone may have moved it."""

    candidate: str
    what: str
    before: str
    after: str
    noise: bool


@dataclass(frozen=True)
class RecommendationDiff:
    """asked: what was asked otherwise, as sentences. choice: before and after. gone, new: contenders of one only."""

    asked: tuple[str, ...]
    choice: tuple[str | None, str | None]
    changes: tuple[Change, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def has_changed(self) -> bool:
        """Whether anything is not noise: another choice, a verdict or a figure."""
        return self.choice[0] != self.choice[1] or any(not move.noise for move in self.changes)


def load(path: Path) -> dict[str, Any]:
    """A recommendation.json. Raises DiffError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DiffError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DiffError(f"{path}: is no JSON: {error}") from error
    if not isinstance(found, dict) or "assessments" not in found or "choice" not in found:
        raise DiffError(f"{path}: is no recommendation; `ratesim report` writes recommendation.json")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise DiffError(
            f"{path}: has version {found.get('schema_version')!r}, and this is {SCHEMA_VERSION}; make the report again"
        )
    try:
        diff(found, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise DiffError(f"{path}: lacks {error}; make the report again") from error
    return found


def diff(before: dict[str, Any], after: dict[str, Any]) -> RecommendationDiff:
    """Of two that `load` gave."""
    old = {each["candidate"]: each for each in before["assessments"]}
    new = {each["candidate"]: each for each in after["assessments"]}
    currency = after["currency"] if before["currency"] == after["currency"] else None
    moves = [move for name in old if name in new for move in _moves(name, old[name], new[name], currency)]
    return RecommendationDiff(
        asked=tuple(_asked(before, after)),
        choice=(before["choice"], after["choice"]),
        changes=tuple(moves),
        removed=tuple(name for name in old if name not in new),
        added=tuple(name for name in new if name not in old),
    )


def _asked(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name in ("scenario", "limit", "currency"):
        if before[name] != after[name]:
            yield f"{name}: {before[name]} before, {after[name]} after"
    for part, said in (("requirements", "required "), ("deployment", ""), ("traffic", "traffic, ")):
        for name in dict.fromkeys([*before[part], *after[part]]):
            old, new = before[part].get(name), after[part].get(name)
            if old != new:
                yield f"{said}{name.replace('_', ' ')}: {old} before, {new} after"


def _moves(name: str, old: dict[str, Any], new: dict[str, Any], currency: str | None) -> Iterator[Change]:
    for field, (what, unit) in FIGURES.items():
        one, other = old[field], new[field]
        if one["mean"] is None or other["mean"] is None:
            if one["mean"] != other["mean"]:
                yield Change(name, what, _said(one, unit), _said(other, unit), False)
            continue
        apart = abs(one["mean"] - other["mean"])
        if apart > 0:
            known = one["seeds"] > 1 and other["seeds"] > 1
            chance = math.hypot(one["high"] - one["mean"], other["high"] - other["mean"]) if known else math.inf
            yield Change(name, what, _said(one, unit), _said(other, unit), apart <= chance)
    state, now = _state(old), _state(new)
    if state != now:
        yield Change(name, "verdict", state, now, "too close to call" in (state, now))
    cost, costs = old["cost"], new["cost"]
    if currency is not None and cost is not None and costs is not None and abs(cost - costs) > COST * max(cost, costs):
        yield Change(name, "cost", f"{cost:,.2f} {currency} a month", f"{costs:,.2f} {currency} a month", False)


def _said(value: dict[str, Any], unit: Callable[[float], str]) -> str:
    return unit(math.nan if value["mean"] is None else value["mean"])


def _state(each: dict[str, Any]) -> str:
    verdicts = {check["verdict"] for check in each["checks"]}
    return next((verdict for verdict in ("fails", "too close to call") if verdict in verdicts), "passes")


def text(found: RecommendationDiff) -> str:
    """In lines, for people; what is noise comes last."""
    old, new = (choice or "none" for choice in found.choice)
    lines = [f"The choice is still {new}." if old == new else f"The choice moved: {old} before, {new} after."]
    lines += [f"Asked otherwise: {each}." for each in found.asked]
    lines += [f"Only in the first: {', '.join(found.removed)}."] if found.removed else []
    lines += [f"Only in the second: {', '.join(found.added)}."] if found.added else []
    for noise, said in ((False, "moved"), (True, "moved, within noise")):
        for move in found.changes:
            if move.noise is noise:
                lines.append(f"{move.candidate}: {move.what} {said}, from {move.before} to {move.after}.")
    if not found.changes:
        lines.append("No figure moved.")
    return "\n".join(map(escape_control_chars, lines))
