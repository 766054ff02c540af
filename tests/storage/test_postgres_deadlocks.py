"""Statements that meet on the same rows of PostgreSQL in other orders wait for each other, and none is a deadlock."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from ratesim import Limit
from ratesim.servers import Server
from ratesim.storage import HybridStorage, HybridStorageConfig, PostgresStorage, PostgresStorageConfig, RateLimitStorage
from ratesim.storage.base import Charge, Request

STRATEGIES = [None, "hash:3", "time:1m", "identifier:a-*,b-*"]
KEYS = [f"{prefix}-{number}" for prefix in "abc" for number in range(4)]
LIMITS = [
    Limit(1e6, 3600, "fixed_window"),
    Limit(1e6, 3600, "token_bucket", name="bucket"),
    Limit(50, 3600, "sliding_log", name="log"),
]
ADAPTIVE = Limit(1e6, 3600, "adaptive", name="adaptive")
PATIENT: dict[str, Any] = {
    "pool_size": 6,
    "connection_timeout": 60.0,
    "command_timeout": 60.0,
    "synchronous_commit": "off",
    "cleanup_interval": 0,
}


@pytest.fixture
async def database(postgres_server: Server) -> AsyncIterator[str]:
    """The URL of a database of the test's own, in which a deadlock is found after a moment."""
    name = f"d_{uuid.uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(postgres_server.url, autocommit=True) as admin:
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
        yield conninfo.make_conninfo(postgres_server.url, dbname=name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def batch(rng: random.Random, limits: list[Limit]) -> list[Request]:
    """Requests of many keys in some order; one of them is there twice."""
    keys = rng.sample(KEYS, rng.randint(2, len(KEYS)))
    return [Request(key, rng.choice(limits)) for key in [*keys, keys[0]]]


def charges(rng: random.Random, epoch: int) -> list[Charge]:
    keys = rng.sample(KEYS, rng.randint(2, len(KEYS)))
    return [Charge(key, LIMITS[0], f"n{epoch}", epoch, 0.0, ((1.7e9, 1.0, 1),)) for key in keys]


def verbs(storage: RateLimitStorage, rng: random.Random, epochs: Iterator[int]) -> list[Callable[[], Awaitable[Any]]]:
    """What a task does, each on rows that the others use as well."""
    key = rng.choice(KEYS)
    several = [*LIMITS, ADAPTIVE]

    async def put() -> None:
        states = [(each, await storage.get_state(each), None) for each in rng.sample(KEYS, 4)]
        await storage.batch_set([(each, state, ttl) for each, state, ttl in states if state is not None])

    return [
        lambda: storage.acquire_many(batch(rng, LIMITS[:1])),
        lambda: storage.acquire_many(batch(rng, LIMITS)),
        lambda: storage.acquire(key, tuple(rng.sample(several, 3))),
        lambda: storage.charge_many(charges(rng, next(epochs))),
        lambda: storage.observe(key, (ADAPTIVE, Limit(9, 60, "adaptive", name="x")), rng.random()),
        lambda: asyncio.gather(*(storage.increment(each, 1, 60.0) for each in rng.sample(KEYS, 4))),
        lambda: storage.claim(f"{key}.claim", f"h{next(epochs)}", 0.001),
        put,
        lambda: storage.reset(key),
        storage.cleanup_expired,
        storage.get_stats,
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rounds", [12, pytest.param(400, marks=pytest.mark.nightly)])
async def test_no_mixture_of_verbs_is_a_deadlock(database: str, strategy: str | None, rounds: int) -> None:
    epochs = iter(range(10**9))
    config = PostgresStorageConfig(url=database, partition_strategy=strategy, **PATIENT)  # type: ignore[arg-type]
    near = HybridStorageConfig(sync_interval=0.005, l1_ttl=0.01, max_wait=60.0)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(PostgresStorage(config)) for _ in range(2)]
        hybrids = [await stack.enter_async_context(HybridStorage(PostgresStorage(config), near)) for _ in range(2)]
        ended = False

        async def mixture(storage: RateLimitStorage, seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(rounds):
                await rng.choice(verbs(storage, rng, epochs))()

        async def flush(storage: RateLimitStorage, seed: int) -> None:
            rng = random.Random(seed)
            while not ended:
                await storage.acquire(rng.choice(KEYS), LIMITS[0])
                await asyncio.sleep(0)

        beside = [asyncio.create_task(flush(hybrid, 100 + k)) for k, hybrid in enumerate(hybrids) for _ in range(4)]
        try:
            await asyncio.gather(*(mixture(node, 10 * k + number) for k, node in enumerate(nodes) for number in range(8)))
        finally:
            ended = True
            await asyncio.gather(*beside)
        assert all(hybrid.sync_stats().flushes > 0 for hybrid in hybrids)
        assert not any(node.client.errors for node in nodes)
    assert await deadlocks(database) == 0


async def deadlocks(database: str) -> int:
    """Return how many the server has found, once the sessions that counted them have ended."""
    found = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        async with asyncio.timeout(60):
            while True:
                if await (await connection.execute(found)).fetchone() == (1,):
                    break
                await asyncio.sleep(0.02)
        cursor = await connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_deadlock_would_be_counted(database: str) -> None:
    """The tests of this file look where the server counts."""
    async with (
        await psycopg.AsyncConnection.connect(database, autocommit=True) as one,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as other,
    ):
        await one.execute("CREATE TABLE t AS SELECT k FROM generate_series(1, 2) AS k")
        update = b"BEGIN; UPDATE t SET k = k WHERE k = %d"
        await asyncio.gather(one.execute(update % 1), other.execute(update % 2))
        again = b"UPDATE t SET k = k WHERE k = %d"
        told = await asyncio.gather(one.execute(again % 2), other.execute(again % 1), return_exceptions=True)
        assert sum(isinstance(each, psycopg.errors.DeadlockDetected) for each in told) == 1
        await asyncio.gather(one.rollback(), other.rollback())
    assert await deadlocks(database) == 1
