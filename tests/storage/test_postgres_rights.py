"""The printed script gives an application the rights that it needs, under each strategy, and not one more."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from ratesim.errors import StorageError
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig
from ratesim.storage.base import Charge, Request
from ratesim.storage.partitions import parse_partition
from ratesim.storage.postgres import PostgresDriver

NOW = 1_700_000_000.0
STRATEGIES = ("none", "hash:3", "time:1d", "identifier:tenant-*,it's $$ {{table}} %s-*")
LIMIT = Limit(5, 60, "adaptive")


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    name = f"d_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield conninfo.make_conninfo(postgres_server.url, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def role(database: str) -> Iterator[str]:
    name = f"role_{uuid.uuid4().hex[:8]}"
    execute(database, f"CREATE ROLE {name} LOGIN")
    yield name
    execute(database, f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def execute(url: str, script: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(script.encode())
        return cursor.fetchall() if cursor.description else []


def config_of(url: str, strategy: str, **options: Any) -> PostgresStorageConfig:
    given: dict[str, Any] = {"table_name": "limits", "schema": "apart", "command_timeout": 20.0, **options}
    return PostgresStorageConfig(url=url, partition_strategy=parse_partition(strategy), **given)


async def every_verb(url: str, strategy: str) -> None:
    """Do everything that an application does, each time in a storage of its own."""
    async with PostgresStorage(config_of(url, strategy), AsyncioRuntime(lambda: NOW)) as storage:
        pair = (LIMIT, Limit(50, 60.0, "fixed_window", name="other"))
        for identifier in (uuid.uuid4().hex, "tenant-1"):
            await storage.acquire(identifier, LIMIT, now=NOW)
            await storage.acquire(identifier, pair, now=NOW)
            await storage.acquire_many([Request(f"{identifier} {i}", LIMIT, 1.0, NOW) for i in range(3)])
            await storage.peek(identifier, LIMIT, now=NOW)
            await storage.charge_many([Charge(identifier, LIMIT, "n", 1, 0.0, ((NOW, 0.5, 1),))])
            await storage.observe(identifier, LIMIT, 0.5, NOW)
            state = await storage.get_state(identifier)
            assert state is not None
            await storage.set_state(f"{identifier} copy", state)
            await storage.increment(identifier, 1, 60.0)
            await storage.reset(identifier)
        await storage.driver.add_denials({("x", ""): 2})
        turn = await storage.driver.take_turn(1e-9)
        assert turn is not None
        await storage.driver.end_turn(0)
        await storage.cleanup_expired()
        stats = await storage.get_stats()
        if stats.partitions is None:
            raise LookupError("the view cannot be read")
        assert not storage.client.errors


async def message_of(url: str, strategy: str) -> str:
    try:
        await every_verb(url, strategy)
    except (StorageError, LookupError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_printed_rights_are_enough_and_each_is_needed(database: str, role: str, strategy: str) -> None:
    script = PostgresDriver(config_of(database, strategy)).schema((LIMIT.algorithm, "fixed_window"), role)
    execute(database, script)
    execute(database, script)
    url = conninfo.make_conninfo(database, user=role)
    await every_verb(url, strategy)
    if strategy != "time:1d":  # whose rights are all that there are
        return
    grants = re.findall(rf'^GRANT (.*?) (ON .*) TO "{role}";$', script, re.MULTILINE)
    single = [(right, on) for rights, on in grants for right in rights.split(", ") if right != "EXECUTE"]
    single = [(right, f"ON {name}") for right, on in single for name in re.findall(r'(SCHEMA ".*"|"apart"\."\w+")', on)]
    assert len(single) == 1 + 3 * 4 + 3 + 1 + 1
    called = sorted({on for rights, on in grants if rights == "EXECUTE" and re.search("acquire|increment|until", on)})
    needless = []
    for right, on in [*single, ("EXECUTE", called[0]), ("EXECUTE", called[-1])]:
        execute(database, f"REVOKE {right} {on} FROM {role}, PUBLIC")
        message = await message_of(url, strategy)
        if not re.search(r"permission denied .*: let an administrator run `ratesim schema|the view cannot be read", message):
            needless.append((right, on, message))
        execute(database, f"GRANT {right} {on} TO {role}")
    assert needless == []
    await every_verb(url, strategy)


async def test_the_role_that_may_rotate_is_told_in_comments(database: str, role: str) -> None:
    script = PostgresDriver(config_of(database, "time:1m")).schema(("adaptive", "fixed_window"), role)
    execute(database, script)
    url = conninfo.make_conninfo(database, user=role)
    execute(database, "UPDATE apart.limits_periods SET period = period - interval '10 minutes'")
    async with PostgresStorage(config_of(url, "time:1m")) as storage:
        with pytest.raises(StorageError, match="may not rotate the partitions"):
            await storage.driver.rotate(0.0)
        queries = re.findall(r"^-- (SELECT .*) \\gexec$", script, re.MULTILINE)
        assert len(queries) == 2
        for query in queries:
            execute(database, ";".join(row[0] for row in execute(database, query)))
        rights = re.findall(rf'^-- ((?:ALTER|GRANT) .* TO "{role}";)$', script, re.MULTILINE)
        assert len(rights) == 2
        execute(database, "".join(rights))
        await storage.driver.rotate(0.0)
        await storage.acquire("x", Limit(5, 60, "fixed_window"))


@pytest.mark.parametrize("strategy", ["hash:3", "time:1d", "identifier:tenant-*"])
async def test_the_script_of_another_strategy_is_refused(database: str, strategy: str) -> None:
    execute(database, PostgresDriver(config_of(database, strategy)).schema(("gcra",)))
    for other in {"none", "hash:3", "hash:4", "time:1d", "identifier:tenant-*", "identifier:free-*"} - {strategy}:
        with pytest.raises(psycopg.errors.RaiseException, match="is cut into partitions otherwise than the URL says"):
            execute(database, PostgresDriver(config_of(database, other)).schema(("gcra",)))
