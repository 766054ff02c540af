"""Format numbers for sentences and tables, and make text from outside safe to print."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

__all__ = [
    "escape_control_chars",
    "format_amount",
    "format_bytes",
    "format_count",
    "format_length",
    "format_limit",
    "format_metric",
    "format_money",
    "format_percent",
    "format_period",
    "format_range",
    "format_seconds",
    "shorten",
]

_PERIODS = ((604800.0, "week"), (86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"), (1e-3, "ms"))
LONGEST = 40  # characters of a name


def format_seconds(value: float) -> str:
    """Format a duration to three significant digits in µs, ms or s: "31 µs", "0.52 ms", "1.2 s"."""
    if not math.isfinite(value):
        return "none"
    if value == 0:
        return "0 ms"
    if abs(value) < 1e-4:
        return f"{value * 1e6:.3g} µs"
    if abs(value) < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 999.5 else f"{value:,.0f} s"


def format_percent(value: float) -> str:
    """Format a share as a percentage. Only a true zero reads as "exactly 0".

    An infinite share, which is an excess over nothing, reads as "without bound".
    """
    if not math.isfinite(value):
        return "without bound" if value == math.inf else "unknown"
    if value == 0:
        return "exactly 0"
    percent = value * 100
    if abs(percent) < 0.001:
        return "less than 0.001 %"
    return f"{percent:.2g} %" if abs(percent) < 10 else f"{percent:.0f} %"


def format_range(low: float, high: float, unit: Callable[[float], str]) -> str:
    """Format an interval with its unit once: "0.79 to 0.81 ms"."""
    first, last = "0" if low == 0 else unit(low), unit(high)
    number, _, name = first.rpartition(" ")
    return f"{number if name == last.rpartition(' ')[2] and number else first} to {last}"


def format_bytes(value: float) -> str:
    """Format a size in bytes, kB, MB or GB, in powers of 1000."""
    if not math.isfinite(value):
        return "unknown"
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} GB"


def format_money(value: float, currency: str) -> str:
    """Format an amount of money to two significant digits, the precision of an estimated price: "1,300 USD"."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0 or value >= 0.01:
        return f"{float(f'{value:.2g}'):,.10g} {currency}"
    return f"less than 0.01 {currency}"


def format_amount(value: float, digits: int = 3) -> str:
    """Format a count, a rate or a cost: to so many significant digits, and always with all digits before the point."""
    whole = value >= 10 ** (digits - 1) or float(value).is_integer()
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


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
