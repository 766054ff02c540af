"""First-hit window: a count in a window that opens with the first admitted cost and closes `period` seconds later.

The counter of INCR and EXPIRE (Redis documentation of INCR, "Pattern: Rate limiter 2"). Its edges differ from client to
client, so no herd waits for one; each client is still admitted up to twice the rate across its own.
"""

from __future__ import annotations

from math import inf

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


def start(s: State, p: Params, now: float) -> None:
    s[START] = now
    s[COUNT] = 0.0


def refresh(s: State, p: Params, now: float) -> None:
    if s[COUNT] == 0.0 or now >= s[START] + p[PERIOD]:  # a window that nothing was admitted in is not open yet
        s[START] = now
        s[COUNT] = 0.0


def rewind(s: State, p: Params, now: float) -> None:
    s[START] = now


def available(s: State, p: Params, now: float) -> float:
    return p[RATE] - s[COUNT]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    if now + p[PERIOD] > s[START]:  # a late charge whose window closed before this one opened is gone
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
    return 0.0
