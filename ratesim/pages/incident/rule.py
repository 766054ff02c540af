"""The expected overshoot and load of a limiter whose replicas sync at an interval.

It is simple arithmetic: the overshoot of a fixed window, the intervals where it bends, and the operations on Redis. The rule
is that of wso2/api-platform#2142 (`sources.py`). The rest is ours, and is compared with simulations (`analysis.py`).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq

from ratesim.limit import Limit

__all__ = ["bends", "expected", "interval_for", "most", "operations", "rule"]


def rule(replicas: int, offered: float, interval: float) -> float:
    """Compute the documented overshoot in requests per window, (replicas - 1) x rate x interval.

    `rate` is the load of one replica: offered / replicas. Half of the overshoot is what the others have not flushed yet,
    half is what they flushed since this replica last heard of them.
    """
    return (replicas - 1) * offered / replicas * interval


def expected(limit: Limit, replicas: int, offered: float, interval: float, answer: float) -> float:
    """Overshoot of a fixed window in requests per window, with what bends the rule. answer: seconds that a sync takes.

    A replica syncs only what it admitted: at rate r its syncs are interval / (1 - exp(-r x interval)) apart, never closer
    than its own requests, and a sync that is under way when the next is due is waited for. A view is older by the time that
    its answer took. Nobody admits more than is asked for, and nobody more than his own count of the limit.
    """
    rate = offered / replicas
    apart = max(1, math.ceil(answer / interval - 1e-9)) * interval
    age = apart / -math.expm1(-rate * apart) + answer
    return min((replicas - 1) * rate * age, most(limit, replicas, offered))


def most(limit: Limit, replicas: int, offered: float) -> float:
    """Compute the most overshoot in requests per window: all requests beyond the limit, or one limit per other replica."""
    return max(0.0, min(offered * limit.period - limit.rate, (replicas - 1) * limit.rate))


def bends(limit: Limit, replicas: int, offered: float, answer: float) -> tuple[float, float]:
    """Compute the two intervals, in seconds, between which the rule holds: its line meets the least and most overshoot."""
    slope = rule(replicas, offered, 1.0)
    return (
        expected(limit, replicas, offered, answer * 1e-3, answer) / slope,
        most(limit, replicas, offered) / slope,
    )


def interval_for(limit: Limit, replicas: int, offered: float, allowed: float, answer: float) -> float | None:
    """Compute the longest interval whose expected overshoot is `allowed` requests per window.

    Returns
    -------
    float or None
        Seconds. None if no interval keeps to it, inf if every one does.
    """
    if most(limit, replicas, offered) <= allowed:
        return math.inf
    low, high = bends(limit, replicas, offered, answer)
    if expected(limit, replicas, offered, answer, answer) > allowed:
        return None
    return float(brentq(lambda d: expected(limit, replicas, offered, d, answer) - allowed, answer, 2.0 * (low + high)))


def operations(rate: float, interval: float) -> float:
    """Operations on Redis per request, without reads, of a key that one replica is asked for `rate` times per second.

    One for each interval with at least one request: (1 - exp(-x)) / x for x = rate x interval requests in an interval.
    """
    x = rate * interval
    return -math.expm1(-x) / x
