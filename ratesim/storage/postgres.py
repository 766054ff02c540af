"""`PostgresStorage`: state in PostgreSQL tables that people can read.

Every decision is taken inside the server, by PL/pgSQL twins of the algorithms (`sql/` holds the code around them). So a
batch of one set of limits is one round trip.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any, Self

import psycopg
from psycopg import conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from ratesim import algorithms
from ratesim.algorithms import Algorithm, bind
from ratesim.errors import CapacityError, ConfigurationError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.limit import Decision, Limit
from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.safe_text import redact, shorten_identifier
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import EXPIRY_MARGIN, StorageStats
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Apply, Get, Increment, Observe, Operation, Put, Reset
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["PostgresDriver", "PostgresStorage"]

LOCK = int.from_bytes(b"ratesim", "big")  # the advisory lock under which nodes create missing objects, one at a time
UPKEEP_SECONDS = 60.0  # timeout of creating, cleaning up and counting; command_timeout is for decisions
MOST_BYTES = 2500  # of an identifier: a key of PostgreSQL's B-tree holds 2704 with everything that belongs to it
# A pool gives up shortly before the client does, so that the client knows that nothing was sent and may try again.
POOL_SHARE = 0.9

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

Group = list[tuple[int, Any]]  # operations with their places in the batch
Connection = psycopg.AsyncConnection[Any]


class PostgresDriver:
    """Executes batches on a pool of connections, which opens, and creates the schema, on first use.

    It belongs to the asyncio loop that uses it first.
    """

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        try:
            self._address = conninfo.conninfo_to_dict(config.url)
        except psycopg.Error as error:
            raise ConfigurationError(f"url {redact(config.url)}: {redact(_line(error), config.url)}") from None
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._closed = False
        self._opening = asyncio.Lock()
        self._functions: dict[tuple[str, tuple[str, ...]], str] = {}
        table = config.table_name  # the configuration allows only names that need no escaping between quotes
        self._fill = {
            "table": f'"{table}"',
            "counters": f'"{table}_counters"',
            "unlogged": "UNLOGGED" if config.unlogged else "",
            "margin": repr(EXPIRY_MARGIN),
            "columns": ", ".join(column for column, _ in COLUMNS.values()),
            "outputs": ", ".join(f"out_{name}" for name in COLUMNS),
            "columns_and_types": ", ".join(f"out_{name} {kind}" for name, (_, kind) in COLUMNS.items()),
        }
        self._get, self._put, self._stats = (self._sql(name) for name in ("get", "put", "stats"))
        self._cleanup = [self._sql("cleanup", rows=self._fill[rows]) for rows in ("table", "counters")]

    def __repr__(self) -> str:
        return f"PostgresDriver({redact(self.config.url)!r}, table_name={self.config.table_name!r})"

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self._address.get('host') or 'localhost'}:{self._address.get('port') or 5432}"

    # -- connecting ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and create missing objects; StorageConnectionError, naming the address, if there is no server."""
        async with self._opening:
            if self._closed:
                raise StorageConnectionError("the storage is closed", sent=False)
            if self._pool is not None:
                return
            async with self._upkeep() as connection:
                table = self.config.table_name
                found = await connection.execute("SELECT to_regclass(%s)", [f'"{table}"'])
                if (await found.fetchone())[0] is None:  # type: ignore[index]
                    await connection.execute(self._sql("schema"), prepare=False)
                found = await connection.execute("SELECT to_regproc('ratesim_until')")
                if (await found.fetchone())[0] is None:  # type: ignore[index]
                    await connection.execute(self._sql("until"), prepare=False)
            seconds = min(self.config.connection_timeout, POOL_SHARE * self.config.command_timeout)
            pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
                self.config.url,
                kwargs={"autocommit": True, "prepare_threshold": 0, "application_name": "ratesim"},
                min_size=1,
                max_size=self.config.pool_size,
                timeout=seconds,
                reconnect_timeout=self.config.connection_timeout,
                configure=self._configure,
                open=False,
            )
            await pool.open()
            self._pool = pool

    async def _configure(self, connection: Connection) -> None:
        await connection.execute(
            "SELECT set_config('synchronous_commit', %s, false), set_config('statement_timeout', %s, false), "
            "set_config('extra_float_digits', '1', false)",  # floats travel as text that gives the same bits back
            [self.config.synchronous_commit, str(max(1, round(self.config.command_timeout * 1e3)))],
        )

    @asynccontextmanager
    async def _upkeep(self, lock: bool = True) -> AsyncIterator[Connection]:
        # A connection of its own: it says why there is none, while the pool only says that it waited.
        try:
            async with asyncio.timeout(self.config.connection_timeout):
                connection = await psycopg.AsyncConnection.connect(
                    self.config.url, autocommit=True, application_name="ratesim"
                )
        except TimeoutError:
            reason = f"no connection within {self.config.connection_timeout:g} s"
            raise self._unreachable(reason) from None
        except psycopg.OperationalError as error:
            raise self._unreachable(redact(_line(error), self.config.url)) from None
        except psycopg.Error as error:
            raise ConfigurationError(f"url {redact(self.config.url)}: {redact(_line(error), self.config.url)}") from None
        try:
            async with connection, self._translate_errors():
                await connection.execute(
                    "SELECT set_config('statement_timeout', %s, false), set_config('synchronize_seqscans', 'off', false)",
                    [str(round(UPKEEP_SECONDS * 1e3))],
                )
                if lock:
                    async with connection.transaction():
                        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                        yield connection
                else:
                    yield connection
        finally:
            await connection.close()

    def _unreachable(self, reason: str) -> StorageConnectionError:
        return StorageConnectionError(f"no PostgreSQL at {self.where} ({reason}): start it, or correct the url", sent=False)

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (PoolTimeout, PoolClosed, TooManyRequests) as error:
            raise self._unreachable(redact(_line(error), self.config.url)) from None
        except psycopg.errors.QueryCanceled as error:
            raise StorageTimeoutError(f"PostgreSQL at {self.where}: {_line(error)}") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            undone = (error.sqlstate or "").startswith("40")  # rolled back, such as after a deadlock
            raise StorageConnectionError(
                f"PostgreSQL at {self.where}: {redact(_line(error), self.config.url)}", sent=not undone
            ) from None
        except psycopg.Error as error:
            raise StorageError(f"PostgreSQL at {self.where}: {redact(_line(error), self.config.url)}") from None

    async def close(self) -> None:
        """Close the pool."""
        self._closed = True
        async with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    # -- statements ---------------------------------------------------------------------------------------------------

    def _sql(self, template: str, **more: str) -> bytes:
        """Fill in a template of `sql/`. Only names and constants are filled in; values are always parameters."""
        fill = self._fill | more
        text = (resources.files("ratesim.storage") / "sql" / f"{template}.sql").read_text("utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], text).encode()

    def _defined(self, template: str, names: tuple[str, ...] = ()) -> tuple[str, list[bytes]]:
        """Return the name of the server's function of that template for these algorithms, and the statements that create it.

        The name ends in a digest of the source, so that nodes of different versions each call their own.
        """
        known = [algorithms.get(name) for name in names]
        calls = {call: _call(call, names) for call in CALLS} if names else {}
        calls["algorithm"] = names[0] if names else ""
        sources = [_source(algorithm) for algorithm in known]
        digest = hashlib.sha256(b"".join([self._sql(template, function="", **calls), *sources])).hexdigest()[:8]
        function = f'"{self.config.table_name}_{template}_{digest}"'
        return function, [*sources, self._sql(template, function=function, **calls)]

    async def _function(self, template: str, names: tuple[str, ...] = ()) -> str:
        """Return the function's name; the function is created on first use."""
        key = (template, names)
        if key in self._functions:
            return self._functions[key]
        function, statements = self._defined(template, names)
        async with self._upkeep() as connection:
            found = await connection.execute("SELECT to_regproc(%s)", [function])
            if (await found.fetchone())[0] is None:  # type: ignore[index]
                for statement in statements:
                    await connection.execute(statement, prepare=False)
        self._functions[key] = function
        return function

    def schema(self, algorithm: str) -> str:
        """Return a script of all tables and functions that are created for limits of one algorithm on first use."""
        templates = ["acquire", "apply"] + ["observe"] * (algorithms.get(algorithm).feedback is not None)
        script = [self._sql("schema"), self._sql("until")]
        for template, names in [(each, (algorithm,)) for each in templates] + [("increment", ()), ("reset", ())]:
            script += [each for each in self._defined(template, names)[1] if each not in script]
        return "\n".join(each.decode().strip() + "\n" for each in script)

    # -- carrying out -------------------------------------------------------------------------------------------------

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, see `operations.Driver`.

        Operations that share their limits travel as one statement, however many identifiers.
        """
        await self.open()
        answers: list[object] = [None] * len(batch)
        sound: Group = []
        for place, operation in enumerate(batch):
            if (fault := _fault(operation)) is not None:
                answers[place] = fault
            else:
                sound.append((place, operation))
        groups = _groups(sound)
        pool = self._pool
        if pool is None:
            raise StorageConnectionError("the storage is closed", sent=False)
        begun = False  # whether a statement has been carried out already
        for key, group in groups:
            try:
                template, perform = _PERFORM[key[0]]
                function = await self._function(template, key[1]) if template else ""
                async with self._translate_errors(), pool.connection() as connection:
                    results = await perform(self, connection, function, group)
            except StorageError as error:
                if not begun and isinstance(error, StorageConnectionError | StorageTimeoutError):
                    raise
                results = [error] * len(group)
            begun = True
            for (place, _), result in zip(group, results, strict=True):
                answers[place] = result
        return answers

    async def _acquire(self, connection: Connection, function: str, group: Group) -> list[object]:
        limits = group[0][1].limits
        cursor = await connection.execute(
            f"SELECT * FROM {function}(%s::text[], %s::float8[], %s::float8[], %s, %s::text[], %s::text[], "  # noqa: S608
            "%s::float8[], %s::int[], %s::int[])".encode(),
            [
                [operation.identifier for _, operation in group],
                [operation.cost for _, operation in group],
                [float(operation.now) for _, operation in group],
                group[0][1].consume,
                *_describe(limits),
            ],
        )
        return [
            Decision(allowed, remaining, retry_after, reset_after, limits[decider - 1])
            for _, allowed, decider, remaining, retry_after, reset_after in await cursor.fetchall()
        ]

    async def _observe(self, connection: Connection, function: str, group: Group) -> list[object]:
        await connection.execute(
            f"SELECT {function}(%s::text[], %s::float8[], %s::float8[], %s::text[], %s::text[], "
            "%s::float8[], %s::int[], %s::int[])".encode(),
            [
                [operation.identifier for _, operation in group],
                [operation.score for _, operation in group],
                [float(operation.now) for _, operation in group],
                *_describe(group[0][1].limits),
            ],
        )
        return [None] * len(group)

    async def _apply(self, connection: Connection, function: str, group: Group) -> list[object]:
        charges = [operation.charge for _, operation in group]
        bound = [bind(charge.limit) for charge in charges]
        entries = [entry for charge in charges for entry in charge.entries]
        cursor = await connection.execute(
            f"SELECT * FROM {function}(%s::text[], %s::text[], %s::float8[], %s::int[], %s::int[], %s::text[], "  # noqa: S608
            "%s::bigint[], %s::float8[], %s::float8[], %s::int[], %s::float8[], %s::float8[], %s::bigint[])".encode(),
            [
                [charge.identifier for charge in charges],
                [charge.limit.name for charge in charges],
                [number for each in bound for number in each.params],
                [len(each.params) for each in bound],
                [each.size for each in bound],
                [charge.node for charge in charges],
                [charge.epoch for charge in charges],
                [float(charge.before) for charge in charges],
                [float(total_consumed(charge.before, charge.entries)) for charge in charges],
                [len(charge.entries) for charge in charges],
                [float(time) for time, _, _ in entries],
                [float(cost) for _, cost, _ in entries],
                [requests for _, _, requests in entries],
            ],
        )
        return [_state(row) for row in await cursor.fetchall()]

    async def _get_states(self, connection: Connection, _: str, group: Group) -> list[object]:
        gets = [operation for _, operation in group]
        cursor = await connection.execute(
            self._get,
            {
                "identifiers": [get.identifier for get in gets],
                "names": [get.name for get in gets],
                "nows": [float(get.now) for get in gets],
            },
        )
        found = {row[0]: _state(row) for row in await cursor.fetchall()}
        return [found.get(number) for number in range(1, len(gets) + 1)]

    async def _put_states(self, connection: Connection, _: str, group: Group) -> list[object]:
        # The last of several for one key stays; one statement may touch a row only once.
        puts = list({(put.identifier, put.name): put for _, put in group}.values())
        states = [put.state for put in puts]
        await connection.execute(
            self._put,
            {
                "identifiers": [put.identifier for put in puts],
                "names": [put.name for put in puts],
                "algorithms": [state.algorithm_data.algorithm for state in states],
                # As text: arrays of different lengths make no array.
                "states": [f"{{{','.join(map(repr, state.algorithm_data.values()))}}}" for state in states],
                "watermarks": [
                    json.dumps({node: [mark.epoch, mark.consumed] for node, mark in state.watermarks.items()})
                    for state in states
                ],
                "metadata": [json.dumps(state.metadata) for state in states],
                "request_counts": [state.request_count for state in states],
                "created": [float(state.created_at) for state in states],
                "accessed": [float(state.last_accessed) for state in states],
                "expires": [float(put.now + put.ttl) for put in puts],
            },
        )
        return [None] * len(group)

    async def _increment(self, connection: Connection, function: str, group: Group) -> list[object]:
        cursor = await connection.execute(
            f"SELECT * FROM {function}(%s::text[], %s::bigint[], %s::float8[], %s::float8[])".encode(),  # noqa: S608
            [
                [operation.identifier for _, operation in group],
                [operation.amount for _, operation in group],
                [float(operation.window) for _, operation in group],
                [float(operation.now) for _, operation in group],
            ],
        )
        return [count for _, count in await cursor.fetchall()]

    async def _reset(self, connection: Connection, function: str, group: Group) -> list[object]:
        identifiers = [operation.identifier for _, operation in group]
        await connection.execute(f"SELECT {function}(%s::text[])".encode(), [identifiers])
        return [None] * len(group)

    def parameters(self, batch: Sequence[Operation]) -> list[list[Any]]:
        """Return the parameters of each statement of a batch; nothing is sent."""
        noted: list[list[Any]] = []
        for key, group in _groups(list(enumerate(batch))):
            carrying_out = _PERFORM[key[0]][1](self, _RecordingConnection(noted), "", group)
            with suppress(StopIteration):  # a coroutine that never waits
                carrying_out.send(None)
        return noted

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def cleanup(self, now: float) -> int:
        """Delete rows that had expired by `now`, and return their number.

        It makes one pass over each table in its physical order, in statements of cleanup_batch_size rows, each a
        transaction.
        """
        await self.open()
        total = 0
        async with self._upkeep(lock=False) as connection:
            for statement in self._cleanup:
                after: str | None = "(0,0)"
                while after is not None:
                    most = self.config.cleanup_batch_size
                    cursor = await connection.execute(statement, {"after": after, "now": now, "most": most})
                    count, after = await cursor.fetchone()  # type: ignore[misc]
                    total += count
        return total

    async def sizes(self) -> tuple[int, int]:
        """Return rows and bytes of both tables with their indexes."""
        await self.open()
        async with self._upkeep(lock=False) as connection:
            names = {name: self._fill[name] for name in ("table", "counters")}
            entries, size = await (await connection.execute(self._stats, names)).fetchone()  # type: ignore[misc]
            return entries, size


class _RecordingConnection:
    """Stands for a connection and its cursor, and records the parameters that would be sent."""

    def __init__(self, parameters: list[list[Any]]) -> None:
        self._parameters = parameters

    async def execute(self, _: bytes, parameters: Sequence[Any] | dict[str, Any]) -> Self:
        self._parameters.append(list(parameters.values() if isinstance(parameters, dict) else parameters))
        return self

    async def fetchall(self) -> list[Any]:
        return []


class PostgresStorage(RemoteStorage):
    """State in PostgreSQL, for any number of nodes; `open` creates missing tables and functions."""

    def __init__(self, config: PostgresStorageConfig | None = None, runtime: Runtime | None = None) -> None:
        self.config = config or PostgresStorageConfig()
        self.driver = PostgresDriver(self.config)
        runtime = runtime or AsyncioRuntime()
        super().__init__(Client(self.driver, runtime, self.config), runtime)

    def __repr__(self) -> str:
        return f"PostgresStorage({redact(self.config.url)!r}, table_name={self.config.table_name!r})"

    async def open(self) -> Self:
        """Connect and create missing tables and functions."""
        await self.driver.open()
        return self

    async def cleanup_expired(self) -> int:
        """Delete expired rows, and return their number."""
        return await self.driver.cleanup(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries and bytes are those of the server."""
        entries, size = await self.driver.sizes()
        return StorageStats(entries, size, operations=self.client.operations, errors=dict(self.client.errors))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _describe(limits: Sequence[Limit]) -> list[list[Any]]:
    """Return names, algorithms, parameters, how many of them, and the size of a state, of limits that share a statement."""
    bound = [bind(limit) for limit in limits]
    return [
        [limit.name for limit in limits],
        [each.algorithm.name for each in bound],
        [number for each in bound for number in each.params],
        [len(each.params) for each in bound],
        [each.size for each in bound],
    ]


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


def _state(row: Sequence[Any]) -> RateLimitState:
    _, algorithm, values, created, accessed, requests, metadata, watermarks = row
    return RateLimitState(
        AlgorithmData.of(algorithm, values),
        micro(created),
        micro(accessed),
        requests,
        metadata,
        {node: Watermark(epoch, float(consumed)) for node, (epoch, consumed) in watermarks.items()},
    )


def _identifier(operation: Any) -> str:
    return str(operation.charge.identifier if isinstance(operation, Apply) else operation.identifier)


def _fault(operation: Operation) -> StorageError | None:
    """Return the error of a value that PostgreSQL cannot hold, before it spoils a statement that carries others."""
    texts = [identifier := _identifier(operation)]
    if isinstance(operation, Apply):
        texts.append(operation.charge.node)
    elif isinstance(operation, Put):
        texts += [text for pair in operation.state.metadata.items() for text in pair]
        texts += operation.state.watermarks
    for text in texts:
        if "\0" in text:
            return StorageError(f"{shorten_identifier(text)}: text of PostgreSQL cannot hold the character NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            return StorageError(f"{shorten_identifier(text)}: text of PostgreSQL cannot hold half of a surrogate pair")
    if len(identifier.encode()) > MOST_BYTES:
        return CapacityError(
            f"identifier {shorten_identifier(identifier)}: longer than the {MOST_BYTES} bytes that an index holds"
        )
    return None


Key = tuple[Any, ...]


def _key(operation: Operation) -> Key:
    """Return the key that operations in one statement share; its second item is the set of algorithms."""
    if isinstance(operation, Acquire):
        names = tuple(sorted({limit.algorithm for limit in operation.limits}))
        return (Acquire, names, operation.limits, operation.consume)
    if isinstance(operation, Observe):
        return (Observe, tuple(sorted({limit.algorithm for limit in operation.limits})), operation.limits)
    if isinstance(operation, Apply):
        return (Apply, (operation.charge.limit.algorithm,))
    return (type(operation), ())


def _groups(operations: Group) -> list[tuple[Key, Group]]:
    """Group the operations into statements.

    They are regrouped as far as each identifier's own order allows, and sorted by identifier inside.
    """
    done: list[tuple[Key, Group]] = []
    groups: dict[Key, Group] = {}
    owner: dict[str, Key] = {}
    for place, operation in operations:
        key, identifier = _key(operation), _identifier(operation)
        if owner.get(identifier, key) != key:
            done += groups.items()
            groups, owner = {}, {}
        owner[identifier] = key
        groups.setdefault(key, []).append((place, operation))
    done += groups.items()
    for _, group in done:
        group.sort(key=lambda item: (_identifier(item[1]), _name(item[1]), item[0]))
    return done


def _name(operation: Operation) -> str:
    if isinstance(operation, Apply):
        return operation.charge.limit.name
    return operation.name if isinstance(operation, Get | Put) else ""


_PERFORM: dict[type[Operation], tuple[str, Callable[..., Any]]] = {  # its template, where it needs a function
    Acquire: ("acquire", PostgresDriver._acquire),
    Apply: ("apply", PostgresDriver._apply),
    Observe: ("observe", PostgresDriver._observe),
    Get: ("", PostgresDriver._get_states),
    Put: ("", PostgresDriver._put_states),
    Increment: ("increment", PostgresDriver._increment),
    Reset: ("reset", PostgresDriver._reset),
}
