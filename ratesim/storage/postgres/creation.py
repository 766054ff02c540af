"""Creating what is missing in the database: schema, tables and functions."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from ratesim.errors import ConfigurationError, StorageError
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.catalog import read_strategy
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.error_translation import READ_ONLY
from ratesim.storage.postgres.migrations import SCHEMA_VERSION, find_version, migration
from ratesim.storage.postgres.schema import Object, Schema

__all__ = ["create_missing", "find_namespace", "find_schema"]


async def find_namespace(connection: Connection, config: PostgresStorageConfig, where: str) -> str:
    """Return the schema of the database that holds the table; `search_path` decides where the configuration does not."""
    namespace = config.schema
    if not namespace:
        cursor = await connection.execute(
            "SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
            "ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)), current_schema())::text",
            [f'"{config.table_name}"'],
        )
        (namespace,) = await cursor.fetchone()  # type: ignore[misc]
        if namespace is None:
            raise ConfigurationError(f"PostgreSQL at {where}: no schema in search_path; name one with schema=")
    return str(namespace)


async def find_schema(
    connection: Connection, config: PostgresStorageConfig, where: str, known: Schema | None = None
) -> Schema:
    """Return the schema of the table as it is really cut.

    One that is known already is looked at again. It may be cut otherwise by then, also where the configuration says how.
    """
    namespace = await find_namespace(connection, config, where) if known is None else known.namespace
    wanted = config.partition_strategy
    schema = Schema(config, namespace, wanted)
    strategy = await read_strategy(connection, schema, absent=wanted if known is None else known.strategy)
    if known is None and wanted is not None and strategy != wanted:
        raise ConfigurationError(
            f"PostgreSQL at {where}: table {schema.table} is partitioned by {strategy or 'none'}, not by {wanted}: run "
            "`ratesim repartition URL`, or leave partition out to use the table as it is"
        )
    return schema if strategy == wanted else Schema(config, namespace, strategy)


async def create_missing(connection: Connection, schema: Schema, objects: Sequence[Object], where: str) -> None:
    """Create those of the objects that are missing, in the transaction of the connection, and migrate older tables.

    Nodes do so one at a time.

    Raises
    ------
    StorageError
        This role may not create what is missing, or the server is read-only. The message names the object and the remedy.
    ConfigurationError
        The tables are newer than this program.
    """
    version = await find_version(connection, schema, where)
    if version == SCHEMA_VERSION and not await _missing(connection, schema, objects):
        return
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"ratesim {schema.table}"])
    version = await find_version(connection, schema, where)  # another node may have been first
    missing = await _missing(connection, schema, objects)
    steps = [each for each in missing if each.kind == "TABLE"]
    if version != SCHEMA_VERSION:
        steps.append(Object((schema.table_name,), migration(schema), "MIGRATION"))
    steps += [each for each in missing if each.kind != "TABLE"]
    made = "nothing"
    try:
        found = await (await connection.execute("SELECT to_regnamespace(%s)", [f'"{schema.namespace}"'])).fetchone()
        if found == (None,):
            made = f'schema "{schema.namespace}"'
            await connection.execute(f'CREATE SCHEMA "{schema.namespace}"'.encode(), prepare=False)
        for each in steps:
            made = f"{each.kind.lower()} {schema.qualified(each.names[-1])}"
            await connection.execute(each.ddl.encode(), prepare=False)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        old = version is not None and version < SCHEMA_VERSION
        what = f"table {schema.table} has schema {version}, not {SCHEMA_VERSION}" if old else f"{made} is missing"
        cause = (
            "the server is read-only"
            if error.sqlstate == READ_ONLY
            else f"this role may not {'change' if old else 'create'} it"
        )
        raise StorageError(
            f"PostgreSQL at {where}: {what}, and {cause}: "
            "let an administrator run `ratesim schema URL --role ROLE | psql` on the primary"
        ) from None


async def _missing(connection: Connection, schema: Schema, objects: Sequence[Object]) -> list[Object]:
    # The catalogs themselves: to_regclass would answer from the session's cache, also after waiting for the lock.
    names = [name for each in objects for name in each.names]
    cursor = await connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS q (name) WHERE NOT EXISTS ("
        "SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = q.name) AND NOT EXISTS ("
        "SELECT 1 FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
        "WHERE n.nspname = %s AND p.proname = q.name)",
        [names, schema.namespace, schema.namespace],
    )
    gone = {name for (name,) in await cursor.fetchall()}
    if schema.periods_name in names and schema.periods_name not in gone:
        row = await connection.execute(f"SELECT FROM {schema.periods}".encode())
        if await row.fetchone() is None:
            gone.add(schema.periods_name)  # somebody has truncated it
    return [each for each in objects if gone.intersection(each.names)]
