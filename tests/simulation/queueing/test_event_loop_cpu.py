"""An event loop in simulated time: turns, their order, and sleep."""

from __future__ import annotations

import numpy as np
import pytest
import simpy

from ratesim.runtime import SimRuntime
from ratesim.simulation.queueing.event_loop_cpu import EventLoopCPU
from ratesim.simulation.queueing.fifo_station import FifoStation


def served(arrivals: list[float], needs: list[float], later: float = 0.0) -> tuple[EventLoopCPU, list[float]]:
    """When each step was done by the loop's own clock; the books are proven on the way."""
    env = simpy.Environment()
    runtime = SimRuntime(env)
    loop, done = EventLoopCPU(runtime), [0.0] * len(needs)

    async def step(i: int) -> None:
        await runtime.sleep(arrivals[i])
        await loop.enter()
        done[i] = env.now + loop.work(needs[i])
        loop.work_later(later)

    for i in range(len(needs)):
        runtime.spawn(step(i))
    env.run()
    loop.close(float("inf"))
    assert loop.busy == pytest.approx(sum(needs) + later * len(needs))
    assert loop.stats.arrivals == len(needs)
    return loop, done


def test_steps_are_done_in_order_as_in_a_queue() -> None:
    rng = np.random.default_rng(5)
    arrivals, needs = np.cumsum(rng.exponential(1.2, 400)).tolist(), rng.exponential(1.0, 400).tolist()
    station = FifoStation()
    queued = [station.serve(at, need) for at, need in zip(arrivals, needs, strict=True)]
    assert served(arrivals, needs)[1] == pytest.approx(queued)


def test_what_comes_during_a_turn_belongs_to_the_next_one() -> None:
    _, done = served([0.0, 0.1, 0.2, 1.5], [1.0, 1.0, 1.0, 1.0], later=0.5)
    # The first turn has one step. The second begins at 1.5 with three, and only then does what comes behind them.
    assert done == pytest.approx([1.0, 2.5, 3.5, 4.5])


def test_what_comes_behind_the_steps_keeps_the_next_turn_waiting() -> None:
    _, done = served([0.0, 1.2], [1.0, 1.0], later=0.5)
    assert done == pytest.approx([1.0, 2.5])


def test_idle_seconds_are_counted_between_questions() -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env)
    loop, found = EventLoopCPU(runtime), []

    async def ask(at: float) -> None:
        await runtime.sleep(at)
        await loop.enter()
        found.append(loop.idle_since_question())
        loop.work(1.0)

    async def other(at: float) -> None:
        await runtime.sleep(at)
        await loop.enter()
        loop.work(1.0)

    for coroutine in (ask(2.0), other(5.0), ask(7.0), ask(8.5), ask(8.6)):
        runtime.spawn(coroutine)
    env.run()
    assert found == pytest.approx([2.0, 3.0, 0.5, 0.0])


def test_a_loop_that_slept_begins_late_and_who_comes_meanwhile_waits() -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env)
    loop, done = EventLoopCPU(runtime), []

    async def first() -> None:
        await runtime.sleep(1.0)
        assert loop.slept == 1.0
        loop.wake(0.3)
        done.append(env.now + loop.work(1.0))

    async def second() -> None:
        await runtime.sleep(1.1)
        assert not loop.is_idle()
        assert loop.woken_at == 1.3
        await loop.enter()
        done.append(env.now + loop.work(1.0))

    runtime.spawn(first())
    runtime.spawn(second())
    env.run()
    assert done == pytest.approx([2.3, 3.3])
    assert loop.busy == pytest.approx(2.3)


def test_who_waits_for_the_next_turn_is_behind_all_that_are_ready() -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env)
    loop, order = EventLoopCPU(runtime), []

    async def gathers() -> None:
        await loop.enter()
        loop.work(1.0)
        await loop.next_turn()
        order.append("gathered")

    async def submits(at: float) -> None:
        await runtime.sleep(at)
        await loop.enter()
        order.append(f"{at}")

    for coroutine in (submits(0.0), gathers(), submits(0.5), submits(0.9)):
        runtime.spawn(coroutine)
    env.run()
    assert order == ["0.0", "0.5", "0.9", "gathered"] or order == ["0.0", "gathered", "0.5", "0.9"]


def test_a_caller_that_gave_up_does_not_hold_the_turn() -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env)
    loop, done = EventLoopCPU(runtime), []

    async def step(need: float) -> None:
        await loop.enter()
        done.append(env.now + loop.work(need))

    tasks = [runtime.spawn(step(1.0)) for _ in range(3)]
    env.run(until=0.5)
    tasks[1].cancel()
    env.run()
    assert done == pytest.approx([1.0, 2.0])
