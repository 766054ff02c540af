"""The same coroutines on asyncio and on SimPy."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import simpy

from ratesim.runtime import AsyncioRuntime, Event, Flight, Mutex, Runtime, SimRuntime, WaitQueue
from ratesim.runtime.asyncio_runtime import _Call

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


def test_code_that_does_not_end_when_it_is_canceled_is_left_behind() -> None:
    ended: list[str] = []

    async def stubborn(runtime: Runtime) -> None:
        try:
            await runtime.sleep(60.0)
        except asyncio.CancelledError:
            for _ in range(20):  # a driver that cleans up for two seconds
                with suppress(asyncio.CancelledError):
                    await runtime.sleep(0.1)
            ended.append("cleaned up")

    async def main() -> None:
        runtime = AsyncioRuntime()
        with pytest.raises(TimeoutError):
            await runtime.abandon_after(stubborn(runtime), 0.05)
        caller = runtime.spawn(runtime.abandon_after(stubborn(runtime), 60.0))
        await runtime.sleep(0.01)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not ended
        while len(ended) < 2:
            await runtime.sleep(0.01)

    asyncio.run(main())


def test_what_is_abandoned_in_time_is_awaited_to_its_end(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[object]:
        seen: list[object] = []

        async def work(seconds: float, answer: str | None) -> str:
            try:
                await runtime.sleep(seconds)
            finally:
                seen.append(seconds)
            if answer is None:
                raise ValueError("failed")
            return answer

        seen.append(await runtime.abandon_after(work(0.001, "done"), 10.0))
        with pytest.raises(ValueError, match="failed"):
            await runtime.abandon_after(work(0.002, None), 10.0)
        with pytest.raises(TimeoutError):
            await runtime.abandon_after(work(10.0, "late"), 0.003)
        task = runtime.spawn(runtime.abandon_after(work(20.0, "late"), 30.0))
        await runtime.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert drive(main) == [0.001, "done", 0.002, 10.0, 20.0]


def test_calls_that_have_ended_are_not_kept_until_their_deadlines() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 1

    async def main() -> int:
        runtime = AsyncioRuntime()
        before = calls()
        slow = runtime.spawn(runtime.abandon_after(asyncio.sleep(0.05), 0.02))
        for _ in range(1000):
            await runtime.abandon_after(answer(), 3600.0)
        with pytest.raises(TimeoutError):
            await slow
        return calls() - before

    def calls() -> int:
        gc.collect()  # of calls that other tests left behind in cycles
        return sum(type(each) is _Call for each in gc.get_objects())

    assert asyncio.run(main()) < 10


def test_a_call_that_is_canceled_before_it_starts_leaves_no_coroutine_unawaited(recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        runtime = AsyncioRuntime()
        caller = runtime.spawn(runtime.abandon_after(asyncio.sleep(60.0), 60.0))
        await asyncio.sleep(0)  # the caller has started, its call has not
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(main())
    gc.collect()
    assert [str(each.message) for each in recwarn] == []


def test_a_call_that_expires_before_it_starts_leaves_no_coroutine_unawaited(recwarn: pytest.WarningsRecorder) -> None:
    seconds = 0.05

    async def main() -> None:
        runtime = AsyncioRuntime()
        first = runtime.spawn(runtime.abandon_after(asyncio.sleep(60.0), seconds))
        await asyncio.sleep(0)
        second = runtime.spawn(runtime.abandon_after(asyncio.sleep(60.0), seconds))
        asyncio.get_running_loop().call_soon(
            time.sleep, 2 * seconds
        )  # after the second has its deadline, before its call starts
        time.sleep(seconds)  # noqa: ASYNC251 - the first expires in that turn
        for task in (first, second):
            with pytest.raises(TimeoutError):
                await task

    asyncio.run(main())
    gc.collect()
    assert [str(each.message) for each in recwarn] == []


def test_deadlines_of_any_length_leave_nothing_behind(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> None:
        def kept() -> object:
            return runtime._deadlines  # type: ignore[attr-defined]

        for k in range(50):
            await runtime.abandon_after(runtime.sleep(0.0), 0.5 + k * 1e-5)
        assert kept()
        while kept():
            await runtime.sleep(0.05)

    drive(main)


def test_each_that_waits_for_a_flight_is_canceled_alone(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[str]:
        flight, seen = Flight(runtime), []

        async def waiter(name: str) -> None:
            await flight.wait()
            seen.append(name)

        tasks = {name: runtime.spawn(waiter(name)) for name in "abcd"}
        await runtime.sleep(0.01)
        tasks["a"].cancel()
        await runtime.sleep(0.01)
        tasks["c"].cancel()  # in the moment in which the flight lands
        flight.set()
        await runtime.sleep(0.01)
        await flight.wait()
        assert all(task.done() for task in tasks.values())
        return seen

    assert drive(main) == ["b", "d"]


@pytest.mark.parametrize("first", ["cancel", "hand on"])
def test_a_place_that_was_handed_to_a_canceled_coroutine_is_handed_on(drive: Callable[[Main], Any], first: str) -> None:
    async def main(runtime: Runtime) -> list[str]:
        queue, seen = WaitQueue(runtime), []

        async def waiter(name: str) -> None:
            await queue.wait()
            seen.append(name)

        tasks = {name: runtime.spawn(waiter(name)) for name in "abc"}
        await runtime.sleep(0.01)
        steps = [tasks["a"].cancel, queue.hand_on]
        for step in steps if first == "cancel" else reversed(steps):
            step()
        await runtime.sleep(0.01)
        assert seen == ["b"]
        assert queue.hand_on()
        await runtime.sleep(0.01)
        assert not queue.hand_on()
        return seen

    assert drive(main) == ["b", "c"]


@pytest.mark.parametrize("ends", ["with an answer", "with an error"])
async def test_a_cancellation_is_not_lost_in_an_awaitable_that_ends_otherwise(ends: str) -> None:
    async def swallow() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if ends == "with an error":
                raise ConnectionError from None
        return "answer"

    task = asyncio.create_task(AsyncioRuntime().timeout(swallow(), 3600))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_mutex_is_handed_on_by_whoever_gives_up(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> list[object]:
        mutex, inside, done = Mutex(runtime), 0, []

        async def work(name: int) -> None:
            nonlocal inside
            async with mutex:
                inside += 1
                assert inside == 1
                await runtime.sleep(0.001)
                inside -= 1
                done.append(name)

        tasks = [runtime.spawn(work(name)) for name in range(5)]
        await runtime.sleep(0.0005)
        for name in (1, 2):
            tasks[name].cancel()
        for name in (0, 3, 4):
            await tasks[name]
        async with mutex:
            return done

    assert drive(main) == [0, 3, 4]
