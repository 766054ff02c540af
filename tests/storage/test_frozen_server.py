"""A server that stands still, as a paused machine does: connections stay open, and nothing answers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis.asyncio
from freezing import frozen

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.servers import Server, postgres, valkey
from ratesim.storage import HybridStorage, RateLimitStorage, Request, open_storage
from ratesim.storage.remote.storage import RemoteStorage

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the descendants of a process are read from /proc"),
]

LIMIT = Limit(1e6, 3600.0)
TIMEOUT = 0.3  # seconds
HANG = 30.0  # seconds after which a test that waits for an event fails
POLICIES = ("", "consistency=strong", "consistency=lease", "write=write_through&read=read_through")


@pytest.fixture(scope="module", params=["redis", "postgresql"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with valkey() if request.param == "redis" else postgres() as server:
        yield server


def storage_at(server: Server, policy: str | None = None, **options: object) -> RateLimitStorage:
    prefix = "" if policy is None else "hybrid+"
    query = "&".join([f"{name}={value}" for name, value in options.items()] + ([policy] if policy else []))
    return open_storage(f"{prefix}{server.url}{'&' if '?' in server.url else '?'}{query}")


def client_of(storage: RateLimitStorage) -> RemoteStorage:
    remote = storage.l2 if isinstance(storage, HybridStorage) else storage
    assert isinstance(remote, RemoteStorage)
    return remote


async def connections(server: Server) -> int:
    """The connections that the server has, without the one that asks."""
    if server.url.startswith("redis"):
        client = redis.asyncio.Redis.from_url(server.url)
        try:
            return len(await client.client_list()) - 1
        finally:
            await client.aclose()
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        found = await connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ratesim'")
        row = await found.fetchone()
        assert row is not None
        return int(row[0])


async def wait_until_gone(server: Server) -> None:
    async with asyncio.timeout(HANG):
        while await connections(server):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)


async def until_warm(storage: RateLimitStorage) -> None:
    """Wait until functions and connections are made, which may take longer than the timeout of a request."""
    async with asyncio.timeout(HANG):
        while True:
            with suppress(StorageError):
                await asyncio.gather(*(storage.acquire(f"warm {k}", LIMIT) for k in range(20)))
                return


@pytest.mark.parametrize("policy", [None, *POLICIES])
async def test_each_request_is_answered_in_time_and_all_is_well_afterward(own_server: Server, policy: str | None) -> None:
    options = {"command_timeout": TIMEOUT, "connection_timeout": TIMEOUT}
    if policy is not None:
        options["max_wait"] = 2.0 * TIMEOUT
    storage = storage_at(own_server, policy, **options)
    client = client_of(storage)
    async with storage:
        await until_warm(storage)
        waits: list[float] = []

        async def timed(call: object) -> object:
            begin = time.monotonic()
            try:
                return await call  # type: ignore[misc]
            except StorageError as error:
                return error
            finally:
                waits.append(time.monotonic() - begin)

        async with frozen(own_server):
            for round_ in range(3):  # on connections that were open, on none, and with the breaker open
                calls = [storage.acquire(f"{round_} {k}", LIMIT) for k in range(15)]
                calls.append(storage.acquire_many([Request("a", LIMIT)]))  # type: ignore[arg-type]
                answers = await asyncio.gather(*(timed(call) for call in calls))
                assert all(isinstance(answer, Decision | StorageError | list) for answer in answers)
            giving_up = asyncio.create_task(storage.acquire("given up", LIMIT))
            await asyncio.sleep(0.05)
            giving_up.cancel()
            with suppress(asyncio.CancelledError, StorageError):
                await giving_up
        # One round may wait for a connection behind another: 2 timeouts, and on a slow machine several times as long.
        assert max(waits) < 20.0 * TIMEOUT
        async with asyncio.timeout(HANG):
            while True:
                with suppress(StorageError):
                    await client.acquire("again", LIMIT)
                    break
        assert isinstance(await storage.acquire("fresh", LIMIT), Decision)
        client_ = client.client
        async with asyncio.timeout(HANG):
            while client_._free < client_.config.pool_size:  # noqa: ASYNC110 - of tasks that end by themselves
                await asyncio.sleep(0.01)
        assert not client_._waiting
    await wait_until_gone(own_server)


@pytest.mark.parametrize("policy", [None, ""])
async def test_closing_while_the_server_stands_still_ends_and_leaves_no_coroutine(
    own_server: Server, policy: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    storage = storage_at(own_server, policy, command_timeout=TIMEOUT, connection_timeout=TIMEOUT)
    await storage.open()
    await storage.acquire("warm", LIMIT)
    async with frozen(own_server):
        under_way = [asyncio.create_task(storage.acquire(f"user {k}", LIMIT)) for k in range(300)]
        await asyncio.sleep(0)
        begin = time.monotonic()
        with suppress(StorageError):  # of consumption that was not flushed
            await storage.close()
        assert time.monotonic() - begin < HANG
        answers = await asyncio.gather(*under_way, return_exceptions=True)
        assert all(isinstance(answer, Decision | StorageError) for answer in answers)
    await wait_until_gone(own_server)
    gc.collect()
    assert not [each for each in recwarn if "never awaited" in str(each.message)]


@pytest.mark.parametrize("policy", [None, *POLICIES])
async def test_closing_lets_three_hundred_requests_finish(own_server: Server, policy: str | None) -> None:
    storage = await storage_at(own_server, policy, command_timeout=HANG).open()
    under_way = [asyncio.create_task(storage.acquire(f"user {k % 100}", LIMIT)) for k in range(300)]
    await asyncio.sleep(0)
    await storage.close()
    answers = await asyncio.gather(*under_way)
    assert all(answers)
    with pytest.raises(StorageError, match="closed"):
        await storage.acquire("late", LIMIT)
    await wait_until_gone(own_server)
