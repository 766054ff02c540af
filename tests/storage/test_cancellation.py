"""Random histories of requests that are canceled at any point, over a server that fails in any way.

After each history all is well: every request was answered, only those that were canceled are canceled, every connection is
free, nothing waits, and the next request is answered. On SimPy and on a real asyncio loop, whose cancellations differ: one
cancels a coroutine, the other the future that it awaits as well.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from cancellation_world import STUBBORN, AsyncioBench, Bench, Call, Driver, PromptDriver, SimPyBench, hybrid, remote
from examples import examples
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ratesim import Limit
from ratesim.errors import BatchError, StorageError
from ratesim.limit import Decision
from ratesim.runtime import Task
from ratesim.storage import HybridStorage, RateLimitStorage, Request, config

KEYS = ("a", "b")
PLENTY = Limit(1e6, 1e6, "fixed_window")
DUE = 5.0  # seconds within which everything is answered: several times `max_wait` or `command_timeout`, far below STUBBORN

keys = st.sampled_from(KEYS)


@dataclass(eq=False)
class Asked:
    """A request and what became of it."""

    since: float
    task: Task | None = None
    canceled_at: float | None = None
    ended_at: float | None = None
    outcome: object = None


class Cancellations(RuleBasedStateMachine):
    """Requests, cancellations, faults, and closing, in any order."""

    make_bench: type[Bench]
    faults: tuple[str, ...] = ("", "away", "silent", "lost")

    @initialize(
        kind=st.sampled_from(["remote", "hybrid", "hybrid", "hybrid"]),
        consistency=st.sampled_from(get_args(config.Consistency)),
        write=st.sampled_from(get_args(config.WritePolicy)),
        read=st.sampled_from(get_args(config.ReadPolicy)),
        pool=st.integers(1, 4),
        delay=st.sampled_from([0.001, 0.002]),
        prompt=st.booleans(),
    )
    def begin(self, kind: str, consistency: str, write: str, read: str, pool: int, delay: float, prompt: bool) -> None:
        self.bench = self.make_bench()
        self.runtime = self.bench.runtime
        self.driver = (PromptDriver if prompt else Driver)(self.runtime, delay)
        l2 = remote(self.driver, self.runtime, pool)
        policies = {"consistency": consistency, "write": write, "read": read}
        self.storage: RateLimitStorage = l2 if kind == "remote" else hybrid(l2, self.runtime, **policies)
        self.client, self.pool = l2.client, pool
        self.asked: list[Asked] = []
        self.always_well = True  # whether the server has been healthy, so that each answer is its decision
        self.closing: Asked | None = None
        self.under_way: list[Asked] = []  # when it began

    def ask(self, call: Call) -> Asked:
        asked = Asked(self.runtime.monotonic())

        async def main() -> None:
            try:
                asked.outcome = await call(self.storage)
            except (StorageError, asyncio.CancelledError) as error:
                asked.outcome = error
                if isinstance(error, asyncio.CancelledError):
                    raise
            finally:
                asked.ended_at = self.runtime.monotonic()

        async def begin() -> None:
            asked.task = self.runtime.spawn(main())

        self.runtime_call(begin())
        return asked

    def runtime_call(self, coroutine: Any) -> None:
        """Run a coroutine that waits for nothing."""
        if isinstance(self.bench, AsyncioBench):
            self.bench._loop.run_until_complete(coroutine)
        else:
            self.runtime.spawn(coroutine)
            self.bench.run(1e-9)

    # -- what is asked ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.closing is None)
    @rule(key=keys, times=st.integers(1, 5))
    def acquire(self, key: str, times: int) -> None:
        self.asked += [self.ask(lambda storage: storage.acquire(key, PLENTY)) for _ in range(times)]

    @precondition(lambda self: self.closing is None)
    @rule(several=st.lists(keys, min_size=1, max_size=5))
    def acquire_many(self, several: list[str]) -> None:
        self.asked.append(self.ask(lambda storage: storage.acquire_many([Request(key, PLENTY) for key in several])))

    @precondition(lambda self: self.closing is None)
    @rule(key=keys)
    def peek(self, key: str) -> None:
        self.asked.append(self.ask(lambda storage: storage.peek(key, PLENTY)))

    @precondition(lambda self: self.closing is None)
    @rule(
        burst=st.lists(
            st.tuples(st.sampled_from(["acquire", "acquire", "many"]), st.one_of(st.none(), st.integers(1, 60))),
            min_size=4,
            max_size=10,
        )
    )
    def burst(self, burst: list[tuple[str, int | None]]) -> None:
        """Ask several times at once; some are canceled so many steps later, in whatever state they and others are then."""
        for kind, step in burst:
            self.acquire("a", 1) if kind == "acquire" else self.acquire_many(["a"])
            if step is not None:
                self.plan(self.asked[-1], step)

    def plan(self, asked: Asked, step: int) -> None:
        asked.canceled_at = self.runtime.monotonic()
        assert asked.task is not None
        self.bench.cancel_at(step, asked.task)

    def cancelable(self) -> list[Asked]:
        return [each for each in self.asked if each.ended_at is None and each.canceled_at is None]

    @precondition(lambda self: self.cancelable())
    @rule(data=st.data(), step=st.integers(1, 40))
    def cancel(self, data: st.DataObject, step: int) -> None:
        asked = data.draw(
            st.sampled_from([each for each in self.asked if each.ended_at is None and each.canceled_at is None])
        )
        self.plan(asked, step)

    # -- what happens -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0005, 0.001, 0.002, 0.0051, 0.1, 0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.bench.run(seconds)

    @rule(data=st.data())
    def server_is(self, data: st.DataObject) -> None:
        self.driver.fault = data.draw(st.sampled_from(self.faults))
        self.always_well = self.always_well and not self.driver.fault

    @precondition(lambda self: self.closing is None and self.asked)
    @rule()
    def close(self) -> None:
        self.under_way = [each for each in self.asked if each.ended_at is None]
        self.closing = self.ask(lambda storage: storage.close())

    # -- what holds in the end --------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self.check()
        finally:
            self.bench.close()

    def check(self) -> None:
        self.driver.fault = ""
        self.bench.run(STUBBORN + 2.0 * DUE)
        for each in self.asked:
            assert each.ended_at is not None, "answered"
            assert each.ended_at - each.since < DUE + 40 * (each.canceled_at is not None), "answered in time"
            canceled = isinstance(each.outcome, asyncio.CancelledError)
            assert not canceled or each.canceled_at is not None, "only those that were canceled are"
            if self.always_well and not canceled and self.closing is None:
                assert isinstance(each.outcome, Decision | list), "a healthy server decides"
        if self.closing is None:
            self.check_fresh()
            self.asked.append(self.ask(lambda storage: storage.close()))
            self.bench.run(DUE)
            self.closing = self.asked[-1]
        self.check_closed(self.closing)
        self.check_quiet()

    def check_fresh(self) -> None:
        """A fresh request is answered by the server, whose breaker a first one may have to close."""
        first = self.ask(lambda storage: storage.acquire("a", PLENTY))
        self.bench.run(DUE)
        fresh = [self.ask(lambda storage, key=key: storage.acquire(key, PLENTY)) for key in (*KEYS, "new")]
        fresh.append(self.ask(lambda storage: storage.acquire_many([Request(key, PLENTY) for key in KEYS])))
        self.bench.run(DUE)
        for each in (first, *fresh):
            assert isinstance(each.outcome, Decision | list), each.outcome
        assert self.client.breaker == "closed"

    def check_closed(self, closing: Asked) -> None:
        assert closing.ended_at is not None
        assert closing.ended_at - closing.since < DUE
        assert self.driver.closed
        if self.always_well:
            assert closing.outcome is None
            for each in self.under_way:
                partly = isinstance(each.outcome, BatchError) and isinstance(self.storage, HybridStorage)
                drained = partly or isinstance(each.outcome, Decision | list)
                assert drained or each.canceled_at is not None, "closing drains"
            if isinstance(self.storage, HybridStorage) and all(
                isinstance(each.outcome, Decision) for each in self.under_way
            ):
                assert self.storage.sync_stats().dropped_cost == 0, "what was admitted meanwhile is flushed"

    def check_quiet(self) -> None:
        assert self.client._free == self.pool
        assert not self.client._waiting
        assert not self.client._probing
        assert self.driver.under_way == 0
        if isinstance(self.storage, HybridStorage):
            assert all(record.flight is None for record in self.storage._views.records.values())
            assert all(lease.flight is None for lease in self.storage._leases._leases.values())
            assert not [each for each in self.storage._write_behind._room._waiting if not each.done()]
            assert self.storage._under_way == 0
            if self.always_well:
                assert self.storage.sync_stats().unflushed == 0
            if self.always_well and not self.under_way:
                assert self.storage.sync_stats().fallback_decisions == 0
                assert self.storage.sync_stats().dropped_cost == 0, "there is room for each in time"


class OnSimPy(Cancellations):
    make_bench = SimPyBench


class OnAsyncio(Cancellations):
    make_bench = AsyncioBench
    faults = (*Cancellations.faults, "stubborn")  # in simulated time no driver is


def _test(machine: type[Cancellations], usual: int, nightly: int) -> Any:
    machine.TestCase.settings = settings(
        max_examples=examples(usual, nightly=nightly), stateful_step_count=25, suppress_health_check=list(HealthCheck)
    )
    return machine.TestCase


TestOnSimPy = _test(OnSimPy, 300, 10_000)
TestOnAsyncio = _test(OnAsyncio, 200, 5_000)


@pytest.mark.parametrize("machine", [OnSimPy, OnAsyncio])
def test_the_tests_own_time_is_free_and_its_requests_are_answered(machine: type[Cancellations]) -> None:
    world = machine()
    world.begin("hybrid", "strong", "write_through", "cache_aside", 1, 0.02, False)  # type: ignore[call-arg]
    world.acquire("a", 5)  # type: ignore[call-arg]
    world.wait(2.0)  # type: ignore[call-arg]
    assert [type(each.outcome) for each in world.asked] == [Decision] * 5
    world.teardown()
