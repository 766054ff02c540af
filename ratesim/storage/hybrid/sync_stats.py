"""`SyncCounters` and `SyncStats`: synchronization statistics of a hybrid storage."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = ["SyncCounters", "SyncStats"]


class SyncStats(msgspec.Struct, frozen=True):
    """Synchronization statistics of a hybrid storage.

    Counters are cumulative since construction. `unflushed`, `unflushed_requests`, `leased_outstanding` and `breaker` are
    current values.

    Attributes
    ----------
    reads
        States read from L2.
    refreshes
        Reads that were started in the background.
    flushes, failed_flushes
        Batches of deltas of which L2 took in some, and batches of which some keys failed and are sent again.
    flushed
        Keys that L2 took in.
    largest_flush
        Keys in the largest of them.
    flush_seconds
        Seconds that these batches took, in sum.
    unflushed, unflushed_requests
        Cost and requests admitted here that L2 may not know.
    dropped_cost, dropped_requests
        Cost and requests of which L2 will never hear: the queue was full, or the node was killed.
    refused_cost, refused_requests
        Cost and requests that were admitted here and that L2 refuses for good, by their key or its state.
    fallback_decisions
        Decisions taken while L2 was away.
    stale_tokens
        Session tokens that could not be read.
    borrowed, spent, returned, forfeited
        Cost of leases.
    leased_outstanding
        Borrowed cost that is none of the other three yet.
    breaker
        The circuit breaker of the client to L2 (closed, open, half-open); "" where L2 has none.
    background_failures
        Rounds of background tasks (flush, refresh, lease renewal, lease return) that ended in an error.
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
    background_failures: int = 0
    refused_cost: float = 0.0
    refused_requests: int = 0


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
    refused_cost: float = 0.0
    refused_requests: int = 0
    fallback_decisions: int = 0
    stale_tokens: int = 0
    borrowed: float = 0.0
    spent: float = 0.0
    returned: float = 0.0
    forfeited: float = 0.0

    def count_flush(self, keys: int, seconds: float) -> None:
        """Count a flush of so many keys that has arrived after so many seconds."""
        self.flushes += 1
        self.flushed += keys
        self.largest_flush = max(self.largest_flush, keys)
        self.flush_seconds += seconds
