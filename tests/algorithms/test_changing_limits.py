"""Limits that change over live state: the same algorithm goes on from what is stored, clamped to the new numbers; another
algorithm starts afresh, and that is counted. State belongs to (identifier, limit.name).
"""

from __future__ import annotations

import itertools

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Decision, Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import Charge, MemoryStorage

BUCKETS = ("token_bucket", "leaky_bucket", "gcra")
ALGORITHMS = (*BUCKETS, "adaptive", "fixed_window", "sliding_log", "sliding_window")
NOW = 472_222 * 3600.0  # an edge of windows of a second, a minute and an hour

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))


def take(storage: MemoryStorage, limit: Limit, cost: float, now: float) -> None:
    assert storage.acquire_nowait("user", limit, cost, now).allowed


def look(storage: MemoryStorage, limit: Limit, now: float, cost: float = 1.0) -> Decision:
    return storage.peek_nowait("user", limit, cost, now)


async def restarts(storage: MemoryStorage) -> int:
    return (await storage.get_stats()).restarts


# -- the bucket family ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", BUCKETS)
async def test_a_bucket_that_shrinks_holds_no_more_than_the_new_burst(storage: MemoryStorage, algorithm: str) -> None:
    take(storage, Limit(16.0, 8.0, algorithm), 1.0, NOW)
    small = Limit(16.0, 8.0, algorithm, burst=4.0)
    assert look(storage, small, NOW).remaining == (4.0 if algorithm == "token_bucket" else 3.0)
    assert look(storage, small, NOW, 4.5).retry_after == float("inf")
    assert await restarts(storage) == 0


@pytest.mark.parametrize("algorithm", ["leaky_bucket", "gcra"])
def test_debt_above_a_lowered_burst_is_forgiven(storage: MemoryStorage, algorithm: str) -> None:
    take(storage, Limit(16.0, 8.0, algorithm), 16.0, NOW)
    small = Limit(16.0, 8.0, algorithm, burst=4.0)
    denied = look(storage, small, NOW, 2.0)
    assert (denied.allowed, denied.remaining, denied.retry_after, denied.reset_after) == (False, 0.0, 1.0, 2.0)
    take(storage, small, 2.0, NOW + 1.0)


@pytest.mark.parametrize("algorithm", BUCKETS)
def test_debt_that_was_merged_under_an_unchanged_burst_is_paid_back(storage: MemoryStorage, algorithm: str) -> None:
    limit = Limit(16.0, 8.0, algorithm, burst=4.0)
    storage.charge_nowait(Charge("user", limit, "node", 1, 0.0, ((NOW, 10.0, 1),)))
    denied = look(storage, limit, NOW, 2.0)
    assert (denied.remaining, denied.retry_after, denied.reset_after) == (0.0, 4.0, 5.0)


@pytest.mark.parametrize("algorithm", BUCKETS)
def test_a_bucket_that_grows_is_not_filled_by_it(storage: MemoryStorage, algorithm: str) -> None:
    take(storage, Limit(16.0, 8.0, algorithm, burst=4.0), 3.0, NOW)
    large = Limit(16.0, 8.0, algorithm, burst=12.0)
    before = 1.0 if algorithm == "token_bucket" else 9.0  # tokens are kept, or what was poured in is
    assert look(storage, large, NOW).remaining == before
    assert look(storage, large, NOW + 1.0).remaining == before + 2.0


@settings(max_examples=examples(100))
@given(
    st.integers(1, 64).map(lambda n: n / 4),
    st.integers(1, 64).map(lambda n: n / 4),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.integers(0, 64).map(lambda n: n / 64),
    st.integers(0, 32).map(lambda n: n / 64),
)
def test_a_token_bucket_goes_on_with_its_tokens_at_the_new_rate(
    burst: float, new_burst: float, new_rate: float, used: float, wait: float
) -> None:
    storage = MemoryStorage()
    take(storage, Limit(1.0, 1.0, "token_bucket", burst=burst), used * 0.25, NOW)
    changed = Limit(new_rate, 1.0, "token_bucket", burst=new_burst)
    expected = min(burst - used * 0.25 + wait * new_rate, new_burst)
    assert look(storage, changed, NOW + wait).remaining == expected


def test_a_leaky_bucket_goes_on_with_its_volume_at_the_new_rate(storage: MemoryStorage) -> None:
    take(storage, Limit(1.0, 1.0, "leaky_bucket", burst=8.0), 6.0, NOW)
    assert look(storage, Limit(4.0, 1.0, "leaky_bucket", burst=8.0), NOW + 1.0).remaining == 6.0


def test_gcra_goes_on_with_its_backlog_in_seconds(storage: MemoryStorage) -> None:
    """6 s of backlog, of which 5 s remain: worth 20 at 4 per second, of a burst of 24."""
    take(storage, Limit(1.0, 1.0, "gcra", burst=8.0), 6.0, NOW)
    assert look(storage, Limit(4.0, 1.0, "gcra", burst=24.0), NOW + 1.0).remaining == 4.0


# -- windows and the log ----------------------------------------------------------------------------------------------


async def test_a_fixed_window_keeps_its_count_under_another_rate(storage: MemoryStorage) -> None:
    take(storage, Limit(10.0, 60.0, "fixed_window"), 6.0, NOW)
    assert look(storage, Limit(20.0, 60.0, "fixed_window"), NOW + 1.0).remaining == 14.0
    lower = look(storage, Limit(4.0, 60.0, "fixed_window"), NOW + 1.0)
    assert (lower.allowed, lower.remaining, lower.retry_after) == (False, 0.0, 59.0)
    assert await restarts(storage) == 0


def test_a_fixed_window_of_a_shorter_period_ends_sooner(storage: MemoryStorage) -> None:
    take(storage, Limit(10.0, 60.0, "fixed_window"), 6.0, NOW)
    shorter = Limit(10.0, 15.0, "fixed_window")
    assert look(storage, shorter, NOW + 14.0).remaining == 4.0
    assert look(storage, shorter, NOW + 14.0, 5.0).retry_after == 1.0
    assert look(storage, shorter, NOW + 15.0).remaining == 10.0


def test_a_fixed_window_of_a_longer_period_goes_on_and_the_next_is_aligned(storage: MemoryStorage) -> None:
    take(storage, Limit(10.0, 15.0, "fixed_window"), 6.0, NOW + 30.0)
    longer = Limit(10.0, 60.0, "fixed_window")
    take(storage, longer, 1.0, NOW + 40.0)
    assert look(storage, longer, NOW + 89.0).remaining == 3.0  # 60 s from where it began
    take(storage, longer, 1.0, NOW + 90.0)
    assert look(storage, longer, NOW + 119.0).remaining == 9.0
    assert look(storage, longer, NOW + 120.0).remaining == 10.0


async def test_a_sliding_window_of_as_many_buckets_goes_on_with_its_counts(storage: MemoryStorage) -> None:
    def limit(rate: float, period: float) -> Limit:
        return Limit(rate, period, "sliding_window", options={"buckets": 4})

    take(storage, limit(10.0, 64.0), 6.0, NOW)
    assert look(storage, limit(20.0, 64.0), NOW + 1.0).remaining == 14.0
    assert look(storage, limit(4.0, 64.0), NOW + 1.0).remaining == 0.0
    # Sub-windows of 2 s: of the one that began at NOW half still counts at 4.5 periods / 4 after it.
    assert look(storage, limit(10.0, 8.0), NOW + 9.0).remaining == 7.0
    assert await restarts(storage) == 0


async def test_a_sliding_window_of_another_number_of_buckets_begins_fresh_and_is_counted(storage: MemoryStorage) -> None:
    two = Limit(10.0, 60.0, "sliding_window", options={"buckets": 2})
    take(storage, Limit(10.0, 60.0, "sliding_window"), 6.0, NOW)
    take(storage, two, 1.0, NOW + 1.0)
    assert await restarts(storage) == 1
    assert look(storage, two, NOW + 1.0).remaining == 9.0
    assert await restarts(storage) == 1


async def test_a_sliding_log_counts_what_is_in_it_by_the_new_numbers(storage: MemoryStorage) -> None:
    old = Limit(10.0, 60.0, "sliding_log")
    for wait in (0.0, 10.0, 20.0):
        take(storage, old, 3.0, NOW + wait)
    assert look(storage, Limit(12.0, 60.0, "sliding_log"), NOW + 21.0).remaining == 3.0
    lower = look(storage, Limit(5.0, 60.0, "sliding_log"), NOW + 21.0, 2.0)
    assert (lower.allowed, lower.remaining, lower.retry_after) == (False, 0.0, 49.0)
    assert look(storage, Limit(10.0, 11.0, "sliding_log"), NOW + 21.0).remaining == 7.0
    longer = Limit(10.0, 600.0, "sliding_log")
    take(storage, longer, 1.0, NOW + 65.0)
    assert look(storage, longer, NOW + 70.0, 1.0).retry_after == 530.0
    assert await restarts(storage) == 0


@pytest.mark.parametrize(("rate", "current"), [(10.0, 20.0), (100.0, 100.0), (150.0, 100.0), (2000.0, 200.0)])
async def test_an_adaptive_limit_is_clamped_to_the_new_bounds(storage: MemoryStorage, rate: float, current: float) -> None:
    take(storage, Limit(100.0, 60.0, "adaptive"), 5.0, NOW)
    changed = Limit(rate, 60.0, "adaptive")
    assert look(storage, changed, NOW + 1.0).remaining == current - 5.0
    take(storage, changed, 1.0, NOW + 1.0)
    state = await storage.get_state("user")
    assert state is not None
    assert state.algorithm_data.fields["current_limit"] == current
    assert await restarts(storage) == 0


# -- another algorithm, another name ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(ALGORITHMS, 2)))
async def test_another_algorithm_starts_fresh_and_is_counted(storage: MemoryStorage, old: str, new: str) -> None:
    take(storage, Limit(10.0, 60.0, old), 7.0, NOW)
    assert await restarts(storage) == 0
    take(storage, Limit(10.0, 60.0, new), 4.0, NOW + 1.0)
    assert await restarts(storage) == 1
    assert look(storage, Limit(10.0, 60.0, new), NOW + 1.0).remaining == 6.0
    state = await storage.get_state("user")
    assert state is not None
    assert state.algorithm_data.algorithm == new
    assert await restarts(storage) == 1


@each_algorithm
@pytest.mark.parametrize("asked", ALGORITHMS)
def test_looking_or_being_denied_by_other_numbers_changes_nothing(algorithm: str, asked: str) -> None:
    limit, other = Limit(10.0, 60.0, algorithm), Limit(3.0, 1.0, asked)
    disturbed, alone = MemoryStorage(), MemoryStorage()
    for wait in (0.0, 0.5, 20.0, 61.0):
        for storage in (disturbed, alone):
            take(storage, limit, 2.5, NOW + wait)
        look(disturbed, other, NOW + wait + 0.25)
        assert not disturbed.acquire_nowait("user", other, 50.0, NOW + wait + 0.25).allowed
        for cost in (1.0, 9.0):
            assert look(disturbed, limit, NOW + wait + 0.5, cost) == look(alone, limit, NOW + wait + 0.5, cost)


@each_algorithm
@settings(max_examples=examples(100))
@given(data=st.data())
def test_waiting_retry_after_is_enough_after_a_change_too(algorithm: str, data: st.DataObject) -> None:
    storage, now = MemoryStorage(), NOW
    numbers = st.sampled_from([1.0, 3.0, 10.0, 40.0])
    for cost, step in data.draw(st.lists(st.tuples(numbers, st.floats(0, 30)), min_size=2, max_size=8)):
        now += step
        limit = Limit(data.draw(numbers), data.draw(st.sampled_from([1.0, 7.0, 60.0])), algorithm)
        denied = storage.acquire_nowait("user", limit, cost, now)
        if not denied.allowed and denied.retry_after < float("inf"):
            assert storage.peek_nowait("user", limit, cost, now + denied.retry_after).allowed


@each_algorithm
async def test_a_state_belongs_to_the_identifier_and_the_name_of_its_limit(storage: MemoryStorage, algorithm: str) -> None:
    plain, named = Limit(10.0, 60.0, algorithm), Limit(10.0, 60.0, algorithm, name="other")
    take(storage, plain, 4.0, NOW)
    assert look(storage, named, NOW).remaining == 10.0
    take(storage, named, 1.0, NOW)
    assert (look(storage, plain, NOW).remaining, look(storage, named, NOW).remaining) == (6.0, 9.0)
    assert storage.peek_nowait("another user", plain, 1.0, NOW).remaining == 10.0
    await storage.reset("user")
    assert (look(storage, plain, NOW).remaining, look(storage, named, NOW).remaining) == (10.0, 10.0)
    assert await restarts(storage) == 0


def test_a_lowered_max_rate_holds_in_the_next_window_too(storage: MemoryStorage) -> None:
    wide, narrow = Limit(100.0, 10.0, "adaptive"), Limit(10.0, 10.0, "adaptive")
    storage.observe_nowait("user", (wide,), 1.0, NOW)
    for later in (1.0, 10.0, 25.0):
        assert storage.peek_nowait("user", narrow, 1.0, NOW + later).remaining == 20.0


def test_any_rate_has_a_default_max_rate() -> None:
    assert MemoryStorage().acquire_nowait("user", Limit(6e11, 1.0, "adaptive"), 1.0, NOW).allowed
