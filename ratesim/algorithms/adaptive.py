"""Adaptive: a two-window counter whose limit moves with the health of the service behind it.

Additive increase, multiplicative decrease, the rule by which TCP shares a line (Chiu and Jain, "Analysis of the increase and
decrease algorithms for congestion avoidance in computer networks", Computer Networks and ISDN Systems 17, 1989, pages 1-14).
`observe` takes scores from 0 (failing) to 1 (fine) into an exponentially weighted mean. The limit moves when a window with
at least one observation ends. A mean of at least `raise_above`, with at least `used_share` of the limit used, raises the
limit by `increase` x rate. A mean below `cut_below` multiplies it by `decrease`. The limit stays between min_rate and
max_rate.

After HISTORY windows without an admitted request or a score, no knowledge is recent, and the state starts afresh.
"""

from __future__ import annotations

from math import ceil, floor, inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import LARGEST, SMALLEST, InvalidLimitError, Limit

FIELDS = (
    "window_start",
    "last_used",
    "current_limit",
    "performance_score",
    "observations",  # in the current window
    "count",  # cost admitted in the current window
    "traffic_history[]",  # cost admitted in each of the last 16 windows, newest first
)
OPTIONS: dict[str, float | None] = {
    "min_rate": None,  # rate / 10
    "max_rate": None,  # 2 * rate
    "raise_above": 0.9,
    "cut_below": 0.6,
    "used_share": 0.8,
    "increase": 0.05,
    "decrease": 0.5,
    "weight": 0.3,  # of the newest score in the mean
}
BURST = False

START, USED_AT, CURRENT, SCORE, OBSERVATIONS, COUNT, PAST = 0, 1, 2, 3, 4, 5, 6  # in the state
RATE, PERIOD, LOWEST, HIGHEST, FINE, POOR, BUSY, STEP, CUT, WEIGHT = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9  # in the parameters

HISTORY = 16  # windows
NOTHING = 1e-9  # of a score


def params(limit: Limit) -> Params:
    """Return the parameters; the bounds default to a tenth and twice the rate."""
    values = {"min_rate": limit.rate / 10.0, "max_rate": min(2.0 * limit.rate, LARGEST)}
    values |= {name: value for name, value in OPTIONS.items() if value is not None}
    values |= dict(limit.options)
    for name in ("raise_above", "cut_below", "used_share", "increase", "decrease", "weight"):
        if values[name] != 0.0 and not SMALLEST <= values[name] <= 1.0:
            raise InvalidLimitError(f"{name} {values[name]:g}: must be 0, or from {SMALLEST:g} to 1")
    if not SMALLEST / 10.0 <= values["min_rate"] <= values["max_rate"] <= LARGEST:
        raise InvalidLimitError(
            f"min_rate {values['min_rate']:g}, max_rate {values['max_rate']:g}: "
            f"must be in this order, from {SMALLEST / 10.0:g} to {LARGEST:g}"
        )
    if values["cut_below"] > values["raise_above"]:
        raise InvalidLimitError(
            f"cut_below {values['cut_below']:g}: must not be above raise_above {values['raise_above']:g}"
        )
    return (
        limit.rate,
        limit.period,
        values["min_rate"],
        values["max_rate"],
        values["raise_above"],
        values["cut_below"],
        values["used_share"],
        values["increase"] * limit.rate,
        values["decrease"],
        values["weight"],
    )


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return PAST + HISTORY


def window(p: Params, now: float) -> float:
    """Return the start of the window at `now`."""
    start = floor(now / p[PERIOD]) * p[PERIOD]
    if start > now or now >= start + p[PERIOD]:
        return now  # on an edge, and rounding has put it on the wrong side
    return start


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[START] = window(p, now)
    s[USED_AT] = now
    s[CURRENT] = clamp(p, p[RATE])
    s[SCORE] = 1.0
    s[OBSERVATIONS] = 0.0
    s[COUNT] = 0.0
    for i in range(PAST, PAST + HISTORY):
        s[i] = 0.0


def clamp(p: Params, limit: float) -> float:
    """Return the limit within its bounds."""
    return min(max(limit, p[LOWEST]), p[HIGHEST])


def adjusted_limit(s: State, p: Params) -> float:
    """Return the limit after the current window."""
    limit = clamp(p, s[CURRENT])
    if s[OBSERVATIONS] > 0.0:
        if s[SCORE] >= p[FINE]:
            if s[COUNT] >= p[BUSY] * limit:
                limit = limit + p[STEP]
        elif s[SCORE] < p[POOR]:
            limit = limit * p[CUT]
    return clamp(p, limit)


def refresh(s: State, p: Params, now: float) -> None:
    """Roll the windows, and move the limit at the end of one."""
    if now >= s[USED_AT] + HISTORY * p[PERIOD]:
        start(s, p, now)
    elif now >= s[START] + p[PERIOD]:
        newest = window(p, now)
        steps = int(min(max(floor((newest - s[START]) / p[PERIOD] + 0.5), 1.0), HISTORY))
        s[CURRENT] = adjusted_limit(s, p)
        for i in range(HISTORY - 1, -1, -1):
            s[PAST + i] = s[PAST + i - steps] if i >= steps else 0.0
        s[PAST + steps - 1] = s[COUNT]
        s[START] = newest
        s[OBSERVATIONS] = 0.0
        s[COUNT] = 0.0
    else:
        s[CURRENT] = clamp(p, s[CURRENT])


def rewind(s: State, p: Params, now: float) -> None:
    """Make the current window that of `now`; counts, limit and score stay."""
    s[START] = window(p, now)
    s[USED_AT] = min(s[USED_AT], now)


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    used = s[COUNT]
    share = 1.0 - (now - s[START]) / p[PERIOD]
    if share > 0.0:
        used = used + s[PAST] * share
    return s[CURRENT] - used


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Count the cost in its window."""
    s[USED_AT] = max(s[USED_AT], now)
    if now >= s[START]:
        s[COUNT] = s[COUNT] + cost
    else:  # late: it belongs to an earlier window
        steps = ceil((s[START] - now) / p[PERIOD])
        if steps <= HISTORY:
            s[PAST + int(steps) - 1] = s[PAST + int(steps) - 1] + cost


def observe(s: State, p: Params, score: float, now: float) -> None:
    """Take a score into the exponentially weighted mean."""
    s[USED_AT] = max(s[USED_AT], now)
    gap = score - s[SCORE]
    if gap <= -NOTHING or gap >= NOTHING:  # a smaller gap would underflow in the end, which PostgreSQL refuses
        s[SCORE] = s[SCORE] + p[WEIGHT] * gap
    s[OBSERVATIONS] = s[OBSERVATIONS] + 1.0


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    room = s[CURRENT] - s[COUNT]
    if room > cost:  # in this window, when enough of the one before has faded
        return s[START] + (1.0 - (room - cost) / s[PAST]) * p[PERIOD] - now
    limit = adjusted_limit(s, p)
    if limit - s[COUNT] >= cost:
        return s[START] + p[PERIOD] - now
    if limit >= cost:  # in the next, when enough of this one has faded
        return s[START] + (2.0 - (limit - cost) / s[COUNT]) * p[PERIOD] - now
    if cost <= clamp(p, p[RATE]):  # not before the state starts afresh
        return s[USED_AT] + HISTORY * p[PERIOD] - now
    return inf


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    if s[CURRENT] != clamp(p, p[RATE]) or s[SCORE] != 1.0 or s[OBSERVATIONS] > 0.0:
        return max(s[USED_AT] + HISTORY * p[PERIOD] - now, 0.0)
    if s[COUNT] > 0.0:
        return s[START] + 2.0 * p[PERIOD] - now
    if s[PAST] > 0.0:
        return s[START] + p[PERIOD] - now
    return 0.0


def time_resolution(p: Params) -> float:
    """Return the width of a window: only the window of a charge matters."""
    return p[PERIOD]
