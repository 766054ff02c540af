"""How the page about a log says periods, rates, amounts of cost, and the names that stand in the log."""

from __future__ import annotations

from ratesim.limit import Limit

__all__ = ["amount", "length", "limit_of", "many", "per", "short"]

UNITS = ((604800.0, "week"), (86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"), (1e-3, "ms"))
LONGEST = 40  # characters of a name


def amount(value: float) -> str:
    """A count or a cost: whole above 100, else three significant digits."""
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"


def many(count: int, name: str) -> str:
    """How many of what: "1 client", "1,753 clients"."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def length(seconds: float) -> str:
    """A length of time in the largest unit that it holds: "10 s", "5 min", "1 hour"."""
    unit, name = next(((unit, name) for unit, name in UNITS if seconds >= unit), UNITS[-1])
    value = seconds / unit
    name = {"second": "s", "minute": "min"}.get(name, name if name == "ms" or value == 1 else f"{name}s")
    return f"{value:.3g} {name}"


def per(seconds: float) -> str:
    """A period after "per": "minute", "10 seconds"."""
    name = next((name for unit, name in UNITS if seconds == unit), None)
    return name if name not in (None, "ms") else f"{seconds:g} seconds"


def limit_of(limit: Limit) -> str:
    """A limit as `Limit.parse` reads it, its rate written out: "1000000/minute", "10 per 5 seconds"."""
    rate, name = f"{limit.rate:.15g}", per(limit.period)
    return f"{rate}/{name}" if " " not in name else f"{rate} per {name}"


def short(name: str) -> str:
    """A name from the log, its middle left out where it is long."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 12]}…{name[-11:]}"
