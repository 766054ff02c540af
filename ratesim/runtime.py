"""`Runtime`: what drives async code. The same coroutines run on asyncio, in real time, and on SimPy, in simulated time.

A SimPy process is a generator, and a coroutine is one underneath: an awaitable that yields a SimPy event makes any `async
def` run as a process. So storages, clients and background tasks are written once, against these few verbs.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar, cast

import simpy

__all__ = ["AsyncioRuntime", "Event", "Future", "Queue", "Runtime", "SimRuntime", "Task"]

T = TypeVar("T")


class Future(Protocol[T]):
    """A value that is yet to come; several may await it."""

    def set_result(self, value: T) -> None: ...
    def set_exception(self, error: BaseException) -> None: ...
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, T]: ...


class Task(Protocol):
    """A spawned coroutine; awaiting it gives its result or raises its error."""

    def cancel(self) -> object: ...
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...


class Runtime(ABC):
    """Time, sleep, spawn, timeout and futures. `realtime` tells whether its clock is the world's."""

    realtime: bool

    @abstractmethod
    def time(self) -> float:
        """Now, in seconds since the epoch."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait; at once when seconds <= 0."""

    @abstractmethod
    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine beside the caller."""

    @abstractmethod
    async def timeout(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """The coroutine's result; TimeoutError, and the coroutine cancelled, when it takes longer."""

    @abstractmethod
    def future(self) -> Future[Any]:
        """A new future of this runtime."""


class AsyncioRuntime(Runtime):
    """The running asyncio loop. `clock` gives the time: the world's, unless a test brings its own."""

    realtime = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.time = clock  # type: ignore[method-assign]  # no call around a call: every decision reads it
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop keeps only weak references

    def time(self) -> float:
        raise TypeError("a clock was given")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def timeout(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            return await coroutine

    def future(self) -> Future[Any]:
        return cast("Future[Any]", asyncio.get_running_loop().create_future())


class SimRuntime(Runtime):
    """A SimPy environment. Its clock starts at `epoch` seconds when the environment stands at 0."""

    realtime = False

    def __init__(self, env: simpy.Environment, epoch: float = 0.0) -> None:
        self.env = env
        self.epoch = epoch

    def time(self) -> float:
        return self.epoch + self.env.now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await Until(self.env.timeout(seconds))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        return _SimTask(self.env.process(_process(coroutine)))

    async def timeout(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        process = self.env.active_process
        if process is None:
            coroutine.close()
            raise RuntimeError("timeout: called outside of a process")
        deadline = simpy.Timeout(self.env, seconds)
        waiting = True

        def expire(_: simpy.Event) -> None:
            if waiting:
                process.interrupt(deadline)

        # One event and a callback instead of an AnyOf: this runs once per request.
        cast("list[Callable[[simpy.Event], None]]", deadline.callbacks).append(expire)
        try:
            return await coroutine
        except simpy.Interrupt as interrupt:
            if interrupt.cause is deadline:
                raise TimeoutError from None
            raise
        finally:
            waiting = False

    def future(self) -> Future[Any]:
        return _SimFuture(self.env)


class Until:
    """Await a SimPy event: `value = await Until(event)`."""

    __slots__ = ("event",)

    def __init__(self, event: simpy.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self.event)


_CANCELLED = object()


def _process(coroutine: Coroutine[Any, Any, T]) -> Generator[simpy.Event, Any, T | None]:
    # A real generator around the coroutine, so that SimPy's messages name it and its checks accept it.
    try:
        return (yield from coroutine.__await__())
    except simpy.Interrupt as interrupt:
        if interrupt.cause is _CANCELLED:
            return None
        raise


class _SimTask:
    __slots__ = ("_process",)

    def __init__(self, process: simpy.Process) -> None:
        self._process = process

    def cancel(self) -> object:
        if not self._process.is_alive:
            return False
        self._process.interrupt(_CANCELLED)
        return True

    def done(self) -> bool:
        return not self._process.is_alive

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self._process)


class _SimFuture:
    __slots__ = ("_event",)

    def __init__(self, env: simpy.Environment) -> None:
        self._event = simpy.Event(env)

    def set_result(self, value: Any) -> None:
        self._event.succeed(value)

    def set_exception(self, error: BaseException) -> None:
        self._event.fail(cast(Exception, error))
        self._event.defused = True  # the one who awaits it raises it; nobody waiting is not the simulation's failure

    def done(self) -> bool:
        return self._event.triggered

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self._event)


class Event:
    """A flag to wait for; written once for every runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._set = False
        self._waiting: list[Future[None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        if not self._set:
            future = self._runtime.future()
            self._waiting.append(future)
            await future


class Queue(Generic[T]):
    """First in, first out, with at most `capacity` items; written once for every runtime."""

    def __init__(self, runtime: Runtime, capacity: int) -> None:
        self._runtime = runtime
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed: deque[Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Add an item, waiting while the queue is full."""
        while len(self._items) >= self._capacity:
            await self._change()
        self._items.append(item)
        self._notify()

    async def get(self) -> T:
        """Take the oldest item, waiting while there is none."""
        while not self._items:
            await self._change()
        item = self._items.popleft()
        self._notify()
        return item

    async def _change(self) -> None:
        future = self._runtime.future()
        self._changed.append(future)
        await future

    def _notify(self) -> None:
        while self._changed:
            future = self._changed.popleft()
            if not future.done():
                future.set_result(None)
