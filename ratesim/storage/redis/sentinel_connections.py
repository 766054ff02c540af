"""`SentinelConnections`: connections to a primary, which are given up at once when the sentinels name another one.

A primary that is replaced while it lives goes on answering for about ten seconds, until the sentinels make it a replica. All
that it has decided is lost then. So a connection to one of the sentinels stays open, on which it tells of a new primary.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import hiredis
import redis.asyncio
import redis.exceptions

from ratesim.runtime import abandon_descriptors
from ratesim.storage.redis.connections import descriptor_of
from ratesim.storage.redis.direct import DirectConnections, pack

if TYPE_CHECKING:
    from ratesim.storage.redis.direct import Link

__all__ = ["SentinelConnections"]

PAUSE = 1.0  # seconds until sentinels are asked again of which none took the connection
QUIET = 5.0  # seconds after which a sentinel must show that it is there
NEWS = "+switch-master"


class SentinelConnections(DirectConnections):
    """Connections to the primary that sentinels name.

    Parameters
    ----------
    client
        The client whose pool asks the sentinels.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        super().__init__(client)
        self._sentinel_pool: Any = client.connection_pool
        self._lookout: _Lookout | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    async def _connect(self) -> Link:
        before = self._sentinel_pool.master_address
        link = await super()._connect()
        if before is not None and self._sentinel_pool.master_address != before:
            self.let_go()  # this one as well, after its batch: it may be of the former primary
        self._listen()
        return link

    def _listen(self) -> None:
        if self._lookout is None and self._starting is None and not self._closed:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)

    async def _start(self) -> None:
        """Subscribe to the news of the first sentinel that answers, and catch up with what has happened before."""
        for sentinel in tuple(self._sentinel_pool.sentinel_manager.sentinels):
            connection = sentinel.connection_pool.make_connection()
            try:
                await connection.connect()
            except (redis.exceptions.RedisError, OSError):
                continue
            except BaseException:  # a cancellation, after which redis-py leaves it open
                await connection.disconnect(nowait=True)
                raise
            if self._closed:  # while it connected, and nobody has waited for this
                await connection.disconnect(nowait=True)
                return
            # As in `DirectConnections`, the stream is taken over.
            writer, connection._reader, connection._writer = connection._writer, None, None
            self._lookout = _Lookout(self, writer, self._sentinel_pool.service_name)
            break
        if self._lookout is not None:
            before = self._sentinel_pool.master_address
            # Where nobody knows a primary, what is open stays so: it is of the last one that was known.
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                if await self._sentinel_pool.get_master_address() != before:
                    self.let_go()

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled():
            task.result()
        self.on_silence()

    def on_silence(self) -> None:
        """Listen to another sentinel in a moment, if there is none."""
        if self._lookout is not None and self._lookout.lost:
            self._lookout = None
        if self._lookout is None and not self._closed:
            asyncio.get_running_loop().call_later(PAUSE, self._listen)

    async def close(self) -> None:
        """Close all connections, also where the caller is canceled meanwhile."""
        self._closed = True
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.wait([self._starting])
        finally:
            if self._lookout is not None:
                self._lookout.transport.abort()
            await super().close()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        if self._lookout is not None:
            abandon_descriptors([self._lookout.descriptor])
        super().abandon()


class _Lookout(asyncio.Protocol):
    """A connection to a sentinel, on which it tells of a new primary."""

    def __init__(self, owner: SentinelConnections, writer: asyncio.StreamWriter, service: str) -> None:
        self.lost = False
        self.transport = writer.transport
        self._writer = writer  # would close the transport if it were not kept
        self._owner = owner
        self._service = service.encode()
        self._reader = hiredis.Reader()
        self.transport.set_protocol(self)
        self.transport.write(pack([("SUBSCRIBE", NEWS)]))
        self._heard = True
        self._timer = asyncio.get_running_loop().call_later(QUIET, self._check)

    def _check(self) -> None:
        if not self._heard:
            self.transport.abort()
            return
        self._heard = False
        self.transport.write(pack([("PING",)]))
        self._timer = asyncio.get_running_loop().call_later(QUIET, self._check)

    @property
    def descriptor(self) -> int:
        """The descriptor of the socket."""
        return descriptor_of(self.transport)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._reader.feed(data)
        try:
            while (message := self._reader.gets()) is not False:
                if self._is_of_the_service(message):
                    self._owner.let_go()
        except hiredis.ProtocolError:
            self.transport.abort()

    def _is_of_the_service(self, message: Any) -> bool:
        # Service, address and port of the former primary, and of the new one.
        return isinstance(message, list) and message[0] == b"message" and message[2].split(b" ")[0] == self._service

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._timer.cancel()
        self._owner.on_silence()
