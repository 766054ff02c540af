"""A SimPy environment that is told times beforehand."""

from __future__ import annotations

from math import inf

import pytest
import simpy

from ratesim.simulation.engine.trace_environment import TraceEnvironment


def seen(
    times: list[float], events: list[float], until: float | None = None
) -> tuple[list[tuple[str, float]], TraceEnvironment]:
    env, found = TraceEnvironment(), list[tuple[str, float]]()
    env.schedule_arrivals(times, lambda: found.append(("time", env.now)))
    for at in events:
        env.timeout(at).callbacks.append(lambda _: found.append(("event", env.now)))
    env.run(until)
    return found, env


def test_times_and_events_happen_in_order() -> None:
    found, env = seen([0.0, 1.0, 1.0, 2.5], [0.5, 2.0, 3.0])
    assert found == [
        ("time", 0.0),
        ("event", 0.5),
        ("time", 1.0),
        ("time", 1.0),
        ("event", 2.0),
        ("time", 2.5),
        ("event", 3.0),
    ]
    assert env.now == 3.0


def test_of_a_time_and_an_event_at_the_same_moment_the_time_comes_first() -> None:
    assert seen([1.0], [1.0])[0] == [("time", 1.0), ("event", 1.0)]


def test_it_stops_where_it_is_told_to_and_goes_on() -> None:
    found, env = seen([1.0, 2.0, 4.0], [3.0], until=2.5)
    assert [at for _, at in found] == [1.0, 2.0]
    assert env.now == 2.5
    env.run()
    assert [at for _, at in found] == [1.0, 2.0, 3.0, 4.0]
    assert env.peek() == inf


def test_what_is_done_at_a_time_may_ask_for_events() -> None:
    env, found = TraceEnvironment(), list[float]()

    def ask() -> None:
        env.timeout(0.25).callbacks.append(lambda _: found.append(env.now))

    env.schedule_arrivals([1.0, 1.1], ask)
    env.run()
    assert found == [1.25, 1.35]


def test_an_event_that_failed_ends_the_run_as_in_simpy() -> None:
    env = TraceEnvironment()
    env.schedule_arrivals([1.0], lambda: simpy.Event(env).fail(KeyError("lost")))
    with pytest.raises(KeyError, match="lost"):
        env.run()
