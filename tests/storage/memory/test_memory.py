"""What MemoryStorage forgets, and how it says so."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import Charge, MemoryStorage, MemoryStorageConfig
from ratesim.storage.eviction import POLICIES

NOW = 1_700_000_000.0


def full(entries: int, policy: str = "LRU") -> MemoryStorage:
    config = MemoryStorageConfig(max_entries=entries, eviction_policy=policy)
    return MemoryStorage(config, AsyncioRuntime(lambda: NOW))


async def test_the_least_recently_used_goes_first_and_a_denied_request_or_a_look_is_a_use() -> None:
    storage, limit = full(3), Limit(1, 60.0, "fixed_window")
    for user in "abc":
        storage.acquire_nowait(user, limit, 1.0, NOW)
    assert not storage.acquire_nowait("a", limit, 1.0, NOW).allowed
    storage.peek_nowait("b", limit, 1.0, NOW)
    storage.acquire_nowait("d", limit, 1.0, NOW)
    assert [user for user in "abcd" if storage.live_entry(user) is None] == ["c"]
    storage.acquire_nowait("e", limit, 1.0, NOW)
    assert [user for user in "abde" if storage.live_entry(user) is None] == ["a"]


def test_without_a_time_a_decision_at_once_is_taken_by_the_clock_of_the_runtime() -> None:
    storage, limit = full(3), Limit(2, 60.0, "token_bucket")
    given = MemoryStorage()
    for cost in (1.0, 1, 5.0):
        assert storage.acquire_nowait("a", limit, cost) == given.acquire_nowait("a", limit, cost, NOW)
    assert storage.acquire_nowait("a", [limit], 0.0) == given.acquire_nowait("a", limit, 0.0, NOW)


async def test_a_log_that_was_put_there_is_decided_as_the_one_it_was_taken_from() -> None:
    one, other, limit = full(9), full(9), Limit(3, 60.0, "sliding_log")
    for step in range(3):
        one.acquire_nowait("a", limit, 1.0, NOW + step)
    state = await one.get_state("a")
    assert state is not None
    await other.set_state("a", state)
    for later in (3.0, 60.0, 60.5, 61.0, 200.0):
        assert one.acquire_nowait("a", limit, 1.0, NOW + later) == other.acquire_nowait("a", limit, 1.0, NOW + later)


@pytest.mark.parametrize("algorithm", names())
async def test_an_eviction_is_harmless_once_the_state_is_as_good_as_new(algorithm: str) -> None:
    storage, limit = full(1), Limit(8, 4.0, algorithm)
    storage.acquire_nowait("first", limit, 6.0, NOW)
    reset_after = storage.acquire_nowait("first", limit, 0.0, NOW).reset_after
    storage.acquire_nowait("second", limit, 5.0, NOW)  # forgets 6 that count still
    stats = await storage.get_stats()
    assert (stats.evictions, stats.harmful_evictions) == (1, 1)
    assert stats.cost_forgotten == pytest.approx(6.0)
    storage.acquire_nowait("third", limit, 1.0, NOW + 1.01 * reset_after)
    stats = await storage.get_stats()
    assert (stats.evictions, stats.harmful_evictions) == (2, 1)
    assert stats.cost_forgotten == pytest.approx(6.0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["", "named"])
async def test_what_a_full_store_forgets_is_what_it_admits_too_much(policy: str, name: str) -> None:
    limit = Limit(5, 1e6, "fixed_window", name=name)
    storage, admitted = full(10, policy), dict.fromkeys(range(30), 0)
    rng = np.random.default_rng(2)
    for step in range(3000):
        user = int(rng.integers(30))
        admitted[user] += storage.acquire_nowait(str(user), limit, 1.0, NOW + step * 1e-3).allowed
    stats = await storage.get_stats()
    held = sum(5 - storage.peek_nowait(str(user), limit, 0.0, NOW + 4).remaining for user in range(30))
    assert stats.entries == 10
    assert stats.harmful_evictions > 20
    assert sum(admitted.values()) == held + stats.cost_forgotten


async def test_a_counter_and_a_state_that_was_put_there_count_as_harmful_while_they_live() -> None:
    storage = full(1)
    await storage.increment("one", 3, 10.0)
    await storage.increment("two", 3, 10.0)
    assert (await storage.get_stats()).harmful_evictions == 1


async def test_merged_charges_are_forgotten_like_admitted_ones() -> None:
    storage, limit = full(1), Limit(5, 60.0, "token_bucket")
    await storage.charge_many([Charge("user", limit, "node", 1, 0.0, ((NOW, 2.0, 2),))])
    storage.acquire_nowait("other", limit, 1.0, NOW)
    assert (await storage.get_stats()).cost_forgotten == 2.0


async def test_hits_and_misses_add_up_to_the_decisions() -> None:
    storage, limit = full(100), Limit(2, 60.0, "gcra")
    for user in "aabbc":
        storage.acquire_nowait(user, limit, 1.0, NOW)
    storage.acquire_nowait("a", (limit, Limit(9, 9.0, "sliding_log", name="log")), 1.0, NOW)
    storage.peek_nowait("z", limit, 1.0, NOW)
    stats = await storage.get_stats()
    assert (stats.operations, stats.hits, stats.misses) == (8, 3, 5)
    assert stats.entries == 3


@pytest.mark.parametrize("policy", POLICIES)
async def test_whatever_is_done_to_it_a_store_holds_what_it_should(policy: str) -> None:
    rng = np.random.default_rng(5)
    storage = full(20, policy)
    limits = [Limit(3, 9.0, algorithm, name=algorithm[:1]) for algorithm in names()]
    now = NOW
    for _ in range(3000):
        now += float(rng.exponential(0.1))
        user, limit = f"user {rng.integers(12)}", limits[rng.integers(len(limits))]
        match int(rng.integers(12)):
            case 0:
                await storage.reset(user)
            case 1:
                await storage.increment(user, 1, 5.0)
            case 2:
                state = storage.live_entry(user, limit.name)
                if state is not None:
                    await storage.set_state("copy", state.export(), 5.0, limit.name)
            case 3:
                storage.acquire_nowait(user, limits[:3], 1.0, now)
            case 4:
                storage.observe_nowait(user, (limits[0],), 0.5, now)
            case 5:
                await storage.charge_many([Charge(user, limit, "node", 1, 0.0, ((now, 0.5, 1),))])
            case _:
                storage.acquire_nowait(user, limit, float(rng.choice([0.0, 1.0, 9.0])), now)
        assert len(storage.entries) <= 20
    for user in [*(f"user {i}" for i in range(12)), "copy"]:
        await storage.reset(user)
    assert (await storage.get_stats()).entries == 0
    assert storage._entries._named == {}


@pytest.mark.parametrize("algorithm", names())
async def test_bytes_are_what_the_memory_allocator_says_to_a_tenth(algorithm: str) -> None:
    limit, keys = Limit(20, 60.0, algorithm), 5_000
    rng = np.random.default_rng(1)
    storage = MemoryStorage(MemoryStorageConfig(max_entries=keys))
    storage.acquire_nowait("warm", limit, 1.0, NOW)
    await storage.reset("warm")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for key in range(keys):
            user = f"user {key}"
            for step in range(int(rng.integers(1, 8))):
                storage.acquire_nowait(user, limit, 1.0, NOW + key * 1e-3 + step * 0.1)
        seen = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert (await storage.get_stats()).bytes == pytest.approx(seen, rel=0.1)
