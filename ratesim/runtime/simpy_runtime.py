"""`SimRuntime`: simulated time. Coroutines run on the events of a SimPy environment.

A SimPy process costs two events more than it waits for, its start and its end, and a deadline costs a third. A request is
a coroutine that waits two or three times, so these events would be half of a simulation. Here a task is started, and resumed
by a future, within the running turn, in the order of the calls, as an asyncio loop does. All deadlines of one length share
one event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from heapq import heappush
from typing import Any, TypeVar, cast

import simpy
from simpy.events import NORMAL

from ratesim.runtime.base import Future, Runtime, Task

__all__ = ["SimRuntime"]

T = TypeVar("T")

Then = Callable[[Any, Any, "Exception | None"], None]

TIME_TOLERANCE = 1e-9  # seconds; times that are this close are equal


class SimRuntime(Runtime):
    """Runs on a SimPy environment.

    Parameters
    ----------
    env
        The environment.
    epoch
        The time when the environment's clock is at 0, seconds since the epoch.

    Attributes
    ----------
    current
        The task whose turn it is.
    """

    realtime = False

    def __init__(self, env: simpy.Environment, epoch: float = 0.0) -> None:
        self.env = env
        self.epoch = epoch
        self.current: _SimTask | None = None
        self._turn: deque[tuple[Callable[[Any], None], Any]] = deque()  # calls to come in this turn
        self._running = False
        self._deadlines: dict[float, _Deadlines] = {}

    def time(self) -> float:
        """Return the simulated time, seconds since the epoch."""
        return self.epoch + self.env.now

    def monotonic(self) -> float:
        """Return the simulated time: nothing sets it."""
        return self.epoch + self.env.now

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait for `seconds` of simulated time; needs no event when they are <= 0."""
        return _Sleep(self.env, seconds) if seconds > 0 else _NOTHING

    def put_off(self, sleep: Awaitable[None], future: Future[None]) -> None:
        """Let the tasks that await a sleep which is not over await a future instead."""
        assert isinstance(sleep, _Sleep)
        assert isinstance(future, _SimFuture)
        for wake in sleep.callbacks:
            task: _SimTask = wake.__self__  # type: ignore[attr-defined]
            task.await_instead(future)
        sleep.callbacks.clear()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine as a task, which starts in this turn."""
        task = _SimTask(self, coroutine)
        self.call_soon(task.start, None)
        return task

    def begin(self, coroutine: Coroutine[Any, Any, Any], then: Then | None = None, argument: Any = None) -> None:
        """Run a coroutine at once until it first waits; it goes on as a task then.

        Parameters
        ----------
        coroutine
            The coroutine.
        then
            Called at its end with `argument`, its result and the error that it raised; the one that does not apply is None.
        argument
            Passed to `then`.
        """
        task = _SimTask(self, coroutine, then, argument)
        if self._running:
            task.go_on(coroutine.send, None)
            return
        self._running = True
        try:
            task.go_on(coroutine.send, None)
            if self._turn:
                self._run_calls()
        finally:
            self._running = False

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline. Must be called from within a task."""
        task = self.current
        if task is None:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise RuntimeError("timeout: called outside of a task")
        deadlines = self._deadlines.get(seconds)
        if deadlines is None:
            deadlines = self._deadlines[seconds] = _Deadlines(self, self._deadlines, seconds)
        deadline = deadlines.add(task)
        try:
            return await awaitable
        except _ExpiredError as expired:
            if expired.deadline is deadline:
                raise TimeoutError from None
            raise
        finally:
            deadline.task = None

    # What is simulated ends when it is canceled.
    abandon_after = timeout

    def future(self) -> Future[Any]:
        """Return a new future."""
        return _SimFuture(self)

    def call_soon(self, call: Callable[[Any], None], argument: Any) -> None:
        """Call a function in this turn, after the calls that were requested before."""
        self._turn.append((call, argument))
        if not self._running:
            simpy.Timeout(self.env, 0.0).callbacks.append(lambda _: self.run(_nothing))

    def run(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run a turn: a call, and all calls that it requests."""
        self._running = True
        try:
            call(*arguments)
            if self._turn:
                self._run_calls()
        finally:
            self._running = False

    def _run_calls(self) -> None:
        turn = self._turn
        while turn:
            call, argument = turn.popleft()
            call(argument)


class _SimTask:
    """A running coroutine. It waits for one thing at a time and ignores a late wake-up by another."""

    __slots__ = ("_argument", "_awaited", "_coroutine", "_future", "_result", "_runtime", "_then")

    def __init__(
        self,
        runtime: SimRuntime,
        coroutine: Coroutine[Any, Any, Any],
        then: Then | None = None,
        argument: Any = None,
    ) -> None:
        self._runtime = runtime
        self._then = then
        self._argument = argument
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._awaited: simpy.Event | _SimFuture | None = None
        self._future: _SimFuture | None = None  # made when the task is first awaited
        self._result: Any = None

    def start(self, _: Any) -> None:
        if self._coroutine is not None:
            self.go_on(self._coroutine.send, None)

    def cancel(self) -> object:
        return self.throw(asyncio.CancelledError())

    def throw(self, error: BaseException) -> bool:
        """Raise an error where the coroutine waits; returns False when it has ended."""
        if self._coroutine is None:
            return False
        self._awaited = None
        self._runtime.call_soon(self._raise, error)
        return True

    def _raise(self, error: BaseException) -> None:
        if self._coroutine is not None:
            self._awaited = None
            self.go_on(self._coroutine.throw, error)

    def done(self) -> bool:
        return self._coroutine is None

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._future is None:
            self._future = _SimFuture(self._runtime)
            if self._coroutine is None:
                self._future.set_result(self._result)
        return self._future.__await__()

    def on_event(self, event: simpy.Event) -> None:
        """Run the turn of this task, and of all that it wakes, after a SimPy event."""
        if event is not self._awaited:
            return
        coroutine = self._coroutine
        assert coroutine is not None
        if event._ok:
            self._runtime.run(self.go_on, coroutine.send, event._value)
        else:
            event.defused = True
            self._runtime.run(self.go_on, coroutine.throw, event._value)

    def await_instead(self, future: _SimFuture) -> None:
        self._awaited = future
        future.waiting.append(self)

    def on_future(self, future: _SimFuture) -> None:
        """Resume after a future; the coroutine reads its value itself."""
        if future is self._awaited and self._coroutine is not None:
            self.go_on(self._coroutine.send, None)

    def go_on(self, resume: Callable[[Any], Any], argument: Any) -> None:
        """Run the coroutine until it waits again or ends."""
        runtime = self._runtime
        before, runtime.current = runtime.current, self
        try:
            self._awaited = awaited = resume(argument)
        except StopIteration as stop:
            self._coroutine = None
            if self._then is not None:
                self._then(self._argument, stop.value, None)
            self._result = stop.value
            if self._future is not None:
                self._future.set_result(stop.value)
        except BaseException as error:  # noqa: BLE001 - raised where the task is awaited, or here
            self._coroutine = None
            self._fail(error)
        else:
            if awaited.__class__ is _SimFuture:
                awaited.waiting.append(self)
            else:
                awaited.callbacks.append(self.on_event)
        finally:
            runtime.current = before

    def _fail(self, error: BaseException) -> None:
        if self._then is not None and isinstance(error, Exception):
            self._then(self._argument, None, error)
        elif self._future is not None and isinstance(error, Exception | asyncio.CancelledError):
            self._future.set_exception(error)
        elif isinstance(error, asyncio.CancelledError):
            self._future = _SimFuture(self._runtime)
            self._future.set_exception(error)
        else:
            raise error  # the task is not awaited: the error ends the simulation


class _SimFuture:
    __slots__ = ("_canceled", "_done", "_error", "_runtime", "_value", "waiting")

    def __init__(self, runtime: SimRuntime) -> None:
        self._runtime = runtime
        self._done = self._canceled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.waiting: list[_SimTask] = []

    def set_result(self, value: Any) -> None:
        self._value = value
        self._end()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        if self._done:
            raise RuntimeError("the future is done already")
        self._done = True
        for task in self.waiting:
            self._runtime.call_soon(task.on_future, self)
        self.waiting.clear()

    def cancel(self) -> bool:
        if self._done:
            return False
        self._done = self._canceled = True
        self._error = asyncio.CancelledError()
        self.waiting.clear()
        return True

    def cancelled(self) -> bool:
        return self._canceled

    def done(self) -> bool:
        return self._done

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value


class _Sleep(simpy.Event):
    """A SimPy timeout that can be awaited, made in half the time that `simpy.Timeout` needs."""

    _ok = True
    _value = None

    def __init__(self, env: simpy.Environment, seconds: float) -> None:
        self.env = env
        self.callbacks = []
        heappush(env._queue, (env._now + seconds, NORMAL, next(env._eid), self))

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self)


class _Nothing:
    """An awaitable that does not wait."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_NOTHING = _Nothing()


def _nothing() -> None:
    pass


class _ExpiredError(BaseException):
    """A deadline has passed. Only `timeout` catches it, and no handler of `Exception` on the way."""

    def __init__(self, deadline: _Deadline) -> None:
        self.deadline = deadline


class _Deadline:
    """A time by which a task must be done; `task` is None when it is."""

    __slots__ = ("at", "task")

    def __init__(self, task: _SimTask, at: float) -> None:
        self.task: _SimTask | None = task
        self.at = at


class _Deadlines:
    """All deadlines that are `seconds` away when they are set: the first that is set is the first to pass."""

    def __init__(self, runtime: SimRuntime, siblings: dict[float, _Deadlines], seconds: float) -> None:
        self._runtime = runtime
        self._siblings = siblings  # by their seconds
        self._seconds = seconds
        self._all: deque[_Deadline] = deque()
        self._scheduled = False

    def add(self, task: _SimTask) -> _Deadline:
        deadline = _Deadline(task, self._runtime.env.now + self._seconds)
        self._all.append(deadline)
        if not self._scheduled:
            self._schedule(self._seconds)
        return deadline

    def _schedule(self, seconds: float) -> None:
        self._scheduled = True
        event = simpy.Timeout(self._runtime.env, max(seconds, 0.0))
        cast("list[Callable[[simpy.Event], None]]", event.callbacks).append(lambda _: self._runtime.run(self._pass))

    def _pass(self) -> None:
        self._scheduled = False
        waiting, now = self._all, self._runtime.env.now
        while waiting:
            deadline = waiting[0]
            if deadline.task is not None:
                if deadline.at > now + TIME_TOLERANCE:
                    self._schedule(deadline.at - now)
                    return
                deadline.task.throw(_ExpiredError(deadline))
            waiting.popleft()
        del self._siblings[self._seconds]
