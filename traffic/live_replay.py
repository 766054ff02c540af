"""Live replay of a trace against something real under asyncio, free of coordinated omission.

A load generator that waits for a slow answer before it sends the next request measures only as many slow answers as it has
connections. It coordinates with the server to omit the rest (Gil Tene, "How NOT to Measure Latency", 2013). Here requests
are sent when the trace says. Latency counts from the moment at which a request *should* have been sent: the latency that a
client at that moment would see, including the time for which the replayer itself kept it waiting.

One wait is not the replayer's. A process that sleeps when a request is due has to be woken, and the same happens to a server
that sleeps when a request arrives. There the latency counts from the moment at which the woken process begins to handle the
first request. `LiveResult.late` keeps all of the wait.
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from traffic.clients import Send
from traffic.timer import Timer
from traffic.trace import Trace

__all__ = ["LiveResult", "Selector", "loop_factory", "replay", "running_selector"]

# How many overdue requests are started before the loop may serve answers again.
BURST = 32
T = TypeVar("T")


class _Memory:
    """What is remembered of a selector: the turns that it made, and its last sleep; see `Selector`."""

    turns = 0
    slept = (math.nan, math.nan)

    def remember(self, select: Callable[[float | None], T], timeout: float | None = None) -> T:
        """Ask for events. A look without a wait, as a busy loop takes it, is no sleep."""
        entered = perf_counter()
        ready = select(timeout)
        self.turns += 1
        if timeout is None or timeout > 0:
            self.slept = entered, perf_counter()
        return ready


_MEMORIES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Memory] = WeakKeyDictionary()  # of loops of another's


class Selector(_Memory, selectors.DefaultSelector):
    """The selector of a loop, which counts the loop's turns and remembers its sleep.

    Attributes
    ----------
    turns : int
        The turns that the loop has made.
    slept : tuple[float, float]
        When the loop last began to wait for an event, and when it woke, by perf_counter; nan before that.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, and remember it."""
        return self.remember(super().select, timeout)


def loop_factory() -> asyncio.AbstractEventLoop:
    """Make a loop on a `Selector`, for `asyncio.Runner(loop_factory=...)`."""
    return asyncio.SelectorEventLoop(Selector())


def running_selector() -> Selector:
    """Return the selector of the running loop, which `loop_factory` has made."""
    selector = _selector_of(asyncio.get_running_loop())
    if not isinstance(selector, Selector):
        raise TypeError("the running loop was not made by traffic.live_replay.loop_factory; run it with that factory")
    return selector


@dataclass(frozen=True, slots=True, eq=False)
class LiveResult:
    """The outcome of a replay, one entry per row of the trace.

    Times are seconds since the replay began, by perf_counter.

    Attributes
    ----------
    intended : NDArray[np.float64]
        When each request was due.
    started : NDArray[np.float64]
        When `send` began.
    finished : NDArray[np.float64]
        When `send` ended.
    results : list
        The return value of `send`, or the exception that it raised.
    failed : NDArray[np.bool_]
        Whether `send` raised.
    errors : dict[str, int]
        Number of failed requests by the exception's type name.
    held_back : int
        Requests that were due while `max_in_flight` others were under way, and therefore started late.
    max_in_flight : int
        The bound on requests under way.
    asleep : NDArray[np.bool_]
        Whether the loop slept when the request was due. False for a request that was held back, and on a loop without a
        selector, of which nothing is known.
    began : NDArray[np.float64]
        From when the latency counts: `intended`, and for requests with `asleep` the moment in which the first one of those
        that the loop woke for was started.
    """

    intended: NDArray[np.float64]
    started: NDArray[np.float64]
    finished: NDArray[np.float64]
    results: list[Any]
    failed: NDArray[np.bool_]
    errors: dict[str, int]
    held_back: int
    max_in_flight: int
    asleep: NDArray[np.bool_]
    began: NDArray[np.float64]

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from `began` to the end: the latency that a client sees, without the wake-up of a sleeping process."""
        return self.finished - self.began

    @property
    def service(self) -> NDArray[np.float64]:
        """Seconds from the actual start to the end: the latency that a coordinated generator would report."""
        return self.finished - self.started

    @property
    def held(self) -> NDArray[np.float64]:
        """Seconds from `began` to the actual start: the replayer's own part of `latency`."""
        return self.started - self.began

    @property
    def late(self) -> NDArray[np.float64]:
        """Seconds from the intended start to the actual start, with the wake-up of a sleeping process."""
        return self.started - self.intended

    @property
    def lateness(self) -> dict[str, float]:
        """Give the quantiles p50 and p99 and the maximum of `late`, in seconds.

        It is the drift of the replayer itself. If it is not small beside `latency`, the replayer was too slow (or
        `max_in_flight` too small), and the latencies are its own.
        """
        if not len(self.late):
            return {"p50": 0.0, "p99": 0.0, "max": 0.0}
        p50, p99, largest = np.quantile(self.late, (0.5, 0.99, 1.0))
        return {"p50": float(p50), "p99": float(p99), "max": float(largest)}


async def replay(
    trace: Trace,
    send: Send,
    *,
    speed: float = 1.0,
    max_in_flight: int = 10_000,
    progress: Callable[[int, int], None] | None = None,
) -> LiveResult:
    """Call `send(i)` for every row i when it is due, and wait for all calls to end.

    No request waits for another, up to `max_in_flight` at a time. A request that is due beyond that starts when a place is
    free. Its latency still counts from the moment when it was due, and `held_back` counts it. Canceling the replay cancels
    the requests under way.

    Parameters
    ----------
    trace : Trace
        The requests.
    send : Send
        Sends row i. An exception that it raises is a result.
    speed : float
        How many times as fast as in the trace.
    max_in_flight : int
        Bound on requests under way.
    progress : Callable[[int, int], None], optional
        Called with the number done and the number of all, after every request.

    Returns
    -------
    LiveResult
        Times and results by row.

    Raises
    ------
    ValueError
        If speed or max_in_flight is not positive.
    """
    if not (np.isfinite(speed) and speed > 0):
        raise ValueError(f"speed must be a positive finite number, got {speed:g}")
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
    intended = (trace.time - trace.time[:1]) / speed
    played = _Replay(send, intended.tolist(), max_in_flight, progress)
    await played.run()
    return played.result(intended)


class _Replay:
    """A replay under way. What is due is started by the timer, by the next turn, or by an answer that frees a place."""

    def __init__(
        self, send: Send, intended: list[float], max_in_flight: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self._send, self._max_in_flight, self._progress = send, max_in_flight, progress
        n = len(intended)
        self._loop = asyncio.get_running_loop()
        self._memory = _memory_of(self._loop)
        self._timer = Timer(self._on_time)
        self._group = asyncio.TaskGroup()
        self._all_started: asyncio.Future[None] = self._loop.create_future()
        self._started, self._finished = [math.nan] * n, [math.nan] * n
        self._results: list[Any] = [None] * n
        self._failed = [False] * n
        self._errors: Counter[str] = Counter()
        self._next = self._under_way = self._done = self._held_back = 0
        self._last_full = 0.0
        self._wake_up = self._memory.slept  # the one that `_first` was started in
        self._first = -1
        self._first_of = [-1] * n  # by request: the first one of the same wake-up
        self._zero = perf_counter()
        self._due = [self._zero + at for at in intended]

    async def run(self) -> None:
        """Start every request when it is due, and wait for all to end."""
        try:
            async with self._group:
                self._on_time()
                await self._all_started
        finally:
            self._timer.close()

    def result(self, intended: NDArray[np.float64]) -> LiveResult:
        """Make the arrays of what was noted."""
        started, finished = np.array(self._started) - self._zero, np.array(self._finished) - self._zero
        first = np.array(self._first_of, np.int64)
        asleep = first >= 0
        began = intended.copy()
        began[asleep] = started[first[asleep]]
        failed = np.array(self._failed, np.bool_)
        errors = dict(self._errors)
        return LiveResult(
            intended, started, finished, self._results, failed, errors, self._held_back, self._max_in_flight, asleep, began
        )

    def _on_time(self) -> None:
        if self._all_started.done():  # the replay is canceled
            return
        try:
            self._start_due()
        except Exception as error:  # noqa: BLE001 - raised again where the replay waits, not in the loop
            self._all_started.set_exception(error)

    def _start_due(self) -> None:
        now, due, n = perf_counter(), self._due, len(self._due)
        end = min(n, self._next + BURST)
        while self._next < end and due[self._next] <= now and self._under_way < self._max_in_flight:
            self._start(self._next)
            self._next += 1
        if self._next == n:
            self._all_started.set_result(None)
        elif self._under_way < self._max_in_flight:
            if due[self._next] <= now:
                self._loop.call_soon(self._on_time)
            else:
                self._timer.arm(due[self._next])

    def _start(self, i: int) -> None:
        due, slept = self._due[i], self._memory.slept
        if due < self._last_full:
            self._held_back += 1
        elif slept[0] <= due <= slept[1]:
            if slept is not self._wake_up:
                self._wake_up, self._first = slept, i
            self._first_of[i] = self._first
        self._under_way += 1
        self._group.create_task(self._request(i))

    async def _request(self, i: int) -> None:
        self._started[i] = perf_counter()
        try:
            self._results[i] = await self._send(i)
        # What the system under test does is a result, also that it cancels itself. If it is the replay that
        # is canceled, this task ends here and the task group raises on.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            self._results[i], self._failed[i] = error, True
            self._errors[type(error).__name__] += 1
        finally:
            self._finished[i] = now = perf_counter()
            was_full = self._under_way == self._max_in_flight
            self._under_way -= 1
            self._done += 1
            if was_full and self._next < len(self._due):
                if self._due[self._next] <= now:
                    self._last_full = now
                self._on_time()
            if self._progress:
                self._progress(self._done, len(self._due))


def _selector_of(loop: asyncio.AbstractEventLoop) -> Any:
    return getattr(loop, "_selector", None)  # asyncio has no public name for it


def _memory_of(loop: asyncio.AbstractEventLoop) -> _Memory:
    """Return the memory of a loop's selector. One that is not ours, as in Jupyter, gets a memory that it keeps."""
    selector = _selector_of(loop)
    if isinstance(selector, Selector):
        return selector
    if loop not in _MEMORIES:
        memory = _MEMORIES[loop] = _Memory()
        if selector is not None:
            selector.select = functools.partial(memory.remember, selector.select)
    return _MEMORIES[loop]
