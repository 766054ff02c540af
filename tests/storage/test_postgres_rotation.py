"""Rotation of tables that are cut by time: a key has one row, wherever it lies, and no count is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from ratesim.errors import StorageError, StorageTimeoutError
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres import rotation
from ratesim.storage.postgres.partitioning import AHEAD
from ratesim.storage.postgres.rotation import Rotation, rotate

SPAN = 30 * 86400.0  # none ends while a test runs
LONG = Limit(5, 1e6, "fixed_window")
SHORT = Limit(5, 1.0, "token_bucket")


class World:
    """A storage whose table is cut by time, and a connection of its own."""

    def __init__(self, storage: PostgresStorage, connection: psycopg.Connection[Any]) -> None:
        self.storage = storage
        self.schema = storage.driver._schema
        self.connection = connection

    def sql(self, text: str, *values: Any) -> list[Any]:
        names = {"t": self.schema.table, "c": self.schema.counters, "p": self.schema.periods}
        cursor = self.connection.execute(text.format(**names).encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def go_back(self, spans: int) -> None:
        """Let the partition in use be that of an earlier span, as if nobody had rotated since."""
        ((start,),) = self.sql("SELECT period - %s * span FROM {p}", spans)
        for table in (self.schema.table, self.schema.counters):
            name = f'"p_{uuid.uuid4().hex}"'
            bounds = f"FROM ('{start}') TO ('{start}'::timestamptz + '{SPAN} s')"
            self.sql(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {bounds}")
        self.sql("UPDATE {p} SET period = %s", start)

    async def rotate(self) -> Rotation:
        return await rotate(self.storage.driver.connector, self.schema, time.time())

    def rows(self, identifier: str) -> int:
        return int(self.sql("SELECT count(*) FROM {t} WHERE identifier = %s", identifier)[0][0])

    def places(self) -> set[Any]:
        """The partitions that have rows, by how many spans they lie behind the one in use; those of the default are None."""
        found = self.sql(
            "SELECT DISTINCT CASE WHEN q.id::regclass::text ~ 'default' THEN NULL ELSE "
            "round(extract(epoch FROM p.period - q.period) / extract(epoch FROM p.span)) END FROM {p} AS p, LATERAL ("
            "SELECT tableoid AS id, period FROM {t} UNION ALL SELECT tableoid, period FROM {c}) AS q"
        )
        return {None if each is None else int(each) for (each,) in found}


@asynccontextmanager
async def world_of(server: Server, **options: Any) -> AsyncIterator[World]:
    config = PostgresStorageConfig(
        url=server.url,
        table_name=f"t_{uuid.uuid4().hex[:12]}",
        command_timeout=20.0,
        partition_strategy=ByTime(SPAN),
        **options,
    )
    with psycopg.connect(server.url, autocommit=True) as connection:
        async with PostgresStorage(config) as storage:
            yield World(storage, connection)


@pytest.fixture
async def world(postgres_server: Server) -> AsyncIterator[World]:
    async with world_of(postgres_server, cleanup_interval=0) as world:
        yield world


async def admitted(world: World, identifier: str, limit: Limit, times: int) -> int:
    return sum([(await world.storage.acquire(identifier, limit)).allowed for _ in range(times)])


@pytest.mark.parametrize("spans", [1, 2, 5])
async def test_a_row_that_lives_on_keeps_its_count_wherever_it_lies(world: World, spans: int) -> None:
    world.go_back(spans)
    assert await admitted(world, "a", LONG, 2) == 2
    assert await world.storage.increment("a", 3, 1e6) == 3
    assert world.places() == {0}
    done = await world.rotate()
    assert done.moved == (0 if spans == 1 else 2)
    assert done.dropped == (0 if spans == 1 else 2)
    assert world.places() == ({1} if spans == 1 else {0})
    assert await admitted(world, "a", LONG, 9) == 3
    assert await world.storage.increment("a", 1, 1e6) == 4
    assert world.rows("a") == 1
    assert (await world.rotate())[1:] == (0, 0)


@pytest.mark.parametrize("spans", [1, 2])
async def test_partitions_are_dropped_when_all_in_them_is_over(world: World, spans: int) -> None:
    world.go_back(spans)
    old = time.time() - 500
    for number in range(20):
        assert (await world.storage.acquire(f"k{number}", SHORT, now=old)).allowed
    done = await world.rotate()
    assert done.dropped == 2
    assert done.moved == 0
    assert world.places() == set()
    assert (await world.storage.acquire("k3", SHORT)).allowed


async def test_a_partition_with_one_live_row_stays_until_it_is_moved(world: World) -> None:
    world.go_back(1)
    for number in range(20):
        await world.storage.acquire(f"k{number}", SHORT, now=time.time() - 500)
    await world.storage.acquire("live", LONG)
    assert (await world.rotate()).dropped == 1  # the counters'
    assert world.rows("live") == world.rows("k3") == 1


async def test_a_key_that_comes_back_leaves_a_partition_that_has_ended(world: World) -> None:
    world.go_back(1)
    await world.storage.acquire("k", SHORT, now=time.time() - 500)
    await world.storage.increment("k", 5, 0.001)
    await world.rotate()
    assert world.places() == {1}
    for _ in range(2):
        assert (await world.storage.acquire("k", SHORT)).allowed
        assert await world.storage.increment("k", 1, 1e6) in (1, 2)
    assert world.rows("k") == 1
    assert world.places() == {0}


async def test_partitions_are_made_ahead_and_what_lies_in_the_default_one_is_moved(world: World) -> None:
    made = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{t}'::regclass"
    assert len(world.sql(made)) == 2 + AHEAD
    for (name,) in world.sql(made):
        if "default" not in name:
            world.sql(f"DROP TABLE {name}")
    assert await admitted(world, "a", LONG, 2) == 2
    assert world.places() == {None}
    # The partition in use would hold the row that lies in the default one, so the next comes into use.
    await world.rotate()
    assert world.places() == {0}
    for _ in range(3):
        await world.rotate()
    assert len(world.sql(made)) == 2 + AHEAD - 1
    assert await admitted(world, "a", LONG, 9) == 3
    assert world.rows("a") == 1


async def test_all_that_is_asked_of_times_far_away_is_decided(world: World) -> None:
    before = world.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = '{t}'::regclass")
    for now in (0.0, 1.7e9, 4e9, 1e11):
        for _ in range(2):
            decisions = [(await world.storage.acquire(f"k{now}", LONG, now=now)).allowed for _ in range(4)]
        assert decisions == [True, False, False, False]
        assert world.rows(f"k{now}") == 1
    assert world.places() == {0}
    assert world.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = '{t}'::regclass") == before


async def test_a_role_that_may_not_rotate_is_told_so_and_decides_on(postgres_server: Server) -> None:
    role = f"r_{uuid.uuid4().hex[:8]}"
    async with world_of(postgres_server, cleanup_interval=0) as world:
        await world.storage.acquire("a", LONG)
        world.go_back(3)
        world.sql(f"CREATE ROLE {role} LOGIN")
        script = world.storage.driver.schema(("fixed_window",), role)
        world.sql(script.replace("{", "{{").replace("}", "}}"))
        url = postgres_server.url.replace("postgres@", f"{role}@", 1)
        config = PostgresStorageConfig(url=url, table_name=world.storage.config.table_name, command_timeout=20.0)
        async with PostgresStorage(config) as storage:
            assert (await storage.acquire("b", LONG)).allowed
            with pytest.raises(StorageError, match=r"may not rotate the partitions of .*GRANT owner TO role"):
                await rotate(storage.driver.connector, storage.driver._schema, time.time())
            assert (await storage.acquire("b", LONG)).allowed
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")


async def test_a_long_transaction_of_another_holds_up_rotation_not_decisions(
    world: World, monkeypatch: pytest.MonkeyPatch, postgres_server: Server
) -> None:
    monkeypatch.setattr(rotation, "PAUSE", 0.01)
    world.go_back(2)
    await world.storage.acquire("k", SHORT, now=time.time() - 500)
    with psycopg.connect(postgres_server.url) as backup:
        backup.execute(f"SELECT count(*) FROM {world.schema.table}".encode())
        task = asyncio.create_task(world.rotate())
        for number in itertools.count():
            assert (await world.storage.acquire(f"n{number}", LONG)).allowed
            if task.done():
                break
        with pytest.raises(StorageTimeoutError, match="another transaction holds the lock"):
            await task
        assert world.rows("k") == 1
    assert (await world.rotate()).dropped >= 1
    assert world.rows("k") == 0


async def test_nothing_is_inserted_under_an_isolation_that_would_not_see_all(world: World) -> None:
    await world.storage.acquire("a", LONG)  # its function is there
    world.sql("SET default_transaction_isolation = 'repeatable read'")
    insert = world.schema.statement("insert_row_by_time").partition("FUNCTION ")[2].partition("(")[0]
    with pytest.raises(psycopg.errors.SerializationFailure):
        world.sql(f"SELECT {insert}('b', '', '', '{{{{}}}}', now(), now())")


async def test_what_is_not_cut_by_time_is_not_rotated(postgres_server: Server) -> None:
    config = PostgresStorageConfig(url=postgres_server.url, table_name=f"t_{uuid.uuid4().hex[:12]}", command_timeout=20.0)
    async with PostgresStorage(config) as storage:
        assert await rotate(storage.driver.connector, storage.driver._schema, time.time()) == Rotation(0, 0, 0)
