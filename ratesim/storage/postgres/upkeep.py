"""Upkeep of the tables: whose turn it is, removing expired rows, counting denials, and sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Any, NamedTuple

import psycopg

from ratesim.errors import StorageError, StorageTimeoutError
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import LOCK_SECONDS, UPKEEP_SECONDS, Connector
from ratesim.storage.postgres.creation import create_missing
from ratesim.storage.postgres.partitioning import stem
from ratesim.storage.postgres.schema import Schema

__all__ = ["TableSizes", "Turn", "add_denials", "cleanup", "end_turn", "sizes", "take_turn"]

# Claims of less than the interval, because the node whose turn it was is a little late at times.
TURN_SHARE = 0.9
BATCH_SECONDS = 0.02  # that a statement which deletes should take: a decision on one of its rows waits for its end
PAUSE_SHARE = 1.5  # of a statement's duration, behind it, so that decisions have the disk and the processor
BATCHES = 8  # statements in one round trip, since an event loop that is busy is late with each answer
LEAST_BLOCKS, MOST_BLOCKS = 8, 4096  # that one statement reads
COUNTED_BYTES = 64 << 20  # of tables whose rows are counted; larger ones are estimated
DENIALS_SECONDS, MOST_DENIALS = 86400.0, 10_000  # the age and the number of the denied keys that are kept

# A delete that is lost in a crash is made again, so nothing waits for the disk while rows are locked. The expired rows that
# were found are deleted by their keys, never by reading the whole table, however few or many the planner expects.
CLEANUP_SETTINGS = (
    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
    "set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)


class Turn(NamedTuple):
    """A turn at upkeep.

    Attributes
    ----------
    now
        The time of the server, seconds since the epoch.
    position
        The block at which the last turn ended.
    """

    now: float
    position: int


class TableSizes(NamedTuple):
    """What `get_stats` tells of the tables of states and counters; None is what this role may not know."""

    entries: int
    exact: bool
    bytes: int
    dead_rows: int | None
    hot_ratio: float | None
    partitions: int | None


@asynccontextmanager
async def _upkeep(connector: Connector, schema: Schema) -> AsyncIterator[Connection]:
    """Open a transaction on a connection of its own, in which the tables are there."""
    async with connector.own_connection() as connection, connector.transaction(connection):
        await create_missing(connection, schema, [*schema.tables, *schema.for_operators], connector.where)
        yield connection


async def take_turn(connector: Connector, schema: Schema, interval: float) -> Turn | None:
    """Take the turn at upkeep, if no node has had it for `interval` seconds of the server's clock.

    The turn is a row. An advisory lock of a session is none behind a pooler, which would leave it to another client, and one
    of a transaction would keep that open for the whole round. Neither knows when the last round was.
    """
    async with _upkeep(connector, schema) as connection:
        cursor = await connection.execute(schema.statement("take_turn").encode(), {"seconds": TURN_SHARE * interval})
        found = await cursor.fetchone()
    return None if found is None else Turn(*found)


async def end_turn(connector: Connector, schema: Schema, position: int) -> None:
    """Note how far the turn has come, and delete denials that are old or too many."""
    async with _upkeep(connector, schema) as connection:
        await connection.execute(f"UPDATE {schema.upkeep} SET position = %s".encode(), [position])  # noqa: S608
        values = {"seconds": DENIALS_SECONDS, "most": MOST_DENIALS}
        await connection.execute(schema.statement("forget_denials").encode(), values)


async def cleanup(
    connector: Connector, schema: Schema, now: float, position: int = 0, seconds: float = inf, rotated: bool = False
) -> tuple[int, int]:
    """Delete rows that had expired by `now`.

    Each table is read once, block by block, all its partitions at the same block. A statement deletes at most
    cleanup_batch_size rows and is a transaction. It reads so many blocks that it takes about `BATCH_SECONDS`.

    Parameters
    ----------
    connector, schema
        The server and the tables.
    now
        Seconds since the epoch.
    position
        The block to begin with; behind the last block it goes on at the first.
    seconds
        Most seconds; one round trip is made in any case.
    rotated
        Whether partitions in which all is over are dropped: of tables cut by time only the default partitions are read then.

    Returns
    -------
    tuple
        The number of deleted rows, and the block to go on with.
    """
    end = monotonic() + seconds
    removed = done = 0
    step, pause, most = LEAST_BLOCKS, 0.0, connector.config.cleanup_batch_size
    async with connector.own_connection() as connection:
        async with connector.transaction(connection):
            await create_missing(connection, schema, schema.tables, connector.where)
            tables = [(*each, await _blocks(connection, schema, each[0])) for each in _tables(schema, rotated)]
        total = sum(blocks for _, _, blocks in tables)
        while done < total and (done == 0 or monotonic() < end):
            batches: list[tuple[str, dict[str, Any]]] = []
            ahead = [done]
            while ahead[-1] < total and len(batches) < BATCHES:
                rows, columns, first, blocks = _locate(tables, (position + ahead[-1]) % total)
                count = min(step, blocks - first, total - ahead[-1])
                values = {"first": f"({first},0)", "end": f"({first + count},0)", "now": now, "most": most}
                batches.append((schema.statement("cleanup", **_holes(rows, columns)), values))
                ahead.append(ahead[-1] + count)
            results = await _delete(connector, connection, batches, pause)
            removed += sum(deleted for deleted, _ in results)
            # Where a statement deleted as much as it may there may be more.
            full = [deleted >= most for deleted, _ in results]
            done = ahead[full.index(True)] if any(full) else ahead[-1]
            took = sum(seconds for _, seconds in results) / len(results)
            pause = PAUSE_SHARE * took
            if any(full) or took > BATCH_SECONDS:
                step = max(LEAST_BLOCKS, step // 2)
            elif took < BATCH_SECONDS / 2:
                step = min(2 * step, MOST_BLOCKS)
    return removed, (position + done) % total if total else 0


def _tables(schema: Schema, rotated: bool) -> list[tuple[str, list[str]]]:
    """Return the tables that are cleaned up, quoted, and the columns of their primary keys."""
    by_time = isinstance(schema.strategy, ByTime)
    period = ["period"] if by_time else []
    names = ((schema.table_name, ["identifier", "name"]), (schema.counters_name, ["identifier"]))
    return [
        (schema.qualified(f"{stem(name)}_default" if by_time and rotated else name), [*columns, *period])
        for name, columns in names
    ]


def _locate(tables: Sequence[tuple[str, list[str], int]], block: int) -> tuple[str, list[str], int, int]:
    """Return the table of a block of all tables, its columns, the block's number in it, and its blocks."""
    for rows, columns, blocks in tables[:-1]:
        if block < blocks:
            return rows, columns, block, blocks
        block -= blocks
    rows, columns, blocks = tables[-1]
    return rows, columns, block, blocks


def _holes(rows: str, columns: Sequence[str]) -> dict[str, str]:
    keys = (", ".join(f"{alias}.{column}" for column in columns) for alias in "te")
    return {"rows": rows, **dict(zip(("key", "expired_key"), keys, strict=True))}


async def _blocks(connection: Connection, schema: Schema, rows: str) -> int:
    """Return the blocks of a table, or of its largest partition."""
    cursor = await connection.execute(schema.statement("blocks").encode(), {"rows": rows})
    (blocks,) = await cursor.fetchone()  # type: ignore[misc]
    return int(blocks)


async def _delete(
    connector: Connector, connection: Connection, batches: Sequence[tuple[str, Mapping[str, Any]]], pause: float
) -> list[tuple[int, float]]:
    """Execute statements that delete, each in a transaction and behind a pause, in one round trip; return their answers.

    So no row is locked while this node does something else.
    """
    seconds, patience = (str(round(each * 1e3)) for each in (UPKEEP_SECONDS, LOCK_SECONDS))
    cursors = []
    try:
        async with asyncio.timeout(UPKEEP_SECONDS), connection.pipeline():
            for statement, values in batches:
                # First: a pipeline begins a transaction with any statement, and its isolation is fixed by the first query.
                await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
                await connection.execute(CLEANUP_SETTINGS.encode(), [seconds, patience])
                await connection.execute("SELECT pg_sleep(%s)", [pause])
                cursors.append(await connection.execute(statement.encode(), values))
                await connection.execute(b"COMMIT")
        return [await cursor.fetchone() for cursor in cursors]  # type: ignore[misc]
    except TimeoutError:
        raise StorageTimeoutError(f"PostgreSQL at {connector.where}: no answer within {UPKEEP_SECONDS:g} s") from None
    except psycopg.Error as error:
        raise connector.error(error) from None


async def add_denials(connector: Connector, schema: Schema, counts: Mapping[tuple[str, str], int]) -> None:
    """Add denied requests by key to the table of denials."""
    keys = sorted(counts)
    values = {
        "identifiers": [identifier for identifier, _ in keys],
        "names": [name for _, name in keys],
        "counts": [counts[key] for key in keys],
    }
    async with _upkeep(connector, schema) as connection:
        await connection.execute(schema.statement("deny").encode(), values)


async def sizes(connector: Connector, schema: Schema) -> TableSizes:
    """Return the sizes of both tables, from the view where this role may read it."""
    async with connector.own_connection() as connection:
        async with connector.transaction(connection):
            await create_missing(connection, schema, schema.tables, connector.where)
        try:
            async with connector.transaction(connection):
                known = await _row(connection, schema, "stats")
        except StorageError as error:
            if not isinstance(error.__context__, psycopg.errors.InsufficientPrivilege | psycopg.errors.UndefinedTable):
                raise
            async with connector.own_connection() as another, connector.transaction(another):
                known = await _row(another, schema, "bare_stats")
    size, table_bytes, rows, dead, hot, partitions = known
    exact = table_bytes <= COUNTED_BYTES
    if exact:
        async with connector.own_connection() as connection, connector.transaction(connection):
            (rows,) = await _row(connection, schema, "entries")
    return TableSizes(rows, exact, size, dead, hot, partitions)


async def _row(connection: Connection, schema: Schema, template: str) -> tuple[Any, ...]:
    cursor = await connection.execute(schema.statement(template).encode())
    row: tuple[Any, ...] = await cursor.fetchone()  # type: ignore[assignment]
    return row
