import asyncio
import math
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import simpy

from traffic import (
    ClosedLoopClients,
    Constant,
    Exponential,
    ExponentialBackoff,
    ImmediateRetry,
    ReactiveClients,
    RespectRetryAfter,
    RetryingClients,
    Trace,
    closed_loop,
)


class Wait:
    def __init__(self, event: simpy.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[simpy.Event, Any, Any]:
        return (yield self.event)


class SimPyRuntime:
    """Drives coroutines as SimPy processes."""

    def __init__(self, start: float = 0.0) -> None:
        self.env = simpy.Environment(start)

    def time(self) -> float:
        return float(self.env.now)

    def sleep(self, seconds: float) -> Wait:
        return Wait(self.env.timeout(seconds))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> simpy.Process:
        return self.env.process(self._drive(coroutine))

    @staticmethod
    def _drive(coroutine: Coroutine[Any, Any, Any]) -> Generator[simpy.Event, Any, Any]:
        return (yield from coroutine.__await__())


@dataclass
class Answer:
    allowed: bool
    retry_after: float = 0.0


class Limiter:
    """Answers after `service` seconds; denies as `deny` says of the call's number. Keeps what it was asked."""

    def __init__(
        self,
        runtime: Any,
        service: float = 0.0,
        deny: Callable[[int], bool] = lambda n: False,
        retry_after: float = 0.0,
    ) -> None:
        self.runtime, self.service, self.deny, self.retry_after = runtime, service, deny, retry_after
        self.calls: list[tuple[float, int, float, int, int]] = []
        self.waiting: set[int] = set()  # sessions

    async def __call__(self, key: int, cost: float, session: int, attempt: int) -> Answer:
        n = len(self.calls)
        self.calls.append((self.runtime.time(), key, cost, session, attempt))
        if self.service:
            self.waiting.add(session)
            await self.runtime.sleep(self.service)
            self.waiting.discard(session)
        return Answer(not self.deny(n), self.retry_after if self.deny(n) else 0.0)


def run(
    clients: ReactiveClients, seed: int = 1, start: float = 0.0, **limiter: Any
) -> tuple[closed_loop.RequestLog, Limiter]:
    runtime = SimPyRuntime(start)
    ask = Limiter(runtime, **limiter)
    asked = clients.start(runtime, ask, np.random.default_rng(seed))
    runtime.env.run()
    return asked, ask


def a_trace(times: list[float], **columns: Any) -> Trace:
    return Trace(times, np.zeros(len(times), int), ["a"], **columns)


# The record


CLIENTS: list[ReactiveClients] = [
    ClosedLoopClients(
        users=5, think=Exponential(0.5), duration=10.0, tenants=2, cost=3.0, retry=ExponentialBackoff(0.1, 1.0)
    ),
    ClosedLoopClients(users=5, think=Constant(0.5), duration=10.0),
    RetryingClients(
        Trace([10.0, 10.0, 11.0, 13.5], [1, 0, 1, 1], "ab", cost=[1, 2, 3, 4], session=[7, 8, 7, 7]), ImmediateRetry()
    ),
]


@pytest.mark.parametrize("clients", CLIENTS)
@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_the_record_has_a_row_for_each_call_in_the_order_of_calls(clients: ReactiveClients, start: float) -> None:
    asked, ask = run(clients, start=start, service=0.25, deny=lambda n: n % 3 == 0)
    trace = asked.trace()
    columns = (trace.time, trace.key, trace.cost, trace.session, asked.attempt)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == ask.calls
    assert len(asked) == len(ask.calls) > 4
    assert trace.keys == clients.keys
    assert trace.time[0] >= start


@pytest.mark.parametrize("clients", CLIENTS)
def test_all_attempts_at_a_request_share_its_number_and_count_from_one(clients: ReactiveClients) -> None:
    asked, _ = run(clients, service=0.25, deny=lambda n: n % 3 == 0)
    for request in np.unique(asked.request):
        attempts = asked.attempt[asked.request == request]
        assert attempts.tolist() == list(range(1, len(attempts) + 1))


@pytest.mark.parametrize("clients", CLIENTS)
def test_the_same_seed_gives_the_same_requests_to_the_bit(clients: ReactiveClients) -> None:
    one, same = (run(clients, service=0.25, deny=lambda n: n % 3 == 0)[0].trace() for _ in range(2))
    assert one == same


def test_the_record_can_be_read_while_it_grows() -> None:
    runtime = SimPyRuntime()
    asked = ClosedLoopClients(2, Constant(1.0), 100.0).start(runtime, Limiter(runtime), np.random.default_rng(1))
    assert len(asked.trace()) == len(asked) == 0
    runtime.env.run(until=10.0)
    early = asked.trace()
    runtime.env.run()
    assert 0 < len(early) < len(asked)
    assert asked.trace().head(len(early)) == early


def test_a_clock_that_goes_back_leaves_rows_in_the_order_of_calls() -> None:
    asked = closed_loop.RequestLog(["a", "b"])
    for row, time in enumerate([5.0, 4.0, 6.0]):
        asked.add(time, row % 2, float(row), 0, 1, row)
    assert asked.trace().time.tolist() == [5.0, 5.0, 6.0]
    assert asked.trace().cost.tolist() == [0.0, 1.0, 2.0]
    assert asked.trace().provenance.notes == ()


# Users who wait for their answer


def test_a_user_asks_again_after_the_answer_and_a_think_time() -> None:
    asked, _ = run(ClosedLoopClients(1, Constant(2.0), duration=60.0), service=0.5)
    gaps = np.diff(asked.trace().time)
    assert len(gaps) > 20
    np.testing.assert_allclose(gaps, 2.5)


def test_a_user_has_one_request_at_a_time() -> None:
    runtime = SimPyRuntime()
    ask = Limiter(runtime, service=1.0)

    async def alone(key: int, cost: float, session: int, attempt: int) -> Answer:
        assert session not in ask.waiting
        return await ask(key, cost, session, attempt)

    asked = ClosedLoopClients(20, Exponential(0.1), duration=30.0).start(runtime, alone, np.random.default_rng(1))
    runtime.env.run()
    assert len(asked) > 400


@pytest.mark.parametrize("service", [0.0, 0.5, 3.0])
def test_throughput_follows_the_interactive_response_time_law(service: float) -> None:
    users, mean, duration = 200, 1.0, 100.0
    asked, _ = run(ClosedLoopClients(users, Exponential(mean), duration), service=service)
    # Each user is a renewal process; its variance is at most that of a Poisson process of the same rate.
    expected = users * duration / (mean + service)
    assert abs(len(asked) - expected) < 4 * math.sqrt(expected) + users * service / (mean + service)


def test_exponential_think_times_are_exponential_and_first_ones_too() -> None:
    asked, _ = run(ClosedLoopClients(100, Exponential(2.0), duration=200.0))
    trace = asked.trace()
    gaps = np.concatenate([np.diff(trace.time[trace.session == user]) for user in range(100)])
    firsts = np.array([trace.time[trace.session == user][0] for user in range(100)])
    for sample, bound in ((gaps, 0.05), (firsts, 0.35)):
        assert abs(sample.mean() / 2.0 - 1) < bound
    uniform, n = np.sort(-np.expm1(-gaps / 2.0)), len(gaps)
    # Kolmogorov-Smirnov, 0.1 %, and something for the long gaps that the end cuts off.
    assert np.abs(uniform - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n) + 0.01


def test_pollers_begin_out_of_step() -> None:
    asked, _ = run(ClosedLoopClients(1000, Constant(10.0), duration=10.0))
    first = asked.trace().time
    assert len(first) == 1000
    assert np.abs(first / 10.0 - (np.arange(1000) + 0.5) / 1000).max() < 1.95 / math.sqrt(1000)


def test_nothing_is_asked_from_the_end_on_and_the_simulation_does_not_outlast_the_last_answer() -> None:
    runtime = SimPyRuntime(100.0)
    clients = ClosedLoopClients(50, Exponential(3.0), duration=20.0, retry=ExponentialBackoff(5.0, 50.0, 10))
    asked = clients.start(runtime, Limiter(runtime, service=0.5, deny=lambda n: n % 2 == 0), np.random.default_rng(1))
    runtime.env.run()
    assert asked.trace().time[-1] < 120.0
    assert runtime.env.now <= 120.5


def test_each_user_is_a_session_and_tenants_share_keys() -> None:
    asked, _ = run(ClosedLoopClients(7, Constant(1.0), duration=5.0, tenants=3, cost=2.5))
    trace = asked.trace()
    assert len(trace.keys) == 3
    assert set(trace.session.tolist()) == set(range(7))
    assert (trace.key == trace.session % 3).all()
    assert (trace.cost == 2.5).all()
    assert run(ClosedLoopClients(7, Constant(1.0), 5.0))[0].trace().keys == tuple(f"key-{user}" for user in range(7))


def test_a_denied_user_thinks_before_asking_again_unless_there_is_a_retry_policy() -> None:
    asked, _ = run(ClosedLoopClients(1, Constant(2.0), duration=20.0), deny=lambda n: True)
    np.testing.assert_allclose(np.diff(asked.trace().time), 2.0)
    assert (asked.attempt == 1).all()
    retrying, _ = run(ClosedLoopClients(1, Constant(2.0), duration=20.0, retry=ImmediateRetry(3)), deny=lambda n: True)
    assert retrying.attempt.tolist() == [1, 2, 3] * (len(retrying) // 3)
    np.testing.assert_allclose(np.diff(retrying.trace().time)[:6], [0, 0, 2, 0, 0, 2], atol=1e-9)


def test_users_have_the_same_luck_whatever_they_are_answered() -> None:
    def thoughts(service: float) -> list[list[float]]:
        trace = run(ClosedLoopClients(5, Exponential(1.0), duration=100.0), service=service)[0].trace()
        return [(np.diff(trace.time[trace.session == user])[:20] - service).tolist() for user in range(5)]

    np.testing.assert_allclose(thoughts(0.0), thoughts(1.75), atol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"users": 0}, "users"),
        ({"duration": 0.0}, "duration"),
        ({"duration": math.inf}, "duration"),
        ({"tenants": 0}, "tenants"),
        ({"tenants": 4}, "tenants"),
        ({"cost": -1.0}, "cost"),
        ({"cost": math.nan}, "cost"),
    ],
)
def test_a_closed_loop_that_cannot_be_is_an_error_that_names_the_argument(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"ClosedLoop: {name}"):
        ClosedLoopClients(**{"users": 3, "think": Constant(1.0), "duration": 1.0, **wrong})


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_think_times_are_positive_and_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="Exponential: mean"):
        Exponential(bad)
    with pytest.raises(ValueError, match="Constant: think"):
        Constant(bad)


# Clients who come again


def test_every_first_attempt_is_made_at_its_time_whatever_became_of_others() -> None:
    times = [0.0, 0.5, 0.5, 3.0]
    for deny in (lambda n: False, lambda n: True):
        asked, _ = run(
            RetryingClients(a_trace(times), ExponentialBackoff(max_attempts=4)), service=10.0, deny=deny, start=100.0
        )
        first = asked.attempt == 1
        assert (asked.trace().time[first] - 100.0).tolist() == times
        assert asked.request[first].tolist() == [0, 1, 2, 3]


def test_what_is_allowed_is_not_asked_again() -> None:
    asked, _ = run(RetryingClients(a_trace([0.0, 1.0]), ImmediateRetry(5)))
    assert asked.attempt.tolist() == [1, 1]


def test_a_retry_is_a_new_request_of_the_same_key_cost_and_session() -> None:
    trace = Trace([0.0, 1.0], [1, 0], ["a", "b"], cost=[2.0, 3.0], session=[10, 20])
    asked, _ = run(RetryingClients(trace, ImmediateRetry(3)), deny=lambda n: n in (0, 1), service=0.125)
    made = asked.trace()
    assert made.time.tolist() == [0.0, 0.125, 0.25, 1.0]
    assert made.key.tolist() == [1, 1, 1, 0]
    assert made.cost.tolist() == [2.0, 2.0, 2.0, 3.0]
    assert made.session.tolist() == [10, 10, 10, 20]
    assert asked.request.tolist() == [0, 0, 0, 1]


def test_a_client_gives_up_after_the_maximum_of_attempts() -> None:
    asked, _ = run(RetryingClients(a_trace([0.0, 1.0, 2.0]), ImmediateRetry(4)), deny=lambda n: True)
    assert np.bincount(asked.request).tolist() == [4, 4, 4]


def test_retry_after_is_waited_for_from_the_denial_on() -> None:
    asked, _ = run(
        RetryingClients(a_trace([0.0]), RespectRetryAfter(3)), deny=lambda n: True, retry_after=7.5, service=0.5, start=10.0
    )
    assert asked.trace().time.tolist() == [10.0, 18.0, 26.0]


def test_who_is_told_never_does_not_come_again() -> None:
    asked, _ = run(RetryingClients(a_trace([0.0]), RespectRetryAfter(3)), deny=lambda n: True, retry_after=math.inf)
    assert len(asked) == 1


def test_backoff_spreads_clients_over_a_range_that_doubles() -> None:
    n = 4000
    asked, _ = run(
        RetryingClients(a_trace([0.0] * n), ExponentialBackoff(base=1.0, cap=3.0, max_attempts=5)), deny=lambda n: True
    )
    made, attempt, request = asked.trace().time, asked.attempt, asked.request
    at = np.empty((6, n))
    at[attempt, request] = made
    for k, longest in enumerate([1.0, 2.0, 3.0, 3.0], start=1):
        share = np.sort(at[k + 1] - at[k]) / longest
        assert np.abs(share - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n)


def test_waits_belong_to_the_request_and_the_attempt_not_to_the_order_of_denials() -> None:
    times = np.arange(50) / 8

    def waits(service: Callable[[int], float]) -> Any:
        runtime = SimPyRuntime()

        async def ask(key: int, cost: float, session: int, attempt: int) -> Answer:
            await runtime.sleep(service(session))
            return Answer(allowed=False)

        trace = a_trace(times.tolist(), session=np.arange(50))
        asked = RetryingClients(trace, ExponentialBackoff(max_attempts=2)).start(runtime, ask, np.random.default_rng(5))
        runtime.env.run()
        made, order = asked.trace(), np.lexsort((asked.attempt, asked.request))
        return np.diff(made.time[order].reshape(50, 2), axis=1)[:, 0] - [service(i) for i in range(50)]

    np.testing.assert_allclose(waits(lambda i: 0.25), waits(lambda i: 20.0 - 0.375 * i), atol=1e-9)


def test_the_origin_keeps_the_history_of_the_trace() -> None:
    trace = a_trace([0.0, 1.0]).speed(2.0)
    asked, _ = run(RetryingClients(trace, ImmediateRetry(2)))
    assert asked.trace().provenance.notes == ("speed 2", "denied requests retried: ImmediateRetry(max_attempts=2)")
    assert "ClosedLoopClients(users=3" in run(ClosedLoopClients(3, Constant(1.0), 1.0))[0].trace().provenance.source


def test_an_empty_trace_asks_nothing() -> None:
    asked, _ = run(RetryingClients(a_trace([]), ImmediateRetry()))
    assert len(asked.trace()) == 0


def test_an_exception_of_ask_ends_the_client_and_is_reported() -> None:
    runtime = SimPyRuntime()

    async def ask(key: int, cost: float, session: int, attempt: int) -> Answer:
        raise ConnectionError("away")

    asked = RetryingClients(a_trace([0.0]), ImmediateRetry()).start(runtime, ask, np.random.default_rng(1))
    with pytest.raises(ConnectionError, match="away"):
        runtime.env.run()
    assert len(asked) == 1


class AsyncioRuntime:
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.create_task(coroutine))


async def test_the_same_clients_run_under_asyncio() -> None:
    runtime = AsyncioRuntime()
    ask = Limiter(runtime, service=0.01, deny=lambda n: n < 2)
    asked = RetryingClients(a_trace([5.0, 5.01, 5.02]), ExponentialBackoff(0.01, 0.01, 3)).start(
        runtime, ask, np.random.default_rng(1)
    )
    while any(not task.done() for task in runtime.tasks):
        await asyncio.gather(*runtime.tasks)
    assert asked.attempt.tolist().count(1) == 3
    assert len(asked.trace()) == len(ask.calls) == 5
