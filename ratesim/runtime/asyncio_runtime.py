"""`AsyncioRuntime`: real time, on the running asyncio loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from ratesim.runtime.base import Future, Runtime, Task

__all__ = ["AsyncioRuntime"]

T = TypeVar("T")


class AsyncioRuntime(Runtime):
    """Runs on the running asyncio loop.

    Parameters
    ----------
    clock
        Returns the time, seconds since the epoch. A test may pass its own.
    monotonic
        Returns the seconds of a clock that is never set. A test may pass its own.
    """

    realtime = True

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.time = clock  # type: ignore[method-assign]  # read by every decision: spares a call
        self.monotonic = monotonic  # type: ignore[method-assign]
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop keeps only weak references

    def time(self) -> float:
        """Return the time of the clock."""
        raise TypeError("a clock was given")

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock."""
        raise TypeError("a clock was given")

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of real time."""
        await asyncio.sleep(max(seconds, 0.0))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine as a task of the loop, referenced until it ends."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline."""
        async with asyncio.timeout(seconds):
            return await awaitable

    def future(self) -> Future[Any]:
        """Return a new asyncio future."""
        return cast("Future[Any]", asyncio.get_running_loop().create_future())
