"""Lengths of time as people write them: "2ms", "0.5 s", "10 mins", "1h 30m"."""

from __future__ import annotations

import math
import re

from ratesim.safe_text import shorten_repr

__all__ = ["LONGEST", "NUMBER", "UNITS", "parse_duration", "parse_period"]

UNITS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
    "month": 30 * 86400.0,
    "year": 365 * 86400.0,
}
_SMALL = {"microsecond": 1e-6, "millisecond": 1e-3}
_ABBREVIATIONS = {
    "us": "microsecond", "µs": "microsecond", "μs": "microsecond", "usec": "microsecond",
    "ms": "millisecond", "msec": "millisecond",
    "s": "second", "sec": "second",
    "m": "minute", "min": "minute",
    "h": "hour", "hr": "hour",
    "d": "day",
    "w": "week", "wk": "week",
    "mo": "month", "mon": "month", "mth": "month",
    "y": "year", "yr": "year",
}  # fmt: skip
# ASCII digits only: Python reads those of any script, and "1_000".
NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?"
LONGEST = 200  # characters of a text that is read
_PART = re.compile(rf"\s*({NUMBER})?\s*([a-zµμ]+)", re.IGNORECASE)
_NUMBER = re.compile(rf"\s*{NUMBER}", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Read a length of time in seconds; a number without a unit is in seconds.

    A unit may be abbreviated or in the plural. A month has 30 days and a year 365. Raises ValueError.
    """
    seconds: float | None = None
    remedy = "write 2ms, 0.5s or 1h"
    try:
        if len(text) <= LONGEST and (first := _NUMBER.match(text)):
            seconds = float(first[0]) if first.end() == len(text.rstrip()) else parse_period(text)
    except ValueError as error:
        remedy = str(error)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(f"{shorten_repr(text)} is not a time; {remedy}")
    return seconds


def parse_period(text: str) -> float | None:
    """Read "minute", "5 seconds" or "1h 30m" in seconds; None for what is no period.

    Raises ValueError for an unknown unit.
    """
    total, place = 0.0, 0
    text = text.strip()
    while place < len(text):
        part = _PART.match(text, place) if len(text) <= LONGEST else None
        if part is None or (part[1] is None and (place or part.end() < len(text))):
            return None
        total += float(part[1] or 1) * _unit(part[2])
        place = part.end()
    return total if place else None


def _unit(name: str) -> float:
    lower = name.lower()
    for spelled in (lower, lower.removesuffix("s")):
        unit = _ABBREVIATIONS.get(spelled, spelled)
        if unit in UNITS:
            return UNITS[unit]
        if unit in _SMALL:
            return _SMALL[unit]
    raise ValueError(f"unknown unit {shorten_repr(name)}; known are {', '.join([*UNITS, *_SMALL])}")
