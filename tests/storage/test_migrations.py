"""Tables of an older version are migrated, those of a newer one refused, and nodes of the older version go on deciding."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from ratesim.errors import ConfigurationError, StorageError
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig
from ratesim.storage.postgres import PostgresDriver
from ratesim.storage.postgres.migrations import SCHEMA_VERSION

HERE = Path(__file__).parent
VERSION_1 = (HERE / "version_1.sql").read_text()
NOW = 1_700_000_000.0
LIMIT = Limit(5, 1000, "fixed_window")
# As a node of version 1 calls it.
OLD_ACQUIRE = (
    'SELECT allowed FROM "public"."limits_acquire_fixed_window_be59617c6f"(ARRAY[%s], ARRAY[1.0], ARRAY[1.7e9], true, '
    "ARRAY[''], ARRAY['fixed_window'], ARRAY[5.0, 1000.0], ARRAY[2], ARRAY[2], ARRAY[1000.0], 'on', '5000')"
)
OLD_INCREMENT = (
    'SELECT total FROM "public"."limits_increment_e258f6b2aa"(ARRAY[%s], ARRAY[2], ARRAY[600.0], ARRAY[1.7e9], '
    "'on', '5000')"
)


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    name = f"d_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield conninfo.make_conninfo(postgres_server.url, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def role_of(database: str) -> Iterator[str]:
    """Make a role that may do nothing; yields the URL with which it logs in."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    execute(database, f"CREATE ROLE {name} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        yield conninfo.make_conninfo(database, user=name)
    finally:
        execute(database, f"DROP OWNED BY {name}; DROP ROLE {name}")


def execute(url: str, script: str, *values: Any) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(script.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def storage_at(url: str, **options: Any) -> PostgresStorage:
    patient: dict[str, Any] = {"command_timeout": 30.0, "connection_timeout": 20.0, "table_name": "limits"}
    return PostgresStorage(PostgresStorageConfig(url=url, **{**patient, **options}), AsyncioRuntime(lambda: NOW))


def old_database(database: str) -> None:
    """Make the tables of version 1, with a key that has been charged three times, and a counter."""
    execute(database, VERSION_1)
    assert [execute(database, OLD_ACQUIRE, "x") for _ in range(3)] == [[(True,)]] * 3
    assert execute(database, OLD_INCREMENT, "c") == [(2,)]


def catalog(database: str) -> list[Any]:
    """Describe the tables, views and columns of the database."""
    return execute(
        database,
        "SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull "
        "FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, 3",
    )


async def test_a_table_of_version_1_keeps_its_rows_and_old_nodes_go_on(database: str) -> None:
    old_database(database)
    async with storage_at(database) as storage:
        assert (await storage.acquire("x", LIMIT, now=NOW)).remaining == 1
        assert execute(database, OLD_ACQUIRE, "x") == [(True,)]
        assert not await storage.acquire("x", LIMIT, now=NOW)
        assert execute(database, OLD_ACQUIRE, "x") == [(False,)]
        assert execute(database, OLD_ACQUIRE, "new") == [(True,)]
        assert (await storage.acquire("new", LIMIT, now=NOW)).remaining == 3
        assert await storage.increment("c", 1, 600.0) == 3
        assert execute(database, OLD_INCREMENT, "c") == [(5,)]
    assert execute(database, "SELECT max(version) FROM limits_schema") == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize("how", ["by the node", "by the script"])
async def test_a_migrated_table_is_as_a_new_one(database: str, how: str) -> None:
    script = PostgresDriver(PostgresStorageConfig(url=database, table_name="limits")).schema(("fixed_window",))
    async with storage_at(database):
        new = catalog(database)
    execute(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    old_database(database)
    if how == "by the script":
        execute(database, script)
        execute(database, script)
    async with storage_at(database) as storage:
        assert catalog(database) == new
        assert (await storage.acquire("x", LIMIT, now=NOW)).remaining == 1


def test_eight_processes_that_start_at_once_migrate_once(postgres_server: Server, database: str) -> None:
    old_database(database)
    query = "command_timeout=60&connection_timeout=60&pool_size=1"
    dbname = conninfo.conninfo_to_dict(database)["dbname"]
    url = postgres_server.url.replace("/postgres?", f"/{dbname}?")
    urls = [f"{url}&{query}&table_name={name}" for name in ("limits", "empty")]
    nodes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "opening_script.py"), *urls], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    outputs = [node.communicate() for node in nodes]
    assert [(node.returncode, error) for node, (_, error) in zip(nodes, outputs, strict=True)] == [(0, b"")] * 8
    admitted = [list(map(int, output.split())) for output, _ in outputs]
    assert [sum(each) for each in zip(*admitted, strict=True)] == [2, 5]  # three of "x" had been admitted before
    for table in ("limits", "empty"):
        assert execute(database, f"SELECT version FROM {table}_schema") == [(SCHEMA_VERSION,)]


async def test_an_older_table_that_this_role_may_not_change_says_how_it_is_migrated(database: str) -> None:
    old_database(database)
    with role_of(database) as url:
        name = conninfo.conninfo_to_dict(url)["user"]
        execute(database, f"GRANT ALL ON limits, limits_counters TO {name}")
        storage = storage_at(url)
        with pytest.raises(
            StorageError,
            match=r'table "public"."limits" has schema 1, not 2, and this role may not change it: .*ratesim schema',
        ) as caught:
            await storage.open()
        assert "\n" not in str(caught.value)
        await storage.close()
        execute(database, PostgresDriver(PostgresStorageConfig(url=database, table_name="limits")).schema(role=str(name)))
        async with storage_at(url) as migrated:
            assert (await migrated.acquire("x", LIMIT, now=NOW)).remaining == 1


async def test_a_newer_table_is_refused_by_nodes_and_by_the_script(database: str) -> None:
    async with storage_at(database) as storage:
        await storage.acquire("x", LIMIT, now=NOW)
    execute(database, f"INSERT INTO limits_schema (version) VALUES ({SCHEMA_VERSION + 1})")
    known = rf"newer ratesim \(schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\): upgrade ratesim"
    storage = storage_at(database)
    with pytest.raises(ConfigurationError, match=known):
        await storage.open()
    await storage.close()
    with pytest.raises(psycopg.errors.RaiseException, match=known):
        execute(database, PostgresDriver(PostgresStorageConfig(url=database, table_name="limits")).schema())


async def test_a_migration_waits_for_a_transaction_without_stopping_others_for_long(database: str) -> None:
    old_database(database)
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT FROM limits")  # holds its lock until its transaction ends
        migrating = asyncio.create_task(storage_at(database).open())
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as watch:
            waiting: Any = (0,)
            while waiting == (0,):
                waiting = await (await watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone()
        decided = 0
        for _ in range(5):  # each waits behind the migration for as long as that waits for its lock, and no longer
            decided += (await asyncio.to_thread(execute, database, OLD_ACQUIRE, "y"))[0][0]
        assert decided == 5
        assert not migrating.done()
        await other.rollback()
        await (await migrating).close()
    assert execute(database, "SELECT max(version) FROM limits_schema") == [(SCHEMA_VERSION,)]


def test_the_version_of_a_table_may_be_read_by_every_role(database: str) -> None:
    script = PostgresDriver(PostgresStorageConfig(url=database, table_name="limits")).schema(("gcra",))
    execute(database, script)
    with role_of(database) as url:
        assert execute(url, "SELECT version FROM limits_schema") == [(SCHEMA_VERSION,)]
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL("INSERT INTO limits_schema (version) VALUES (9)"))
