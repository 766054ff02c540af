"""Several threads use one MemoryStorage, on loops of their own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.storage import Charge, MemoryStorage, MemoryStorageConfig, Request
from ratesim.storage.eviction import POLICIES

NOW = 1_700_000_000.0
THREADS = 4


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], object]) -> None:
    """Do work(0), work(1), ... side by side; what any of them raises is raised."""
    failed: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def one(number: int) -> None:
        try:
            together.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("algorithm", names())
def test_threads_together_get_what_the_limit_admits(algorithm: str) -> None:
    storage, limit = MemoryStorage(), Limit(1024, 4096.0, algorithm)
    admitted = [0] * THREADS

    def ask(number: int) -> None:
        async def all_of_them() -> None:
            for _ in range(500):
                admitted[number] += (await storage.acquire("user", limit, now=NOW)).allowed

        asyncio.run(all_of_them())

    in_threads(ask)
    assert sum(admitted) == 1024
    state = storage.entries["user"]
    assert state.request_count == 1024  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", POLICIES)
def test_whatever_threads_do_a_full_store_stays_whole(policy: str) -> None:
    storage = MemoryStorage(MemoryStorageConfig(max_entries=20, memory_limit=100_000, eviction_policy=policy))
    log, bucket = Limit(20, 3600.0, "sliding_log", name="log"), Limit(20, 3600.0, "token_bucket")

    def use(number: int) -> None:
        async def everything() -> None:
            for step in range(300):
                user = f"user {(step * 7 + number) % 30}"
                await storage.acquire(user, bucket, 1.0, NOW)
                await storage.acquire(user, (bucket, log), 1.0, NOW)
                await storage.increment(user, 1, 60.0)
                await storage.charge_many([Charge(user, bucket, f"node {number}", 1, 0.0, ((NOW, 1.0, 1),))])
                if step % 5 == 0:
                    await storage.reset(user)
                    await storage.cleanup_expired()
                    assert (await storage.get_stats()).entries <= 20

        asyncio.run(everything())

    in_threads(use)
    for user in range(30):
        storage.reset_nowait(f"user {user}")
    assert not storage.entries
    assert storage._entries._named == {}


def test_what_threads_wrote_is_found_again(tmp_path: Path) -> None:
    config = MemoryStorageConfig(persist_to_disk=str(tmp_path), fsync="never")
    limit = Limit(10_000, 3600.0, "token_bucket")

    async def write() -> MemoryStorage:
        async with MemoryStorage(config) as storage:

            def ask(number: int) -> None:
                asyncio.run(storage.acquire_many([Request(f"user {step % 9}", limit) for step in range(300)]))

            await asyncio.to_thread(in_threads, ask)
            return storage

    async def read() -> MemoryStorage:
        async with MemoryStorage(config) as storage:
            return storage

    wrote, found = asyncio.run(write()), asyncio.run(read())
    assert {key: entry.request_count for key, entry in found.entries.items()} == {  # type: ignore[union-attr]
        key: entry.request_count  # type: ignore[union-attr]
        for key, entry in wrote.entries.items()
    }
    assert sum(entry.request_count for entry in found.entries.values()) == THREADS * 300  # type: ignore[union-attr]
