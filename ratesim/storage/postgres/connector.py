"""`Connector`: makes the connections to one server, and puts its errors into words."""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import conninfo

from ratesim.errors import (
    ConfigurationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ratesim.runtime import abandon_descriptors
from ratesim.safe_text import HIDDEN, SECRET_NAMES, redact
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.error_translation import connection_error, statement_error

__all__ = ["LOCK_SECONDS", "UPKEEP_SECONDS", "Connector", "as_setting"]

LOCK_SECONDS = 5.0  # that upkeep and statistics wait for a lock, such as that of an ALTER TABLE, before they give up
UPKEEP_SECONDS = 60.0  # timeout of creating, cleaning up and counting; command_timeout is for decisions
ANSWER_SHARE = 0.8  # of a caller's patience in which a connection has to answer, so that the caller hears why it does not
# libpq's, unless the URL says otherwise: the kernel finds out within a minute that nobody is there any more.
KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "60000"}


# Products between the client and the server say so, in English: pgbouncer, and the proxy of Amazon's RDS.
REFUSED_OPTIONS = r"unsupported startup parameter|command-line options"
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


class Connector:
    """Makes connections to the server of a configuration.

    Raises
    ------
    ConfigurationError
        libpq cannot read the URL.

    Attributes
    ----------
    query_milliseconds : int
        That the server works on a statement at most, see `PostgresStorageConfig.query_timeout`.
    prepares : bool
        Whether connections that are the client's own prepare statements.
    """

    def __init__(self, config: PostgresStorageConfig) -> None:
        self.config = config
        try:
            self._address = conninfo.conninfo_to_dict(config.url)
        except psycopg.Error:  # its text may quote a piece of a password
            raise ConfigurationError(
                "url: is none that libpq reads; percent-encode what is special in a URL, and quote what is in name='value'"
            ) from None
        self.query_milliseconds = max(1, round((config.query_timeout or config.command_timeout) * 1e3))
        self.prepares = config.prepared_statements is not False
        self._takes_options = True  # until a pooler refuses them
        self._answer_seconds = ANSWER_SHARE * min(config.connection_timeout, config.command_timeout)
        self._connections: WeakSet[Connection] = WeakSet()

    @property
    def safe_url(self) -> str:
        """The connection string without its passwords."""
        shown: dict[str, Any] = {name: HIDDEN if name in SECRET_NAMES else value for name, value in self._address.items()}
        return conninfo.make_conninfo(**shown)

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self._address.get('host') or 'localhost'}:{self._address.get('port') or 5432}"

    @property
    def first_in_search_path(self) -> str:
        """The schema that `options=-csearch_path=...` of the URL names first; "" without."""
        options = str(self._address.get("options") or "")
        return options.partition("search_path=")[2].split(" ")[0].split(",")[0].strip('"')

    def error(self, error: psycopg.Error) -> StorageError:
        """Return the error of a statement as one of the storage."""
        # The rest quotes the statement, and would hide the remedy.
        return statement_error(self.where, error, error.diag.message_primary or self._line(error))

    def _line(self, error: Exception) -> str:
        """Return the message of an error on one line, without the password."""
        return redact(" ".join(str(error).split()), self.config.url)

    async def connect_to_decide(self) -> Connection:
        """Return a new connection that answers. A session of the client's own ends a statement after query_timeout.

        That is asked for as the connection is made, so that nothing is left behind in a session that a pooler shares out. A
        pooler refuses it, or drops it; `timed` of the connection is False then. A pooler may also let a client in without a
        session for it. Such a connection would keep its first statement waiting, so it is tried here.

        Raises
        ------
        StorageConnectionError
            As `connect`; StorageUnavailableError where there is a connection, and no answer.
        """
        options = self._timed_options()
        try:
            connection = await self.connect(options)
        except StorageConnectionError as error:
            if options is None or not re.search(REFUSED_OPTIONS, str(error)):
                raise
            self._takes_options, options = False, None
            connection = await self.connect()
        answer = await self._first_answer(connection)
        connection.timed = options is not None and answer == as_setting(self.query_milliseconds)
        if self.config.prepared_statements is None:
            connection.wire.prepares = connection.timed and self.prepares
        return connection

    async def _first_answer(self, connection: Connection) -> str:
        """Return the statement_timeout of a new connection; it is closed if it does not answer."""
        seconds = self._answer_seconds
        try:
            async with asyncio.timeout(seconds):
                found = await (await connection.execute(b"SHOW statement_timeout")).fetchone()
        except BaseException as error:
            connection.finish()
            if isinstance(error, TimeoutError):
                raise StorageUnavailableError(
                    f"PostgreSQL at {self.where} takes connections, and answers none within {seconds:g} s: let the pooler "
                    "before it pool by transactions, raise its default_pool_size or lower pool_size, or look at the server"
                ) from None
            if isinstance(error, psycopg.Error):
                raise connection_error(self.where, self._line(error)) from None
            raise
        return str(found[0]) if found else ""

    def _timed_options(self) -> str | None:
        """Return the options of a connection with query_timeout; None where they would be refused, or hide other ones."""
        own = self._address.get("options")
        if own is None and ("service" in self._address or "PGSERVICE" in os.environ):
            return None  # the file of the service may name options, which these would replace
        options = str(os.environ.get("PGOPTIONS", "") if own is None else own)
        says = self.config.query_timeout is None and "statement_timeout" in options
        return (
            None if says or not self._takes_options else f"{options} -c statement_timeout={self.query_milliseconds}".strip()
        )

    async def connect(self, options: str | None = None) -> Connection:
        """Return a new connection.

        Parameters
        ----------
        options
            Those of the server's command line, in place of the URL's.

        Raises
        ------
        StorageConnectionError
            There is no server, or it refuses the connection. The message names the remedy.
        """
        parameters: dict[str, Any] = {**KEEPALIVES, "application_name": "ratesim", **self._address}
        parameters["client_encoding"] = "UTF8"
        if options is not None:
            parameters["options"] = options
        connection = await self._first_that_answers(parameters)
        connection.wire.prepares = bool(self.config.prepared_statements)
        self._connections.add(connection)
        return connection

    async def _first_that_answers(self, parameters: dict[str, Any]) -> Connection:
        """Connect to the first host that will do. Each has its share of the time; one that is cut off would take it all."""
        seconds, failures = self.config.connection_timeout, []
        deadline = monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                several = "," in f"{parameters.get('host')}{parameters.get('hostaddr')}"
                hosts = await conninfo.conninfo_attempts_async(parameters) if several else [parameters]
            for place, host in enumerate(hosts):
                share = (deadline - monotonic()) / (len(hosts) - place)
                try:
                    async with asyncio.timeout(share):
                        return await self._connect(host)
                except TimeoutError:
                    failures.append(f"no connection within {seconds if len(hosts) == 1 else share:.3g} s")
                except psycopg.OperationalError as error:
                    failures.append(self._line(error))
        except TimeoutError:
            failures.append(f"no address within {seconds:g} s")
        except psycopg.OperationalError as error:
            failures.append(self._line(error))
        except psycopg.Error as error:
            raise ConfigurationError(f"url {self.safe_url}: {self._line(error)}") from None
        raise connection_error(self.where, "; ".join(failures))

    async def _connect(self, parameters: dict[str, Any]) -> Connection:
        try:
            return await Connection.connect(autocommit=True, prepare_threshold=None, **parameters)
        except BaseException as error:
            # A connection that is half made hangs on these frames, and would stay open as long as anybody, such as a log,
            # keeps the error.
            traceback.clear_frames(error.__traceback__)
            raise

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[Connection]:
        """Open a connection beside the pool, so that long work keeps no decision waiting."""
        connection = await self.connect()
        await self._first_answer(connection)
        try:
            yield connection
        finally:
            connection.finish()

    @asynccontextmanager
    async def transaction(self, connection: Connection, lock_seconds: float = 0.0) -> AsyncIterator[None]:
        """Begin a transaction with the settings of long work, and commit it; after an error the connection is of no use.

        Only the work may take long: a connection whose server is gone shows at the beginning, in the time of an answer.
        """
        settings = [str(round(each * 1e3)) for each in (UPKEEP_SECONDS, lock_seconds or LOCK_SECONDS)]
        seconds = self._answer_seconds
        try:
            async with asyncio.timeout(seconds):
                await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
                await connection.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
                    "set_config('synchronous_commit', %s, true), set_config('synchronize_seqscans', 'off', true)",
                    [*settings, self.config.synchronous_commit],
                )
            seconds = UPKEEP_SECONDS
            async with asyncio.timeout(seconds):
                yield
                await connection.execute(b"COMMIT")
        except TimeoutError:
            raise StorageTimeoutError(f"PostgreSQL at {self.where}: no answer within {seconds:g} s") from None
        except psycopg.Error as error:
            raise self.error(error) from None

    def abandon(self) -> None:
        """Let all connections go without a message, see `ServerDriver`."""
        abandon_descriptors(connection.fileno() for connection in self._connections if not connection.closed)


def as_setting(milliseconds: int) -> str:
    """Return a time as SHOW writes it: in the largest unit that is a divisor."""
    return next(f"{milliseconds // length}{unit}" for unit, length in UNITS if milliseconds % length == 0)
