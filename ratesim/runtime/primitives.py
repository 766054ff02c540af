"""`Event`, `Flight`, `Mutex`, `Queue` and `WaitQueue` for every runtime.

Each coroutine that waits has a future of its own. If several awaited one asyncio future, the first that is canceled would
cancel the future, and with it all the others.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Generic, TypeVar

from ratesim.runtime.base import Future, Runtime

__all__ = ["Event", "Flight", "Mutex", "Queue", "WaitQueue"]

T = TypeVar("T")


class Event:
    """A flag that coroutines can wait for.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._set = False
        self._waiting: list[Future[None]] = []

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._set

    def set(self) -> None:
        """Set the flag, and resume the coroutines that wait for it."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        """Clear the flag."""
        self._set = False

    async def wait(self) -> None:
        """Wait until the flag is set."""
        if not self._set:
            future = self._runtime.future()
            self._waiting.append(future)
            await future


class Flight:
    """Work that one coroutine does and others wait for.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.

    Attributes
    ----------
    failed
        Whether the work ended with an error. Work that was given up has not failed: a waiter may do it instead.
    """

    __slots__ = ("_landed", "_runtime", "_waiting", "failed")

    def __init__(self, runtime: Runtime) -> None:
        self.failed = False
        self._landed = False
        self._runtime = runtime
        self._waiting: list[Future[None]] = []

    async def wait(self) -> None:
        """Wait until the work is over, however it ends."""
        if not self._landed:
            future = self._runtime.future()
            self._waiting.append(future)
            await future

    def land(self) -> None:
        """Resume the coroutines that wait, in their order."""
        self._landed = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class WaitQueue:
    """Coroutines that wait for places to become free, first come, first served.

    A place is handed on when its coroutine is canceled, also between being handed the place and running.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: deque[Future[None]] = deque()

    async def wait(self) -> None:
        """Wait for a place."""
        future = self._runtime.future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if not future.cancel() and not future.cancelled():
                self.hand_on()
            raise

    def hand_on(self) -> bool:
        """Hand a free place to the first coroutine; returns False where none waits."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return True
        return False


class Mutex:
    """Work that one coroutine at a time does, with `async with`.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._held = False
        self._queue = WaitQueue(runtime)

    async def __aenter__(self) -> None:
        while self._held:
            await self._queue.wait()
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        self._queue.hand_on()


class Queue(Generic[T]):
    """A bounded queue, first in first out.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.
    capacity
        The number of items at most.
    """

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
            await self._wait_for_change()
        self._items.append(item)
        self._notify()

    async def get(self) -> T:
        """Take the oldest item, waiting while there is none."""
        while not self._items:
            await self._wait_for_change()
        item = self._items.popleft()
        self._notify()
        return item

    async def _wait_for_change(self) -> None:
        future = self._runtime.future()
        self._changed.append(future)
        await future

    def _notify(self) -> None:
        while self._changed:
            future = self._changed.popleft()
            if not future.done():
                future.set_result(None)
