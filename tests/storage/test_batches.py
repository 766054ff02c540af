"""Each item of a batch succeeds or fails by itself, and an invalid argument is raised before anything: on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from every_backend import BACKENDS, Clock, make

from ratesim import Limit
from ratesim.errors import BatchError, KeyRefusedError, StorageError
from ratesim.limit import Decision, InvalidLimitError
from ratesim.runtime import AsyncioRuntime
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, RateLimitStorage, Request
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Get, Operation

LIMIT = Limit(100, 3600.0, "fixed_window")
HALF = "half of a pair \ud800"
GOOD = [f"good {i}" for i in range(5)]
MIXED = [GOOD[0], HALF, *GOOD[1:4], HALF, GOOD[4]]


@pytest.fixture(params=BACKENDS)
async def storage(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimitStorage]:
    async with make(request.param, clock, request) as storage:
        yield storage


def failures(error: BatchError) -> list[bool]:
    return [isinstance(result, StorageError) for result in error.results]


async def test_a_refused_item_leaves_the_others_done(storage: RateLimitStorage, clock: Clock) -> None:
    expected = [name == HALF for name in MIXED]
    with pytest.raises(BatchError, match="2 of 7 failed; the first, at 1: KeyRefusedError") as raised:
        await storage.acquire_many([Request(name, LIMIT) for name in MIXED])
    assert failures(raised.value) == expected
    assert [type(result) for result in raised.value.results] == [KeyRefusedError if bad else Decision for bad in expected]
    with pytest.raises(BatchError) as raised:
        await storage.charge_many([Charge(name, LIMIT, "n", 1, 0.0, ((clock.now, 2.0, 1),)) for name in MIXED])
    assert failures(raised.value) == expected
    assert all(isinstance(result, RateLimitState) for result in raised.value.results if not isinstance(result, StorageError))
    for name in GOOD:
        assert (await storage.peek(name, LIMIT, 0.0)).remaining == 97.0
    with pytest.raises(BatchError) as raised:
        await storage.batch_get(MIXED)
    assert failures(raised.value) == expected
    states = dict(await storage.batch_get(GOOD))
    with pytest.raises(BatchError) as raised:
        await storage.batch_set([(name, states[GOOD[0]], None) for name in MIXED])
    assert failures(raised.value) == expected


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "bad",
    [
        Request("bad", LIMIT, -1.0),
        Request("bad", LIMIT, float("nan")),
        Request("bad", LIMIT, 1.0, -1.0),
        Request("bad", LIMIT, 1.0, float("nan")),
        Request("bad", Limit(1, 1, "no such algorithm")),
        Request("bad", ()),
        Request("bad", (LIMIT, LIMIT)),
        Request(5, LIMIT),  # type: ignore[arg-type]
        Request(None, LIMIT),  # type: ignore[arg-type]
        Request(b"bytes", LIMIT),  # type: ignore[arg-type]
        Request(("a", "b"), LIMIT),  # type: ignore[arg-type]
        Request(["a"], LIMIT),  # type: ignore[arg-type]
    ],
    ids=repr,
)
async def test_an_invalid_item_is_raised_before_anything_is_done(storage: RateLimitStorage, bad: Request) -> None:
    with pytest.raises(InvalidLimitError):
        await storage.acquire_many([Request("good", LIMIT), bad, Request("good", LIMIT)])
    with pytest.raises(InvalidLimitError):
        await storage.acquire(bad.identifier, bad.limit, bad.cost, bad.now)
    assert (await storage.peek("good", LIMIT, 0.0)).remaining == 100.0


async def test_an_invalid_charge_is_raised_before_anything_is_done(storage: RateLimitStorage, clock: Clock) -> None:
    entries = ((clock.now, 1.0, 1),)
    for bad in (
        Charge("bad", LIMIT, "n", 1, 0.0, ()),
        Charge("bad", LIMIT, "n", 1, 0.0, ((float("inf"), 1.0, 1),)),
        Charge("bad", Limit(1, 1, "no such algorithm"), "n", 1, 0.0, entries),
        Charge(5, LIMIT, "n", 1, 0.0, entries),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidLimitError):
            await storage.charge_many([Charge("good", LIMIT, "n", 1, 0.0, entries), bad])
    assert (await storage.peek("good", LIMIT, 0.0)).remaining == 100.0


async def test_no_verb_takes_an_identifier_that_is_no_text(storage: RateLimitStorage, clock: Clock) -> None:
    data = AlgorithmData("fixed_window", {"window_start": clock.now, "count": 1.0})
    state, adaptive = RateLimitState(data, clock.now, clock.now), Limit(5, 60, "adaptive")
    for identifier, error in ((HALF, KeyRefusedError), (7, InvalidLimitError), (None, InvalidLimitError)):
        name: Any = identifier
        for verb in (
            lambda name=name: storage.acquire(name, LIMIT),
            lambda name=name: storage.acquire(name, [LIMIT, Limit(5, 60, name="b")]),
            lambda name=name: storage.acquire(name, LIMIT, 1000.0),
            lambda name=name: storage.peek(name, LIMIT),
            lambda name=name: storage.reset(name),
            lambda name=name: storage.get_state(name),
            lambda name=name: storage.set_state(name, state),
            lambda name=name: storage.increment(name, 1, 60.0),
            lambda name=name: storage.observe(name, adaptive, 0.5),
        ):
            with pytest.raises(error):
                await verb()


async def test_an_iterable_of_limits_may_be_read_only_once(storage: RateLimitStorage) -> None:
    several = (LIMIT, Limit(50, 60.0, name="b"))
    (decision,) = await storage.acquire_many([Request("user", (each for each in several))])
    assert decision.allowed
    assert (await storage.peek("user", several[1], 0.0)).remaining == 49.0


# -- the client: a large call is several batches ----------------------------------------------------------------------


class Partly:
    """A driver whose batches fail as a whole where one of `bad` is in them."""

    def __init__(self, bad: set[str], error: Exception) -> None:
        self.bad, self.error, self.sent = bad, error, 0

    async def execute(self, batch: list[Get]) -> list[object]:
        self.sent += 1
        if any(operation.identifier in self.bad for operation in batch):
            raise self.error
        return [operation.identifier for operation in batch]

    async def close(self) -> None:
        """Do nothing."""


async def test_a_batch_that_fails_keeps_no_other_batch_of_the_call_back() -> None:
    driver = Partly({"3", "11"}, StorageError("bad"))
    client = Client(driver, AsyncioRuntime(), ClientConfig(max_batch=2))  # type: ignore[arg-type]
    operations: list[Operation] = [Get(str(i), "", 0.0) for i in range(14)]
    answers = await client.submit_all(operations)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, StorageError)] == [2, 3, 10, 11]
    assert driver.sent == 7
