"""What eviction costs a limiter, and what it costs a cache."""

from __future__ import annotations

import sys
from collections import OrderedDict
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.simulation.analysis import eviction_accuracy
from ratesim.simulation.analysis.eviction_accuracy import (
    PEERS,
    hit_ratio,
    key_traces,
    libcachesim_hit_ratios,
    live_keys,
    over_admission,
    workloads,
)
from ratesim.simulation.analysis.eviction_cost import policy_costs
from ratesim.storage.eviction import POLICIES
from traffic import Trace

ALGORITHMS = ("token_bucket", "fixed_window", "sliding_window")


def lru_hits(keys: list[int], room: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        hits += key in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > room:
            held.popitem(last=False)
    return hits


def test_the_hit_ratio_of_lru_is_that_of_a_plain_lru_cache() -> None:
    keys = key_traces(np.random.default_rng(4), 20_000, 2_000)["zipf 0.8"]
    assert hit_ratio("LRU", keys, 100) == lru_hits(keys.tolist(), 100) / len(keys)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cache_of_all_keys_misses_each_once(policy: str) -> None:
    keys = np.array([3, 1, 3, 2, 1, 3, 1, 2])
    assert hit_ratio(policy, keys, 3) == 5 / 8


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_store_with_room_for_all_decides_as_the_oracle(policy: str, algorithm: str) -> None:
    trace = workloads(np.random.default_rng(5), 3_000, 300, 100.0)["zipf 1.0"]
    assert over_admission(policy, Limit(10, 60.0, algorithm), trace, 300)[:4] == (0.0, 0, 0, 0.0)


def test_an_evicted_live_key_forgets_what_it_was_charged() -> None:
    # One place, two keys that take turns within one window: each is forgotten by the other, with the one it was charged.
    trace = Trace([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], ["a", "b"])
    outcome = over_admission("LRU", Limit(1, 60.0, "fixed_window"), trace, 1)
    assert outcome == (1.0, 0, 3, 3.0, 0, 2.0)


def test_an_entry_that_is_as_good_as_new_is_forgotten_for_free() -> None:
    trace = Trace([0.0, 60.0, 120.0], [0, 1, 0], ["a", "b"])
    outcome = over_admission("LRU", Limit(1, 60.0, "fixed_window"), trace, 1)
    assert outcome == (0.0, 2, 0, 0.0, 0, 3.0)


def test_live_keys_are_counted_while_they_are_not_as_good_as_new() -> None:
    limit = Limit(10, 60.0, "fixed_window")
    assert live_keys(limit, Trace([0.0, 1.0, 2.0, 61.0], [0, 1, 0, 2], ["a", "b", "c"])) == 2
    # A bucket that was charged 1 of 10 is full again after 6 seconds; charged again meanwhile, after 12.
    limit = Limit(10, 60.0, "token_bucket")
    assert live_keys(limit, Trace([0.0, 5.0, 7.0, 13.0], [0, 0, 1, 2], ["a", "b", "c"])) == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_limit_aware_evicts_nothing_live_while_there_is_something_free(algorithm: str) -> None:
    # 50 keys at a time, which are as good as new when the next 50 come; one place more than that.
    time = np.concatenate([1000.0 * turn + np.arange(50.0) / 50 for turn in range(20)])
    trace = Trace(time, np.arange(1000), [f"{key}" for key in range(1000)])
    limit = Limit(10, 60.0, algorithm)
    assert over_admission("LimitAware", limit, trace, 51)[1:4] == (949, 0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("name", ["zipf 0.8", "zipf 1.2"])
def test_limit_aware_admits_least_where_popularity_stays(algorithm: str, share: float, name: str) -> None:
    trace = workloads(np.random.default_rng(6), 20_000, 2_000)[name]
    limit = Limit(10, 60.0, algorithm)
    room = int(share * live_keys(limit, trace))
    over = {policy: over_admission(policy, limit, trace, room).over_admission for policy in POLICIES}
    assert over["LRU"] > 0.0
    ours = over.pop("LimitAware")
    assert ours <= 1.25 * min(over.values())
    assert ours < 0.6 * over["LRU"]


@pytest.mark.parametrize("name", ["churning", "bursts"])
def test_limit_aware_is_not_misled_by_past_demand(name: str) -> None:
    trace = workloads(np.random.default_rng(7), 20_000, 2_000)[name]
    limit = Limit(10, 60.0, "token_bucket")
    room = int(0.2 * live_keys(limit, trace))
    over = {policy: over_admission(policy, limit, trace, room).over_admission for policy in POLICIES}
    assert over["LimitAware"] < 0.7 * over["LFU"]
    assert over["LimitAware"] <= min(over.values()) + 0.015


def test_adaptive_lru_follows_recency_and_frequency() -> None:
    for name, keys in key_traces(np.random.default_rng(8), 40_000, 4_000).items():
        room = max(1, len(np.unique(keys)) // 10)
        best = max(hit_ratio(policy, keys, room) for policy in ("LRU", "LFU"))
        assert hit_ratio("AdaptiveLRU", keys, room) > best - 0.01, name


def test_a_request_that_finds_its_state_is_a_hit_denied_or_not() -> None:
    trace = Trace([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 0], ["a", "b"])
    assert over_admission("LRU", Limit(1, 60.0, "fixed_window"), trace, 1).hits == 1
    assert over_admission("LRU", Limit(1, 60.0, "fixed_window"), trace, 2).hits == 2


class PeerRequest:
    obj_id = obj_size = 0


class PeerCache:
    """libCacheSim's interface, with LRU behind it."""

    def __init__(self, size: int, hashpower: int) -> None:
        self._held: OrderedDict[int, None] = OrderedDict()
        self._size = size

    def get(self, request: PeerRequest) -> bool:
        assert request.obj_size == 1
        hit = request.obj_id in self._held
        self._held[request.obj_id] = None
        self._held.move_to_end(request.obj_id)
        if len(self._held) > self._size:
            self._held.popitem(last=False)
        return hit


def test_the_peers_are_asked_the_same_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("libcachesim")
    vars(package).update(dict.fromkeys(PEERS, PeerCache), Request=PeerRequest)
    package.__spec__ = ModuleSpec("libcachesim", None)
    monkeypatch.setitem(sys.modules, "libcachesim", package)
    keys = key_traces(np.random.default_rng(9), 10_000, 1_000)["zipf 0.8"]
    assert libcachesim_hit_ratios(keys, 50) == dict.fromkeys(PEERS, hit_ratio("LRU", keys, 50))
    assert list(libcachesim_hit_ratios(keys, 19)) == ["LRU", "ARC", "Sieve"]  # what its S3FIFO cannot hold ends the process


def test_without_the_package_there_are_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction_accuracy.importlib.util, "find_spec", lambda name: None)
    assert libcachesim_hit_ratios(np.array([1, 2, 1]), 2) == {}


def test_what_a_policy_costs_is_measured_in_a_full_store() -> None:
    found = policy_costs(tuple(POLICIES), Limit(10, 60.0, "token_bucket"), 200, rounds=1)
    assert tuple(found) == tuple(POLICIES)
    lean = found["LRU"].bytes
    for name, it in found.items():
        assert min(it) > 0.0
        assert it.decision > it.touch
        assert it.bytes > lean or name == "LRU"


def test_the_bytes_of_a_key_are_the_same_again() -> None:
    first, second = (policy_costs(("AdaptiveLRU",), Limit(10, 60.0, "gcra"), 500, rounds=1) for _ in range(2))
    assert first["AdaptiveLRU"].bytes == pytest.approx(second["AdaptiveLRU"].bytes, abs=1.0)
