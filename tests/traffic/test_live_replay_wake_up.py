"""From when latencies of a replay count, on a loop whose clock, wake-ups and work are made: every number is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from traffic import Trace, live_replay, replay, timer
from traffic.live_replay import LiveResult, Selector, loop_factory, running_selector

LATE = 0.0005  # seconds that waking up takes
Send = Callable[[int], Coroutine[Any, Any, Any]]


class MadeClock:
    """A clock that goes on where something is waited for, or works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        """Keep the loop busy."""
        self.now += seconds

    def wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep, and wake up late."""
        assert timeout is not None, "nothing will ever happen"
        if timeout > 0:
            self.now += timeout + LATE
        return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MadeClock:
    clock = MadeClock()
    monkeypatch.setattr(timer, "_open_timerfd", lambda: None)
    for module in (live_replay, timer):
        monkeypatch.setattr(module, "perf_counter", clock)
    return clock


@pytest.fixture(params=["the selector of a replay", "a selector of another's"])
def run(request: pytest.FixtureRequest, clock: MadeClock) -> Iterator[Callable[[list[float], Send], LiveResult]]:
    """Replays requests that are due at the times given, on a loop with the clock."""

    class Made(Selector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            return self.remember(clock.wait, timeout)

    class Foreign(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            return clock.wait(timeout)

    loop = asyncio.SelectorEventLoop(Made() if "replay" in request.param else Foreign())
    loop.time = clock  # type: ignore[method-assign]

    def run(times: list[float], send: Send, **options: Any) -> LiveResult:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(replay(Trace(times, np.zeros(len(times), int), ["a"]), send, **options))

    yield run
    assert loop.is_closed()


Run = Callable[..., LiveResult]


def test_a_process_that_slept_when_a_request_was_due_is_not_charged_with_its_wake_up(run: Run, clock: MadeClock) -> None:
    async def send(i: int) -> None:
        clock.work(0.001)

    result = run([0.0, 1.0, 2.0], send)
    assert result.asleep.tolist() == [False, True, True]
    np.testing.assert_allclose(result.late, [0.0, LATE, LATE])
    np.testing.assert_allclose(result.began, [0.0, 1.0 + LATE, 2.0 + LATE])
    np.testing.assert_allclose(result.held, 0.0, atol=1e-12)
    np.testing.assert_allclose(result.latency, 0.001)
    np.testing.assert_allclose(result.service, 0.001)
    assert result.lateness == {"p50": pytest.approx(LATE), "p99": pytest.approx(LATE), "max": pytest.approx(LATE)}


def test_a_request_that_was_due_while_the_loop_was_busy_counts_from_then(run: Run, clock: MadeClock) -> None:
    async def send(i: int) -> None:
        clock.work(0.010)

    result = run([0.0, 0.004, 0.009, 1.0], send)
    assert result.asleep.tolist() == [False, False, False, True]
    np.testing.assert_allclose(result.began[:3], result.intended[:3])
    np.testing.assert_allclose(result.started, [0.0, 0.010, 0.020, 1.0 + LATE])
    np.testing.assert_allclose(result.latency, [0.010, 0.016, 0.021, 0.010])


def test_requests_of_one_wake_up_count_from_the_first_and_wait_for_each_other(run: Run, clock: MadeClock) -> None:
    async def send(i: int) -> None:
        clock.work(0.002)

    result = run([0.0, 1.0, 1.0 + LATE / 2, 1.0 + LATE + 0.001], send)
    assert result.asleep.tolist() == [False, True, True, False]  # the last one was due while the first one worked
    np.testing.assert_allclose(result.began, [0.0, 1.0 + LATE, 1.0 + LATE, 1.0 + LATE + 0.001])
    np.testing.assert_allclose(result.latency, [0.002, 0.002, 0.004, 0.005])
    np.testing.assert_allclose(result.held, [0.0, 0.0, 0.002, 0.003], atol=1e-12)
    np.testing.assert_allclose(result.held + result.service, result.latency)  # a part of each latency


def test_what_a_server_takes_is_neither_sleep_nor_lateness(run: Run, clock: MadeClock) -> None:
    async def send(i: int) -> None:
        await asyncio.sleep(0.1)

    result = run([0.0, 0.05], send)
    assert result.asleep.tolist() == [False, True]
    np.testing.assert_allclose(result.latency, [0.1 + LATE, 0.1 + LATE])


def test_a_request_that_is_held_back_counts_from_when_it_was_due(run: Run, clock: MadeClock) -> None:
    """The loop sleeps meanwhile, but it is the bound that the request waits for."""

    async def send(i: int) -> None:
        await asyncio.sleep(1.0)

    result = run([0.0, 0.5, 3.0], send, max_in_flight=1)
    assert result.held_back == 1
    assert result.asleep.tolist() == [False, False, True]
    np.testing.assert_allclose(result.latency, [1.0 + LATE, 1.5 + 2 * LATE, 1.0 + LATE])


def test_overdue_requests_are_started_in_pieces_of_which_each_counts_from_the_same_wake_up(
    run: Run, clock: MadeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_replay, "BURST", 4)
    order: list[str] = []

    async def send(i: int) -> None:
        order.append("sent")
        await asyncio.sleep(0)
        order.append("answered")

    result = run([0.0, *[1.0] * 12], send)
    assert result.asleep.tolist() == [False] + [True] * 12
    np.testing.assert_allclose(result.began[1:], 1.0 + LATE)
    assert order.index("answered", 2) < 2 + 2 * 4 + 1  # answers of the first piece come before the last requests
    assert order.count("answered") == 13


def test_no_request_is_sent_before_it_is_due_on_a_loop_that_is_early(
    run: Run, clock: MadeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = clock.wait

    def wake_early(timeout: float | None) -> Any:
        return waited(timeout and timeout * 0.9)

    monkeypatch.setattr(clock, "wait", wake_early)
    monkeypatch.setitem(globals(), "LATE", 0.0)

    async def send(i: int) -> None:
        pass

    result = run([0.0, 1.0, 2.5], send)
    assert (result.started >= result.intended).all()


def test_a_loop_without_a_selector_is_never_known_to_sleep() -> None:
    class Loop:
        """uvloop has none."""

    memory = live_replay._memory_of(Loop())  # type: ignore[arg-type]
    assert not any(low <= 1.0 <= high for low, high in [memory.slept])


def test_the_loop_of_a_replay_counts_its_turns() -> None:
    """Asking every moment whether a request is due, before the next one is, took more than a hundred turns a request."""

    async def turns() -> float:
        async def send(i: int) -> None:
            await asyncio.sleep(0)  # answered in the next turn

        selector = running_selector()
        before = selector.turns
        await replay(Trace([i / 250 for i in range(60)], np.zeros(60, int), ["a"]), send)
        return (selector.turns - before) / 60

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert 1 < runner.run(turns()) < 12


async def test_a_loop_of_another_make_has_no_selector_that_counts() -> None:
    with pytest.raises(TypeError, match="run it with that factory"):
        running_selector()
