"""Each eviction policy against a plain model of it, and what all of them keep to."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.storage.eviction import POLICIES, EvictionPolicy

ROOM = 8
keys = st.lists(st.integers(0, 20), max_size=300)


def run(policy: EvictionPolicy, asked: list[int], room: int = ROOM) -> tuple[int, list[int]]:
    """Get or insert each key in a store with so much room: hits, and who had to go."""
    held: set[int] = set()
    hits, gone = 0, []
    charged = getattr(policy, "charged", None)
    for now, key in enumerate(asked):
        if key in held:
            policy.touch(key)
            hits += 1
        else:
            if len(held) == room:
                victim = policy.victim(float(now))
                assert victim in held
                policy.remove(victim)
                held.remove(victim)
                gone.append(victim)
            policy.insert(key)
            held.add(key)
        if charged is not None:
            charged(key, float(now + key), 1.0)
    return hits, gone


@settings(max_examples=300, deadline=None, derandomize=True)
@given(keys)
def test_lru_forgets_the_least_recently_used(asked: list[int]) -> None:
    order: OrderedDict[int, None] = OrderedDict()
    gone = []
    for key in asked:
        if key not in order and len(order) == ROOM:
            gone.append(order.popitem(last=False)[0])
        order[key] = None
        order.move_to_end(key)
    assert run(POLICIES["LRU"](ROOM), asked)[1] == gone


@settings(max_examples=300, deadline=None, derandomize=True)
@given(keys)
def test_lfu_forgets_the_least_often_used_and_of_equals_the_least_recently(asked: list[int]) -> None:
    uses: dict[int, int] = {}
    last: dict[int, int] = {}
    gone = []
    for now, key in enumerate(asked):
        if key not in uses and len(uses) == ROOM:
            victim = min(uses, key=lambda each: (uses[each], last[each]))
            gone.append(victim)
            del uses[victim]
        uses[key] = uses.get(key, 0) + 1
        last[key] = now
    assert run(POLICIES["LFU"](ROOM), asked)[1] == gone


def test_ttl_forgets_what_is_soonest_as_good_as_new_but_for_its_coarseness() -> None:
    rng = np.random.default_rng(2)
    policy = POLICIES["TTL"](100)
    due = {}
    for key in range(100):
        policy.insert(key)
        due[key] = 1000.0 + float(rng.exponential(500.0))
        policy.charged(key, due[key], 1.0)  # type: ignore[attr-defined]
    for _ in range(100):
        policy.victim(1000.0)  # places what still waits
    order = []
    while due:
        victim = policy.victim(1000.0)
        order.append(due.pop(victim))
        policy.remove(victim)
    worst = max(max(order[:i]) - order[i] for i in range(1, 100))
    assert worst <= (max(order) - 1000.0) / 16


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(asked=keys)
def test_the_same_requests_and_seed_forget_the_same(name: str, asked: list[int]) -> None:
    assert run(POLICIES[name](ROOM, 5), asked) == run(POLICIES[name](ROOM, 5), asked)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(asked=keys, dropped=st.lists(st.integers(0, 20), max_size=50))
def test_what_was_removed_is_never_a_victim(name: str, asked: list[int], dropped: list[int]) -> None:
    policy = POLICIES[name](ROOM)
    held: set[int] = set()
    for now, key in enumerate(asked):
        if key in held:
            policy.touch(key)
        elif len(held) < ROOM:
            policy.insert(key)
            held.add(key)
        if now < len(dropped) and dropped[now] in held:
            policy.remove(dropped[now])
            held.remove(dropped[now])
            with pytest.raises(KeyError):
                policy.remove(dropped[now])
        if held:
            assert policy.victim(float(now)) in held


def zipf(n: int, exponent: float, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    weights = np.arange(1, 2001) ** -exponent
    return rng.choice(2000, n, p=weights / weights.sum()).tolist()


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
def test_adaptive_lru_hits_more_often_than_lru_where_popularity_stays(exponent: float) -> None:
    asked = zipf(30_000, exponent, 1)
    assert run(POLICIES["AdaptiveLRU"](100), asked, 100)[0] > 1.05 * run(POLICIES["LRU"](100), asked, 100)[0]


def test_adaptive_lru_keeps_up_with_lru_where_the_population_changes() -> None:
    rng = np.random.default_rng(3)
    asked = [int(i // 20 + rng.exponential(15.0)) for i in range(30_000)]
    assert run(POLICIES["AdaptiveLRU"](100), asked, 100)[0] > 0.98 * run(POLICIES["LRU"](100), asked, 100)[0]
