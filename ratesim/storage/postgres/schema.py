"""`Schema`: the tables and functions of a storage, and the SQL that makes them."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

from ratesim import algorithms
from ratesim.algorithms import Algorithm
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import PostgresStorageConfig

__all__ = ["Schema"]

COLUMNS = {
    "algorithm": ("t.algorithm", "text"),
    "state": ("t.state", "float8[]"),
    "created": ("extract(epoch FROM t.created_at)::float8", "float8"),
    "accessed": ("extract(epoch FROM t.last_accessed)::float8", "float8"),
    "requests": ("t.request_count", "bigint"),
    "metadata": ("t.metadata", "jsonb"),
    "watermarks": ("t.watermarks", "jsonb"),
}
CALLS = {
    "start": "(p, now)",
    "refresh": "(s, p, at)",
    "available": "(s, p, at)",
    "charge": "(s, p, cost, at)",
    "retry_after": "(s, p, cost, at)",
    "reset_after": "(s, p, at)",
    "observe": "(s, p, score, at)",
}


class Schema:
    """Fills in the templates of `sql/`.

    Parameters
    ----------
    config
        Names the table.
    """

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        table = config.table_name  # the configuration allows only names that need no escaping between quotes
        self.fill = {
            "table": f'"{table}"',
            "counters": f'"{table}_counters"',
            "unlogged": "UNLOGGED" if config.unlogged else "",
            "margin": repr(EXPIRY_MARGIN),
            "columns": ", ".join(column for column, _ in COLUMNS.values()),
            "outputs": ", ".join(f"out_{name}" for name in COLUMNS),
            "columns_and_types": ", ".join(f"out_{name} {kind}" for name, (_, kind) in COLUMNS.items()),
        }

    def statement(self, template: str, **more: str) -> bytes:
        """Fill in a template of `sql/`. Only names and constants are filled in; values are always parameters."""
        fill = self.fill | more
        text = (resources.files("ratesim.storage") / "sql" / f"{template}.sql").read_text("utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], text).encode()

    def defined(self, template: str, names: tuple[str, ...] = ()) -> tuple[str, list[bytes]]:
        """Return the name of the server's function of that template for these algorithms, and the statements that create it.

        The name ends in a digest of the source, so that nodes of different versions each call their own.
        """
        known = [algorithms.get(name) for name in names]
        calls = {call: _call(call, names) for call in CALLS} if names else {}
        calls["algorithm"] = names[0] if names else ""
        sources = [_source(algorithm) for algorithm in known]
        digest = hashlib.sha256(b"".join([self.statement(template, function="", **calls), *sources])).hexdigest()[:8]
        function = f'"{self.config.table_name}_{template}_{digest}"'
        return function, [*sources, self.statement(template, function=function, **calls)]

    def script(self, algorithm: str) -> str:
        """Return a script of all tables and functions that are created for limits of one algorithm on first use."""
        templates = ["acquire", "apply"] + ["observe"] * (algorithms.get(algorithm).feedback is not None)
        script = [self.statement("schema"), self.statement("until")]
        for template, names in [(each, (algorithm,)) for each in templates] + [("increment", ()), ("reset", ())]:
            script += [each for each in self.defined(template, names)[1] if each not in script]
        return "\n".join(each.decode().strip() + "\n" for each in script)


def _own(algorithm: Algorithm) -> str:
    """Return the prefix of the names of an algorithm's functions: of this very source, for nodes of different versions."""
    return f"ratesim_{algorithm.name}_{hashlib.sha256(algorithm.sql.encode()).hexdigest()[:8]}_"


def _source(algorithm: Algorithm) -> bytes:
    return algorithm.sql.replace(f"ratesim_{algorithm.name}_", _own(algorithm)).encode()


def _call(call: str, names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return f"{_own(algorithms.get(names[0]))}{call}{CALLS[call]}"
    cases = " ".join(f"WHEN '{name}' THEN {_own(algorithms.get(name))}{call}{CALLS[call]}" for name in names)
    return f"(CASE algorithm {cases} END)"
