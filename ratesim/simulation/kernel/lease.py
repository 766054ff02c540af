"""A lease: `Lease`. Functions of one record; monotonic and wall clock are one in simulated time."""

from __future__ import annotations

import math
from typing import Any


def lease_start(lease: Any, now: float) -> None:
    """Begin a lease of which nothing is borrowed yet."""
    lease.exists = 1
    lease.ends = -math.inf
    lease.first_at = -math.inf
    lease.expires = -math.inf
    lease.borrowed_at = -math.inf
    lease.denied_until = -math.inf
    lease.retry_at = -math.inf
    lease.denied = math.inf
    lease.seen_at = now


def lease_refill_amount(lease: Any, now: float, seconds: float, nodes: int) -> float:
    """Return the cost to borrow."""
    since = now - lease.seen_at
    if since > 0.0:
        weight = math.exp(-since / seconds)
        lease.rate = weight * lease.rate + (1.0 - weight) * lease.spent / since
        lease.spent = 0.0
        lease.seen_at = now
    return float(math.floor(min(lease.rate * seconds, max(lease.remaining, 0.0) / (2 * nodes))))


def lease_can_spend(lease: Any, cost: float, time: float, monotonic: float) -> bool:
    """Tell whether the lease covers this cost at that time."""
    return lease.left >= cost and cost > 0.0 and time < lease.ends and monotonic < lease.expires


def lease_on_grant(lease: Any, allowed: bool, cost: float, now: float, retry_after: float, quiet: float) -> None:
    """Note the store's answer to a request of the time `now`."""
    if allowed:
        lease.denied_until = -math.inf
        lease.denied = math.inf
    else:
        lease.retry_at = now + retry_after
        lease.denied_until = min(lease.retry_at, now + quiet)
        lease.denied = cost


def lease_reserve(lease: Any, more: float, now: float, ends: float, windows: bool, time: float) -> None:
    """Add quota that was borrowed at `now`."""
    expires = ends
    if windows:
        if ends < lease.ends and ends <= max(now, time):
            return
        if ends != lease.ends:
            lease.left = 0.0
    elif lease.left != 0.0:
        ends = min(ends, lease.ends)
        expires = min(expires, lease.expires)
    if lease.left == 0.0:
        lease.first_at = now
    lease.left += more
    lease.ends = ends
    lease.expires = expires
    lease.borrowed_at = now
