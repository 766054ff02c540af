"""`RateLimitStorage`: the one interface of every backend, and the values that travel through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from ratesim.algorithms import bind
from ratesim.limit import Decision, InvalidLimitError, Limit, Limits, as_limits
from ratesim.runtime import Runtime
from ratesim.state import RateLimitState

__all__ = [
    "DEFAULT_TTL",
    "EXPIRY_MARGIN",
    "Charge",
    "RateLimitStorage",
    "Request",
    "StorageHealth",
    "StorageStats",
]

DEFAULT_TTL = 3600.0  # seconds that a state set without a ttl lives
# A state may be dropped this many seconds after it is as good as new: far above any rounding of times or refills, so that
# a state that was dropped and one that was kept decide alike to the bit.
EXPIRY_MARGIN = 1.0


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request of `acquire_many`."""

    identifier: str
    limit: Limits
    cost: float = 1.0
    now: float | None = None


class Charge(msgspec.Struct, frozen=True):
    """Consumption decided elsewhere, to be applied exactly once.

    identifier, limit: whose.
    node, epoch: who admitted it; a node that forgot what it had consumed of a key begins a new, higher epoch.
    before: what (node, epoch) had consumed of this key before the first entry: tells a repeated or overtaken flush.
    entries: (time, cost, requests) in the order in which they were admitted.
    """

    identifier: str
    limit: Limit
    node: str
    epoch: int
    before: float
    entries: tuple[tuple[float, float, int], ...]


class StorageHealth(msgspec.Struct, frozen=True):
    """Whether a storage works; false also while the last round of one of its background tasks failed.

    healthy; latency: seconds one round trip took; detail: what to know about it, as which background task failed and how.
    """

    healthy: bool
    latency: float
    detail: str = ""


class StorageStats(msgspec.Struct, frozen=True):
    """Counts since the storage was opened; `entries` and `bytes` as of now (bytes 0 where the server does not say).

    memory_evictions: those that memory_limit was the reason of. harmful_evictions: those of a state that was not as good as
    new; cost_forgotten: what they gave back. restarts: states given up because another algorithm's request came.
    background_failures: rounds of background tasks that ended in an error.
    """

    entries: int
    bytes: int
    operations: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    memory_evictions: int = 0
    harmful_evictions: int = 0
    cost_forgotten: float = 0.0
    expirations: int = 0
    restarts: int = 0
    background_failures: int = 0
    errors: dict[str, int] = {}


class RateLimitStorage(ABC):
    """Where the state of a rate limiter lives.

    Time is an argument: `now` (seconds since the epoch) comes from the caller, or from the storage's runtime. State belongs
    to (identifier, limit.name). Errors are StorageError and its kinds; InvalidLimitError for a limit or cost that cannot be.
    Use it as an async context manager, or call `open` and `close`.
    """

    runtime: Runtime

    async def open(self) -> Self:
        """Connect, create what is missing, start what runs in the background. Calling it twice does nothing more."""
        return self

    @abstractmethod
    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        """Admit `cost` and charge it, or deny and change nothing; of several limits all admit or none is charged."""

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Each request in turn; the answers in the same order."""
        return [await self.acquire(r.identifier, r.limit, r.cost, r.now) for r in requests]

    @abstractmethod
    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """What `acquire` would answer; changes nothing."""

    @abstractmethod
    async def reset(self, identifier: str) -> None:
        """Forget the identifier: every limit and counter of it."""

    @abstractmethod
    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """The state of the identifier's limit of that name; None when there is none or it expired."""

    @abstractmethod
    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Put a state in place of what is there, for `ttl` seconds (None: 3600)."""

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        """`get_state` of each, in the same order."""
        return [(identifier, await self.get_state(identifier)) for identifier in identifiers]

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        """`set_state` of each (identifier, state, ttl)."""
        for identifier, state, ttl in operations:
            await self.set_state(identifier, state, ttl)

    @abstractmethod
    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a plain counter that lives `window` seconds from its first hit; returns the count."""

    @abstractmethod
    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Tell how the service behind the limit is doing, from 0 (failing) to 1 (fine), to the limits that learn from it.

        InvalidLimitError when none of the limits does, or the score is out of range.
        """

    @abstractmethod
    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply consumption decided elsewhere, each exactly once however often it is sent; returns the merged states."""

    @abstractmethod
    async def health_check(self) -> StorageHealth:
        """One round trip; never raises, says what is wrong."""

    @abstractmethod
    async def cleanup_expired(self) -> int:
        """Drop what has expired; returns how many entries."""

    @abstractmethod
    async def get_stats(self) -> StorageStats:
        """What the storage holds and has done."""

    @abstractmethod
    async def close(self) -> None:
        """Stop and let go of everything; what is pending is written first. Calling it twice does nothing more."""

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def check_window(amount: int, window: float) -> None:
    """InvalidLimitError for an `increment` that makes no sense."""
    if amount < 0 or not 0 < window < 1e12:
        raise InvalidLimitError(f"increment of {amount} in {window} s: the amount must be >= 0, the window above 0")


def adaptive_limits(limit: Limits, score: float) -> tuple[Limit, ...]:
    """The limits that take a score; InvalidLimitError for a score out of range, and when none of the limits learns."""
    if not 0.0 <= score <= 1.0:
        raise InvalidLimitError(f"score {score!r}: must be from 0 (failing) to 1 (fine)")
    limits = as_limits(limit)
    taking = tuple(each for each in limits if bind(each).algorithm.feedback is not None)
    if not taking:
        raise InvalidLimitError(f"{', '.join(each.algorithm for each in limits)}: does not learn from scores; adaptive does")
    return taking
