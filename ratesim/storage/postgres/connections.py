"""Connections to PostgreSQL: one that is given up at once, and a pool that hands out only those that are sound."""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from math import inf
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, TransactionStatus

from ratesim.errors import StorageConnectionError, StorageError, StorageUnavailableError
from ratesim.storage.postgres.binary_format import Call, rows_of
from ratesim.storage.postgres.wire import Wire

__all__ = ["Connection", "ConnectionPool"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

PROBE_AFTER = 30.0  # seconds without use after which a round trip shows that no firewall has forgotten the connection
MAX_IDLE = 600.0  # seconds without use after which a connection is closed
MAX_LIFETIME = 3600.0  # seconds after which a connection is replaced: a session of the server grows with its caches
LIFETIME_SPREAD = 0.1  # share of MAX_LIFETIME over which connections end, so that not all of them end at once
INTERRUPTIONS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
CANCEL_SECONDS = 1.0  # that the server has to cancel the statement of a caller who gave up
PAUSE = 1.0  # seconds without a new connection after the server had none left
GOLDEN = 0.6180339887498949  # the fractional parts of its multiples lie evenly


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that is given up at once when the caller who waits for its server is canceled.

    psycopg asks the server to cancel the statement, and keeps the caller waiting for that up to 5 s. Here the caller goes
    on. The connection asks behind its back and closes, within `CANCEL_SECONDS`, so that the server does not work in vain.
    """

    opened: float
    idle_since: float
    lifetime: float
    leaving: asyncio.Task[None] | None = None
    timed: bool = False  # whether the session itself ends statements after query_timeout

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.wire = Wire(self.pgconn)
        self._poll: select.poll | None = None

    @property
    def codec(self) -> str:
        """The name that Python has for the encoding of the session's texts."""
        if self.pgconn.parameter_status(b"client_encoding") == b"UTF8":
            return "utf-8"
        return self.info.encoding  # a pooler handed out a session that another client has changed

    async def fetch(
        self, call: Call, parameters: Sequence[Any], before: Sequence[bytes] = (), after: Sequence[bytes] = ()
    ) -> list[tuple[Any, ...]]:
        """Carry out a statement and return its rows, see `Wire.send`; when canceled, give the connection up.

        Raises
        ------
        UnicodeEncodeError
            The session's encoding cannot hold a text.
        psycopg.Error
            A parameter is none that can be sent, the server answered an error, or the connection is lost.
        """
        codec = self.codec
        future = self.wire.send(call, call.encode(parameters, codec), before, after)
        try:
            result = await future
        except INTERRUPTIONS:
            self._give_up()
            raise
        return rows_of(result, codec)

    def finish(self) -> None:
        """Close at once, without waiting for the server."""
        self.wire.close()

    # Which options there are differs from version to version of psycopg.
    async def wait(self, gen: PQGen[T], interval: float = 0.1, **options: Any) -> T:  # type: ignore[override]
        """Wait for the server; when canceled, give the connection up and pass the cancellation on."""
        self.wire.pause()
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, **options)
        except INTERRUPTIONS:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self.wire.pause()
        if self.leaving is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self.leaving = _spawn(self._leave())
            self.leaving.add_done_callback(lambda _: self.finish())  # also if it is canceled before it has begun
        else:
            self.finish()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
        except (TimeoutError, psycopg.Error) as error:  # the statement ends by itself, at the latest after lock_timeout
            logger.debug("a statement was not canceled: %s", type(error).__name__)

    def has_ended(self) -> bool:
        """Return whether an idle connection is of no use any more, without a round trip.

        An idle server sends nothing, so whatever can be read is the message with which it ended the session, or the end of
        the stream.
        """
        if self.pgconn.status != ConnStatus.OK:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, select.POLLIN)
        return bool(self._poll.poll(0))


class ConnectionPool:
    """Hands out connections, at most `size` of them, and makes them in the background.

    A connection that its caller gave up is closed and replaced. A caller who is canceled while one is made for it leaves it
    to the next. The connection that was used last is handed out first.

    Parameters
    ----------
    connect
        Makes a connection; raises StorageError.
    size
        Most connections.
    probe_seconds
        Most seconds for the answer to a probe of a connection that was idle for long.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int, probe_seconds: float) -> None:
        self._connect = connect
        self._size = size
        self._probe_seconds = probe_seconds
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._made = 0
        self._full_until = -inf
        self._closed = False

    def take_nowait(self) -> Connection | None:
        """Return the connection that was used last if it is sound for sure, as `take` does; None if only `take` can tell."""
        if self._idle and monotonic() - self._idle[-1].idle_since < PROBE_AFTER and not self._idle[-1].has_ended():
            return self._idle.pop()
        return None

    async def take(self) -> Connection:
        """Return a connection for the caller alone, who gives it back.

        Raises
        ------
        StorageError
            No connection could be made, or the pool is closed.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.has_ended():
                self._discard(connection)
            elif monotonic() - connection.idle_since < PROBE_AFTER or await self._answers(connection):
                return connection
        if self._closed:
            raise StorageConnectionError("the storage is closed", sent=False)
        future: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._grow()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def give_back(self, connection: Connection) -> None:
        """Take a connection back; it is closed unless it is ready for another statement."""
        if connection not in self._open:
            return
        now = monotonic()
        sound = not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
        if not sound or self._closed or now - connection.opened > connection.lifetime:
            self._discard(connection)
            return
        connection.idle_since = now
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
            return
        self._idle.append(connection)
        if now - self._idle[0].idle_since > MAX_IDLE:
            self._discard(self._idle.popleft())

    def discard_idle(self) -> None:
        """Close the connections that nobody uses, such as after the server turned out to be another one."""
        while self._idle:
            self._discard(self._idle.pop())

    async def close(self) -> None:
        """Close all connections; those in use when they are given back."""
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(StorageConnectionError("the storage is closed", sent=False))
        self.discard_idle()
        tasks = [*self._connecting, *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answers(self, connection: Connection) -> bool:
        """Return whether a connection that was idle for long still reaches its server."""
        try:
            async with asyncio.timeout(self._probe_seconds):
                await connection.execute("")
        except (TimeoutError, psycopg.Error):
            self._discard(connection)
            for other in [each for each in self._idle if monotonic() - each.idle_since >= PROBE_AFTER]:
                self._idle.remove(other)  # what cut off this one cut off those that were idle as long
                self._discard(other)
            return False
        except BaseException:
            self._discard(connection)
            raise
        return True

    def _grow(self) -> None:
        """Make as many connections as callers wait for, within the size and what the server has."""
        while (
            not self._closed
            and not (self._open and monotonic() < self._full_until)
            and len(self._waiting) > len(self._connecting)
            and len(self._open) + len(self._connecting) < self._size
        ):
            self._connecting.add(_spawn(self._add()))

    async def _add(self) -> None:
        """Make one connection for the caller who waits longest; an error is that caller's."""
        task = asyncio.current_task()
        try:
            connection = await self._connect()
        except Exception as error:
            if self._open and isinstance(error, StorageUnavailableError):
                self._full_until = monotonic() + PAUSE  # callers share the connections that there are
            elif (waiter := self._next_waiter()) is not None:
                waiter.set_exception(error)
            elif not isinstance(error, StorageError):  # else the caller gave up, and the next one tries again
                raise
        else:
            self._made += 1
            connection.opened = monotonic()
            connection.lifetime = MAX_LIFETIME * (1.0 - LIFETIME_SPREAD * (self._made * GOLDEN % 1.0))
            self._open.add(connection)
            self.give_back(connection)
        finally:
            if task is not None:
                self._connecting.discard(task)
            self._grow()

    def _discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.leaving is None:
            connection.finish()
        else:
            self._leaving.add(connection.leaving)
            connection.leaving.add_done_callback(self._leaving.discard)
        self._grow()

    def _next_waiter(self) -> asyncio.Future[Connection] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a coroutine as a task that may end with its loop.

    `asyncio.run` cancels all tasks at its end, and closes the loop before those that start in consequence have run. asyncio
    would report each of them.
    """
    task = asyncio.get_running_loop().create_task(work)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task
