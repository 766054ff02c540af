"""`HybridStorage`: who decides (consistency), on a view from where (read), and how L2 hears of it (write)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import msgspec
import numpy as np

from ratesim.errors import StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost
from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.state import RateLimitState
from ratesim.storage.base import Charge, RateLimitStorage, StorageHealth, StorageStats, adaptive_limits
from ratesim.storage.config import HybridStorageConfig, MemoryStorageConfig
from ratesim.storage.hybrid.fallback import FallbackPolicy
from ratesim.storage.hybrid.lease import lease_terms
from ratesim.storage.hybrid.lease_manager import LeaseManager
from ratesim.storage.hybrid.local_decisions import LocalDecider
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.sync_stats import SyncCounters, SyncStats
from ratesim.storage.hybrid.write_behind import WriteBehindQueue
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["HybridStorage"]


class HybridStorage(RateLimitStorage):
    """L1 and L2 under one roof.

    l2: the shared storage; closed with this one.
    rng: draws the phase of the flushes. sequence: as in MemoryStorage.
    """

    def __init__(
        self,
        l2: RateLimitStorage,
        config: HybridStorageConfig | None = None,
        runtime: Runtime | None = None,
        rng: np.random.Generator | None = None,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        config = config or HybridStorageConfig()
        self.config = config = msgspec.structs.replace(config, node=config.node or uuid.uuid4().hex)
        self.runtime = runtime or AsyncioRuntime()
        near = MemoryStorageConfig(
            max_entries=config.max_entries,
            memory_limit=config.memory_limit,
            eviction_policy=config.eviction_policy,
            thread_safe=False,
        )
        self.l1 = MemoryStorage(near, self.runtime, sequence)
        self.l2 = l2
        self.tally = SyncCounters()
        self._views = ViewCache(self.l1, l2, config, self.runtime, self.tally)
        self._write_behind = WriteBehindQueue(self.l1, l2, config, self.runtime, self.tally, rng, self._views)
        self._leases = LeaseManager(l2, config, self.runtime, self.tally, sequence)
        self._fallback = FallbackPolicy(config)
        self._local = LocalDecider(
            self.l1, config, self.runtime, self.tally, sequence, self._views, self._write_behind, self._fallback
        )
        self._closed = False
        # What every request reads, at hand.
        self._time = self.runtime.time
        self._records = self._views.records
        self._at_once = config.consistency == "eventual" and config.write == "write_back"

    async def open(self) -> Self:
        await self.l2.open()
        return self

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        if now is None:
            now = self._time()
        decision = self.acquire_nowait(identifier, limit, cost, now)
        if decision is not None:
            return decision
        limits = as_limits(limit)
        if self.config.consistency == "strong":
            return await self._heard(self.l2.acquire(identifier, limits, cost, now), identifier, limits, cost, now)
        if self.config.consistency == "lease":
            return await self._on_lease(identifier, limits, cost, now)
        return await self._local.acquire(identifier, limits, check_cost(cost), now, session)

    def acquire_nowait(self, identifier: str, limit: Limits, cost: float, now: float) -> Decision | None:
        """`acquire` in the common case: the view is young, nothing is waited for, and who is told is told later. None in any
        other, and then nothing was done."""
        if not self._at_once or limit.__class__ is not Limit:
            return None
        name = limit.name
        record = self._records.get((identifier, name) if name else identifier)
        time = self._time()
        if record is None or time >= record.young_until or record.limit is not limit:
            return None
        if cost != 1.0:
            cost = check_cost(cost)
        decision = record.decide(identifier, cost, now)
        decision.view_age = time - record.read_at
        if decision.allowed and cost:
            if record.since <= now < record.until:
                record.cost += cost
                record.requests += 1
                if now > record.time:
                    record.time = now
            else:
                self._write_behind.note(record, now, cost)
        return decision

    # -- where L2 decides ---------------------------------------------------------------------------------------------

    async def _on_lease(self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float) -> Decision:
        if len(limits) == 1:
            decision = self._leases.spend(identifier, limits[0], cost, now)
            if decision is None:
                asking = self._leases.acquire(identifier, limits[0], cost, now)
                decision = await self._heard(asking, identifier, self._on_terms(limits), cost, now)
        else:  # all admit or none is charged, which only L2 can say; on the terms that leases have
            asked = self._on_terms(limits)
            decision = await self._heard(self.l2.acquire(identifier, asked, cost, now), identifier, asked, cost, now)
        decision.limit = next(each for each in limits if each.name == decision.limit.name)
        return decision

    def _on_terms(self, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return tuple(lease_terms(each, self.config.lease_ttl).asked for each in limits)

    async def _heard(
        self, asking: Awaitable[Decision], identifier: str, limits: tuple[Limit, ...], cost: float, now: float
    ) -> Decision:
        """L2's decision, or the policy's where it does not answer in time."""
        failure: StorageError
        try:
            return await self.runtime.timeout(asking, self.config.max_wait)
        except TimeoutError:
            failure = StorageTimeoutError(f"no answer of L2 within {self.config.max_wait:g} s")
        except StorageError as error:
            failure = error
        return self._fall_back(identifier, limits, check_cost(cost), now, failure)

    def _fall_back(
        self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, failure: StorageError
    ) -> Decision:
        """The policy's answer. What it admits reaches L2 later, unless L2 may have charged the request already."""
        self.tally.fallback_decisions += 1
        records = [self._views.record(identifier, each) for each in limits]
        allowed = self._fallback.admits(records, cost, now)
        if allowed and cost and isinstance(failure, StorageConnectionError) and not failure.sent:
            for record in records:
                self._write_behind.note(record, now, cost)
        return self._fallback.decision(allowed, limits[0])

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        now = self.runtime.time() if now is None else now
        limits = as_limits(limit)
        if self.config.consistency == "strong":
            return await self.l2.peek(identifier, limits, cost, now)
        if self.config.consistency == "lease":
            return await self.l2.peek(identifier, self._on_terms(limits), cost, now)
        _, young = await self._local.looked_at(identifier, limits, {})
        if not young and self._fallback.policy == "fail_closed":
            return self._fallback.decision(False, limits[0])
        return self.l1.acquire_nowait(identifier, limits[0] if len(limits) == 1 else limits, cost, now, consume=False)

    # -- the rest of the interface ------------------------------------------------------------------------------------

    async def reset(self, identifier: str) -> None:
        self._drop(identifier)
        await self.l2.reset(identifier)
        await self.l1.reset(identifier)

    def _drop(self, identifier: str, name: str | None = None) -> None:
        self._leases.forget(identifier, name)
        for record in self._views.of(identifier, name):
            self._write_behind.forget(record)
            self._views.forget(record)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """The view and what is unflushed, where L1 decides and has been asked; else L2's state."""
        record = self._views.find(identifier, name)
        if record is None or self.config.consistency not in ("eventual", "session"):
            return await self.l2.get_state(identifier, name)
        if not await self._views.ready(record):
            raise StorageConnectionError("L2 is away, and the view of it is too old", sent=False)
        return await self.l1.get_state(identifier, name)

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        self._drop(identifier, name)
        await self.l2.set_state(identifier, state, ttl, name)
        await self.l1.set_state(identifier, state, ttl, name)

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        return await self.l2.increment(identifier, amount, window)

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Goes to L2, where the limit moves. A view that this node has of it learns the same, until it is next replaced."""
        now = self.runtime.time() if now is None else now
        limits = adaptive_limits(limit, score)
        await self.l2.observe(identifier, limits, score, now)
        seen = tuple(each for each in limits if self._views.find(identifier, each.name) is not None)
        self.l1.observe_nowait(identifier, seen, score, now)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        states = await self.l2.charge_many(charges)
        for charge, state in zip(charges, states, strict=True):
            record = self._views.find(charge.identifier, charge.limit.name)
            if record is not None:
                self._views.store(record, state)
        return states

    async def health_check(self) -> StorageHealth:
        return await self.l2.health_check()

    async def cleanup_expired(self) -> int:
        dropped = await self.l1.cleanup_expired()
        self._views.forget_expired()
        return dropped + await self.l2.cleanup_expired()

    async def get_stats(self) -> StorageStats:
        """Entries and bytes of L1 with the errors of L2; hits are decisions that needed no read of L2."""
        near, far = await self.l1.get_stats(), await self.l2.get_stats()
        reads = self.tally.reads
        return StorageStats(
            entries=near.entries,
            bytes=near.bytes,
            operations=far.operations,
            hits=max(near.operations - reads, 0),
            misses=reads,
            evictions=near.evictions,
            memory_evictions=near.memory_evictions,
            harmful_evictions=near.harmful_evictions,
            cost_forgotten=near.cost_forgotten,
            expirations=near.expirations,
            restarts=near.restarts,
            errors=far.errors,
        )

    def sync_stats(self) -> SyncStats:
        """What lies between L1 and L2."""
        unflushed, requests = self._write_behind.unflushed()
        counts = {name: getattr(self.tally, name) for name in SyncCounters.__slots__}
        breaker = self.l2.client.breaker if isinstance(self.l2, RemoteStorage) else ""
        return SyncStats(
            **counts,
            unflushed=unflushed,
            unflushed_requests=requests,
            leased_outstanding=self._leases.out(),
            breaker=breaker,
        )

    async def flush(self) -> bool:
        """Send all that is unsent now; whether L2 took it in."""
        return await self._write_behind.flush_all()

    def kill(self) -> None:
        """Stop at once, as a crash of the process would: what was not flushed is lost (`sync_stats().lost`)."""
        self._closed = True
        self._write_behind.kill()
        self._leases.kill()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._write_behind.stop()
        flushed = await self._write_behind.flush_all()
        await self._leases.close()
        lost = self._write_behind.unflushed()[0]
        await self.l2.close()
        if not flushed:
            raise StorageError(f"closed while L2 was away: {lost:g} of consumption was not flushed")
