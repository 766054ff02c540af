"""Clients: coroutines that send the requests of a trace, in simulated or in real time.

What they call (`send`) and what drives them (a runtime) are arguments, so the same coroutine runs as a SimPy
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
    """What drives a client: a clock in seconds, a way to wait, a way to start something meanwhile."""

    def time(self) -> float: ...

    def sleep(self, seconds: float, /) -> Awaitable[Any]: ...

    def spawn(self, coroutine: Coroutine[Any, Any, Any], /) -> Any: ...


async def open_loop(trace: Trace, send: Send, runtime: Runtime) -> None:
    """Send every request at its time, whatever became of those before: an open loop, the load of strangers.

    The trace's first request is due now, by the runtime's clock, and every other one as long after it as in
    the trace. `send(i)` is spawned for row i, in order, and never waited for; requests due at one instant
    share one sleep. Returns when the last one has been spawned. A send that fails is reported by the runtime
    that runs it.
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
