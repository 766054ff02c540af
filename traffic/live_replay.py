"""Live replay of a trace against something real under asyncio, free of coordinated omission.

A load generator that waits for a slow answer before it sends the next request measures only as many slow answers as it has
connections. It coordinates with the server to omit the rest (Gil Tene, "How NOT to Measure Latency", 2013). Here requests
are sent when the trace says. Latency counts from the moment at which a request *should* have been sent: the latency that a
client at that moment would see, including the time for which the replayer itself kept it waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traffic.clients import Send
from traffic.trace import Trace

# An asyncio timer fires up to a millisecond late (epoll waits whole milliseconds), longer than a fast server
# takes. So the last stretch before a request is due is spent polling, which serves answers meanwhile but
# keeps one core busy.
POLLED_SECONDS = 0.002
# How many overdue requests are started before the loop may serve answers again.
BURST = 32


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
    """

    intended: NDArray[np.float64]
    started: NDArray[np.float64]
    finished: NDArray[np.float64]
    results: list[Any]
    failed: NDArray[np.bool_]
    errors: dict[str, int]
    held_back: int
    max_in_flight: int

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from the intended start to the end: the latency that a client sees."""
        return self.finished - self.intended

    @property
    def service(self) -> NDArray[np.float64]:
        """Seconds from the actual start to the end: the latency that a coordinated generator would report."""
        return self.finished - self.started

    @property
    def lateness(self) -> dict[str, float]:
        """Give the quantiles p50 and p99 and the maximum of how late requests were sent, in seconds.

        It is the drift of the replayer itself. If it is not small beside `latency`, the replayer was too slow (or
        `max_in_flight` too small), and the latencies are its own.
        """
        late = self.started - self.intended
        if not len(late):
            return {"p50": 0.0, "p99": 0.0, "max": 0.0}
        p50, p99, largest = np.quantile(late, (0.5, 0.99, 1.0))
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
    n = len(trace)
    intended = (trace.time - trace.time[:1]) / speed
    started, finished = np.full(n, np.nan), np.full(n, np.nan)
    results: list[Any] = [None] * n
    failed = np.zeros(n, np.bool_)
    errors: Counter[str] = Counter()
    places = asyncio.Semaphore(max_in_flight)
    done = held_back = 0
    last_full = 0.0
    began = perf_counter()

    async def request(i: int) -> None:
        nonlocal done
        started[i] = perf_counter() - began
        try:
            results[i] = await send(i)
        # What the system under test does is a result, also that it cancels itself. If it is the replay that
        # is canceled, this task ends here and the task group raises on.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            results[i], failed[i] = error, True
            errors[type(error).__name__] += 1
        finally:
            finished[i] = perf_counter() - began
            places.release()
            done += 1
            if progress:
                progress(done, n)

    async with asyncio.TaskGroup() as group:
        for i in range(n):
            due = float(intended[i])
            while (left := due - (perf_counter() - began)) > 0:  # noqa: ASYNC110 - waits for the clock itself
                await asyncio.sleep(max(0.0, left - POLLED_SECONDS))
            full = places.locked()
            await places.acquire()
            if full:
                last_full = perf_counter() - began
            held_back += due < last_full
            group.create_task(request(i))
            if i % BURST == 0:
                await asyncio.sleep(0)
    return LiveResult(intended, started, finished, results, failed, dict(errors), held_back, max_in_flight)
