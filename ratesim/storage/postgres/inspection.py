"""What belongs to a table besides its rows, as the catalog knows it: its owner, rights, settings, views and obstacles."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import sql

from ratesim.storage.postgres.connections import Connection

__all__ = ["Table", "inspect_table", "obstacles", "relations", "settings_clause", "views_of"]


class Table(NamedTuple):
    """A table with its partitions.

    Attributes
    ----------
    owner
        The role that owns it.
    is_ours
        Whether the present role has the rights of the owner.
    is_owner
        Whether the present role is the owner.
    unlogged
        Whether all that hold its rows are unlogged.
    columns
        The names of its columns, in order.
    settings
        Storage parameters that all that hold its rows have in common, with their values.
    grants
        Column (None: the table), role (None: everybody), right, and whether that may be passed on.
    size
        Bytes, with indexes.
    """

    owner: str
    is_ours: bool
    is_owner: bool
    unlogged: bool
    columns: list[str]
    settings: list[list[str]]
    grants: list[tuple[str | None, str | None, str, bool]]
    size: int


# Those that hold the rows of a table: its partitions, or itself.
LEAVES = """(SELECT l.* FROM pg_catalog.pg_class AS l WHERE l.relkind = 'r' AND l.oid IN (
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid UNION ALL SELECT c.oid))"""
FACTS = f"""
SELECT pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), c.relowner = current_user::regrole,
  (SELECT coalesce(bool_and(l.relpersistence = 'u'), false) FROM {LEAVES} AS l),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
  ARRAY(SELECT ARRAY[split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)]
    FROM {LEAVES} AS l LEFT JOIN pg_catalog.pg_class AS toast ON toast.oid = l.reltoastrelid
    CROSS JOIN LATERAL (
      SELECT unnest(l.reloptions) UNION ALL SELECT 'toast.' || unnest(toast.reloptions)) AS o (option)
    GROUP BY o.option HAVING count(*) = (SELECT count(*) FROM {LEAVES} AS every)),
  (SELECT coalesce(sum(pg_total_relation_size(l.oid)), 0)::bigint FROM {LEAVES} AS l)
FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass(%s)
"""  # noqa: S608
GRANTS = """
SELECT g.attname, CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable
FROM (
  SELECT NULL::text AS attname, c.relacl AS acl, c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass(%s)
  UNION ALL
  SELECT t.attname::text, t.attacl, 0 FROM pg_catalog.pg_attribute AS t
  WHERE t.attrelid = to_regclass(%s) AND t.attnum > 0 AND NOT t.attisdropped
) AS g CROSS JOIN LATERAL aclexplode(g.acl) AS a WHERE a.grantee <> g.relowner
"""
# What a table has that is not ratesim's, and what else would not follow if another took its place.
OBSTACLES = """
WITH root AS (SELECT to_regclass(q.name)::oid AS oid FROM unnest(%(tables)s::text[]) AS q (name)),
part AS (SELECT oid FROM root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN root ON root.oid = i.inhparent),
kind AS (SELECT t.oid FROM pg_catalog.pg_type AS t WHERE t.typrelid IN (SELECT oid FROM part) OR t.typelem IN (
  SELECT e.oid FROM pg_catalog.pg_type AS e WHERE e.typrelid IN (SELECT oid FROM part)))
SELECT pg_describe_object('pg_trigger'::regclass, t.oid, 0) FROM pg_catalog.pg_trigger AS t
  WHERE t.tgrelid IN (SELECT oid FROM part) AND NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname <> ALL (%(triggers)s)
UNION SELECT pg_describe_object('pg_class'::regclass, x.indexrelid, 0) FROM pg_catalog.pg_index AS x
  WHERE x.indrelid IN (SELECT oid FROM part) AND NOT x.indisprimary
UNION SELECT pg_describe_object('pg_constraint'::regclass, k.oid, 0) FROM pg_catalog.pg_constraint AS k
  WHERE k.conrelid IN (SELECT oid FROM part) AND k.contype NOT IN ('p', 'n')
UNION SELECT pg_describe_object('pg_policy'::regclass, p.oid, 0) FROM pg_catalog.pg_policy AS p
  WHERE p.polrelid IN (SELECT oid FROM part)
UNION SELECT pg_describe_object('pg_publication_rel'::regclass, p.oid, 0) FROM pg_catalog.pg_publication_rel AS p
  WHERE p.prrelid IN (SELECT oid FROM part)
UNION SELECT pg_describe_object('pg_rewrite'::regclass, r.oid, 0) FROM pg_catalog.pg_rewrite AS r
  WHERE r.ev_class IN (SELECT oid FROM part)
UNION SELECT pg_describe_object('pg_class'::regclass, i.inhrelid, 0) FROM pg_catalog.pg_inherits AS i
  JOIN root ON root.oid = i.inhparent JOIN pg_catalog.pg_class AS c ON c.oid = root.oid WHERE c.relkind = 'r'
UNION SELECT coalesce(
    'view ' || v.oid::regclass || CASE WHEN pg_has_role(v.relowner, 'USAGE') THEN '' ELSE ' of another owner' END,
    pg_describe_object(d.classid, d.objid, d.objsubid))
  FROM pg_catalog.pg_depend AS d
  LEFT JOIN pg_catalog.pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  LEFT JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class
  WHERE d.deptype = 'n' AND (
    d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM kind)
    OR d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM part)
      AND (v.relkind = 'v' AND d.refobjid IN (SELECT oid FROM root) AND pg_has_role(v.relowner, 'USAGE')) IS NOT TRUE
  )
ORDER BY 1
"""
VIEWS = """
SELECT DISTINCT v.oid, n.nspname::text, v.relname::text, pg_get_viewdef(v.oid),
  ARRAY(SELECT ARRAY[split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)]
    FROM unnest(v.reloptions) AS o (option))
FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_catalog.pg_namespace AS n ON n.oid = v.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (
  SELECT to_regclass(q.name)::oid FROM unnest(%s::text[]) AS q (name))
ORDER BY v.oid
"""


async def inspect_table(connection: Connection, table: str) -> Table | None:
    """Return what the catalog knows of a table, which is named with its schema and quoted; None where there is none."""
    row = await (await connection.execute(FACTS.encode(), [table])).fetchone()
    if row is None:
        return None
    owner, is_ours, is_owner, unlogged, columns, settings, size = row
    grants = await (await connection.execute(GRANTS, [table, table])).fetchall()
    return Table(owner, is_ours, is_owner, unlogged, columns, settings, grants, size)


async def obstacles(connection: Connection, tables: list[str], triggers: list[str]) -> list[str]:
    """Describe what would be lost if others took the place of these tables; triggers are expected ones."""
    cursor = await connection.execute(OBSTACLES, {"tables": tables, "triggers": triggers})
    return [row[0] for row in await cursor.fetchall()]


async def views_of(connection: Connection, tables: list[str]) -> list[sql.Composed]:
    """Return the statements that make the views of some tables again, on the tables that have their names by then.

    The search_path must name no schema of theirs, so that the catalog names them in full.
    """
    found = []
    for _, namespace, name, definition, options in await (await connection.execute(VIEWS, [tables])).fetchall():
        text = sql.SQL(definition)  # as the server writes it, with a semicolon
        statement = sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}")
        found.append(statement.format(sql.Identifier(namespace, name), settings_clause(options, " WITH"), text))
    return found


def settings_clause(settings: list[list[str]], keyword: str) -> sql.Composable:
    """Return storage parameters as a clause; nothing without any."""
    if not settings:
        return sql.SQL("")
    pairs = (sql.SQL("{} = {}").format(sql.SQL(name), sql.Literal(value)) for name, value in settings)
    return sql.SQL(keyword + " (") + sql.SQL(", ").join(pairs) + sql.SQL(")")


async def relations(connection: Connection, table: str) -> list[tuple[str, str, str | None, list[str]]]:
    """Return names and kinds of a table and its partitions, of their primary keys, and of their other constraints."""
    cursor = await connection.execute(
        "SELECT c.relname::text, c.relkind::text, x.relname::text, ARRAY(SELECT k.conname::text "
        "FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND k.coninhcount = 0) "
        "FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = c.oid AND i.indisprimary "
        "LEFT JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid "
        "WHERE c.oid = to_regclass(%s) OR c.oid IN ("
        "SELECT h.inhrelid FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = to_regclass(%s))",
        [table, table],
    )
    return await cursor.fetchall()
