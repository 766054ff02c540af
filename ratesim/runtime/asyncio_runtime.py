"""`AsyncioRuntime`: real time, on the running asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from ratesim.runtime.base import Future, Runtime, Task
from ratesim.runtime.deadlines import Deadlines

__all__ = ["AsyncioRuntime"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

GRACE = 0.05  # seconds that a canceled task may need to end before its caller goes on without it
CLEANUP = 30.0  # seconds after which a task that was left behind is canceled once more


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
        self._deadlines: Deadlines | None = None  # of the loop that used them last

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
        self._keep(task)
        return task

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline.

        A cancellation of the caller is raised here even where the awaitable answers it with a result or an error of its own,
        as `asyncio.wait_for` of Python 3.11 does when both come in one turn of the loop.
        """
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            async with asyncio.timeout(seconds):
                result = await awaitable
        except Exception:
            if task.cancelling() > before:
                raise asyncio.CancelledError from None
            raise
        if task.cancelling() > before:
            raise asyncio.CancelledError
        return result

    async def abandon_after(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline, in a task that is left behind when it does not end."""
        loop = asyncio.get_running_loop()
        call = _Call(self, loop, awaitable)
        deadlines = self._deadlines
        if deadlines is None or deadlines.loop is not loop:
            deadlines = self._deadlines = Deadlines(loop)
        deadlines.add(call, seconds)
        try:
            return cast("T", await call.answer)
        except asyncio.CancelledError:
            await call.cancel()
            raise
        finally:
            call.live = False

    def raise_if_canceled(self) -> None:
        """Raise `CancelledError` if the task was canceled.

        `asyncio.wait_for` of Python 3.11, by which psycopg waits, takes no notice of a cancellation that comes in one turn
        of the loop with an answer; and an error while cleaning up may take its place.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    def leave_behind(self, task: asyncio.Task[Any]) -> None:
        """Let a canceled task that does not end clean up, for `CLEANUP` seconds."""
        logger.debug("left behind: %r", task)
        self._keep(task)
        task.get_loop().call_later(CLEANUP, _cancel_again, task)

    def future(self) -> Future[Any]:
        """Return a new asyncio future."""
        return cast("Future[Any]", asyncio.get_running_loop().create_future())


class _Call:
    """An awaitable that runs as a task of its own, and the future with which its caller waits.

    Attributes
    ----------
    answer
        The future.
    live
        Whether the caller waits.
    """

    __slots__ = ("_awaitable", "_expired", "_loop", "_runtime", "_task", "answer", "live")

    def __init__(self, runtime: AsyncioRuntime, loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any]) -> None:
        self._runtime = runtime
        self._loop = loop
        self._expired = False
        self.live = True
        self.answer: asyncio.Future[Any] = loop.create_future()
        self._awaitable: Awaitable[Any] | None = awaitable  # until it starts
        self._task = loop.create_task(self._run(awaitable))

    async def _run(self, awaitable: Awaitable[Any]) -> None:
        answer, self._awaitable = self.answer, None
        try:
            result = await awaitable
        except Exception as error:
            if answer.done():
                logger.debug("ended with an error after it was given up", exc_info=error)
            else:
                answer.set_exception(error)
                answer.exception()  # not logged where the caller is canceled in this moment
        except BaseException:
            if answer.done():
                pass
            elif self._expired:
                answer.set_exception(TimeoutError())
                answer.exception()
            else:
                answer.cancel()
            raise
        else:
            if not answer.done():
                answer.set_result(result)

    def expire(self) -> None:
        """Cancel the task at its deadline; the caller goes on when it has ended, or a moment later without it."""
        self._expired = True
        self._task.cancel()
        if self._awaitable is None:
            self._loop.call_later(GRACE, self._give_up)
        elif not self.answer.done():  # the loop was busy for so long that it has not started
            self._close()
            self.answer.set_exception(TimeoutError())
            self.answer.exception()

    def _give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(TimeoutError())
            self.answer.exception()
            self._runtime.leave_behind(self._task)

    def _close(self) -> None:
        """Spare a coroutine that was canceled before its start the warning that it was never awaited."""
        if asyncio.iscoroutine(self._awaitable):
            self._awaitable.close()

    async def cancel(self) -> None:
        """Cancel the task with its caller, and wait a moment for its end."""
        if not self._task.done():
            self._task.cancel()
            try:
                await asyncio.wait([self._task], timeout=GRACE)
            finally:
                if not self._task.done():
                    self._runtime.leave_behind(self._task)
        self._close()


def _cancel_again(task: asyncio.Task[Any]) -> None:
    if not task.done():
        logger.error("has not ended within %g s after it was canceled, and is canceled again: %r", CLEANUP, task)
        task.cancel()
