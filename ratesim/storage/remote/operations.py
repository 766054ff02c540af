"""The operations that travel in batches from a `Client` to a `Driver`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from ratesim.limit import Limit
from ratesim.state import RateLimitState
from ratesim.storage.base import Charge

__all__ = [
    "Acquire",
    "Apply",
    "Claim",
    "Driver",
    "Get",
    "Increment",
    "Observe",
    "Operation",
    "PromptDriver",
    "Put",
    "Reset",
    "identifier_of",
]


class Operation(msgspec.Struct, frozen=True, gc=False):
    """A request to a server.

    Attributes
    ----------
    repeatable
        Whether carrying it out twice has the effect of once, so that a client may try again after a timeout.
    """

    repeatable: ClassVar[bool] = True


class Acquire(Operation, frozen=True, gc=False):
    """Acquire a cost, or peek where `consume` is False; answers a Decision."""

    repeatable: ClassVar[bool] = False

    identifier: str
    limits: tuple[Limit, ...]
    cost: float
    now: float
    consume: bool


class Observe(Operation, frozen=True, gc=False):
    """Pass a score to the limits, all of which adapt to scores; answers None."""

    repeatable: ClassVar[bool] = False

    identifier: str
    limits: tuple[Limit, ...]
    score: float
    now: float


class Apply(Operation, frozen=True, gc=False):
    """Apply a charge; answers the merged RateLimitState."""

    charge: Charge


class Claim(Operation, frozen=True, gc=False):
    """Claim the name of a node for `ttl` seconds, or extend the holder's own claim; answers (holder, seconds left).

    The time is the server's own. A ttl of 0 gives the name back.
    """

    name: str
    holder: str
    ttl: float

    @property
    def identifier(self) -> str:
        """The key of the claim beside those of states."""
        return f":node:{self.name}"


class Get(Operation, frozen=True, gc=False):
    """Read a state; answers a RateLimitState, or None."""

    identifier: str
    name: str
    now: float


class Put(Operation, frozen=True, gc=False):
    """Replace a state; answers None."""

    identifier: str
    name: str
    state: RateLimitState
    now: float
    ttl: float


class Increment(Operation, frozen=True, gc=False):
    """Add to a counter; answers the count."""

    repeatable: ClassVar[bool] = False

    identifier: str
    amount: int
    window: float
    now: float


class Reset(Operation, frozen=True, gc=False):
    """Drop all states and counters of an identifier; answers None."""

    identifier: str


def identifier_of(operation: Any) -> str:
    """Return whose operation it is."""
    return str(operation.charge.identifier if isinstance(operation, Apply) else operation.identifier)


class Driver(Protocol):
    """The interface of a server: live it is implemented by redis-py or psycopg, simulated by a network and a queue."""

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Carry out a batch.

        Returns
        -------
        list of object
            The answers in the order of the batch; of an operation that failed alone, its StorageError.

        Raises
        ------
        StorageError
            The batch as a whole failed; a StorageConnectionError where the server was not reached.
        """

    async def close(self) -> None:
        """Close the connections."""


class PromptDriver(Driver, Protocol):
    """A driver that keeps a deadline itself, so that no task and no timer is needed to be sure of it.

    Attributes
    ----------
    gathers
        Whether operations of one turn of the loop travel together, since most of the time goes to the fixed cost of a batch.
    """

    gathers: bool

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]] | None:
        """Carry out a batch as `execute` does, if a connection is free.

        Returns
        -------
        coroutine or None
            To be awaited at once. It waits for nothing but the answers, raises TimeoutError after `seconds`, and ends in the
            turn in which it is canceled. None where no connection is free.
        """
