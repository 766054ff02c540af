"""Lengths of time as people write them: "2ms", "0.5 s", "10 mins", "1h 30m"."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from ratesim.safe_text import shorten_repr

__all__ = [
    "LONGEST",
    "NUMBER",
    "UNITS",
    "format_decimal",
    "parse_decimal",
    "parse_duration",
    "parse_period",
    "write_duration",
]

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
_MOST_WHOLE = 10**15  # seconds that are written in minutes, hours or days
_LONGEST_PLAIN = 25  # characters of a number without an exponent
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
    total, place = Decimal(0), 0
    text = text.strip()
    while place < len(text):
        part = _PART.match(text, place) if len(text) <= LONGEST else None
        if part is None or (part[1] is None and (place or part.end() < len(text))):
            return None
        total += parse_decimal(part[1] or "1") * Decimal(repr(_unit(part[2])))  # exact, so that 0.3ms is 0.0003
        place = part.end()
    return float(total) if place else None


def write_duration(seconds: float) -> str:
    """Write a length of time as "1.5ms" or "1 minute", so that `parse_duration` reads back the same number."""
    value = Decimal(repr(float(seconds)))
    for name in ("day", "hour", "minute"):
        count, rest = divmod(value, int(UNITS[name])) if value < _MOST_WHOLE else (0, 1)
        if count and not rest:
            return f"{count:f} {name}{'s' * (count > 1)}"
    exponent, unit = (0, "s") if value >= 1 or not value else (3, "ms") if value >= Decimal("0.001") else (6, "us")
    return f"{format_decimal(value.scaleb(exponent))}{unit}"


def parse_decimal(text: str) -> Decimal:
    """Read a `NUMBER` exactly; what is beyond the range of a float is 0 or infinite."""
    value = float(text)
    return Decimal(text) if value and math.isfinite(value) else Decimal(value)


def format_decimal(value: Decimal) -> str:
    """Write a decimal with all its digits and no more, with an exponent where it would be long."""
    value = value.normalize()
    plain = f"{value:f}"
    return plain if len(plain) <= _LONGEST_PLAIN else str(value).lower()


def _unit(name: str) -> float:
    lower = name.lower()
    for spelled in (lower, lower.removesuffix("s")):
        unit = _ABBREVIATIONS.get(spelled, spelled)
        if unit in UNITS:
            return UNITS[unit]
        if unit in _SMALL:
            return _SMALL[unit]
    raise ValueError(f"unknown unit {shorten_repr(name)}; known are {', '.join([*UNITS, *_SMALL])}")
