"""The partitions of each strategy: their names and bounds, and how a table is cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime, PartitionStrategy

__all__ = ["NAME_BYTES", "clause", "digest_name", "name_format", "partitions", "stem"]

NAME_BYTES = 63  # PostgreSQL cuts off the rest of a name
DIGEST_LETTERS = 10
SUFFIX_BYTES = 16  # of the longest name of a partition behind its table's: _t20261129103000
AHEAD = 2  # spans of time behind the present one whose partitions are made in advance


def digest_name(name: str, source: str, most_bytes: int = NAME_BYTES) -> str:
    """Return a name of at most so many bytes that ends in a digest of itself and of a source."""
    digest = hashlib.sha256(f"{name}\0{source}".encode()).hexdigest()[:DIGEST_LETTERS]
    kept = name.encode()[: most_bytes - DIGEST_LETTERS - 1].decode(errors="ignore")
    return f"{kept}_{digest}"


def stem(table: str) -> str:
    """Return what the names of a table's partitions begin with: its name, as far as the rest has room behind it."""
    most = NAME_BYTES - SUFFIX_BYTES
    return table if len(table) <= most else digest_name(table, "", most)


def name_format(strategy: ByTime) -> str:
    """Return the pattern of `to_char` for the beginning of a span: as much of it as tells spans apart."""
    for length, pattern in ((86400, "YYYYMMDD"), (3600, "YYYYMMDDHH24"), (60, "YYYYMMDDHH24MI")):
        if strategy.seconds % length == 0:
            return pattern
    return "YYYYMMDDHH24MISS"


def clause(strategy: PartitionStrategy | None) -> str:
    """Return how a table of this strategy is cut, as `CREATE TABLE` says it."""
    if strategy is None:
        return ""
    if isinstance(strategy, ByHash):
        return " PARTITION BY HASH (identifier)"
    return f" PARTITION BY RANGE ({'period' if isinstance(strategy, ByTime) else 'identifier'})"


def partitions(strategy: PartitionStrategy | None, table: str) -> Iterator[tuple[str, str]]:
    """Yield the names and bounds of a table's partitions; those of spans of time are made by sql/time_partitions.sql."""
    if isinstance(strategy, ByHash):
        for number in range(strategy.partitions):
            yield f"{stem(table)}_h{number}", f"FOR VALUES WITH (MODULUS {strategy.partitions}, REMAINDER {number})"
    elif isinstance(strategy, ByIdentifier):
        for number, prefix in enumerate(strategy.prefixes):
            yield f"{stem(table)}_i{number}", f"FOR VALUES FROM ({_literal(prefix)}) TO ({_successor(prefix)})"
    if isinstance(strategy, ByTime | ByIdentifier):
        yield f"{stem(table)}_default", "DEFAULT"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _successor(prefix: str) -> str:
    """Return the least text, by its bytes, behind all that begin with a prefix, as the bound of a partition."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return "MAXVALUE"
    code = ord(kept[-1]) + 1
    return _literal(kept[:-1] + chr(0xE000 if code == 0xD800 else code))  # surrogates are no characters
