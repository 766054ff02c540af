"""PostgreSQL's sessions are not relied on: poolers, roles, isolation, settings and names of others change no decision."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pgbouncer
import psycopg
import pytest
from psycopg import conninfo, sql
from transaction_pooler import transaction_pooler

from ratesim import algorithms
from ratesim.errors import ConfigurationError, KeyRefusedError, StorageError, StorageTimeoutError, StorageUnavailableError
from ratesim.limit import Decision, Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage.base import Charge, Request
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.partitions import parse_partition
from ratesim.storage.postgres import PostgresDriver, PostgresStorage, connector, upkeep
from ratesim.storage.postgres.schema import NAME_BYTES, Schema
from ratesim.storage.remote.operations import Acquire

NOW = 1_700_000_000.0
PATIENT: dict[str, Any] = {"command_timeout": 30.0, "connection_timeout": 20.0, "synchronous_commit": "off"}
POOLERS = ["python", *(["pgbouncer"] if pgbouncer.PROGRAM else [])]


@pytest.fixture
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def database(admin: psycopg.AsyncConnection[Any], server: Server) -> AsyncIterator[str]:
    """The URL of a database of the test's own."""
    name = f"d_{uuid.uuid4().hex[:12]}"
    await admin.execute(f"CREATE DATABASE {name}")
    yield conninfo.make_conninfo(server.url, dbname=name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def role(admin: psycopg.AsyncConnection[Any]) -> AsyncIterator[str]:
    """A role whose name must be quoted, and that may do nothing."""
    name = f'Rolle "{uuid.uuid4().hex[:8]}" ñ'
    await admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    yield name
    await admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def storage_at(url: str, **options: Any) -> PostgresStorage:
    return PostgresStorage(PostgresStorageConfig(url=url, **{**PATIENT, **options}), AsyncioRuntime(lambda: NOW))


async def rows_of(url: str, query: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def all_verbs(storage: PostgresStorage, limit: Limit, prefix: str = "") -> list[Any]:
    """Use every verb with the limit; returns the answers."""
    pair = (limit, Limit(50, 60.0, "fixed_window" if limit.algorithm != "fixed_window" else "gcra", name="other"))
    one, many = f"{prefix}one", [Request(f"{prefix}m{i}", limit, 1.0, NOW) for i in range(5)]
    answers: list[Any] = [await storage.acquire(one, limit, 1 / 3, NOW), await storage.acquire(one, pair, 2.0, NOW + 0.1)]
    answers += await storage.acquire_many(many)
    answers += [await storage.peek(one, limit, 1.0, NOW + 1 / 7)]
    answers += await storage.charge_many([Charge(one, limit, "n", 1, 0.0, ((NOW + 0.2, 0.7, 1),))])
    state = await storage.get_state(one)
    assert state is not None
    await storage.set_state(f"{prefix}copy", state)
    answers += [state, await storage.get_state(f"{prefix}copy"), await storage.increment(one, 3, 60.0)]
    if limit.algorithm == "adaptive":
        await storage.observe(one, limit, 0.25, NOW + 0.3)
        await storage.observe(one, (limit, Limit(9, 60, "adaptive", name="x")), 0.75, NOW + 0.3)
        answers.append(await storage.get_state(one))
    await storage.reset(f"{prefix}copy")
    answers.append(await storage.get_state(f"{prefix}copy"))
    return answers


# -- poolers ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def pooler(name: str, url: str, size: int, by_session: bool = False) -> AsyncIterator[str]:
    """The URL of a pooler before the server."""
    if name == "python":
        async with transaction_pooler(url, size, by_session) as pooled:
            yield pooled
    else:
        with pgbouncer.pgbouncer(url, "session" if by_session else "transaction", size) as pooled:
            yield pooled


@pytest.fixture(params=POOLERS)
async def pooled(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[str]:
    """The URL of a pooler in transaction mode, with three sessions."""
    async with pooler(request.param, server.url, 3) as url:
        yield url


@pytest.mark.parametrize("level", ["read committed", "serializable"])
async def test_behind_a_pooler_three_nodes_admit_what_they_count(pooled: str, server: Server, level: str) -> None:
    table = f"t_{uuid.uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as other:
        for _ in range(6):
            await other.execute(f"SET default_transaction_isolation = '{level}'".encode())
    storages = [await storage_at(pooled, table_name=table).open() for _ in range(3)]
    limits = [Limit(20, 3600, name) for name in ("fixed_window", "token_bucket", "gcra")]
    admitted: Counter[str] = Counter()

    async def node(number: int, key: int) -> None:
        for limit in (*limits[number:], *limits[:number]):
            identifier = f"{limit.algorithm} {key}"
            if await storages[number].acquire(identifier, limit, now=NOW):
                admitted[identifier] += 1

    for _ in range(10):
        await asyncio.gather(*(node(number, key) for number in range(3) for key in range(4)))
    counted = await rows_of(server.url, f"SELECT identifier, algorithm, request_count FROM {table}")
    assert {identifier: count for identifier, _, count in counted} == dict(admitted)
    assert all(identifier.startswith(algorithm) for identifier, algorithm, _ in counted)
    assert set(admitted.values()) == {20}
    for storage in storages:
        assert not storage.client.errors
        await storage.close()


@pytest.mark.parametrize("algorithm", algorithms.names())
async def test_sessions_that_another_client_has_changed_decide_alike(pooled: str, algorithm: str) -> None:
    table, limit = f"t_{uuid.uuid4().hex[:12]}", Limit(7.3, 60, algorithm)
    spoiled = [
        "SET search_path = pg_temp",
        "SET extra_float_digits = -15",
        "SET default_transaction_isolation = 'serializable'",
        "SET DateStyle = 'SQL, DMY'",
        "SET TimeZone = 'Asia/Kathmandu'",
        "SET array_nulls = off",
        "SET statement_timeout = '20s'",
        "SET lock_timeout = '10ms'",
    ]
    memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
    async with await psycopg.AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as other:
        for _ in range(6):  # twice as many as there are sessions, which are met in turn
            await other.execute(";".join(spoiled).encode())
        async with storage_at(pooled, table_name=table, schema="public") as storage:
            assert await all_verbs(storage, limit) == await all_verbs(memory, limit)
        for _ in range(6):
            await other.execute("RESET ALL")


async def test_a_client_of_the_same_pooler_finds_the_settings_of_the_server(pooled: str, server: Server) -> None:
    names = ["synchronous_commit", "lock_timeout", "statement_timeout", "search_path", "extra_float_digits"]
    names += ["default_transaction_isolation", "synchronize_seqscans"]
    query = f"SELECT {', '.join(f'current_setting($${name}$$)' for name in names)}"
    (expected,) = await rows_of(server.url, query)
    async with storage_at(pooled, table_name=f"t_{uuid.uuid4().hex[:12]}") as storage:
        await all_verbs(storage, Limit(9, 60, "token_bucket"))
        await storage.cleanup_expired()
        await storage.get_stats()
        async with await psycopg.AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as other:
            for _ in range(6):
                assert await (await other.execute(query.encode())).fetchone() == expected
        assert not storage.client.errors


STRATEGIES = ["none", "hash:3", "time:1m", "identifier:one*,m*"]


async def test_tables_of_any_strategy_share_a_pooler(pooled: str) -> None:
    """Two tables at once through the same three sessions, one with a timeout: neither meets the other's settings."""
    algorithm, tag = "token_bucket", uuid.uuid4().hex[:8]
    limit = Limit(7.3, 60, algorithm)
    memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
    expected = await all_verbs(memory, limit)
    for here, there in pairwise(STRATEGIES):
        options = {"query_timeout": 25.0, "schema": "public"}
        one = storage_at(pooled, table_name=f"one_{tag}", partition_strategy=parse_partition(here), **options)
        other = storage_at(pooled, table_name=f"other_{tag}", partition_strategy=parse_partition(there))
        async with one, other:
            assert await asyncio.gather(all_verbs(one, limit), all_verbs(other, limit)) == [expected] * 2
            for storage in (one, other):
                assert await storage.cleanup_expired() == 0
                assert (await storage.get_stats()).entries > 0
                assert not storage.client.errors
        tag = uuid.uuid4().hex[:8]


@pytest.mark.parametrize("name", POOLERS)
async def test_a_pooler_with_fewer_sessions_than_the_pool_has_connections(server: Server, name: str) -> None:
    """By sessions: callers share those that answer; a node that gets none is told the remedy."""
    limit = Limit(10**6, 3600, "token_bucket")
    options: dict[str, Any] = {"pool_size": 8, "table_name": f"t_{uuid.uuid4().hex[:12]}", "connection_timeout": 1.0}
    async with pooler(name, server.url, 2, by_session=True) as url:
        async with storage_at(url, **options) as storage:
            for _ in range(3):
                await asyncio.gather(*(storage.acquire(f"k{number}", limit) for number in range(40)))
            assert not storage.client.errors
            with pytest.raises(StorageUnavailableError, match="pool by transactions, raise its default_pool_size"):
                await storage_at(url, **options).open()
        async with storage_at(url, **options) as storage:
            assert (await storage.acquire("k0", limit)).remaining == limit.rate - 4


# -- the time of a statement ------------------------------------------------------------------------------------------


async def slow_down(url: str, table: str) -> None:
    """Let every decision of a table on a fixed window take long at the server."""
    sources = await rows_of(
        url,
        "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p JOIN pg_language AS l ON l.oid = prolang "
        f"WHERE lanname = 'plpgsql' AND proname LIKE '{table}\\_acquire%'",
    )
    assert sources
    for (source,) in sources:
        psql(url, source.replace("BEGIN\n", "BEGIN\nPERFORM pg_catalog.pg_sleep(20);\n", 1))


async def test_the_session_ends_a_statement_after_query_timeout(database: str) -> None:
    options = conninfo.make_conninfo(database, options="-csearch_path=public -c work_mem=1MB")
    for url, query_timeout, shown in ((database, 0.25, "250ms"), (options, 2.0, "2s"), (options, None, "30s")):
        async with storage_at(url, query_timeout=query_timeout) as storage:
            connection = await storage.driver._take()
            assert connection.timed
            settings = "SELECT current_setting('statement_timeout'), current_setting('work_mem')"
            row = await (await connection.execute(settings)).fetchone()
            assert row == (shown, "1MB" if url is options else row[1])
            storage.driver._give_back(connection)
            async with storage.driver.connector.own_connection() as upkeep:
                assert not upkeep.timed
                assert await (await upkeep.execute("SHOW statement_timeout")).fetchone() == ("0",)


async def test_a_statement_timeout_of_the_url_stays(database: str) -> None:
    url = conninfo.make_conninfo(database, options="-c statement_timeout=1234ms")
    async with storage_at(url) as storage:
        connection = await storage.driver._take()
        assert await (await connection.execute("SHOW statement_timeout")).fetchone() == ("1234ms",)
        storage.driver._give_back(connection)


async def test_a_statement_that_the_server_ends_names_query_timeout(database: str) -> None:
    limit = Limit(5, 3600, "fixed_window")
    async with storage_at(database, query_timeout=0.3) as storage:
        assert await storage.acquire("x", limit)
        await slow_down(database, "ratesim_state")
        with pytest.raises(StorageTimeoutError, match="raise query_timeout"):
            await storage.acquire("x", limit)
        assert (await storage.increment("x", 1, 60.0)) == 1


async def test_behind_a_pooler_query_timeout_travels_with_the_statement(pooled: str, server: Server) -> None:
    table, limit = f"t_{uuid.uuid4().hex[:12]}", Limit(5, 3600, "fixed_window")
    async with storage_at(pooled, table_name=table, query_timeout=0.3) as storage:
        assert await storage.acquire("x", limit)
        connection = await storage.driver._take()
        assert not connection.timed
        storage.driver._give_back(connection)
        await slow_down(server.url, table)
        for _ in range(4):  # more than there are sessions
            with pytest.raises(StorageTimeoutError, match="raise query_timeout"):
                await storage.acquire("x", limit)
        assert await storage.increment("x", 1, 60.0) == 1
        async with await psycopg.AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as other:
            for _ in range(6):
                assert await (await other.execute("SHOW statement_timeout")).fetchone() == ("0",)
    async with storage_at(pooled, table_name=table) as storage:  # without query_timeout nothing travels
        assert await storage.increment("x", 1, 60.0) == 2
        assert storage.driver._set_timeout is None


async def test_statements_are_prepared_where_the_connection_is_direct(database: str, pooled: str) -> None:
    limit, count = Limit(50, 3600, "fixed_window"), "SELECT count(*) FROM pg_prepared_statements"
    for url, prepared in ((database, True), (pooled, False)):
        async with storage_at(url, table_name=f"t_{uuid.uuid4().hex[:12]}", pool_size=1) as storage:
            for _ in range(3):
                assert await storage.acquire("x", limit)
            connection = await storage.driver._take()
            assert await (await connection.execute(count)).fetchone() == (int(prepared),)
            storage.driver._give_back(connection)
            assert connection.wire.prepares is prepared
    async with storage_at(database, prepared_statements=False) as storage:
        assert await storage.acquire("x", limit)
        connection = await storage.driver._take()
        assert not connection.wire.prepares
        storage.driver._give_back(connection)


async def test_what_is_prepared_may_be_lost(database: str) -> None:
    limit = Limit(50, 3600, "fixed_window")
    async with storage_at(database, pool_size=1, retries=0) as storage:
        assert await storage.acquire("x", limit)
        connection = await storage.driver._take()
        await connection.execute("DEALLOCATE ALL")
        storage.driver._give_back(connection)
        for left in (48, 47):
            assert (await storage.acquire("x", limit)).remaining == left
        assert not storage.driver.connector.prepares
        assert not storage.client.errors
    async with storage_at(database, pool_size=1, retries=0, prepared_statements=True) as storage:
        assert await storage.acquire("x", limit)
        connection = await storage.driver._take()
        await connection.execute("DEALLOCATE ALL")
        storage.driver._give_back(connection)
        with pytest.raises(StorageError, match="set prepared_statements=false"):
            await storage.acquire("x", limit)


# -- a table that others change ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["time:1d", "hash:4", "identifier:x*"])
async def test_a_node_goes_on_when_its_table_is_cut_otherwise(database: str, strategy: str) -> None:
    limit = Limit(5, 3600, "fixed_window")
    async with storage_at(database) as running:
        for number in (4, 3):
            assert (await running.acquire("x", limit)).remaining == number
        psql(database, "DROP TABLE ratesim_state, ratesim_state_counters CASCADE")
        async with storage_at(database, partition_strategy=strategy) as other:
            assert (await other.acquire("x", limit)).remaining == 4
            assert (await running.acquire("x", limit)).remaining == 3
            await asyncio.gather(*(running.acquire_many([Request(f"m{i}", limit)] * 2) for i in range(5)))
            assert await running.increment("x", 1, 60.0) == 1
            assert (await other.acquire("x", limit)).remaining == 2
        assert not running.client.errors


# -- roles ------------------------------------------------------------------------------------------------------------


def psql(url: str, script: str) -> None:
    """Run a script as an administrator does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(script.encode())


def as_role(url: str, role: str) -> str:
    return conninfo.make_conninfo(url, user=role)


@pytest.mark.parametrize("options", [{}, {"schema": "Grenzen der API"}], ids=["public", "own schema"])
async def test_a_role_without_create_uses_every_verb_of_the_printed_schema(
    database: str, role: str, options: dict[str, str]
) -> None:
    config = PostgresStorageConfig(url=database, table_name="limits", **options)  # type: ignore[arg-type]
    psql(
        database, "REVOKE ALL ON SCHEMA public FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
    )
    script = PostgresDriver(config).schema(role=role)
    psql(database, script)
    psql(database, script)  # it may be run again
    try:
        before = await rows_of(database, "SELECT count(*) FROM pg_proc")
        async with storage_at(as_role(database, role), table_name="limits", **options) as storage:
            for algorithm in algorithms.names():
                memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
                mine = await all_verbs(storage, Limit(7.3, 60, algorithm), algorithm)
                assert mine == await all_verbs(memory, Limit(7.3, 60, algorithm), algorithm)
            await storage.cleanup_expired()
            assert (await storage.get_stats()).entries > 0
            assert (await storage.health_check()).healthy
            assert await storage.driver.take_turn(60.0) is not None
        assert await rows_of(database, "SELECT count(*) FROM pg_proc") == before
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))


async def test_a_role_that_may_not_create_is_told_what_is_missing_and_the_remedy(database: str, role: str) -> None:
    psql(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    storage = storage_at(as_role(database, role), table_name="limits")
    with pytest.raises(StorageError, match=r'table "public"."limits" is missing.*may not create.*ratesim schema') as caught:
        await storage.open()
    assert "\n" not in str(caught.value)
    psql(database, PostgresDriver(PostgresStorageConfig(url=database, table_name="limits")).schema(("gcra",)))
    with pytest.raises(StorageError, match=r"permission denied.*ratesim schema URL --role"):
        await storage.acquire("x", Limit(1, 1, "gcra"))
    with pytest.raises(StorageError, match=r'function "public"."limits_.*is missing.*ratesim schema'):
        await storage.acquire("x", Limit(1, 1, "token_bucket"))
    await storage.close()


async def test_two_roles_share_a_table_and_each_creates_what_it_misses(database: str, role: str) -> None:
    quoted = sql.Identifier(role)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(quoted))
        try:
            async with storage_at(database) as first, storage_at(as_role(database, role)) as second:
                await first.acquire("x", Limit(5, 60, "token_bucket"))
                connection.execute(sql.SQL("GRANT ALL ON ratesim_state, ratesim_state_counters TO {}").format(quoted))
                assert (await second.acquire("x", Limit(5, 60, "token_bucket"))).remaining == 3
                assert (await second.acquire("y", Limit(5, 60, "gcra"))).remaining == 4
                assert (await first.acquire("y", Limit(5, 60, "gcra"))).remaining == 3
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(quoted))


@pytest.mark.parametrize("options", [(), ("--role", 'a "role"', "--algorithm", "gcra", "--algorithm", "adaptive")])
def test_the_command_prints_what_a_server_takes_and_no_password(server: Server, options: tuple[str, ...]) -> None:
    url = "postgresql://me:hush@nowhere/db?table_name=printed&schema=command"
    done = subprocess.run(
        [sys.executable, "-m", "ratesim", "schema", url, *options], capture_output=True, text=True, check=True
    )
    assert "hush" not in done.stdout + done.stderr
    psql(server.url, 'CREATE ROLE "a ""role"""')
    try:
        psql(server.url, done.stdout)
    finally:
        psql(server.url, 'DROP SCHEMA command CASCADE; DROP ROLE "a ""role"""')


@pytest.mark.parametrize("arguments", [["redis://h"], ["postgresql://h", "--algorithm", "nope"], ["memory://"]])
def test_the_command_refuses_in_one_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ratesim", "schema", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


# -- locks ------------------------------------------------------------------------------------------------------------


async def test_statistics_and_cleanup_do_not_wait_for_a_long_alter_table(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (connector, upkeep):
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    async with storage_at(database) as storage:
        await storage.acquire("x", Limit(5, 60))
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE ratesim_state IN ACCESS EXCLUSIVE MODE")
            for work in (storage.get_stats, storage.cleanup_expired):
                with pytest.raises(StorageTimeoutError, match="another transaction holds the lock"):
                    async with asyncio.timeout(30):
                        await work()
        assert (await storage.get_stats()).entries == 1
        assert await storage.cleanup_expired() == 0


# -- names ------------------------------------------------------------------------------------------------------------


async def test_tables_and_schemas_in_one_database_do_not_meet(database: str) -> None:
    long = ["a" * 40, "a" * 39 + "b"]
    storages = [storage_at(database, table_name=table, schema=schema) for table in long for schema in ("", "elsewhere")]
    limit = Limit(5, 60, "sliding_window")
    for number, storage in enumerate(storages):
        await storage.open()
        for _ in range(number + 1):
            decision = await storage.acquire("x", limit)
        assert decision.remaining == 5 - (number + 1)
    for storage in storages:
        await storage.close()
    names = await rows_of(database, "SELECT proname, pronamespace FROM pg_proc WHERE proname LIKE 'aaaa%'")
    assert len(set(names)) == len(names) >= 4 * len(storages)  # for each table one to decide, to insert, to round, to show
    assert all(len(name.encode()) <= NAME_BYTES for name, _ in names)


async def test_search_path_finds_the_table_or_the_place_for_it(database: str) -> None:
    psql(database, "CREATE SCHEMA early; CREATE SCHEMA late")
    path = conninfo.make_conninfo(database, options="-csearch_path=late")
    async with storage_at(path) as storage:
        await storage.acquire("x", Limit(5, 60, "gcra"))
    path = conninfo.make_conninfo(database, options="-csearch_path=early,late")
    async with storage_at(path) as storage:
        assert (await storage.acquire("x", Limit(5, 60, "gcra"))).remaining == 3
    tables = await rows_of(database, "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'ratesim%'")
    assert tables == [("late",)]


@pytest.mark.parametrize("name", ['a"b', "a$$b", "{{table}}", "a%b", "a;b", "x" * 64, "ñ" * 32, "a'b", "a\nb"])
def test_a_schema_whose_name_would_need_escaping_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        Schema(PostgresStorageConfig(), name, None)


async def test_functions_of_other_schemas_do_not_take_the_place_of_built_in_ones(database: str) -> None:
    psql(
        database,
        "CREATE FUNCTION public.jsonb_build_array(bigint, float8) RETURNS jsonb LANGUAGE sql AS 'SELECT ''[]''::jsonb';"
        "CREATE FUNCTION public.cardinality(float8[]) RETURNS int LANGUAGE sql AS 'SELECT 0';"
        "CREATE FUNCTION public.cat(float8[], float8[]) RETURNS float8[] LANGUAGE sql AS 'SELECT ARRAY[1e9::float8]';"
        "CREATE OPERATOR public.|| (LEFTARG = float8[], RIGHTARG = float8[], FUNCTION = public.cat)",
    )
    memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
    async with storage_at(database) as storage:
        for algorithm in algorithms.names():
            limit = Limit(7.3, 60, algorithm)
            assert await all_verbs(storage, limit, algorithm) == await all_verbs(memory, limit, algorithm)


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_of_another_encoding_refuses_only_what_it_cannot_hold(
    server: Server, admin: psycopg.AsyncConnection[Any], encoding: str
) -> None:
    name = f"d_{uuid.uuid4().hex[:12]}"
    await admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        async with storage_at(conninfo.make_conninfo(server.url, dbname=name)) as storage:
            limit = Limit(5, 3600, "token_bucket")
            answers = await storage.driver.execute(
                [Acquire(each, (limit,), 1.0, NOW, True) for each in ("plain", "é", "ключ")]
            )
            assert [type(answer) for answer in answers[:2]] == [Decision, Decision]
            assert isinstance(answers[2], KeyRefusedError if encoding == "LATIN1" else Decision)
            assert (await storage.acquire("é", limit)).remaining == 3
            assert await storage.get_state("é") is not None
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


# -- isolation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_no_default_isolation_of_a_database_fails_a_request(database: str, level: str) -> None:
    name = conninfo.conninfo_to_dict(database)["dbname"]
    psql(database, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with storage_at(database, breaker_failures=1) as first, storage_at(database, breaker_failures=1) as second:
        limit = Limit(100, 3600, "fixed_window")
        for _ in range(10):
            await asyncio.gather(*(each.acquire("x", limit) for each in (first, second) for _ in range(20)))
        await asyncio.gather(*(each.increment("hits", 1, 60.0) for each in (first, second) for _ in range(30)))
        assert await first.increment("hits", 0, 60.0) == 60
        assert await rows_of(database, "SELECT request_count FROM ratesim_state") == [(100,)]
        for storage in (first, second):
            assert not storage.client.errors
            assert storage.client.breaker == "closed"
            await all_verbs(storage, Limit(9, 60, "gcra"), str(id(storage)))
            await storage.acquire("gone", Limit(1, 1, "gcra"), now=1.0)
            assert await storage.cleanup_expired() == 1
            await storage._maintain()
            assert (await storage.health_check()).healthy


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_statement_that_was_rolled_back_is_repeated(database: str, state: str) -> None:
    limit = Limit(5, 3600, "fixed_window")
    async with storage_at(database, retries=0) as storage:
        await storage.acquire("x", limit)
        found = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'ratesim_state_acquire%'"
        ((source,),) = await rows_of(database, found)
        failing = f"IF nextval('public.tries') % 3 <> 0 THEN RAISE SQLSTATE '{state}'; END IF;"
        psql(database, "CREATE SEQUENCE tries; " + source.replace("BEGIN\n", f"BEGIN\n{failing}\n", 1))
        for left in (3, 2, 1):
            assert (await storage.acquire("x", limit)).remaining == left
        assert await rows_of(database, "SELECT last_value FROM tries") == [(9,)]
        assert not storage.client.errors


# -- objects that go --------------------------------------------------------------------------------------------------


async def test_objects_that_are_dropped_while_it_runs_are_created_again(database: str) -> None:
    limit = Limit(5, 3600, "fixed_window")
    async with storage_at(database) as storage:
        await storage.acquire("x", limit)
        for script in (
            "DROP TABLE ratesim_state, ratesim_state_counters CASCADE",
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
            "DROP SCHEMA public CASCADE",
        ):
            psql(database, script)
            assert (await storage.acquire("x", limit)).remaining == 4
            assert await storage.increment("x", 2, 60.0) == 2
            psql(database, script)
            assert (await storage.get_stats()).entries == 0
            assert await storage.cleanup_expired() == 0
        assert not storage.client.errors


async def test_a_server_that_is_read_only_says_so_with_the_remedy(database: str) -> None:
    name = conninfo.conninfo_to_dict(database)["dbname"]
    limit = Limit(5, 3600, "fixed_window")
    async with storage_at(database) as storage:
        await storage.acquire("x", limit)
        psql(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        async with storage_at(database, retries=0) as late:
            with pytest.raises(StorageUnavailableError, match=r"read-only.*name the primary"):
                await late.acquire("x", limit)
            with pytest.raises(StorageError, match=r"is missing, and the server is read-only"):
                await late.increment("x", 1, 60.0)
        writable = conninfo.make_conninfo(database, options="-cdefault_transaction_read_only=off")
        psql(writable, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert (await storage.acquire("x", limit)).remaining == 3


def test_the_pooler_that_the_environment_names_exists() -> None:
    assert not pgbouncer.PROGRAM or shutil.which(pgbouncer.PROGRAM)
