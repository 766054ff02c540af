"""`SimulatedStorage`: a storage whose state lives in a server, reached through a client and a driver.

Redis, PostgreSQL and the simulated remote storage are this class with a driver each, so what the client does to a request
is the same code in a simulation and live.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from ratesim.algorithms import bind
from ratesim.errors import StorageError
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost
from ratesim.runtime import Runtime
from ratesim.state import RateLimitState
from ratesim.storage.base import DEFAULT_TTL, Charge, RateLimitStorage, Request, StorageHealth, adaptive_limits, check_window
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Apply, Get, Increment, Observe, Put, Reset

__all__ = ["RemoteStorage"]

MOST_LIMITS = 4096  # that are remembered as checked


class RemoteStorage(RateLimitStorage):
    """Turns the storage interface into operations for a client."""

    def __init__(self, client: Client, runtime: Runtime) -> None:
        self.client = client
        self.runtime = runtime
        self._checked: dict[Limit, tuple[Limit, ...]] = {}
        self._closed = False

    def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Coroutine[Any, Any, Decision]:
        # No coroutine of its own: it would be a twentieth of a simulated request.
        return self.client.submit(self._acquire(identifier, limit, cost, now, True))

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        return await self.client.submit_all([self._acquire(r.identifier, r.limit, r.cost, r.now, True) for r in requests])

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        decision: Decision = await self.client.submit(self._acquire(identifier, limit, cost, now, False))
        return decision

    _asked: Callable[[str, tuple[Limit, ...], float, float, bool], Acquire] = staticmethod(Acquire)

    def _acquire(self, identifier: str, limit: Limits, cost: float, now: float | None, consume: bool) -> Acquire:
        limits = self._checked.get(limit) if type(limit) is Limit else None
        if limits is None:
            limits = self._check(limit)
        if cost != 1.0:
            cost = check_cost(cost)
        return self._asked(identifier, limits, cost, self.runtime.time() if now is None else now, consume)

    def _check(self, limit: Limits) -> tuple[Limit, ...]:
        """The limits as a tuple; one that makes no sense is the caller's error, before anything is sent."""
        limits = as_limits(limit)
        for each in limits:
            bind(each)
        if type(limit) is Limit:
            if len(self._checked) >= MOST_LIMITS:
                self._checked.clear()
            self._checked[limit] = limits
        return limits

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        limits = adaptive_limits(limit, score)
        await self.client.submit(Observe(identifier, limits, float(score), self.runtime.time() if now is None else now))

    async def reset(self, identifier: str) -> None:
        await self.client.submit(Reset(identifier))

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        state: RateLimitState | None = await self.client.submit(Get(identifier, name, self.runtime.time()))
        return state

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        state.algorithm_data.values()  # damaged states are refused here, not stored
        await self.client.submit(Put(identifier, name, state, self.runtime.time(), DEFAULT_TTL if ttl is None else ttl))

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        now = self.runtime.time()
        states = await self.client.submit_all([Get(identifier, "", now) for identifier in identifiers])
        return list(zip(identifiers, states, strict=True))

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        now = self.runtime.time()
        for _, state, _ in operations:
            state.algorithm_data.values()
        await self.client.submit_all(
            [Put(name, "", state, now, DEFAULT_TTL if ttl is None else ttl) for name, state, ttl in operations]
        )

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        check_window(amount, window)
        count: int = await self.client.submit(Increment(identifier, amount, window, self.runtime.time()))
        return count

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        return await self.client.submit_all([Apply(charge) for charge in charges])

    async def health_check(self) -> StorageHealth:
        start = self.runtime.time()
        try:
            await self.client.submit(Get("ratesim:health", "", start))
        except StorageError as error:
            return StorageHealth(False, self.runtime.time() - start, str(error))
        return StorageHealth(True, self.runtime.time() - start)

    async def open(self) -> Self:
        return self

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.client.driver.close()
