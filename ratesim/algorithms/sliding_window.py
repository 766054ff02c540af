"""Sliding window counter: full sub-windows plus the linear share of the oldest.

The period is cut into `buckets` sub-windows, aligned to multiples of their width. The state counts the current one and the
`buckets` before it. The count of the oldest is taken to be spread evenly over it. With buckets=1, the default, this is the
two-window counter used at the edge by content delivery networks. It keeps the limit in any period * (1 - 1/buckets).
"""

from __future__ import annotations

from math import ceil, floor, inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import InvalidLimitError, Limit

FIELDS = ("window_start", "counts[]")  # counts: newest first, buckets + 1 of them
OPTIONS: dict[str, float | None] = {"buckets": 1.0}
BURST = False

START, NEWEST = 0, 1  # in the state
RATE, WIDTH, BUCKETS = 0, 1, 2  # in the parameters: width of a sub-window in seconds

MOST_BUCKETS = 1000


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    buckets = dict(limit.options).get("buckets", 1.0)
    if buckets != floor(buckets) or not 1 <= buckets <= MOST_BUCKETS:
        raise InvalidLimitError(f"buckets {buckets:g}: must be a whole number from 1 to {MOST_BUCKETS}")
    return (limit.rate, limit.period / buckets, buckets)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return int(p[BUCKETS]) + 2


def window(p: Params, now: float) -> float:
    """Return the start of the window at `now`."""
    start = floor(now / p[WIDTH]) * p[WIDTH]
    if start > now or now >= start + p[WIDTH]:
        return now  # on an edge, and rounding has put it on the wrong side
    return start


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[START] = window(p, now)
    for i in range(NEWEST, len(s)):
        s[i] = 0.0


def refresh(s: State, p: Params, now: float) -> None:
    """Roll the sub-windows."""
    if now >= s[START] + p[WIDTH]:
        newest = window(p, now)
        oldest = len(s) - 1
        gone = (newest - s[START]) / p[WIDTH] + 0.5
        steps = 1 if gone < 2.0 else oldest if gone >= oldest else int(gone)
        for i in range(oldest, 0, -1):
            s[i] = s[i - steps] if i > steps else 0.0
        s[START] = newest


def rewind(s: State, p: Params, now: float) -> None:
    """Make the current sub-window that of `now`; the counts stay."""
    s[START] = window(p, now)


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    oldest = len(s) - 1
    used = s[NEWEST]
    for i in range(NEWEST + 1, oldest):
        used = used + s[i]
    share = 1.0 - (now - s[START]) / p[WIDTH]
    if share > 0.0:
        used = used + s[oldest] * share
    return p[RATE] - used


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Count the cost in its sub-window."""
    if now >= s[START]:
        s[NEWEST] = s[NEWEST] + cost
    else:
        charge_late(s, p, cost, now)


def charge_late(s: State, p: Params, cost: float, now: float) -> None:
    """Charge an earlier sub-window, or none if it no longer counts."""
    steps = ceil((s[START] - now) / p[WIDTH])
    if NEWEST + steps < len(s):
        s[NEWEST + int(steps)] = s[NEWEST + int(steps)] + cost


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[RATE]:
        return inf
    oldest = len(s) - 1
    # What counts only shrinks if nobody comes: find the sub-window, and the place in it, where the cost fits.
    for roll in range(oldest):
        used = 0.0
        for i in range(NEWEST, oldest - roll):
            used = used + s[i]
        if p[RATE] - used >= cost:
            fading = s[oldest - roll]
            if p[RATE] - (used + fading) >= cost:
                return s[START] + roll * p[WIDTH] - now
            return s[START] + (roll + 1.0 - (p[RATE] - used - cost) / fading) * p[WIDTH] - now
    return s[START] + oldest * p[WIDTH] - now


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    oldest = len(s) - 1
    for i in range(NEWEST, oldest + 1):
        if s[i] > 0.0:
            return s[START] + (oldest + 1.0 - i) * p[WIDTH] - now
    return 0.0


def time_resolution(p: Params) -> float:
    """Return the width of a sub-window: only the sub-window of a charge matters."""
    return p[WIDTH]
