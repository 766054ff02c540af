"""What drives async code. The same coroutines run on asyncio, in real time, and on SimPy, in simulated time.

A SimPy process is a generator, and a coroutine is one underneath: an awaitable that yields a SimPy event makes any `async
def` run on SimPy. So storages, clients and background tasks are written once, against the few verbs of `Runtime`.
"""

from ratesim.runtime.base import Future, Runtime, Task
from ratesim.runtime.on_asyncio import AsyncioRuntime
from ratesim.runtime.on_simpy import SimRuntime
from ratesim.runtime.waiting import Event, Queue

__all__ = ["AsyncioRuntime", "Event", "Future", "Queue", "Runtime", "SimRuntime", "Task"]
