"""Converting tables to another partition strategy while nodes decide.

New tables are made beside the old ones. A trigger does to them what is done to the old ones, and batches copy the rest. A
short lock then lets the new ones take the names of the old ones. Until that commits the old tables are all there is: a
conversion that was interrupted, however, is started over by the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from ratesim.errors import ConfigurationError, StorageError, StorageTimeoutError
from ratesim.progress import Progress, no_progress
from ratesim.safe_text import shorten_repr, shorten_text
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.catalog import read_strategies
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector
from ratesim.storage.postgres.creation import create_missing, find_namespace
from ratesim.storage.postgres.inspection import Table, inspect_table, obstacles, settings_clause, views_of
from ratesim.storage.postgres.partitioning import NAME_BYTES, digest_name, stem
from ratesim.storage.postgres.schema import Schema

__all__ = ["repartition"]

logger = logging.getLogger(__name__)

BATCH, LEAST_BATCH = 1000, 10  # rows that are copied in one transaction, which holds their locks
LOCK_SHARE = 0.1  # of command_timeout, that a lock is waited for at a time: whoever decides waits behind it
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries
PATIENCE = 600.0  # seconds of tries, after which another transaction is in the way
GOODBYE_SECONDS = 10.0  # that an interrupted conversion has to remove what it made
NAME_LETTERS = 37  # of a new table: its name with "_counters" is a whole stem of names of partitions
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
# A plan for a table that is not analyzed yet may read all of it for each batch.
BY_INDEX = dict.fromkeys(
    ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin"), "off"
)


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
        return self.schema.qualified(pair.old_name)

    def new_table(self, pair: Pair) -> str:
        return self.new.qualified(pair.new_name)

    @property
    def old_tables(self) -> list[str]:
        return [self.old_table(pair) for pair in self.pairs]

    @property
    def triggers(self) -> list[str]:
        return [f"{self.new.table_name}_mirror", f"{self.new.table_name}_truncate"]


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
            await _begin(guard)
            if not dry_run and not await _is_alone(guard, schema):
                raise StorageError(f"table {schema.table} is being converted by another `ratesim repartition`: wait for it")
            async with _transaction(worker):
                conversion = await _plan(worker, connector, schema, dry_run)
                rows = await _count(worker, conversion)
            if conversion.is_done:
                if not dry_run:
                    async with _transaction(worker):
                        await _drop_new(worker, conversion)
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


# -- planning -------------------------------------------------------------------------------------------------------------


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
    await _check_obstacles(worker, conversion)
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


async def _check_obstacles(connection: Connection, conversion: Conversion) -> None:
    """Raise ConfigurationError if something that is not ratesim's belongs to the tables, and would be lost."""
    if found := await obstacles(connection, conversion.old_tables, conversion.triggers):
        raise _obstacle(conversion, found)


def _obstacle(conversion: Conversion, found: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(
        f"table {conversion.schema.table} has what would not follow to the new one ({shorten_text(', '.join(found))}): "
        "drop it, convert, and make it again"
    )


async def _count(worker: Connection, conversion: Conversion) -> int:
    counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in conversion.old_tables)  # noqa: S608 - names of the schema
    (rows,) = await (await worker.execute(f"SELECT {counts}".encode())).fetchone()  # type: ignore[misc]
    return int(rows)


# -- converting -----------------------------------------------------------------------------------------------------------


async def _convert(guard: Connection, worker: Connection, conversion: Conversion, rows: int, progress: Progress) -> float:
    """Make, fill and swap the tables; returns the seconds that decisions waited for."""
    target, where = conversion.target, conversion.connector.where
    async with _transaction(worker):
        await _drop_new(worker, conversion)  # of a conversion that was killed
    async with _transaction(worker):
        functions = [each for each in target.objects() if each.kind == "FUNCTION"]
        await create_missing(worker, target, functions, where)
        await _make_tables(worker, conversion)
        await _hand_over(worker, conversion, [name for each in functions for name in each.names])
    async with _transaction(worker):
        await _lock(worker, conversion, "SHARE ROW EXCLUSIVE")
        for pair in conversion.pairs:
            await worker.execute(_filled(conversion, pair, "mirror").encode(), prepare=False)
    done = 0
    for pair in conversion.pairs:
        done = await _copy(worker, conversion, pair, done, rows, progress)
    for pair in conversion.pairs:
        await worker.execute(f"ANALYZE {conversion.new_table(pair)}".encode())
    async with _transaction(worker):
        for pair in conversion.pairs:
            await _verify(worker, conversion, pair)
    progress(rows, rows, "waiting for a lock")
    return await _swap(guard, conversion)


async def _make_tables(worker: Connection, conversion: Conversion) -> None:
    """Make the new tables, with the owner, the storage parameters and the grants of the old ones."""
    new = conversion.new
    for each in new.tables:
        if each.names != (new.versions_name,):
            await worker.execute(each.ddl.encode(), prepare=False)
    for pair in conversion.pairs:
        made = await inspect_table(worker, conversion.new_table(pair))
        assert made is not None
        if foreign := set(pair.facts.columns) - set(made.columns) - NOT_COPIED:
            raise _obstacle(conversion, [f"column {name}" for name in sorted(foreign)])
        tables = [pair.new_name]
        if isinstance(new.strategy, ByTime) and pair.key == conversion.pairs[0].key:
            tables.append(new.periods_name)
        for name in tables:
            table = sql.Identifier(new.namespace, name)
            for column, grantee, right, passes_on in pair.facts.grants:
                if column is not None and name != pair.new_name:
                    continue
                await worker.execute(
                    sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                        sql.SQL(right),
                        sql.SQL("") if column is None else sql.SQL(" ({})").format(sql.Identifier(column)),
                        table,
                        sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
                        sql.SQL(" WITH GRANT OPTION" if passes_on else ""),
                    )
                )
        for name, kind, _, _ in [each for root in tables for each in await _relations(worker, new, root)]:
            table = sql.Identifier(new.namespace, name)
            if kind == "r" and name != new.periods_name and pair.facts.settings:
                await worker.execute(sql.SQL("ALTER TABLE {} {}").format(table, settings_clause(pair.facts.settings, "SET")))
            if kind in "rp" and not pair.facts.is_owner:
                await worker.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(pair.facts.owner)))


async def _hand_over(worker: Connection, conversion: Conversion, functions: list[str]) -> None:
    """Let the roles that use the tables call the functions, and the tables' owner own those that this role has made."""
    schema, facts = conversion.schema, conversion.pairs[0].facts
    cursor = await worker.execute(
        "SELECT p.proname::text FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = to_regnamespace(%s)::oid "
        "AND p.proname = ANY (%s) AND p.proowner = current_user::regrole",
        [f'"{schema.namespace}"', functions],
    )
    grantees = {grantee for _, grantee, _, _ in facts.grants if grantee is not None}
    for (name,) in await cursor.fetchall():
        function = sql.Identifier(schema.namespace, name)
        for grantee in sorted(grantees):
            await worker.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(function, sql.Identifier(grantee)))
        if not facts.is_owner:
            await worker.execute(sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(function, sql.Identifier(facts.owner)))


def _filled(conversion: Conversion, pair: Pair, template: str, **more: str) -> str:
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


async def _copy(worker: Connection, conversion: Conversion, pair: Pair, done: int, rows: int, progress: Progress) -> int:
    """Copy the rows of a table in the order of their keys; returns how many rows are copied in all.

    Each is locked until its copy commits, so whoever changes it meanwhile changes the copy as well.
    """
    places = ", ".join(["%s"] * len(pair.key))
    after: tuple[str, ...] = ()
    batch, busy_since = BATCH, inf
    while True:
        beyond = f"({', '.join(f't.{name}' for name in pair.key)}) > ({places})" if after else "true"
        lock = _filled(conversion, pair, "copy_lock", beyond=beyond).encode()
        fill = _filled(conversion, pair, "copy", beyond=beyond, upto=places).encode()
        try:
            async with _transaction(worker, synchronous_commit="off", lock_timeout=_moment(conversion), **BY_INDEX):
                keys = await (await worker.execute(lock, [*after, batch])).fetchall()
                if not keys:
                    return done
                await worker.execute(fill, [*after, *keys[-1]])
        except LOCK_BUSY:
            busy_since = min(busy_since, monotonic())
            if monotonic() - busy_since > PATIENCE:
                raise _in_the_way(conversion) from None
            batch = max(LEAST_BATCH, batch // 2)
            await asyncio.sleep(SHORTEST_PAUSE)
            continue
        after, busy_since, batch = keys[-1], inf, min(BATCH, batch * 2)
        done += len(keys)
        progress(done, max(rows, done), f"rows of {conversion.old_table(pair)}")


async def _verify(worker: Connection, conversion: Conversion, pair: Pair) -> None:
    """Raise StorageError unless the new table has each row of the old one, once. Both are read as of one moment."""
    (lost, double) = await (await worker.execute(_filled(conversion, pair, "compare").encode())).fetchone()  # type: ignore[misc]
    if lost or double:
        raise StorageError(
            f"table {conversion.old_table(pair)} and its copy differ ({lost} rows are not the same, {double} are doubled): "
            "it stays as it is; look for what writes to the copy, and run it again"
        )


# -- swapping -------------------------------------------------------------------------------------------------------------


async def _swap(guard: Connection, conversion: Conversion) -> float:
    """Let the new tables take the place of the old ones; returns the seconds for which they were locked.

    It commits the transaction that holds the conversion's own lock, so nothing but this conversion can have swapped.
    """
    schema, new = conversion.schema, conversion.new
    roots = [(pair.new_name, pair.old_name) for pair in conversion.pairs]
    dropped = [sql.SQL("DROP TABLE {};").format(sql.Identifier(new.namespace, f"{name}_old")) for name, _ in roots]
    dropped.append(sql.SQL("DROP TABLE IF EXISTS {};").format(sql.Identifier(schema.namespace, schema.periods_name)))
    swapped = [step for name, old in roots for step in (_rename(new, old, f"{name}_old"), _rename(new, name, old))]
    if isinstance(new.strategy, ByTime):
        dropped.append(_rename(new, new.periods_name, schema.periods_name))
        roots.append((new.periods_name, schema.periods_name))
    dropped += [sql.SQL("DROP FUNCTION {}();").format(_mirror(conversion, pair)) for pair in conversion.pairs]
    rest = await _final_names(guard, conversion, roots)
    await _lock(guard, conversion, "SHARE UPDATE EXCLUSIVE")  # nobody alters the tables; everybody decides
    await _check_unchanged(guard, conversion)
    await _lock(guard, conversion, "ACCESS EXCLUSIVE")
    began = monotonic()
    views = await views_of(guard, conversion.old_tables)
    # Views are made again while the old tables are there under other names, since a view cannot lose its table.
    await guard.execute(sql.SQL("").join([*swapped, *views, *dropped, *rest]))
    await guard.execute(b"COMMIT")
    return monotonic() - began


async def _check_unchanged(guard: Connection, conversion: Conversion) -> None:
    """Raise StorageError if the tables are no longer those that the conversion began with."""
    for pair in conversion.pairs:
        facts = await inspect_table(guard, conversion.old_table(pair))
        cursor = await guard.execute(
            "SELECT count(*) FROM pg_catalog.pg_trigger AS t "
            "WHERE t.tgrelid = to_regclass(%s) AND t.tgname = ANY (%s) AND t.tgenabled = 'O'",
            [conversion.old_table(pair), conversion.triggers],
        )
        if facts is None or facts.columns != pair.facts.columns or await cursor.fetchone() != (len(conversion.triggers),):
            raise StorageError(f"table {conversion.old_table(pair)} was changed while it was converted: run it again")
    await _check_obstacles(guard, conversion)


def _rename(schema: Schema, name: str, to: str, kind: str = "TABLE") -> sql.Composed:
    statement = sql.SQL("ALTER {} {} RENAME TO {};")
    return statement.format(sql.SQL(kind), sql.Identifier(schema.namespace, name), sql.Identifier(to))


def _mirror(conversion: Conversion, pair: Pair) -> sql.Identifier:
    return sql.Identifier(conversion.new.namespace, f"{pair.new_name}_mirror")


async def _relations(connection: Connection, schema: Schema, root: str) -> list[tuple[str, str, str | None, list[str]]]:
    """Return names and kinds of a table and its partitions, of their primary keys, and of their other constraints."""
    cursor = await connection.execute(
        "SELECT c.relname::text, c.relkind::text, x.relname::text, ARRAY(SELECT k.conname::text "
        "FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND k.coninhcount = 0) "
        "FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = c.oid AND i.indisprimary "
        "LEFT JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid "
        "WHERE c.oid = to_regclass(%s) OR c.oid IN ("
        "SELECT h.inhrelid FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = to_regclass(%s))",
        [schema.qualified(root)] * 2,
    )
    return await cursor.fetchall()


async def _final_names(guard: Connection, conversion: Conversion, roots: Sequence[tuple[str, str]]) -> list[sql.Composed]:
    """Return the statements that name partitions, indexes and constraints as those of a table that was made so."""
    new, steps = conversion.new, []
    for root, final_root in roots:
        for name, _, index, constraints in await _relations(guard, new, root):
            final = final_root if name == root else stem(final_root) + name.removeprefix(root)
            if name != root:
                steps.append(_rename(new, name, final))
            if index is not None:
                end = "_pkey"
                whole = final if len(final + end) <= NAME_BYTES else digest_name(final, "", NAME_BYTES - len(end))
                steps.append(_rename(new, index, whole + end, "INDEX"))
            for constraint in constraints:
                to = constraint.replace(root, final_root)[:NAME_BYTES]
                table = sql.Identifier(new.namespace, final)
                steps.append(
                    sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {};").format(
                        table, sql.Identifier(constraint), sql.Identifier(to)
                    )
                )
    return steps


# -- transactions and locks -----------------------------------------------------------------------------------------------


async def _begin(connection: Connection, **settings: str) -> None:
    await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
    chosen = SETTINGS | settings
    await connection.execute(  # a setting that this version of the server does not have is left out
        "SELECT set_config(s.name, q.value, true) FROM unnest(%s::text[], %s::text[]) AS q (name, value) "
        "JOIN pg_catalog.pg_settings AS s ON s.name = q.name",
        [list(chosen), list(chosen.values())],
    )


@asynccontextmanager
async def _transaction(connection: Connection, **settings: str) -> AsyncIterator[None]:
    """Begin a transaction with settings of its own, and commit it, or roll it back."""
    await _begin(connection, **settings)
    try:
        yield
    except BaseException:
        if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            await connection.execute(b"ROLLBACK")
        raise
    await connection.execute(b"COMMIT")


async def _is_alone(connection: Connection, schema: Schema) -> bool:
    """Take the lock that a conversion of this table holds, until the transaction ends; returns whether it was free."""
    statement = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    cursor = await connection.execute(statement, [_lock_name(schema)])
    return await cursor.fetchone() == (True,)


def _lock_name(schema: Schema) -> str:
    return f"ratesim repartition {schema.table}"


def _moment(conversion: Conversion) -> str:
    """Return how long a lock is waited for at a time, as a setting: whoever decides waits behind it."""
    return str(max(1, round(1e3 * LOCK_SHARE * min(1.0, conversion.connector.config.command_timeout))))


async def _lock(connection: Connection, conversion: Conversion, mode: str) -> None:
    """Lock the old tables until the transaction ends: a moment at a time, and again, as long as others hold them.

    A moment is one for all partitions together, whereas lock_timeout would be one for each.
    """
    statement = f"LOCK TABLE {', '.join(conversion.old_tables)} IN {mode} MODE".encode()
    began, pause = monotonic(), SHORTEST_PAUSE
    while True:
        await connection.execute(b"SAVEPOINT before_lock")
        await connection.execute("SELECT set_config('statement_timeout', %s, true)", [_moment(conversion)])
        try:
            await connection.execute(statement)
        except LOCK_BUSY:
            if monotonic() - began > PATIENCE:
                raise _in_the_way(conversion) from None
        else:
            await connection.execute("SELECT set_config('statement_timeout', '0', true)")
            return
        await connection.execute(b"ROLLBACK TO SAVEPOINT before_lock")
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)


def _in_the_way(conversion: Conversion) -> StorageTimeoutError:
    return StorageTimeoutError(
        f"another transaction has held a lock on table {conversion.schema.table} for {PATIENCE:g} s: "
        "end it (pg_stat_activity, pg_locks), and run this again"
    )


# -- removing -------------------------------------------------------------------------------------------------------------


async def _drop_new(connection: Connection, conversion: Conversion) -> None:
    """Drop what a conversion that was interrupted has made: the triggers first, in one transaction with the tables."""
    new = conversion.new
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgname = ANY (%s) AND t.tgrelid IN ("
        "SELECT to_regclass(q.name)::oid FROM unnest(%s::text[]) AS q (name)))",
        [conversion.triggers, conversion.old_tables],
    )
    if await cursor.fetchone() == (True,):
        await _lock(connection, conversion, "ACCESS EXCLUSIVE")
        for pair in conversion.pairs:
            for trigger in conversion.triggers:
                await connection.execute(f'DROP TRIGGER IF EXISTS "{trigger}" ON {conversion.old_table(pair)}'.encode())
    for pair in conversion.pairs:
        await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_mirror(conversion, pair)))
        await connection.execute(f"DROP TABLE IF EXISTS {conversion.new_table(pair)}".encode())
    await connection.execute(f"DROP TABLE IF EXISTS {new.periods}".encode())


async def _clean_up(conversion: Conversion) -> None:
    """Remove what an interrupted conversion has made. Where that fails, the next conversion does."""
    try:
        async with (
            asyncio.timeout(GOODBYE_SECONDS),
            conversion.connector.own_connection() as connection,
            _transaction(connection),
        ):
            key = _lock_name(conversion.schema)  # the server is about to miss the connection that holds it
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
            await _drop_new(connection, conversion)
    except (TimeoutError, StorageError, psycopg.Error) as error:
        logger.warning("what was made beside table %s is left for the next conversion: %s", conversion.schema.table, error)
