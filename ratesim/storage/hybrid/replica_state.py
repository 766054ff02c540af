"""`ReplicaState`: the unsent consumption and the last seen version of one limit of one identifier at a node."""

from __future__ import annotations

import math
from collections.abc import Hashable
from copy import copy

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.runtime import Flight
from ratesim.state import Watermark
from ratesim.storage.base import Charge
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.memory.compiled_decider import DecideFn

__all__ = ["NOTHING_SEEN", "Delta", "ReplicaState", "Version"]

Delta = tuple[float, float, int]  # time, cost, requests
Version = tuple[float, int]  # of a state of L2: its creation time, and the requests it has taken in since

NOTHING_SEEN: Version = (0.0, 0)
ROUNDING = 1e-15  # of a time, relative: four times the rounding of a float near it


class ReplicaState:
    """The unsent consumption of one key at this node, and the last state seen of it in L2.

    Admitted cost passes three stages: the open delta, to which requests of one step of time are added; `pending`, the closed
    deltas before it; `sending`, the deltas of the flush that is under way.

    Parameters
    ----------
    identifier
        Whose limit it is.
    key
        The key of its view in L1.
    epoch
        The epoch of this node's consumption of the key.

    Attributes
    ----------
    acked
        Cost of the epoch that L2 has taken in.
    asked_at
        The time of the last request that looked at the age of the view, or of the last flush; seconds since the epoch.
    started, finished
        The number of the last flush that was started, and of the last one that L2 took in or refused for good.
    failures
        Flushes in a row that failed while L2 answered for other keys, or by an error that is this key's own.
    retry_at
        Monotonic time of the next try to flush it then.
    refused_until
        Monotonic time until which L1 decides alone because L2 refuses the key for good.
    flight
        The read or flush that is under way; there is one at a time.
    overdue
        Whether a flush was due during a read.
    read_at
        When L2 last answered, by the monotonic clock.
    fresh_until
        Until when the view may be decided on without a look at its age, by the monotonic clock.
    version, marks
        Version and watermarks of the state that L2 had then.
    credit, credit_at
        Cost of this node's share that may be admitted while L2 is away, and the time as of which that holds.
    """

    __slots__ = (
        "acked",
        "asked_at",
        "cost",
        "credit",
        "credit_at",
        "decide",
        "dirty",
        "epoch",
        "failures",
        "finished",
        "flight",
        "fresh_until",
        "identifier",
        "key",
        "limit",
        "marks",
        "overdue",
        "pending",
        "read_at",
        "refused_until",
        "requests",
        "retry_at",
        "sending",
        "since",
        "started",
        "time",
        "time_resolution",
        "until",
        "version",
    )

    time_resolution: float
    decide: DecideFn
    limit: Limit
    since: float  # the open delta takes in times from here
    until: float  # ... and before this one
    time: float  # ... the last time in it
    cost: float
    requests: int

    def __init__(self, identifier: str, key: Hashable, epoch: int) -> None:
        self.identifier = identifier
        self.key = key
        self.epoch = epoch
        self.acked = 0.0
        self.pending: list[Delta] = []
        self.sending: list[Delta] = []
        self.started = self.finished = 0
        self.flight: Flight | None = None
        self.overdue = self.dirty = False
        self.failures = 0
        self.read_at = self.fresh_until = self.refused_until = self.retry_at = -math.inf
        self.version = NOTHING_SEEN
        self.marks: dict[str, Watermark] = {}
        self.credit, self.credit_at = 0.0, -math.inf
        self.asked_at = -math.inf
        self._reset_delta()

    def bind(self, limit: Limit, decide: DecideFn) -> None:
        """Set the limit: the same as before, or one of the same name with other numbers."""
        algorithm, p, _, _ = bind(limit)
        self.limit, self.decide, self.time_resolution = limit, decide, algorithm.rule.time_resolution(p)
        self.close()

    def successor(self) -> ReplicaState:
        """Return a record in place of this one whose flights are over, as they belong to a loop that has stopped.

        All consumption that L2 may not know is unsent. What was under way counts once even if it had arrived.
        """
        record = copy(self)
        record.sending, record.pending = [], self.sending + self.pending
        record.flight, record.overdue, record.dirty = None, False, False
        record.finished = record.started
        return record

    def note(self, now: float, cost: float) -> None:
        """Add an admitted cost.

        Costs of one step of time travel as one delta, since decisions do not depend on the times within a step.
        """
        if self.since <= now < self.until:
            self.cost += cost
            self.requests += 1
            if now > self.time:
                self.time = now
            return
        self.close()
        self.cost, self.requests, self.time = cost, 1, now
        if math.isinf(self.time_resolution):
            self.since, self.until = -math.inf, math.inf
        elif self.time_resolution:
            edge = (math.floor(now / self.time_resolution) + 1.0) * self.time_resolution
            self.since, self.until = now, edge - abs(edge) * ROUNDING
        else:
            self.since, self.until = now, math.nextafter(now, math.inf)

    def close(self) -> None:
        """Close the open delta."""
        if self.requests:
            self.pending.append((self.time, self.cost, self.requests))
            self._reset_delta()

    def _reset_delta(self) -> None:
        self.since = self.until = math.inf
        self.time = self.cost = 0.0
        self.requests = 0

    def unsent(self) -> bool:
        """Return whether any consumption is not being sent."""
        return self.requests > 0 or bool(self.pending)

    def unsettled(self) -> list[Delta]:
        """Return the deltas that L2 may not know, in the order of admission."""
        if not self.requests:
            return self.sending + self.pending
        return [*self.sending, *self.pending, (self.time, self.cost, self.requests)]

    def position(self) -> float:
        """Return the cost admitted here in this epoch, summed in L2's order."""
        return total_consumed(self.acked, self.unsettled())

    def take(self) -> None:
        """Move all unsent deltas to `sending`."""
        self.close()
        self.sending, self.pending = self.pending, []
        self.started += 1

    def put_back(self) -> None:
        """Move `sending` back after a failure. It is sent again, and counts once even if it had arrived."""
        self.pending, self.sending = self.sending + self.pending, []

    def settle(self) -> None:
        """Note that L2 has taken in `sending`, or refused it for good."""
        self.acked = total_consumed(self.acked, self.sending)
        self.sending = []
        self.finished = self.started
        self.failures = 0

    def drop(self) -> tuple[float, int]:
        """Discard the unsent deltas; returns their cost and requests."""
        self.close()
        lost, self.pending = self.pending, []
        return math.fsum(cost for _, cost, _ in lost), sum(requests for _, _, requests in lost)

    def charge(self, node: str, now: float) -> Charge:
        """Return `sending` as the charge that travels to L2 at `now`, which is not before any of it."""
        self.asked_at = sent = max(now, *(time for time, _, _ in self.sending))
        return Charge(self.identifier, self.limit, node, self.epoch, self.acked, tuple(self.sending), sent)
