"""`Lease`: quota that a node has borrowed of one limit of one identifier; and how long that may be spent.

A lease is an ordinary `acquire` of many units at L2, which counts them as spent at once. That admits nothing too much as
long as spending them later is as good as having spent them then:

- Windows (fixed_window, sliding_window, adaptive): which time of a window a cost has changes no decision, so a lease may be
  spent until the edge of the (sub-)window that it was borrowed in, less the clock tolerance.
- Buckets: what is admitted in a time t was borrowed in t + d, d being how long a lease lives. A bucket of burst - rate * d /
  period admits at most burst + rate * t / period in that; so L2 is asked with this burst.
- Logs: a window of period + d that holds the limit holds every window of `period` of what is spent up to d late; so L2 is
  asked with this period.

What is not spent is given back: a charge of less than nothing at the time at which it was first borrowed. In a window, L2
takes it off that window, or off nothing when that is gone. A bucket takes it in, up to its burst. In a log it makes up for
entries that are not older, so it is not gone after them. None of that leaves more than if it had never been borrowed.

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

__all__ = ["SLACK", "Lease", "LeaseTerms", "lease_terms"]

SLACK = 0.01  # of a limit that is not in windows


class LeaseTerms(NamedTuple):
    """On which terms quota of a limit is lent.

    Attributes
    ----------
    asked
        The limit that L2 is asked with.
    lives
        Seconds that a lease lives at most; 0 where nothing is lent.
    time_resolution
        Seconds of the windows that it must not outlive, 0 where there are none.
    """

    asked: Limit
    lives: float
    time_resolution: float


@lru_cache(maxsize=4096)
def lease_terms(limit: Limit, ttl: float) -> LeaseTerms:
    """On which terms a node may borrow of a limit: the same for every node that has the same `ttl` (seconds)."""
    algorithm, p, _, _ = bind(limit)
    time_resolution = algorithm.rule.time_resolution(p)
    if 0.0 < time_resolution < math.inf:
        return LeaseTerms(limit, time_resolution, time_resolution)
    most = limit.rate if limit.burst is None else limit.burst
    if SLACK * most < 1.0:
        return LeaseTerms(limit, 0.0, 0.0)
    if time_resolution == 0.0:
        lives = min(ttl, SLACK * limit.period)
        return LeaseTerms(msgspec.structs.replace(limit, period=limit.period + lives), lives, 0.0)
    lives = min(ttl, SLACK * most * limit.period / limit.rate)
    return LeaseTerms(msgspec.structs.replace(limit, burst=most - lives * limit.rate / limit.period), lives, 0.0)


class Lease:
    """left: cost that may still be spent, until `ends`. first_at, borrowed_at: when L2 was first and last asked for it.

    rate: the node's own, cost per second, as of `seen_at`; spent: cost since then. beyond: what L2 had left when it was last
    heard of. denied: cost that L2 has denied; it is not asked again before denied_until, and will not admit it before
    retry_at. trip: seconds that L2 took to answer. flight: done when the borrowing that is under way is over.
    watched: whether somebody will end it.
    """

    __slots__ = (
        "beyond",
        "borrowed_at",
        "denied",
        "denied_until",
        "ends",
        "first_at",
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
        "watched",
    )

    def __init__(self, identifier: str, key: Hashable, limit: Limit, now: float) -> None:
        self.identifier = identifier
        self.key = key
        self.limit = limit
        self.left = self.beyond = 0.0
        self.ends = self.first_at = self.borrowed_at = self.denied_until = self.retry_at = -math.inf
        self.denied = math.inf
        self.rate = self.spent = self.trip = 0.0
        self.seen_at = self.fresh_at = now
        self.flight: Future[None] | None = None
        self.watched = False

    def refill_amount(self, now: float, seconds: float, nodes: int) -> float:
        """Cost to borrow: what this node admits in so many seconds at its rate, and no more than a fair part of half of what
        is left (guided self-scheduling: C. Polychronopoulos and D. Kuck, IEEE Transactions on Computers C-36, 1987)."""
        since = now - self.seen_at
        if since > 0.0:
            kept = math.exp(-since / seconds)
            self.rate = kept * self.rate + (1.0 - kept) * self.spent / since
            self.spent, self.seen_at = 0.0, now
        return math.floor(min(self.rate * seconds, max(self.beyond, 0.0) / (2 * nodes)))

    def can_spend(self, cost: float, time: float) -> bool:
        """Whether it is enough for this cost."""
        return self.left >= cost > 0.0 and time < self.ends

    def on_grant(self, allowed: bool, cost: float, now: float, retry_after: float, quiet: float) -> None:
        """L2's answer; after a denial it is not asked again for `quiet` seconds: others may give back what they have."""
        if allowed:
            self.denied_until, self.denied = -math.inf, math.inf
        else:
            self.retry_at = now + retry_after
            self.denied_until, self.denied = min(self.retry_at, now + quiet), cost

    def reserve(self, more: float, now: float, ends: float, windows: bool) -> float:
        """Take in what was borrowed at `now` and may be spent until `ends`; returns what is forfeited by it."""
        gone = 0.0
        if windows:
            if ends < self.ends:  # of a window that is over for this node
                return more
            if ends > self.ends:
                gone = self.end()
        elif self.left:
            ends = min(ends, self.ends)  # all of it ends with what was borrowed first
        if not self.left:
            self.first_at = now
        self.left += more
        self.ends, self.borrowed_at = ends, now
        return gone

    def end(self) -> float:
        """Spend no more of it; what was left."""
        left, self.left = self.left, 0.0
        return left
