"""The script that an administrator runs: it creates what is missing, migrates what is older, and grants the rights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg import sql

from ratesim.errors import ConfigurationError
from ratesim.safe_text import shorten_repr
from ratesim.storage.partitions import ByHash, ByTime
from ratesim.storage.postgres.migrations import migration
from ratesim.storage.postgres.partitioning import NAME_BYTES, clause, partitions
from ratesim.storage.postgres.schema import Schema

__all__ = ["script"]

QUOTE = '"'


def script(schema: Schema, names: Sequence[str] = (), role: str = "") -> str:
    """Return a script that creates whatever limits of some algorithms need, and migrates tables of an older version.

    It may be run again, by the same owner.

    Parameters
    ----------
    schema
        The tables and functions.
    names
        Algorithms; none named: all known. With more than one, requests with limits of several algorithms are provided for.
    role
        A role that is given the rights that an application needs; "" writes them as comments.

    Raises
    ------
    ConfigurationError
        The role is no name that PostgreSQL can hold.
    """
    if len(role.encode()) > NAME_BYTES or not role.isprintable():
        raise ConfigurationError(f"role {shorten_repr(role)}: use printable characters, at most {NAME_BYTES} bytes")
    objects = schema.objects(names)
    tables = [re.sub(r'\bTABLE (?=")', "TABLE IF NOT EXISTS ", made.ddl) for made in objects if made.kind == "TABLE"]
    rest = [made.ddl for made in objects if made.kind != "TABLE"]
    parts = [_prepare(schema), *tables, migration(schema), *rest]
    if schema.namespace != "public":
        parts.insert(0, f'CREATE SCHEMA IF NOT EXISTS "{schema.namespace}";')
    functions = [schema.qualified(name) for made in objects if made.kind == "FUNCTION" for name in made.names]
    to = f'"{role.replace(QUOTE, 2 * QUOTE)}"' if role else "your_role"
    mark = "" if role else "-- "
    grants = "".join(f"{mark}{each}\n" for each in _grants(schema, functions, to))
    grants += f"-- For people: GRANT SELECT ON {', '.join(schema.views.values())} TO operator;\n"
    grants += f"-- GRANT EXECUTE ON FUNCTION {schema.read_top_keys} TO operator;\n"
    if isinstance(schema.strategy, ByTime):
        grants += _rotation_rights(schema, role, to)
    return "\n".join(["BEGIN;\n", *(f"{part.strip()}\n" for part in parts), grants, "COMMIT;\n"])


def _prepare(schema: Schema) -> str:
    """Return what comes first: a lock, and a check of tables that are there already."""
    bounds = [bounds for _, bounds in partitions(schema.strategy, schema.table_name)]
    if isinstance(schema.strategy, ByHash):
        bounds = [
            each.replace("MODULUS", "modulus").replace("REMAINDER", "remainder") for each in bounds
        ]  # as it tells them
    cut = clause(schema.strategy).removeprefix(" PARTITION BY ") or "none"
    return schema.statement("prepare_script", cut=cut, bounds=sql.Literal(" ".join(sorted(bounds))).as_string())


def _rotation_rights(schema: Schema, role: str, to: str) -> str:
    """Return, as comments, the rights that rotation needs beyond those of an application, and what having none means."""
    own = "SELECT format('ALTER TABLE %s OWNER TO %I', relid::regclass, {}::text) FROM pg_partition_tree({}) \\gexec"
    name = sql.Literal(role or "your_role").as_string()
    lines = [
        "",
        "Only an owner makes the partitions of a table that is cut by time, and drops them. With the rights above alone",
        "rows go on into the last partition that was made, expired ones are deleted one by one, and health_check tells of",
        "it. Let one node connect as the owner, or run these in psql for all: they may then alter and drop the tables, too.",
        *(own.format(name, sql.Literal(table).as_string()) for table in (schema.table, schema.counters)),
        f"ALTER TABLE {schema.periods} OWNER TO {to};",
        f'GRANT CREATE ON SCHEMA "{schema.namespace}" TO {to};',
    ]
    return "".join(f"-- {line}".rstrip() + "\n" for line in lines)


def _grants(schema: Schema, functions: Sequence[str], to: str) -> list[str]:
    grants = [f'GRANT USAGE ON SCHEMA "{schema.namespace}" TO {to};']
    changed = f"{schema.table}, {schema.counters}, {schema.denied}"
    grants.append(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {changed} TO {to};")
    grants.append(f"GRANT SELECT, INSERT, UPDATE ON {schema.upkeep} TO {to};")
    grants.append(f"GRANT SELECT ON {schema.views['sizes']} TO {to};")
    if isinstance(schema.strategy, ByTime):
        grants.append(f"GRANT SELECT ON {schema.periods} TO {to};")
    return grants + [f"GRANT EXECUTE ON FUNCTION {name} TO {to};" for name in functions]
