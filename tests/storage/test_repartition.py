"""Tables are converted to another partition strategy while nodes decide: nothing is lost, and everything follows."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deciding_script import LIMIT, NOW
from psycopg import conninfo

from ratesim.errors import ConfigurationError, StorageError
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig
from ratesim.storage.base import Request
from ratesim.storage.partitions import parse_partition
from ratesim.storage.postgres.repartition import repartition

HERE = Path(__file__).parent
STRATEGIES = ("none", "hash:3", "time:1d", "identifier:tenant-*,free-*")
PATIENT = "command_timeout=20&connection_timeout=20"


class Database:
    """A database of the test's own, with a table `limits`."""

    def __init__(self, server_url: str) -> None:
        self.name = f"d_{uuid.uuid4().hex[:12]}"
        self.url = server_url.replace("/postgres?", f"/{self.name}?")

    def execute(self, script: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(script.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def config(self, partition: str, **options: Any) -> PostgresStorageConfig:
        given: dict[str, Any] = {"url": self.url, "table_name": "limits", "command_timeout": 20.0, **options}
        return PostgresStorageConfig(partition_strategy=parse_partition(partition), **given)

    def storage(self, partition: str = "none", **options: Any) -> PostgresStorage:
        return PostgresStorage(self.config(partition, **options), AsyncioRuntime(lambda: NOW))

    async def fill(self, partition: str = "none", keys: int = 50, **options: Any) -> None:
        """Charge keys and count hits."""
        async with self.storage(partition, **options) as storage:
            names = [f"{('tenant-', 'free-', '')[i % 3]}{i}" for i in range(keys)]
            for i in range(1, 4):
                await storage.acquire_many([Request(name, LIMIT, float(i), NOW) for name in [*names, ""]])
            for name in names[::5]:
                await storage.increment(name, len(name), 1e9)

    def rows(self) -> list[Any]:
        """Return all rows without what a conversion may change."""
        states = "SELECT identifier, name, algorithm, state, request_count, created_at, expires_at FROM limits ORDER BY 1, 2"
        counters = "SELECT identifier, count, expires_at FROM limits_counters ORDER BY 1"
        return [self.execute(states), self.execute(counters)]

    def catalog(self) -> list[Any]:
        """Describe all relations and their indexes, bounds, parameters, constraints, owners and rights."""
        return self.execute(
            "SELECT c.relname, c.relkind::text, c.relpersistence::text, pg_get_userbyid(c.relowner), c.relacl::text, "
            "(SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) AS o), pg_get_expr(c.relpartbound, c.oid), "
            "pg_get_partkeydef(c.oid), pg_get_indexdef(c.oid), CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, "
            "ARRAY(SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = c.oid ORDER BY 1), "
            "ARRAY(SELECT t.tgname::text FROM pg_trigger AS t WHERE t.tgrelid = c.oid ORDER BY 1) "
            "FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 't' ORDER BY 1"
        )

    def leftovers(self) -> list[Any]:
        """Return what a conversion makes, and removes."""
        return self.execute(
            "SELECT relname::text FROM pg_class WHERE relname LIKE '%\\_new\\_%' UNION "
            "SELECT proname::text FROM pg_proc WHERE proname LIKE '%mirror' UNION "
            "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal"
        )


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Database]:
    made = Database(postgres_server.url)
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {made.name}")
        yield made
        connection.execute(f"DROP DATABASE {made.name} WITH (FORCE)")


def circuit(strategies: tuple[str, ...]) -> list[str]:
    """Return a walk that begins and ends with the first and takes each ordered pair once."""
    path, left, way = [strategies[0]], set(itertools.permutations(strategies, 2)), []
    while path:
        following = [pair for pair in sorted(left) if pair[0] == path[-1]]
        if following:
            left.remove(following[0])
            path.append(following[0][1])
        else:
            way.append(path.pop())
    return way[::-1]


# -- nothing is lost --------------------------------------------------------------------------------------------------


def test_four_processes_decide_exactly_while_the_table_is_converted(database: Database) -> None:
    url = f"{database.url}&table_name=limits&synchronous_commit=off&retries=0&pool_size=4&{PATIENT}"
    command = [sys.executable, str(HERE / "deciding_script.py"), url]
    nodes = [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    try:
        for node in nodes:
            assert node.stdout is not None
            assert node.stdout.readline() == b"ready\n"
        for strategy in (*STRATEGIES[1:], STRATEGIES[0]):
            asyncio.run(repartition(database.config(strategy)))
        outputs = [node.communicate(b"") for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    assert "".join(error.decode() for _, error in outputs) == ""
    told: Counter[str] = Counter()
    for output, _ in outputs:
        told.update(json.loads(output))
    counted = told.pop("counted")
    assert counted > 0
    assert database.execute("SELECT sum(count) FROM limits_counters WHERE identifier LIKE 'count %'") == [(counted,)]
    stored = {key: int(count) for key, count in database.execute("SELECT identifier, state[2] FROM limits")}
    assert stored == {key: count for key, count in told.items() if count}
    assert max(stored.values()) == LIMIT.rate
    assert not database.leftovers()


@pytest.mark.parametrize(
    ("unlogged", "strategies"),
    [
        pytest.param(False, STRATEGIES, id="logged"),
        pytest.param(True, ("none", "time:1d"), id="unlogged, a pair"),
        pytest.param(True, STRATEGIES, id="unlogged", marks=pytest.mark.nightly),
    ],
)
async def test_between_all_pairs_of_strategies_the_rows_stay_and_the_table_is_as_a_new_one(
    database: Database, unlogged: bool, strategies: tuple[str, ...]
) -> None:
    fresh = {}
    for strategy in strategies:
        async with database.storage(strategy, unlogged=unlogged):
            fresh[strategy] = database.catalog()
        database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await database.fill(unlogged=unlogged)
    rows = database.rows()
    for strategy in circuit(strategies)[1:]:
        await repartition(database.config(strategy))
        assert database.rows() == rows
        assert database.catalog() == fresh[strategy]
    async with database.storage(unlogged=unlogged) as storage:
        assert (await storage.acquire("tenant-0", LIMIT, now=NOW)).remaining == 2


async def test_every_change_of_a_row_reaches_the_copy(database: Database) -> None:
    """Whatever writes to the old table while the copy is there: deciders, an administrator, a cleanup."""
    await database.fill()
    changes = [
        "UPDATE limits SET metadata = '{\"a\": \"b\"}', request_count = 99 WHERE identifier = 'tenant-0'",
        "UPDATE limits SET identifier = 'renamed' WHERE identifier = 'tenant-3'",
        "DELETE FROM limits WHERE identifier = 'free-1'",
        "INSERT INTO limits SELECT 'added', name, algorithm, state, watermarks, metadata, 7, created_at, last_accessed, "
        "expires_at FROM limits WHERE identifier = 'tenant-6'",
        "INSERT INTO limits SELECT * FROM limits WHERE identifier = 'tenant-9' "
        "ON CONFLICT (identifier, name) DO UPDATE SET request_count = 5",
        "DELETE FROM limits_counters WHERE identifier = '5'",
        "UPDATE limits_counters SET count = count + 1",
    ]
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute("SELECT FROM limits")  # the swap waits for this transaction
        converting = asyncio.create_task(repartition(database.config("time:1h")))
        await until(database, waiting_for_the_swap, converting)
        for change in changes:
            assert await asyncio.to_thread(rejected_isolations, database, change) == ["repeatable read", "serializable"]
            await asyncio.to_thread(database.execute, change)
        rows = database.rows()
        await other.rollback()
        await converting
    assert database.rows() == rows
    assert len(rows[0]) == 51
    assert not database.leftovers()


async def test_a_table_that_is_emptied_while_it_is_converted_is_empty(database: Database) -> None:
    await database.fill()
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute("SELECT FROM limits_counters WHERE identifier = '5' FOR UPDATE")
        converting = asyncio.create_task(repartition(database.config("hash:2")))
        await until(database, copying, converting)
        await asyncio.to_thread(database.execute, "TRUNCATE limits")
        await other.rollback()
        await converting
    states, counters = database.rows()
    assert (len(states), len(counters)) == (0, 10)


def rejected_isolations(database: Database, change: str) -> list[str]:
    """Return the isolations in which a change is refused, since it might miss a row that was copied after it began."""
    rejected = []
    for level in ("repeatable read", "serializable"):
        with psycopg.connect(database.url) as connection:
            connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
            try:
                connection.execute(change.encode())
            except psycopg.errors.SerializationFailure:
                rejected.append(level)
            connection.rollback()
    return rejected


def waiting_for_the_swap(database: Database) -> bool:
    return database.execute(
        "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted AND relation IN ("
        "SELECT oid FROM pg_class WHERE relname LIKE 'limits%')"
    ) == [(True,)]


def copying(database: Database) -> bool:
    """Return whether the copy waits for a row that another transaction has locked."""
    return database.execute(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%FOR SHARE%' AND wait_event_type = 'Lock'"
    ) == [(True,)]


async def until(database: Database, happens: Callable[[Database], bool], work: asyncio.Task[Any] | None = None) -> None:
    while not await asyncio.to_thread(happens, database):
        if work is not None and work.done():
            raise AssertionError(f"it ended before: {work}")


# -- interrupted ------------------------------------------------------------------------------------------------------

HOLDS = {copying: "SELECT FROM limits WHERE identifier = 'tenant-30' FOR UPDATE"}
HOLDS[waiting_for_the_swap] = "SELECT FROM limits"


@pytest.mark.parametrize(
    ("how", "where"),
    [
        pytest.param(signal.SIGKILL, waiting_for_the_swap, id="kill -9 before it swaps"),
        pytest.param(signal.SIGINT, copying, id="Ctrl-C while it copies"),
        pytest.param(signal.SIGKILL, copying, id="kill -9 while it copies", marks=pytest.mark.nightly),
        pytest.param(signal.SIGINT, waiting_for_the_swap, id="Ctrl-C before it swaps", marks=pytest.mark.nightly),
    ],
)
async def test_an_interrupted_conversion_changes_nothing_and_starts_over(
    database: Database, how: signal.Signals, where: Callable[[Database], bool]
) -> None:
    await database.fill()
    url = f"{database.url}&table_name=limits&partition=hash:2&{PATIENT}"
    command = [sys.executable, "-m", "ratesim", "repartition", url]
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute(HOLDS[where].encode())
        node = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            await until(database, where)
            second = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
            _, message = await second.communicate()
            assert second.returncode == 2
            assert b"is being converted by another `ratesim repartition`: wait for it" in message
            node.send_signal(how)
            if how == signal.SIGINT:
                await other.rollback()  # what it removes needs the lock
            await node.communicate()
        finally:
            if node.returncode is None:
                node.kill()
                await node.communicate()
        await other.rollback()
    assert bool(database.leftovers()) == (how == signal.SIGKILL)
    async with database.storage() as storage:
        assert (await storage.acquire("tenant-0", LIMIT, now=NOW)).remaining == 2
        assert (await storage.acquire("brand new", LIMIT, now=NOW)).remaining == 8
        rows = database.rows()
        await repartition(database.config("hash:2"))
        assert database.rows() == rows
        assert (await storage.acquire("brand new", LIMIT, now=NOW)).remaining == 7
    assert not database.leftovers()


async def test_what_a_killed_conversion_left_goes_also_when_nothing_is_to_be_done(database: Database) -> None:
    await database.fill()
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute("SELECT FROM limits")
        url = f"{database.url}&table_name=limits&partition=time:1d&{PATIENT}"
        node = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ratesim", "repartition", url, stderr=subprocess.DEVNULL
        )
        await until(database, waiting_for_the_swap)
        node.kill()
        await node.wait()
    assert database.leftovers()
    with pytest.raises(ConfigurationError, match=r"is cut by none already: nothing is to be done"):
        await repeated(lambda: repartition(database.config("none")))
    assert not database.leftovers()


async def repeated(work: Callable[[], Any]) -> None:
    """Do work again for as long as the server has not missed the killed conversion."""
    message = "being converted by another"
    while "being converted by another" in message:
        try:
            await work()
        except ConfigurationError:
            raise
        except StorageError as error:
            message = str(error)
    raise AssertionError(message)


# -- what follows, and what does not ----------------------------------------------------------------------------------


async def test_owner_rights_parameters_and_views_follow(database: Database) -> None:
    await database.fill()
    names = [f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("owner", "app", "viewer")]
    owner, app, viewer = names
    try:
        database.execute(
            f"CREATE ROLE {owner} LOGIN; CREATE ROLE {app} LOGIN; CREATE ROLE {viewer} LOGIN;"
            f"GRANT CREATE, USAGE ON SCHEMA public TO {owner}; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;"
            f"ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
            f"ALTER TABLE limits OWNER TO {owner}; ALTER TABLE limits_counters OWNER TO {owner};"
            "ALTER TABLE limits SET (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 55);"
            "ALTER TABLE limits SET (toast.autovacuum_enabled = off);"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON limits, limits_counters, limits_denied, limits_upkeep TO {app};"
            f"GRANT SELECT ON limits TO {viewer} WITH GRANT OPTION; GRANT UPDATE (metadata) ON limits TO {viewer};"
            "CREATE VIEW busy WITH (security_barrier) AS SELECT identifier, l.request_count + 1 AS n FROM limits AS l;"
            f"GRANT SELECT ON busy TO {viewer}"
        )
        as_owner = database.config("time:1d", url=conninfo.make_conninfo(database.url, user=owner))
        with pytest.raises(ConfigurationError, match=r"\(view public.busy of another owner\)"):
            await repartition(as_owner)
        grants = (
            "SELECT grantee, privilege_type, is_grantable FROM information_schema.table_privileges "
            "WHERE table_name IN ('limits', 'limits_counters', 'busy') ORDER BY 1, 2, 3"
        )
        column = "SELECT attacl::text FROM pg_attribute WHERE attrelid = 'limits'::regclass AND attname = 'metadata'"
        before = [database.execute(query) for query in (grants, column)]
        busy = database.execute("SELECT * FROM busy ORDER BY identifier")
        await repartition(database.config("hash:2"))
        assert [database.execute(query) for query in (grants, column)] == before
        assert database.execute("SELECT * FROM busy ORDER BY identifier") == busy
        database.execute("UPDATE limits SET request_count = 1000 WHERE identifier = 'tenant-0'")
        assert database.execute("SELECT n FROM busy WHERE identifier = 'tenant-0'") == [(1001,)]
        assert database.execute("SELECT reloptions FROM pg_class WHERE relname = 'busy'") == [(["security_barrier=true"],)]
        for part in ("limits_h0", "limits_h1"):
            ((found, toast, own),) = database.execute(
                "SELECT c.reloptions, t.reloptions, pg_get_userbyid(c.relowner) FROM pg_class AS c "
                "JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.relname = %s",
                part,
            )
            assert set(found) >= {"autovacuum_vacuum_scale_factor=0.01", "fillfactor=55"}
            assert (toast, own) == (["autovacuum_enabled=off"], owner)
        # A role that may use the table decides on, although it may create nothing and functions are not everybody's.
        async with database.storage("none", url=conninfo.make_conninfo(database.url, user=app)) as storage:
            assert (await storage.acquire("tenant-3", LIMIT, now=NOW)).remaining == 2
            database.execute(f"ALTER VIEW busy OWNER TO {owner}; ALTER VIEW limits_top_keys OWNER TO {owner}")
            await repartition(as_owner)
            assert (await storage.acquire("tenant-3", LIMIT, now=NOW)).remaining == 1
            assert (await storage.acquire("later", LIMIT, now=NOW)).remaining == 8
            assert await storage.increment("later", 2, 60.0) == 2
    finally:
        database.execute("; ".join(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}" for name in names))


OBSTACLES = {
    "index": ("CREATE INDEX mine ON limits (expires_at)", "index public.mine"),
    "trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER mine BEFORE INSERT ON limits_counters FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger mine",
    ),
    "column": ("ALTER TABLE limits ADD COLUMN tenant text", "column tenant"),
    "materialized view": ("CREATE MATERIALIZED VIEW mine AS SELECT identifier FROM limits", "view public.mine"),
    "publication": ("CREATE PUBLICATION mine FOR TABLE limits", "publication of table"),
    "foreign key": ("CREATE TABLE mine (i text, n text, FOREIGN KEY (i, n) REFERENCES limits)", "constraint mine"),
    "policy": ("CREATE POLICY mine ON limits USING (true)", "policy mine"),
    "type": ("CREATE FUNCTION mine(limits) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.mine"),
}


@pytest.mark.parametrize("kind", OBSTACLES)
async def test_what_would_not_follow_is_named_before_anything_is_done(database: Database, kind: str) -> None:
    ddl, name = OBSTACLES[kind]
    async with database.storage():
        database.execute(ddl)
        before = database.catalog()
        with pytest.raises(ConfigurationError, match=rf"would not follow to the new one \(.*{name}.*\): drop it, convert"):
            await repartition(database.config("hash:2"))
        assert database.catalog() == before


# -- refusals ---------------------------------------------------------------------------------------------------------


async def test_it_says_what_it_would_do_and_refuses_what_it_cannot(database: Database) -> None:
    with pytest.raises(ConfigurationError, match=r'there is no table "public"."limits" to convert'):
        await repartition(database.config("hash:2"))
    await database.fill()
    before = database.catalog()
    report = await repartition(database.config("hash:2"), dry_run=True)
    assert report.startswith('would convert "public"."limits" from none to hash:2: 61 rows, ')
    assert database.catalog() == before
    for dry_run in (False, True):
        with pytest.raises(ConfigurationError, match="is cut by none already: nothing is to be done"):
            await repartition(database.config("none"), dry_run=dry_run)
    role = f"role_{uuid.uuid4().hex[:8]}"
    database.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON limits, limits_counters TO {role}")
    url = conninfo.make_conninfo(database.url, user=role)
    try:
        with pytest.raises(StorageError, match=r'may not convert table "public"."limits": name its owner .*postgres'):
            await repartition(database.config("hash:2", url=url))
        database.execute(f"ALTER TABLE limits OWNER TO {role}; ALTER TABLE limits_counters OWNER TO {role}")
        with pytest.raises(StorageError, match=rf"role '{role}' may not create the new tables: .* GRANT CREATE ON SCHEMA"):
            await repartition(database.config("hash:2", url=url))
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h?", "only PostgreSQL"),
        ("postgresql://me:hush@h/db", "names no strategy to convert to; add partition="),
        ("postgresql://me:hush@127.0.0.1:1/db?partition=none", "no PostgreSQL at"),
    ],
)
def test_the_command_refuses_in_one_line(url: str, message: str) -> None:
    command = [sys.executable, "-m", "ratesim", "repartition", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert done.returncode == 2
    assert message in last
    assert "hush" not in done.stderr
