"""`PostgresStorage`: state in PostgreSQL, decided by PL/pgSQL functions that are twins of the Python rules.

A batch of decisions under one limit is one statement, one round trip and one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import resources
from itertools import groupby
from typing import Any, Self

import psycopg
import psycopg.errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ratesim import algorithms
from ratesim.errors import Config, ConnectionFailed, Serialization, StorageError
from ratesim.limit import Decision, InvalidLimit, Limit
from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import EXPIRY_MARGIN, Charge, StorageStats
from ratesim.storage.client import Client
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.operations import Acquire, Apply, Get, Increment, Operation, Put, Reset
from ratesim.storage.served import ServedStorage

__all__ = ["PostgresDriver", "PostgresStorage"]

_LOCK = 0x7261746573696D  # "ratesim": nodes that start at once create what is missing one after the other
_COLUMNS = "algorithm, state, watermarks, metadata, request_count, created_at, last_accessed"
# The rules' verbs as a function of the variables that every template has: a (algorithm), s, p, at, cost.
_VERBS = {
    "start": "(p, at)",
    "refresh": "(s, p, at)",
    "available": "(s, p, at)",
    "charge": "(s, p, cost, at)",
    "retry_after": "(s, p, cost, at)",
    "fresh_after": "(s, p, at)",
}


class PostgresStorage(ServedStorage):
    """State in one PostgreSQL database, in a table that people can read."""

    def __init__(self, config: PostgresStorageConfig | None = None, runtime: Runtime | None = None) -> None:
        self.config = config or PostgresStorageConfig()
        runtime = runtime or AsyncioRuntime()
        self.driver = PostgresDriver(self.config)
        super().__init__(Client(self.driver, runtime, self.config), runtime)

    def __repr__(self) -> str:
        return f"PostgresStorage({_address(self.config.url)}, {self.config.table_name})"

    async def open(self) -> Self:
        """Connect and create the tables if they are missing. Raises ConnectionFailed."""
        await self.driver.open()
        return self

    async def cleanup_expired(self) -> int:
        return await self.driver.drop_expired(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        entries, size = await self.driver.size()
        return StorageStats(entries=entries, bytes=size, operations=self.client.operations, errors=dict(self.client.errors))


class PostgresDriver:
    """Operations as calls of functions, grouped so that a batch takes few statements."""

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        self._pool: AsyncConnectionPool[Any] | None = None
        self._functions: dict[tuple[str, tuple[str, ...]], str] = {}

    async def open(self) -> None:
        """Connect and create what is missing."""
        if self._pool is not None:
            return
        config = self.config
        try:
            conninfo_to_dict(config.url)
        except psycopg.Error as error:
            raise Config("PostgreSQL URL: not one that libpq understands") from error
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            config.url,
            kwargs={"autocommit": True, "connect_timeout": max(2, round(config.connection_timeout))},
            min_size=1,
            max_size=config.pool_size + 1,
            timeout=config.connection_timeout,
            reconnect_timeout=config.connection_timeout,
            configure=self._configure,
            open=False,
        )
        try:
            await self._check_reachable()
            await pool.open()
            await self._create(pool, _template("schema", self._names()))
        except BaseException as error:
            await pool.close()
            if isinstance(error, PoolTimeout | psycopg.OperationalError):
                raise self._unreachable() from error
            if isinstance(error, psycopg.Error):
                raise StorageError(f"{_address(config.url)}: {_plain(error)}") from error
            raise
        self._pool = pool

    async def _check_reachable(self) -> None:
        # The pool retries in the background and only says that it ran out of time; one try of our own says why, and sooner.
        seconds = max(2, round(self.config.connection_timeout))
        connection = await psycopg.AsyncConnection.connect(self.config.url, connect_timeout=seconds)
        await connection.close()

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        settings = {
            "application_name": "ratesim",
            "synchronous_commit": self.config.synchronous_commit,
            # The client gives up after command_timeout; then the server should not go on either.
            "statement_timeout": f"{max(1, round(self.config.command_timeout * 1000))}ms",
            "timezone": "UTC",
        }
        for name, value in settings.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    def _names(self) -> dict[str, str]:
        # The configuration has checked the table's name: lower-case letters, digits and '_'.
        return {"table": self.config.table_name, "unlogged": "UNLOGGED" if self.config.unlogged else ""}

    async def _create(self, pool: AsyncConnectionPool[Any], *texts: str) -> None:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = '30s'")
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            for text in texts:
                await connection.execute(text.encode())

    async def _function(self, kind: str, names: tuple[str, ...]) -> str:
        """The name of the function of that kind for these algorithms, created at its first use."""
        known = self._functions.get((kind, names))
        if known is not None:
            return known
        assert self._pool is not None
        mark = hashlib.sha256(",".join(names).encode()).hexdigest()[:8]
        function = f"{self.config.table_name}_{kind}_{mark}"
        values = {**self._names(), "function": function}
        for verb, arguments in _VERBS.items():
            calls = [(name, f"ratesim_{name}_{verb}{arguments}") for name in names]
            cases = " ".join(f"WHEN '{name}' THEN {call}" for name, call in calls)
            values[verb] = calls[0][1] if len(calls) == 1 else f"(CASE a {cases} END)"
        rules = [algorithms.get(name).sql for name in names]
        await self._create(self._pool, *rules, _template(kind, values))
        self._functions[kind, names] = function
        return function

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        try:
            await self.open()
            answers: list[object] = [None] * len(batch)
            for group in _groups(batch):
                found = await self._carry_out([batch[i] for i in group])
                for i, answer in zip(group, found, strict=True):
                    answers[i] = answer
        except PoolTimeout as error:
            raise ConnectionFailed(f"{_address(self.config.url)}: no connection free in time", sent=False) from error
        except psycopg.errors.QueryCanceled as error:
            raise TimeoutError from error
        except psycopg.OperationalError as error:
            raise ConnectionFailed(f"{_address(self.config.url)}: {_plain(error)}") from error
        except psycopg.DataError as error:
            raise InvalidLimit(f"an identifier that PostgreSQL cannot keep: {_plain(error)}") from error
        except psycopg.Error as error:
            raise StorageError(f"{_address(self.config.url)}: {_plain(error)}") from error
        return answers

    def _unreachable(self) -> ConnectionFailed:
        where = _address(self.config.url)
        return ConnectionFailed(f"{where}: not reachable; is PostgreSQL running there, and may you log in?", sent=False)

    async def _carry_out(self, group: list[Operation]) -> list[object]:
        """The answers of operations of one kind (and, for Acquire and Apply, one limit)."""
        table = self.config.table_name
        match group[0]:
            case Acquire(_, limits, _, _, consume):
                return await self._acquire([op for op in group if isinstance(op, Acquire)], limits, consume)
            case Apply(charge):
                return await self._apply([op.charge for op in group if isinstance(op, Apply)], charge)
            case Get(_, name, now):
                identifiers = [op.identifier for op in group if isinstance(op, Get)]
                rows = await self._rows(
                    f"SELECT identifier, {_COLUMNS} FROM {table} WHERE identifier = ANY(%s) AND name = %s"  # noqa: S608
                    " AND expires_at > to_timestamp(%s) AND cardinality(state) > 0",
                    (identifiers, name, now),
                )
                found = {row[0]: _state(*row[1:]) for row in rows}
                return [found.get(identifier) for identifier in identifiers]
            case Put(identifier, name, state, now, ttl):
                await self._rows(
                    f"INSERT INTO {table} (identifier, name, {_COLUMNS}, expires_at)"  # noqa: S608
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s), to_timestamp(%s))"
                    " ON CONFLICT (identifier, name) DO UPDATE SET"
                    " algorithm = EXCLUDED.algorithm, state = EXCLUDED.state, watermarks = EXCLUDED.watermarks,"
                    " metadata = EXCLUDED.metadata, request_count = EXCLUDED.request_count,"
                    " created_at = EXCLUDED.created_at, last_accessed = EXCLUDED.last_accessed,"
                    " expires_at = EXCLUDED.expires_at",
                    (
                        identifier,
                        name,
                        state.algorithm_data.algorithm,
                        state.algorithm_data.values(),
                        Jsonb({node: [mark.epoch, mark.consumed] for node, mark in state.watermarks.items()}),
                        Jsonb(state.metadata),
                        state.request_count,
                        state.created_at,
                        state.last_accessed,
                        now + ttl,
                    ),
                )
                return [None]
            case Increment(identifier, amount, window, now):
                rows = await self._rows(
                    f"INSERT INTO {table}_counters AS c (identifier, count, expires_at)"  # noqa: S608
                    " VALUES (%s, %s, to_timestamp(%s))"
                    " ON CONFLICT (identifier) DO UPDATE SET"
                    " count = CASE WHEN c.expires_at <= to_timestamp(%s) THEN 0 ELSE c.count END + EXCLUDED.count,"
                    " expires_at = CASE WHEN c.expires_at <= to_timestamp(%s) THEN EXCLUDED.expires_at ELSE c.expires_at END"
                    " RETURNING count",
                    (identifier, amount, now + window, now, now),
                )
                return [int(rows[0][0])]
            case Reset(identifier):
                await self._rows(
                    f"WITH counted AS (DELETE FROM {table}_counters WHERE identifier = %s)"  # noqa: S608
                    f" DELETE FROM {table} WHERE identifier = %s",
                    (identifier, identifier),
                )
                return [None]
        raise TypeError(f"unknown operation {type(group[0]).__name__}")

    async def _acquire(self, group: list[Acquire], limits: tuple[Limit, ...], consume: bool) -> list[object]:
        function = await self._function("acquire", tuple(sorted({limit.algorithm for limit in limits})))
        bound = [algorithms.bind(limit) for limit in limits]
        rows = await self._rows(
            f"SELECT ord, allowed, decider, remaining, retry_after, reset_after FROM {function}"  # noqa: S608
            "(%s, %s::float8[], %s::float8[], %s, %s, %s, %s::int[], %s::float8[], %s::int[], %s::float8)",
            (
                [op.identifier for op in group],
                [op.cost for op in group],
                [op.now for op in group],
                consume,
                [limit.name for limit in limits],
                [limit.algorithm for limit in limits],
                [len(p) for _, p in bound],
                [value for _, p in bound for value in p],
                [algorithm.rule.size(p) for algorithm, p in bound],
                EXPIRY_MARGIN,
            ),
        )
        answers: list[object] = [None] * len(group)
        for position, allowed, decider, remaining, retry_after, reset_after in rows:
            answers[position - 1] = Decision(allowed, remaining, retry_after, reset_after, limits[decider])
        return answers

    async def _apply(self, charges: list[Charge], first: Charge) -> list[object]:
        limit = first.limit
        function = await self._function("charge", (limit.algorithm,))
        algorithm, p = algorithms.bind(limit)
        entries = [entry for charge in charges for entry in charge.entries]
        rows = await self._rows(
            f"SELECT ord, {_COLUMNS} FROM {function}(%s, %s, %s, %s::float8[], %s::int, %s::float8, %s,"  # noqa: S608
            " %s::bigint[], %s::float8[], %s::int[], %s::float8[], %s::float8[], %s::int[])",
            (
                [charge.identifier for charge in charges],
                limit.name,
                limit.algorithm,
                list(p),
                algorithm.rule.size(p),
                EXPIRY_MARGIN,
                first.node,
                [charge.epoch for charge in charges],
                [charge.before for charge in charges],
                [len(charge.entries) for charge in charges],
                [time for time, _, _ in entries],
                [cost for _, cost, _ in entries],
                [requests for _, _, requests in entries],
            ),
        )
        answers: list[object] = [None] * len(charges)
        for position, *columns in rows:
            answers[position - 1] = _state(*columns)
        return answers

    async def _rows(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        assert self._pool is not None
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), arguments, prepare=True)
            return await cursor.fetchall() if cursor.description else []

    async def drop_expired(self, now: float) -> int:
        """Rows that expired, dropped in batches that wait for nobody's lock."""
        await self.open()
        table, dropped = self.config.table_name, 0
        for name in (table, f"{table}_counters"):
            while True:
                rows = await self._rows(
                    f"DELETE FROM {name} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {name}"  # noqa: S608
                    " WHERE expires_at <= to_timestamp(%s) LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING 1",
                    (now, self.config.cleanup_batch_size),
                )
                dropped += len(rows)
                if len(rows) < self.config.cleanup_batch_size:
                    break
        return dropped

    async def size(self) -> tuple[int, int]:
        """Entries, and bytes of both tables with their indexes."""
        await self.open()
        table = self.config.table_name
        rows = await self._rows(
            f"SELECT (SELECT count(*) FROM {table}) + (SELECT count(*) FROM {table}_counters),"  # noqa: S608
            " pg_total_relation_size(%s::regclass) + pg_total_relation_size(%s::regclass)",
            (table, f"{table}_counters"),
        )
        return int(rows[0][0]), int(rows[0][1])

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def _groups(batch: Sequence[Operation]) -> list[list[int]]:
    """Positions of operations that one statement can carry out, in an order that keeps each identifier's own."""
    by_kind: dict[object, list[int]] = {}
    owners: dict[str, object] = {}
    for i, operation in enumerate(batch):
        kind = _kind(operation, i)
        by_kind.setdefault(kind, []).append(i)
        identifier = operation.charge.identifier if isinstance(operation, Apply) else getattr(operation, "identifier", "")
        if owners.setdefault(identifier, kind) != kind:
            keyed: Callable[[int], object] = lambda k: _kind(batch[k], k)  # noqa: E731
            return [list(run) for _, run in groupby(range(len(batch)), keyed)]
    return list(by_kind.values())


def _kind(operation: Operation, position: int) -> object:
    match operation:
        case Acquire(_, limits, _, _, consume):
            return ("acquire", limits, consume)
        case Apply(charge):
            return ("apply", charge.limit, charge.node)
        case Get(_, name, now):
            return ("get", name, now)
    return position


def _state(
    algorithm: str,
    values: list[float],
    watermarks: dict[str, list[float]],
    metadata: dict[str, str],
    request_count: int,
    created_at: datetime,
    last_accessed: datetime,
) -> RateLimitState | Serialization:
    try:
        data = AlgorithmData.of(algorithm, values)
    except (InvalidLimit, ValueError) as error:
        return Serialization(f"a row that cannot be read: {error}")
    return RateLimitState(
        data,
        _seconds(created_at),
        _seconds(last_accessed),
        request_count,
        metadata,
        {node: Watermark(int(epoch), float(consumed)) for node, (epoch, consumed) in watermarks.items()},
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _seconds(moment: datetime) -> float:
    since = moment - _EPOCH
    return micro(since.days * 86400 + since.seconds + since.microseconds / 1e6)


def _template(stem: str, values: dict[str, str]) -> str:
    text = (resources.files("ratesim.storage") / "sql" / f"{stem}.sql").read_text("utf-8")
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", value)
    return text


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _address(url: str) -> str:
    """Host, port and database of a URL, without its credentials."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "?"
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
