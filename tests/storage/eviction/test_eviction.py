"""Eviction: the time of an operation does not depend on how many entries there are, and the parts that policies share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.storage.eviction import POLICIES
from ratesim.storage.eviction.adaptive_lru import AdaptiveLRU
from ratesim.storage.eviction.limit_aware import LimitAware
from ratesim.storage.eviction.schedule import Schedule, tick_of


class Counted:
    """A key that counts how often any is hashed: every look into a dict or set does so once."""

    hashed = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        Counted.hashed += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counted) and self.number == other.number

    def __str__(self) -> str:
        return str(self.number)


def hashed_per_request(name: str, room: int) -> float:
    """Over zipf keys on a full store; half are there."""
    rng = np.random.default_rng(1)
    policy = POLICIES[name](room)
    charged = getattr(policy, "charged", None)
    held: dict[int, Counted] = {}
    numbers = rng.integers(0, 2 * room, 6 * room).tolist()
    for request, number in enumerate(numbers):
        if request == 2 * room:
            Counted.hashed = 0
        now = 100.0 * request / room
        if number in held:
            policy.touch(held[number])
        else:
            if len(held) == room:
                victim = policy.victim(now)
                assert isinstance(victim, Counted)
                policy.remove(victim)
                del held[victim.number]
            held[number] = Counted(number)
            policy.insert(held[number])
        if charged is not None:
            charged(held[number], now + float(number % 97), 1.0)
    return Counted.hashed / (4 * room)


@pytest.mark.parametrize("name", POLICIES)
def test_a_request_costs_the_same_with_thirty_times_the_entries(name: str) -> None:
    small, large = hashed_per_request(name, 100), hashed_per_request(name, 3000)
    assert 0 < large < 1.2 * small
    assert large < 60


ticks = st.integers(0, 2**48 - 1) | st.integers(0, 300)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), st.integers(0, 9), ticks), max_size=100))
def test_a_schedule_finds_the_earliest_and_in_it_the_first_to_come(steps: list[tuple[str, int, int]]) -> None:
    schedule = Schedule()
    model: dict[int, int] = {}  # in the order in which they were added
    for verb, key, tick in steps:
        if key in model:
            schedule.discard(key, model.pop(key))
        if verb == "add":
            schedule.add(key, tick)
            model[key] = tick
        earliest = min(model.values(), default=-1)
        assert schedule.earliest() == earliest
        if model:
            assert schedule.first(earliest) == next(each for each, at in model.items() if at == earliest)


@settings(max_examples=examples(500))
@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_a_tick_is_never_late_and_early_by_a_thirty_second_of_the_time_left_at_most(time: float, now: float) -> None:
    at = tick_of(time, now) / 1024
    assert at <= time
    assert at > time - max(time - now, 0.0) / 32 - 2 / 1024


def test_a_tick_takes_any_time() -> None:
    assert tick_of(-math.inf, 5.0) == 0
    assert tick_of(math.inf, 5.0) < 2**48


def test_limit_aware_takes_what_is_free_before_what_is_wanted_least() -> None:
    policy = LimitAware(3)
    for key, fresh_at in (("busy but free", 5.0), ("idle", 100.0), ("idle too", 100.0)):
        policy.insert(key)
        policy.charged(key, fresh_at, 1.0)
    for _ in range(9):
        policy.touch("busy but free")
    assert policy.victim(6.0) == "busy but free"
    assert policy.victim(4.0) != "busy but free"


def test_limit_aware_takes_a_new_entry_to_which_nothing_was_charged() -> None:
    policy = LimitAware(2)
    policy.insert("charged")
    policy.charged("charged", 100.0, 1.0)
    policy.insert("new")
    assert policy.victim(1.0) == "new"


def test_adaptive_lru_keeps_the_touches_that_no_other_operation_has_taken_in() -> None:
    policy = AdaptiveLRU(2)
    policy.insert("a")
    policy.insert("b")
    policy.touch("a")
    policy.touch("a")
    assert policy.victim() == "b"
