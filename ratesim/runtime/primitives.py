"""`Event` and `Queue` for every runtime."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ratesim.runtime.base import Future, Runtime

__all__ = ["Event", "Queue"]

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
