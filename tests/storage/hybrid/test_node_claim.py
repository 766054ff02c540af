"""A name of a node belongs to one living process at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ratesim import Limit
from ratesim.errors import StorageConnectionError, StorageError
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import HybridStorage, HybridStorageConfig, MemoryStorage, RateLimitStorage, open_storage
from ratesim.storage.hybrid import node_claim
from tests.storage.every_backend import BACKENDS, Clock, make

LIMIT = Limit(100, 3600, "fixed_window")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=BACKENDS)
async def storage(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimitStorage]:
    async with make(request.param, clock, request) as made:
        yield made


async def test_every_backend_grants_a_name_to_one_holder_at_a_time(storage: RateLimitStorage) -> None:
    holder, seconds = await storage.claim("web", "first", 60.0)
    assert (holder, round(seconds)) == ("first", 60)
    holder, seconds = await storage.claim("web", "second", 60.0)
    assert holder == "first"
    assert 50.0 < seconds <= 60.0
    assert (await storage.claim("api", "second", 60.0))[0] == "second"
    assert (await storage.claim("web", "first", 80.0))[0] == "first"
    assert 60.0 < (await storage.claim("web", "second", 60.0))[1] <= 80.0
    assert (await storage.claim("web", "first", 0.0))[0] == "first"
    assert (await storage.claim("web", "second", 60.0))[0] == "second"
    assert (await storage.claim("web", "first", 0.0))[0] == "second"  # gives back only its own


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, which the test is about."""
    async with asyncio.timeout(20):
        for _ in iter(int, 1):
            if await condition():
                return
            await asyncio.sleep(0.02)


async def test_a_claim_runs_out(storage: RateLimitStorage, clock: Clock) -> None:
    await storage.claim("web", "first", 0.05)
    clock.now += 0.1  # that of memory; a server has its own

    async def granted() -> bool:
        return (await storage.claim("web", "second", 60.0))[0] == "second"

    await until(granted)


async def test_a_claim_is_no_entry(storage: RateLimitStorage) -> None:
    before = (await storage.get_stats()).entries
    await storage.claim("web", "first", 60.0)
    assert (await storage.get_stats()).entries == before
    assert await storage.get_state(":node:web") is None
    await storage.cleanup_expired()
    assert (await storage.claim("web", "second", 60.0))[0] == "first"


@pytest.fixture(params=["redis", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    name = "valkey_server" if request.param == "redis" else "postgres_server"
    server: str = request.getfixturevalue(name).url
    return f"hybrid+{server}{'&' if '?' in server else '?'}sync_interval=0.01&node=n{uuid.uuid4().hex[:8]}"


async def test_the_second_living_node_of_a_name_refuses_to_open(url: str) -> None:
    async with open_storage(url) as first:
        assert (await first.acquire("a", LIMIT)).allowed
        second = open_storage(url)
        with pytest.raises(StorageError, match=f"in use by another process .*:{os.getpid()}:.*leave node empty"):
            await second.open()
        await second.close()
        assert (await first.acquire("a", LIMIT)).allowed
    async with open_storage(url) as third:  # the first one has given it back
        assert (await third.health_check()).healthy


KILLED_TTL = 3.0  # seconds
SERVE = """
import asyncio, sys
from ratesim import Limit
from ratesim.storage import open_storage
from ratesim.storage.hybrid import node_claim

node_claim.TTL = {ttl}

async def main():
    async with open_storage(sys.argv[1]) as storage:
        await storage.acquire("a", Limit(100, 3600, "fixed_window"))
        print("open", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_node_that_was_killed_comes_back_under_its_name(url: str) -> None:
    code = SERVE.format(ttl=KILLED_TTL)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(60), open_storage(url) as storage:
        assert (await storage.health_check()).healthy


class Gate(MemoryStorage):
    """A shared memory that can be away."""

    away = False

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        if self.away:
            raise StorageConnectionError("away", sent=False)
        return await super().claim(name, holder, ttl)

    async def super_claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        return await super().claim(name, holder, ttl)


def node(l2: Gate) -> HybridStorage:
    l2.close = _stay  # type: ignore[method-assign]  # it is shared
    return HybridStorage(l2, HybridStorageConfig(node="web", sync_interval=0.01), AsyncioRuntime())


async def _stay() -> None:
    pass


async def known(l2: Gate, key: str) -> float:
    return LIMIT.rate - (await l2.peek(key, LIMIT)).remaining


async def test_a_node_that_opened_while_l2_was_away_claims_its_name_before_it_flushes() -> None:
    l2 = Gate()
    l2.away = True
    first = await node(l2).open()
    await first.acquire("a", LIMIT)
    assert not await first.flush()
    assert await known(l2, "a") == 0
    l2.away = False
    second = await node(l2).open()
    assert not await first.flush()  # the name is another's now
    assert await known(l2, "a") == 0
    await until(lambda: has_lost_its_name(first))
    await second.acquire("a", LIMIT, cost=2)
    await second.close()
    assert await known(l2, "a") == 2
    assert await first.flush()  # its consumption is not taken for what the other has flushed
    assert await known(l2, "a") == 3
    await first.close()


async def has_lost_its_name(storage: HybridStorage) -> bool:
    health = await storage.health_check()
    return not health.healthy and "in use by another process" in health.detail


async def test_a_name_that_was_lost_is_not_flushed_under(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_claim, "TTL", 0.3)
    l2 = Gate()
    first = await node(l2).open()
    await first.acquire("a", LIMIT)
    assert await first.flush()
    l2.away = True
    second = node(l2)

    async def open_the_second() -> bool:  # once the claim of the first has run out
        return (await l2.super_claim("web", "-", 0.0))[0] == "-"

    await until(open_the_second)
    l2.away = False
    await second.open()
    await first.acquire("a", LIMIT)
    await until(lambda: has_lost_its_name(first))
    assert await known(l2, "a") == 1
    await second.close()
    await until(first.flush)
    assert await known(l2, "a") == 2
    await first.close()


async def test_a_node_without_a_name_of_its_user_claims_nothing() -> None:
    l2 = Gate()
    l2.away = True
    storage = HybridStorage(l2, HybridStorageConfig())
    async with storage:
        await storage.acquire("a", LIMIT)
        assert await storage.flush()
