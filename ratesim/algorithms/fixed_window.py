"""Fixed window: a count in windows aligned to multiples of `period` since the epoch, [start, start + period).

Simple and cheap; admits up to twice the rate across an edge.
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
    return (limit.rate, limit.period)


def size(p: Params) -> int:
    return 2


def window(p: Params, now: float) -> float:
    start = floor(now / p[PERIOD]) * p[PERIOD]
    if start > now or now >= start + p[PERIOD]:
        return now  # on an edge, and rounding has put it on the wrong side
    return start


def start(s: State, p: Params, now: float) -> None:
    s[START] = window(p, now)
    s[COUNT] = 0.0


def refresh(s: State, p: Params, now: float) -> None:
    if now >= s[START] + p[PERIOD]:
        s[START] = window(p, now)
        s[COUNT] = 0.0


def available(s: State, p: Params, now: float) -> float:
    return p[RATE] - s[COUNT]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    if now >= s[START]:  # a late charge belongs to a window that is gone
        s[COUNT] = s[COUNT] + cost


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    if cost > p[RATE]:
        return inf
    return s[START] + p[PERIOD] - now


def reset_after(s: State, p: Params, now: float) -> float:
    if s[COUNT] == 0.0:
        return 0.0
    return s[START] + p[PERIOD] - now


def time_resolution(p: Params) -> float:
    return p[PERIOD]
