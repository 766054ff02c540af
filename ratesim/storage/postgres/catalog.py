"""How the tables are really cut into partitions, which the catalog of the database knows."""

from __future__ import annotations

import re

from ratesim.errors import ConfigurationError
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime, PartitionStrategy
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.partitioning import partitions
from ratesim.storage.postgres.schema import Schema

__all__ = ["read_strategies", "read_strategy"]

# A row for each table that is there: how it is cut, by which columns, and the bounds of its partitions. A partition that is
# cut itself has no bounds that are known here. Those of spans of time are told by the server, in seconds since the epoch:
# their text depends on settings of the session.
CATALOG = """
SELECT q.name, c.relispartition, p.partstrat::text,
  ARRAY(SELECT coalesce(a.attname::text, '(an expression)') FROM unnest(p.partattrs) WITH ORDINALITY AS k (number, place)
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.place),
  ARRAY(SELECT CASE WHEN l.relkind = 'p' THEN 'cut again' ELSE pg_get_expr(l.relpartbound, l.oid) END
    FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS l ON l.oid = i.inhrelid WHERE i.inhparent = c.oid)
FROM unnest(%s::text[]) AS q (name) JOIN pg_catalog.pg_class AS c ON c.oid = to_regclass(q.name)
LEFT JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid
"""
SPANS = """
WITH bound AS (
  SELECT m[1]::timestamptz AS lower, m[2]::timestamptz AS upper
    FROM unnest(%s::text[]) AS q (bounds), regexp_match(bounds, 'FROM \\(''(.*)''\\) TO \\(''(.*)''\\)') AS m
    WHERE bounds <> 'DEFAULT'
), span AS (SELECT extract(epoch FROM max(upper - lower)) AS seconds FROM bound)
SELECT seconds::float8, (SELECT bool_and(extract(epoch FROM upper - lower) = seconds
  AND mod(extract(epoch FROM lower), seconds) = 0) FROM bound) FROM span
"""
SPAN = "SELECT extract(epoch FROM span)::float8 FROM {periods}"


async def read_strategies(connection: Connection, schema: Schema) -> list[PartitionStrategy | None]:
    """Return how the table of states is really cut, and how that of counters is; of those that are there.

    The connection is in a transaction.

    Raises
    ------
    ConfigurationError
        A table is cut as no strategy does it, or is itself a partition.
    """
    cursor = await connection.execute(CATALOG, [[schema.table, schema.counters]])
    found: list[PartitionStrategy | None] = []
    for name, is_partition, kind, columns, bounds in await cursor.fetchall():
        if is_partition:
            raise ConfigurationError(f"table {name} is a partition of another: choose another table_name")
        strategy: PartitionStrategy | None = None
        if kind == "r" and columns == ["period"] and bounds:
            strategy = await _by_time(connection, schema, bounds)
        elif kind is not None and columns == ["identifier"] and bounds:
            strategy = _strategy(kind, bounds)
        if kind is not None and strategy is None:
            raise ConfigurationError(
                f"table {name} is cut into partitions by hand, as no partition_strategy does it: choose another table_name, "
                "or make the partitions that `ratesim schema URL` prints"
            )
        found.append(strategy)
    return found


async def read_strategy(
    connection: Connection, schema: Schema, absent: PartitionStrategy | None
) -> PartitionStrategy | None:
    """Return how the tables are really cut.

    Parameters
    ----------
    connection
        In a transaction.
    schema
        Names the tables.
    absent
        The answer if there are no tables yet.

    Raises
    ------
    ConfigurationError
        A table is cut as no strategy does it, or otherwise than the other one, or is itself a partition.
    """
    found = await read_strategies(connection, schema)
    if not found:
        return absent
    if found[0] != found[-1]:
        raise ConfigurationError(
            f"table {schema.table} is cut by {found[0] or 'none'}, {schema.counters} by {found[-1] or 'none'}: "
            "`ratesim repartition URL` cuts both alike"
        )
    return found[0]


async def _by_time(connection: Connection, schema: Schema, bounds: list[str]) -> ByTime | None:
    """Return the strategy by time whose partitions have just these bounds; the span in use tells it where there is none."""
    seconds, alike = await (await connection.execute(SPANS.encode(), [bounds])).fetchone()  # type: ignore[misc]
    if seconds is None and await (await connection.execute("SELECT to_regclass(%s)", [schema.periods])).fetchone() != (
        None,
    ):
        row = await (await connection.execute(SPAN.format(periods=schema.periods).encode())).fetchone()
        seconds, alike = row[0] if row else None, True
    try:
        return ByTime(seconds) if alike and "DEFAULT" in bounds else None
    except ConfigurationError:
        return None


def _strategy(kind: str, bounds: list[str]) -> ByHash | ByIdentifier | None:
    """Return the strategy by identifiers whose partitions have just these bounds."""
    strategy: ByHash | ByIdentifier
    try:
        if kind == "h":
            strategy = ByHash(len(bounds))
        else:
            starts = (re.match(r"FOR VALUES FROM \('((?:[^']|'')+)'\)", each) for each in bounds if each != "DEFAULT")
            strategy = ByIdentifier(tuple(start[1].replace("''", "'") for start in starts if start))
    except ConfigurationError:
        return None
    wanted = sorted(each.casefold() for _, each in partitions(strategy, ""))
    return strategy if sorted(each.casefold() for each in bounds) == wanted else None
