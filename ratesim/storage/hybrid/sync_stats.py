"""`SyncCounters`: what a hybrid has done, counted as it happens; `SyncStats`: that, as it is told."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = ["SyncCounters", "SyncStats"]


class SyncStats(msgspec.Struct, frozen=True):
    """What lies between L1 and L2; counts since the storage was made, the rest as of now.

    reads: states read from L2; refreshes: how many of them were asked for in the background.
    flushes, failed_flushes: batches of deltas that arrived, or of which nobody knows. flushed: keys in the former, of which
    largest_flush in one. flush_seconds: how long the former took, all together.
    unflushed, unflushed_requests: cost and requests admitted here that L2 may not know. lost: cost that L2 will never hear
    of (the queue was full, or the node was killed); lost_requests: how many.
    without_l2: decisions taken while L2 was away. stale_tokens: session tokens that could not be read.
    borrowed, spent, returned, forfeited: cost, of leases; on_lease: borrowed and not yet one of the others.
    breaker: of the client to L2 (closed, open, half-open); "" where L2 has none.
    """

    reads: int
    refreshes: int
    flushes: int
    failed_flushes: int
    flushed: int
    largest_flush: int
    flush_seconds: float
    unflushed: float
    unflushed_requests: int
    dropped_cost: float
    dropped_requests: int
    fallback_decisions: int
    stale_tokens: int
    borrowed: float
    spent: float
    returned: float
    forfeited: float
    leased_outstanding: float
    breaker: str


@dataclass(slots=True)
class SyncCounters:
    """The counts of `SyncStats`."""

    reads: int = 0
    refreshes: int = 0
    flushes: int = 0
    failed_flushes: int = 0
    flushed: int = 0
    largest_flush: int = 0
    flush_seconds: float = 0.0
    dropped_cost: float = 0.0
    dropped_requests: int = 0
    fallback_decisions: int = 0
    stale_tokens: int = 0
    borrowed: float = 0.0
    spent: float = 0.0
    returned: float = 0.0
    forfeited: float = 0.0

    def flushed_in(self, keys: int, seconds: float) -> None:
        """A flush of so many keys has arrived."""
        self.flushes += 1
        self.flushed += keys
        self.largest_flush = max(self.largest_flush, keys)
        self.flush_seconds += seconds
