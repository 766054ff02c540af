import asyncio
import math
from collections.abc import Coroutine, Generator
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from traffic import Trace, clients, open_loop


class Wait:
    """Lets a coroutine that a SimPy process drives wait for an event."""

    def __init__(self, event: simpy.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self.event)


class SimPyRuntime:
    """Drives coroutines as SimPy processes and counts what it is asked for."""

    def __init__(self, start: float = 0.0) -> None:
        self.env = simpy.Environment(start)
        self.sleeps = 0

    def time(self) -> float:
        return float(self.env.now)

    def sleep(self, seconds: float) -> Wait:
        self.sleeps += 1
        return Wait(self.env.timeout(seconds))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> simpy.Process:
        return self.env.process(self._drive(coroutine))

    @staticmethod
    def _drive(coroutine: Coroutine[Any, Any, Any]) -> Generator[simpy.Event, Any, Any]:
        return (yield from coroutine.__await__())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.spawn(coroutine)
        self.env.run()


class AsyncioRuntime:
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.create_task(coroutine))


def a_trace(times: list[float]) -> Trace:
    return Trace(times, np.zeros(len(times), int), ["a"])


@given(st.lists(st.integers(0, 1000), max_size=40), st.sampled_from([0.0, 512.0]))
def test_requests_are_sent_at_their_time_after_the_start(ticks: list[int], start: float) -> None:
    trace = a_trace([1.4e9 + t / 64 for t in sorted(ticks)])
    runtime, sent = SimPyRuntime(start), []

    async def send(i: int) -> None:
        sent.append((i, runtime.time()))

    runtime.run(open_loop(trace, send, runtime))
    first = trace.time[0] if ticks else 0.0
    assert sent == [(i, start + t - first) for i, t in enumerate(trace.time.tolist())]


def test_a_slow_answer_delays_nobody() -> None:
    runtime, started, ended = SimPyRuntime(), [], []

    async def send(i: int) -> None:
        started.append(runtime.time())
        await runtime.sleep(100.0)
        ended.append(runtime.time())

    runtime.run(open_loop(a_trace([0.0, 1.0, 2.0]), send, runtime))
    assert started == [0.0, 1.0, 2.0]
    assert ended == [100.0, 101.0, 102.0]


def test_requests_at_one_instant_share_one_sleep() -> None:
    runtime, sent = SimPyRuntime(), []

    async def send(i: int) -> None:
        sent.append(i)

    runtime.run(open_loop(a_trace([0.1, 0.1, 0.3, 0.3, 0.3, 0.7]), send, runtime))
    assert runtime.sleeps == 2
    assert sent == [0, 1, 2, 3, 4, 5]


class CoarseRuntime(SimPyRuntime):
    """Its clock shows whole milliseconds, so that it always wakes a little early by its own reckoning."""

    def time(self) -> float:
        return math.floor(self.env.now * 1000) / 1000


def test_a_coarse_clock_takes_no_more_sleeps() -> None:
    runtime, sent = CoarseRuntime(), []

    async def send(i: int) -> None:
        sent.append(i)

    runtime.run(open_loop(a_trace([0.0] + [0.1005] * 4 + [0.2005] * 4), send, runtime))
    assert runtime.sleeps == 2
    assert len(sent) == 9


def test_sleeps_do_not_add_up_their_rounding_errors() -> None:
    n = 2000
    runtime, sent = SimPyRuntime(1.7e9), []

    async def send(i: int) -> None:
        sent.append(runtime.time())

    trace = a_trace((np.arange(n) / 10).tolist())
    runtime.run(open_loop(trace, send, runtime))
    np.testing.assert_allclose(np.array(sent) - 1.7e9, trace.time, rtol=0, atol=1e-6)


def test_a_trace_longer_than_one_piece_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "ROWS_AT_A_TIME", 3)
    runtime, sent = SimPyRuntime(), []

    async def send(i: int) -> None:
        sent.append((i, runtime.time()))

    runtime.run(open_loop(a_trace([0.0, 1.0, 1.0, 1.0, 2.0, 2.5, 3.0]), send, runtime))
    assert sent == [(0, 0.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.5), (6, 3.0)]
    assert runtime.sleeps == 4


def test_an_empty_trace_sends_nothing() -> None:
    runtime = SimPyRuntime()

    async def send(i: int) -> None:
        raise AssertionError

    runtime.run(open_loop(a_trace([]), send, runtime))
    assert runtime.sleeps == 0


async def test_the_same_client_runs_under_asyncio() -> None:
    runtime, started, ended = AsyncioRuntime(), [], []

    async def send(i: int) -> None:
        started.append(i)
        await runtime.sleep(0.05)
        ended.append(i)

    began = runtime.time()
    await open_loop(a_trace([5.0, 5.01, 5.02]), send, runtime)
    assert runtime.time() - began >= 0.019
    await asyncio.gather(*runtime.tasks)
    assert started == ended == [0, 1, 2]
