"""`InstrumentedStorage`: any storage, told to Prometheus. In nobody's way: only who imports this module pays for it.

    storage = InstrumentedStorage(open_storage(url), registry)

Names, labels and buckets of operations, durations and the hit rate are those of the design sketch; docs/metrics.md lists
all. What is counted here is counted as it happens; what the storage itself counts is read when somebody scrapes, without
asking a server. Several storages may share a registry: what is of one type is then added up.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram

from ratesim.errors import ConfigurationError, StorageError
from ratesim.limit import Decision, Limits
from ratesim.state import RateLimitState
from ratesim.storage.base import Charge, RateLimitStorage, Request, StorageHealth, StorageStats
from ratesim.storage.hybrid import HybridStorage
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.prometheus_collector import StorageCollector
from ratesim.storage.redis import RedisStorage

__all__ = ["BUCKETS", "InstrumentedStorage"]

BUCKETS = tuple(1e-4 * 2.0**k for k in range(15))  # seconds: 0.1 ms to 1.64 s
AGES = tuple(1e-3 * 2.0**k for k in range(20))  # seconds: 1 ms to 524 s
NEVER = 2 * AGES[-1]  # seconds, for a store that was never heard of: an infinite sum would say nothing ever after

_TYPES: dict[type[RateLimitStorage], str] = {
    MemoryStorage: "memory",
    RedisStorage: "redis",
    PostgresStorage: "postgres",
    HybridStorage: "hybrid",
}

T = TypeVar("T")


class InstrumentedStorage(RateLimitStorage):
    """Passes everything on, counts it, and takes its time on the storage's own clock, which may be a simulated one.

    registry: the caller's. storage_type: the label; by default memory, redis, postgres or hybrid. thresholds: seconds that
    become bounds of buckets too, of durations and of ages, so that a quantile which is compared with one of them is on the
    right side of it; those of the first storage hold for a whole registry.
    """

    def __init__(
        self,
        storage: RateLimitStorage,
        registry: CollectorRegistry,
        storage_type: str | None = None,
        thresholds: Sequence[float] = (),
    ) -> None:
        self.storage = storage
        self.runtime = storage.runtime
        self.storage_type = storage_type or _type_of(storage)
        self._families = _families(registry, thresholds)
        self._families.scraped.add(self.storage_type, storage)
        self._meters: dict[str, _Meter] = {}
        self._ages = self._families.ages.labels(self.storage_type) if isinstance(storage, HybridStorage) else None

    def __repr__(self) -> str:
        return f"InstrumentedStorage({self.storage!r})"

    async def _measured(self, operation: str, doing: Coroutine[Any, Any, T], items: int = 1) -> T:
        meter = self._meters.get(operation)
        if meter is None:
            meter = self._meters[operation] = _Meter(self._families, operation, self.storage_type)
        start = self.runtime.time()
        try:
            return await doing
        except StorageError as error:
            meter.failed(error)
            raise
        finally:
            meter.operations.inc(items)
            # A clock that was set back in between must not make the sum of durations fall.
            meter.durations.observe(max(self.runtime.time() - start, 0.0))

    async def open(self) -> Self:
        await self.storage.open()
        return self

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        decision = await self._measured("acquire", self.storage.acquire(identifier, limit, cost, now, session))
        if self._ages is not None:
            self._ages.observe(min(decision.view_age, NEVER))
        return decision

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        decisions = await self._measured("acquire_many", self.storage.acquire_many(requests), len(requests))
        if self._ages is not None:
            for decision in decisions:
                self._ages.observe(min(decision.view_age, NEVER))
        return decisions

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        return await self._measured("peek", self.storage.peek(identifier, limit, cost, now))

    async def reset(self, identifier: str) -> None:
        await self._measured("reset", self.storage.reset(identifier))

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        return await self._measured("get_state", self.storage.get_state(identifier, name))

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        await self._measured("set_state", self.storage.set_state(identifier, state, ttl, name))

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        return await self._measured("batch_get", self.storage.batch_get(identifiers), len(identifiers))

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        await self._measured("batch_set", self.storage.batch_set(operations), len(operations))

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        return await self._measured("increment", self.storage.increment(identifier, amount, window))

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        await self._measured("observe", self.storage.observe(identifier, limit, score, now))

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        return await self._measured("charge_many", self.storage.charge_many(charges), len(charges))

    async def health_check(self) -> StorageHealth:
        return await self._measured("health_check", self.storage.health_check())

    async def cleanup_expired(self) -> int:
        return await self._measured("cleanup_expired", self.storage.cleanup_expired())

    async def get_stats(self) -> StorageStats:
        return await self.storage.get_stats()

    async def close(self) -> None:
        """Close the storage. What it counted stays in the registry, since a counter must not fall."""
        try:
            await self.storage.close()
        finally:
            self._families.scraped.closed(self.storage_type, self.storage)


class _Families:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry, thresholds: Sequence[float]) -> None:
        labels = ("operation", "storage_type")
        self.thresholds = tuple(thresholds)
        self.operations = Counter(
            "rate_limit_storage_operations_total",
            "Operations asked of the storage, each item of a batch counted",
            labels,
            registry=registry,
        )
        self.durations = Histogram(
            "rate_limit_storage_operation_duration_seconds",
            "Seconds that a call took, a batch being one call",
            labels,
            buckets=sorted({*BUCKETS, *self.thresholds}),
            registry=registry,
        )
        self.errors = Counter(
            "rate_limit_storage_errors_total",
            "Calls that ended in an error, by its kind",
            (*labels, "kind"),
            registry=registry,
        )
        self.ages = Histogram(
            "rate_limit_storage_view_age_seconds",
            "Seconds since the shared store was last heard of, at each decision of a hybrid",
            ("storage_type",),
            buckets=sorted({*AGES, *self.thresholds}),
            registry=registry,
        )
        self.scraped = StorageCollector()
        registry.register(self.scraped)


class _Meter:
    """The metrics of one operation, found once."""

    def __init__(self, families: _Families, operation: str, storage_type: str) -> None:
        self.operations = families.operations.labels(operation, storage_type)
        self.durations = families.durations.labels(operation, storage_type)
        self._errors = families.errors
        self._labels = (operation, storage_type)

    def failed(self, error: StorageError) -> None:
        self._errors.labels(*self._labels, type(error).__name__).inc()


_KNOWN: WeakKeyDictionary[CollectorRegistry, _Families] = WeakKeyDictionary()


def _families(registry: CollectorRegistry, thresholds: Sequence[float]) -> _Families:
    """Those of the registry, made for the first storage that asks. Config for thresholds that came too late."""
    known = _KNOWN.get(registry)
    if known is None:
        known = _KNOWN[registry] = _Families(registry, thresholds)
    missing = {*thresholds} - {*known.thresholds, *BUCKETS}
    if missing:
        raise ConfigurationError(
            f"thresholds {sorted(missing)}: give them to the first storage of this registry, which makes the buckets"
        )
    return known


def _type_of(storage: RateLimitStorage) -> str:
    return next((name for kind, name in _TYPES.items() if isinstance(storage, kind)), type(storage).__name__.lower())
