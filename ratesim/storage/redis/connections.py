"""How commands reach the server: `Connections`, and the clients of redis-py behind it.

Retries belong to the client layer (`ratesim/storage/remote/client.py`): one place decides which operations may be repeated.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE

from ratesim.errors import ConfigurationError
from ratesim.runtime import abandon_descriptors
from ratesim.safe_text import shorten_repr
from ratesim.server_url import redis_topology, split_url
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.sentinel import sentinel_client

__all__ = [
    "SPARE",
    "Command",
    "Connections",
    "PipelineConnections",
    "abandon_connections",
    "check_files",
    "connect",
    "descriptor_of",
    "read_scan",
    "scan_from",
    "walk_server",
]

SPARE = 2  # connections for what decides nothing

Command = tuple[Any, ...]


class Connections(Protocol):
    """Carries commands to the servers of one topology, and their answers back.

    Attributes
    ----------
    one_server
        Whether all commands go to the same server, so that what it answers to one holds for all.
    """

    one_server: bool

    async def send(self, commands: Sequence[Command], reads: Collection[int] = ()) -> list[Any]:
        """Send commands together.

        Parameters
        ----------
        commands
            Each with the keys of one slot.
        reads
            The places of those that a replica may answer.

        Returns
        -------
        list
            The answers in order; of a command that a server refused, the ResponseError of redis-py. Where there are several
            servers, also the ConnectionError or TimeoutError of a command whose server was not reached or lost.

        Raises
        ------
        redis.exceptions.RedisError, OSError, UnicodeError
            A server was not reached or lost; or nothing was sent, since a value cannot be encoded.
        """

    def walk(self, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
        """Yield the keys that match a pattern, some at a time, with the time of the server that has them.

        Raises
        ------
        redis.exceptions.RedisError, OSError
            A server was not reached or lost; the keys of the others have been yielded.
        """

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses: after a failover an address may lead to another server."""

    async def close(self) -> None:
        """Close all connections."""

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""


class PipelineConnections:
    """A client of redis-py for one server; `shared` tells that the caller gave it, and goes on to use it."""

    one_server = True

    def __init__(self, client: redis.asyncio.Redis, shared: bool) -> None:
        self._redis = client
        self._shared = shared

    async def send(self, commands: Sequence[Command], reads: Collection[int] = ()) -> list[Any]:
        """Send commands as one pipeline."""
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **{NEVER_DECODE: True})  # a blob is no text, whatever the caller's client expects
        return list(await pipe.execute(raise_on_error=False))

    def walk(self, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
        """Yield the keys of the server."""
        return walk_server(self, pattern)

    async def drop_idle(self) -> None:
        """Close the idle connections of the pool."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the client."""
        await self._redis.aclose()

    def abandon(self) -> None:
        """Let the connections of the pool go."""
        pool = self._redis.connection_pool
        # redis-py keeps them in private attributes only.
        abandon_connections([*pool._available_connections, *pool._in_use_connections])
        if self._shared:  # the next driver has the same client
            pool.reset()  # type: ignore[no-untyped-call]


def abandon_connections(connections: Iterable[Any]) -> None:
    """Let connections of redis-py go without a message."""
    writers = [getattr(connection, "_writer", None) for connection in connections]  # one that is not connected has none
    sockets = [writer.get_extra_info("socket") for writer in writers if isinstance(writer, asyncio.StreamWriter)]
    abandon_descriptors(socket.fileno() for socket in sockets)


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """Return the descriptor of a transport's socket, -1 where it has none."""
    socket = transport.get_extra_info("socket")
    return -1 if socket is None else int(socket.fileno())


def scan_from(cursor: int, pattern: str) -> list[Command]:
    """Return the commands that read some keys of a server, and its time."""
    return [("TIME",), ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)]


def read_scan(answers: Sequence[Any]) -> tuple[float, int, list[bytes]]:
    """Read their answers: the time, the cursor to go on from, and the keys. Raises the error that one of them is."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    (seconds, micros), (cursor, keys) = answers
    return int(seconds) + int(micros) / 1e6, int(cursor), keys


async def walk_server(connections: Connections, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
    """Yield the keys of one server, see `Connections.walk`."""
    cursor = None
    while cursor != 0:
        time, cursor, keys = read_scan(await connections.send(scan_from(cursor or 0, pattern)))
        yield time, keys


def check_files(url: str) -> None:
    """Raise ConfigurationError for a file of the URL that cannot be read."""
    for name, path in split_url(url).options:
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{name} {shorten_repr(path)}: no such file, or this user may not read it")


def connect(config: RedisStorageConfig, replicas: bool = False) -> redis.asyncio.Redis:
    """Make the client of a configuration, or one of the replicas that its sentinels name. Raises ConfigurationError."""
    check_files(config.url)
    options: dict[str, Any] = {
        "max_connections": config.pool_size + SPARE,
        "socket_connect_timeout": config.connection_timeout,
        "socket_timeout": config.command_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if redis_topology(config.url) == "sentinel":
        return sentinel_client(config.url, config.command_timeout, replicas, **options)
    return redis.asyncio.Redis.from_url(config.url, **options)
