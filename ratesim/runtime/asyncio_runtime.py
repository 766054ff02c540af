"""`AsyncioRuntime`: real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from ratesim.runtime.base import Future, Runtime, Task

__all__ = ["AsyncioRuntime"]

T = TypeVar("T")


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

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            return await awaitable

    def future(self) -> Future[Any]:
        return cast("Future[Any]", asyncio.get_running_loop().create_future())
