"""`Proxy`: a TCP proxy in a thread of its own, which can stall, reset or redirect the connections that run through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

Target = int | str  # a port of loopback, or the path of a unix socket


class Proxy:
    """Forwards a port of loopback to a server.

    `stall` is a partition: bytes, ends of connections and refusals are held back in both directions, and no RST is sent.
    They are delivered when the stall ends, as TCP would send them again.

    Parameters
    ----------
    target
        The server.

    Attributes
    ----------
    port
        The port that clients connect to.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Begin a partition."""
        self._call(self._flowing.clear)

    def resume(self) -> None:
        """End a partition."""
        self._call(self._flowing.set)

    def reset(self) -> None:
        """Cut every connection with an RST; new ones are let through."""
        self._call(self._cut)

    def redirect(self, target: Target) -> None:
        """Send new connections elsewhere, and cut the present ones."""
        self._target = target
        self._call(self._cut)

    def _cut(self) -> None:
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if (
                connection.fileno() != -1 and connection.family != socket.AF_UNIX
            ):  # closing with a linger of 0 s sends an RST
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            answers, other = await self._connect()
            self._writers.add(other)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, other))
                group.create_task(self._pump(answers, writer))
        except* (OSError, EOFError):  # either end has gone, or was never there
            await self._flowing.wait()
        finally:
            for each in (writer, other):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise EOFError

    async def _close(self) -> None:
        self._server.close()
        self._flowing.set()
        self._cut()
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, change: Callable[[], None]) -> None:
        async def done() -> None:
            change()

        self._run(done())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
