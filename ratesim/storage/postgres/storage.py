"""`PostgresStorage`: state in PostgreSQL tables that people can read."""

from __future__ import annotations

from typing import Self

from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.storage.base import StorageStats
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.driver import PostgresDriver
from ratesim.storage.remote.server_storage import ServerStorage

__all__ = ["PostgresStorage"]


class PostgresStorage(ServerStorage[PostgresDriver]):
    """State in PostgreSQL, for any number of nodes; `open` creates missing tables and functions."""

    def __init__(self, config: PostgresStorageConfig | None = None, runtime: Runtime | None = None) -> None:
        self.config = config or PostgresStorageConfig()
        super().__init__(lambda: PostgresDriver(self.config), self.config, runtime or AsyncioRuntime())

    def __repr__(self) -> str:
        return f"PostgresStorage({self.driver.safe_url!r}, table_name={self.config.table_name!r})"

    async def open(self) -> Self:
        """Connect and create missing tables and functions."""
        await super().open()
        await self.driver.open()
        return self

    async def cleanup_expired(self) -> int:
        """Delete expired rows, and return their number."""
        self._bound()
        return await self.driver.cleanup(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries and bytes are those of the server."""
        self._bound()
        entries, size = await self.driver.sizes()
        return StorageStats(
            entries,
            size,
            operations=self.client.operations,
            errors=dict(self.client.errors),
            clock_rewinds=self.driver.clock_rewinds,
        )
