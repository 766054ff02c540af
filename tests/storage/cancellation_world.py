"""Storages over a driver that does as it is told, in time that costs nothing, on SimPy and on a real asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import numpy as np
import simpy

from ratesim.errors import StorageConnectionError
from ratesim.runtime import AsyncioRuntime, Runtime, SimRuntime, Task
from ratesim.simulation.engine.remote_storage import execute_operation
from ratesim.storage import HybridStorage, HybridStorageConfig, MemoryStorage, RateLimitStorage, StorageStats
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Operation
from ratesim.storage.remote.storage import RemoteStorage

EPOCH = 1_700_000_000.0
STUBBORN = 20.0  # seconds that a driver which does not react to cancellation goes on


class Bench(Protocol):
    """Where coroutines run: a runtime, and the time that passes for them."""

    runtime: Runtime

    def run(self, seconds: float) -> None:
        """Let some seconds pass."""

    def cancel_at(self, step: int, task: Task) -> None:
        """Cancel a task as soon as so many further steps of any coroutine are scheduled."""

    def close(self) -> None:
        """End everything."""


class _Steps:
    """Cancels tasks between two steps of coroutines that run at the same moment."""

    def __init__(self) -> None:
        self._planned: list[tuple[int, Task]] = []
        self._count = 0

    def plan(self, step: int, task: Task) -> None:
        self._planned.append((self._count + step, task))

    def one_more(self) -> None:
        self._count += 1
        due = [task for step, task in self._planned if step <= self._count]
        self._planned = [(step, task) for step, task in self._planned if step > self._count]
        for task in due:
            task.cancel()


class _SteppedRuntime(SimRuntime):
    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env, EPOCH)
        self.steps = _Steps()

    def call_soon(self, call: Callable[[Any], None], argument: Any) -> None:
        super().call_soon(call, argument)
        self.steps.one_more()


class SimPyBench:
    """A SimPy environment."""

    def __init__(self) -> None:
        self._env = simpy.Environment()
        self._runtime = _SteppedRuntime(self._env)
        self.runtime: Runtime = self._runtime

    def run(self, seconds: float) -> None:
        self._env.run(until=self._env.now + seconds)

    def cancel_at(self, step: int, task: Task) -> None:
        self._runtime.steps.plan(step, task)

    def close(self) -> None:
        pass


class _Loop(asyncio.SelectorEventLoop):
    """A real asyncio loop whose clock goes on to the next timer, when no socket was ready for `patience` real seconds."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.steps = _Steps()
        self.now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> Any:
            ready = select(0 if timeout == 0 else patience)
            if timeout and not ready:
                self.now += timeout
            return ready

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def call_soon(self, *arguments: Any, **options: Any) -> asyncio.Handle:
        handle = super().call_soon(*arguments, **options)
        self.steps.one_more()
        return handle


class AsyncioBench:
    """An asyncio loop in time that costs nothing."""

    def __init__(self, patience: float = 0.0) -> None:
        self._loop = _Loop(patience)
        self.runtime: Runtime = AsyncioRuntime(lambda: EPOCH + self._loop.now, lambda: self._loop.now)
        self.failures: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def run(self, seconds: float) -> None:
        self._loop.run_until_complete(asyncio.sleep(seconds))
        assert not self.failures, self.failures

    def cancel_at(self, step: int, task: Task) -> None:
        self._loop.steps.plan(step, task)

    def close(self) -> None:
        self._loop.run_until_complete(self._end_tasks())
        self._loop.close()

    async def _end_tasks(self) -> None:
        left = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Driver:
    """A server `delay` seconds away.

    Attributes
    ----------
    fault
        "away": no batch arrives. "silent": no batch is answered. "lost": batches are carried out and the connection breaks.
        "stubborn": no batch is answered, and the driver does not react to cancellation for `STUBBORN` seconds.
    under_way
        Batches that have not ended.
    """

    def __init__(self, runtime: Runtime, delay: float) -> None:
        self._runtime = runtime
        self._memory = MemoryStorage(runtime=runtime)
        self.delay, self.fault = delay, ""
        self.under_way = 0
        self.closed = False

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.under_way += 1
        try:
            await self._runtime.sleep(self.delay)
            if self.fault == "away":
                raise StorageConnectionError("away", sent=False)
            if self.fault == "silent":
                await self._runtime.sleep(1e6)
            if self.fault == "stubborn":
                await self._go_on(self._runtime.monotonic() + STUBBORN)
            answers = [execute_operation(self._memory, operation) for operation in batch]
            if self.fault == "lost":
                raise StorageConnectionError("the connection broke", sent=True)
            await self._runtime.sleep(self.delay)
            return answers
        finally:
            self.under_way -= 1

    async def _go_on(self, end: float) -> None:
        while self._runtime.monotonic() < end:
            try:
                await self._runtime.sleep(end - self._runtime.monotonic())
            except asyncio.CancelledError:
                continue

    async def close(self) -> None:
        self.closed = True


class PromptDriver(Driver):
    """Keeps deadlines itself, as long as it reacts to cancellation and at most one other batch is under way."""

    gathers = True

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]] | None:
        if self.fault == "stubborn" or self.under_way > 1:
            return None
        return self._runtime.timeout(self.execute(batch), seconds)


class Remote(RemoteStorage):
    """A storage over the driver."""

    async def cleanup_expired(self) -> int:
        return 0

    async def get_stats(self) -> StorageStats:
        return StorageStats(0, 0)


def remote(driver: Driver, runtime: Runtime, pool_size: int) -> RemoteStorage:
    config = ClientConfig(
        pool_size=pool_size, max_batch=8, command_timeout=0.5, retries=1, breaker_failures=3, breaker_reset=0.2
    )
    return Remote(Client(driver, runtime, config), runtime)


def hybrid(l2: RemoteStorage, runtime: Runtime, **policies: Any) -> HybridStorage:
    config = HybridStorageConfig(
        max_wait=0.4,
        l1_ttl=0.3,
        refresh_after=0.05,
        sync_interval=0.1,
        queue_size=4,
        linger=0.001,
        flush_batch=2,
        lease_ttl=0.5,
        **policies,
    )
    return HybridStorage(l2, config, runtime, np.random.default_rng(1))


Call = Callable[[RateLimitStorage], Coroutine[Any, Any, Any]]
