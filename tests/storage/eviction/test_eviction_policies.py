"""Each eviction policy against a plain model of it, and what all of them keep to."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.storage.eviction import POLICIES, EvictionPolicy
from ratesim.storage.eviction.entry import FAR, Entry
from ratesim.storage.eviction.ghosts import LEAST, SHARE, Ghosts
from ratesim.storage.eviction.levels import Levels
from ratesim.storage.eviction.limit_aware import LimitAware
from ratesim.storage.eviction.ranking import Ranking

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


@settings(max_examples=examples(300))
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


@settings(max_examples=examples(300))
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
@settings(max_examples=examples(100))
@given(asked=keys)
def test_the_same_requests_and_seed_forget_the_same(name: str, asked: list[int]) -> None:
    assert run(POLICIES[name](ROOM, 5), asked) == run(POLICIES[name](ROOM, 5), asked)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=examples(100))
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


def used_at(key: int, *times: float) -> Entry:
    entry = Entry(key, times[0])
    for time in times[1:]:
        entry.use(time)
    return entry


def test_the_demand_of_an_entry_is_its_uses_each_halved_with_every_half_life() -> None:
    times = [0.0, 10.0, 10.5, 300.0]
    demand = sum(2.0 ** ((time - 300.0) / FAR) for time in times)
    assert 2.0 ** (used_at(1, *times).far - 300.0 / FAR) == pytest.approx(demand)


@settings(max_examples=examples(200))
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "raise", "drop", "tidy"]), st.integers(0, 9), st.integers(-3, 40)), max_size=99
    )
)
def test_levels_find_the_lowest_that_is_not_gone_however_it_has_risen(steps: list[tuple[str, int, int]]) -> None:
    levels = Levels()
    entries: dict[int, Entry] = {}
    level: dict[int, int] = {}
    for verb, key, number in steps:
        if verb == "tidy":
            levels.tidy()
        elif verb == "add" and key not in entries:
            entries[key], level[key] = Entry(key, 0.0), number
            levels.add(entries[key], number)
        elif verb == "raise" and key in entries:
            level[key] += max(0, number)
        elif verb == "drop" and key in entries:
            entries.pop(key).gone = True
            del level[key]
        first = levels.first(lambda entry: level[entry.key])  # type: ignore[index]
        lowest = min(level.values(), default=None)
        assert (None if first is None else level[first.key]) == lowest  # type: ignore[index]
        if lowest is not None:
            assert levels.first(lambda entry: level[entry.key], below=lowest) is None  # type: ignore[index]


def test_ghosts_give_back_the_demand_of_a_key_that_went() -> None:
    ghosts = Ghosts()
    ghosts.put(used_at(7, 1.0, 2.0, 3.0), 1)
    known, unknown = Entry(7, 4.0), Entry(8, 4.0)
    ghosts.get(known)
    ghosts.get(unknown)
    assert known.far == pytest.approx(used_at(7, 1.0, 2.0, 3.0, 4.0).far, rel=1e-6)
    assert known.near == pytest.approx(used_at(7, 1.0, 2.0, 3.0, 4.0).near, rel=1e-6)
    assert (unknown.near, unknown.far) == (Entry(8, 4.0).near, Entry(8, 4.0).far)


def test_ghosts_remember_most_keys_when_they_have_to_grow_for_more() -> None:
    ghosts = Ghosts()
    entries = LEAST // SHARE
    for key in range(4 * entries):
        ghosts.put(used_at(key, 0.0, 1.0), key)
    remembered = 0
    for key in range(4 * entries):
        entry = Entry(key, 1.0)
        ghosts.get(entry)
        remembered += entry.far > Entry(key, 1.0).far
    assert remembered > 0.8 * 4 * entries
    assert ghosts.bytes() < 2 * 12 * SHARE * 4 * entries


def test_of_two_keys_that_want_one_place_the_ghosts_keep_the_one_with_more_demand() -> None:
    ghosts = Ghosts()
    for key in range(LEAST // 8):
        ghosts.put(used_at(key, 0.0, 1.0, 2.0), 1)
    for key in range(LEAST, 10 * LEAST):
        ghosts.put(used_at(key, 0.0), 1)
    kept = 0
    for key in range(LEAST // 8):
        entry = Entry(key, 2.0)
        ghosts.get(entry)
        kept += entry.far > Entry(key, 2.0).far
    assert kept > 0.9 * (LEAST // 8)


def ranked(asked: list[int]) -> Ranking:
    """All keys are there; judged before each use."""
    ranking = Ranking()
    entries: dict[int, Entry] = {}
    for request, key in enumerate(asked):
        time = request / 50
        if key in entries:
            ranking.judge(entries[key], len(entries))
            entries[key].use(time)
        else:
            entries[key] = Entry(key, time)
            ranking.others.append(entries[key])
    return ranking


def test_a_ranking_follows_late_use_where_the_population_changes_and_demand_where_it_stays() -> None:
    popular = zipf(10_000, 0.8, 4)
    assert not ranked(popular).recency_leads
    assert ranked([key + request // 5 for request, key in enumerate(popular)]).recency_leads


@pytest.mark.slow
def test_limit_aware_takes_little_memory_for_each_entry_and_says_how_much() -> None:
    policy = LimitAware(20_000)
    held: list[int] = list(range(10**6, 10**6 + 80_000))  # made before, as a store has its keys
    tracemalloc.start()
    for number, key in enumerate(held):
        if number >= 20_000:
            policy.remove(policy.victim(float(number)))
        policy.insert(key)
        policy.charged(key, 1e9 + number, 1.0)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 600 * 20_000
    assert policy.bytes() == pytest.approx(taken, rel=0.1)
