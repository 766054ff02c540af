"""`PostgresStorage`: state in PostgreSQL tables that people can read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from ratesim.errors import BatchError
from ratesim.limit import Decision, Limits
from ratesim.runtime import AsyncioRuntime, Runtime, Task
from ratesim.runtime.supervision import Supervisor
from ratesim.storage.base import Request, StorageHealth, StorageStats, UpkeepStats
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.denials import DenialCounts
from ratesim.storage.postgres.driver import PostgresDriver
from ratesim.storage.postgres.upkeep import TURN_SHARE
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.server_storage import ServerStorage

__all__ = ["PostgresStorage"]

logger = logging.getLogger(__name__)

CLEANUP, ROTATION, DENIALS = "cleanup", "rotation", "denials"  # background tasks


class PostgresStorage(ServerStorage[PostgresDriver]):
    """State in PostgreSQL, for any number of nodes; `open` creates missing tables.

    Attributes
    ----------
    supervisor
        The background tasks: removing expired rows, rotating partitions, and handing counts of denials on.
    upkeep
        What this node has done for the tables.
    """

    def __init__(self, config: PostgresStorageConfig | None = None, runtime: Runtime | None = None) -> None:
        self.config = config or PostgresStorageConfig()
        super().__init__(lambda: PostgresDriver(self.config), self.config, runtime or AsyncioRuntime())
        self.supervisor = Supervisor(self.runtime, logger, CLEANUP, ROTATION, DENIALS)
        self.upkeep = UpkeepStats()
        self._denials = DenialCounts()
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
            self._cleaning = self.runtime.spawn(self.supervisor.every(self.config.cleanup_interval, CLEANUP, self._maintain))
        return client

    def _renew(self, forked: bool = False) -> None:
        super()._renew(forked)
        if forked:
            self._denials.clear()
        self._cleaning = None  # it was of the former process or loop

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        """Acquire at the server, and count a denial."""
        decision = await super().acquire(identifier, limit, cost, now, session)
        if not decision.allowed:
            self._denials.add(identifier, decision.limit.name)
        return decision

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Acquire several, and count denials."""
        try:
            decisions = await super().acquire_many(requests)
        except BatchError as error:
            self._count_denials(requests, error.results)
            raise
        self._count_denials(requests, decisions)
        return decisions

    def _count_denials(self, requests: Sequence[Request], answers: Sequence[object]) -> None:
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Decision) and not answer.allowed:
                self._denials.add(request.identifier, answer.limit.name)

    async def _hand_denials_on(self) -> None:
        """Add the denials that this node has counted to those of the others."""
        counts = self._denials.take()
        try:
            if counts:
                await self.driver.add_denials(counts)
        except BaseException:
            self._denials.put_back(counts)
            raise

    async def _hand_denials_on_in_time(self) -> None:
        async with asyncio.timeout(self.config.command_timeout):
            await self._hand_denials_on()

    async def _maintain(self) -> None:
        """Hand denials on; rotate partitions and delete expired rows, unless another node does so in this interval."""
        await self.supervisor.attempt(DENIALS, self._hand_denials_on)
        end = self.runtime.monotonic() + TURN_SHARE * self.config.cleanup_interval
        turn = await self.driver.take_turn(self.config.cleanup_interval)
        if turn is None:
            self.supervisor.succeeded(ROTATION)  # it is another node's now
            return
        # A node whose clock is ahead must not delete what is live for the others.
        now = min(turn.now, self.runtime.time())
        rotated = await self.supervisor.attempt(ROTATION, self._rotate, now)
        seconds = end - self.runtime.monotonic()
        removed, position = await self.driver.cleanup(now, turn.position, seconds, rotated)
        await self.driver.end_turn(position)
        self._note(rounds=1, removed=removed)

    async def _rotate(self, now: float) -> None:
        done = await self.driver.rotate(now)
        self._note(moved=done.moved, partitions_made=done.made, partitions_dropped=done.dropped)

    def _note(self, **more: int) -> None:
        """Add to what this node has done for the tables."""
        done = msgspec.structs.asdict(self.upkeep)
        self.upkeep = UpkeepStats(**{name: count + more.get(name, 0) for name, count in done.items()})

    async def cleanup_expired(self) -> int:
        """Delete expired rows, and return their number."""
        self._bound()
        removed, _ = await self.driver.cleanup(self.runtime.time())
        self._note(removed=removed)
        return removed

    async def health_check(self) -> StorageHealth:
        """Make a round trip; unhealthy also while the last removal of expired rows failed."""
        health, problems = await super().health_check(), self.supervisor.problems
        if not problems:
            return health
        return StorageHealth(False, health.latency, f"{health.detail}; {problems}" if health.detail else problems)

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries, bytes and those of the tables are the server's."""
        self._bound()
        sizes = await self.driver.sizes()
        return StorageStats(
            sizes.entries,
            sizes.bytes,
            operations=self.client.operations,
            background_failures=self.supervisor.failures,
            errors=dict(self.client.errors),
            clock_rewinds=self.client.clock_rewinds,
            exact=sizes.exact,
            dead_rows=sizes.dead_rows,
            hot_ratio=sizes.hot_ratio,
            partitions=sizes.partitions,
            upkeep=self.upkeep,
        )

    async def _close(self) -> None:
        """Stop the background task, hand denials on, and close the connections."""
        self._cleans = False
        cleaning, self._cleaning = self._cleaning, None
        if cleaning is not None:
            cleaning.cancel()
        try:
            if cleaning is not None and self._denials:
                await asyncio.gather(cleaning, return_exceptions=True)
                await self.supervisor.attempt(DENIALS, self._hand_denials_on_in_time)
            await super()._close()
        finally:
            if cleaning is not None:
                await asyncio.gather(cleaning, return_exceptions=True)
