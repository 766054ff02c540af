"""`FallbackPolicy`: decisions while L2 is away and L1 cannot decide alone (`on_store_failure`)."""

from __future__ import annotations

from math import inf

from ratesim.limit import Decision, Limit
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.replica_state import ReplicaState

__all__ = ["FallbackPolicy"]

RETRY_AFTER = 1.0  # seconds; answered to a request that is denied only because L2 is away


class FallbackPolicy:
    """Decides without L2, as `on_store_failure` says.

    `fail_open` admits every request, `fail_closed` none.

    `local` keeps a node to its share of the limit, 1 / nodes, as credit that grows at rate / nodes per period up to a share
    of the burst. A node therefore admits at most twice its share in a period, and its share in the long run. The share is
    fractional: where it is less than the cost of a request, credit accumulates until it is enough, so that a small share
    still admits now and then.

    Parameters
    ----------
    config
        `on_store_failure` and `nodes` are read.
    """

    def __init__(self, config: HybridStorageConfig) -> None:
        self.policy = config.on_store_failure
        self._nodes = config.nodes
        self._max_clock_skew = config.max_clock_skew

    def admits(self, records: list[ReplicaState], cost: float, now: float) -> bool:
        """Return whether the policy admits `cost`; with `local`, its credit is used up."""
        if self.policy != "local":
            return self.policy == "fail_open"
        if not all(self._credit(record, cost, now) >= cost for record in records):
            return False
        for record in records:
            record.credit -= cost
        return True

    def _credit(self, record: ReplicaState, cost: float, now: float) -> float:
        limit = record.limit
        most = limit.rate if limit.burst is None else limit.burst
        share = most / self._nodes
        if record.credit_at == -inf:
            record.credit, record.credit_at = share, now
        elif record.credit_at - now > min(self._max_clock_skew, limit.period):
            record.credit_at = now  # a wrong clock set it
        elif now > record.credit_at:
            record.credit += (now - record.credit_at) * limit.rate / limit.period / self._nodes
            record.credit_at = now
        record.credit = min(record.credit, max(share, cost))
        return record.credit if cost <= most else 0.0

    @staticmethod
    def decision(allowed: bool, limit: Limit) -> Decision:
        """Return the decision on a limit of whose state nothing is known."""
        return Decision(allowed, 0.0, 0.0 if allowed else RETRY_AFTER, RETRY_AFTER, limit)
