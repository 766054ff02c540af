"""Stamps: when batches were written and answered, on real servers, and that nothing of it stays."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.simulation.cost_model.stamps import Stamps, stamped
from ratesim.storage import HybridStorage, MemoryStorage, RateLimitStorage, open_storage
from ratesim.storage.postgres.wire import Wire
from ratesim.storage.redis.direct import Link

LIMIT = Limit(1e6, 60.0)
METHODS = ((Link, "exchange"), (Link, "buffer_updated"), (Wire, "send"), (Wire, "_on_readable"))


@pytest.fixture(autouse=True)
def nothing_stays() -> Any:
    before = [getattr(owner, name) for owner, name in METHODS]
    yield
    assert [getattr(owner, name) for owner, name in METHODS] == before


@pytest.fixture(params=["redis", "postgres"])
async def storage(request: pytest.FixtureRequest) -> Any:
    """An open storage: its connection is older than the stamps."""
    server = request.getfixturevalue("postgres_server" if request.param == "postgres" else "valkey_server")
    async with open_storage(server.url) as opened:
        await opened.peek("warm-up", LIMIT)
        await opened.acquire("warm-up", LIMIT)
        yield opened


async def ask(storage: RateLimitStorage, key: str) -> tuple[float, float]:
    began = perf_counter()
    await storage.acquire(key, LIMIT)
    return began, perf_counter()


async def test_each_lone_request_has_its_stamps_between_its_begin_and_its_end(storage: RateLimitStorage) -> None:
    with stamped(HybridStorage(storage)) as stamps:  # the batches of its store
        spans = [await ask(storage, f"key {i}") for i in range(5)]
    await ask(storage, "a")  # not stamped
    assert len(stamps) == 5
    began, ended = np.array(spans).T
    times = np.array([began, stamps.begun, stamps.written, stamps.read, ended])
    assert (np.diff(times, axis=0) > 0).all()


async def test_an_error_in_the_block_takes_the_stamps_off_as_well(storage: RateLimitStorage) -> None:
    async def fail() -> None:
        with stamped(storage) as stamps:
            found.append(stamps)
            await storage.peek("a", LIMIT)
            raise ValueError("of the block")

    found: list[Stamps] = []
    with pytest.raises(ValueError, match="of the block"):
        await fail()
    await storage.peek("b", LIMIT)
    assert len(found[0]) == 1
    assert np.isfinite(found[0].read).all()


def test_stamps_can_be_forgotten_while_a_batch_is_under_way() -> None:
    stamps = Stamps()
    late = stamps.add(1.0, 2.0)
    stamps.clear()
    stamps.add(3.0, 4.0)
    late[2] = 5.0
    assert (len(stamps), stamps.begun[0], stamps.written[0]) == (1, 3.0, 4.0)
    assert np.isnan(stamps.read).all()


def test_a_storage_without_a_server_cannot_be_stamped() -> None:
    with pytest.raises(TypeError, match="MemoryStorage writes no batches to a server"), stamped(MemoryStorage()):
        pass
