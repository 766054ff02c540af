"""`Event`, `Flight`, `Mutex` and `WaitQueue` for every runtime.

Each coroutine that waits has a future of its own. If several awaited one asyncio future, the first that is canceled would
cancel the future, and with it all the others.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from ratesim.runtime.base import Future, Runtime

__all__ = ["Event", "Flight", "Mutex", "WaitQueue"]


class Event:
    """A flag that is set once, and that coroutines can wait for.

    Parameters
    ----------
    runtime
        The runtime of the coroutines.
    """

    __slots__ = ("_runtime", "_set", "_waiting")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._set = False
        self._waiting: list[Future[None]] = []

    def set(self) -> None:
        """Set the flag, and resume the coroutines that wait for it, in their order."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Wait until the flag is set."""
        if not self._set:
            future = self._runtime.future()
            self._waiting.append(future)
            await future


class Flight(Event):
    """Work that one coroutine does and others wait for; set when the work is over, however it ends.

    Attributes
    ----------
    failed
        Whether the work ended with an error. Work that was given up has not failed: a waiter may do it instead.
    """

    __slots__ = ("failed",)

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.failed = False


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
