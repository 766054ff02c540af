"""PostgreSQL: its tables and its failures. What it decides: test_conformance.py and test_twins.py."""

from __future__ import annotations

import asyncio
import random
import uuid

import psycopg
import pytest

from ratesim import Limit
from ratesim.errors import Config, ConnectionFailed, StorageError
from ratesim.limit import InvalidLimit
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig, Request

NOW = 1_700_000_000.0


def config(server: Server, **options: object) -> PostgresStorageConfig:
    return PostgresStorageConfig(url=server.url, table_name=f"t_{uuid.uuid4().hex[:12]}", **options)  # type: ignore[arg-type]


async def test_nodes_that_start_at_once_share_the_limit_exactly(postgres_server: Server) -> None:
    shared = config(postgres_server, pool_size=2)
    nodes = [PostgresStorage(shared) for _ in range(6)]
    limit = Limit(50, 60.0, "token_bucket")
    decisions = await asyncio.gather(*(nodes[k % 6].acquire("hot", limit, now=NOW) for k in range(120)))
    for node in nodes:
        await node.close()
    assert sum(decision.allowed for decision in decisions) == 50


async def test_batches_that_overlap_in_another_order_never_deadlock(postgres_server: Server) -> None:
    shared = config(postgres_server, pool_size=3, command_timeout=20.0)
    names = [f"user:{k}" for k in range(60)]
    limit = Limit(1000, 60.0, "fixed_window")
    rng = random.Random(1)
    async with PostgresStorage(shared) as storage:
        batches = []
        for _ in range(24):
            rng.shuffle(names)
            batches.append([Request(name, limit, 1.0, NOW) for name in names])
        await asyncio.gather(*(storage.acquire_many(batch) for batch in batches))
        assert all(decision.remaining == 1000 - 24 for decision in [await storage.peek(names[0], limit, now=NOW)])
        stats = await storage.get_stats()
    assert stats.errors == {}


async def test_a_person_can_read_the_state(postgres_server: Server) -> None:
    shared = config(postgres_server)
    async with PostgresStorage(shared) as storage:
        await storage.acquire("user:1", Limit(10, 60.0, "token_bucket", name="plan"), now=NOW)
    async with await psycopg.AsyncConnection.connect(postgres_server.url) as connection:
        cursor = await connection.execute(f"SELECT * FROM {shared.table_name}")
        row = dict(zip([column.name for column in cursor.description or ()], (await cursor.fetchall())[0], strict=True))
    assert (row["identifier"], row["name"], row["algorithm"]) == ("user:1", "plan", "token_bucket")
    assert row["state"] == [NOW, 9.0]
    assert row["request_count"] == 1
    assert row["expires_at"].timestamp() == NOW + 6.0 + 1.0


async def test_an_identifier_with_a_nul_is_refused(postgres_server: Server) -> None:
    async with PostgresStorage(config(postgres_server)) as storage:
        with pytest.raises((InvalidLimit, StorageError), match="NUL"):
            await storage.acquire("a\x00b", Limit(10, 60.0), now=NOW)


async def test_unlogged_tables_are_unlogged(postgres_server: Server) -> None:
    shared = config(postgres_server, unlogged=True)
    async with PostgresStorage(shared), await psycopg.AsyncConnection.connect(postgres_server.url) as connection:
        cursor = await connection.execute("SELECT relpersistence FROM pg_class WHERE relname = %s", (shared.table_name,))
        assert await cursor.fetchall() == [("u",)]


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    storage = PostgresStorage(PostgresStorageConfig(url="postgresql://me:secret@127.0.0.1:1/db", retries=0))
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1/db") as caught:
        await storage.open()
    assert not (await storage.health_check()).healthy
    await storage.close()
    assert "secret" not in str(caught.value) + repr(storage)


@pytest.mark.parametrize("name", ["a b", "x; DROP TABLE y", "Upper", "1st", "", "x" * 41])
def test_a_table_name_that_would_need_quoting_is_refused(name: str) -> None:
    with pytest.raises(Config, match="table_name"):
        PostgresStorageConfig(table_name=name)
