"""Format numbers for sentences and tables, and make text from outside safe to print."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

__all__ = [
    "Format",
    "escape_control_chars",
    "format_amount",
    "format_apart",
    "format_bytes",
    "format_count",
    "format_excess",
    "format_length",
    "format_limit",
    "format_metric",
    "format_money",
    "format_percent",
    "format_period",
    "format_range",
    "format_seconds",
    "format_within",
    "shorten",
]

_PERIODS = ((604800.0, "week"), (86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"), (1e-3, "ms"))
LONGEST = 40  # characters of a name
MOST_DIGITS = 6  # significant digits of a value that is told apart from another


class Format(Protocol):
    """A function of this module that takes a number of significant digits."""

    def __call__(self, value: float, /, *, digits: int = ...) -> str:
        """Write a value with its unit."""


def format_seconds(value: float, *, digits: int = 3) -> str:
    """Format a duration to three significant digits in µs, ms or s: "31 µs", "0.52 ms", "1.2 s"."""
    if not math.isfinite(value):
        return "none"
    if value == 0:
        return "0 ms"
    if abs(value) < 1e-4:
        return f"{_significant(value * 1e6, digits)} µs"
    if abs(value) < 0.9995:
        return f"{_significant(value * 1e3, digits)} ms"
    return f"{_significant(value, digits)} s"


def format_percent(value: float, *, digits: int = 2) -> str:
    """Format a share as a percentage. Only a true zero reads as "exactly 0", and nothing below it as 100 %.

    An infinite share, which is an excess over nothing, reads as "without bound".
    """
    if not math.isfinite(value):
        return "without bound" if value == math.inf else "unknown"
    if value == 0:
        return "exactly 0"
    percent, least = value * 100, 10.0 ** -(digits + 1)
    if abs(percent) < least:
        return f"less than {least:.{digits + 1}f} %"
    while percent < 100 and digits < MOST_DIGITS and _significant(percent, digits) == "100":
        digits += 1
    return f"{_significant(percent, digits).replace(',', '')} %"


def format_apart(first: float, second: float, unit: Format) -> tuple[str, str]:
    """Format two values with as many digits as tell them apart; the texts are equal where `MOST_DIGITS` do not."""
    finer = _apart(first, second, unit)
    return finer(first), finer(second)


def format_within(value: float, low: float, high: float, unit: Format) -> str:
    """Format a value with as many digits as `format_range` takes for its interval, so that it reads as within it."""
    return _apart(low, high, unit)(value)


def _apart(first: float, second: float, unit: Format) -> Format:
    """Return the format with as many digits as tell two values apart, or as it is where `MOST_DIGITS` do not."""
    for digits in range(3, MOST_DIGITS + 1):
        if unit(first) != unit(second):
            break
        if unit(first, digits=digits) != unit(second, digits=digits):
            return partial(unit, digits=digits)
    return unit


def format_range(low: float, high: float, unit: Format) -> str:
    """Format an interval with its unit once: "0.79 to 0.81 ms"; as one value where its ends do not differ in print."""
    first, last = format_apart(low, high, unit)
    if first == last:
        return first
    if first.startswith(("0", "exactly 0")) and low == 0:
        return f"0 to {last}"
    number, _, name = first.partition(" ")
    return f"{number if name == last.partition(' ')[2] and name else first} to {last}"


def format_excess(value: float, *, digits: int = 3) -> str:
    """Format what is in a window beyond the limit, as a multiple of the limit: "1.30 x the limit" for 0.3."""
    return f"{1.0 + value:.{digits - 1}f} x the limit"


def format_bytes(value: float, *, digits: int = 3) -> str:
    """Format a size in bytes, kB, MB or GB, in powers of 1000."""
    if not math.isfinite(value):
        return "unknown"
    for unit in ("bytes", "kB", "MB"):
        if value < 999.5:
            return f"{_significant(value, digits)} {unit}"
        value /= 1000
    return f"{_significant(value, digits)} GB"


def format_money(value: float, currency: str) -> str:
    """Format an amount of money to two significant digits, the precision of an estimated price: "1,300 USD"."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0 or value >= 0.01:
        return f"{float(f'{value:.2g}'):,.10g} {currency}"
    return f"less than 0.01 {currency}"


def format_amount(value: float, digits: int = 3) -> str:
    """Format a count, a rate or a cost: to so many significant digits, and always with all digits before the point."""
    return f"{value:,.0f}" if float(value).is_integer() else _significant(value, digits)


def _significant(value: float, digits: int) -> str:
    """Write a number to so many significant digits, always with all digits before the point and never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_count(count: int, name: str) -> str:
    """Format a count with its noun: "1 client", "1,753 clients"."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def format_length(seconds: float) -> str:
    """Format a length of time in the largest unit that it holds: "10 s", "5 min", "1 hour"."""
    unit, name = next(((unit, name) for unit, name in _PERIODS if seconds >= unit), _PERIODS[-1])
    value = seconds / unit
    name = {"second": "s", "minute": "min"}.get(name, name if name == "ms" or value == 1 else f"{name}s")
    return f"{value:.3g} {name}"


def format_period(seconds: float) -> str:
    """Format a period as it stands after "per": "minute", "10 seconds"."""
    name = next((name for unit, name in _PERIODS if seconds == unit), None)
    return name if name not in (None, "ms") else f"{seconds:g} seconds"


class _RateAndPeriod(Protocol):
    @property
    def rate(self) -> float: ...

    @property
    def period(self) -> float: ...


def format_limit(limit: _RateAndPeriod) -> str:
    """Format a limit as `Limit.parse` reads it, with all digits of its rate: "1000000/minute", "10 per 5 seconds"."""
    number, name = f"{limit.rate:.15g}", format_period(limit.period)
    return f"{number}/{name}" if " " not in name else f"{number} per {name}"


def shorten(name: str) -> str:
    """Leave out the middle of a long name."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 12]}…{name[-11:]}"


def format_metric(name: str, value: object) -> str:
    """Format a column of `RunResult.row`, whose name tells the unit."""
    if "bytes" in name and isinstance(value, int | float):
        return format_bytes(value)
    if not isinstance(value, float):
        return "none" if value in ("", None) else escape_control_chars(str(value))
    if name == "simulated_seconds":
        return f"{value:,.0f} s"
    if name.startswith(("latency", "view_age")) or "busy" in name:
        return format_seconds(value)
    if name.endswith(("admission", "denial", "excess")) or "utilization" in name:
        return format_percent(value)
    return f"{value:.3f}" if name == "worst_start" else f"{value:.10g}" if value.is_integer() else f"{value:.4g}"


def escape_control_chars(text: str) -> str:
    """Escape each control character, so that no line of a log can control a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in text
    )
