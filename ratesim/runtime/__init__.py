"""The runtimes on which coroutines run: asyncio in real time, and SimPy in simulated time.

A SimPy process is a generator, and a coroutine is built on one: an awaitable that yields a SimPy event makes any `async def`
run on SimPy. Storages, clients and background tasks are therefore written once, against the few verbs of `Runtime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports
from ratesim.runtime.asyncio_runtime import AsyncioRuntime
from ratesim.runtime.base import Future, Runtime, Task
from ratesim.runtime.binding import Binding, abandon_descriptors, keep_alive, observe_forks
from ratesim.runtime.deadlines import Deadlines
from ratesim.runtime.primitives import Event, Flight, Mutex, WaitQueue
from ratesim.runtime.supervision import Supervisor

if TYPE_CHECKING:
    from ratesim.runtime.simpy_runtime import SimRuntime

__all__ = [
    "AsyncioRuntime",
    "Binding",
    "Deadlines",
    "Event",
    "Flight",
    "Future",
    "Mutex",
    "Runtime",
    "SimRuntime",
    "Supervisor",
    "Task",
    "WaitQueue",
    "abandon_descriptors",
    "keep_alive",
    "observe_forks",
]

# A service that only limits, and a rule that only looks up, should not wait for SimPy.
__getattr__ = lazy_exports(__name__, {"SimRuntime": "ratesim.runtime.simpy_runtime"})
