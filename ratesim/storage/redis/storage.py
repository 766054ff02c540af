"""`RedisStorage`: state in Redis or Valkey."""

from __future__ import annotations

import redis.asyncio

from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.server_url import address_of
from ratesim.storage.base import StorageHealth, StorageStats
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.driver import RedisDriver
from ratesim.storage.remote.server_storage import ServerStorage

__all__ = ["RedisStorage"]


class RedisStorage(ServerStorage[RedisDriver]):
    """State in one Redis or Valkey.

    Parameters
    ----------
    config : RedisStorageConfig
        Options.
    connection : redis.asyncio.Redis, optional
        A client to use instead of one made from `config.url` (fakeredis, in tests).
    """

    def __init__(
        self,
        config: RedisStorageConfig | None = None,
        runtime: Runtime | None = None,
        connection: redis.asyncio.Redis | None = None,
    ) -> None:
        self.config = config or RedisStorageConfig()
        super().__init__(lambda: RedisDriver(self.config, connection), self.config, runtime or AsyncioRuntime())

    def __repr__(self) -> str:
        return f"RedisStorage({address_of(self.config.url)})"

    async def health_check(self) -> StorageHealth:
        """Write the state of a key of its own, measure that, and drop the key; on a cluster ask every primary as well."""
        health = await super().health_check()
        problems = await self.driver.check() if health.healthy else []
        return StorageHealth(False, health.latency, str(problems[0])) if problems else health

    async def cleanup_expired(self) -> int:
        """Drop entries that are over by `now` and that the server, which owns expiry, has not dropped yet."""
        self._bound()
        return await self.driver.upkeep.drop_expired(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries and bytes are those of the server."""
        self._bound()
        entries, size = await self.driver.upkeep.size()
        return StorageStats(
            entries=entries,
            bytes=size,
            operations=self.client.operations,
            errors=dict(self.client.errors),
            clock_rewinds=self.client.clock_rewinds,
        )
