"""`RemoteStorage`: a storage whose state lives in a server, reached through a client and a driver.

Redis, PostgreSQL and the simulated storage are this class with a driver each, so a simulation and a service run the same
client code.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, Self, TypeVar

from ratesim.algorithms import bind
from ratesim.errors import KeyRefusedError, RatesimError, StorageError, require_all
from ratesim.limit import LATEST, Decision, Limit, Limits, as_limits, check_cost, check_time
from ratesim.runtime import Runtime
from ratesim.safe_text import shorten_repr
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.base import (
    DEFAULT_TTL,
    Charge,
    RateLimitStorage,
    Request,
    StorageHealth,
    adaptive_limits,
    check_charges,
    check_identifier,
    check_window,
)
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Get, Increment, Observe, Operation, Put, Reset

__all__ = ["RemoteStorage"]

T = TypeVar("T")

PROBE_DATA = AlgorithmData("token_bucket", {"last_refill": 0.0, "tokens": 0.0})  # of the state that `health_check` writes
PROBE_SECONDS = 1.0  # until that state expires
MAX_CHECKED = 4096  # limits that are remembered as checked


class RemoteStorage(RateLimitStorage):
    """Turns the verbs of a storage into operations for a client.

    Parameters
    ----------
    client
        Sends the operations.
    runtime
        The clock of requests that bring no time.
    """

    def __init__(self, client: Client, runtime: Runtime) -> None:
        self.client = client
        self.runtime = runtime
        self._checked: dict[Limit, tuple[Limit, ...]] = {}
        self._closed = False
        # The identifier that `health_check` writes; simulated draws depend on it.
        self._probe = f"ratesim:probe:{uuid.uuid4().hex if runtime.realtime else 'simulated'}"

    def _bound(self) -> Client:
        """Return the client, for the process and the loop of the caller."""
        return self.client

    def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Coroutine[Any, Any, Decision]:
        """Acquire at the server. It is no coroutine function: another coroutine costs 1/20 of a simulated request."""
        try:
            operation = self._acquire(identifier, limit, cost, now, True)
        except RatesimError as error:
            return _raise(error)
        return self.client.submit(operation)

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Acquire several in as few batches as possible; the decisions are in order."""
        return await self._submit_all(requests, lambda r: self._acquire(r.identifier, r.limit, r.cost, r.now, True))

    async def _submit_all(self, items: Sequence[T], operation_of: Callable[[T], Operation]) -> list[Any]:
        """Send the operation of each item, and return the answers.

        Raises
        ------
        InvalidLimitError
            An item is invalid. Nothing was sent.
        BatchError
            Some items failed.
        """
        results: list[Any] = [None] * len(items)
        places, operations = [], []
        for place, item in enumerate(items):
            try:
                operations.append(operation_of(item))
                places.append(place)
            except KeyRefusedError as error:
                results[place] = error
        for place, answer in zip(places, await self._bound().submit_all(operations), strict=True):
            results[place] = answer
        return require_all(results)

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Peek at the server."""
        decision: Decision = await self._bound().submit(self._acquire(identifier, limit, cost, now, False))
        return decision

    _make_acquire: Callable[[str, tuple[Limit, ...], float, float, bool], Acquire] = staticmethod(Acquire)

    def _acquire(self, identifier: str, limit: Limits, cost: float, now: float | None, consume: bool) -> Acquire:
        limits = self._checked.get(limit) if type(limit) is Limit else None
        if limits is None:
            limits = self._check(limit)
        if cost != 1.0:
            cost = check_cost(cost)
        if identifier.__class__ is not str or not identifier.isascii():
            check_identifier(identifier)
        if now is None:
            now = self.runtime.time()
        elif now.__class__ is not float or not 0.0 <= now <= LATEST:
            now = check_time(now)
        return self._make_acquire(identifier, limits, cost, now, consume)

    def _check(self, limit: Limits) -> tuple[Limit, ...]:
        """Return the limits as a tuple; InvalidLimitError for an invalid one, before anything is sent."""
        limits = as_limits(limit)
        for each in limits:
            bind(each)
        if type(limit) is Limit:
            if len(self._checked) >= MAX_CHECKED:
                self._checked.clear()
            self._checked[limit] = limits
        return limits

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Pass a score to the limits that adapt, at the server."""
        check_identifier(identifier)
        limits = adaptive_limits(limit, score)
        now = self.runtime.time() if now is None else check_time(now)
        await self._bound().submit(Observe(identifier, limits, float(score), now))

    async def reset(self, identifier: str) -> None:
        """Drop the identifier at the server."""
        await self._bound().submit(Reset(check_identifier(identifier)))

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Read a state from the server."""
        state: RateLimitState | None = await self._bound().submit(
            Get(check_identifier(identifier), name, self.runtime.time())
        )
        return state

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Replace a state at the server."""
        await self._bound().submit(_put(identifier, name, state, self.runtime.time(), ttl))

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        """Read several states in as few batches as possible."""
        now = self.runtime.time()
        states = await self._submit_all(identifiers, lambda identifier: Get(check_identifier(identifier), "", now))
        return list(zip(identifiers, states, strict=True))

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        """Replace several states in as few batches as possible."""
        now = self.runtime.time()
        await self._submit_all(operations, lambda item: _put(item[0], "", item[1], now, item[2]))

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a counter at the server."""
        check_identifier(identifier)
        check_window(amount, window)
        count: int = await self._bound().submit(Increment(identifier, amount, window, self.runtime.time()))
        return count

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply several charges in as few batches as possible."""
        check_charges(charges)
        return await self._submit_all(charges, _apply)

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Claim the name of a node at the server."""
        answer: tuple[str, float] = await self._bound().submit(Claim(name, holder, ttl))
        return answer

    async def health_check(self) -> StorageHealth:
        """Write the state of a key of its own, measure that, and drop the key."""
        start, seconds = self.runtime.monotonic(), self.client.config.command_timeout
        latency: float | None = None

        async def probe() -> None:
            nonlocal latency
            client = self._bound()
            now = self.runtime.time()
            await client.submit(_put(self._probe, "", RateLimitState(PROBE_DATA, now, now), now, PROBE_SECONDS))
            latency = self.runtime.monotonic() - start
            await client.submit(Reset(self._probe))

        try:
            await self.runtime.timeout(probe(), seconds)
            detail = ""
        except TimeoutError:
            detail = f"no answer within {seconds:g} s; raise command_timeout, or look at the server"
        except StorageError as error:
            detail = str(error)
        except Exception as error:  # noqa: BLE001 - a health check describes whatever fails
            detail = f"{type(error).__name__}: {shorten_repr(str(error))}"
        if latency is None:
            latency = self.runtime.monotonic() - start
        return StorageHealth(not detail, latency, " ".join(detail.split()))

    async def open(self) -> Self:
        """Do nothing; connections are opened on first use."""
        return self

    async def close(self) -> None:
        """Let operations that are under way finish, and close the connections."""
        if not self._closed:
            self._closed = True
            await self.client.close()


async def _raise(error: RatesimError) -> NoReturn:
    raise error


def _put(identifier: str, name: str, state: RateLimitState, now: float, ttl: float | None) -> Put:
    state.algorithm_data.values()  # raises SerializationError for a damaged state, before it is stored
    return Put(check_identifier(identifier), name, state, now, DEFAULT_TTL if ttl is None else ttl)


def _apply(charge: Charge) -> Apply:
    check_identifier(charge.identifier)
    return Apply(charge)
