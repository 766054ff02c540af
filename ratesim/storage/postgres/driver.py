"""`PostgresDriver`: executes batches of operations on a pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from ratesim.errors import ConfigurationError, KeyRefusedError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import abandon_descriptors
from ratesim.safe_text import redact, shorten_identifier
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.batches import Group, fault_of, groups_of, identifier_of
from ratesim.storage.postgres.schema import Schema
from ratesim.storage.postgres.statements import PERFORM, Connection, Perform, parameters_of
from ratesim.storage.remote.operations import Operation

__all__ = ["PostgresDriver"]

LOCK = int.from_bytes(b"ratesim", "big")  # the advisory lock under which nodes create missing objects, one at a time
UPKEEP_SECONDS = 60.0  # timeout of creating, cleaning up and counting; command_timeout is for decisions
# A pool gives up shortly before the client does, so that the client knows that nothing was sent and may try again.
POOL_SHARE = 0.9
# Classes of SQLSTATE that one value or one row brings about: cardinality, data, integrity, case not found, program limit,
# data corrupted. https://www.postgresql.org/docs/current/errcodes-appendix.html
OF_ONE_KEY = frozenset({"20", "21", "22", "23", "54", "XX001"})


class PostgresDriver:
    """Executes batches on a pool of connections, which opens, and creates the schema, on first use.

    It belongs to the asyncio loop that uses it first.
    """

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        try:
            self._address = conninfo.conninfo_to_dict(config.url)
        except psycopg.Error as error:
            raise ConfigurationError(f"url {redact(config.url)}: {self._line(error)}") from None
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._connections: WeakSet[Connection] = WeakSet()
        self._closed = False
        self._opening = asyncio.Lock()
        self._statements: dict[tuple[str, tuple[str, ...]], str] = {}
        self._schema = Schema(config)

    def __repr__(self) -> str:
        return f"PostgresDriver({redact(self.config.url)!r}, table_name={self.config.table_name!r})"

    def _line(self, error: Exception) -> str:
        """Return the message of an error on one line, without the password."""
        return redact(" ".join(str(error).split()), self.config.url)

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
                    await connection.execute(self._schema.statement("schema"), prepare=False)
                found = await connection.execute("SELECT to_regproc('ratesim_until')")
                if (await found.fetchone())[0] is None:  # type: ignore[index]
                    await connection.execute(self._schema.statement("until"), prepare=False)
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
        self._connections.add(connection)
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
            self._connections.add(connection)
        except TimeoutError:
            reason = f"no connection within {self.config.connection_timeout:g} s"
            raise self._unreachable(reason) from None
        except psycopg.OperationalError as error:
            raise self._unreachable(self._line(error)) from None
        except psycopg.Error as error:
            raise ConfigurationError(f"url {redact(self.config.url)}: {self._line(error)}") from None
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
            raise self._unreachable(self._line(error)) from None
        except psycopg.errors.QueryCanceled as error:
            raise StorageTimeoutError(f"PostgreSQL at {self.where}: {self._line(error)}") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            undone = (error.sqlstate or "").startswith("40")  # rolled back, such as after a deadlock
            raise StorageConnectionError(f"PostgreSQL at {self.where}: {self._line(error)}", sent=not undone) from None
        except UnicodeEncodeError as error:
            raise KeyRefusedError(f"PostgreSQL at {self.where}: its encoding is {error.encoding}, not UTF8") from None
        except psycopg.Error as error:
            state = error.sqlstate or ("22" if isinstance(error, psycopg.DataError) else "")
            kind = KeyRefusedError if OF_ONE_KEY & {state, state[:2]} else StorageError
            raise kind(f"PostgreSQL at {self.where}: {self._line(error)}") from None

    async def close(self) -> None:
        """Close the pool."""
        self._closed = True
        async with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        self._closed = True
        abandon_descriptors(connection.fileno() for connection in self._connections if not connection.closed)
        if self._pool is not None:
            self._pool._closed = True  # or else its finalizer would await tasks of a loop that has stopped
            self._pool = None

    # -- carrying out -------------------------------------------------------------------------------------------------

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, see `operations.Driver`.

        Operations that share their limits travel as one statement, however many identifiers.
        """
        await self.open()
        answers: list[object] = [None] * len(batch)
        sound: Group = []
        for place, operation in enumerate(batch):
            if (fault := fault_of(operation)) is not None:
                answers[place] = fault
            else:
                sound.append((place, operation))
        groups = groups_of(sound)
        pool = self._pool
        if pool is None:
            raise StorageConnectionError("the storage is closed", sent=False)
        begun = False  # whether a statement has been carried out already
        for key, group in groups:
            try:
                template, perform = PERFORM[key[0]]
                statement = await self._statement(template, key[1])
                results = await self._perform(pool, perform, statement, group)
            except StorageError as error:
                if not begun and isinstance(error, StorageConnectionError | StorageTimeoutError):
                    raise
                results = [error] * len(group)
            begun = True
            for (place, _), result in zip(group, results, strict=True):
                answers[place] = result
        return answers

    async def _perform(
        self, pool: AsyncConnectionPool[Connection], perform: Perform, statement: str, group: Group
    ) -> list[object]:
        """Carry out a group in one statement. If one of its keys makes that fail, nothing was done, and halves are tried."""
        try:
            async with self._translate_errors(), pool.connection() as connection:
                return await perform(connection, statement, group)
        except KeyRefusedError as error:
            if len(group) == 1:
                return [KeyRefusedError(f"identifier {shorten_identifier(identifier_of(group[0][1]))}: {error}")]
        results: list[object] = []
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            try:
                results += await self._perform(pool, perform, statement, half)
            except StorageError as error:
                results += [error] * len(half)
        return results

    async def _statement(self, template: str, names: tuple[str, ...] = ()) -> str:
        """Return the statement of a template, or the name of its function, which is created on first use."""
        key = (template, names)
        if key in self._statements:
            return self._statements[key]
        if template in ("get", "put"):
            self._statements[key] = self._schema.statement(template).decode()
            return self._statements[key]
        function, statements = self._schema.defined(template, names)
        async with self._upkeep() as connection:
            found = await connection.execute("SELECT to_regproc(%s)", [function])
            if (await found.fetchone())[0] is None:  # type: ignore[index]
                for statement in statements:
                    await connection.execute(statement, prepare=False)
        self._statements[key] = function
        return function

    def parameters(self, batch: Sequence[Operation]) -> list[list[Any]]:
        """Return the parameters of each statement of a batch; nothing is sent."""
        return parameters_of(batch)

    def schema(self, algorithm: str) -> str:
        """Return a script of all tables and functions that are created for limits of one algorithm on first use."""
        return self._schema.script(algorithm)

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def cleanup(self, now: float) -> int:
        """Delete rows that had expired by `now`, and return their number.

        It makes one pass over each table in its physical order, in statements of cleanup_batch_size rows, each a
        transaction.
        """
        await self.open()
        total = 0
        async with self._upkeep(lock=False) as connection:
            for rows in ("table", "counters"):
                statement = self._schema.statement("cleanup", rows=self._schema.fill[rows])
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
            names = {name: self._schema.fill[name] for name in ("table", "counters")}
            entries, size = await (await connection.execute(self._schema.statement("stats"), names)).fetchone()  # type: ignore[misc]
            return entries, size
