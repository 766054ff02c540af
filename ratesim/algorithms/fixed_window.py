"""Fixed window: a count in windows aligned to multiples of `period` since the epoch, [start, start + period).

It is simple and cheap, and admits up to twice the rate across an edge.
"""

from __future__ import annotations

from math import floor, inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import Limit

FIELDS = ("window_start", "count")
OPTIONS: dict[str, float | None] = {}
BURST = False

START, COUNT = 0, 1  # in the state
RATE, PERIOD = 0, 1  # in the parameters


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    return (limit.rate, limit.period)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return 2


def window(p: Params, now: float) -> float:
    """Return the start of the window at `now`."""
    start = floor(now / p[PERIOD]) * p[PERIOD]
    if start > now or now >= start + p[PERIOD]:
        return now  # on an edge, and rounding has put it on the wrong side
    return start


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[START] = window(p, now)
    s[COUNT] = 0.0


def refresh(s: State, p: Params, now: float) -> None:
    """Begin a new window if the current one has ended."""
    if now >= s[START] + p[PERIOD]:
        s[START] = window(p, now)
        s[COUNT] = 0.0


def rewind(s: State, p: Params, now: float) -> None:
    """Make the current window that of `now`; its count stays."""
    s[START] = window(p, now)


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    return p[RATE] - s[COUNT]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Count the cost, unless its window is gone."""
    if now >= s[START]:  # a late charge belongs to a window that is gone
        s[COUNT] = s[COUNT] + cost


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[RATE]:
        return inf
    return s[START] + p[PERIOD] - now


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    if s[COUNT] == 0.0:
        return 0.0
    return s[START] + p[PERIOD] - now


def time_resolution(p: Params) -> float:
    """Return the width of a window: only the window of a charge matters."""
    return p[PERIOD]
