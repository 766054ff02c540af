"""`DirectConnections`: connections that redis-py opens, and that are written to and read from directly.

redis-py asks Sentinel, connects, speaks TLS and authenticates. Then its stream is taken over: a batch is one write, and its
answers are parsed by hiredis as the bytes arrive. A caller waits for one future, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import hiredis
import redis.asyncio
import redis.exceptions

from ratesim.runtime import Deadlines, abandon_descriptors
from ratesim.storage.redis.connections import Command, abandon_connections, descriptor_of, walk_server

__all__ = ["DirectConnections", "Exchange", "pack"]

BUFFER = 2**16  # bytes that are read at once
CLOSED = "Connection closed by server."
NOT_SENT = "Error connecting to server: the connection was closed"  # as redis-py says it of one that is not opened
_NOT_ENOUGH = object()


def pack(commands: Sequence[Command]) -> bytes:
    """Write commands in Redis' protocol. Raises UnicodeError or DataError where a value cannot be encoded."""
    try:
        return b"".join(map(hiredis.pack_command, commands))
    except TypeError as error:
        raise redis.exceptions.DataError(str(error)) from error


class DirectConnections:
    """Connections to one server: the one of an address, or the primary that Sentinel names.

    Parameters
    ----------
    client
        The client whose pool says how to connect. Its own connections are not used.
    """

    one_server = True

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool = client.connection_pool
        self._client = client
        self._links: set[Link] = set()
        self._connecting: set[Any] = set()  # of redis-py
        self._closed = False
        self._free: list[Link] = []  # the last one is the next: those that a quiet hour needs no more go idle
        self._deadlines: Deadlines | None = None
        self._empty: asyncio.Future[None] | None = None  # awaited by `close`

    async def send(self, commands: Sequence[Command], reads: Collection[int] = ()) -> list[Any]:
        """Send commands in one write, on a connection that is free or new."""
        packed = pack(commands)
        link = await self.take()
        try:
            return await link.exchange(packed, len(commands))
        finally:
            self.put_back(link)

    async def take(self) -> Link:
        """Take a connection that is free, or a new one. Nothing was sent where this raises."""
        return self._free.pop() if self._free else await self._connect()

    def walk(self, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
        """Yield the keys of the server."""
        return walk_server(self, pattern)

    def begin(self, seconds: float) -> Exchange | None:
        """Take a connection for some seconds; None where none is free."""
        if not self._free:
            return None
        exchange = Exchange(self, self._free.pop())
        deadlines = self._deadlines
        if deadlines is None:
            deadlines = self._deadlines = Deadlines(exchange.link.loop)
        deadlines.add(exchange, seconds)
        return exchange

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses, and the others when their answers are there."""
        self.let_go()

    def let_go(self) -> None:
        """Use no connection again that is open now."""
        free, self._free = self._free, []
        for link in self._links:
            link.last = True
        for link in free:
            link.close()

    async def close(self) -> None:
        """Close all connections, also those that are being opened."""
        self._closed = True
        self.let_go()
        for link in list(self._links):
            link.close()
        if self._links:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty
        await self._client.aclose()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        abandon_descriptors(link.descriptor for link in self._links)
        abandon_connections(self._connecting)

    async def _connect(self) -> Link:
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        self._connecting.add(connection)
        if hasattr(connection, "driver_info"):  # a redis-py that looks for its version, in the file system, each time
            self._pool.connection_kwargs.setdefault("driver_info", connection.driver_info)
        try:
            await connection.connect()
        except BaseException:  # a cancellation, after which redis-py may leave it open
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._connecting.discard(connection)
        # redis-py keeps them in private attributes only. The connection, which has none now, is given up.
        reader, writer = connection._reader, connection._writer
        connection._reader = connection._writer = None
        if reader.at_eof() or self._closed:
            writer.transport.abort()
            raise redis.exceptions.ConnectionError(NOT_SENT)
        link = Link(self, writer, connection._parser.parse_error)
        self._links.add(link)
        return link

    def put_back(self, link: Link) -> None:
        """Keep a connection for the next batch, if no answer is outstanding on it."""
        if link.is_usable():
            self._free.append(link)
        else:
            link.abort()

    def _on_lost(self, link: Link) -> None:
        self._links.discard(link)
        if link in self._free:
            self._free.remove(link)
        if self._empty is not None and not self._links and not self._empty.done():
            self._empty.set_result(None)


class Exchange:
    """A connection that is taken for one batch, and given up at the deadline.

    Attributes
    ----------
    link
        The connection.
    live
        Whether the batch is under way.
    """

    __slots__ = ("_owner", "link", "live")

    def __init__(self, owner: DirectConnections, link: Link) -> None:
        self._owner = owner
        self.link = link
        self.live = True

    def send(self, commands: Sequence[Command], reads: Collection[int] = ()) -> Awaitable[list[Any]]:
        """Send commands in one write."""
        return self.link.exchange(pack(commands), len(commands))

    def end(self) -> None:
        """Give the connection back."""
        self.live = False
        self._owner.put_back(self.link)

    def expire(self) -> None:
        """Answer with a TimeoutError at the deadline."""
        if self.link.is_usable():  # its answers have come in this moment
            return
        self.link.fail(TimeoutError())
        self._owner.let_go()  # an address that is silent may lead to another server by now


class Link(asyncio.BufferedProtocol):
    """A connection on which one batch at a time is under way."""

    def __init__(
        self, owner: DirectConnections, writer: asyncio.StreamWriter, parse_error: Callable[[str], Exception]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.last = False  # whether it is closed after this batch
        self._owner = owner
        self._writer = writer  # would close the transport if it were not kept
        self._transport = writer.transport
        self._buffer = bytearray(BUFFER)
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse, replyError=self._error, notEnoughData=_NOT_ENOUGH
        )
        self._parse_error = parse_error
        self._refusal: redis.exceptions.ConnectionError | None = None
        self._answers: list[Any] = []
        self._missing = 0  # answers that are outstanding
        self._future: asyncio.Future[list[Any]] | None = None
        self._transport.set_protocol(self)

    @property
    def descriptor(self) -> int:
        """The descriptor of the socket."""
        return descriptor_of(self._transport)

    def exchange(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Write commands; the future has their answers in order."""
        self._future = future = self.loop.create_future()
        if self._transport.is_closing():
            self.fail(redis.exceptions.ConnectionError(NOT_SENT))
            return future
        self._answers = []
        self._missing = count
        self._transport.write(packed)
        return future

    def is_usable(self) -> bool:
        """Return whether a batch may follow."""
        return not self._missing and not self.last and not self._transport.is_closing()

    def fail(self, error: Exception) -> None:
        """Raise an error where the answers are awaited, and close at once."""
        self.abort()
        future = self._future
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()  # not logged where the caller is canceled in this moment

    def abort(self) -> None:
        """Close without waiting for what is outstanding."""
        self.last = True
        self._transport.abort()

    def close(self) -> None:
        """Close with the farewell of TLS, or without waiting where an answer is outstanding."""
        if self._missing:
            self.fail(redis.exceptions.ConnectionError("the connection was closed"))
        else:
            self._transport.close()

    def _error(self, text: str) -> Exception:
        error = self._parse_error(text)
        if isinstance(error, redis.exceptions.ConnectionError):
            self._refusal = error  # of the connection, not of the command
        return error

    # -- called by the transport ------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        reader, answers, missing = self._reader, self._answers, self._missing
        try:
            reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
            while missing:
                answer = reader.gets()
                if answer is _NOT_ENOUGH:
                    break
                answers.append(answer)
                missing -= 1
        except redis.exceptions.InvalidResponse as error:
            self.fail(error)
            return
        self._missing = missing
        if self._refusal is not None:
            self.fail(self._refusal)
        elif not missing:
            future = self._future
            if future is not None and not future.done():
                future.set_result(answers)
            if reader.has_data():
                self.abort()  # nobody asked for that: what follows could not be told apart

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.last = True
        self._owner._on_lost(self)
        if self._missing:
            self.fail(redis.exceptions.ConnectionError(CLOSED if error is None else f"{error}"))
