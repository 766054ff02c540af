"""`Schema`: the tables and functions of a storage, their names, and the SQL that creates them.

Every object is named by schema and table of its storage, so that storages with other tables, and roles that own other
objects, do not meet. The name of a function ends in a digest of its source, so that nodes of different versions each call
their own. Functions name whatever they use with its schema, so `search_path` has no say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from ratesim import algorithms
from ratesim.algorithms import Algorithm
from ratesim.errors import ConfigurationError
from ratesim.safe_text import shorten_repr
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.partitions import ByTime, PartitionStrategy
from ratesim.storage.postgres.partitioning import AHEAD, NAME_BYTES, clause, digest_name, name_format, partitions, stem
from ratesim.storage.postgres.single_limit import SIZED, TEMPLATES, single_templates, source

__all__ = ["Object", "Schema"]

VIEWS = ("top_keys", "denials", "partitions", "sizes")  # in the order in which sql/views.sql makes them

SERVER_TIME = "extract(epoch FROM clock_timestamp())::float8"
# The beginning of the present span, by the server's clock: spans are counted from the epoch.
THIS_PERIOD = "to_timestamp(floor(extract(epoch FROM clock_timestamp()) / {seconds!r}) * {seconds!r})"
# A node whose clock is ahead must not delete what is live for the others.
CLEANUP_TIME = f"least(%(now)s::float8, {SERVER_TIME})"
# The time of an operation, by the clock that the configuration names. A charge that names no time of sending says -1.
TIMES = {
    "client": {
        "now": "nows[k]",
        "set_now": "",
        "set_nows": "",
        "moved": "0",
        "query_now": "q.now",
        "cleanup_now": CLEANUP_TIME,
    },
    "server": {
        "now": SERVER_TIME,
        "set_now": f"now := {SERVER_TIME};",
        "set_nows": f"nows := array_fill({SERVER_TIME}, ARRAY[n]);",
        "moved": f"CASE WHEN sents[k] >= 0 THEN {SERVER_TIME} - sents[k] ELSE 0 END",
        "query_now": SERVER_TIME,
        "cleanup_now": SERVER_TIME,
    },
}
HELPERS = ("until", "insert_row", "insert_counter")  # functions that others call
OF_TIME = frozenset({"insert_row", "insert_counter", "put", "increment", "claim"})  # have a form for tables cut by time
# What differs where a row is found by its key, and by the period that its partition is chosen by. A row's period is its
# `place`: an UPDATE by key names it, so that only one partition is searched. Nothing but the helpers may insert into a
# table that is cut by time, because the primary key is unique only within a period. Whoever reads a row to write to it
# passes over one that is over and not `in_use`; `insert_row`, whose `born` has to be the same `now`, replaces that one.
WHOLE = {
    "arbiter": "(identifier, name)",
    "counter_arbiter": "(identifier)",
    "and_period": "",
    "period_column": "",
    "place": "NULL::timestamptz",
    "in_place": "",
    "and_place": "",
    "and_writable": "",
    "in_use": "",
    "counter_in_use": "",
}
BY_TIME = {
    "arbiter": "(identifier, name, period)",
    "counter_arbiter": "(identifier, period)",
    "and_period": ", period",
    "period_column": "  period timestamptz NOT NULL,                -- where the span began in which the row was made\n",
    "place": "t.period",
    "in_place": " AND t.period = place",
    "and_place": ", coalesce(l.place, {current_period})",
    "and_writable": " AND (l.place IS NULL OR l.d[5] <> 1 OR l.place = {current_period})",
    "in_use": " AND (t.expires_at > to_timestamp(now) OR t.period = {current_period})",
    "counter_in_use": " AND (c.expires_at > to_timestamp(now) OR c.period = {current_period})",
}
# Every admitted request leaves a dead version of its row. They are cleared away at 2 % of a table instead of 20 %
# (docs/postgres.md, "Sizes and autovacuum").
AUTOVACUUM = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.2"
)
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
    "rewind": "(s, p, now)",
    "available": "(s, p, at)",
    "charge": "(s, p, cost, at)",
    "retry_after": "(s, p, cost, at)",
    "reset_after": "(s, p, at)",
    "observe": "(s, p, score, at)",
}
# Settings hold for the transaction that needs them, since a pooler may give each transaction another session. With this
# search_path no function or operator of another schema can take the place of a built-in one.
SESSION = "commits text, patience text"
# As one expression, which takes the least time; nothing before it may need a search_path. A plan is made once in a session:
# not for each number of requests, and not for a table that was small then.
SET_OWN_SESSION = """setting := pg_catalog.concat(
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
    pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true),
    pg_catalog.set_config('enable_seqscan', 'off', true),
    pg_catalog.set_config('lock_timeout', patience, true),
    pg_catalog.set_config('synchronous_commit', commits, true)
  );"""
SET_SESSION = """commits := pg_catalog.set_config('synchronous_commit', commits, true);
  patience := pg_catalog.set_config('lock_timeout', patience, true);
  patience := pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);"""


class Object(NamedTuple):
    """A table, or functions or views that are created together.

    Attributes
    ----------
    names
        The names, without schema and quotes.
    ddl
        The statements that create them.
    kind
        TABLE, VIEW or FUNCTION.
    """

    names: tuple[str, ...]
    ddl: str
    kind: str


class Schema:
    """Fills in the templates of `sql/`.

    Parameters
    ----------
    config
        Names the table.
    namespace
        The schema of the database that holds the table.
    strategy
        How the tables are cut into partitions; what the configuration says is not looked at.

    Attributes
    ----------
    namespace, strategy
        As given.
    table, counters, denied, upkeep, versions, periods
        The names of the tables, quoted and with their schema; the last is there where they are cut by time.
    table_name, counters_name, denied_name, upkeep_name, versions_name, periods_name
        The same without schema and quotes.
    views
        The names of the views for operators likewise, by their short names.
    read_top_keys
        The name of the function that one of them calls.

    Raises
    ------
    ConfigurationError
        The namespace has characters that are not taken.
    """

    def __init__(self, config: PostgresStorageConfig, namespace: str, strategy: PartitionStrategy | None) -> None:
        # The rest would need escaping that differs between a name, a function's body and a statement with parameters.
        if not re.fullmatch(r"[\w-][\w -]*", namespace) or len(namespace.encode()) > NAME_BYTES:
            raise ConfigurationError(
                f"schema {shorten_repr(namespace)}: use letters, digits, '_', '-' and blanks, at most {NAME_BYTES} bytes"
            )
        self.namespace = namespace
        self.strategy = strategy
        self.table_name = config.table_name  # the configuration allows only names that need no escaping either
        self.counters_name = f"{config.table_name}_counters"
        self.table = self.qualified(self.table_name)
        self.periods_name = f"{config.table_name}_periods"
        self.counters = self.qualified(self.counters_name)
        self.denied_name = f"{config.table_name}_denied"
        self.denied = self.qualified(self.denied_name)
        self.upkeep_name = f"{config.table_name}_upkeep"
        self.upkeep = self.qualified(self.upkeep_name)
        self.read_top_keys = self.qualified(f"{self.table_name}_read_top_keys")
        self.views = {view: self.qualified(f"{config.table_name}_{view}") for view in VIEWS}
        self.periods = self.qualified(self.periods_name)
        self.versions_name = f"{config.table_name}_schema"
        self.versions = self.qualified(self.versions_name)
        by_time = strategy if isinstance(strategy, ByTime) else None
        unlogged, storage = "UNLOGGED " if config.unlogged else "", f" WITH (fillfactor = {config.fillfactor}, {AUTOVACUUM})"
        cut = strategy is not None
        current_period = f"(SELECT each.period FROM {self.periods} AS each)"  # noqa: S608 - a name of the schema
        self._fill = {
            "table": self.table,
            "counters": self.counters,
            "denied": self.denied,
            "upkeep": self.upkeep,
            **self.views,
            "read_top_keys": self.read_top_keys,
            "periods": self.periods,
            "versions": self.versions,
            "namespace": namespace,
            # Both are settings of that which holds the rows.
            "unlogged": unlogged,
            "whole_unlogged": "" if cut else unlogged,
            "storage": storage,
            "whole_storage": "" if cut else storage,
            "partition_by": clause(strategy),
            "seconds": repr(by_time.seconds if by_time else 0.0),
            "ahead": str(AHEAD),
            "name_format": name_format(by_time) if by_time else "",
            **{name: text.format(current_period=current_period) for name, text in (BY_TIME if by_time else WHOLE).items()},
            "this_period": THIS_PERIOD.format(seconds=by_time.seconds if by_time else 0.0),
            "current_period": current_period,
            "margin": repr(EXPIRY_MARGIN),
            "max_clock_skew": f"{config.max_clock_skew!r}::float8",
            **TIMES[config.clock],
            "session": SESSION,
            "set_session": SET_SESSION,
            "set_own_session": SET_OWN_SESSION,
            "columns": ", ".join(column for column, _ in COLUMNS.values()),
            "outputs": ", ".join(f"out_{name}" for name in COLUMNS),
            "columns_and_types": ", ".join(f"out_{name} {kind}" for name, (_, kind) in COLUMNS.items()),
        }
        self._fill["next_period"] = self.statement("next_period").strip()
        self._fill["period_lock"] = f"hashtextextended('ratesim period of {self.table}', 0)"
        self._fill["share_period"] = self.statement("share_period").strip()
        self._fill["share"] = self._fill["share_period"] if by_time else ""
        self._helpers: list[Object] = []
        for helper in HELPERS:
            text = self._form(helper)
            name = self._name(helper, self._filled(text, {helper: ""}))
            self._fill[helper] = self.qualified(name)
            self._helpers.append(Object((name,), self._filled(text, {}), "FUNCTION"))

    def qualified(self, name: str) -> str:
        """Return a name quoted and with its schema."""
        return f'"{self.namespace}"."{name}"'

    def statement(self, template: str, **more: str) -> str:
        """Fill in a template of `sql/`. Only names and constants are filled in; values are always parameters."""
        return self._filled(_template(template), more)

    def _form(self, template: str) -> str:
        """Return the text of a function's template, in its form for tables as they are cut."""
        return _template(f"{template}_by_time" if template in OF_TIME and isinstance(self.strategy, ByTime) else template)

    def _filled(self, text: str, more: Mapping[str, str]) -> str:
        fill = {**self._fill, **more}
        return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], text)

    @property
    def tables(self) -> tuple[Object, ...]:
        """The tables of the states and of the counters, with their partitions, and what these need."""
        periods = Object((self.periods_name,), self.statement("periods"), "TABLE")
        return (
            *([periods] if isinstance(self.strategy, ByTime) else []),
            Object((self.table_name,), self._cut("table", self.table_name), "TABLE"),
            Object((self.counters_name,), self._cut("counters", self.counters_name), "TABLE"),
            Object((self.versions_name,), self.statement("versions"), "TABLE"),
        )

    def _cut(self, template: str, table: str) -> str:
        """Return the statements that create a table and its partitions."""
        made = [self.statement(template)]
        rows, storage = self.qualified(table), self._fill["storage"]
        for name, bounds in partitions(self.strategy, table):
            create = f"CREATE {self._fill['unlogged']}TABLE {self.qualified(name)}"
            made.append(f"{create} PARTITION OF {rows} {bounds}{storage};\n")
        if isinstance(self.strategy, ByTime):
            made.append(self._time_partitions(table))
        return "".join(made)

    @property
    def make_ahead(self) -> str:
        """The statements that make the missing partitions of the present span of time and of those after it."""
        return "".join(self._time_partitions(table) for table in (self.table_name, self.counters_name))

    def _time_partitions(self, table: str) -> str:
        return self.statement("time_partitions", rows=self.qualified(table), stem=stem(table))

    @property
    def for_operators(self) -> tuple[Object, ...]:
        """The tables of upkeep and of denials, and the views, which need all tables.

        A table that others depend on cannot be dropped: whoever swaps one drops the views before, and makes them behind it.
        """
        views = tuple(f"{self.table_name}_{view}" for view in VIEWS)
        return (
            Object((self.upkeep_name,), self.statement("upkeep"), "TABLE"),
            Object((self.denied_name,), self.statement("denied"), "TABLE"),
            Object(views, self.statement("views"), "VIEW"),
        )

    def function(self, template: str, names: tuple[str, ...] = ()) -> tuple[str, list[Object]]:
        """Return the function of a template for some algorithms.

        Returns
        -------
        str
            Its name, quoted and with its schema.
        list of Object
            It and the functions that it calls; each may be created after those before it.
        """
        rules = [self._rule(algorithms.get(name)) for name in names]
        holes = {call: _call(call, names, [functions for functions, _ in rules]) for call in CALLS} if names else {}
        plain, called = template.removesuffix(SIZED), []
        if plain in TEMPLATES:
            text, more = source(plain, algorithms.get(names[0]), plain != template, holes, _template)
            for each in TEMPLATES[plain]:
                more[each], objects = self.function(template.replace(plain, each), names)
                called += objects
            holes |= more
        else:
            text = self._form(template)
            holes["algorithm"] = names[0] if names else ""
        # The functions that it calls carry digests of their own in their names, so its text says which they are.
        body = self._filled(text, {**holes, "function": ""})
        name = self._name(f"{template}_{names[0]}" if len(names) == 1 else template, body)
        function = self.qualified(name)
        own = [*self._helpers, *(made for _, made in rules)]
        called += [each for each in own if any(self.qualified(name) in body for name in each.names)]
        return function, [*called, Object((name,), self._filled(text, {**holes, "function": function}), "FUNCTION")]

    def objects(self, names: Sequence[str] = ()) -> list[Object]:
        """Return all that limits of these algorithms need (none named: of all known), each after what it needs."""
        chosen = tuple(names) or algorithms.names()
        wanted: list[tuple[str, tuple[str, ...]]] = [(each, ()) for each in ("increment", "reset", "get", "put", "claim")]
        learning = [name for name in chosen if algorithms.get(name).feedback is not None]
        for name in chosen:
            wanted += [("acquire", (name,)), ("apply", (name,))]
            wanted += [(template, (name,)) for template in single_templates(algorithms.get(name))]
        wanted += [("observe", (name,)) for name in learning]
        if len(chosen) > 1:
            wanted.append(("acquire", algorithms.names()))
        if len(learning) > 1:
            wanted.append(("observe", learning_algorithms()))
        found: dict[tuple[str, ...], Object] = {made.names: made for made in (*self.tables, *self.for_operators)}
        for template, of in wanted:
            found.update({made.names: made for made in self.function(template, of)[1]})
        return list(found.values())

    def _rule(self, algorithm: Algorithm) -> tuple[dict[str, str], Object]:
        """Return the functions of an algorithm by their short names, and what creates them."""
        prefix = f"ratesim_{algorithm.name}_"
        pattern = rf"\b{re.escape(prefix)}(\w+)"
        short = dict.fromkeys(re.findall(rf"(?i)\bFUNCTION\s+{pattern[2:]}\s*\(", algorithm.sql))
        names = {each: self._name(f"{algorithm.name}_{each}", algorithm.sql) for each in short}
        functions = {each: self.qualified(name) for each, name in names.items()}
        ddl = re.sub(pattern, lambda match: functions.get(match[1], match[0]), algorithm.sql)
        return functions, Object(tuple(names.values()), ddl, "FUNCTION")

    def _name(self, name: str, source: str) -> str:
        """Return the name of a function: the table's and the source's own, and not too long."""
        return digest_name(f"{self.table_name}_{name}", source)


def learning_algorithms() -> tuple[str, ...]:
    """Return the known algorithms that take scores, sorted."""
    return tuple(name for name in algorithms.names() if algorithms.get(name).feedback is not None)


@cache
def _template(name: str) -> str:
    return (resources.files("ratesim.storage.postgres") / "sql" / f"{name}.sql").read_text("utf-8")


def _call(call: str, names: tuple[str, ...], rules: list[dict[str, str]]) -> str:
    """Return an expression that calls a function of the rule of `algorithm`."""
    calls = [functions[call] + CALLS[call] if call in functions else "NULL" for functions in rules]
    if len(calls) == 1:
        return calls[0]
    cases = " ".join(f"WHEN '{name}' THEN {each}" for name, each in zip(names, calls, strict=True))
    return f"(CASE algorithm {cases} END)"
