"""`RemoteStorage`: any backing behind a modelled network and queue.

It is a `ServedStorage` like RedisStorage, with a driver that travels: a hop out, a wait and service at the server's station,
the backing's decision at the end of the service, a hop back. Coalescing, timeouts, retries and the breaker are the client's
own code. Backings differ in where a decision runs and never in the decision: a MemoryStorage (`ModelBacking`), or a real
driver on a loop of its own, over fakeredis or a live server (`LoopBacking`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.simulation.network import Link, draw
from ratesim.simulation.profile import Backend
from ratesim.simulation.station import Station
from ratesim.storage.base import StorageStats
from ratesim.storage.client import Client
from ratesim.storage.config import ClientConfig
from ratesim.storage.memory import MemoryStorage
from ratesim.storage.operations import Acquire, Apply, Driver, Get, Increment, Observe, Operation, Put, Reset
from ratesim.storage.served import ServedStorage

__all__ = ["Backing", "LoopBacking", "ModelBacking", "RemoteStorage", "SimDriver"]

T = TypeVar("T")

_OUT, _SERVICE, _BACK = 1, 2, 3  # purposes of draws


class Backing(Protocol):
    """Decides at once, at the virtual instant at which it is asked."""

    def execute(self, batch: Sequence[Operation]) -> list[object]: ...


class ModelBacking:
    """A MemoryStorage: the fast one."""

    def __init__(self, memory: MemoryStorage) -> None:
        self.memory = memory

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        return [self._carry_out(operation) for operation in batch]

    def _carry_out(self, operation: Operation) -> object:
        memory = self.memory
        match operation:
            case Acquire(identifier, limits, cost, now, consume):
                return memory.decide(identifier, limits[0] if len(limits) == 1 else limits, cost, now, consume)
            case Apply(charge):
                return memory.apply(charge).export()
            case Get(identifier, name):
                entry = memory.entry(identifier, name)
                return None if entry is None else entry.export()
            case Put(identifier, name, state, now, ttl):
                memory.put(identifier, state, now + ttl, name)
                return None
            case Observe(identifier, limits, score, now):
                memory.learn(identifier, limits, score, now)
                return None
            case Increment(identifier, amount, window):
                return memory.count(identifier, amount, window)
            case Reset(identifier):
                memory.forget(identifier)
                return None
        raise TypeError(f"unknown operation {type(operation).__name__}")


class LoopBacking:
    """A real driver, run to completion on a private loop for each batch.

    The loop has a thread of its own, because in a notebook the calling thread runs one. `connect` makes the driver on
    that loop.
    """

    def __init__(self, connect: Callable[[], Awaitable[Driver]], sequence: Callable[[], int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ratesim-backing", daemon=True)
        self._thread.start()
        self._sequence = sequence
        self._driver = self._run(connect())

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        answers = self._run(self._driver.execute(batch))
        for answer in answers:
            if isinstance(answer, Decision):
                answer.sequence = self._sequence()
        return answers

    def _run(self, awaitable: Awaitable[T]) -> T:
        async def waited() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result()

    def close(self) -> None:
        self._run(self._driver.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SimDriver:
    """One node's way to a server. Several share the station and the backing."""

    def __init__(
        self, backing: Backing, link: Link, station: Station, costs: Backend, runtime: SimRuntime, seed: int
    ) -> None:
        self._backing = backing
        self._link = link
        self._station = station
        self._costs = costs
        self._runtime = runtime
        self._seed = seed

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        identifier, now = _subject(batch[0])
        seed = self._seed
        runtime = self._runtime
        await runtime.sleep(self._link.delay(draw(seed, identifier, now, _OUT)))
        service = self._costs.service(len(batch), draw(seed, identifier, now, _SERVICE))
        arrival = runtime.env.now
        await runtime.sleep(self._station.take(arrival, service) - arrival)
        answers = self._backing.execute(batch)
        await runtime.sleep(self._link.delay(draw(seed, identifier, now, _BACK)))
        return answers

    async def close(self) -> None:
        """The network and the station belong to the deployment."""


class RemoteStorage(ServedStorage):
    """A backing behind a link and a station, as one node sees it."""

    def __init__(self, driver: SimDriver, runtime: SimRuntime, config: ClientConfig, rng: np.random.Generator) -> None:
        super().__init__(Client(driver, runtime, config, rng), runtime)

    async def cleanup_expired(self) -> int:
        """Expiry belongs to the backing, which drops nothing a decision could need."""
        return 0

    async def get_stats(self) -> StorageStats:
        return StorageStats(0, 0, operations=self.client.operations, errors=dict(self.client.errors))


def _subject(operation: Operation) -> tuple[str, float]:
    """Whose operation it is and when: what its random draws belong to."""
    if isinstance(operation, Apply):
        return operation.charge.identifier, operation.charge.entries[0][0]
    if isinstance(operation, Acquire | Observe | Get | Put | Increment):
        return operation.identifier, operation.now
    if isinstance(operation, Reset):
        return operation.identifier, 0.0
    raise TypeError(f"unknown operation {type(operation).__name__}")
