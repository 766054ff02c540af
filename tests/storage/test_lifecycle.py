"""Opening and closing: overlapping, canceled and repeated, on every backend."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import threading
import uuid
from collections.abc import AsyncIterator

import pytest
from every_backend import SERVERS
from examples import sample

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.storage import RateLimitStorage, open_storage, sync

LIMIT = Limit(100_000, 3600, "fixed_window")
USUAL = ["memory", "redis", "cluster", "postgresql", "hybrid+redis", "hybrid+postgresql", "lease", "strong"]


@pytest.fixture(params=sample([*USUAL, "sentinel"], USUAL))
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    postgres = request.param.endswith("postgresql")
    valkey = SERVERS.get(request.param, "valkey_server")
    server: str = request.getfixturevalue("postgres_server" if postgres else valkey).url
    server += f"{'&' if '?' in server else '?'}pool_size=2"
    if request.param == "postgresql" or request.param in SERVERS:
        return server
    consistency = request.param if request.param in ("lease", "strong") else "eventual"
    return f"hybrid+{server}&consistency={consistency}&write=write_through&node=n{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def storage(url: str) -> AsyncIterator[RateLimitStorage]:
    async with open_storage(url) as opened:
        yield opened


async def ended(*work: asyncio.Task[object]) -> list[object]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*work, return_exceptions=True)


def acquires(storage: RateLimitStorage, key: str, number: int) -> list[asyncio.Task[object]]:
    return [asyncio.create_task(storage.acquire(f"{key}{place % 7}", LIMIT)) for place in range(number)]


async def until_only(before: set[asyncio.Task[object]]) -> None:
    """Wait until no other task than before runs."""
    async with asyncio.timeout(20):
        while others := asyncio.all_tasks() - before:
            await asyncio.wait(others)


def sockets() -> set[str]:
    """The sockets of this process, each with a name of its own."""
    names = [os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd")]
    return {name for name in names if "socket:" in name}


async def require_usable(storage: RateLimitStorage) -> None:
    """Two decisions see one another, so they are no fallback."""
    key = uuid.uuid4().hex
    first, second = await storage.acquire(key, LIMIT), await storage.acquire(key, LIMIT)
    assert (first.remaining, second.remaining) == (LIMIT.rate - 1, LIMIT.rate - 2)


async def test_opening_while_it_closes_waits_for_the_end_of_that(storage: RateLimitStorage) -> None:
    under_way = acquires(storage, uuid.uuid4().hex, 100)
    await asyncio.sleep(0)
    closing = asyncio.create_task(storage.close())
    await asyncio.sleep(0)
    results = await ended(*under_way, closing, asyncio.create_task(storage.open()))
    assert not [each for each in results if isinstance(each, BaseException) and not isinstance(each, StorageError)]
    await require_usable(storage)


async def test_one_of_several_that_open_is_canceled(storage: RateLimitStorage) -> None:
    await storage.close()
    for turns in range(6):
        first, second = asyncio.create_task(storage.open()), asyncio.create_task(storage.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        results = await ended(first, second)
        assert results[1] is storage
        await require_usable(storage)
        await storage.close()


async def test_opening_what_is_open_changes_nothing_also_when_canceled(storage: RateLimitStorage) -> None:
    again = asyncio.create_task(storage.open())
    await asyncio.sleep(0)
    again.cancel()
    await ended(again)
    await require_usable(storage)


async def test_a_canceled_close_leaves_a_closed_storage_and_no_task(url: str) -> None:
    before = asyncio.all_tasks()
    storage = await open_storage(url).open()
    for turns in range(1, 7):
        under_way = acquires(storage, uuid.uuid4().hex, 30)
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await ended(*under_way, closing)
        await storage.open()
        await require_usable(storage)
    await storage.close()
    await until_only(before)


@pytest.mark.parametrize("kind", ["redis", "cluster", "sentinel"])
async def test_a_canceled_close_leaves_no_connection(request: pytest.FixtureRequest, kind: str) -> None:
    url: str = request.getfixturevalue(SERVERS.get(kind, "valkey_server")).url
    gc.collect()
    before = sockets()
    for turns in range(1, 9):
        storage = open_storage(url)
        opening = asyncio.create_task(storage.acquire("a", LIMIT))
        await asyncio.sleep(turns * 0.0015)
        opening.cancel()
        closing = asyncio.create_task(storage.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await ended(opening, closing)
        await storage.close()
        async with asyncio.timeout(20):
            while sockets() - before:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.001)


async def test_entering_that_is_canceled_closes(url: str) -> None:
    before = asyncio.all_tasks()

    async def enter(storage: RateLimitStorage) -> None:
        async with storage:
            await asyncio.sleep(60)

    for turns in range(8):
        entering = asyncio.create_task(enter(open_storage(url)))
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        await ended(entering)
    await until_only(before)


async def test_several_statistics_and_removals_at_the_same_time(storage: RateLimitStorage) -> None:
    await storage.acquire("a", LIMIT)
    work = [asyncio.create_task(each()) for _ in range(12) for each in (storage.get_stats, storage.cleanup_expired)]
    results = await ended(*work)
    assert not [each for each in results if isinstance(each, BaseException)]


async def test_a_statistic_that_is_given_up_logs_nothing(
    storage: RateLimitStorage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for turns in range(20):
            for work in (storage.get_stats, storage.cleanup_expired):
                asking = asyncio.create_task(work())
                await asyncio.sleep(turns / 2000)
                asking.cancel()
                await ended(asking)
    assert not caplog.records


def test_a_storage_is_neither_copied_nor_pickled(url: str) -> None:
    opened = sync.open_storage(url)
    for storage in (opened, opened.storage):
        for work in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(StorageError, match="neither copied nor pickled"):
                work(storage)


def test_the_loop_of_synchronous_storages_starts_again_after_its_end(url: str) -> None:
    storage = sync.open_storage(url).open()
    errors: list[StorageError] = []

    def wait() -> None:
        try:
            sync._thread.run(asyncio.sleep(60))
        except StorageError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    storage.acquire(uuid.uuid4().hex, LIMIT)
    loop = sync._thread._loop
    assert loop is not None
    loop.call_soon_threadsafe(loop.stop)
    waiting.join(20)
    assert len(errors) == 1
    assert storage.acquire(uuid.uuid4().hex, LIMIT).allowed
    storage.close()
