"""A storage belongs to one event loop at a time: the same behavior on every backend with a server.

A storage goes on in a new loop when the former one has stopped; while it runs, another loop is refused.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from examples import sample

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.storage import RateLimitStorage, open_storage

LIMIT = Limit(100, 3600, "fixed_window")

Make = Callable[[], RateLimitStorage]


USUAL = ["valkey_server", "postgres_server"]


@pytest.fixture(params=sample([*USUAL, "valkey_cluster_server", "valkey_sentinel_server"], USUAL))
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param).url
    return url


@pytest.fixture(params=["memory", "server", "hybrid", "lease", "strong"])
def url(request: pytest.FixtureRequest, server_url: str) -> str:
    if request.param in ("memory", "server"):
        return "memory://" if request.param == "memory" else server_url
    consistency = "eventual" if request.param == "hybrid" else request.param
    return f"hybrid+{server_url}{'&' if '?' in server_url else '?'}consistency={consistency}"


async def admitted(storage: RateLimitStorage, key: str, requests: int) -> int:
    return sum([(await storage.acquire(key, LIMIT)).allowed for _ in range(requests)])


async def charged(storage: RateLimitStorage, key: str) -> float:
    return LIMIT.rate - (await storage.peek(key, LIMIT)).remaining


ABANDONED = """
import asyncio, os, sys
from ratesim import Limit
from ratesim.storage import open_storage

LIMIT, storage, key = Limit(100, 3600, "fixed_window"), open_storage(sys.argv[1]), sys.argv[2]

async def admitted(key, requests):
    return sum([(await storage.acquire(key, LIMIT)).allowed for _ in range(requests)])

async def begin():
    await storage.open()
    await admitted(key, 10)
    tasks = [asyncio.create_task(admitted(f"{key}{i}", 3)) for i in range(40)]
    await asyncio.sleep(0)
    return tasks

async def go_on():
    count = await admitted(key, 100)
    health = await storage.health_check()
    await storage.close()
    return count, health.healthy

loop = asyncio.new_event_loop()
tasks = loop.run_until_complete(begin())
loop.close()
print(*asyncio.run(go_on()), flush=True)
os._exit(0)
"""


def test_a_storage_goes_on_in_a_new_loop(url: str, server_url: str) -> None:
    key, storage = uuid.uuid4().hex, open_storage(url)
    counts = [asyncio.run(admitted(storage, key, 40)) for _ in range(4)]
    if "lease" in url:  # what was being borrowed when a loop stopped is lost to this node
        assert counts[:2] == [40, 40]
        assert sum(counts) <= 100
    else:
        assert counts == [40, 40, 20, 0]

    async def end() -> float:
        await storage.close()
        async with open_storage(server_url) as server:
            return await charged(server, key)

    left = asyncio.run(end())
    assert left >= sum(counts) if "lease" in url else left == (0 if url == "memory://" else 100)


def test_a_storage_can_be_opened_again_in_a_new_loop(url: str) -> None:
    key, storage = uuid.uuid4().hex, open_storage(url)

    async def once() -> int:
        async with storage:
            return await admitted(storage, key, 40)

    assert [asyncio.run(once()) for _ in range(4)] == [40, 40, 20, 0]


def test_an_acquire_made_outside_of_a_loop_is_carried_out_in_it(url: str) -> None:
    key, storage = uuid.uuid4().hex, open_storage(url)
    assert all(asyncio.run(storage.acquire(key, LIMIT)).allowed for _ in range(3))  # type: ignore[arg-type]
    asyncio.run(storage.close())


def test_a_loop_that_is_closed_with_work_in_flight_leaves_the_storage_usable(url: str) -> None:
    # In a process of its own, which ends at once: CPython 3.11 may crash when it collects the tasks of such a loop.
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED, url, uuid.uuid4().hex], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "90 True\n", done.stderr


def test_four_threads_get_decisions_or_one_clear_error(url: str) -> None:
    key, storage = uuid.uuid4().hex, open_storage(url)
    together = threading.Barrier(4)

    async def work() -> tuple[int, list[StorageError]]:
        count, errors = 0, []
        await asyncio.to_thread(together.wait)
        for _ in range(40):
            try:
                count += (await storage.acquire(key, LIMIT)).allowed
            except StorageError as error:
                errors.append(error)
        await asyncio.to_thread(together.wait)  # every loop runs until then
        return count, errors

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: asyncio.run(work()), range(4)))
    errors = [error for _, found in results for error in found]
    assert all("ratesim.storage.sync" in str(error) for error in errors)
    assert sorted(len(found) for _, found in results) == ([0] * 4 if url == "memory://" else [0, 40, 40, 40])
    assert sum(count for count, _ in results) == (100 if url == "memory://" else 40)
    asyncio.run(storage.close())


ENDED = """
import asyncio, gc, sys
from ratesim import Limit
from ratesim.storage import open_storage

LIMIT, storage = Limit(100, 3600, "fixed_window"), open_storage(sys.argv[1])

async def begin(seconds):
    await storage.open()
    under_way = [asyncio.create_task(storage.acquire(f"{k}", LIMIT)) for k in range(50)]
    await asyncio.sleep(seconds)

for k in range(20):
    asyncio.run(begin(k / 5000))
del storage
gc.collect()
"""


def test_a_loop_that_ends_with_work_in_flight_reports_nothing(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", ENDED, url], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
