"""Rotation of a table that is cut by time: partitions made ahead, rows that live on moved, partitions dropped at their end.

Deciders wait for none of it longer than `LOCK_MILLISECONDS` at a time. The partition in use changes only here. While nobody
rotates, new rows go on into the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import psycopg

from ratesim.errors import StorageError, StorageTimeoutError
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector
from ratesim.storage.postgres.schema import Schema

__all__ = ["Rotation", "rotate"]

T = TypeVar("T")

LOCK_MILLISECONDS = 100  # that a statement waits for a lock, behind which deciders queue
ATTEMPTS = 10  # of a step that does not get its lock
PAUSE = 0.2  # seconds after an attempt, a multiple of its number
# Seconds, and at least two command_timeouts, for which a row has to be over before its partition is dropped. A decider
# writes to a row in a partition that has ended only while the row is live by his time, which is later than that.
GRACE = 60.0

STATE_COLUMNS = (
    "identifier, name, algorithm, state, watermarks, metadata, request_count, created_at, last_accessed, expires_at"
)
COUNTER_COLUMNS = "identifier, count, expires_at"


class Rotation(NamedTuple):
    """What a rotation did.

    Attributes
    ----------
    made, dropped
        Numbers of partitions, of both tables.
    moved
        Rows that live on in the partition in use.
    """

    made: int = 0
    dropped: int = 0
    moved: int = 0


async def rotate(connector: Connector, schema: Schema, now: float) -> Rotation:
    """Rotate the partitions of both tables; nothing is done unless they are cut by time. One node does it at a time.

    Parameters
    ----------
    connector
        Makes the connections.
    schema
        As the tables are really cut.
    now
        The time by which rows have expired; the server's where that is less.

    Raises
    ------
    StorageError
        This role may not make partitions, or another transaction has locked the tables for long.
    """
    if not isinstance(schema.strategy, ByTime):
        return Rotation()
    made = dropped = moved = 0
    try:
        made = await _with_patience(connector, lambda connection: _make_ahead(connection, schema))
        await _with_patience(connector, lambda connection: _advance(connection, schema))
        for rows, columns in ((schema.table, STATE_COLUMNS), (schema.counters, COUNTER_COLUMNS)):
            ended = schema.statement("ended_partitions", rows=rows)
            async with connector.own_connection() as connection, connector.transaction(connection):
                found = await (await connection.execute(ended.encode())).fetchall()
            for partition, is_default, is_old in found:
                if is_old:
                    statement = schema.statement("move", rows=partition, whole=rows, moved_columns=columns)
                    moved += await _move(connector, schema, statement, now, is_default)
                if not is_default:
                    dropped += await _drop(connector, schema, partition, now)
    except StorageError as error:
        if not isinstance(error.__context__, psycopg.errors.InsufficientPrivilege):
            raise
        raise StorageError(
            f"PostgreSQL at {connector.where}: this role may not rotate the partitions of {schema.table}: let one node "
            "connect as their owner, or grant this role the owner's (GRANT owner TO role)"
        ) from None
    return Rotation(made, dropped, moved)


async def _with_patience(connector: Connector, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do some work in a transaction, again after a pause if it did not get a lock."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with connector.own_connection() as connection, connector.transaction(connection):
                return await work(connection)
        except StorageTimeoutError as error:
            if attempt == ATTEMPTS or not isinstance(error.__context__, psycopg.errors.LockNotAvailable):
                raise
        await asyncio.sleep(PAUSE * attempt)
    raise AssertionError


async def _hurry(connection: Connection) -> None:
    """Wait for no lock for long from here on."""
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}".encode())


async def _make_ahead(connection: Connection, schema: Schema) -> int:
    """Make partitions, and return their number."""
    await connection.execute(b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"ratesim {schema.table}"])
    await _hurry(connection)
    count = b"SELECT count(*) FROM pg_inherits WHERE inhparent IN (to_regclass(%s), to_regclass(%s))"
    before = await _value(connection, count, [schema.table, schema.counters])
    await connection.execute(schema.make_ahead.encode())
    return int(await _value(connection, count, [schema.table, schema.counters]) - before)


async def _advance(connection: Connection, schema: Schema) -> None:
    """Let new rows go into the present span's partition. The lock waits for all who insert into the one before it."""
    if await _value(connection, schema.statement("is_behind").encode()):
        await _hurry(connection)
        await connection.execute(schema.statement("lock_period").encode())
        await connection.execute(schema.statement("advance").encode())


async def _move(connector: Connector, schema: Schema, statement: str, now: float, is_default: bool) -> int:
    """Move the live rows of a partition in batches, each a transaction, and return their number; some may be locked."""
    total, after = 0, "(0,0)"
    share = schema.statement("lock_period_shared").encode()
    async with connector.own_connection() as connection:
        while after is not None:
            values = {"after": after, "all": is_default, "now": now, "most": connector.config.cleanup_batch_size}
            async with connector.transaction(connection):
                await connection.execute(share)
                moved, after = await (await connection.execute(statement.encode(), values)).fetchone()  # type: ignore[misc]
            total += moved
    return total


async def _drop(connector: Connector, schema: Schema, partition: str, now: float) -> int:
    """Drop a partition in which all is over, and return the number of dropped ones.

    Its rows are read without a lock. Before that a lock, held for no time, has waited for those who had begun while the
    partition was in use, and might have written to rows that were over.
    """
    values = {"now": now, "grace": max(GRACE, 2 * connector.config.command_timeout)}
    is_over = schema.statement("is_over", rows=partition).encode()

    async def lock(connection: Connection) -> None:
        await _hurry(connection)
        await connection.execute(f"LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE".encode())

    async def drop(connection: Connection) -> None:
        await _hurry(connection)
        await connection.execute(f"DROP TABLE {partition}".encode())

    async def over() -> bool:
        async with connector.own_connection() as connection, connector.transaction(connection):
            return bool(await _value(connection, is_over, values))

    if not await over():
        return 0
    await _with_patience(connector, lock)
    if not await over():
        return 0
    await _with_patience(connector, drop)
    return 1


async def _value(connection: Connection, statement: bytes, parameters: Any = None) -> Any:
    row = await (await connection.execute(statement, parameters)).fetchone()
    return row[0] if row else None
