"""`RemoteStorage`: any backing behind a modelled network and queue.

It is a `ServedStorage` like RedisStorage, with a driver that travels: a hop out, a wait and service at the server's station,
the backing's decision at the end of the service, a hop back. Coalescing, timeouts, retries and the breaker are the client's
own code. Backings differ in where a decision runs and never in the decision: a MemoryStorage (`ModelBacking`), or a real
driver over fakeredis or a live server (`fidelity.LoopBacking`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ratesim.limit import Limits
from ratesim.runtime import SimRuntime
from ratesim.simulation.answers import column
from ratesim.simulation.network import Link, draw, draws
from ratesim.simulation.profile import QUANTILES, Backend
from ratesim.simulation.station import Station
from ratesim.storage.base import StorageStats
from ratesim.storage.client import Client
from ratesim.storage.config import ClientConfig
from ratesim.storage.memory import MemoryStorage
from ratesim.storage.operations import Acquire, Apply, Get, Increment, Observe, Operation, Put, Reset
from ratesim.storage.served import ServedStorage
from traffic import Trace

__all__ = ["Backing", "ModelBacking", "Plan", "RemoteStorage", "SimDriver", "carry_out", "subject"]

_OUT, _SERVICE, _BACK = 1, 2, 3  # purposes of draws


class Backing(Protocol):
    """Decides at once, at the virtual instant at which it is asked."""

    def execute(self, batch: Sequence[Operation]) -> list[object]: ...


class ModelBacking:
    """A MemoryStorage: the fast one."""

    def __init__(self, memory: MemoryStorage) -> None:
        self.memory = memory

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        memory = self.memory
        return [_CARRY_OUT[operation.__class__](memory, operation) for operation in batch]


def _acquire(memory: MemoryStorage, asked: Acquire) -> object:
    limits = asked.limits
    limit = limits[0] if len(limits) == 1 else limits
    return memory.decide(asked.identifier, limit, asked.cost, asked.now, asked.consume)


def _get(memory: MemoryStorage, asked: Get) -> object:
    entry = memory.entry(asked.identifier, asked.name, asked.now)
    return None if entry is None else entry.export()


def _put(memory: MemoryStorage, asked: Put) -> None:
    memory.put(asked.identifier, asked.state, asked.now + asked.ttl, asked.name)


def carry_out(memory: MemoryStorage, operation: Operation) -> object:
    """What a server does when it is asked for an operation."""
    return _CARRY_OUT[operation.__class__](memory, operation)


_CARRY_OUT: dict[type[Operation], Callable[[MemoryStorage, Any], object]] = {
    Acquire: _acquire,
    Apply: lambda memory, asked: memory.apply(asked.charge).export(),
    Get: _get,
    Put: _put,
    Observe: lambda memory, asked: memory.learn(asked.identifier, asked.limits, asked.score, asked.now),
    Increment: lambda memory, asked: memory.count(asked.identifier, asked.amount, asked.window),
    Reset: lambda memory, asked: memory.forget(asked.identifier),
}


class Asked(Acquire, frozen=True, gc=False):
    """An acquire that knows which request of the trace it is for."""

    request: int


_CARRY_OUT[Asked] = _acquire


class Plan:
    """What chance has in store for every request of a trace, on one link and one kind of server; drawn all at once.

    request: the row of the trace whose turn it is; who sends a request says so.
    """

    def __init__(self, seed: int, trace: Trace, link: Link, costs: Backend) -> None:
        self.request = 0
        self.out = column(link.delays(draws(seed, trace, _OUT)))
        self.service = column(np.interp(draws(seed, trace, _SERVICE), QUANTILES, costs.factors))
        self.back = column(link.delays(draws(seed, trace, _BACK)))


class SimDriver:
    """One node's way to a server. Several share the station, the backing and the plan."""

    def __init__(
        self,
        backing: Backing,
        link: Link,
        station: Station,
        costs: Backend,
        runtime: SimRuntime,
        seed: int,
        plan: Plan | None = None,
    ) -> None:
        self._backing = backing
        self._link = link
        self._station = station
        self._costs = costs
        self._runtime = runtime
        self._seed = seed
        self._plan = plan

    @property
    def parts(self) -> tuple[Backing, Link, Station, Backend, SimRuntime, int, Plan | None]:
        """What it was made of."""
        return self._backing, self._link, self._station, self._costs, self._runtime, self._seed, self._plan

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        out, service, back = self._drawn(batch)
        sleep, env, station = self._runtime.sleep, self._runtime.env, self._station
        await sleep(out)
        arrival = env.now
        left = station.take(arrival, service) - arrival
        if station.in_order:
            # Who comes first is served first, so nobody can tell the decision here from one at the end of the service.
            answers = self._backing.execute(batch)
            await sleep(left + back)
        else:
            await sleep(left)
            answers = self._backing.execute(batch)
            await sleep(back)
        return answers

    def _drawn(self, batch: Sequence[Operation]) -> tuple[float, float, float]:
        """The way out, the service and the way back, in seconds."""
        first, plan, costs = batch[0], self._plan, self._costs
        median = costs.fixed + len(batch) * costs.item
        if plan is not None and isinstance(first, Asked):
            row = first.request
            return plan.out[row], median * plan.service[row], plan.back[row]
        identifier, now = subject(first)
        seed, delay = self._seed, self._link.delay
        service = costs.service(len(batch), draw(seed, identifier, now, _SERVICE))
        return delay(draw(seed, identifier, now, _OUT)), service, delay(draw(seed, identifier, now, _BACK))

    async def close(self) -> None:
        """The network and the station belong to the deployment."""


class RemoteStorage(ServedStorage):
    """A backing behind a link and a station, as one node sees it."""

    def __init__(
        self,
        driver: SimDriver,
        runtime: SimRuntime,
        config: ClientConfig,
        rng: np.random.Generator,
        plan: Plan | None = None,
    ) -> None:
        super().__init__(Client(driver, runtime, config, rng), runtime)
        self._plan = plan

    def _acquire(self, identifier: str, limit: Limits, cost: float, now: float | None, consume: bool) -> Acquire:
        asked = super()._acquire(identifier, limit, cost, now, consume)
        if self._plan is None:
            return asked
        return Asked(asked.identifier, asked.limits, asked.cost, asked.now, asked.consume, self._plan.request)

    async def cleanup_expired(self) -> int:
        """Expiry belongs to the backing, which drops nothing a decision could need."""
        return 0

    async def get_stats(self) -> StorageStats:
        return StorageStats(0, 0, operations=self.client.operations, errors=dict(self.client.errors))


def subject(operation: Operation) -> tuple[str, float]:
    """Whose operation it is and when: what its random draws belong to."""
    if isinstance(operation, Apply):
        return operation.charge.identifier, operation.charge.entries[0][0]
    if isinstance(operation, Acquire | Observe | Get | Put | Increment):
        return operation.identifier, operation.now
    if isinstance(operation, Reset):
        return operation.identifier, 0.0
    raise TypeError(f"unknown operation {type(operation).__name__}")
