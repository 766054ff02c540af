"""`Conversion`: which tables are converted to another partition strategy, and the transactions and locks of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from ratesim.errors import ConfigurationError, StorageTimeoutError
from ratesim.safe_text import shorten_text
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector
from ratesim.storage.postgres.inspection import Table, obstacles
from ratesim.storage.postgres.schema import Schema

__all__ = [
    "LOCK_BUSY",
    "NOT_COPIED",
    "PATIENCE",
    "SHORTEST_PAUSE",
    "Conversion",
    "Pair",
    "begin",
    "check_obstacles",
    "fill_template",
    "in_the_way",
    "is_alone",
    "lock_name",
    "lock_tables",
    "mirror_of",
    "moment",
    "obstacle_error",
    "transaction",
]

LOCK_SHARE = 0.1  # of command_timeout, that a lock is waited for at a time: whoever decides waits behind it
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries
PATIENCE = 600.0  # seconds of tries, after which another transaction is in the way
NOT_COPIED = frozenset({"period", "expected"})
LOCK_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)
# Of its transactions. With this search_path the catalog names everything in full. Functions are made for tables that have
# not got their names yet.
SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "check_function_bodies": "off",
}


class Pair(NamedTuple):
    """An old table and the new one that is to take its place, with what the catalog knows of the old one."""

    old_name: str
    new_name: str
    key: tuple[str, ...]
    facts: Table


class Conversion(NamedTuple):
    """What is converted, and to what.

    Attributes
    ----------
    schema, target
        The tables as they are, and as they are to be; both have the same names.
    new
        The new tables under the names that they have until the end.
    pairs
        States and counters.
    is_done
        Whether both are cut as they are to be already.
    """

    connector: Connector
    schema: Schema
    target: Schema
    new: Schema
    pairs: tuple[Pair, ...]
    is_done: bool

    def old_table(self, pair: Pair) -> str:
        """Return the name of an old table, quoted and with its schema."""
        return self.schema.qualified(pair.old_name)

    def new_table(self, pair: Pair) -> str:
        """Return the present name of a new table likewise."""
        return self.new.qualified(pair.new_name)

    @property
    def old_tables(self) -> list[str]:
        """The names of the old tables."""
        return [self.old_table(pair) for pair in self.pairs]

    @property
    def triggers(self) -> list[str]:
        """The names of the triggers on each old table."""
        return [f"{self.new.table_name}_mirror", f"{self.new.table_name}_truncate"]


async def begin(connection: Connection, **settings: str) -> None:
    """Begin a transaction with the settings of a conversion, and with others."""
    await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
    chosen = SETTINGS | settings
    await connection.execute(  # a setting that this version of the server does not have is left out
        "SELECT set_config(s.name, q.value, true) FROM unnest(%s::text[], %s::text[]) AS q (name, value) "
        "JOIN pg_catalog.pg_settings AS s ON s.name = q.name",
        [list(chosen), list(chosen.values())],
    )


@asynccontextmanager
async def transaction(connection: Connection, **settings: str) -> AsyncIterator[None]:
    """Begin a transaction with settings of its own, and commit it, or roll it back."""
    await begin(connection, **settings)
    try:
        yield
    except BaseException:
        if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            await connection.execute(b"ROLLBACK")
        raise
    await connection.execute(b"COMMIT")


async def is_alone(connection: Connection, schema: Schema) -> bool:
    """Take the lock that a conversion of this table holds, until the transaction ends; returns whether it was free."""
    statement = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    cursor = await connection.execute(statement, [lock_name(schema)])
    return await cursor.fetchone() == (True,)


def lock_name(schema: Schema) -> str:
    """Return the text whose hash is the lock of `is_alone`."""
    return f"ratesim repartition {schema.table}"


async def lock_tables(connection: Connection, conversion: Conversion, mode: str) -> None:
    """Lock the old tables until the transaction ends: a moment at a time, and again, as long as others hold them.

    A moment is one for all partitions together, whereas lock_timeout would be one for each.
    """
    statement = f"LOCK TABLE {', '.join(conversion.old_tables)} IN {mode} MODE".encode()
    began, pause = monotonic(), SHORTEST_PAUSE
    while True:
        await connection.execute(b"SAVEPOINT before_lock")
        await connection.execute("SELECT set_config('statement_timeout', %s, true)", [moment(conversion)])
        try:
            await connection.execute(statement)
        except LOCK_BUSY:
            if monotonic() - began > PATIENCE:
                raise in_the_way(conversion) from None
        else:
            await connection.execute("SELECT set_config('statement_timeout', '0', true)")
            return
        await connection.execute(b"ROLLBACK TO SAVEPOINT before_lock")
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)


def moment(conversion: Conversion) -> str:
    """Return how long a lock is waited for at a time, as a setting: whoever decides waits behind it."""
    return str(max(1, round(1e3 * LOCK_SHARE * min(1.0, conversion.connector.config.command_timeout))))


def in_the_way(conversion: Conversion) -> StorageTimeoutError:
    """Return the error of a lock that was not to be had."""
    return StorageTimeoutError(
        f"another transaction has held a lock on table {conversion.schema.table} for {PATIENCE:g} s: "
        "end it (pg_stat_activity, pg_locks), and run this again"
    )


async def check_obstacles(connection: Connection, conversion: Conversion) -> None:
    """Raise ConfigurationError if something that is not ratesim's belongs to the tables, and would be lost."""
    if found := await obstacles(connection, conversion.old_tables, conversion.triggers):
        raise obstacle_error(conversion, found)


def obstacle_error(conversion: Conversion, found: Sequence[str]) -> ConfigurationError:
    """Return the error of what would not follow to the new tables."""
    return ConfigurationError(
        f"table {conversion.schema.table} has what would not follow to the new one ({shorten_text(', '.join(found))}): "
        "drop it, convert, and make it again"
    )


def mirror_of(conversion: Conversion, pair: Pair) -> sql.Identifier:
    """Return the name of the trigger function of a pair of tables."""
    return sql.Identifier(conversion.new.namespace, f"{pair.new_name}_mirror")


def fill_template(conversion: Conversion, pair: Pair, template: str, **more: str) -> str:
    """Fill in a template for a pair of tables."""
    new = conversion.new
    columns = [name for name in pair.facts.columns if name not in NOT_COPIED]
    by_time = isinstance(new.strategy, ByTime)

    def row(alias: str, names: Sequence[str]) -> str:
        return ", ".join(f'{alias}."{name}"' for name in names)

    fill = {
        "mirror": new.qualified(f"{pair.new_name}_mirror"),
        "trigger": f'"{conversion.triggers[0]}"',
        "truncate_trigger": f'"{conversion.triggers[1]}"',
        "old_rows": conversion.old_table(pair),
        "new_rows": conversion.new_table(pair),
        "key": row("t", pair.key),
        "old_key": row("OLD", pair.key),
        "new_key": row("NEW", pair.key),
        "found_key": row("n", pair.key),
        "assignments": ", ".join(f'"{name}" = NEW."{name}"' for name in columns if name not in pair.key),
        "column_names": ", ".join(f'"{name}"' for name in columns),
        "new_values": row("NEW", columns),
        "old_values": row("t", columns),
        "found_values": row("n", columns),
        "and_current_period": f", (SELECT p.period FROM {new.periods} AS p)" if by_time else "",  # noqa: S608 - a name
    }
    return new.statement(template, **fill, **more)
