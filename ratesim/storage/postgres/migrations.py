"""Versions of the tables: which one a database has, and the statements that bring an older one to this one."""

from __future__ import annotations

from ratesim.errors import ConfigurationError
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.schema import Schema

__all__ = ["SCHEMA_VERSION", "find_version", "migration"]

SCHEMA_VERSION = 2  # 1: the tables of states and counters alone


async def find_version(connection: Connection, schema: Schema, where: str) -> int | None:
    """Return the version of the tables; None where there are none. Those of version 1 name no version.

    Raises
    ------
    ConfigurationError
        They are newer than this program.
    """
    # The catalogs themselves: to_regclass would answer from the session's cache, also after waiting for the lock.
    cursor = await connection.execute(
        "SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname IN (%s, %s)",
        [schema.namespace, schema.table_name, schema.versions_name],
    )
    found = {name for (name,) in await cursor.fetchall()}
    version = 1 if schema.table_name in found else None
    if schema.versions_name in found:
        cursor = await connection.execute(f"SELECT max(version) FROM {schema.versions}".encode())  # noqa: S608 - a name
        version = (await cursor.fetchone() or [None])[0] or version
    if version is not None and version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"PostgreSQL at {where}: table {schema.table} was made by a newer ratesim "
            f"(schema {version}, this one knows {SCHEMA_VERSION}): upgrade ratesim"
        )
    return version


def migration(schema: Schema) -> str:
    """Return the statement that brings tables of any older version to this one; it may be run again."""
    return schema.statement("migrate", version=str(SCHEMA_VERSION))
