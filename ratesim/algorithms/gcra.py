"""GCRA, the generic cell rate algorithm: a leaky bucket that counts in time (ITU-T I.371, Annex A; ATM Forum TM 4.1).

A cost of 1 is worth an interval of period/rate seconds. The state holds the backlog, which is the theoretical arrival time
less the present, as a duration. An absolute time near 1.7e9 s is exact only to 238 ns, which at a million requests per
second admits 5 % too much. A request is admitted while backlog + cost * interval <= burst * interval. Like the leaky
bucket's, the state remembers the tolerance (burst * interval) that it was filled under: a lowered limit forgives the part
above the new one.
"""

from __future__ import annotations

from math import inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import Limit

FIELDS = ("last", "backlog", "tolerance")
OPTIONS: dict[str, float | None] = {}
BURST = True

LAST, BACKLOG, TOLERANCE = 0, 1, 2  # in the state
BUCKET, INTERVAL, LONGEST = 0, 1, 2  # in the parameters: burst, seconds per cost of 1, burst in seconds


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    burst = limit.rate if limit.burst is None else limit.burst
    interval = limit.period / limit.rate
    return (burst, interval, burst * interval)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return 3


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[LAST] = now
    s[BACKLOG] = 0.0
    s[TOLERANCE] = p[LONGEST]


def refresh(s: State, p: Params, now: float) -> None:
    """Reduce the backlog by the time that has passed."""
    backlog = s[BACKLOG]
    if s[TOLERANCE] != p[LONGEST]:  # another limit than before: taken as if it had been so since
        s[TOLERANCE] = p[LONGEST]
        if backlog > p[LONGEST]:
            backlog = p[LONGEST]
    if now > s[LAST]:
        backlog = backlog - (now - s[LAST])
        s[LAST] = now
    if backlog < 0.0:
        backlog = 0.0
    s[BACKLOG] = backlog


def rewind(s: State, p: Params, now: float) -> None:
    """Take the backlog as that of `now`."""
    s[LAST] = now


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    return p[BUCKET] - s[BACKLOG] / p[INTERVAL]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Add the interval of the cost to the backlog."""
    s[BACKLOG] = s[BACKLOG] + cost * p[INTERVAL]


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[BUCKET]:
        return inf
    return s[BACKLOG] - (p[BUCKET] - cost) * p[INTERVAL]


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    return s[BACKLOG]


def time_resolution(p: Params) -> float:
    """Return inf: the time of a late charge does not matter."""
    return inf
