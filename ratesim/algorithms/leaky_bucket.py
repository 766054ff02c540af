"""Leaky bucket, as a meter: starts empty and leaks rate/period per second; a request pours its cost in, if it fits `burst`.

It is the mirror image of a token bucket: volume = burst - tokens (Turner 1986; ITU-T I.371 describes both forms). The state
also remembers the burst that it was filled under. A volume may stand above the burst because the consumption of other nodes
was merged, or because the limit was lowered since. The first is paid back, the second forgiven.
"""

from __future__ import annotations

from math import inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import Limit

FIELDS = ("last_leak", "volume", "burst")
OPTIONS: dict[str, float | None] = {}
BURST = True

LAST, VOLUME, CAPACITY = 0, 1, 2  # in the state
BUCKET, LEAK = 0, 1  # in the parameters: capacity, cost leaked per second


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    return (limit.rate if limit.burst is None else limit.burst, limit.rate / limit.period)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return 3


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[LAST] = now
    s[VOLUME] = 0.0
    s[CAPACITY] = p[BUCKET]


def refresh(s: State, p: Params, now: float) -> None:
    """Leak the volume of the time that has passed."""
    volume = s[VOLUME]
    if s[CAPACITY] != p[BUCKET]:  # another limit than before: taken as if it had been so since
        s[CAPACITY] = p[BUCKET]
        if volume > p[BUCKET]:
            volume = p[BUCKET]
    if now > s[LAST]:
        volume = volume - (now - s[LAST]) * p[LEAK]
        s[LAST] = now
    if volume < 0.0:
        volume = 0.0
    s[VOLUME] = volume


def rewind(s: State, p: Params, now: float) -> None:
    """Take the volume as that of `now`."""
    s[LAST] = now


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    return p[BUCKET] - s[VOLUME]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Pour the cost in."""
    s[VOLUME] = s[VOLUME] + cost


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[BUCKET]:
        return inf
    return (s[VOLUME] - (p[BUCKET] - cost)) / p[LEAK]


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    return s[VOLUME] / p[LEAK]


def time_resolution(p: Params) -> float:
    """Return inf: the time of a late charge does not matter."""
    return inf
