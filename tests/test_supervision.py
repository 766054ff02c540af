"""Background tasks go on after a failure, and show it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import simpy

from ratesim.errors import StorageError
from ratesim.runtime import AsyncioRuntime, Runtime, SimRuntime, Supervisor

EPOCH = 1_700_000_000.0
LOGGER = logging.getLogger("ratesim.test")

Main = Callable[[Runtime], Coroutine[Any, Any, Any]]


def on_asyncio(main: Main) -> Any:
    async def wrapped() -> Any:
        return await main(AsyncioRuntime())

    return asyncio.run(wrapped())


def on_simpy(main: Main) -> Any:
    env = simpy.Environment()
    runtime = SimRuntime(env, EPOCH)
    results: list[Any] = []

    async def wrapped() -> None:
        results.append(await main(runtime))

    runtime.spawn(wrapped())
    env.run()
    return results[0]


@pytest.fixture(params=[on_asyncio, on_simpy])
def drive(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    return request.param


class Rounds:
    """Rounds of a task that raise these errors in turn, None for a good one, and then are good."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.done = 0

    async def __call__(self) -> None:
        self.done += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error


async def until(runtime: Runtime, rounds: Rounds, count: int) -> None:
    while rounds.done < count:
        await runtime.sleep(0.001)
    await runtime.sleep(0.0001)  # the round itself is over as well


def test_a_failed_round_is_shown_and_counted_and_the_task_goes_on(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> None:
        supervisor, rounds = Supervisor(runtime, LOGGER, "sync", "refresh"), Rounds(None, OSError(28, "No space left"))
        task = runtime.spawn(supervisor.every(0.02, "sync", rounds))
        await until(runtime, rounds, 1)
        assert (supervisor.failures, supervisor.problems) == (0, "")
        begin = runtime.time()
        await until(runtime, rounds, 2)
        assert supervisor.failures == 1
        assert "sync failed 1 times in a row" in supervisor.problems
        assert "OSError: [Errno 28] No space left" in supervisor.problems
        status = supervisor.tasks["sync"]
        assert begin <= status.failed_at <= runtime.time()
        await until(runtime, rounds, 3)
        assert (supervisor.failures, supervisor.problems, status.consecutive) == (1, "", 0)
        assert "No space left" in status.error  # remembered
        task.cancel()

    drive(main)


def test_canceling_ends_a_task(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> None:
        supervisor, rounds = Supervisor(runtime, LOGGER, "sync", "refresh"), Rounds(StorageError("away"))
        task = runtime.spawn(supervisor.every(0.01, "sync", rounds))
        await until(runtime, rounds, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done = rounds.done
        await runtime.sleep(0.05)
        assert rounds.done == done
        assert supervisor.failures == 1

    drive(main)


def test_canceling_ends_a_task_within_a_round(drive: Callable[[Main], Any]) -> None:
    async def main(runtime: Runtime) -> None:
        supervisor = Supervisor(runtime, LOGGER, "sync", "refresh")

        async def endless() -> None:
            await runtime.sleep(1e4)

        task = supervisor.start("refresh", endless)
        await runtime.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert supervisor.failures == 0

    drive(main)


def test_a_defect_ends_a_simulation_and_no_service() -> None:
    async def main(runtime: Runtime) -> int:
        supervisor, rounds = Supervisor(runtime, LOGGER, "sync", "refresh"), Rounds(KeyError("a defect"))
        task = runtime.spawn(supervisor.every(0.01, "sync", rounds))
        await until(runtime, rounds, 2)
        task.cancel()
        return supervisor.failures

    assert on_asyncio(main) == 1
    with pytest.raises(KeyError, match="a defect"):
        on_simpy(main)


def simulated(rounds: Rounds, seconds: float, interval: float) -> tuple[Supervisor, list[float]]:
    """The times of the rounds in simulated time."""
    env = simpy.Environment()
    runtime = SimRuntime(env)
    supervisor, times = Supervisor(runtime, LOGGER, "sync", "refresh"), []

    async def timed() -> None:
        times.append(env.now)
        await rounds()

    runtime.spawn(supervisor.every(interval, "sync", timed))
    env.run(until=seconds)
    return supervisor, times


def test_the_interval_doubles_while_rounds_fail_and_is_bounded() -> None:
    _, times = simulated(Rounds(*[StorageError("away")] * 9), 310.0, 1.0)
    assert times == [1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 245, *range(246, 310)]


def test_an_interval_beyond_the_cap_stays() -> None:
    _, times = simulated(Rounds(*[StorageError("away")] * 3), 450.0, 100.0)
    assert times == [100, 200, 300, 400]


def test_the_failure_of_a_task_that_nothing_repeats_is_shown_for_a_while() -> None:
    async def main(runtime: Runtime) -> None:
        supervisor = Supervisor(runtime, LOGGER, "sync", "refresh")
        await supervisor.start("refresh", Rounds(StorageError("away")))
        assert "refresh failed" in supervisor.problems
        await runtime.sleep(11.0)
        assert supervisor.problems == ""
        assert supervisor.failures == 1
        await supervisor.start("refresh", Rounds(StorageError("away")))
        await supervisor.start("refresh", Rounds())
        assert supervisor.problems == ""

    on_simpy(main)


class Clock(AsyncioRuntime):
    """Real, with clocks that are set by hand."""

    def __init__(self) -> None:
        super().__init__(lambda: self.now, lambda: self.now)
        self.now = EPOCH


async def test_failures_are_logged_once_in_a_while_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ratesim")
    runtime = Clock()
    supervisor = Supervisor(runtime, LOGGER, "sync", "refresh")
    for _ in range(1000):
        await supervisor.attempt("sync", Rounds(OSError("no disk")))
        runtime.now += 0.05
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].name == "ratesim.test"
    assert caplog.records[0].exc_info is not None
    await supervisor.attempt("sync", Rounds(KeyError("another kind")))
    assert len(caplog.records) == 2
    runtime.now += 60.0
    await supervisor.attempt("sync", Rounds(OSError("no disk")))
    assert "failure 1002" in caplog.messages[2]
    await supervisor.attempt("sync", Rounds())
    await supervisor.attempt("sync", Rounds())
    assert caplog.messages[3:] == ["sync works again after 1002 failed rounds"]


def test_simulated_failures_are_logged_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ratesim")
    simulated(Rounds(StorageError("away")), 3.0, 1.0)
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


@pytest.mark.parametrize("package", ["ratesim", "traffic"])
def test_the_library_is_silent_unless_logging_is_configured(package: str) -> None:
    program = f"import logging, {package}; logging.getLogger('{package}.any').error('unheard')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout + ended.stderr == ""


@pytest.mark.parametrize("is_error", [False, True], ids=["an answer", "an error"])
async def test_rounds_end_though_one_answers_its_cancellation(is_error: bool) -> None:
    """`asyncio.wait_for` of Python 3.11 takes no notice of a cancellation that meets the answer, and psycopg waits by it."""
    supervisor, begun = Supervisor(AsyncioRuntime(), LOGGER, "sync"), asyncio.Event()

    async def answer() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if is_error:
                raise StorageError("the connection is closed") from None

    rounds = asyncio.ensure_future(supervisor.every(0.0, "sync", answer))
    await begun.wait()
    rounds.cancel()
    for _ in range(10):  # turns of the loop
        await asyncio.sleep(0.0)
    assert rounds.cancelled()
    assert supervisor.failures == 0
