"""How numbers read in a sentence and a table: seconds, shares, intervals, and text from outside made safe to print."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = [
    "escape_control_chars",
    "format_bytes",
    "format_metric",
    "format_money",
    "format_percent",
    "format_range",
    "format_seconds",
]


def format_seconds(value: float) -> str:
    """A duration in the unit in which it reads well, three significant digits: "31 µs", "0.52 ms", "1.2 s"."""
    if not math.isfinite(value):
        return "none"
    if value == 0:
        return "0 ms"
    if abs(value) < 1e-4:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if abs(value) < 0.9995 else f"{value:,.3g} s"


def format_percent(value: float) -> str:
    """A share as a percentage; only a true zero reads as "exactly 0". Without bound is what is much beside nothing."""
    if not math.isfinite(value):
        return "without bound" if value == math.inf else "unknown"
    if value == 0:
        return "exactly 0"
    percent = value * 100
    if abs(percent) < 0.001:
        return "less than 0.001 %"
    return f"{percent:.2g} %" if abs(percent) < 10 else f"{percent:.0f} %"


def format_range(low: float, high: float, unit: Callable[[float], str]) -> str:
    """An interval in words, with its unit said once: "0.79 to 0.81 ms"."""
    first, last = "0" if low == 0 else unit(low), unit(high)
    number, _, name = first.rpartition(" ")
    return f"{number if name == last.rpartition(' ')[2] and number else first} to {last}"


def format_bytes(value: float) -> str:
    """A size in bytes, kB, MB or GB, in powers of 1000."""
    if not math.isfinite(value):
        return "unknown"
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} GB"


def format_money(value: float, currency: str) -> str:
    """An amount to two significant digits, which is as far as a price that was worked out can be trusted: "1,300 USD"."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0 or value >= 0.01:
        return f"{float(f'{value:.2g}'):,.10g} {currency}"
    return f"less than 0.01 {currency}"


def format_metric(name: str, value: object) -> str:
    """A column of `RunResult.row` as people read it; its name tells the unit."""
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
    """The text with each control character escaped, so that no line of a log can steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in text
    )
