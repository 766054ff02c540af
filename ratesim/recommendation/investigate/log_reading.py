"""`LogReading`: what was read of a log, what of it is lost, and how fine its stamps are, in figures and in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ratesim.formatting import format_count, format_percent, format_seconds
from traffic.trace import COARSE

if TYPE_CHECKING:
    from ratesim.simulation.scenario.workload import WorkloadSpec
    from traffic import Provenance, Trace

__all__ = ["EXACT", "TOO_MANY_LOST", "LogReading", "StampGrain", "limited", "log_reading", "stamp_grain"]

TOO_MANY_LOST = 0.01  # share of the lines above which a loss is said first, and makes a check too thin


@dataclass(frozen=True)
class StampGrain:
    """The coarse stamps of a log: the share of its requests that have one, and the longest of them, in seconds."""

    share: float
    longest: float


@dataclass(frozen=True)
class LogReading:
    """The lines of a log by what became of them; `lines` is the sum of the other three.

    Attributes
    ----------
    source
        Name of the file.
    format
        What it was read as; "" for a trace that was written before.
    lines
        Lines that are not blank.
    requests, lost, ignored
        Lines that became requests, that should have and could not be read, and that are none by nature.
    lost_share
        Of the lines that should be requests.
    note
        What it was read as, and the counts, in a sentence.
    lost_note
        A sentence where more than one in a hundred is lost; else "".
    stamps_note
        Sentences where stamps are coarse: over what requests were spread, and what cannot be seen; else "".
    assumed
        What was taken for what while reading, one sentence each.
    examples
        Of the lost lines, the first.
    """

    source: str
    format: str
    lines: int
    requests: int
    lost: int
    ignored: int
    lost_share: float
    note: str
    lost_note: str
    stamps_note: str
    assumed: tuple[str, ...]
    examples: tuple[str, ...]


EXACT = StampGrain(0.0, 0.0)


def stamp_grain(log: Trace) -> StampGrain:
    """Measure the stamps of a log as it was read, before anything is spread."""
    coarse = log.grain >= COARSE
    longest = float(log.grain.max(initial=0.0)) if coarse.any() else 0.0
    return StampGrain(float(np.count_nonzero(coarse)) / max(len(log), 1), longest)


def log_reading(origin: Provenance, grain: StampGrain, spread: bool = True) -> LogReading | None:
    """Say what was read. None for traffic that no log was read for. spread: whether coarse stamps are."""
    if not origin.lines:
        return None
    source = Path(origin.source).name
    as_what = f" as {origin.format}" if origin.format else ""
    counts = [f"{format_count(origin.lines, 'line')}: {format_count(origin.parsed, 'request')}"]
    counts += [f"{origin.skipped:,} lost"] if origin.skipped else []
    counts += [f"{origin.ignored:,} no request by nature"] if origin.ignored else []
    return LogReading(
        source=source,
        format=origin.format,
        lines=origin.lines,
        requests=origin.parsed,
        lost=origin.skipped,
        ignored=origin.ignored,
        lost_share=origin.lost,
        note=f"{source} was read{as_what}, {', '.join(counts)}.",
        lost_note=_lost_note(origin, source),
        stamps_note=_stamps_note(grain, spread),
        assumed=tuple(map(_sentence, origin.assumed)),
        examples=origin.examples,
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def limited(origin: Provenance, workload: WorkloadSpec) -> str:
    """Say what one limit holds for, with the field of the key where that was guessed: "each client (field remote_addr)"."""
    for text in origin.assumed:
        part, comma, field = text.removeprefix("key: ").partition(" (")[0].partition(", ")
        if text.startswith("key: ") and comma:
            return f"each {part} ({field})"
    return workload.limited


def _lost_note(origin: Provenance, source: str) -> str:
    if origin.lost <= TOO_MANY_LOST:
        return ""
    return (
        f"{origin.skipped:,} of {format_count(origin.lines, 'line')} of {source} ({format_percent(origin.lost)}) could not "
        "be read and are missing from all that follows; `ratesim trace describe` shows them, and `--format` or "
        "`--log-format` says what they are."
    )


def _stamps_note(grain: StampGrain, spread: bool) -> str:
    if not grain.share:
        return ""
    whose = "All requests" if grain.share == 1 else f"{format_percent(grain.share)} of the requests"
    span = format_seconds(grain.longest)
    if not spread:
        return f"{whose} have stamps that are exact to {span}, and `spread = false` leaves them together at its beginning."
    return (
        f"{whose} have stamps that are exact to {span}, and were spread evenly within it, so bursts that are shorter cannot "
        "be seen."
    )
