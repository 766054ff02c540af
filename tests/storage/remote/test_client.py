"""The client layer, driven on SimPy by a driver that does as it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import simpy

from ratesim.errors import CapacityError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import SimRuntime
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
