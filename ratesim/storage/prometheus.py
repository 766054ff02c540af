"""`InstrumentedStorage`: any storage with Prometheus metrics.

    storage = InstrumentedStorage(open_storage(url), registry)

docs/metrics.md lists all metrics. Calls are counted here as they happen; the counts of the storage itself are read at a
scrape, without asking a server. Several storages may share a registry: the metrics of one type are then added up. Nothing
else imports this module, so that a service without metrics does not load the client library.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram

from ratesim.errors import BatchError, ConfigurationError, StorageError
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
NEVER = 2 * AGES[-1]  # seconds, observed where the store has never answered: an infinite sum would stay infinite

_TYPES: dict[type[RateLimitStorage], str] = {
    MemoryStorage: "memory",
    RedisStorage: "redis",
    PostgresStorage: "postgres",
    HybridStorage: "hybrid",
}

T = TypeVar("T")


class InstrumentedStorage(RateLimitStorage):
    """Passes every call on, counts it, and measures its duration on the storage's own clock, which may be simulated.

    Parameters
    ----------
    storage
        The storage that answers; closed with this one.
    registry
        The caller's registry.
    storage_type
        The label; by default memory, redis, postgres or hybrid.
    thresholds
        Seconds that become bounds of buckets of durations and view ages, so that a quantile is on the right side of a
        threshold with which it is compared. The thresholds of the first storage hold for the whole registry.

    Raises
    ------
    ConfigurationError
        A threshold is no bound of a bucket, because an earlier storage of the registry did not name it.
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
        self._families.collector.add(self.storage_type, storage)
        self._meters: dict[str, _Meter] = {}
        self._denied = self._families.denied.labels(self.storage_type)
        self._ages = self._families.ages.labels(self.storage_type) if isinstance(storage, HybridStorage) else None

    def __repr__(self) -> str:
        return f"InstrumentedStorage({self.storage!r})"

    async def _measure(self, operation: str, call: Coroutine[Any, Any, T], items: int = 1) -> T:
        meter = self._meters.get(operation)
        if meter is None:
            meter = self._meters[operation] = _Meter(self._families, operation, self.storage_type)
        start = self.runtime.monotonic()
        try:
            return await call
        except BatchError as error:
            for result in error.results:
                if isinstance(result, StorageError):
                    meter.failed(result)
            raise
        except StorageError as error:
            meter.failed(error)
            raise
        finally:
            meter.operations.inc(items)
            meter.durations.observe(self.runtime.monotonic() - start)

    async def open(self) -> Self:
        """Open the storage."""
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
        """Acquire, count a denial, and observe the age of a hybrid's view."""
        decision = await self._measure("acquire", self.storage.acquire(identifier, limit, cost, now, session))
        if not decision.allowed:
            self._denied.inc()
        if self._ages is not None:
            self._ages.observe(min(decision.view_age, NEVER))
        return decision

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Acquire several; each counts as an operation, and all as one call."""
        decisions = await self._measure("acquire_many", self.storage.acquire_many(requests), len(requests))
        self._denied.inc(sum(not decision.allowed for decision in decisions))
        if self._ages is not None:
            for decision in decisions:
                self._ages.observe(min(decision.view_age, NEVER))
        return decisions

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Measure `peek`."""
        return await self._measure("peek", self.storage.peek(identifier, limit, cost, now))

    async def reset(self, identifier: str) -> None:
        """Measure `reset`."""
        await self._measure("reset", self.storage.reset(identifier))

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Measure `get_state`."""
        return await self._measure("get_state", self.storage.get_state(identifier, name))

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Measure `set_state`."""
        await self._measure("set_state", self.storage.set_state(identifier, state, ttl, name))

    async def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        """Measure `batch_get`."""
        return await self._measure("batch_get", self.storage.batch_get(identifiers), len(identifiers))

    async def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        """Measure `batch_set`."""
        await self._measure("batch_set", self.storage.batch_set(operations), len(operations))

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Measure `increment`."""
        return await self._measure("increment", self.storage.increment(identifier, amount, window))

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Measure `observe`."""
        await self._measure("observe", self.storage.observe(identifier, limit, score, now))

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Measure `charge_many`."""
        return await self._measure("charge_many", self.storage.charge_many(charges), len(charges))

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Measure `claim`."""
        return await self._measure("claim", self.storage.claim(name, holder, ttl))

    async def health_check(self) -> StorageHealth:
        """Measure `health_check`."""
        return await self._measure("health_check", self.storage.health_check())

    async def cleanup_expired(self) -> int:
        """Measure `cleanup_expired`."""
        return await self._measure("cleanup_expired", self.storage.cleanup_expired())

    async def get_stats(self) -> StorageStats:
        """Return the storage's statistics; not measured."""
        return await self.storage.get_stats()

    async def close(self) -> None:
        """Close the storage. Its counts stay in the registry, since a counter must not fall."""
        try:
            await self.storage.close()
        finally:
            self._families.collector.remove(self.storage_type, self.storage)


class _Families:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry, thresholds: Sequence[float]) -> None:
        labels = ("operation", "storage_type")
        self.thresholds = tuple(thresholds)
        self.operations = Counter(
            "rate_limit_storage_operations_total",
            "Operations requested of the storage, each item of a batch counted",
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
            "Operations that failed, by the kind of the error, each item of a batch counted",
            (*labels, "kind"),
            registry=registry,
        )
        self.denied = Counter(
            "rate_limit_storage_denied_total",
            "Requests that were denied, each item of a batch counted",
            ("storage_type",),
            registry=registry,
        )
        self.ages = Histogram(
            "rate_limit_storage_view_age_seconds",
            "Seconds since the last answer of the shared store, at each decision of a hybrid",
            ("storage_type",),
            buckets=sorted({*AGES, *self.thresholds}),
            registry=registry,
        )
        self.collector = StorageCollector()
        registry.register(self.collector)


class _Meter:
    """The labeled metrics of one operation."""

    def __init__(self, families: _Families, operation: str, storage_type: str) -> None:
        self.operations = families.operations.labels(operation, storage_type)
        self.durations = families.durations.labels(operation, storage_type)
        self._errors = families.errors
        self._labels = (operation, storage_type)

    def failed(self, error: StorageError) -> None:
        self._errors.labels(*self._labels, type(error).__name__).inc()


_KNOWN: WeakKeyDictionary[CollectorRegistry, _Families] = WeakKeyDictionary()


def _families(registry: CollectorRegistry, thresholds: Sequence[float]) -> _Families:
    """Return the metrics of a registry, made for its first storage."""
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
