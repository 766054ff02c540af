"""Clients: coroutines that send the requests of a trace, in simulated or in real time.

The function that they call (`send`) and the runtime that drives them are arguments. So the same coroutine runs as a SimPy
process and under asyncio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from traffic.trace import Trace

Send = Callable[[int], Coroutine[Any, Any, Any]]
"""Sends the request in one row of the trace. What it returns is its own business."""

ROWS_AT_A_TIME = 1 << 16


class Runtime(Protocol):
    """What a client needs of its runtime: a clock, a way to wait, and a way to start a task."""

    def time(self) -> float:
        """Return the time in seconds."""

    def sleep(self, seconds: float, /) -> Awaitable[Any]:
        """Wait for so many seconds."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any], /) -> Any:
        """Start a coroutine as a task of its own."""


async def open_loop(trace: Trace, send: Send, runtime: Runtime) -> None:
    """Send every request at its time, whatever became of those before: an open loop.

    The trace's first request is due now, by the runtime's clock. Every other request is due as long after it as in the
    trace. Requests due at one instant share one sleep. The function returns when the last request has been spawned. The
    runtime reports a send that fails.

    Parameters
    ----------
    trace : Trace
        The requests.
    send : Send
        `send(i)` is spawned for row i, in order, and never waited for.
    runtime : Runtime
        The clock and the tasks.
    """
    start = reached = runtime.time()
    for first in range(0, len(trace), ROWS_AT_A_TIME):
        # Python floats in pieces: those of ten million rows at once would take 320 MB.
        due_times = start + (trace.time[first : first + ROWS_AT_A_TIME] - trace.time[0])
        for i, due in enumerate(due_times.tolist(), first):
            if due > reached:
                reached = due
                wait = due - runtime.time()
                if wait > 0:
                    await runtime.sleep(wait)
            runtime.spawn(send(i))
