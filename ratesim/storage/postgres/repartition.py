"""Converting tables to another partition strategy while nodes decide.

New tables are made beside the old ones. A trigger does to them what is done to the old ones, and batches copy the rest. A
short lock then lets the new ones take the names of the old ones. Until that commits the old tables are all there is: a
conversion that was interrupted, however, is started over by the next one.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from time import monotonic

import msgspec
import psycopg

from ratesim.errors import ConfigurationError, StorageError
from ratesim.progress import Progress, no_progress
from ratesim.safe_text import shorten_repr
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.catalog import read_strategies
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector
from ratesim.storage.postgres.conversion import (
    LOCK_BUSY,
    PATIENCE,
    SHORTEST_PAUSE,
    Conversion,
    Pair,
    begin,
    check_obstacles,
    fill_template,
    in_the_way,
    is_alone,
    lock_name,
    lock_tables,
    moment,
    transaction,
)
from ratesim.storage.postgres.creation import create_missing, find_namespace
from ratesim.storage.postgres.inspection import inspect_table
from ratesim.storage.postgres.new_tables import drop_new_tables, hand_over, make_tables
from ratesim.storage.postgres.partitioning import digest_name
from ratesim.storage.postgres.schema import Schema
from ratesim.storage.postgres.swap import swap

__all__ = ["repartition"]

logger = logging.getLogger(__name__)

BATCH, LEAST_BATCH = 1000, 10  # rows that are copied in one transaction, which holds their locks
GOODBYE_SECONDS = 10.0  # that an interrupted conversion has to remove what it made
NAME_LETTERS = 37  # of a new table: its name with "_counters" is a whole stem of names of partitions
# A plan for a table that is not analyzed yet may read all of it for each batch.
BY_INDEX = dict.fromkeys(
    ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin"), "off"
)


async def repartition(config: PostgresStorageConfig, progress: Progress = no_progress, dry_run: bool = False) -> str:
    """Convert the tables of a storage to its `partition_strategy` while nodes decide.

    Parameters
    ----------
    config
        Names the tables and the strategy; None is a table that is not cut.
    progress
        Is told how many rows are copied.
    dry_run
        Whether nothing is changed.

    Returns
    -------
    str
        What was done, or would be; one line.

    Raises
    ------
    ConfigurationError
        There is no table, nothing is to be done, or something that belongs to a table would not follow.
    StorageError
        This role lacks rights, another conversion is at work, or the server fails.
    """
    connector = Connector(config)
    try:
        async with connector.own_connection() as guard, connector.own_connection() as worker:
            schema = Schema(config, await find_namespace(guard, config, connector.where), config.partition_strategy)
            await begin(guard)
            if not dry_run and not await is_alone(guard, schema):
                raise StorageError(f"table {schema.table} is being converted by another `ratesim repartition`: wait for it")
            async with transaction(worker):
                conversion = await _plan(worker, connector, schema, dry_run)
                rows = await _count(worker, conversion)
            if conversion.is_done:
                if not dry_run:
                    async with transaction(worker):
                        await drop_new_tables(worker, conversion)
                raise ConfigurationError(
                    f"table {schema.table} is cut by {schema.strategy or 'none'} already: nothing is to be done; "
                    "partition= in the URL names the strategy to convert to"
                )
            if dry_run:
                return f"would convert {_summary(conversion)}: {rows} rows, {_size(conversion)}"
            try:
                began = monotonic()
                blocked = await _convert(guard, worker, conversion, rows, progress)
            except BaseException:
                guard.pgconn.finish()
                await _clean_up(conversion)
                raise
    except psycopg.Error as error:
        raise connector.error(error) from None
    return (
        f"converted {_summary(conversion)}: {rows} rows in {monotonic() - began:.1f} s, of which decisions waited "
        f"{blocked * 1e3:.0f} ms; put partition={conversion.target.strategy or 'none'} into the URLs of the nodes"
    )


def _summary(conversion: Conversion) -> str:
    return f"{conversion.schema.table} from {conversion.schema.strategy or 'none'} to {conversion.target.strategy or 'none'}"


def _size(conversion: Conversion) -> str:
    return f"{sum(pair.facts.size for pair in conversion.pairs) / 1e6:.1f} MB that the disk must have room for again"


async def _plan(worker: Connection, connector: Connector, target: Schema, dry_run: bool) -> Conversion:
    """Return what is to be converted, after it is certain that it can be."""
    strategies = await read_strategies(worker, target)
    if not strategies:
        raise ConfigurationError(
            f"there is no table {target.table} to convert: a storage that opens it with partition= makes it"
        )
    config, namespace = connector.config, target.namespace
    schema = Schema(config, namespace, strategies[0])
    if not dry_run:
        await create_missing(worker, schema, [*schema.tables, *schema.for_operators], connector.where)
    pairs = []
    temporary = temporary_name(schema)
    for name, new_name, key in (
        (schema.table_name, temporary, ("identifier", "name")),
        (schema.counters_name, f"{temporary}_counters", ("identifier",)),
    ):
        if (facts := await inspect_table(worker, schema.qualified(name))) is not None:
            pairs.append(Pair(name, new_name, key, facts))
    kept = msgspec.structs.replace(
        config, table_name=temporary, partition_strategy=None, unlogged=all(pair.facts.unlogged for pair in pairs)
    )
    new = Schema(kept, namespace, target.strategy)
    is_done = all(strategy == target.strategy for strategy in strategies)
    conversion = Conversion(connector, schema, target, new, tuple(pairs), is_done)
    for pair in pairs:
        await _check_rights(worker, conversion, pair)
    await check_obstacles(worker, conversion)
    return conversion


def temporary_name(schema: Schema) -> str:
    """Return the name that the new table has until the end: one that no other table has by chance."""
    return digest_name(f"{schema.table_name[: NAME_LETTERS - 15]}_new", schema.table, NAME_LETTERS)


async def _check_rights(worker: Connection, conversion: Conversion, pair: Pair) -> None:
    namespace, owner = conversion.schema.namespace, pair.facts.owner
    if not pair.facts.is_ours:
        raise StorageError(
            f"this role may not convert table {conversion.old_table(pair)}: name its owner {shorten_repr(owner)}, "
            "a member of it, or a superuser in the URL"
        )
    cursor = await worker.execute(
        "SELECT r.rolname::text FROM pg_catalog.pg_roles AS r WHERE r.rolname IN (current_user, %s) "
        "AND NOT has_schema_privilege(r.oid, to_regnamespace(%s)::oid, 'CREATE')",
        [owner, f'"{namespace}"'],
    )
    if (row := await cursor.fetchone()) is not None:
        raise StorageError(
            f"role {shorten_repr(row[0])} may not create the new tables: "
            f'let an administrator GRANT CREATE ON SCHEMA "{namespace}" to it'
        )


async def _count(worker: Connection, conversion: Conversion) -> int:
    counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in conversion.old_tables)  # noqa: S608 - names of the schema
    (rows,) = await (await worker.execute(f"SELECT {counts}".encode())).fetchone()  # type: ignore[misc]
    return int(rows)


async def _convert(guard: Connection, worker: Connection, conversion: Conversion, rows: int, progress: Progress) -> float:
    """Make, fill and swap the tables; returns the seconds that decisions waited for."""
    target, where = conversion.target, conversion.connector.where
    async with transaction(worker):
        await drop_new_tables(worker, conversion)  # of a conversion that was killed
    async with transaction(worker):
        functions = [each for each in target.objects() if each.kind == "FUNCTION"]
        await create_missing(worker, target, functions, where)
        await make_tables(worker, conversion)
        await hand_over(worker, conversion, [name for each in functions for name in each.names])
    async with transaction(worker):
        await lock_tables(worker, conversion, "SHARE ROW EXCLUSIVE")
        for pair in conversion.pairs:
            await worker.execute(fill_template(conversion, pair, "mirror").encode(), prepare=False)
    done = 0
    for pair in conversion.pairs:
        done = await _copy(worker, conversion, pair, done, rows, progress)
    for pair in conversion.pairs:
        await worker.execute(f"ANALYZE {conversion.new_table(pair)}".encode())
    async with transaction(worker):
        for pair in conversion.pairs:
            await _verify(worker, conversion, pair)
    progress(rows, rows, "waiting for a lock")
    return await swap(guard, conversion)


async def _copy(worker: Connection, conversion: Conversion, pair: Pair, done: int, rows: int, progress: Progress) -> int:
    """Copy the rows of a table in the order of their keys; returns how many rows are copied in all.

    Each is locked until its copy commits, so whoever changes it meanwhile changes the copy as well.
    """
    places = ", ".join(["%s"] * len(pair.key))
    after: tuple[str, ...] = ()
    batch, busy_since = BATCH, inf
    while True:
        beyond = f"({', '.join(f't.{name}' for name in pair.key)}) > ({places})" if after else "true"
        lock = fill_template(conversion, pair, "copy_lock", beyond=beyond).encode()
        fill = fill_template(conversion, pair, "copy", beyond=beyond, upto=places).encode()
        try:
            async with transaction(worker, synchronous_commit="off", lock_timeout=moment(conversion), **BY_INDEX):
                keys = await (await worker.execute(lock, [*after, batch])).fetchall()
                if not keys:
                    return done
                await worker.execute(fill, [*after, *keys[-1]])
        except LOCK_BUSY:
            busy_since = min(busy_since, monotonic())
            if monotonic() - busy_since > PATIENCE:
                raise in_the_way(conversion) from None
            batch = max(LEAST_BATCH, batch // 2)
            await asyncio.sleep(SHORTEST_PAUSE)
            continue
        after, busy_since, batch = keys[-1], inf, min(BATCH, batch * 2)
        done += len(keys)
        progress(done, max(rows, done), f"rows of {conversion.old_table(pair)}")


async def _verify(worker: Connection, conversion: Conversion, pair: Pair) -> None:
    """Raise StorageError unless the new table has each row of the old one, once. Both are read as of one moment."""
    (lost, double) = await (await worker.execute(fill_template(conversion, pair, "compare").encode())).fetchone()  # type: ignore[misc]
    if lost or double:
        raise StorageError(
            f"table {conversion.old_table(pair)} and its copy differ ({lost} rows are not the same, {double} are doubled): "
            "it stays as it is; look for what writes to the copy, and run it again"
        )


async def _clean_up(conversion: Conversion) -> None:
    """Remove what an interrupted conversion has made. Where that fails, the next conversion does."""
    try:
        async with (
            asyncio.timeout(GOODBYE_SECONDS),
            conversion.connector.own_connection() as connection,
            transaction(connection),
        ):
            key = lock_name(conversion.schema)  # the server is about to miss the connection that holds it
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
            await drop_new_tables(connection, conversion)
    except (TimeoutError, StorageError, psycopg.Error) as error:
        logger.warning("what was made beside table %s is left for the next conversion: %s", conversion.schema.table, error)
