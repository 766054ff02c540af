"""The difference of two recommendations: what changed in the question and in the figures, and whether that is noise.

A figure has changed where the two are further apart than chance explains. Two means with the half-widths a and b of their
95 % intervals are within sqrt(a**2 + b**2), since their errors are independent and each half-width has Student's t in it.
These are the intervals of the seeds alone: the model's error is the same before and after. A difference that no printed
digit shows is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec

from ratesim.documents import DocumentError, convert_json, parse_json, read_bytes
from ratesim.errors import RatesimError
from ratesim.formatting import Format, escape_control_chars, format_apart, format_excess, format_percent, format_seconds
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.recommendation import SCHEMA_VERSION
from ratesim.safe_text import shorten_repr

__all__ = ["Change", "DiffError", "RecommendationDiff", "diff", "load", "state_of", "text"]

FIGURES: dict[str, tuple[str, Format]] = {
    "p99": ("p99", format_seconds),
    "over_admission": ("over-admission", format_percent),
    "worst_excess": ("busiest window", format_excess),
    "false_denial": ("false denials", format_percent),
}
SHOWN = 200  # characters of a value
COST = 0.05  # share by which a cost may differ and still read the same in two digits


Text = Annotated[str, msgspec.Meta(max_length=10_000)]


class DiffError(RatesimError, ValueError):
    """A file is no recommendation: one line that names it and the remedy."""


@dataclass(frozen=True)
class Change:
    """A figure, a verdict or a cost that changed.

    Attributes
    ----------
    candidate
        Whose.
    what
        The figure, "verdict" or "cost".
    before, after
        In words.
    noise
        Whether chance alone may have changed it.
    """

    candidate: str
    what: str
    before: str
    after: str
    noise: bool


@dataclass(frozen=True)
class RecommendationDiff:
    """The difference of two recommendations.

    Attributes
    ----------
    question
        Differences of the two questions, as sentences.
    choice
        Before and after.
    changes
        Of the contenders of both.
    removed, added
        Contenders of only the first, or only the second.
    """

    question: tuple[str, ...]
    choice: tuple[str | None, str | None]
    changes: tuple[Change, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def has_changed(self) -> bool:
        """Whether anything that is not noise changed: the choice, a verdict or a figure."""
        return self.choice[0] != self.choice[1] or any(not change.noise for change in self.changes)


class _Figure(msgspec.Struct):
    mean: float | None
    high: float | None
    seeds: int
    low: float | None = None
    spread: float | None = None
    is_lower_bound: bool = False


class _Check(msgspec.Struct):
    verdict: Literal["passes", "fails", "too close to call"]


class _Assessment(msgspec.Struct):
    candidate: Text
    p99: _Figure
    over_admission: _Figure
    false_denial: _Figure
    checks: list[_Check]
    cost: float | None
    worst_excess: _Figure | None = None
    storage: Text = ""
    routing: Text = ""
    algorithm: Text = ""


class _Confidence(msgspec.Struct):
    level: Text = ""


class _Document(msgspec.Struct):
    """The part of a recommendation that is compared, or shown among others of its kind."""

    scenario: Text
    limit: Text
    currency: Text
    requirements: dict[Text, Any]
    deployment: dict[Text, Any]
    traffic: dict[Text, Any]
    assessments: Annotated[list[_Assessment], msgspec.Meta(max_length=10_000)]
    choice: Text | None
    verdict: Text = ""
    date: Text = ""
    confidence: _Confidence = msgspec.field(default_factory=_Confidence)


def load(path: Path) -> dict[str, Any]:
    """Read a recommendation.json. Raises DiffError, which names the place that is wrong."""
    try:
        found = parse_json(read_bytes(path))
        if not isinstance(found, dict) or not {"assessments", "choice"} <= found.keys():
            raise DiffError(f"{path}: is no recommendation; `ratesim report` writes recommendation.json")
        version = found.get("schema_version", found.get("version"))
        if version != SCHEMA_VERSION:
            shown = shorten_repr(version)
            raise DiffError(f"{path}: has version {shown}, and this is {SCHEMA_VERSION}; make the report again")
        return cast(dict[str, Any], msgspec.to_builtins(convert_json(found, _Document)))
    except DocumentError as error:
        raise DiffError(f"{path}: {error}; make the report again") from error


def diff(before: dict[str, Any], after: dict[str, Any]) -> RecommendationDiff:
    """Compare two recommendations that `load` returned.

    The configuration in force of one is the contender of the other that is the same under its own name.
    """
    before, after = _named_as(before, after), _named_as(after, before)
    old = {each["candidate"]: each for each in before["assessments"]}
    new = {each["candidate"]: each for each in after["assessments"]}
    currency = after["currency"] if before["currency"] == after["currency"] else None
    changes = [change for name in old if name in new for change in _changes(name, old[name], new[name], currency)]
    return RecommendationDiff(
        question=tuple(_question_changes(before, after)),
        choice=(before["choice"], after["choice"]),
        changes=tuple(changes),
        removed=tuple(name for name in old if name not in new),
        added=tuple(name for name in new if name not in old),
    )


def _named_as(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a recommendation whose configuration in force has the name that the other one has for it."""
    mine = {each["candidate"]: each for each in one["assessments"]}
    theirs = {each["candidate"]: each for each in other["assessments"]}
    if CURRENT not in mine or CURRENT in theirs:
        return one
    name = next((name for name, each in theirs.items() if name not in mine and _is_same(each, mine[CURRENT])), CURRENT)
    renamed = [each | {"candidate": name} if each["candidate"] == CURRENT else each for each in one["assessments"]]
    return one | {"assessments": renamed, "choice": name if one["choice"] == CURRENT else one["choice"]}


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    identity = ("storage", "routing", "algorithm")
    return bool(one.get("storage")) and all(one.get(name) == other.get(name) for name in identity)


def _question_changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name in ("scenario", "limit", "currency"):
        if before[name] != after[name]:
            yield f"{name}: {_short(before[name])} before, {_short(after[name])} after"
    for part, prefix in (("requirements", "required "), ("deployment", ""), ("traffic", "traffic, ")):
        for name in dict.fromkeys([*before[part], *after[part]]):
            old, new = before[part].get(name), after[part].get(name)
            if old != new:
                yield f"{prefix}{name.replace('_', ' ')}: {_short(old)} before, {_short(new)} after"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else shorten_repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _changes(name: str, old: dict[str, Any], new: dict[str, Any], currency: str | None) -> Iterator[Change]:
    for field, (what, unit) in FIGURES.items():
        one, other = old[field], new[field]
        if one is None or other is None:
            continue
        if one["mean"] is None or other["mean"] is None:
            if one["mean"] != other["mean"]:
                yield Change(name, what, *_format_both(one, other, unit), False)
            continue
        before, after = _format_both(one, other, unit)
        if before != after:
            known = one["seeds"] > 1 and other["seeds"] > 1
            chance = math.hypot(_half_width(one), _half_width(other)) if known else math.inf
            yield Change(name, what, before, after, abs(one["mean"] - other["mean"]) <= chance)
    state, now = state_of(old), state_of(new)
    if state != now:
        yield Change(name, "verdict", state, now, "too close to call" in (state, now))
    cost, costs = old["cost"], new["cost"]
    if currency is not None and cost is not None and costs is not None and abs(cost - costs) > COST * max(cost, costs):
        yield Change(name, "cost", f"{cost:,.2f} {currency} a month", f"{costs:,.2f} {currency} a month", False)


def _half_width(value: dict[str, Any]) -> float:
    if (spread := value.get("spread")) is not None:
        return float(spread)
    return math.inf if value["high"] is None else value["high"] - value["mean"]


def _format_both(one: dict[str, Any], other: dict[str, Any], unit: Format) -> tuple[str, str]:
    """Write both figures so that they differ in print; they are equal where no digit that is printed tells them apart."""
    (first, bound), (second, other_bound) = map(_shown, (one, other))
    before, after = format_apart(first, second, unit)
    return f"at least {before}" if bound else before, f"at least {after}" if other_bound else after


def _shown(value: dict[str, Any]) -> tuple[float, bool]:
    """Return the number that stands for a figure, nan where it has none, and whether it is a lower bound."""
    bound = bool(value.get("is_lower_bound")) and value["low"] is not None
    number = value["low"] if bound else value["mean"]
    return math.nan if number is None else float(number), bound


def state_of(each: dict[str, Any]) -> str:
    """Return the verdict on a contender: "passes", "fails" or "too close to call"."""
    verdicts = {check["verdict"] for check in each["checks"]}
    return next((verdict for verdict in ("fails", "too close to call") if verdict in verdicts), "passes")


def text(difference: RecommendationDiff) -> str:
    """Write the difference in lines for people; noise comes last."""
    old, new = (choice or "none" for choice in difference.choice)
    lines = [f"The choice is still {new}." if old == new else f"The choice moved: {old} before, {new} after."]
    lines += [f"The question changed: {each}." for each in difference.question]
    lines += [f"Only in the first: {', '.join(difference.removed)}."] if difference.removed else []
    lines += [f"Only in the second: {', '.join(difference.added)}."] if difference.added else []
    for noise, verb in ((False, "moved"), (True, "moved, within noise")):
        for change in difference.changes:
            if change.noise is noise:
                lines.append(f"{change.candidate}: {change.what} {verb}, from {change.before} to {change.after}.")
    if not difference.changes:
        lines.append("No figure moved.")
    return "\n".join(map(escape_control_chars, lines))
