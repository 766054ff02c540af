"""The client layer before a driver of several servers, of which one is lost, in simulated time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import simpy

from ratesim.errors import StorageConnectionError, StorageError, StorageTimeoutError, StorageUnavailableError
from ratesim.runtime import SimRuntime
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Get, Operation

LOST = StorageConnectionError("lost while it had the request", sent=True)
UNSENT = StorageConnectionError("not reached", sent=False)


class Shards:
    """Answers identifiers that begin with "x" with what `script` says next, and the others with themselves."""

    sharded = True

    def __init__(self, runtime: SimRuntime, script: Sequence[StorageError | None], seconds: float = 0.01) -> None:
        self.runtime, self.script, self.seconds = runtime, list(script), seconds
        self.batches: list[list[str]] = []

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        names = [operation.identifier for operation in batch]
        self.batches.append(names)
        await self.runtime.sleep(self.seconds)
        told = self.script.pop(0) if self.script and any(name.startswith("x") for name in names) else None
        return [told if told is not None and name.startswith("x") else name for name in names]

    async def close(self) -> None:
        pass


class Bench:
    def __init__(self, *script: StorageError | None, seconds: float = 0.01, **options: Any) -> None:
        self.env = simpy.Environment()
        self.runtime = SimRuntime(self.env)
        self.driver = Shards(self.runtime, script, seconds)
        self.client = Client(self.driver, self.runtime, ClientConfig(**options))
        self.ended: dict[str, float] = {}

    def ask(self, *operations: Operation) -> list[Any]:
        """Submit operations at once, and return their answers and errors."""
        answers: list[Any] = [None] * len(operations)

        async def one(place: int, operation: Operation) -> None:
            try:
                answers[place] = await self.client.submit(operation)
            except StorageError as error:
                answers[place] = error
            self.ended[operation.identifier] = self.runtime.time()

        for place, operation in enumerate(operations):
            self.runtime.spawn(one(place, operation))
        self.env.run()
        return answers

    def ask_all(self, *operations: Operation) -> list[Any]:
        found: list[Any] = []

        async def all_of_them() -> None:
            found.extend(await self.client.submit_all(operations))

        self.runtime.spawn(all_of_them())
        self.env.run()
        return found


def get(name: str) -> Get:
    return Get(name, "", 0.0)


def acquire(name: str) -> Acquire:
    return Acquire(name, (), 1.0, 0.0, True)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("operation", "error", "tries"),
    [
        (get("x"), LOST, 3),
        (get("x"), UNSENT, 3),
        (acquire("x"), UNSENT, 3),
        (acquire("x"), StorageUnavailableError("its slot has no owner"), 3),
        (acquire("x"), LOST, 1),  # the server may have charged it
        (get("x"), StorageTimeoutError("no answer"), 1),  # there is no time left
    ],
)
def test_what_one_server_has_lost_is_sent_again_where_that_is_safe(
    operation: Operation, error: StorageError, tries: int, together: bool
) -> None:
    bench = Bench(*[error] * 9, retries=2)
    if together:
        assert bench.ask_all(acquire("a"), operation, acquire("b")) == ["a", error, "b"]
        assert bench.driver.batches == [["a", "x", "b"], *[["x"]] * (tries - 1)]
    else:
        assert bench.ask(operation) == [error]
        assert bench.driver.batches == [["x"]] * tries
    assert bench.client.errors == {type(error).__name__: tries}


def test_a_server_that_is_back_answers_the_next_try() -> None:
    bench = Bench(UNSENT, None)
    assert bench.ask_all(acquire("a"), acquire("x")) == ["a", "x"]
    assert bench.driver.batches == [["a", "x"], ["x"]]


def test_one_lost_server_opens_no_breaker() -> None:
    bench = Bench(*[UNSENT] * 100, retries=0, breaker_failures=3)
    assert bench.ask(*[acquire(f"x{k}") for k in range(30)]) == [UNSENT] * 30
    assert bench.client.breaker == "closed"
    assert bench.ask(acquire("a")) == ["a"]


def test_a_try_that_waits_takes_no_place_from_others() -> None:
    bench = Bench(*[UNSENT] * 9, pool_size=1, retries=3, retry_base=0.3, retry_cap=0.3)
    answers = bench.ask(acquire("x"), acquire("a"), acquire("b"))
    assert answers == [UNSENT, "a", "b"]
    assert max(bench.ended["a"], bench.ended["b"]) < 0.05
    assert bench.ended["x"] > 0.05


@pytest.mark.parametrize("seconds", [0.01, 0.3])
def test_tries_end_in_the_time_of_a_command(seconds: float) -> None:
    bench = Bench(*[UNSENT] * 99, seconds=seconds, retries=50, retry_base=0.1, retry_cap=0.1, command_timeout=1.0)
    assert isinstance(bench.ask(acquire("x"))[0], UNSENT.__class__ | StorageTimeoutError)
    assert len(bench.driver.batches) > 2
    assert bench.ended["x"] <= 1.0
