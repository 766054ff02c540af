"""`PostgresDriver`: executes batches of operations on a pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from math import inf
from typing import Any

import psycopg

from ratesim.errors import KeyRefusedError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import Deadlines
from ratesim.safe_text import shorten_identifier
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres import upkeep
from ratesim.storage.postgres.batches import Group, fault_of, groups_of
from ratesim.storage.postgres.binary_format import Call
from ratesim.storage.postgres.connections import Connection, ConnectionPool
from ratesim.storage.postgres.connector import UPKEEP_SECONDS, Connector
from ratesim.storage.postgres.creation import create_missing, find_schema
from ratesim.storage.postgres.error_translation import CHANGED, READ_ONLY, ROLLED_BACK, UNPREPARED, connection_error
from ratesim.storage.postgres.rotation import Rotation, rotate
from ratesim.storage.postgres.schema import Schema
from ratesim.storage.postgres.script import script
from ratesim.storage.postgres.statement import SESSION_TYPES, Statement
from ratesim.storage.postgres.statements import Statements
from ratesim.storage.remote.operations import Increment, Operation, identifier_of

__all__ = ["PostgresDriver"]

# Waiting for a connection, or for a lock, ends shortly before the client gives up, so that the client knows that nothing
# was done.
SHARE = 0.9
GROUP_SHARE = 0.5  # of command_timeout, that a statement for several keys waits for a lock, so that the others have the rest
PROBE_SHARE = 0.25  # of command_timeout, that a connection that was idle for long has to show that it works
REPEATS = 10  # of a statement that was rolled back
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"


class PostgresDriver:
    """Executes batches on a pool of connections. Connections, tables and functions are made on first use.

    It relies on no state of a session, so a pooler may give each transaction another one: statements are prepared only where
    the connection is direct, settings hold for one transaction, and every object is named with its schema. It belongs to the
    asyncio loop that uses it first.

    Attributes
    ----------
    connector : Connector
        Makes the connections.
    gathers : bool
        See `PromptDriver`.
    """

    gathers = True

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        self.connector = Connector(config)
        seconds = min(config.command_timeout, config.query_timeout or config.command_timeout)
        patience = (str(max(1, round(share * seconds * 1e3))) for share in (SHARE, GROUP_SHARE))
        self._sessions = [[config.synchronous_commit, each] for each in patience]  # of one key, and of several
        self._closed = False
        self._statements = Statements(config)
        self._pool: ConnectionPool | None = None
        self._schema: Schema | None = None
        self._known: Schema | None = None  # as it was last found
        self._calls: dict[tuple[str, tuple[str, ...]], Call] = {}
        self._deadlines: Deadlines | None = None
        self._creating: dict[object, asyncio.Task[None]] = {}
        # Before each statement, in its transaction, where a session does not end statements itself: behind a pooler.
        self._set_timeout = (
            None
            if config.query_timeout is None
            else b"SELECT pg_catalog.set_config('statement_timeout', '%d', true)" % self.connector.query_milliseconds
        )
        self._explicit = False  # whether each statement travels in a transaction whose isolation it sets

    @property
    def clock_rewinds(self) -> int:
        """States that the functions brought back to the time of a request."""
        return self._statements.clock_rewinds

    def __repr__(self) -> str:
        return f"PostgresDriver({self.connector.safe_url!r}, table_name={self.config.table_name!r})"

    # -- connecting ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and create missing tables.

        Raises
        ------
        StorageError
            There is no server, it refuses the connection, or a table is missing and this role may not create it.
        """
        await self._opened()

    async def close(self) -> None:
        """Close the pool."""
        self._closed = True
        creating = list(self._creating.values())
        for task in creating:
            task.cancel()
        await asyncio.gather(*creating, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        self._closed = True
        self.connector.abandon()
        self._pool = None

    async def _opened(self) -> Schema:
        if self._closed:
            raise StorageConnectionError("the storage is closed", sent=False)
        while (schema := self._schema) is None:  # again where the tables have changed meanwhile
            await self._once("open", self._find_schema)
        return schema

    async def _find_schema(self) -> None:
        async with (
            self._pooled(self.config.connection_timeout) as connection,
            self.connector.transaction(connection, UPKEEP_SECONDS),  # others may be creating the same
        ):
            schema = await find_schema(connection, self.config, self.connector.where, self._known)
            await create_missing(connection, schema, [*schema.tables, *schema.for_operators], self.connector.where)
            # Another node, of another configuration, may have been the first to create them.
            schema = await find_schema(connection, self.config, self.connector.where, self._known)
        if self._known is None or self._known.strategy != schema.strategy:
            self._calls.clear()
        self._schema = self._known = schema

    async def _look_again(self) -> Schema:
        """Return the schema as the tables are by now: `ratesim repartition` may have cut them otherwise."""
        schema = await self._opened()
        await self._once("open", self._find_schema)
        return self._known or schema

    async def _take(self, seconds: float = inf) -> Connection:
        if self._pool is None:
            probe = PROBE_SHARE * self.config.command_timeout
            self._pool = ConnectionPool(self.connector.connect_to_decide, self.config.pool_size, probe)
        if (ready := self._pool.take_nowait()) is not None:
            return ready
        if seconds == inf:
            seconds = min(self.config.connection_timeout, SHARE * self.config.command_timeout)
        try:
            async with asyncio.timeout(seconds):
                return await self._pool.take()
        except TimeoutError:
            raise connection_error(self.connector.where, f"no connection within {seconds:g} s") from None

    @asynccontextmanager
    async def _pooled(self, seconds: float = inf) -> AsyncIterator[Connection]:
        connection = await self._take(seconds)
        try:
            yield connection
        finally:
            self._give_back(connection)

    # -- creating -----------------------------------------------------------------------------------------------------

    async def _once(self, name: object, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something that several callers need at the same time once. A caller who gives up leaves it to the others."""
        task = self._creating.get(name)
        if task is None:
            task = self._creating[name] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(lambda done: self._forget(name, done))
        await asyncio.wait([task])
        if task.cancelled():
            raise StorageConnectionError("the storage is closed", sent=False)
        task.result()

    def _forget(self, name: object, done: asyncio.Task[None]) -> None:
        self._creating.pop(name, None)
        if not done.cancelled():
            done.exception()  # is raised to those who wait, if any still do

    def schema(self, names: Sequence[str] = (), role: str = "") -> str:
        """Return a script of all tables and functions for limits of these algorithms, see `script`.

        Without the option `schema` it is that of the URL's `search_path`, else `public`.
        """
        return script(self._offline_schema(), names, role)

    @property
    def tables(self) -> tuple[str, str]:
        """The names of the tables, quoted, and with their schema as `schema` knows it."""
        known = self._offline_schema()
        return known.table, known.counters

    def _offline_schema(self) -> Schema:
        """Return the schema as far as it is known without a connection."""
        return self._schema or self._presumed

    @cached_property
    def _presumed(self) -> Schema:
        namespace = self.config.schema or self.connector.first_in_search_path or "public"
        return Schema(self.config, namespace, self.config.partition_strategy)

    # -- carrying out -------------------------------------------------------------------------------------------------

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, see `operations.Driver`.

        Operations that share their limits travel as one statement, however many identifiers.
        """
        return await self._execute(batch, [])

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]] | None:
        """Execute a batch by a deadline, see `PromptDriver`; None where no connection is free."""
        if self._pool is None or self._schema is None or (connection := self._pool.take_nowait()) is None:
            return None
        return self._execute_within(batch, seconds, connection)

    async def _execute_within(self, batch: Sequence[Operation], seconds: float, connection: Connection) -> list[object]:
        task = asyncio.current_task()
        assert task is not None
        turn, taken = _Turn(task), [connection]
        if self._deadlines is None:
            self._deadlines = Deadlines(task.get_loop())
        self._deadlines.add(turn, seconds)
        try:
            return await self._execute(batch, taken)
        except asyncio.CancelledError:
            if turn.expired and task.uncancel() <= turn.cancelling:
                raise TimeoutError from None
            raise
        finally:
            turn.live = False
            for unused in taken:
                self._give_back(unused)

    async def _execute(self, batch: Sequence[Operation], taken: list[Connection]) -> list[object]:
        """Execute a batch, on a connection that is taken already if there is one."""
        answers: list[object] = [None] * len(batch)
        sound: Group = []
        for place, operation in enumerate(batch):
            if (fault := fault_of(operation)) is not None:
                answers[place] = fault
            else:
                sound.append((place, operation))
        begun = False  # whether a statement has been carried out already
        for key, group in groups_of(sound):
            try:
                results = await self._perform(key[0], key[1], group, taken)
            except StorageError as error:
                if not begun and isinstance(error, StorageConnectionError | StorageTimeoutError):
                    raise
                results = [error] * len(group)
            begun = True
            for (place, _), result in zip(group, results, strict=True):
                answers[place] = result
        return answers

    async def _perform(
        self, kind: type[Operation], names: tuple[str, ...], group: Group, taken: list[Connection]
    ) -> list[object]:
        """Carry out a group in one statement.

        If one of its keys makes that fail, nothing was done. Halves of the group are tried then, or what is not locked.
        """
        try:
            return await self._carry_out(kind, names, group, taken)
        except KeyRefusedError as error:
            if len(group) == 1:
                return [KeyRefusedError(f"identifier {shorten_identifier(identifier_of(group[0][1]))}: {error}")]
        except StorageTimeoutError as error:
            if len(group) == 1 or not isinstance(error.__context__, psycopg.errors.LockNotAvailable):
                raise
            locked = await self._locked(kind, group)
            if not locked:
                raise
            answers = iter(await self._perform(kind, names, [each for each in group if each[0] not in locked], []))
            return [error if place in locked else next(answers) for place, _ in group]
        results: list[object] = []
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            try:
                results += await self._perform(kind, names, half, [])
            except StorageError as error:
                results += [error] * len(half)
        return results

    async def _locked(self, kind: type[Operation], group: Group) -> set[int]:
        """Return the places of the operations whose rows another transaction has locked."""
        schema = await self._opened()
        table = schema.counters if kind is Increment else schema.table
        name = "''" if kind is Increment else "t.name"
        text = (
            f"WITH free AS (SELECT t.identifier, {name} AS name FROM {table} AS t "  # noqa: S608 - names of the schema
            "WHERE t.identifier = ANY ($1::text[]) FOR UPDATE SKIP LOCKED) "
            f"SELECT DISTINCT t.identifier FROM {table} AS t WHERE t.identifier = ANY ($1::text[]) "
            f"AND NOT EXISTS (SELECT FROM free AS f WHERE f.identifier = t.identifier AND f.name = {name})"
        )
        call = Call(text.encode(), ["text[]"])
        identifiers = [identifier_of(operation) for _, operation in group]
        async with self._pooled() as connection:
            try:
                locked = {row[0] for row in await self._fetch(connection, call, [identifiers])}
            except psycopg.Error as error:
                raise self.connector.error(error) from None
        return {place for (place, _), identifier in zip(group, identifiers, strict=True) if identifier in locked}

    async def _carry_out(
        self, kind: type[Operation], names: tuple[str, ...], group: Group, taken: list[Connection]
    ) -> list[object]:
        """Carry out a group as one statement.

        If what it needs is missing or of another form, as after a migration, the table is looked at again, what is missing
        is created, and the statement is repeated once. One that was rolled back is repeated at once. Where that is due to
        the isolation that is the default of the role, database or server, statements travel in transactions of their own
        from then on.
        """
        statement = self._statements.of(kind, names, group)
        created = repeats = 0
        while True:
            schema = await self._opened()
            call, parameters = self._call(schema, statement, group)
            connection = taken.pop() if taken else await self._take()
            try:
                rows = await self._fetch(connection, call, parameters)
            except UnicodeEncodeError as error:
                raise KeyRefusedError(
                    f"PostgreSQL at {self.connector.where}: its encoding is {error.encoding}, not UTF8"
                ) from None
            except psycopg.Error as error:
                if error.sqlstate in ROLLED_BACK and repeats < REPEATS:
                    repeats += 1
                    self._explicit = self._explicit or error.sqlstate == "40001"
                    continue
                if error.sqlstate in UNPREPARED and self.config.prepared_statements is None and self.connector.prepares:
                    self.connector.prepares = False  # something between changes the session; nothing was done
                    connection.finish()
                    if self._pool is not None:
                        self._pool.discard_idle()
                    continue
                if error.sqlstate not in CHANGED or created:
                    if error.sqlstate == READ_ONLY and self._pool is not None:
                        connection.finish()
                        self._pool.discard_idle()  # the primary may be elsewhere now: the next connection finds it
                    raise self.connector.error(error) from None
            else:
                return statement.answers(group, rows)
            finally:
                self._give_back(connection)
            created += 1
            self._schema = None
            self._calls.clear()
            await self._once((statement.template, statement.names), lambda: self._create_function(statement))

    async def _fetch(self, connection: Connection, call: Call, parameters: list[Any]) -> list[Any]:
        before = [] if connection.timed or self._set_timeout is None else [self._set_timeout]
        if self._explicit:
            return await connection.fetch(call, parameters, [BEGIN, *before], [b"COMMIT"])
        return await connection.fetch(call, parameters, before)

    def _give_back(self, connection: Connection) -> None:
        if self._pool is None:
            connection.finish()
        else:
            self._pool.give_back(connection)

    async def _create_function(self, statement: Statement) -> None:
        schema = await self._opened()
        objects = [*schema.tables, *schema.function(statement.template, statement.names)[1]]
        async with self._pooled() as connection, self.connector.transaction(connection, UPKEEP_SECONDS):
            await create_missing(connection, schema, objects, self.connector.where)

    def _call(self, schema: Schema, statement: Statement, group: Group) -> tuple[Call, list[Any]]:
        key = (statement.template, statement.names)
        if (call := self._calls.get(key)) is None:
            call = self._calls[key] = Call(statement.call(schema.function(*key)[0]), [*statement.types, *SESSION_TYPES])
        return call, [*statement.parameters(group), *self._sessions[len(group) > 1]]

    def statements(self, batch: Sequence[Operation]) -> list[tuple[bytes, list[Any]]]:
        """Return each statement of a batch and its parameters; nothing is sent."""
        return [(call.text, parameters) for call, parameters in self._offline_calls(batch)]

    def encoded(self, batch: Sequence[Operation]) -> list[tuple[Call, list[bytes]]]:
        """Return each statement of a batch and its parameters as they are sent, on a connection in UTF-8."""
        return [(call, call.encode(parameters, "utf-8")) for call, parameters in self._offline_calls(batch)]

    def _offline_calls(self, batch: Sequence[Operation]) -> list[tuple[Call, list[Any]]]:
        schema = self._offline_schema()
        groups = groups_of(list(enumerate(batch)))
        return [self._call(schema, self._statements.of(key[0], key[1], group), group) for key, group in groups]

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def cleanup(self, now: float, position: int = 0, seconds: float = inf, rotated: bool = False) -> tuple[int, int]:
        """Delete rows that had expired by `now`, see `upkeep.cleanup`."""
        return await upkeep.cleanup(self.connector, await self._look_again(), now, position, seconds, rotated)

    async def take_turn(self, interval: float) -> upkeep.Turn | None:
        """Take the turn at upkeep; None if it is not this node's."""
        return await upkeep.take_turn(self.connector, await self._look_again(), interval)

    async def end_turn(self, position: int) -> None:
        """Note how far the turn has come, and delete denials that are old or too many."""
        await upkeep.end_turn(self.connector, await self._look_again(), position)

    async def rotate(self, now: float) -> Rotation:
        """Make, drop and empty partitions of spans of time, see `rotation.rotate`."""
        return await rotate(self.connector, await self._look_again(), now)

    async def add_denials(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add denied requests by key to the table of denials."""
        await upkeep.add_denials(self.connector, await self._look_again(), counts)

    async def sizes(self) -> upkeep.TableSizes:
        """Return the sizes of both tables with their indexes."""
        return await upkeep.sizes(self.connector, await self._look_again())


class _Turn:
    """A batch that is under way, and ends at its deadline.

    Attributes
    ----------
    live
        Whether the batch is under way.
    expired
        Whether its deadline has passed.
    """

    __slots__ = ("cancelling", "expired", "live", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.live = True
        self.expired = False
        self.task = task
        self.cancelling = task.cancelling()

    def expire(self) -> None:
        """End the batch, as `asyncio.timeout` does."""
        self.expired = True
        self.task.cancel()
