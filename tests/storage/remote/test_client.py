"""The client layer, driven on SimPy by a driver that does as it is told."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import pytest
import simpy

from ratesim.errors import CapacityError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import AsyncioRuntime, SimRuntime
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Get, Operation


class Told:
    """Takes `seconds` for each batch, and answers or raises what `script` says next, then the identifiers."""

    def __init__(self, runtime: SimRuntime, seconds: float = 0.01, script: Sequence[Any] = ()) -> None:
        self.runtime, self.seconds, self.script = runtime, seconds, list(script)
        self.batches: list[list[str]] = []
        self.at: list[float] = []

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.batches.append([operation.identifier for operation in batch])
        self.at.append(self.runtime.time())
        await self.runtime.sleep(self.seconds)
        told = self.script.pop(0) if self.script else None
        if isinstance(told, StorageError):
            raise told
        return [operation.identifier for operation in batch]

    async def close(self) -> None:
        pass


class Bench:
    """A client with what it stands on; `ask` collects the answers of operations submitted at given times."""

    def __init__(self, seconds: float = 0.01, script: Sequence[Any] = (), **options: Any) -> None:
        self.env = simpy.Environment()
        self.runtime = SimRuntime(self.env)
        self.driver = Told(self.runtime, seconds, script)
        self.client = Client(self.driver, self.runtime, ClientConfig(**options))

    def ask(self, *asked: tuple[float, Operation]) -> list[Any]:
        answers: list[Any] = [None] * len(asked)

        async def one(k: int, at: float, operation: Operation) -> None:
            await self.runtime.sleep(at)
            try:
                answers[k] = await self.client.submit(operation)
            except StorageError as error:
                answers[k] = error

        for k, (at, operation) in enumerate(asked):
            self.runtime.spawn(one(k, at, operation))
        self.env.run()
        return answers


def get(name: str) -> Get:
    return Get(name, "", 0.0)


def acquire(name: str) -> Acquire:
    return Acquire(name, (), 1.0, 0.0, True)


def test_what_waits_for_a_connection_travels_together() -> None:
    bench = Bench(pool_size=1, max_batch=3)
    assert bench.ask(*[(0.0, get(name)) for name in "abcdefg"]) == list("abcdefg")
    assert bench.driver.batches == [["a"], ["b", "c", "d"], ["e", "f", "g"]]


def test_no_more_batches_fly_than_the_pool_has_connections() -> None:
    bench = Bench(pool_size=2, max_batch=1)
    bench.ask(*[(0.0, get(name)) for name in "abcdef"])
    assert bench.driver.at == pytest.approx([0, 0, 0.01, 0.01, 0.02, 0.02])


def test_a_queue_that_is_full_says_so() -> None:
    bench = Bench(pool_size=1, max_waiting=2)
    answers = bench.ask(*[(0.0, get(name)) for name in "abcd"])
    assert answers[:3] == ["a", "b", "c"]
    assert isinstance(answers[3], CapacityError)


def test_a_slow_answer_is_given_up() -> None:
    bench = Bench(seconds=5.0, command_timeout=0.1, retries=0)
    assert isinstance(bench.ask((0.0, get("a")))[0], StorageTimeoutError)


def test_what_may_be_repeated_is_tried_again() -> None:
    bench = Bench(script=[StorageConnectionError("x"), StorageConnectionError("x")], retries=2)
    assert bench.ask((0.0, get("a"))) == ["a"]
    assert len(bench.driver.batches) == 3


def test_an_acquire_that_may_have_been_carried_out_is_not_repeated() -> None:
    bench = Bench(script=[StorageConnectionError("x", sent=True)])
    assert isinstance(bench.ask((0.0, acquire("a")))[0], StorageConnectionError)
    assert len(bench.driver.batches) == 1


def test_an_acquire_that_was_never_sent_is_repeated() -> None:
    bench = Bench(script=[StorageConnectionError("x", sent=False)])
    assert bench.ask((0.0, acquire("a"))) == ["a"]


def test_a_server_that_keeps_failing_is_left_alone_and_then_probed() -> None:
    failures = [StorageConnectionError("x")] * 3
    bench = Bench(script=failures, retries=0, breaker_failures=3, breaker_reset=1.0, pool_size=1)
    asked = [(0.1 * k, get(str(k))) for k in range(6)] + [(2.0, get("probe")), (2.1, get("after"))]
    answers = bench.ask(*asked)
    assert all(isinstance(answer, StorageConnectionError) for answer in answers[:6])
    assert answers[6:] == ["probe", "after"]
    assert [batch[0] for batch in bench.driver.batches] == ["0", "1", "2", "probe", "after"]
    assert bench.client.breaker == "closed"


def test_an_operation_that_failed_alone_fails_alone() -> None:
    class Partly(Told):
        async def execute(self, batch: Sequence[Operation]) -> list[object]:
            return [StorageError("bad") if op.identifier == "b" else op.identifier for op in batch]

    bench = Bench()
    bench.client.driver = Partly(bench.runtime)
    answers = bench.ask(*[(0.0, get(name)) for name in "abc"])
    assert (answers[0], answers[2]) == ("a", "c")
    assert isinstance(answers[1], StorageError)


def test_a_defect_in_a_driver_reaches_everybody_who_waits() -> None:
    class Broken(Told):
        async def execute(self, batch: Sequence[Operation]) -> list[object]:
            await self.runtime.sleep(0.01)
            if len(batch) > 1:
                raise ValueError("a defect")
            return [operation.identifier for operation in batch]

    bench = Bench(pool_size=1)
    bench.client.driver = Broken(bench.runtime)
    seen: list[object] = []

    async def ask(name: str) -> None:
        try:
            seen.append(await bench.client.submit(get(name)))
        except ValueError as error:
            seen.append(str(error))

    for name in "abc":
        bench.runtime.spawn(ask(name))
    bench.env.run()
    assert seen == ["a", "a defect", "a defect"]


# -- cancellation ---------------------------------------------------------------------------------------------------------


class Gate:
    """A driver on asyncio whose batches are answered when it is opened."""

    def __init__(self, stubborn: bool = False) -> None:
        self.open = asyncio.Event()
        self.stubborn = stubborn  # whether a batch that is canceled goes on until then
        self.batches: list[list[str]] = []
        self.closed = False

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.batches.append([operation.identifier for operation in batch])
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            while self.stubborn and not self.open.is_set():
                with suppress(asyncio.CancelledError):
                    await self.open.wait()
            raise
        return [operation.identifier for operation in batch]

    async def close(self) -> None:
        self.closed = True


def gated(stubborn: bool = False, **options: Any) -> tuple[Gate, Client]:
    gate = Gate(stubborn)
    return gate, Client(gate, AsyncioRuntime(), ClientConfig(**options))


async def turns() -> None:
    """Let everything run that is ready."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("pool", [1, 2, 10])
async def test_a_connection_goes_on_to_whoever_waits_behind_canceled_callers(pool: int) -> None:
    gate, client = gated(pool_size=pool)
    busy = [asyncio.create_task(client.submit(get(f"busy {k}"))) for k in range(pool)]
    waiting = [asyncio.create_task(client.submit(get(f"gone {k}"))) for k in range(2 * pool)]
    await turns()
    behind = asyncio.create_task(client.submit_all([get("behind")]))
    await turns()
    for task in waiting:
        task.cancel()
    gate.open.set()
    assert await behind == ["behind"]
    await asyncio.gather(*busy)
    assert all(task.cancelled() for task in waiting)
    assert await client.submit(get("after")) == "after"
    assert client._free == pool


@pytest.mark.parametrize("late", [False, True])
async def test_a_connection_that_was_handed_to_a_canceled_caller_is_handed_on(late: bool) -> None:
    gate, client = gated(pool_size=1)
    busy = asyncio.create_task(client.submit(get("busy")))
    await turns()
    gone, behind = (asyncio.create_task(client.submit_all([get(name)])) for name in ("gone", "behind"))
    await turns()
    gate.open.set()
    for _ in range(20 if late else 0):
        if len(client._waiting) > 1:  # until the connection is handed to `gone`
            await asyncio.sleep(0)
    gone.cancel()
    assert await behind == ["behind"]
    assert await busy == "busy"
    assert client._free == 1
    assert ["gone"] not in gate.batches


async def test_a_canceled_caller_frees_its_connection_though_the_driver_does_not_react() -> None:
    gate, client = gated(stubborn=True, pool_size=1)
    caller = asyncio.create_task(client.submit(get("a")))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert client._free == 1
    gate.open.set()
    assert await client.submit(get("b")) == "b"


# -- timeouts -------------------------------------------------------------------------------------------------------------


async def test_at_the_timeout_there_is_an_answer_though_the_driver_does_not_react() -> None:
    gate, client = gated(stubborn=True, pool_size=2, command_timeout=0.1, breaker_failures=100)
    begin = time.monotonic()
    answers = await asyncio.gather(*(client.submit(get(name)) for name in "abcdef"), return_exceptions=True)
    assert time.monotonic() - begin < 5.0  # three rounds of 0.1 s
    assert all(isinstance(answer, StorageTimeoutError) for answer in answers)
    assert client._free == 2
    gate.open.set()
    assert await client.submit(get("after")) == "after"


@pytest.mark.parametrize(("seconds", "error"), [(0.01, StorageConnectionError), (5.0, StorageTimeoutError)])
def test_the_timeout_is_that_of_the_operation_with_its_retries(seconds: float, error: type[StorageError]) -> None:
    options = {"command_timeout": 0.5, "retries": 1000, "retry_base": 0.1, "breaker_failures": 1000}
    bench = Bench(seconds, [StorageConnectionError("x")] * 1000, **options)
    answered: list[float] = []

    async def ask() -> None:
        with pytest.raises(error):
            await bench.client.submit(get("a"))
        answered.append(bench.env.now)

    bench.runtime.spawn(ask())
    bench.env.run()
    assert answered[0] <= 0.5
    assert (len(bench.driver.batches) > 1) == (error is StorageConnectionError)


def test_an_operation_that_waited_in_the_queue_has_its_whole_timeout() -> None:
    bench = Bench(seconds=0.4, pool_size=1, max_batch=1, command_timeout=0.5)
    assert bench.ask(*[(0.0, get(name)) for name in "abcdef"]) == list("abcdef")


# -- the breaker ----------------------------------------------------------------------------------------------------------


def opened(**options: Any) -> Bench:
    """Return a bench whose breaker is half-open, and whose driver now takes 0.1 s."""
    bench = Bench(script=[StorageConnectionError("x")] * 3, retries=0, breaker_failures=3, breaker_reset=0.5, **options)
    bench.ask(*[(0.1 * k, get(f"failed {k}")) for k in range(3)])
    assert bench.client.breaker == "half-open"
    bench.driver.seconds = 0.1
    bench.driver.batches.clear()
    return bench


@pytest.mark.parametrize("pool", [1, 2, 10])
def test_one_operation_probes_and_the_others_fail_until_it_is_back(pool: int) -> None:
    bench = opened(pool_size=pool)
    answers = bench.ask(*[(0.0, get(str(k))) for k in range(20)], (0.05, get("during")), (0.2, get("after")))
    assert bench.driver.batches == [["0"], ["after"]]
    assert (answers[0], answers[-1]) == ("0", "after")
    assert all("breaker is open" in str(answer) for answer in answers[1:-1])


def test_a_probe_that_fails_opens_the_breaker_again() -> None:
    bench = opened()
    bench.driver.script = [StorageConnectionError("still away")]
    answers = bench.ask((0.0, get("probe")), (0.3, get("refused")), (0.7, get("next probe")), (0.9, get("after")))
    assert [str(answer) for answer in answers[:1] + answers[2:]] == ["still away", "next probe", "after"]
    assert re.fullmatch(
        r"the circuit breaker is open after \d+ failures in a row \(the last: still away\); it tries again in 0.3 s",
        str(answers[1]),
    )


def test_a_probe_that_is_canceled_leaves_the_place_to_another() -> None:
    bench = opened()
    probe = bench.runtime.spawn(bench.client.submit(get("canceled")))

    async def cancel() -> None:
        await bench.runtime.sleep(0.05)
        probe.cancel()

    bench.runtime.spawn(cancel())
    answers = bench.ask((0.02, get("refused")), (0.06, get("next")), (0.3, get("after")))
    assert "breaker is open" in str(answers[0])
    assert answers[1:] == ["next", "after"]


# -- one turn of the loop -------------------------------------------------------------------------------------------------


class PromptGate(Gate):
    """Keeps deadlines itself."""

    gathers = True

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]]:
        return AsyncioRuntime().timeout(self.execute(batch), seconds)


def prompt(**options: Any) -> tuple[Gate, Client]:
    gate = PromptGate()
    return gate, Client(gate, AsyncioRuntime(), ClientConfig(**options))


async def test_what_comes_in_one_turn_travels_together_while_two_others_are_under_way() -> None:
    gate, client = prompt(max_batch=5, pool_size=6)
    tasks = [asyncio.create_task(client.submit(get(name))) for name in "abcdefghi"]
    await turns()
    assert gate.batches == [["a"], ["b"], list("cdefg"), ["h", "i"]]
    more = [asyncio.create_task(client.submit(get(name))) for name in "jk"]
    await turns()
    assert gate.batches[4:] == [["j", "k"]]
    last = asyncio.create_task(client.submit(get("l")))
    await turns()
    assert gate.batches[5:] == [["l"]]
    gate.open.set()
    assert await asyncio.gather(*tasks, *more, last) == list("abcdefghijkl")
    assert client._free == 6


@pytest.mark.parametrize("max_waiting", [1, 5])
async def test_what_a_free_connection_takes_in_this_turn_does_not_wait(max_waiting: int) -> None:
    gate, client = prompt(pool_size=4, max_batch=3, max_waiting=max_waiting)
    tasks = [asyncio.create_task(client.submit(get(str(k)))) for k in range(2 + 2 * 3 + max_waiting + 2)]
    await turns()
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:-2] == [str(k) for k in range(len(tasks) - 2)]
    assert [type(answer) for answer in answers[-2:]] == [CapacityError] * 2
    assert client._free == 4


async def test_of_what_comes_in_one_turn_the_canceled_are_not_sent() -> None:
    gate, client = prompt(pool_size=4)
    first = [asyncio.create_task(client.submit(get(name))) for name in "ab"]
    await turns()
    canceled = [asyncio.create_task(client.submit(get(str(k)))) for k in range(3)]
    await asyncio.sleep(0)
    for task in canceled:
        task.cancel()
    await turns()
    assert all(task.cancelled() for task in canceled)
    assert gate.batches == [["a"], ["b"]]
    assert client._free == 2
    assert not client._waiting
    gate.open.set()
    assert await asyncio.gather(*first) == ["a", "b"]


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
async def test_those_who_wait_for_a_connection_and_those_of_one_turn_keep_their_order(pool: int) -> None:
    gate, client = prompt(pool_size=pool, max_batch=2)
    tasks = [
        asyncio.create_task(client.submit_all([get(name)] * 3) if many else client.submit(get(name)))
        for name, many in zip("abcdefg", [False, True, False, True, False, True, False], strict=True)
    ]
    await turns()
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert answers == ["a", ["b"] * 3, "c", ["d"] * 3, "e", ["f"] * 3, "g"]
    assert client._free == pool
    assert not client._waiting


# -- closing --------------------------------------------------------------------------------------------------------------


async def test_closing_lets_what_was_submitted_finish_and_refuses_the_rest() -> None:
    gate, client = gated()
    under_way = [asyncio.create_task(client.submit(get(str(k)))) for k in range(300)]
    several = asyncio.create_task(client.submit_all([get("x")] * 300))
    await turns()
    closing = asyncio.create_task(client.close())
    await turns()
    assert not gate.closed
    with pytest.raises(StorageError, match="closed"):
        await client.submit(get("late"))
    assert all("closed" in str(answer) for answer in await client.submit_all([get("late")]))
    gate.open.set()
    await closing
    assert gate.closed
    assert await asyncio.gather(*under_way) == [str(k) for k in range(300)]
    assert await several == ["x"] * 300
    with pytest.raises(StorageError, match="closed"):
        await client.submit(get("later"))
    assert client._free == client.config.pool_size


@pytest.mark.parametrize("stubborn", [False, True])
async def test_closing_waits_no_longer_than_the_timeout(stubborn: bool, recwarn: pytest.WarningsRecorder) -> None:
    gate, client = gated(stubborn, pool_size=2, command_timeout=0.2, max_batch=1)
    under_way = [asyncio.create_task(client.submit(get(str(k)))) for k in range(30)]
    await turns()
    begin = time.monotonic()
    await client.close()
    assert time.monotonic() - begin < 5.0
    answers = await asyncio.gather(*under_way, return_exceptions=True)
    assert all(isinstance(answer, StorageError) for answer in answers)
    assert gate.closed
    gate.open.set()
    gc.collect()
    assert not [each for each in recwarn if "never awaited" in str(each.message)]


@pytest.mark.parametrize(("seconds", "sent"), [(5.0, 1), (0.1, 4)])
def test_several_batches_wait_for_one_timeout_and_not_for_each(seconds: float, sent: int) -> None:
    lost = StorageConnectionError("lost", sent=True)
    bench = Bench(seconds, [lost], command_timeout=1.0, retries=0, max_batch=10)
    answers: list[Any] = []

    async def ask() -> None:
        answers.extend(await bench.client.submit_all([acquire(str(k)) for k in range(40)]))

    bench.runtime.spawn(ask())
    bench.env.run()
    assert len(bench.driver.batches) == sent
    assert len(answers) == 40
    if sent == 1:
        assert {type(answer) for answer in answers[:10]} == {StorageTimeoutError}
        assert all(isinstance(answer, StorageConnectionError) and not answer.sent for answer in answers[10:])
    else:
        assert answers[:10] == [lost] * 10
        assert answers[10:] == [str(k) for k in range(10, 40)]


def test_a_batch_without_an_answer_ends_the_time_that_a_caller_waits() -> None:
    bench = Bench(5.0, command_timeout=1.0, retries=0, max_batch=10)
    ended: list[float] = []

    async def ask() -> None:
        await bench.client.submit_all([acquire(str(k)) for k in range(400)])
        ended.append(bench.runtime.time())

    bench.runtime.spawn(ask())
    bench.env.run()
    assert ended == [1.0]
