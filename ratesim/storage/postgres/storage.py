"""`PostgresStorage`: state in PostgreSQL tables that people can read."""

from __future__ import annotations

import asyncio
import logging

from ratesim.runtime import AsyncioRuntime, Runtime, Task
from ratesim.runtime.supervision import Supervisor
from ratesim.storage.base import StorageHealth, StorageStats
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.driver import PostgresDriver
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.server_storage import ServerStorage

__all__ = ["PostgresStorage"]

logger = logging.getLogger(__name__)

CLEANUP = "cleanup"


class PostgresStorage(ServerStorage[PostgresDriver]):
    """State in PostgreSQL, for any number of nodes; `open` creates missing tables.

    Attributes
    ----------
    supervisor
        The background task that removes expired rows.
    """

    def __init__(self, config: PostgresStorageConfig | None = None, runtime: Runtime | None = None) -> None:
        self.config = config or PostgresStorageConfig()
        super().__init__(lambda: PostgresDriver(self.config), self.config, runtime or AsyncioRuntime())
        self.supervisor = Supervisor(self.runtime, logger, CLEANUP)
        self._cleans = False
        self._cleaning: Task | None = None

    def __repr__(self) -> str:
        return f"PostgresStorage({self.driver.connector.safe_url!r}, table_name={self.config.table_name!r})"

    async def _open(self) -> None:
        """Connect, create missing tables, and start to remove expired rows in the background."""
        self._cleans = self.config.cleanup_interval > 0 and self.runtime.realtime
        self._bound()
        await self.driver.open()

    def _bound(self) -> Client:
        client = super()._bound()
        if self._cleans and self._cleaning is None:
            self._cleaning = self.runtime.spawn(
                self.supervisor.every(self.config.cleanup_interval, CLEANUP, self._clean_in_turn)
            )
        return client

    def _renew(self, forked: bool = False) -> None:
        super()._renew(forked)
        self._cleaning = None  # it was of the former process or loop

    async def _clean_in_turn(self) -> None:
        """Delete expired rows, unless another node did so in this interval."""
        now = await self.driver.claim_cleanup(self.config.cleanup_interval)
        if now is not None:
            # A node whose clock is ahead must not delete what is live for the others.
            await self.driver.cleanup(min(now, self.runtime.time()))

    async def cleanup_expired(self) -> int:
        """Delete expired rows, and return their number."""
        self._bound()
        return await self.driver.cleanup(self.runtime.time())

    async def health_check(self) -> StorageHealth:
        """Make a round trip; unhealthy also while the last removal of expired rows failed."""
        health, problems = await super().health_check(), self.supervisor.problems
        if not problems:
            return health
        return StorageHealth(False, health.latency, f"{health.detail}; {problems}" if health.detail else problems)

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries and bytes are those of the server."""
        self._bound()
        entries, size = await self.driver.sizes()
        return StorageStats(
            entries,
            size,
            operations=self.client.operations,
            background_failures=self.supervisor.failures,
            errors=dict(self.client.errors),
            clock_rewinds=self.client.clock_rewinds,
        )

    async def _close(self) -> None:
        """Stop the background task, and close the connections."""
        self._cleans = False
        cleaning, self._cleaning = self._cleaning, None
        if cleaning is not None:
            cleaning.cancel()
        try:
            await super()._close()
        finally:
            if cleaning is not None:
                await asyncio.gather(cleaning, return_exceptions=True)
