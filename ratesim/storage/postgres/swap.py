"""The end of a conversion: under a short lock the new tables take the names of the old ones."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from psycopg import sql

from ratesim.errors import StorageError
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.conversion import Conversion, check_obstacles, lock_tables, mirror_of
from ratesim.storage.postgres.inspection import inspect_table, relations, views_of
from ratesim.storage.postgres.partitioning import NAME_BYTES, digest_name, stem
from ratesim.storage.postgres.schema import Schema

__all__ = ["swap"]


async def swap(guard: Connection, conversion: Conversion) -> float:
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
    dropped += [sql.SQL("DROP FUNCTION {}();").format(mirror_of(conversion, pair)) for pair in conversion.pairs]
    rest = await _final_names(guard, conversion, roots)
    await lock_tables(guard, conversion, "SHARE UPDATE EXCLUSIVE")  # nobody alters the tables; everybody decides
    await _check_unchanged(guard, conversion)
    await lock_tables(guard, conversion, "ACCESS EXCLUSIVE")
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
    await check_obstacles(guard, conversion)


def _rename(schema: Schema, name: str, to: str, kind: str = "TABLE") -> sql.Composed:
    statement = sql.SQL("ALTER {} {} RENAME TO {};")
    return statement.format(sql.SQL(kind), sql.Identifier(schema.namespace, name), sql.Identifier(to))


async def _final_names(guard: Connection, conversion: Conversion, roots: Sequence[tuple[str, str]]) -> list[sql.Composed]:
    """Return the statements that name partitions, indexes and constraints as those of a table that was made so."""
    new, steps = conversion.new, []
    for root, final_root in roots:
        for name, _, index, constraints in await relations(guard, new.qualified(root)):
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
