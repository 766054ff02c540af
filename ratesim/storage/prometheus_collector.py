"""What storages count themselves, as a collector of Prometheus: read at once when somebody scrapes, from this process alone.

A scrape asks no server: how many keys are there is not worth a walk over all of them every fifteen seconds. It may come on
another thread.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ratesim.storage.base import RateLimitStorage
from ratesim.storage.hybrid import HybridStorage
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["StorageCollector"]

PREFIX = "rate_limit_storage_"

# Of each metric its help, and what label it has beside storage_type. Counters only ever grow.
COUNTERS = {
    "lookups": ("Decisions that looked for a state in memory", "cache_level"),
    "misses": ("Those that found none there; in a hybrid, states read from the shared store", "cache_level"),
    "evictions": ("Entries that a full memory forgot", "cache_level"),
    "harmful_evictions": ("Those of a state that was not as good as new", "cache_level"),
    "forgotten_cost": ("Cost that evictions gave back", "cache_level"),
    "expirations": ("Entries that were dropped because their time was over", "cache_level"),
    "batches": ("Batches sent to a server, the tries after a failure included", ""),
    "client_errors": (
        "Batches that a server did not answer well, by kind of error, and requests that were not sent",
        "kind",
    ),
    "flushes": ("Batches of consumption that a hybrid sent to its shared store", "result"),
    "lost_cost": ("Cost that was admitted and that the shared store will never hear of", ""),
    "without_l2": ("Decisions that a hybrid took while its shared store was away", ""),
}
GAUGES = {
    "entries": ("Entries in memory", "cache_level"),
    "bytes": ("Bytes that they take, where memory_limit has them counted", "cache_level"),
    "breaker_open": ("Clients whose circuit breaker is not closed", ""),
    "on_lease": ("Cost that is borrowed from the shared store and not yet spent or given back", ""),
}
HIT_RATE = "Share of the decisions that found their state in memory, since the start"

Series = tuple[str, str, str]  # metric, storage_type, the other label


class StorageCollector(Collector):
    """The storages of one registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[tuple[str, RateLimitStorage]] = []
        self._past: dict[Series, float] = defaultdict(float)  # counters of storages that are closed

    def add(self, storage_type: str, storage: RateLimitStorage) -> None:
        with self._lock:
            self._open.append((storage_type, storage))

    def closed(self, storage_type: str, storage: RateLimitStorage) -> None:
        """The storage goes, its counts stay. Calling it twice does nothing more."""
        with self._lock:
            for each in self._open:
                if each[1] is storage:
                    self._open.remove(each)
                    for series, value in _read(storage_type, storage):
                        if series[0] in COUNTERS:
                            self._past[series] += value
                    return

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        with self._lock:
            totals = defaultdict(float, self._past)
            for storage_type, storage in self._open:
                for series, value in _read(storage_type, storage):
                    totals[series] += value
        for kind, described in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for metric, (text, label) in described.items():
                labels = ["storage_type", label] if label else ["storage_type"]
                family = kind(PREFIX + metric, text, labels=labels)
                for (name, storage_type, other), value in totals.items():
                    if name == metric:
                        family.add_metric([storage_type, other] if label else [storage_type], value)
                yield family
        rate = GaugeMetricFamily(f"{PREFIX}hit_rate", HIT_RATE, labels=["storage_type", "cache_level"])
        for (name, storage_type, level), lookups in totals.items():
            if name == "lookups" and lookups:
                # Views that are refreshed in the background are read too, so there may be more reads than decisions.
                rate.add_metric([storage_type, level], max(1.0 - totals["misses", storage_type, level] / lookups, 0.0))
        yield rate


def _read(storage_type: str, storage: RateLimitStorage) -> Iterator[tuple[Series, float]]:
    """What is at hand in this process."""
    if isinstance(storage, MemoryStorage):
        yield from _memory(storage_type, storage, None)
    elif isinstance(storage, HybridStorage):
        tally = storage.tally
        yield from _memory(storage_type, storage.l1, tally.reads)
        yield ("flushes", storage_type, "arrived"), tally.flushes
        yield ("flushes", storage_type, "failed"), tally.failed_flushes
        yield ("lost_cost", storage_type, ""), tally.dropped_cost
        yield ("without_l2", storage_type, ""), tally.fallback_decisions
        out = tally.borrowed - tally.spent - tally.returned - tally.forfeited
        yield ("on_lease", storage_type, ""), max(out, 0.0)
        if isinstance(storage.l2, RemoteStorage):
            yield from _client(storage_type, storage.l2.client)
    elif isinstance(storage, RemoteStorage):
        yield from _client(storage_type, storage.client)


def _memory(storage_type: str, memory: MemoryStorage, reads: int | None) -> Iterator[tuple[Series, float]]:
    stats = memory.get_stats_nowait(walk=False)
    values = {
        "lookups": stats.operations,
        "misses": stats.misses if reads is None else reads,
        "evictions": stats.evictions,
        "harmful_evictions": stats.harmful_evictions,
        "forgotten_cost": stats.cost_forgotten,
        "expirations": stats.expirations,
        "entries": stats.entries,
    }
    if memory.config.memory_limit is not None:
        values["bytes"] = stats.bytes
    for metric, value in values.items():
        yield (metric, storage_type, "l1"), value


def _client(storage_type: str, client: Client) -> Iterator[tuple[Series, float]]:
    yield ("batches", storage_type, ""), client.batches
    yield ("breaker_open", storage_type, ""), float(client.breaker != "closed")
    for kind, count in dict(client.errors).items():  # a copy: the loop's thread may be adding a kind
        yield ("client_errors", storage_type, kind), count
