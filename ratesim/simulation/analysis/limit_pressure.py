"""Limit pressure: a limit that denies nobody, or everybody, cannot tell candidates apart."""

from __future__ import annotations

from dataclasses import dataclass

from ratesim.limit import Limit
from ratesim.simulation.results.oracle import exact
from traffic import Trace

__all__ = ["LimitPressure", "limit_pressure"]

BITES = (0.05, 0.30)  # share of requests that an exact limiter denies, for the limit to tell candidates apart
BINDING_SHARE = 0.005


@dataclass(frozen=True)
class LimitPressure:
    """How often an exact limiter denies.

    Attributes
    ----------
    exact_denied_share
        Share of the requests that an exact limiter denies, after the warm-up.
    is_binding
        Whether that is enough to tell candidates apart.
    suggestion
        A limit that would bind; None where this one does, or none was found.
    """

    exact_denied_share: float
    is_binding: bool
    suggestion: str | None


def limit_pressure(limit: Limit, trace: Trace, warmup: float = 0.0) -> LimitPressure:
    """Measure whether the limit is binding on this trace; if not, find a limit that would be.

    Parameters
    ----------
    limit : Limit
        The limit.
    trace : Trace
        The requests.
    warmup : float
        Seconds after the first request from which decisions count.
    """
    share = _denied(limit, trace, warmup)
    suggestion = None
    if not BITES[0] <= share <= BITES[1]:
        suggestion = _suggest(limit, trace, warmup)
    return LimitPressure(share, share >= BINDING_SHARE, suggestion)


def _denied(limit: Limit, trace: Trace, warmup: float) -> float:
    allowed = exact(limit, trace.key, trace.time, trace.cost, len(trace.keys))
    return float(1.0 - allowed[trace.time >= trace.time[0] + warmup].mean())


def _suggest(limit: Limit, trace: Trace, warmup: float) -> str | None:
    """Find a rate per the same period at which an exact limiter denies 5 to 30 %: the roundest found by bisection."""
    low, high = 1.0, max(float(trace.cost.sum()), 2.0)
    best: Limit | None = None
    for _ in range(40):
        rate = float(f"{(low * high) ** 0.5:.2g}")
        tried = Limit(rate, limit.period, limit.algorithm, None, limit.name, limit.options)
        share = _denied(tried, trace, warmup)
        if BITES[0] <= share <= BITES[1]:
            best = tried
            break
        if share > BITES[1]:
            low = (low * high) ** 0.5
        else:
            high = (low * high) ** 0.5
        if high / low < 1.05:
            break
    return str(best) if best else None
