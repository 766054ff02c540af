"""`RateLimitStorage`: the one interface of every backend, and the values that travel through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, Self, SupportsIndex

import msgspec

from ratesim.algorithms import bind
from ratesim.errors import KeyRefusedError, StorageError, require_all
from ratesim.limit import Decision, InvalidLimitError, Limit, Limits, as_limits, check_cost, check_time
from ratesim.runtime import Runtime
from ratesim.safe_text import shorten_identifier, shorten_repr
from ratesim.state import RateLimitState

__all__ = [
    "DEFAULT_TTL",
    "EXPIRY_MARGIN",
    "Charge",
    "RateLimitStorage",
    "Request",
    "StorageHealth",
    "StorageStats",
    "UpkeepStats",
]

DEFAULT_TTL = 3600.0  # seconds that a state set without a ttl lives
# A state may be dropped this many seconds after it is as good as new: far above any rounding of times or refills, so that
# a state that was dropped and one that was kept decide alike to the bit.
EXPIRY_MARGIN = 1.0


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request of `acquire_many`.

    Attributes
    ----------
    identifier : str
        The client, or any name that is limited.
    limit : Limit or iterable of Limit
        The limits.
    cost : float
        The cost.
    now : float or None
        Seconds since the epoch; None for the runtime's time.
    """

    identifier: str
    limit: Limits
    cost: float = 1.0
    now: float | None = None


class Charge(msgspec.Struct, frozen=True):
    """Consumption decided elsewhere, to be applied exactly once.

    Attributes
    ----------
    identifier, limit : str, Limit
        The state that it belongs to.
    node, epoch : str, int
        The node that admitted it. A node that forgot its consumption of a key begins a new, higher epoch.
    before : float
        Consumption of (node, epoch) of this key before the first entry; it identifies a repeated or overtaken flush.
    entries : tuple[tuple[float, float, int], ...]
        (time, cost, requests) in the order of admission.
    sent : float or None
        The node's time at which the charge was sent. A server that decides by its own clock moves the entries by as much as
        that differs from this; None leaves them as they are.
    """

    identifier: str
    limit: Limit
    node: str
    epoch: int
    before: float
    entries: tuple[tuple[float, float, int], ...]
    sent: float | None = None


class StorageHealth(msgspec.Struct, frozen=True):
    """The result of a health check.

    Attributes
    ----------
    healthy : bool
        Whether the storage decides and stores: a write has succeeded, and no background task is failing.
    latency : float
        Seconds that the write took, or that passed until it failed; 0 for a storage that writes nothing to disk or network.
    detail : str
        Cause and remedy on one line, without a password, where `healthy` is False; otherwise further information.
    """

    healthy: bool
    latency: float
    detail: str = ""


class UpkeepStats(msgspec.Struct, frozen=True):
    """What this node has done for the tables of PostgreSQL since the storage was made.

    Attributes
    ----------
    rounds : int
        Rounds that were this node's turn.
    removed, moved : int
        Expired rows that were deleted, and live ones that were moved to the partition in use.
    partitions_made, partitions_dropped : int
        Partitions of spans of time.
    """

    rounds: int = 0
    removed: int = 0
    moved: int = 0
    partitions_made: int = 0
    partitions_dropped: int = 0


class StorageStats(msgspec.Struct, frozen=True):
    """Counts since the storage was opened; `entries` and `bytes` are current values.

    Attributes
    ----------
    entries, bytes : int
        Entries held, and their bytes; bytes are 0 where the server does not tell.
    exact : bool
        Whether `entries` was counted. Large tables of PostgreSQL are not: it is the estimate of the server's statistics.
    operations, hits, misses : int
        Operations, and those that found a state or did not.
    evictions, memory_evictions, harmful_evictions : int
        All evictions; those caused by memory_limit; those of a state that was not as good as new.
    cost_forgotten : float
        Cost that harmful evictions made available again.
    expirations : int
        Entries that expired.
    restarts : int
        States given up because a request by another algorithm came.
    background_failures : int
        Failed rounds of background tasks.
    clock_rewinds : int
        States brought back to the time of a request because a wrong clock had written them (`max_clock_skew`).
    errors : dict[str, int]
        Number of errors by kind.
    dead_rows, hot_ratio, partitions : int, float, int, or None
        Of PostgreSQL: row versions that wait for vacuum; share of updates that changed no index (None before the first); and
        partitions of the table of states, 1 if it is not cut. None elsewhere, and for a role that may not read the views.
    upkeep : UpkeepStats or None
        Of PostgreSQL.
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
    clock_rewinds: int = 0
    errors: dict[str, int] = {}
    exact: bool = True
    dead_rows: int | None = None
    hot_ratio: float | None = None
    partitions: int | None = None
    upkeep: UpkeepStats | None = None


class RateLimitStorage(ABC):
    """The state of a rate limiter.

    Time is an argument: `now` (seconds since the epoch) comes from the caller, or from the storage's runtime. State belongs
    to (identifier, limit.name). Errors are StorageError and its subclasses, and InvalidLimitError for an invalid limit, cost
    or identifier (one that is no str). Use it as an async context manager, or call `open` and `close`.

    Of a batch (`acquire_many`, `charge_many`, `batch_get`, `batch_set`) each item succeeds or fails by itself. An invalid
    argument is raised before anything is done. If an item fails, the others are done and BatchError is raised; its `results`
    hold the answer or the error of each place.
    """

    runtime: Runtime

    async def open(self) -> Self:
        """Connect, create missing tables, and start background tasks; a second call does nothing more."""
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
        """Admit `cost` and charge it, or deny and change nothing; of several limits all admit or none is charged.

        Parameters
        ----------
        identifier : str
            The client, or any name that is limited.
        limit : Limit or iterable of Limit
            The limits.
        cost : float
            0, or 1e-6 to 1e12.
        now : float, optional
            Seconds since the epoch; by default the runtime's time.
        session : str, optional
            The token of the session's last decision, for consistency `session`.

        Returns
        -------
        Decision
            The decision of the limit that decided.
        """

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide each request in turn, and return the decisions in the same order.

        Raises
        ------
        InvalidLimitError
            A limit, a cost or an identifier is invalid. Nothing was decided.
        BatchError
            Some requests failed. Its `results` have the decisions of the others.
        """
        return await _each(self.acquire(r.identifier, r.limit, r.cost, r.now) for r in check_requests(requests))

    @abstractmethod
    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Return the answer that `acquire` would give, and change nothing."""

    @abstractmethod
    async def reset(self, identifier: str) -> None:
        """Delete every limit and counter of the identifier."""

    @abstractmethod
    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Return the state of the identifier's limit of that name; None if there is none or it expired."""

    @abstractmethod
    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Replace the state, for `ttl` seconds (None: 3600)."""

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        """Return `get_state` of each identifier, in the same order."""
        check_types(identifiers)
        states = await _each(self.get_state(identifier) for identifier in identifiers)
        return list(zip(identifiers, states, strict=True))

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        """Apply `set_state` to each (identifier, state, ttl)."""
        check_types([identifier for identifier, _, _ in operations])
        await _each(self.set_state(identifier, state, ttl) for identifier, state, ttl in operations)

    @abstractmethod
    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a plain counter that lives `window` seconds from its first hit, and return the count.

        Give a counter one window. A counter that would live longer than that by more than `max_clock_skew`, or the window
        where that is less, was written by a clock that was ahead: it lives `window` seconds from now.
        """

    @abstractmethod
    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Report the health of the service behind the limit, from 0 (failing) to 1 (fine), to its adaptive limits.

        Raises InvalidLimitError if none of the limits is adaptive, or the score is out of range.
        """

    @abstractmethod
    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply consumption decided elsewhere, each exactly once however often it is sent, and return the merged states.

        Raises
        ------
        InvalidLimitError
            A charge is invalid. Nothing was applied.
        BatchError
            Some charges failed. Its `results` have the merged states of the others.
        """

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Claim the name of a node, or extend the holder's own claim; a backend that keeps no claims grants every one.

        Parameters
        ----------
        name
            The name.
        holder
            The process that claims it.
        ttl
            Seconds that the claim lasts; 0 gives the name back.

        Returns
        -------
        str
            The holder from now on: the given one, or another one that has the name.
        float
            Seconds until that claim ends.
        """
        return holder, ttl

    @abstractmethod
    async def health_check(self) -> StorageHealth:
        """Try a write as a decision makes it, and say whether it succeeded.

        It writes a key of its own and removes it, so it decides nothing for anybody. It takes no longer than
        `command_timeout`, and never raises: an error is described in the result.
        """

    @abstractmethod
    async def cleanup_expired(self) -> int:
        """Drop expired entries, and return their number."""

    @abstractmethod
    async def get_stats(self) -> StorageStats:
        """Return the statistics of the storage."""

    @abstractmethod
    async def close(self) -> None:
        """Write pending changes, stop, and release everything; a second call does nothing more."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise StorageError("a storage belongs to its process, and is neither copied nor pickled: open another by its URL")

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            with suppress(StorageError):  # of a storage that belongs to another loop, or has nothing to close
                await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _each(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await one after another; BatchError with all results if some fail."""
    results: list[Any] = []
    for each in work:
        try:
            results.append(await each)
        except StorageError as error:
            results.append(error)
    return require_all(results)


def check_identifier(identifier: str) -> str:
    """Return the identifier.

    Raises
    ------
    InvalidLimitError
        It is no str.
    KeyRefusedError
        UTF-8 cannot encode it, so that no store could hold it.
    """
    check_types((identifier,))
    if not identifier.isascii():
        try:
            identifier.encode()
        except UnicodeEncodeError:
            raise KeyRefusedError(
                f"identifier {shorten_identifier(identifier)}: half of a surrogate pair, which UTF-8 cannot encode; "
                "decode it with errors='replace'"
            ) from None
    return identifier


def check_types(identifiers: Iterable[object]) -> None:
    """Raise InvalidLimitError for an identifier that is no str."""
    for identifier in identifiers:
        if not isinstance(identifier, str):
            raise InvalidLimitError(f"identifier of type {type(identifier).__name__}: must be a str")


def check_requests(requests: Iterable[Request]) -> list[Request]:
    """Return the requests, their limits as `as_limits` gives them; InvalidLimitError for the first that is invalid."""
    checked: set[Limit] = set()
    found = []
    for request in requests:
        if request.identifier.__class__ is not str:
            check_types((request.identifier,))
        if request.cost != 1.0:
            check_cost(request.cost)
        if request.now is not None:
            check_time(request.now)
        limit = request.limit
        if limit.__class__ is not Limit:
            limit = as_limits(limit)
            for each in limit:
                bind(each)
            request = msgspec.structs.replace(request, limit=limit)  # an iterable may be read only once
        elif limit not in checked:
            bind(limit)
            checked.add(limit)
        found.append(request)
    return found


def check_charges(charges: Iterable[Charge]) -> None:
    """Raise InvalidLimitError for the first charge with an invalid identifier, limit or time, or without entries."""
    for charge in charges:
        check_types((charge.identifier,))
        bind(charge.limit)
        if not charge.entries:
            raise InvalidLimitError(f"charge of {shorten_identifier(charge.identifier)}: has no entries")
        for time, _, _ in charge.entries:
            check_time(time)
        if charge.sent is not None:
            check_time(charge.sent)


def check_window(amount: int, window: float) -> None:
    """Raise InvalidLimitError for an invalid `increment`."""
    if amount < 0 or not 0 < window < 1e12:
        raise InvalidLimitError(f"increment of {amount} in {window} s: the amount must be >= 0, the window above 0")


def adaptive_limits(limit: Limits, score: float) -> tuple[Limit, ...]:
    """Return the limits that take a score.

    Raises InvalidLimitError for a score out of range, or if none of the limits is adaptive.
    """
    if not 0.0 <= score <= 1.0:
        raise InvalidLimitError(f"score {shorten_repr(score)}: must be from 0 (failing) to 1 (fine)")
    limits = as_limits(limit)
    taking = tuple(each for each in limits if bind(each).algorithm.feedback is not None)
    if not taking:
        raise InvalidLimitError(f"{', '.join(each.algorithm for each in limits)}: does not learn from scores; adaptive does")
    return taking
