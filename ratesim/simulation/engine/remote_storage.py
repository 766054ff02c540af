"""`SimulatedStorage`: any backend behind a modeled network and queue.

It is a `RemoteStorage`, as RedisStorage is, with a driver that travels: a hop out, a wait and service at the server's
station, the backend's decision at the end of the service, a hop back. Coalescing, timeouts, retries and the breaker are the
client's own code. Backends differ in where a decision runs and never in the decision: a MemoryStorage (`ModelBackend`), or a
real driver over fakeredis or a live server (`backends.LoopBackend`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.profile import BackendCosts, HybridCosts, factors_at
from ratesim.simulation.engine.store_server import StoreServer, changes, wrote
from ratesim.simulation.network.counter_rng import draw, draws
from ratesim.simulation.network.links import BACK, OUT, Link
from ratesim.simulation.network.trace_columns import trace_column
from ratesim.simulation.queueing.event_loop_cpu import EventLoopCPU
from ratesim.storage.base import StorageStats
from ratesim.storage.config import ClientConfig
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Driver, Get, Increment, Observe, Operation, Put, Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Trace

__all__ = ["ModelBackend", "RandomPlan", "SimDriver", "SimulatedStorage", "execute_operation", "subject"]

_SERVICE, _FLUSH = 2, 6  # purposes of draws

# What is measured under which name; the rest costs what an acquire costs.
_OPERATIONS: dict[type[Operation], str] = {Get: "get", Apply: "apply"}


class ModelBackend:
    """Decides in a MemoryStorage.

    Parameters
    ----------
    memory
        The state.
    clock
        The server's clock, if it decides by that; None for the times of the operations.
    """

    def __init__(self, memory: MemoryStorage, clock: Callable[[], float] | None = None) -> None:
        self.memory = memory
        self._clock = clock

    def stamped(self, batch: Sequence[Operation]) -> Sequence[Operation]:
        """Return the batch with the times at which it is decided."""
        if self._clock is None:
            return batch
        now = self._clock()
        return [_at(operation, now) for operation in batch]

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers to a batch."""
        memory = self.memory
        if self._clock is not None:
            batch = self.stamped(batch)
        if len(batch) == 1:  # most are
            return [_EXECUTE[batch[0].__class__](memory, batch[0])]
        return [_EXECUTE[operation.__class__](memory, operation) for operation in batch]

    def denies(self, operation: Acquire) -> bool:
        """Tell whether an operation would be denied now. Nothing changes; the look takes a number, as decisions do."""
        asked = self.stamped([operation])[0]
        assert isinstance(asked, Acquire)
        return not self.memory.peek_nowait(asked.identifier, asked.limits[0], asked.cost, asked.now).allowed


def _at(operation: Operation, now: float) -> Operation:
    """Return an operation as a server with a clock of its own takes it; of a charge the entries are moved."""
    if isinstance(operation, Apply):
        charge = operation.charge
        moved = 0.0 if charge.sent is None else now - charge.sent
        entries = tuple((time + moved, cost, requests) for time, cost, requests in charge.entries)
        return Apply(msgspec.structs.replace(charge, entries=entries, sent=None if charge.sent is None else now))
    return operation if isinstance(operation, Reset) else msgspec.structs.replace(operation, now=now)


def _acquire(memory: MemoryStorage, operation: Acquire) -> object:
    limits = operation.limits
    limit = limits[0] if len(limits) == 1 else limits
    decide = memory.acquire_nowait if operation.consume else memory.peek_nowait
    return decide(operation.identifier, limit, operation.cost, operation.now)


def _get(memory: MemoryStorage, operation: Get) -> object:
    entry = memory.live_entry(operation.identifier, operation.name, operation.now)
    return None if entry is None else entry.export()


def _put(memory: MemoryStorage, operation: Put) -> None:
    memory.set_state_nowait(operation.identifier, operation.state, operation.now + operation.ttl, operation.name)


def execute_operation(memory: MemoryStorage, operation: Operation) -> object:
    """Execute an operation as a server does."""
    return _EXECUTE[operation.__class__](memory, operation)


_EXECUTE: dict[type[Operation], Callable[[MemoryStorage, Any], object]] = {
    Acquire: _acquire,
    Apply: lambda memory, operation: memory.charge_nowait(operation.charge).export(),
    Get: _get,
    Put: _put,
    Observe: lambda memory, operation: memory.observe_nowait(
        operation.identifier, operation.limits, operation.score, operation.now
    ),
    Increment: lambda memory, operation: memory.increment_nowait(operation.identifier, operation.amount, operation.window),
    Reset: lambda memory, operation: memory.reset_nowait(operation.identifier),
    Claim: lambda memory, operation: memory.claim_nowait(operation.name, operation.holder, operation.ttl),
}


class TracedAcquire(Acquire, frozen=True, gc=False):
    """An acquire that carries the row of its request in the trace."""

    request: int


_EXECUTE[TracedAcquire] = _acquire


class RandomPlan:
    """The random draws of every request of a trace, on one link to one kind of server, drawn all at once.

    Candidates with the same draws share the columns.

    Attributes
    ----------
    request
        The row of the request that is sent next; the dispatcher sets it.
    out, back
        Seconds on the way to the server and back, by row.
    service
        Factors of the service time, by row.
    """

    def __init__(self, seed: int, trace: Trace, link: Link, costs: BackendCosts) -> None:
        self.request = 0
        factors = costs.factors

        def transit(purpose: int) -> memoryview:  # which Python reads in a third of the time that numpy takes
            return trace_column(trace, (seed, link, purpose), lambda: link.transit_times(seed, trace, purpose).data)

        def service() -> memoryview:
            return factors_at(draws(seed, trace, _SERVICE), factors).data

        self.out, self.back = transit(OUT), transit(BACK)
        self.service = trace_column(trace, (seed, factors), service)


class SimDriver:
    """One node's way to a server. Nodes share the server and the plan; the processor is the node's own.

    A batch passes, in this order: the client's event loop, the link out, the server (locks, processor, disk), the link back,
    and the event loop again. What a hybrid spends on it beside the client (`hybrid`) is spent on the answer.

    Attributes
    ----------
    gathers
        See `PromptDriver`.
    """

    gathers = True

    def __init__(
        self,
        server: StoreServer,
        link: Link,
        processor: EventLoopCPU,
        runtime: SimRuntime,
        seed: int,
        plan: RandomPlan | None = None,
        hybrid: HybridCosts | None = None,
    ) -> None:
        self._server = server
        self._link = link
        self._processor = processor
        self._runtime = runtime
        self._seed = seed
        self._plan = plan
        self._hybrid = hybrid
        self._pause = 0.0  # before the last question, as `Coldness.pause` counts it

    @property
    def parts(self) -> tuple[StoreServer, Link, EventLoopCPU, SimRuntime, int, RandomPlan | None, HybridCosts | None]:
        """The arguments that it was made of."""
        return self._server, self._link, self._processor, self._runtime, self._seed, self._plan, self._hybrid

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Travel to the server, execute a batch, and travel back."""
        server, runtime = self._server, self._runtime
        out, service, back = self._drawn(batch)
        if not self._processor.is_in_turn():
            await self._processor.enter()
        asked, answer, after = self._ask(batch)
        await runtime.sleep(asked + out)
        if server.straight:
            # Who comes first is served first, so nobody can tell the decision here from one at the end of the service.
            work, arrival = server.work, runtime.env.now
            if work is not None:
                if arrival < work.locked_until:
                    await runtime.sleep(work.locked_until - arrival)
                    arrival = runtime.env.now
                service = work.service(batch, service, arrival)
            back += server.take(arrival, service) - arrival
            answers = server.execute(batch)
        else:
            answers = await (self._served(batch, service) if server.locks is None else self._in_turn(batch, service))
        await runtime.sleep(back)
        if not self._processor.serve_alone(min(len(batch), 2), answer, after):
            await self._take_in(len(batch), answer, after)
        return answers

    async def next_turn(self) -> None:
        """Wait for the next turn of the event loop, in which all that has come by now has been submitted."""
        await self._processor.next_turn()

    def _ask(self, batch: Sequence[Operation]) -> tuple[float, float, float]:
        """Write the question, in a turn of the event loop.

        Returns
        -------
        tuple
            Seconds until it is written, and the processor seconds that the answer takes until the caller has it, and behind.
        """
        loop, costs = self._processor, self._server.costs
        if costs.cold is not None:
            self._pause = costs.cold.pause(loop.idle_since_question(), self._pause)
        ask, answer, after = costs.steps(len(batch), self._pause)
        if self._hybrid is not None:
            told = sum(isinstance(each, Apply) for each in batch)
            answer += self._hybrid.beside(len(batch) - told, told, self._pause)
        return loop.work(ask), answer, after

    async def _take_in(self, items: int, answer: float, after: float) -> None:
        """Take in the answer: it is read in one turn of the event loop, and the task that waits for it goes on in the next.

        The callers of a batch go on in the one after that.
        """
        loop = self._processor
        await loop.enter()
        await loop.next_turn()
        if items > 1:
            await loop.next_turn()
        loop.work(answer)
        loop.work_later(after)

    async def _served(self, batch: Sequence[Operation], service: float) -> list[object]:
        """Wait for the processor, decide at the end of the service, and wait for the disk."""
        server, runtime, env = self._server, self._runtime, self._runtime.env
        if (work := server.work) is not None:
            if env.now < work.locked_until:
                await runtime.sleep(work.locked_until - env.now)
            service = work.service(batch, service, env.now)
        await server.spend(service)
        answers = server.execute(batch)
        await runtime.sleep(self._flushed(batch, answers) - env.now)
        return answers

    async def _in_turn(self, batch: Sequence[Operation], service: float) -> list[object]:
        """Hold the rows that the batch changes until that is on the disk.

        A request that is denied by what it reads takes no lock, whoever holds the row.
        """
        server = self._server
        assert server.locks is not None
        names = list({subject(each)[0]: None for each in batch if changes(each)})
        if server.locks.held(names):
            names = list({subject(each)[0]: None for each in batch if changes(each) and not self._is_denied(each)})
        mine = await server.locks.take(names)
        try:
            return await self._served(batch, service)
        finally:
            server.locks.release(names, mine)

    def _is_denied(self, operation: Operation) -> bool:
        """Tell whether an operation is one that reads no more than that it is denied."""
        if not isinstance(operation, Acquire) or len(operation.limits) > 1 or bind(operation.limits[0]).size is None:
            return False
        return self._server.meter.backend.denies(operation)

    def _flushed(self, batch: Sequence[Operation], answers: Sequence[object]) -> float:
        """When what the batch has changed, until now, is on the disk, and on the standby's where answers wait for it."""
        server, now = self._server, self._runtime.env.now
        if (server.commit is None and server.standby is None) or not any(map(wrote, batch, answers)):
            return now
        return server.flushed(now, draw(self._seed, subject(batch[0])[0], self._runtime.time(), _FLUSH))

    def _drawn(self, batch: Sequence[Operation]) -> tuple[float, float, float]:
        """Draw the way out, the service and the way back, in seconds."""
        first, plan, costs = batch[0], self._plan, self._server.costs
        if plan is not None and isinstance(first, TracedAcquire):
            row = first.request
            return plan.out[row], costs.seconds(len(batch)) * plan.service[row], plan.back[row]
        # By the time at which it is sent: a flush that is tried again is not lost again because it was lost before.
        identifier, now = subject(first)[0], self._runtime.time()
        seed, way = self._seed, self._link.transit_time
        service = costs.service(
            len(batch), draw(seed, identifier, now, _SERVICE), _OPERATIONS.get(first.__class__, "acquire")
        )
        return way(seed, identifier, now, OUT), service, way(seed, identifier, now, BACK)

    async def close(self) -> None:
        """Do nothing: the network and the server belong to the cluster."""


class SimulatedStorage(RemoteStorage):
    """A backend behind a link and a queue, as one node sees it."""

    def __init__(
        self,
        driver: Driver,
        runtime: SimRuntime,
        config: ClientConfig,
        rng: np.random.Generator,
        plan: RandomPlan | None = None,
    ) -> None:
        super().__init__(Client(driver, runtime, config, rng), runtime)
        if plan is not None:

            def traced(identifier: str, limits: tuple[Limit, ...], cost: float, now: float, consume: bool) -> Acquire:
                return TracedAcquire(identifier, limits, cost, now, consume, plan.request)

            self._make_acquire = traced

    async def cleanup_expired(self) -> int:
        """Return 0: expiry belongs to the backend, which drops nothing that a decision could need."""
        return 0

    async def get_stats(self) -> StorageStats:
        """Return the counters of this node's client."""
        return StorageStats(0, 0, operations=self.client.operations, errors=dict(self.client.errors))


def subject(operation: Operation) -> tuple[str, float]:
    """Return the identifier and the time of an operation, to which its random draws belong."""
    if isinstance(operation, Apply):
        return operation.charge.identifier, operation.charge.entries[0][0]
    if isinstance(operation, Acquire | Observe | Get | Put | Increment):
        return operation.identifier, operation.now
    if isinstance(operation, Reset | Claim):
        return operation.identifier, 0.0
    raise TypeError(f"unknown operation {type(operation).__name__}")
