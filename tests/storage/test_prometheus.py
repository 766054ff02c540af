"""What Prometheus is told of a storage, whichever it is."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import fakeredis
import numpy as np
import pytest
import simpy
from prometheus_client import CollectorRegistry, generate_latest

import ratesim
from ratesim import Limit
from ratesim.errors import ConfigurationError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import AsyncioRuntime, SimRuntime
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import (
    HybridStorage,
    HybridStorageConfig,
    MemoryStorage,
    MemoryStorageConfig,
    RedisStorage,
    RedisStorageConfig,
    Request,
)
from ratesim.storage.prometheus import BUCKETS, InstrumentedStorage

NAME = "rate_limit_storage_"
LIMIT = Limit(5, 60.0, "fixed_window")
NOW = 1_700_000_000.0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def told(registry: CollectorRegistry, metric: str, **labels: str) -> float | None:
    return registry.get_sample_value(NAME + metric, labels)


def a_redis(runtime: AsyncioRuntime, **options: object) -> RedisStorage:
    connection = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    return RedisStorage(RedisStorageConfig(min_ttl=60.0, **options), runtime, connection)


class Refusing(MemoryStorage):
    """A storage whose answers are errors."""

    error: Exception = StorageConnectionError("no server")

    async def acquire(self, *_, **__):
        raise self.error


async def test_operations_are_counted_by_their_names(registry):
    async with InstrumentedStorage(MemoryStorage(), registry) as storage:
        for _ in range(3):
            await storage.acquire("user", LIMIT)
        await storage.peek("user", LIMIT)
        await storage.get_state("user")
    for operation, count in (("acquire", 3), ("peek", 1), ("get_state", 1)):
        labels = {"operation": operation, "storage_type": "memory"}
        assert told(registry, "operations_total", **labels) == count
        assert told(registry, "operation_duration_seconds_count", **labels) == count


async def test_a_batch_is_one_call_and_as_many_operations_as_it_has_items(registry):
    async with InstrumentedStorage(MemoryStorage(), registry) as storage:
        await storage.acquire_many([Request("a", LIMIT), Request("b", LIMIT)])
        state = RateLimitState(AlgorithmData.of("fixed_window", [NOW, 1.0]), NOW, NOW, 1)
        await storage.batch_set([("a", state, None), ("b", state, None), ("c", state, None)])
    for operation, items in (("acquire_many", 2), ("batch_set", 3)):
        labels = {"operation": operation, "storage_type": "memory"}
        assert told(registry, "operations_total", **labels) == items
        assert told(registry, "operation_duration_seconds_count", **labels) == 1


async def test_the_buckets_are_the_sketchs(registry):
    async with InstrumentedStorage(MemoryStorage(), registry) as storage:
        await storage.acquire("user", LIMIT)
    assert len(BUCKETS) == 15
    assert (BUCKETS[0], BUCKETS[1], BUCKETS[14]) == (1e-4, 2e-4, pytest.approx(1.6384))
    labels = {"operation": "acquire", "storage_type": "memory"}
    for bound in BUCKETS:
        assert told(registry, "operation_duration_seconds_bucket", le=str(bound), **labels) is not None


async def test_a_threshold_is_the_bound_of_a_bucket(registry):
    storage = InstrumentedStorage(MemoryStorage(), registry, thresholds=(0.002,))
    await storage.acquire("user", LIMIT)
    labels = {"operation": "acquire", "storage_type": "memory", "le": "0.002"}
    assert told(registry, "operation_duration_seconds_bucket", **labels) == 1
    InstrumentedStorage(MemoryStorage(), registry, thresholds=(0.002, 1e-4))
    with pytest.raises(ConfigurationError, match=r"0\.003.*first storage"):
        InstrumentedStorage(MemoryStorage(), registry, thresholds=(0.003,))


async def test_durations_are_those_of_simulated_time(registry):
    environment = simpy.Environment(initial_time=NOW)
    runtime = SimRuntime(environment)

    class Slow(MemoryStorage):
        async def acquire(self, identifier, limit, cost=1.0, now=None, session=None):
            await runtime.sleep(0.75)
            return await super().acquire(identifier, limit, cost, now, session)

    storage = InstrumentedStorage(Slow(runtime=runtime), registry)
    task = runtime.spawn(storage.acquire("user", LIMIT))
    environment.run()
    assert task.done()
    labels = {"operation": "acquire", "storage_type": "memory"}
    assert told(registry, "operation_duration_seconds_sum", **labels) == pytest.approx(0.75)


@pytest.mark.parametrize("error", [StorageConnectionError("no server"), StorageTimeoutError("late"), StorageError("else")])
async def test_an_error_is_counted_by_its_kind_and_raised(registry, error):
    inner = Refusing()
    inner.error = error
    storage = InstrumentedStorage(inner, registry, "broken")
    with pytest.raises(type(error)):
        await storage.acquire("user", LIMIT)
    labels = {"operation": "acquire", "storage_type": "broken"}
    assert told(registry, "errors_total", kind=type(error).__name__, **labels) == 1
    assert told(registry, "operations_total", **labels) == 1
    assert told(registry, "operation_duration_seconds_count", **labels) == 1


async def test_durations_are_not_measured_with_a_clock_that_may_be_set(registry):
    times, ticks = iter([NOW, NOW - 5.0]), iter([7.0, 7.0])
    inner = Refusing(runtime=AsyncioRuntime(lambda: next(times), lambda: next(ticks)))
    with pytest.raises(StorageConnectionError):
        await InstrumentedStorage(inner, registry).acquire("user", LIMIT)
    labels = {"operation": "acquire", "storage_type": "memory"}
    assert told(registry, "operation_duration_seconds_sum", **labels) == 0.0


async def test_what_a_memory_counts_is_read_when_it_is_scraped(registry):
    memory = MemoryStorage(MemoryStorageConfig(max_entries=2, memory_limit=10_000_000))
    storage = InstrumentedStorage(memory, registry)
    level = {"storage_type": "memory", "cache_level": "l1"}
    assert told(registry, "hit_rate", **level) is None
    for user in ("a", "a", "b", "c"):  # a is not as good as new when c takes its place
        await storage.acquire(user, LIMIT)
    assert told(registry, "hit_rate", **level) == 0.25
    assert told(registry, "entries", **level) == 2
    assert told(registry, "bytes", **level) == memory.get_stats_nowait().bytes > 0
    assert told(registry, "evictions_total", **level) == 1
    assert told(registry, "harmful_evictions_total", **level) == 1
    assert told(registry, "forgotten_cost_total", **level) == memory.get_stats_nowait().cost_forgotten > 0


async def test_bytes_that_nobody_counts_are_not_told_rather_than_walked_for(registry):
    await InstrumentedStorage(MemoryStorage(), registry).acquire("user", LIMIT)
    assert told(registry, "bytes", storage_type="memory", cache_level="l1") is None
    assert told(registry, "entries", storage_type="memory", cache_level="l1") == 1


async def test_what_a_closed_storage_counted_stays_and_what_it_held_goes(registry):
    level = {"storage_type": "memory", "cache_level": "l1"}
    async with InstrumentedStorage(MemoryStorage(), registry) as first:
        await first.acquire("user", LIMIT)
    await first.close()
    assert told(registry, "lookups_total", **level) == 1
    assert told(registry, "entries", **level) is None
    async with InstrumentedStorage(MemoryStorage(), registry) as second:
        await second.acquire("user", LIMIT)
        assert told(registry, "lookups_total", **level) == 2
        assert told(registry, "entries", **level) == 1


async def test_storages_of_one_type_are_added_up_and_those_of_others_are_not(registry):
    first, second = InstrumentedStorage(MemoryStorage(), registry), InstrumentedStorage(MemoryStorage(), registry)
    other = InstrumentedStorage(MemoryStorage(), registry, "other")
    for storage in (first, second, second, other):
        await storage.acquire("user", LIMIT)
    for kind, operations, entries in (("memory", 3, 2), ("other", 1, 1)):
        assert told(registry, "operations_total", operation="acquire", storage_type=kind) == operations
        assert told(registry, "entries", storage_type=kind, cache_level="l1") == entries


async def test_of_a_served_storage_the_client_is_told_and_the_server_not_asked(registry, clock):
    redis = a_redis(AsyncioRuntime(clock, clock))
    async with InstrumentedStorage(redis, registry) as storage:
        await storage.acquire("user", LIMIT)
        batches = redis.client.batches
        assert told(registry, "batches_total", storage_type="redis") == batches == 1
        generate_latest(registry)
        assert redis.client.batches == batches
        assert told(registry, "breaker_open", storage_type="redis") == 0


async def test_a_server_that_is_away_shows_in_the_errors_and_the_breaker(registry):
    config = RedisStorageConfig(url="redis://127.0.0.1:1", retries=0, breaker_failures=2, breaker_reset=60.0)
    async with InstrumentedStorage(RedisStorage(config), registry) as storage:
        for _ in range(3):
            with pytest.raises(StorageConnectionError):
                await storage.acquire("user", LIMIT)
        labels = {"operation": "acquire", "storage_type": "redis", "kind": "StorageConnectionError"}
        assert told(registry, "errors_total", **labels) == 3
        assert told(registry, "client_errors_total", storage_type="redis", kind="StorageConnectionError") == 3
        assert told(registry, "breaker_open", storage_type="redis") == 1


async def test_a_hybrid_tells_of_both_its_levels_and_of_what_lies_between(registry, clock):
    config = HybridStorageConfig(consistency="eventual", write="write_back", sync_interval=60.0)
    hybrid = HybridStorage(
        a_redis(AsyncioRuntime(clock, clock)), config, AsyncioRuntime(clock, clock), np.random.default_rng(1)
    )
    async with InstrumentedStorage(hybrid, registry) as storage:
        await storage.acquire("user", LIMIT)
        clock.now += 0.5
        for _ in range(3):
            await storage.acquire("user", LIMIT)
        level = {"storage_type": "hybrid", "cache_level": "l1"}
        assert told(registry, "misses_total", **level) == 1
        assert told(registry, "hit_rate", **level) == 0.75
        assert told(registry, "view_age_seconds_count", storage_type="hybrid") == 4
        assert told(registry, "view_age_seconds_sum", storage_type="hybrid") == pytest.approx(1.5)
        await hybrid.flush()
        assert told(registry, "flushes_total", storage_type="hybrid", result="arrived") == 1
        assert told(registry, "flushes_total", storage_type="hybrid", result="failed") == 0
        assert told(registry, "breaker_open", storage_type="hybrid") == 0
        assert told(registry, "batches_total", storage_type="hybrid") >= 2


async def test_a_hybrid_without_its_store_tells_that_it_decided_alone(registry):
    away = RedisStorage(RedisStorageConfig(url="redis://127.0.0.1:1", retries=0))
    storage = InstrumentedStorage(HybridStorage(away, HybridStorageConfig(consistency="strong")), registry)
    assert (await storage.acquire("user", LIMIT)).allowed  # fail_open
    assert told(registry, "fallback_decisions_total", storage_type="hybrid") == 1
    assert told(registry, "errors_total", operation="acquire", storage_type="hybrid", kind="StorageConnectionError") is None
    assert told(registry, "client_errors_total", storage_type="hybrid", kind="StorageConnectionError") == 1


async def test_it_may_be_scraped_on_another_thread_while_it_decides(registry):
    hybrid = HybridStorage(a_redis(AsyncioRuntime()), HybridStorageConfig(), rng=np.random.default_rng(1))
    scrapes, failures, done = [], [], threading.Event()

    def scrape() -> None:
        while not done.is_set():
            try:
                scrapes.append(len(generate_latest(registry)))
            except RuntimeError as error:  # what a container says that was changed while it was walked over
                failures.append(error)

    async with InstrumentedStorage(hybrid, registry) as storage, InstrumentedStorage(MemoryStorage(), registry) as memory:
        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            for i in range(500):
                await storage.acquire(f"user {i}", LIMIT)
                await memory.acquire(f"user {i}", LIMIT)
        finally:
            done.set()
            thread.join()
    assert scrapes
    assert failures == []


async def test_two_registries_know_nothing_of_each_other():
    mine, yours = CollectorRegistry(), CollectorRegistry()
    await InstrumentedStorage(MemoryStorage(), mine).acquire("user", LIMIT)
    InstrumentedStorage(MemoryStorage(), yours)
    labels = {"operation": "acquire", "storage_type": "memory"}
    assert told(mine, "operations_total", **labels) == 1
    assert told(yours, "operations_total", **labels) is None


def test_who_does_not_use_it_does_not_import_it():
    program = "import sys, ratesim.storage, ratesim.storage.urls; print('prometheus_client' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(ratesim.__file__).parent.parent,
    )
    assert run.stdout == "False\n"


async def test_failures_in_the_background_are_counted_by_task_and_make_the_storage_unhealthy(registry, monkeypatch):
    monkeypatch.setattr(MemoryStorage, "keep_to_limit", refuse)
    storage = MemoryStorage(MemoryStorageConfig(cleanup_interval=0.005))
    labels = {"storage_type": "memory", "task": "cleanup"}
    async with InstrumentedStorage(storage, registry) as instrumented:
        while not told(registry, "background_failures_total", **labels):
            await storage.runtime.sleep(0.005)
        assert not (await instrumented.health_check()).healthy
        assert (await instrumented.get_stats()).background_failures >= 1
    failures = (await storage.get_stats()).background_failures
    assert told(registry, "background_failures_total", **labels) == failures  # it stays when the storage is closed


def refuse(_):
    raise MemoryError("no room to count")


async def test_neither_health_nor_logs_hold_a_password(registry, caplog):
    caplog.set_level("DEBUG", "ratesim")
    config = RedisStorageConfig(
        url="redis://user:hunter2@127.0.0.1:1", retries=0, breaker_failures=1, breaker_reset=0.01, command_timeout=2.0
    )
    l2 = RedisStorage(config)
    options = {"sync_interval": 0.01, "sync_jitter": 0.0, "on_store_failure": "fail_open", "max_wait": 2.0}
    storage = HybridStorage(l2, HybridStorageConfig(**options))
    await storage.acquire("user", LIMIT)
    while not told_of_failure(storage):
        await storage.runtime.sleep(0.005)
    health = await storage.health_check()
    assert not health.healthy
    assert {record.name for record in caplog.records} >= {"ratesim.storage.hybrid.storage", "ratesim.storage.remote.client"}
    assert "hunter2" not in health.detail + caplog.text
    storage.kill()
    await l2.close()


def told_of_failure(storage: HybridStorage) -> bool:
    return "flush failed" in storage.supervisor.problems
