"""The new tables of a conversion: made with the owner, rights and parameters of the old ones, and dropped where it fails."""

from __future__ import annotations

from psycopg import sql

from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.conversion import NOT_COPIED, Conversion, lock_tables, mirror_of, obstacle_error
from ratesim.storage.postgres.inspection import inspect_table, relations, settings_clause

__all__ = ["drop_new_tables", "hand_over", "make_tables"]


async def make_tables(worker: Connection, conversion: Conversion) -> None:
    """Make the new tables, with the owner, the storage parameters and the grants of the old ones."""
    new = conversion.new
    for each in new.tables:
        if each.names != (new.versions_name,):
            await worker.execute(each.ddl.encode(), prepare=False)
    for pair in conversion.pairs:
        made = await inspect_table(worker, conversion.new_table(pair))
        assert made is not None
        if foreign := set(pair.facts.columns) - set(made.columns) - NOT_COPIED:
            raise obstacle_error(conversion, [f"column {name}" for name in sorted(foreign)])
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
        for name, kind, _, _ in [each for root in tables for each in await relations(worker, new.qualified(root))]:
            table = sql.Identifier(new.namespace, name)
            if kind == "r" and name != new.periods_name and pair.facts.settings:
                await worker.execute(sql.SQL("ALTER TABLE {} {}").format(table, settings_clause(pair.facts.settings, "SET")))
            if kind in "rp" and not pair.facts.is_owner:
                await worker.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(pair.facts.owner)))


async def hand_over(worker: Connection, conversion: Conversion, functions: list[str]) -> None:
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


async def drop_new_tables(connection: Connection, conversion: Conversion) -> None:
    """Drop what a conversion that was interrupted has made: the triggers first, in one transaction with the tables."""
    new = conversion.new
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgname = ANY (%s) AND t.tgrelid IN ("
        "SELECT to_regclass(q.name)::oid FROM unnest(%s::text[]) AS q (name)))",
        [conversion.triggers, conversion.old_tables],
    )
    if await cursor.fetchone() == (True,):
        await lock_tables(connection, conversion, "ACCESS EXCLUSIVE")
        for pair in conversion.pairs:
            for trigger in conversion.triggers:
                await connection.execute(f'DROP TRIGGER IF EXISTS "{trigger}" ON {conversion.old_table(pair)}'.encode())
    for pair in conversion.pairs:
        await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(mirror_of(conversion, pair)))
        await connection.execute(f"DROP TABLE IF EXISTS {conversion.new_table(pair)}".encode())
    await connection.execute(f"DROP TABLE IF EXISTS {new.periods}".encode())
