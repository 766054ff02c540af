"""postgresql.conf and schema.sql: a real server takes every setting, and the storage lives with the rights it names."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from configuring import LEASE, POSTGRES, a_scenario, postgres_with, settings_of

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.recommendation.configuration import StoreSize, files
from ratesim.recommendation.configuration.postgresql_conf import postgresql_conf, schema_sql
from ratesim.storage import Charge, PostgresStorage, PostgresStorageConfig, StorageURL
from ratesim.storage.postgres import PostgresDriver


@pytest.mark.servers
def test_a_server_starts_with_it_and_has_every_setting():
    fragment = postgresql_conf(a_scenario(persistence="durable"), POSTGRES, 400.0, "Use it.")
    settings = settings_of(fragment)
    assert len(settings) >= 10
    with postgres_with(fragment) as url, psycopg.connect(url) as connection:
        errors = connection.execute("SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL").fetchall()
        assert errors == []
        for name, value in settings.items():
            shown, source = connection.execute(
                "SELECT current_setting(name), source FROM pg_settings WHERE name = %s", [name]
            ).fetchone()
            shown = "on" if (name, shown) == ("wal_compression", "pglz") else shown  # what `on` has been called since 15
            assert (name, shown, source) == (name, value, "configuration file")


@pytest.mark.parametrize("storage", [POSTGRES, LEASE])
def test_there_are_connections_for_every_node_and_room_for_every_key(storage):
    scenario = a_scenario(key_count=1_000_000)
    scenario = scenario.model_copy(update={"deployment": scenario.deployment.model_copy(update={"nodes": 50})})
    settings = settings_of(postgresql_conf(scenario, f"{storage}&pool_size=20", 400.0))
    assert int(settings["max_connections"]) > 50 * 20
    assert settings["shared_buffers"] == "573MB"  # 1.5 times 400 MB
    assert settings_of(postgresql_conf(a_scenario(), storage, 400.0))["shared_buffers"] == "128MB"


def test_no_more_memory_is_asked_for_than_helps_the_machine_that_is_priced():
    scenario = a_scenario(key_count=20_000_000)
    for memory, buffers in ((math.inf, 11445), (32e9, 11445), (8e9, 3051)):  # 20 million x 400 bytes x 1.5, or 40 %
        text = postgresql_conf(scenario, POSTGRES, 400.0, size=StoreSize(memory=memory))
        assert settings_of(text)["shared_buffers"] == f"{buffers}MB"
        assert ("a machine of 8 GB is priced" in " ".join(text.replace("\n#", "").split())) == (memory == 8e9)


def test_nodes_with_more_connections_than_a_server_should_have_get_a_pooler():
    scenario = a_scenario()
    for nodes in (45, 46):
        many = scenario.model_copy(update={"deployment": scenario.deployment.model_copy(update={"nodes": nodes})})
        text = postgresql_conf(many, "postgresql://localhost", 400.0)
        assert settings_of(text)["max_connections"] == str(nodes * 11 + 20)
        assert ("put the pooler of pgbouncer.ini between, and 100 are enough" in text.replace("\n# ", " ")) == (nodes == 46)
        assert ("pgbouncer.ini" in files(many, "postgresql://localhost", "random")) == (nodes == 46)


def test_checkpoints_come_by_the_clock_however_many_rows_change():
    for writes, log in ((math.nan, 1), (1000.0, 1), (10_000.0, 6), (1e9, 16)):
        settings = settings_of(postgresql_conf(a_scenario(), POSTGRES, 400.0, size=StoreSize(writes=writes)))
        assert settings["max_wal_size"] == f"{log}GB"
        assert (settings["checkpoint_timeout"], settings["checkpoint_completion_target"]) == ("15min", "0.9")


def test_commits_are_as_the_storage_asks_and_what_is_not_durable_is_said():
    lax = postgresql_conf(a_scenario(persistence="durable"), POSTGRES)
    assert settings_of(lax)["synchronous_commit"] == "off"
    assert "not the durable persistence that was asked for" in " ".join(lax.replace("\n#", "").split())
    strict = postgresql_conf(a_scenario(persistence="durable"), "postgresql://localhost")
    assert settings_of(strict)["synchronous_commit"] == "on"
    assert "unlogged" in postgresql_conf(a_scenario(), "postgresql://localhost?unlogged=true")


@pytest.fixture
def database(postgres_server) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"limits_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield _named(postgres_server.url, name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _named(url: str, database: str) -> str:
    """The URL with another database: of what a URL says twice, libpq takes the later."""
    return f"{url}{'&' if '?' in url else '?'}dbname={database}"


def created(url: str) -> set[str]:
    """Every table and function that is there."""
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL "
    query += "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute(query)}


async def all_of_it(storage: PostgresStorage, limit: Limit) -> None:
    """Everything that a storage does."""
    now = time.time()  # as get_state has it
    async with storage:
        assert (await storage.acquire("user", limit, now=now)).allowed
        assert (await storage.increment("user", 2, 60.0)) == 2
        await storage.charge_many([Charge("user", limit, "node", 1, 0.0, ((now, 1.0, 1),))])
        state = await storage.get_state("user")
        if limit.algorithm == "adaptive":
            await storage.observe("user", limit, 0.5, now)
        await storage.set_state("other", state)
        await storage.reset("user")
        assert (await storage.get_stats()).entries >= 1
        await storage.cleanup_expired()


@pytest.mark.parametrize("algorithm", names())
async def test_the_script_creates_what_the_storage_would(postgres_server, database, algorithm):
    limit = Limit(5, 60.0, algorithm)
    scenario = a_scenario().model_copy(update={"limit": a_scenario().limit.model_copy(update={"algorithm": algorithm})})
    script = schema_sql(scenario, "postgresql://localhost?table_name=limits")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script)
    ahead = created(database)
    await all_of_it(PostgresStorage(PostgresStorageConfig(url=database, table_name="limits")), limit)
    assert created(database) == ahead


async def test_an_application_needs_no_more_rights_than_the_script_says(postgres_server, database):
    limit = Limit(5, 60.0, "token_bucket")
    script = schema_sql(a_scenario(), "postgresql://localhost?table_name=limits", "Use it.")
    role = f"app_{uuid.uuid4().hex[:12]}"
    grants = re.findall(r"^-- (GRANT .* TO your_role;)$", script, re.MULTILINE)  # and those of operators are another role's
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script)
        connection.execute(f'CREATE ROLE "{role}" LOGIN')
        try:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            connection.execute("".join(grants).replace("your_role", f'"{role}"'))
            url = f"{database}&user={role}"
            await all_of_it(PostgresStorage(PostgresStorageConfig(url=url, table_name="limits")), limit)
        finally:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')


@pytest.mark.parametrize("partition", ["none", "hash:3", "time:1d", "identifier:tenant-*"])
def test_the_script_tunes_all_that_holds_rows_and_is_that_of_the_command(database, partition):
    storage = f"postgresql://localhost?table_name=limits&partition={partition}"
    script = schema_sql(a_scenario(), storage)
    assert PostgresDriver(StorageURL.parse(storage).config).schema(("token_bucket",)) in script
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script)
        query = "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND relname LIKE 'limits%'"
        found = dict(connection.execute(query).fetchall())
    tables = [name for name in found if not re.search("schema|upkeep|denied|periods", name)]
    assert len(tables) >= 2
    for name in tables:
        assert {"fillfactor=80", "autovacuum_vacuum_scale_factor=0.02"} <= set(found[name]), name


def test_an_unlogged_storage_has_an_unlogged_script(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(schema_sql(a_scenario(), "postgresql://localhost?table_name=limits&unlogged=true"))
        query = "SELECT relpersistence FROM pg_class WHERE relname = 'limits'"
        assert connection.execute(query).fetchone() == ("u",)
