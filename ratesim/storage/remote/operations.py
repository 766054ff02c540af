"""What a client asks of a server: the operations that travel in a batch from `Client` to a `Driver`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from ratesim.limit import Limit
from ratesim.state import RateLimitState
from ratesim.storage.base import Charge

__all__ = ["Acquire", "Apply", "Driver", "Get", "Increment", "Observe", "Operation", "Put", "Reset"]


class Operation(msgspec.Struct, frozen=True, gc=False):
    """`repeatable`: carrying it out twice means the same as once, so a client may try again after a timeout."""

    repeatable: ClassVar[bool] = True


class Acquire(Operation, frozen=True, gc=False):
    """Answers a Decision. consume=False peeks."""

    repeatable: ClassVar[bool] = False

    identifier: str
    limits: tuple[Limit, ...]
    cost: float
    now: float
    consume: bool


class Observe(Operation, frozen=True, gc=False):
    """Answers None. The limits are those that learn."""

    repeatable: ClassVar[bool] = False

    identifier: str
    limits: tuple[Limit, ...]
    score: float
    now: float


class Apply(Operation, frozen=True, gc=False):
    """Answers the merged RateLimitState."""

    charge: Charge


class Get(Operation, frozen=True, gc=False):
    """Answers a RateLimitState, or None."""

    identifier: str
    name: str
    now: float


class Put(Operation, frozen=True, gc=False):
    """Answers None."""

    identifier: str
    name: str
    state: RateLimitState
    now: float
    ttl: float


class Increment(Operation, frozen=True, gc=False):
    """Answers the count."""

    repeatable: ClassVar[bool] = False

    identifier: str
    amount: int
    window: float
    now: float


class Reset(Operation, frozen=True, gc=False):
    """Answers None."""

    identifier: str


class Driver(Protocol):
    """The one verb that a server must offer. Live it is redis-py or psycopg; simulated, a network and a queue."""

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Carry out a batch; the answers in the same order, an operation that failed alone answers its StorageError.

        Raises StorageConnectionError, or another StorageError, when the batch as a whole failed.
        """

    async def close(self) -> None:
        """Let go of the connections."""
