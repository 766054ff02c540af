"""Upkeep of the tables: removing expired rows, whose turn it is to do so, and counting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector
from ratesim.storage.postgres.creation import create_missing
from ratesim.storage.postgres.schema import Schema

__all__ = ["claim_cleanup", "cleanup", "sizes"]

CLEANUP_ROW = "\x01ratesim cleanup"  # identifier of the counter that says whose turn it is


@asynccontextmanager
async def _upkeep(connector: Connector, schema: Schema) -> AsyncIterator[Connection]:
    """Open a transaction on a connection of its own, in which the tables are there."""
    async with connector.own_connection() as connection, connector.transaction(connection):
        await create_missing(connection, schema, [*schema.tables, *schema.for_operators], connector.where)
        yield connection


async def cleanup(connector: Connector, schema: Schema, now: float) -> int:
    """Delete rows that had expired by `now`, and return their number.

    It makes one pass over each table in its physical order, in statements of cleanup_batch_size rows, each a transaction.
    """
    total = 0
    async with connector.own_connection() as connection:
        async with connector.transaction(connection):
            await create_missing(connection, schema, [*schema.tables, *schema.for_operators], connector.where)
        for rows in (schema.table, schema.counters):
            statement = schema.statement("cleanup", rows=rows).encode()
            after: str | None = "(0,0)"
            while after is not None:
                async with connector.transaction(connection):
                    values = {"after": after, "now": now, "most": connector.config.cleanup_batch_size}
                    cursor = await connection.execute(statement, values)
                    count, after = await cursor.fetchone()  # type: ignore[misc]
                total += count
    return total


async def claim_cleanup(connector: Connector, schema: Schema, interval: float) -> float | None:
    """Take the turn to clean up, if no node has had it for `interval` seconds of the server's clock.

    Returns
    -------
    float or None
        The time of the server, seconds since the epoch; None if it is not this node's turn.
    """
    async with _upkeep(connector, schema) as connection:
        # Less than the interval: the node whose turn it was is a little late at times.
        values = {"row": CLEANUP_ROW, "interval": 0.9 * interval}
        cursor = await connection.execute(schema.statement("claim_cleanup").encode(), values)
        found = await cursor.fetchone()
    return None if found is None else float(found[0])


async def sizes(connector: Connector, schema: Schema) -> tuple[int, int]:
    """Return rows and bytes of both tables with their indexes."""
    async with _upkeep(connector, schema) as connection:
        names = {"table": schema.table, "counters": schema.counters, "row": CLEANUP_ROW}
        cursor = await connection.execute(schema.statement("stats").encode(), names)
        entries, size = await cursor.fetchone()  # type: ignore[misc]
        return entries, size
