"""`Lease`: quota that a node has borrowed of one limit of one identifier; and how long that may be spent.

A lease is an ordinary `acquire` of many units at L2, which counts them as spent at once. That admits nothing too much as
long as spending them later is as good as having spent them then:

- Windows (fixed_window, sliding_window, adaptive): which time of a window a cost has changes no decision, so a lease may be
  spent until the edge of the (sub-)window that it was borrowed in, less the clock tolerance.
- Buckets: what is admitted in a time t was borrowed in t + d, d being how long a lease lives. A bucket of burst - rate * d /
  period admits at most burst + rate * t / period in that; so L2 is asked with this burst.
- Logs: a window of period + d that holds the limit holds every window of `period` of what is spent up to d late; so L2 is
  asked with this period.

d is at most `SLACK` of the time in which the limit comes back, so the stricter limit denies at most that share of it. Where
that share is less than one request, nothing is lent: every request asks L2, with the limit as it is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.runtime import Future

__all__ = ["SLACK", "Lease", "Terms", "terms"]

SLACK = 0.01  # of a limit that is not in windows


class Terms(NamedTuple):
    """asked: the limit that L2 is asked with. lives: seconds that a lease lives at most; 0 where nothing is lent. grain:
    seconds of the windows that it must not outlive, 0 where there are none, and then what is left is not given back."""

    asked: Limit
    lives: float
    grain: float


@lru_cache(maxsize=4096)
def terms(limit: Limit, ttl: float) -> Terms:
    """On which terms a node may borrow of a limit: the same for every node that has the same `ttl` (seconds)."""
    algorithm, p, _, _ = bind(limit)
    grain = algorithm.rule.grain(p)
    if 0.0 < grain < math.inf:
        return Terms(limit, grain, grain)
    most = limit.rate if limit.burst is None else limit.burst
    if SLACK * most < 1.0:
        return Terms(limit, 0.0, 0.0)
    if grain == 0.0:
        lives = min(ttl, SLACK * limit.period)
        return Terms(msgspec.structs.replace(limit, period=limit.period + lives), lives, 0.0)
    lives = min(ttl, SLACK * most * limit.period / limit.rate)
    return Terms(msgspec.structs.replace(limit, burst=most - lives * limit.rate / limit.period), lives, 0.0)


class Lease:
    """left: cost that may still be spent, until `ends`. borrowed_at: when L2 was asked for it last.

    rate: the node's own, cost per second, as of `seen_at`; spent: cost since then. beyond: what L2 had left when it was last
    heard of. denied: cost that L2 has denied; it is not asked again before denied_until, and will not admit it before
    retry_at. trip: seconds that L2 took to answer. flight: done when the borrowing that is under way is over.
    """

    __slots__ = (
        "beyond",
        "borrowed_at",
        "denied",
        "denied_until",
        "ends",
        "flight",
        "fresh_at",
        "identifier",
        "key",
        "left",
        "limit",
        "rate",
        "retry_at",
        "seen_at",
        "spent",
        "trip",
    )

    def __init__(self, identifier: str, key: Hashable, limit: Limit, now: float) -> None:
        self.identifier = identifier
        self.key = key
        self.limit = limit
        self.left = self.beyond = 0.0
        self.ends = self.borrowed_at = self.denied_until = self.retry_at = -math.inf
        self.denied = math.inf
        self.rate = self.spent = self.trip = 0.0
        self.seen_at = self.fresh_at = now
        self.flight: Future[None] | None = None

    def wanted(self, now: float, seconds: float, nodes: int) -> float:
        """Cost to borrow: what this node admits in so many seconds at its rate, and no more than a fair part of half of what
        is left (guided self-scheduling: C. Polychronopoulos and D. Kuck, IEEE Transactions on Computers C-36, 1987)."""
        since = now - self.seen_at
        if since > 0.0:
            kept = math.exp(-since / seconds)
            self.rate = kept * self.rate + (1.0 - kept) * self.spent / since
            self.spent, self.seen_at = 0.0, now
        return math.floor(min(self.rate * seconds, max(self.beyond, 0.0) / (2 * nodes)))

    def has(self, cost: float, time: float) -> bool:
        """Whether it is enough for this cost."""
        return self.left >= cost > 0.0 and time < self.ends

    def hears(self, allowed: bool, cost: float, now: float, retry_after: float, quiet: float) -> None:
        """L2's answer; after a denial it is not asked again for `quiet` seconds: others may give back what they have."""
        if allowed:
            self.denied_until, self.denied = -math.inf, math.inf
        else:
            self.retry_at = now + retry_after
            self.denied_until, self.denied = min(self.retry_at, now + quiet), cost

    def keep(self, more: float, now: float, ends: float) -> float:
        """Take in what was borrowed at `now` and may be spent until `ends`; returns what is forfeited by it."""
        if ends < self.ends:  # of a window that is over for this node
            return more
        gone = self.end() if ends > self.ends else 0.0
        self.left += more
        self.ends, self.borrowed_at = ends, now
        return gone

    def end(self) -> float:
        """Spend no more of it; what was left."""
        left, self.left = self.left, 0.0
        return left
