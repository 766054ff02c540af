"""The same coroutines on asyncio and on SimPy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import simpy

from ratesim.runtime import AsyncioRuntime, Event, Queue, Runtime, SimRuntime

Main = Callable[[Runtime], Coroutine[Any, Any, Any]]


def on_asyncio(main: Main) -> Any:
    async def wrapped() -> Any:
        return await main(AsyncioRuntime())

    return asyncio.run(wrapped())


def on_simpy(main: Main) -> Any:
    env = simpy.Environment()
    runtime = SimRuntime(env, epoch=1_700_000_000.0)
    results: list[Any] = []

    async def wrapped() -> None:
        results.append(await main(runtime))

    runtime.spawn(wrapped())
    env.run()
    return results[0]


@pytest.fixture(params=[on_asyncio, on_simpy])
def drive(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    return request.param


def test_sleepers_wake_in_order(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[int]:
        woken: list[int] = []

        async def sleeper(k: int) -> None:
            await runtime.sleep(k * 0.02)
            woken.append(k)

        for task in [runtime.spawn(sleeper(k)) for k in (3, 1, 2, 0)]:
            await task
        return woken

    assert drive(main) == [0, 1, 2, 3]


def test_what_takes_too_long_is_given_up_and_cleaned_up(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[str]:
        seen: list[str] = []

        async def slow() -> None:
            try:
                await runtime.sleep(5.0)
                seen.append("finished")
            finally:
                seen.append("cleaned up")

        with pytest.raises(TimeoutError):
            await runtime.timeout(slow(), 0.01)
        await runtime.sleep(0.02)
        seen.append("went on")
        return seen

    assert drive(main) == ["cleaned up", "went on"]


def test_what_is_in_time_gives_its_result_and_is_not_disturbed_later(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> int:
        async def quick() -> int:
            await runtime.sleep(0.001)
            return 7

        result = await runtime.timeout(quick(), 1.0)
        await runtime.sleep(1.1)
        return result

    assert drive(main) == 7


def test_a_timeout_within_a_timeout(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> str:
        async def inner() -> str:
            try:
                await runtime.timeout(runtime.sleep(1.0), 0.2)
            except TimeoutError:
                return "inner"
            return "none"

        try:
            return await runtime.timeout(inner(), 0.02)
        except TimeoutError:
            return "outer"

    assert drive(main) == "outer"


def test_an_error_reaches_the_one_who_awaits(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> str:
        future = runtime.future()

        async def fail() -> None:
            await runtime.sleep(0.001)
            future.set_exception(ValueError("no"))

        runtime.spawn(fail())
        try:
            await future
        except ValueError as error:
            return str(error)
        return "nothing"

    assert drive(main) == "no"


def test_a_cancelled_task_ends_and_cleans_up(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[str]:
        seen: list[str] = []

        async def endless() -> None:
            try:
                await runtime.sleep(100.0)
            finally:
                seen.append("cleaned up")

        task = runtime.spawn(endless())
        await runtime.sleep(0.01)
        task.cancel()
        await runtime.sleep(0.01)
        assert task.done()
        return seen

    assert drive(main) == ["cleaned up"]


def test_a_queue_is_bounded_and_first_in_first_out(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> tuple[list[int], int]:
        queue: Queue[int] = Queue(runtime, 2)
        taken: list[int] = []
        longest = 0

        async def producer() -> None:
            nonlocal longest
            for k in range(6):
                await queue.put(k)
                longest = max(longest, len(queue))

        task = runtime.spawn(producer())
        for _ in range(6):
            await runtime.sleep(0.001)
            taken.append(await queue.get())
        await task
        return taken, longest

    assert drive(main) == ([0, 1, 2, 3, 4, 5], 2)


def test_an_event_wakes_all_who_wait(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> int:
        event = Event(runtime)
        woken = 0

        async def waiter() -> None:
            nonlocal woken
            await event.wait()
            woken += 1

        tasks = [runtime.spawn(waiter()) for _ in range(3)]
        await runtime.sleep(0.001)
        event.set()
        for task in tasks:
            await task
        await event.wait()
        return woken

    assert drive(main) == 3


def test_simulated_time_costs_no_real_time() -> None:
    async def main(runtime: Runtime) -> float:
        await runtime.sleep(1e6)
        return runtime.time()

    assert on_simpy(main) == 1_701_000_000.0


def test_the_monotonic_clock_is_not_the_one_that_is_set() -> None:
    clock = [1e9]
    runtime = AsyncioRuntime(lambda: clock[0])
    before = runtime.monotonic()
    clock[0] -= 3600.0
    assert runtime.time() == 1e9 - 3600.0
    assert 0.0 <= runtime.monotonic() - before < 3600.0


def test_both_simulated_clocks_have_one_origin() -> None:
    async def main(runtime: Runtime) -> list[tuple[float, float]]:
        seen = [(runtime.time(), runtime.monotonic())]
        await runtime.sleep(1.5)
        return [*seen, (runtime.time(), runtime.monotonic())]

    assert on_simpy(main) == [(1_700_000_000.0,) * 2, (1_700_000_001.5,) * 2]
