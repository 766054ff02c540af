"""`Lease`: quota that a node has borrowed of one limit of one identifier, and the terms on which it is lent.

A lease is an ordinary `acquire` of many units at L2, which counts them as spent at once. This admits no more than the limit
as long as spending a unit later is equivalent to spending it when it was borrowed. Let d be the lifetime of a lease.

- Windows (fixed_window, sliding_window, adaptive): the time of a cost within a window changes no decision. A lease may
  therefore be spent until the edge of the (sub-)window in which it was borrowed, less the clock tolerance.
- Buckets: cost that is admitted in a time t was borrowed in t + d. A bucket with a burst of burst - rate * d / period admits
  at most burst + rate * t / period in that time. L2 is therefore asked with this burst.
- Logs: if every window of period + d holds the limit, every window of `period` holds it for cost that is spent up to d late.
  L2 is therefore asked with this period.

Unspent quota is given back as a negative charge at the time at which it was first borrowed. L2 takes it off that window, or
off nothing when the window is gone. A bucket takes it in, up to its burst. In a log it cancels entries that are not older,
so it does not outlast them. None of these leaves more than if the quota had never been borrowed.

d is at most `SLACK` of the time in which the limit refills, so the stricter limit denies at most that share of it. Where
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
from ratesim.runtime import Flight

__all__ = ["SLACK", "Lease", "LeaseTerms", "lease_terms"]

SLACK = 0.01  # of a limit that is not in windows


class LeaseTerms(NamedTuple):
    """The terms on which quota of a limit is lent.

    Attributes
    ----------
    limit
        The limit with which L2 is asked.
    lifetime
        Seconds that a lease lives at most; 0 where nothing is lent.
    time_resolution
        Seconds of the windows that it must not outlive, 0 where there are none.
    """

    limit: Limit
    lifetime: float
    time_resolution: float


@lru_cache(maxsize=4096)
def lease_terms(limit: Limit, ttl: float) -> LeaseTerms:
    """Return the terms on which a node may borrow of a limit; equal for all nodes with the same `ttl` (seconds)."""
    algorithm, p, _, _ = bind(limit)
    time_resolution = algorithm.rule.time_resolution(p)
    if 0.0 < time_resolution < math.inf:
        return LeaseTerms(limit, time_resolution, time_resolution)
    most = limit.rate if limit.burst is None else limit.burst
    if SLACK * most < 1.0:
        return LeaseTerms(limit, 0.0, 0.0)
    if time_resolution == 0.0:
        lifetime = min(ttl, SLACK * limit.period)
        return LeaseTerms(msgspec.structs.replace(limit, period=limit.period + lifetime), lifetime, 0.0)
    lifetime = min(ttl, SLACK * most * limit.period / limit.rate)
    burst = most - lifetime * limit.rate / limit.period
    return LeaseTerms(msgspec.structs.replace(limit, burst=burst), lifetime, 0.0)


class Lease:
    """The quota that a node has borrowed of one limit of one identifier.

    Parameters
    ----------
    identifier, key, limit
        The limit, and the key of the lease.
    now
        The monotonic time.

    Attributes
    ----------
    left
        Cost that may still be spent, until `ends` or `expires`, whichever is sooner.
    ends
        The edge of its window, or the end of its life, seconds since the epoch.
    expires, borrowed_at
        Monotonic times: that of `ends`, and when cost was last borrowed. With `ends` alone, a wall clock that is set back
        would let cost of one window be spent in later ones.
    first_at
        When the cost that is left was first borrowed, seconds since the epoch.
    rate
        Cost per second that this node spends, as of the monotonic time `seen_at`.
    spent
        Cost since `seen_at`.
    remaining
        Cost that L2 had left when it last answered.
    reset_at
        The monotonic time when the limit will be reset, by L2's last answer.
    denied
        Cost that L2 has denied. It is not asked again before `denied_until`, and will not admit it before `retry_at`, both
        monotonic times.
    round_trip
        Seconds that L2 took to answer.
    flight
        The borrowing that is under way.
    watched
        Whether the lease is queued for being ended.
    """

    __slots__ = (
        "borrowed_at",
        "denied",
        "denied_until",
        "ends",
        "expires",
        "first_at",
        "flight",
        "identifier",
        "key",
        "left",
        "limit",
        "rate",
        "remaining",
        "reset_at",
        "retry_at",
        "round_trip",
        "seen_at",
        "spent",
        "watched",
    )

    def __init__(self, identifier: str, key: Hashable, limit: Limit, now: float) -> None:
        self.identifier = identifier
        self.key = key
        self.limit = limit
        self.left = self.remaining = 0.0
        self.ends = self.first_at = -math.inf
        self.expires = self.borrowed_at = self.denied_until = self.retry_at = -math.inf
        self.denied = math.inf
        self.rate = self.spent = self.round_trip = 0.0
        self.seen_at = self.reset_at = now
        self.flight: Flight | None = None
        self.watched = False

    def refill_amount(self, now: float, seconds: float, nodes: int) -> float:
        """Return the cost to borrow.

        It is the cost that this node admits in `seconds` at its rate, and at most a fair part of half of what L2 has left
        (guided self-scheduling: C. Polychronopoulos and D. Kuck, IEEE Transactions on Computers C-36, 1987).
        """
        since = now - self.seen_at
        if since > 0.0:
            weight = math.exp(-since / seconds)
            self.rate = weight * self.rate + (1.0 - weight) * self.spent / since
            self.spent, self.seen_at = 0.0, now
        return math.floor(min(self.rate * seconds, max(self.remaining, 0.0) / (2 * nodes)))

    def can_spend(self, cost: float, time: float, monotonic: float) -> bool:
        """Return whether the lease covers this cost at that time, given by both clocks."""
        return self.left >= cost > 0.0 and time < self.ends and monotonic < self.expires

    def on_grant(self, allowed: bool, cost: float, now: float, retry_after: float, quiet: float) -> None:
        """Note L2's answer to a request of the monotonic time `now`.

        After a denial L2 is not asked again for `quiet` seconds, since other nodes may give back their leases meanwhile.
        """
        if allowed:
            self.denied_until, self.denied = -math.inf, math.inf
        else:
            self.retry_at = now + retry_after
            self.denied_until, self.denied = min(self.retry_at, now + quiet), cost

    def reserve(self, more: float, now: float, ahead: float, ends: float, windows: bool, time: float) -> float:
        """Add quota that was borrowed.

        Parameters
        ----------
        more
            The cost that was borrowed.
        now
            When it was asked for, seconds since the epoch.
        ahead
            The monotonic clock less the wall clock then, seconds.
        ends
            Until when it may be spent, seconds since the epoch.
        windows
            Whether `ends` is the edge of a window.
        time
            The present time, seconds since the epoch.

        Returns
        -------
        float
            The cost that is forfeited by it.
        """
        gone, expires = 0.0, ends + ahead
        if windows:
            if ends < self.ends and ends <= max(now, time):  # of a window that is over for this node
                return more
            if ends != self.ends:
                gone = self.end()
        elif self.left:  # all of it ends with the quota that was borrowed first
            ends, expires = min(ends, self.ends), min(expires, self.expires)
        if not self.left:
            self.first_at = now
        self.left += more
        self.ends, self.expires, self.borrowed_at = ends, expires, now + ahead
        return gone

    def end(self) -> float:
        """End the lease; returns the cost that was left."""
        left, self.left = self.left, 0.0
        return left
