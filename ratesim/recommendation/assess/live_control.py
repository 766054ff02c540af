"""The live replays as a control: where one and its own simulation disagree by more than the model's stated error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_seconds
from ratesim.recommendation.assess.model_error import entry_at, verdict_of

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import ModelError, Profile

__all__ = ["disagreement_note", "disagreements", "stated_error"]

# Without a verdict of `ratesim validate`: the larger figure is half as much more, or twice as much. The tail of a shared
# machine is not in the model.
UNSTATED = {"p50": 0.5, "p99": 1.0}
# Of memory, and where measured and simulated are both below, due to answered is the operating system's more than the
# storage's, and operation times are compared. Nothing differs by less than the least that a claim names.
SMALL, MATERIAL = 1e-4, 1e-5  # seconds


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
        if store == "memory" or max(measured, simulated) < SMALL:
            if name == "p99":  # the rarest decisions of a few microseconds are the scheduler's
                continue
            measured, simulated = _number(row, "operation_p50"), _number(row, "simulated_operation")
            low, high, said = measured, measured, "p50 of operations one at a time"
        few, many = low - max(low - low / (1 + error), MATERIAL), high + max(error * high, MATERIAL)  # see `ModelError`
        if simulated < few or simulated > many:  # nan is not
            found.append(f"{row['candidate']} {said} {format_seconds(measured)} live, {format_seconds(simulated)} simulated")
    return found


def disagreement_note(rows: Sequence[Mapping[str, Any]], profile: Profile) -> str:
    """Return the sentence of a headline where live replays and their own simulations disagree; else ""."""
    found = disagreements(rows, profile)
    if not found:
        return ""
    return f"Live replays and their own simulations disagree by more than the model's error: {'; '.join(found)}."


def _number(row: Mapping[str, Any], name: str, otherwise: float = math.nan) -> float:
    value = row.get(name)
    return otherwise if value is None or math.isnan(value) else float(value)
