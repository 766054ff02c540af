"""The live replays as a control: where one and its own simulation disagree by more than the model's stated error."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_seconds
from ratesim.recommendation.assess.model_error import entry_at, verdict_of

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import ModelError, Profile

__all__ = ["LiveControl", "decisive", "disagreement_note", "disagreements", "live_control", "stated_error"]

# Without a verdict of `ratesim validate`: the larger figure is half as much more, or twice as much. The tail of a shared
# machine is not in the model.
UNSTATED = {"p50": 0.5, "p99": 1.0}
# Of memory, and where measured and simulated are both below, due to answered is the operating system's more than the
# storage's, and operation times are compared. Nothing differs by less than the least that a claim names.
SMALL, MATERIAL = 1e-4, 1e-5  # seconds
OPERATIONS = "p50 of operations one at a time"


@dataclass(frozen=True)
class LiveControl:
    """The live replay of a candidate beside the simulation of that very replay.

    Attributes
    ----------
    what
        The figure: p99, or that of operations where both are so small that the operating system is most of a latency.
    live, simulated
        In seconds; nan on a machine that was disturbed.
    disturbed
        What disturbed the machine; "" for nothing.
    """

    what: str
    live: float
    simulated: float
    disturbed: str = ""

    @property
    def slower(self) -> float:
        """How many times the simulated figure the live one is; at least 1."""
        return max(self.live / self.simulated, 1.0)

    @property
    def text(self) -> str:
        """Both figures."""
        return f"{self.what} {format_seconds(self.live)} live, {format_seconds(self.simulated)} simulated"

    @property
    def sentence(self) -> str:
        """Both figures, for a headline; "" where the machine was disturbed."""
        return "" if self.disturbed else f"The same replay on one node over loopback: {self.text}."


def live_control(candidate: str, rows: Sequence[Mapping[str, Any]]) -> LiveControl | None:
    """Return the control of a candidate; None where it was not replayed, or its replay was not simulated."""
    row = next((each for each in rows if each["candidate"] == candidate and not each.get("failure")), None)
    if row is None:
        return None
    if row.get("disturbed"):
        return LiveControl("p99", math.nan, math.nan, str(row["disturbed"]))
    what, live, simulated = "p99", _number(row, "latency_p99"), _number(row, "simulated_p99")
    if _is_small(row, live, simulated):
        what, live, simulated = OPERATIONS, _number(row, "operation_p50"), _number(row, "simulated_operation")
    return LiveControl(what, live, simulated) if live > 0.0 and simulated > 0.0 else None  # nan is not


def stated_error(errors: Sequence[ModelError], utilization: float) -> dict[str, float]:
    """Return the relative errors of p50 and p99 that are stated for a utilization; beyond the last one, its errors.

    Parameters
    ----------
    errors
        See `verdict_of`; empty where a backend was not validated.
    utilization
        Of the busiest part of the replay.
    """
    found = entry_at(errors, utilization)
    return UNSTATED if found is None else {"p50": found.p50, "p99": found.p99}


def disagreements(rows: Sequence[Mapping[str, Any]], profile: Profile) -> tuple[str, ...]:
    """Say of each live row and quantile that misses its own simulation by more than the stated error by how much.

    Parameters
    ----------
    rows
        Live rows. One without figures, of a disturbed machine, or without a simulation of its own disagrees with nothing. A
        quantile counts with its interval, which so few requests leave.
    profile
        Its errors count.
    """
    return tuple(said for row in rows if not row.get("failure") and not row.get("disturbed") for said in _of(row, profile))


def _of(row: Mapping[str, Any], profile: Profile) -> list[str]:
    store = str(row.get("store", ""))
    entries = verdict_of(profile, store)[0] if store in profile.backends else ()
    errors = stated_error(entries, _number(row, "utilization"))
    found = []
    for name, error in errors.items():
        measured, simulated = _number(row, f"latency_{name}"), _number(row, f"simulated_{name}")
        low, high = (_number(row, f"latency_{name}_{end}", measured) for end in ("low", "high"))
        said = name
        if _is_small(row, measured, simulated):
            if name == "p99":  # the rarest decisions of a few microseconds are the scheduler's
                continue
            measured, simulated = _number(row, "operation_p50"), _number(row, "simulated_operation")
            low, high, said = measured, measured, OPERATIONS
        few, many = low - max(low - low / (1 + error), MATERIAL), high + max(error * high, MATERIAL)  # see `ModelError`
        if simulated < few or simulated > many:  # nan is not
            found.append(f"{row['candidate']} {said} {format_seconds(measured)} live, {format_seconds(simulated)} simulated")
    return found


def decisive(
    rows: Sequence[Mapping[str, Any]], judged: Collection[str]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Part live rows into those whose disagreement could move a choice, and the rest.

    It is that of the candidates that are judged (the choice, what is in force), and of a rival whose p99 is lower live than
    simulated. One that is slower than its simulation only falls further behind. Where nobody is judged each row could.
    """
    could: list[Mapping[str, Any]] = []
    could_not: list[Mapping[str, Any]] = []
    for row in rows:
        is_slower = _number(row, "latency_p99") >= _number(row, "simulated_p99")  # nan is not
        part = could_not if judged and row["candidate"] not in judged and is_slower else could
        part.append(row)
    return could, could_not


def disagreement_note(rows: Sequence[Mapping[str, Any]], profile: Profile) -> str:
    """Return the sentence of a headline where live replays and their own simulations disagree; else ""."""
    found = disagreements(rows, profile)
    if not found:
        return ""
    return f"Live replays and their own simulations disagree by more than the model's error: {'; '.join(found)}."


def _is_small(row: Mapping[str, Any], measured: float, simulated: float) -> bool:
    return row.get("store") == "memory" or max(measured, simulated) < SMALL


def _number(row: Mapping[str, Any], name: str, otherwise: float = math.nan) -> float:
    value = row.get(name)
    return otherwise if value is None or math.isnan(value) else float(value)
