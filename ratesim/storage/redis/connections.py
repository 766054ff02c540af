"""How commands reach the server: `Connections`, and the clients of redis-py behind it.

Retries belong to the client layer (`ratesim/storage/remote/client.py`): one place decides which operations may be repeated.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
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
from ratesim.storage.redis.upkeep import SPARE

__all__ = ["Command", "Connections", "PipelineConnections", "connect"]

Command = tuple[Any, ...]


class Connections(Protocol):
    """Carries commands to the servers of one topology, and their answers back."""

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together.

        Returns
        -------
        list
            The answers in order; of a command that a server refused, the ResponseError of redis-py.

        Raises
        ------
        redis.exceptions.RedisError, OSError, UnicodeError
            A server was not reached or lost; or nothing was sent, since a value cannot be encoded.
        """

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses: after a failover an address may lead to another server."""

    async def close(self) -> None:
        """Close all connections."""

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""


class PipelineConnections:
    """A client of redis-py for one server; `shared` tells that the caller gave it, and goes on to use it."""

    def __init__(self, client: redis.asyncio.Redis, shared: bool) -> None:
        self._redis = client
        self._shared = shared

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands as one pipeline."""
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **{NEVER_DECODE: True})  # a blob is no text, whatever the caller's client expects
        return list(await pipe.execute(raise_on_error=False))

    async def drop_idle(self) -> None:
        """Close the idle connections of the pool."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the client."""
        await self._redis.aclose()

    def abandon(self) -> None:
        """Let the connections of the pool go."""
        pool = self._redis.connection_pool
        # redis-py keeps them in private attributes only. One that is not connected has no writer.
        connections = [*pool._available_connections, *pool._in_use_connections]
        writers = [getattr(connection, "_writer", None) for connection in connections]
        sockets = [writer.get_extra_info("socket") for writer in writers if isinstance(writer, asyncio.StreamWriter)]
        abandon_descriptors(socket.fileno() for socket in sockets)
        if self._shared:  # the next driver has the same client
            pool.reset()  # type: ignore[no-untyped-call]


def connect(config: RedisStorageConfig) -> redis.asyncio.Redis:
    """Make the client of a configuration. Raises ConfigurationError."""
    for name, path in split_url(config.url).options:
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{name} {shorten_repr(path)}: no such file, or this user may not read it")
    options: dict[str, Any] = {
        "max_connections": config.pool_size + SPARE,
        "socket_connect_timeout": config.connection_timeout,
        "socket_timeout": config.command_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if redis_topology(config.url) == "sentinel":
        return sentinel_client(config.url, config.command_timeout, **options)
    return redis.asyncio.Redis.from_url(config.url, **options)
