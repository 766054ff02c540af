import asyncio
import os
import sys
import time

import numpy as np
import pytest

from traffic import Trace, replay
from traffic.timer import Timer


def a_trace(times: list[float]) -> Trace:
    return Trace(times, np.zeros(len(times), int), ["a"])


async def answer(i: int) -> int:
    return i * i


async def test_every_request_is_sent_once_and_its_result_stands_in_its_row() -> None:
    sent = []

    async def send(i: int) -> int:
        sent.append(i)
        await asyncio.sleep(0.001 * (i % 3))
        return i * i

    result = await replay(a_trace([10 + i / 1000 for i in range(30)]), send)
    assert sorted(sent) == list(range(30))
    assert result.results == [i * i for i in range(30)]
    assert not result.failed.any()
    assert result.errors == {}
    assert result.held_back == 0


async def test_no_request_is_sent_before_it_is_due() -> None:
    trace = a_trace(np.cumsum(np.random.default_rng(0).exponential(0.002, 60)).tolist())
    result = await replay(trace, answer)
    np.testing.assert_allclose(result.intended, trace.time - trace.time[0])
    assert (result.started >= result.intended).all()
    assert (result.finished >= result.started).all()
    assert (result.latency >= result.service).all()
    assert 0 <= result.lateness["p50"] <= result.lateness["p99"] <= result.lateness["max"]


async def test_speed_brings_requests_closer_together() -> None:
    result = await replay(a_trace([0.0, 1.0, 3.0]), answer, speed=100.0)
    assert result.intended.tolist() == [0.0, 0.01, 0.03]


async def test_a_slow_answer_does_not_delay_the_next_request() -> None:
    async def send(i: int) -> None:
        if i == 0:
            await release.wait()
        else:
            release.set()  # only a request that was sent meanwhile can release the first

    release = asyncio.Event()
    result = await replay(a_trace([0.0, 0.005]), send)
    assert result.finished[0] >= result.started[1]


async def test_a_stall_counts_against_every_request_that_was_due_meanwhile() -> None:
    """What coordinated omission hides: one stall of 60 ms and ten requests that were due during it."""

    async def send(i: int) -> None:
        if i == 0:
            time.sleep(0.06)  # noqa: ASYNC251 - stalls the loop, as a busy client would

    result = await replay(a_trace([i * 0.005 for i in range(11)]), send)
    expected = 0.06 - result.intended[1:]
    assert (result.latency[1:] >= expected).all()
    assert result.lateness["max"] >= expected[0]
    assert result.service[1:].sum() < result.latency[1:].sum()


async def test_what_is_above_the_bound_starts_late_and_is_said() -> None:
    now = most = 0

    async def send(i: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    result = await replay(a_trace([0.0] * 10), send, max_in_flight=2)
    assert most == 2
    assert result.max_in_flight == 2
    assert result.held_back == 8
    # Five rounds of 10 ms: the last waited through four, and its latency says so. (Timers may be 1 ms early.)
    assert result.latency[-1] >= 5 * 0.009
    assert result.latency[-1] - result.service[-1] >= 4 * 0.009


async def test_an_exception_is_a_result_and_counted_by_type() -> None:
    async def send(i: int) -> str:
        if i % 3 == 0:
            raise ConnectionError(f"request {i}")
        if i == 4:
            raise TimeoutError
        return "fine"

    result = await replay(a_trace([i / 1000 for i in range(7)]), send)
    assert result.errors == {"ConnectionError": 3, "TimeoutError": 1}
    assert result.failed.tolist() == [True, False, False, True, True, False, True]
    assert str(result.results[3]) == "request 3"
    assert result.results[5] == "fine"
    assert np.isfinite(result.latency).all()


async def test_a_request_that_cancels_itself_is_an_error_and_frees_its_place() -> None:
    async def send(i: int) -> int:
        if i == 0:
            raise asyncio.CancelledError
        return i

    result = await replay(a_trace([0.0, 0.0, 0.0]), send, max_in_flight=1)
    assert result.errors == {"CancelledError": 1}
    assert result.results[1:] == [1, 2]


async def test_cancelling_the_replay_cancels_what_is_under_way() -> None:
    started, canceled = asyncio.Event(), []

    async def send(i: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canceled.append(i)
            raise

    task = asyncio.create_task(replay(a_trace([0.0, 0.0, 3600.0]), send))
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(canceled) == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_overdue_requests_do_not_keep_the_loop_from_serving_answers() -> None:
    at_once: list[int] = []

    async def send(i: int) -> None:
        at_once.append(len(asyncio.all_tasks()))

    await replay(a_trace([0.0] * 2000), send)
    assert max(at_once) < 200


async def test_requests_that_find_a_place_are_not_held_back() -> None:
    result = await replay(a_trace([0.0, 0.2, 0.4]), answer, max_in_flight=1)
    assert result.held_back == 0


async def test_progress_counts_to_the_number_of_requests() -> None:
    seen: list[tuple[int, int]] = []
    await replay(a_trace([0.0, 0.001, 0.002]), answer, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


async def test_an_empty_trace_is_replayed_at_once() -> None:
    result = await replay(a_trace([]), answer)
    assert (len(result.latency), result.results) == (0, [])
    assert result.lateness == {"p50": 0.0, "p99": 0.0, "max": 0.0}


@pytest.mark.parametrize("wrong", [{"speed": 0.0}, {"speed": -1.0}, {"speed": np.inf}, {"max_in_flight": 0}])
async def test_a_setting_that_cannot_be_is_an_error_that_names_it(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await replay(a_trace([0.0]), answer, **wrong)  # type: ignore[arg-type]


async def test_an_error_of_the_progress_callback_ends_the_replay() -> None:
    def fail(done: int, total: int) -> None:
        raise ValueError("of the callback")

    with pytest.raises(ExceptionGroup) as raised:
        await replay(a_trace([0.0, 0.0, 3600.0]), answer, progress=fail, max_in_flight=1)
    assert raised.group_contains(ValueError, match="of the callback")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_the_timer_ends_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(timer: Timer, at: float) -> None:
        raise OSError("of the timer")

    monkeypatch.setattr(Timer, "arm", fail)
    with pytest.raises(ExceptionGroup) as raised:
        await replay(a_trace([0.0, 3600.0]), answer)
    assert raised.group_contains(OSError, match="of the timer")


@pytest.mark.skipif(sys.platform != "linux", reason="open descriptors are counted in /proc")
async def test_a_replay_leaves_no_descriptor_open() -> None:
    async def fail(i: int) -> None:
        raise ValueError

    before = len(os.listdir("/proc/self/fd"))
    await replay(a_trace([0.0, 0.001]), answer)
    await replay(a_trace([0.0, 0.001]), fail)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_two_replays_at_once_do_not_disturb_each_other() -> None:
    first, second = await asyncio.gather(replay(a_trace([0.0, 0.004]), answer), replay(a_trace([0.0, 0.002, 0.006]), answer))
    assert (first.results, second.results) == ([0, 1], [0, 1, 4])
    assert (first.started >= first.intended).all()
    assert (second.started >= second.intended).all()
