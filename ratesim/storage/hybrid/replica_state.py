"""`Record`: what a node knows of one limit of one identifier, beside the view that L1 has of it."""

from __future__ import annotations

import math
from collections.abc import Hashable

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.runtime import Future
from ratesim.state import Watermark
from ratesim.storage.base import Charge
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.memory.compiled_decider import DecideFn

__all__ = ["NOTHING_SEEN", "Delta", "ReplicaState", "Version"]

Delta = tuple[float, float, int]  # time, cost, requests
Version = tuple[float, int]  # of a state of L2: when it was born, its incarnation, and the requests it has taken in since

NOTHING_SEEN: Version = (0.0, 0)
ROUNDING = 1e-15  # of a time, relative: four times what a float near it can be off


class ReplicaState:
    """What was admitted here travels in three steps: the open delta, into which requests of one step of time are added;
    `pending`, those before it; `sending`, those on their way.

    epoch: of this node's consumption of this key. acked: cost of it that L2 has taken in. started, finished: flushes, of
    which the latter has succeeded. flight: done when what is under way to L2 is over: one read or flush at a time.
    overdue: a flush was due during a read. read_at: when L2 was last heard of; young_until: when that is too long ago to
    decide on without looking further. version, marks: of the state that L2 had then.
    """

    __slots__ = (
        "acked",
        "cost",
        "credit",
        "credit_at",
        "decide",
        "dirty",
        "epoch",
        "finished",
        "flight",
        "identifier",
        "key",
        "limit",
        "marks",
        "overdue",
        "pending",
        "read_at",
        "requests",
        "sending",
        "since",
        "started",
        "time",
        "time_resolution",
        "until",
        "version",
        "young_until",
    )

    time_resolution: float
    decide: DecideFn
    limit: Limit
    since: float  # the open delta: the times that it takes in, from
    until: float  # ... and before
    time: float  # ... the last of them
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
        self.flight: Future[None] | None = None
        self.overdue = self.dirty = False
        self.read_at = self.young_until = -math.inf
        self.version = NOTHING_SEEN
        self.marks: dict[str, Watermark] = {}
        self.credit, self.credit_at = 0.0, -math.inf  # of this node's share, while L2 is away
        self._open_none()

    def is_for(self, limit: Limit, decide: DecideFn) -> None:
        """The limit that asks now: the same as before, or one of the same name with other numbers."""
        algorithm, p, _, _ = bind(limit)
        self.limit, self.decide, self.time_resolution = limit, decide, algorithm.rule.time_resolution(p)
        self.close()

    def note(self, now: float, cost: float) -> None:
        """Add an admitted cost. Costs of one step of time travel as one: which of its times they have changes nothing."""
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
        """What comes next is a delta of its own."""
        if self.requests:
            self.pending.append((self.time, self.cost, self.requests))
            self._open_none()

    def _open_none(self) -> None:
        self.since = self.until = math.inf
        self.time = self.cost = 0.0
        self.requests = 0

    def unsent(self) -> bool:
        """Whether something was admitted that is not on its way."""
        return self.requests > 0 or bool(self.pending)

    def unsettled(self) -> list[Delta]:
        """All that L2 may not know, in the order in which it was admitted."""
        if not self.requests:
            return self.sending + self.pending
        return [*self.sending, *self.pending, (self.time, self.cost, self.requests)]

    def position(self) -> float:
        """Cost admitted here in this epoch, added up as L2 adds it up."""
        return total_consumed(self.acked, self.unsettled())

    def take(self) -> None:
        """All that is unsent goes on its way."""
        self.close()
        self.sending, self.pending = self.pending, []
        self.started += 1

    def put_back(self) -> None:
        """It did not arrive, or nobody knows: it is sent again, and counts once."""
        self.pending, self.sending = self.sending + self.pending, []

    def settle(self) -> None:
        """L2 has taken in what was on its way."""
        self.acked = total_consumed(self.acked, self.sending)
        self.sending = []
        self.finished = self.started

    def drop(self) -> tuple[float, int]:
        """Forget what is unsent; its cost and requests."""
        self.close()
        lost, self.pending = self.pending, []
        return math.fsum(cost for _, cost, _ in lost), sum(requests for _, _, requests in lost)

    def charge(self, node: str) -> Charge:
        """What is on its way, as it travels."""
        return Charge(self.identifier, self.limit, node, self.epoch, self.acked, tuple(self.sending))
