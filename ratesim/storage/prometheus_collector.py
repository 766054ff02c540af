"""`StorageCollector`: a Prometheus collector of the counts that storages keep themselves.

A scrape reads this process alone and asks no server: the number of keys there is not worth a walk over all of them every
fifteen seconds. It may come on another thread.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ratesim.runtime import observe_forks
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.hybrid import HybridStorage
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["StorageCollector"]

PREFIX = "rate_limit_storage_"

# The help text of each metric, and its label beside storage_type. A counter only grows.
COUNTERS = {
    "lookups": ("Decisions that looked for a state in memory", "cache_level"),
    "misses": ("Decisions that found no state there; in a hybrid, states read from the shared store", "cache_level"),
    "evictions": ("Entries that a full memory forgot", "cache_level"),
    "harmful_evictions": ("Evictions of a state that was not as good as new", "cache_level"),
    "forgotten_cost": ("Cost that evictions gave back", "cache_level"),
    "expirations": ("Entries that were dropped because they had expired", "cache_level"),
    "upkeep_rounds": ("Rounds of upkeep of PostgreSQL's tables that were this node's turn", ""),
    "removed_rows": ("Expired rows of PostgreSQL that this node deleted", ""),
    "moved_rows": ("Live rows of PostgreSQL that this node moved to the partition in use", ""),
    "partition_changes": ("Partitions of spans of time that this node made or dropped", "change"),
    "background_failures": ("Rounds of a background task that ended in an error; the task goes on", "task"),
    "batches": ("Batches sent to a server, retries included", ""),
    "client_errors": (
        "Batches that a server did not answer well, by kind of error, and requests that were not sent",
        "kind",
    ),
    "flushes": ("Batches of consumption that a hybrid sent to its shared store", "result"),
    "dropped_cost": ("Admitted cost that the shared store will never know of", ""),
    "refused_cost": ("Admitted cost that the shared store refuses for good, by its key or its state", ""),
    "refused_requests": ("Admitted requests that the shared store refuses for good, by their key or its state", ""),
    "clock_rewinds": ("States that were brought back to the time of a request, because a wrong clock had written them", ""),
    "fallback_decisions": ("Decisions that a hybrid took while its shared store was away", ""),
}
GAUGES = {
    "entries": ("Entries in memory", "cache_level"),
    "bytes": ("Bytes of these entries, where memory_limit has them counted", "cache_level"),
    "breaker_open": ("Clients whose circuit breaker is not closed", ""),
    "leased_outstanding": ("Cost that is borrowed from the shared store and not yet spent or given back", ""),
}
HIT_RATE = "Share of the decisions that found their state in memory, since the start"

Series = tuple[str, str, str]  # metric, storage_type, the other label


class StorageCollector(Collector):
    """Collects the counts of the storages of one registry. Counts of closed storages stay, since a counter must not fall."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[tuple[str, RateLimitStorage]] = []
        self._past: dict[Series, float] = defaultdict(float)  # counters of storages that are closed
        observe_forks(self)

    def before_fork(self) -> None:
        """Do nothing: a scrape that is under way holds locks of storages too, and goes on in the parent."""

    def after_fork(self, in_child: bool) -> None:
        """Take another lock in a child, where the thread of a scrape is missing that held the former one."""
        if in_child:
            self._lock = threading.Lock()

    def add(self, storage_type: str, storage: RateLimitStorage) -> None:
        """Collect from a storage from now on."""
        with self._lock:
            self._open.append((storage_type, storage))

    def remove(self, storage_type: str, storage: RateLimitStorage) -> None:
        """Read a storage for the last time. Calling it twice does nothing more."""
        with self._lock:
            for each in self._open:
                if each[1] is storage:
                    self._open.remove(each)
                    for series, value in _read(storage_type, storage):
                        if series[0] in COUNTERS:
                            self._past[series] += value
                    return

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the metric families of a scrape."""
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
    if isinstance(storage, MemoryStorage | HybridStorage | PostgresStorage):
        yield from _failures(storage_type, storage)
    if isinstance(storage, MemoryStorage):
        yield from _memory(storage_type, storage, None)
    elif isinstance(storage, HybridStorage):
        counters = storage.counters
        yield from _memory(storage_type, storage.l1, counters.reads)
        yield ("flushes", storage_type, "arrived"), counters.flushes
        yield ("flushes", storage_type, "failed"), counters.failed_flushes
        yield ("dropped_cost", storage_type, ""), counters.dropped_cost
        yield ("refused_cost", storage_type, ""), counters.refused_cost
        yield ("refused_requests", storage_type, ""), counters.refused_requests
        yield ("fallback_decisions", storage_type, ""), counters.fallback_decisions
        out = counters.borrowed - counters.spent - counters.returned - counters.forfeited
        yield ("leased_outstanding", storage_type, ""), max(out, 0.0)
        if isinstance(storage.l2, PostgresStorage):
            yield from _failures(storage_type, storage.l2)
        if isinstance(storage.l2, RemoteStorage):
            yield from _remote(storage_type, storage.l2)
    elif isinstance(storage, RemoteStorage):
        yield from _remote(storage_type, storage)


def _failures(storage_type: str, storage: MemoryStorage | HybridStorage | PostgresStorage) -> Iterator[tuple[Series, float]]:
    for task, status in storage.supervisor.tasks.items():
        yield ("background_failures", storage_type, task), status.failures


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
    yield ("clock_rewinds", storage_type, ""), stats.clock_rewinds


def _remote(storage_type: str, storage: RemoteStorage) -> Iterator[tuple[Series, float]]:
    yield from _client(storage_type, storage.client)
    if isinstance(storage, PostgresStorage):
        done = storage.upkeep
        yield ("upkeep_rounds", storage_type, ""), done.rounds
        yield ("removed_rows", storage_type, ""), done.removed
        yield ("moved_rows", storage_type, ""), done.moved
        yield ("partition_changes", storage_type, "made"), done.partitions_made
        yield ("partition_changes", storage_type, "dropped"), done.partitions_dropped


def _client(storage_type: str, client: Client) -> Iterator[tuple[Series, float]]:
    yield ("batches", storage_type, ""), client.batches
    yield ("clock_rewinds", storage_type, ""), client.clock_rewinds
    yield ("breaker_open", storage_type, ""), float(client.breaker != "closed")
    for kind, count in dict(client.errors).items():  # a copy: the loop's thread may be adding a kind
        yield ("client_errors", storage_type, kind), count
