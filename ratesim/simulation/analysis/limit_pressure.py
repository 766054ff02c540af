"""Limit pressure: a limit that denies nobody, or everybody, cannot tell candidates apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ratesim.formatting import format_limit
from ratesim.limit import Limit
from ratesim.simulation.analysis.limit_suggestion import Effect, Trial
from ratesim.simulation.results.accuracy import measure_accuracy
from ratesim.simulation.results.oracle import exact_trace
from traffic import Trace

__all__ = ["LimitPressure", "limit_pressure"]

BINDING_SHARE = 0.005  # of the requests that an exact limiter denies, for the limit to tell candidates apart
TOO_MUCH = 0.3


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
        The limit per the same period that `your_log` suggests for this traffic (`Trial.suggest`); None where this one binds
        without denying too much, or does not bind and is no larger.
    exact_worst_excess
        The busiest window of an exact limiter, which is what the algorithm itself allows on this traffic: the most that it
        admits in any window of the limit's period, over the limit, minus 1. nan where it was not measured.
    suggested_denied_share
        Share of the requests that an exact limiter denies under the suggestion; 0 without one.
    """

    exact_denied_share: float
    is_binding: bool
    suggestion: str | None
    exact_worst_excess: float = math.nan
    suggested_denied_share: float = 0.0  # and not nan, which no JSON has


def limit_pressure(limit: Limit, trace: Trace, warmup: float = 0.0) -> LimitPressure:
    """Measure whether the limit is binding on this trace; if it is not, or denies too much, find one that fits.

    Parameters
    ----------
    limit : Limit
        The limit.
    trace : Trace
        The requests.
    warmup : float
        Seconds after the first request from which decisions count.
    """
    admitted = exact_trace(limit, trace)
    since = trace.time[0] + warmup
    share = _denied(admitted, trace, since)
    worst = measure_accuracy(limit, trace.key, trace.time, trace.cost, admitted, since=since).worst_excess
    suggestion = None if BINDING_SHARE <= share <= TOO_MUCH else _suggest(limit, trace)
    if suggestion is None or (share < BINDING_SHARE and suggestion.limit.rate >= limit.rate):
        return LimitPressure(share, share >= BINDING_SHARE, None, worst)
    return LimitPressure(share, share >= BINDING_SHARE, format_limit(suggestion.limit), worst, suggestion.denied_share)


def _denied(admitted: NDArray[np.bool_], trace: Trace, since: float) -> float:
    return float(1.0 - admitted[trace.time >= since].mean())


def _suggest(limit: Limit, trace: Trace) -> Effect | None:
    """Suggest as `your_log` does; None where no limit denies anything."""
    return Trial(trace, limit.algorithm, limit.options).suggest(limit.period).effect if trace.cost.any() else None
