"""Token bucket: starts full at `burst`, refills rate/period tokens per second; a request takes its cost in tokens."""

from __future__ import annotations

from math import inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import Limit

FIELDS = ("last_refill", "tokens")
OPTIONS: dict[str, float | None] = {}
BURST = True

LAST, TOKENS = 0, 1  # in the state
BUCKET, REFILL = 0, 1  # in the parameters: capacity, tokens per second


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    return (limit.rate if limit.burst is None else limit.burst, limit.rate / limit.period)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return 2


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[LAST] = now
    s[TOKENS] = p[BUCKET]


def refresh(s: State, p: Params, now: float) -> None:
    """Refill the tokens of the time that has passed."""
    tokens = s[TOKENS]
    if now > s[LAST]:
        tokens = tokens + (now - s[LAST]) * p[REFILL]
        s[LAST] = now
    if tokens > p[BUCKET]:
        tokens = p[BUCKET]
    s[TOKENS] = tokens


def rewind(s: State, p: Params, now: float) -> None:
    """Take the tokens as those of `now`."""
    s[LAST] = now


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    return s[TOKENS]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Take the cost in tokens."""
    s[TOKENS] = s[TOKENS] - cost


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[BUCKET]:
        return inf
    return (cost - s[TOKENS]) / p[REFILL]


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    return (p[BUCKET] - s[TOKENS]) / p[REFILL]


def time_resolution(p: Params) -> float:
    """Return inf: the time of a late charge does not matter."""
    return inf
