"""A pooler of PostgreSQL in transaction mode, as pgbouncer is one, for tests on machines that have none.

A client is given a connection of the server from its first message until the server is ready for another one outside of a
transaction. Each time it is the connection that was idle longest, so that a client meets all of them. Nothing is reset.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from psycopg import conninfo

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
LEAVES, READY, SYNCHRONIZING, IN_NO_TRANSACTION = b"X", b"Z", (b"S", b"Q"), b"I"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the type of a message, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


class TransactionPooler:
    """A pooler before the server at `url`, with `size` connections to it; `by_session` a client keeps its own to its end."""

    def __init__(self, url: str, size: int = 3, by_session: bool = False) -> None:
        self._by_session = by_session
        self._address = conninfo.conninfo_to_dict(url)
        self._size = size
        self._idle: asyncio.Queue[Streams] = asyncio.Queue()
        self._greeting = b""
        self._clients: set[asyncio.Task[None]] = set()
        self.handed_out = 0

    async def start(self) -> str:
        """Start, and return the URL for clients."""
        for _ in range(self._size):
            self._idle.put_nowait(await self._connect())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    async def stop(self) -> None:
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()

    async def _connect(self) -> Streams:
        host, port = self._address["host"], self._address.get("port", "5432")
        streams = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        reader, writer = streams
        parameters = b"user\0postgres\0database\0postgres\0application_name\0pooler\0client_encoding\0UTF8\0\0"
        writer.write(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
        greeting = b""
        while True:
            kind, message = await read_message(reader)
            assert kind != b"E", message
            greeting += message
            if kind == READY:
                self._greeting = greeting
                return streams

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
                if await self._greet(reader, writer):
                    await self._relay(reader, writer)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code == SSL_REQUEST:
                writer.write(b"N")
                continue
            if code != CANCEL_REQUEST:
                writer.write(self._greeting)
            return bool(code != CANCEL_REQUEST)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        listening = asyncio.create_task(self._listen(reader, messages))
        server: Streams | None = None
        try:
            while (first := await messages.get())[0] != LEAVES:
                server = server or await self._idle.get()
                self.handed_out += 1
                try:
                    await self._transaction(first, messages, writer, server)
                except BaseException:
                    server[1].close()
                    server = await self._connect()
                    raise
                if not self._by_session:
                    self._idle.put_nowait(server)
                    server = None
        finally:
            if server is not None:
                self._idle.put_nowait(server)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader, messages: asyncio.Queue[tuple[bytes, bytes]]) -> None:
        try:
            while True:
                messages.put_nowait(await read_message(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            messages.put_nowait((LEAVES, b""))

    async def _transaction(
        self,
        first: tuple[bytes, bytes],
        messages: asyncio.Queue[tuple[bytes, bytes]],
        client: asyncio.StreamWriter,
        server: Streams,
    ) -> None:
        """Carry messages until the server is in no transaction and owes no answer."""
        server[1].write(first[1])
        owed = int(first[0] in SYNCHRONIZING)
        asked: asyncio.Task[tuple[bytes, bytes]] = asyncio.create_task(messages.get())
        answered: asyncio.Task[tuple[bytes, bytes]] = asyncio.create_task(read_message(server[0]))
        try:
            while True:
                await asyncio.wait([asked, answered], return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    kind, message = asked.result()
                    if kind == LEAVES:
                        raise ConnectionResetError
                    owed += kind in SYNCHRONIZING
                    server[1].write(message)
                    asked = asyncio.create_task(messages.get())
                if answered.done():
                    kind, message = answered.result()
                    client.write(message)
                    owed -= kind == READY
                    ended = kind == READY and not owed and message[5:6] == IN_NO_TRANSACTION
                    if ended and messages.empty() and not asked.done():
                        return
                    answered = asyncio.create_task(read_message(server[0]))
        finally:
            for each in (asked, answered):
                each.cancel()
            await asyncio.gather(asked, answered, return_exceptions=True)


@asynccontextmanager
async def transaction_pooler(url: str, size: int = 3, by_session: bool = False) -> AsyncIterator[str]:
    pooler = TransactionPooler(url, size, by_session)
    try:
        yield await pooler.start()
    finally:
        await pooler.stop()
