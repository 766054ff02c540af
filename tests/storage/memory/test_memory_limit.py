"""`memory_limit`: a MemoryStorage takes no more than it may, as the allocator sees it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from examples import sample

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.errors import ConfigurationError
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import MemoryStorage, MemoryStorageConfig, open_storage
from ratesim.storage.eviction import POLICIES

NOW = 1_700_000_000.0


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def limited(memory: int, policy: str = "LRU") -> MemoryStorage:
    config = MemoryStorageConfig(memory_limit=memory, eviction_policy=policy)
    return MemoryStorage(config, AsyncioRuntime(lambda: NOW))


def allocated() -> int:
    gc.collect()  # what earlier tests left
    return tracemalloc.get_traced_memory()[0]


def hold(storage: MemoryStorage, limit: Limit, requests: int, seed: int = 1) -> None:
    """Zipf keys: a few ask often, and their logs grow long."""
    rng = np.random.default_rng(seed)
    for request, key in enumerate((rng.zipf(1.3, requests) % 20_000).tolist()):
        storage.acquire_nowait(f"user {key}", limit, 1.0, NOW + request * 1e-3)


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sample(names(), ["sliding_log", "token_bucket"]))
async def test_entries_take_the_memory_they_may_and_no_more(algorithm: str) -> None:
    limit, memory = Limit(100, 60.0, algorithm), 1_000_000
    hold(limited(memory), limit, 100)  # what is made once
    before = allocated()
    storage = limited(memory)
    hold(storage, limit, 30_000)
    seen = allocated() - before
    stats = await storage.get_stats()
    assert stats.evictions == stats.memory_evictions > 100
    assert stats.bytes == pytest.approx(seen, rel=0.1)
    assert 0.85 * memory < seen < 1.1 * memory


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
@pytest.mark.parametrize("policy", sample(POLICIES, ["LimitAware"]))
async def test_what_a_policy_keeps_counts_too(policy: str) -> None:
    limit, memory = Limit(10, 60.0, "token_bucket"), 500_000
    hold(limited(memory, policy), limit, 100)
    before = allocated()
    storage = limited(memory, policy)
    hold(storage, limit, 20_000)
    seen = allocated() - before
    stats = await storage.get_stats()
    assert stats.memory_evictions > 100
    assert stats.bytes == pytest.approx(seen, rel=0.1)
    assert seen < 1.1 * memory


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
async def test_names_and_counters_count_too() -> None:
    limits = tuple(Limit(10, 60.0, "token_bucket", name=name) for name in ("minute", "hour"))
    before = allocated()
    storage = limited(1_000_000)
    for key in range(5_000):
        storage.acquire_nowait(f"user {key}", limits, 1.0, NOW + key * 1e-3)
        await storage.increment(f"user {key}", 1, 60.0)
    seen = allocated() - before
    assert seen < 1.1 * 1_000_000
    assert (await storage.get_stats()).bytes == pytest.approx(seen, rel=0.1)


async def test_a_log_that_grows_makes_others_go() -> None:
    storage, limit = limited(200_000), Limit(1e6, 60.0, "sliding_log")
    for key in range(300):
        storage.acquire_nowait(f"user {key}", limit, 1.0, NOW)
    held = len(storage.entries)
    for request in range(3_000):
        storage.acquire_nowait("busy", limit, 1.0, NOW + request * 1e-3)
    assert len(storage.entries) < held
    assert "busy" in storage.entries
    assert (await storage.get_stats()).bytes < 220_000


async def test_what_is_larger_than_the_limit_alone_is_decided_and_forgotten() -> None:
    storage, limit = limited(4096), Limit(1e6, 60.0, "sliding_log")
    for request in range(2_000):
        assert storage.acquire_nowait("busy", limit, 1.0, NOW + request * 1e-3).allowed
    assert (await storage.get_stats()).harmful_evictions > 0


async def test_both_bounds_hold() -> None:
    async with open_storage("memory://?memory_limit=1000000&max_entries=50") as storage:
        for key in range(100):
            await storage.acquire(f"user {key}", Limit(5, 60.0))
        stats = await storage.get_stats()
    assert (stats.entries, stats.memory_evictions) == (50, 0)


@pytest.mark.parametrize("value", ["0", "-1", "1000"])
def test_a_limit_that_holds_nothing_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="memory_limit"):
        open_storage(f"memory://?memory_limit={value}")
