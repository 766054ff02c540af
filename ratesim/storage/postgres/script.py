"""The script that an administrator runs: it creates what is missing, migrates what is older, and grants the rights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ratesim.errors import ConfigurationError
from ratesim.safe_text import shorten_repr
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.migrations import migration
from ratesim.storage.postgres.partitioning import NAME_BYTES
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
    parts = [schema.statement("prepare_script"), *tables, migration(schema), *rest]
    if schema.namespace != "public":
        parts.insert(0, f'CREATE SCHEMA IF NOT EXISTS "{schema.namespace}";')
    functions = [schema.qualified(name) for made in objects if made.kind == "FUNCTION" for name in made.names]
    to = f'"{role.replace(QUOTE, 2 * QUOTE)}"' if role else "your_role"
    mark = "" if role else "-- "
    grants = "".join(f"{mark}{each}\n" for each in _grants(schema, functions, to))
    return "\n".join(["BEGIN;\n", *(f"{part.strip()}\n" for part in parts), grants, "COMMIT;\n"])


def _grants(schema: Schema, functions: Sequence[str], to: str) -> list[str]:
    grants = [f'GRANT USAGE ON SCHEMA "{schema.namespace}" TO {to};']
    grants.append(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema.table}, {schema.counters} TO {to};")
    grants.append(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema.denied}, {schema.upkeep} TO {to};")
    grants.append(f"GRANT SELECT ON {', '.join(schema.views.values())} TO {to};")
    if isinstance(schema.strategy, ByTime):
        grants.append(f"GRANT SELECT ON {schema.periods} TO {to};")
    return grants + [f"GRANT EXECUTE ON FUNCTION {name} TO {to};" for name in functions]
