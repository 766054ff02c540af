"""What every storage does, whichever it is."""

from __future__ import annotations

import asyncio
import math

import pytest

from ratesim import Limit
from ratesim.errors import SerializationError
from ratesim.limit import InvalidLimitError
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, MemoryStorage, RateLimitStorage, Request

ALGORITHMS = ["adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket"]
NOW = 1_700_000_000.0
LIMIT = Limit(5, 60.0, "fixed_window")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_limit_admits_its_rate_and_no_more(storage: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(5, 60.0, algorithm)
    decisions = [await storage.acquire("user", limit, now=NOW) for _ in range(8)]
    assert [decision.allowed for decision in decisions] == [True] * 5 + [False] * 3
    assert [decision.remaining for decision in decisions] == [4, 3, 2, 1, 0, 0, 0, 0]
    assert decisions[4].retry_after == 0.0
    assert decisions[5].retry_after > 0.0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_waiting_retry_after_is_enough(storage: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(3, 10.0, algorithm)
    for _ in range(3):
        await storage.acquire("user", limit, now=NOW + 0.3)
    denied = await storage.acquire("user", limit, now=NOW + 1.1)
    assert not denied.allowed
    assert not (await storage.peek("user", limit, now=NOW + 1.1 + denied.retry_after - 2e-6)).allowed
    assert (await storage.acquire("user", limit, now=NOW + 1.1 + denied.retry_after)).allowed


async def test_a_cost_above_the_limit_never_comes_in(storage: RateLimitStorage) -> None:
    decision = await storage.acquire("user", LIMIT, cost=6, now=NOW)
    assert not decision.allowed
    assert decision.retry_after == math.inf
    assert decision.remaining == 5


async def test_a_denied_request_and_a_peek_change_no_later_decision(storage: RateLimitStorage, clock) -> None:
    limit = Limit(3, 7.0, "token_bucket")
    reference = MemoryStorage(runtime=storage.runtime)
    for step in range(30):
        now = NOW + 0.37 * step
        if step % 3 == 0:
            await storage.acquire("user", limit, cost=3.5, now=now)
            await storage.peek("user", limit, now=now + 5)
        else:
            assert await storage.acquire("user", limit, 0.9, now) == await reference.acquire("user", limit, 0.9, now)


async def test_time_never_runs_backwards_inside_a_state(storage: RateLimitStorage) -> None:
    await storage.acquire("user", LIMIT, cost=5, now=NOW + 90)
    assert not (await storage.acquire("user", LIMIT, now=NOW)).allowed


async def test_several_limits_all_admit_or_none_is_charged(storage: RateLimitStorage) -> None:
    fast, slow = Limit(2, 1.0, "fixed_window", name="fast"), Limit(3, 100.0, "token_bucket", name="slow")
    times = [0.0, 0.1, 0.2, 1.0, 2.0]
    decisions = [await storage.acquire("user", (fast, slow), now=NOW + time) for time in times]
    assert [decision.allowed for decision in decisions] == [True, True, False, True, False]
    assert [decision.limit.name for decision in decisions] == ["fast", "fast", "fast", "slow", "slow"]
    assert (await storage.peek("user", fast, now=NOW + 2.0)).remaining == 2


async def test_limits_of_different_names_have_states_of_their_own(storage: RateLimitStorage) -> None:
    await storage.acquire("user", LIMIT, cost=5, now=NOW)
    other = Limit(5, 60.0, "fixed_window", name="other")
    assert (await storage.acquire("user", other, cost=5, now=NOW)).allowed


async def test_a_batch_decides_in_order(storage: RateLimitStorage) -> None:
    requests = [Request("a", LIMIT, 3.0, NOW), Request("b", LIMIT, 5.0, NOW), Request("a", LIMIT, 3.0, NOW)]
    decisions = await storage.acquire_many(requests)
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert decisions[2].remaining == 2


async def test_concurrent_acquires_admit_exactly_the_limit(storage: RateLimitStorage) -> None:
    limit = Limit(50, 60.0, "sliding_window")
    decisions = await asyncio.gather(*(storage.acquire("hot", limit, now=NOW) for _ in range(200)))
    assert sum(decision.allowed for decision in decisions) == 50


async def test_reset_forgets_every_limit_and_counter(storage: RateLimitStorage) -> None:
    named = Limit(5, 60.0, "fixed_window", name="named")
    await storage.acquire("user", (LIMIT, named), cost=5, now=NOW)
    await storage.increment("user", 7, 60.0)
    await storage.reset("user")
    assert (await storage.acquire("user", (LIMIT, named), cost=5, now=NOW)).allowed
    assert await storage.increment("user", 1, 60.0) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_state_moves_to_memory_and_back(storage: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(7, 9.0, algorithm)
    memory, stayed = MemoryStorage(runtime=storage.runtime), MemoryStorage(runtime=storage.runtime)
    for step in range(12):
        now = NOW + 0.7 * step
        assert await storage.acquire("user", limit, 0.8, now) == await stayed.acquire("user", limit, 0.8, now)
    state = await storage.get_state("user")
    assert state is not None
    assert 8 <= state.request_count <= 12
    await memory.set_state("user", state)
    await storage.reset("user")
    await storage.set_state("user", state)
    for step in range(12, 30):
        now = NOW + 0.7 * step
        expected = await stayed.acquire("user", limit, 0.8, now)
        assert await memory.acquire("user", limit, 0.8, now) == expected
        assert await storage.acquire("user", limit, 0.8, now) == expected


async def test_a_state_that_was_set_expires(storage: RateLimitStorage, clock) -> None:
    state = RateLimitState(AlgorithmData.of("fixed_window", [NOW // 60 * 60, 5.0]), NOW, NOW, 5, {"plan": "free"})
    await storage.set_state("user", state, ttl=2.0)
    assert await storage.get_state("user") == state
    assert (await storage.batch_get(["user", "nobody"]))[1] == ("nobody", None)
    clock.now += 2.0
    assert await storage.get_state("user") is None


async def test_states_are_put_and_found_in_batches(storage: RateLimitStorage, clock) -> None:
    states = [RateLimitState(AlgorithmData.of("token_bucket", [NOW, float(i)]), NOW, NOW, i) for i in range(5)]
    await storage.batch_set([(f"user {i}", state, None if i else 5.0) for i, state in enumerate(states)])
    names = [f"user {i}" for i in (4, 0, 9, 2)]
    expected = [("user 4", states[4]), ("user 0", states[0]), ("user 9", None), ("user 2", states[2])]
    assert await storage.batch_get(names) == expected
    clock.now += 10.0
    assert await storage.batch_get(["user 0", "user 1"]) == [("user 0", None), ("user 1", states[1])]
    assert (await storage.acquire("user 3", Limit(9, 9.0, "token_bucket"), cost=9, now=NOW)).remaining == 3


async def test_a_damaged_state_is_refused(storage: RateLimitStorage) -> None:
    for fields in ({"window_start": 1.0}, {"window_start": 1.0, "count": math.nan}):
        with pytest.raises(SerializationError):
            await storage.set_state("user", RateLimitState(AlgorithmData("fixed_window", fields), NOW, NOW))


async def test_a_counter_lives_its_window_from_the_first_hit(storage: RateLimitStorage, clock) -> None:
    assert await storage.increment("user", 2, 10.0) == 2
    clock.now += 9.0
    assert await storage.increment("user", 3, 10.0) == 5
    clock.now += 1.0
    assert await storage.increment("user", 1, 10.0) == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_charge_counts_once_however_often_it_is_sent(storage: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(10, 60.0, algorithm)
    first = Charge("user", limit, "node", 1, 0.0, ((NOW, 2.0, 2),))
    both = Charge("user", limit, "node", 1, 0.0, ((NOW, 2.0, 2), (NOW + 1, 1.0, 1)))
    for charge in (first, first, both, first):
        await storage.charge_many([charge])
    if algorithm in ("gcra", "leaky_bucket", "token_bucket"):
        assert (await storage.peek("user", limit, now=NOW + 1)).remaining == pytest.approx(7 + 1 / 6)
    else:
        assert (await storage.peek("user", limit, now=NOW + 1)).remaining == 7
    state = await storage.get_state("user")
    assert state is not None
    assert state.request_count == 3
    assert state.watermarks["node"].consumed == 3.0


async def test_a_node_that_began_anew_is_charged_again_and_its_stragglers_are_not(storage: RateLimitStorage) -> None:
    for epoch, cost in ((1, 2.0), (2, 3.0), (1, 4.0)):
        await storage.charge_many([Charge("user", LIMIT, "node", epoch, 0.0, ((NOW, cost, 1),))])
    assert (await storage.peek("user", LIMIT, now=NOW)).remaining == 0


async def test_a_limit_that_learns_moves_with_the_scores(storage: RateLimitStorage) -> None:
    limit = Limit(10, 60.0, "adaptive")
    window = NOW // 60 * 60
    assert sum([(await storage.acquire("user", limit, now=window + i)).allowed for i in range(12)]) == 10
    for i in range(5):
        await storage.observe("user", limit, 0.0, window + 20 + i)
    assert (await storage.acquire("user", limit, cost=0, now=window + 60)).remaining == 0
    decisions = [await storage.acquire("user", limit, now=window + 118 + i / 10) for i in range(8)]
    assert sum(decision.allowed for decision in decisions) == 4  # half of 10, and the window before still counts a little
    state = await storage.get_state("user")
    assert state is not None
    assert state.algorithm_data.fields["current_limit"] == 5.0
    assert state.algorithm_data.fields["performance_score"] == pytest.approx(0.7**5)


async def test_scores_that_fade_to_nothing_are_no_error(storage: RateLimitStorage) -> None:
    limit = Limit(10, 1e6, "adaptive", options={"weight": 0.9})
    for score in [0.0] * 12 + [5e-324, 1e-300, 1e-10]:
        await storage.observe("user", limit, score, NOW)
    state = await storage.get_state("user")
    assert state is not None
    assert 0 <= state.algorithm_data.fields["performance_score"] < 1e-8  # type: ignore[operator]


async def test_scores_go_to_the_limits_that_learn(storage: RateLimitStorage) -> None:
    both = (Limit(10, 60.0, "adaptive", name="learns"), Limit(10, 60.0, "gcra", name="other"))
    await storage.observe("user", both, 0.5, NOW)
    state = await storage.get_state("user", "learns")
    assert state is not None
    assert state.algorithm_data.fields["performance_score"] == pytest.approx(0.85)
    assert await storage.get_state("user", "other") is None
    with pytest.raises(InvalidLimitError, match="gcra: does not learn"):
        await storage.observe("user", both[1], 0.5, NOW)
    for score in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidLimitError, match="score"):
            await storage.observe("user", both, score, NOW)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("identifier", ["", "a b", "{x}", "é✓", "x" * 2000, "%s'; --\"\\", "a:b.c"])
async def test_any_identifier_will_do(storage: RateLimitStorage, identifier: str) -> None:
    await storage.acquire(identifier, LIMIT, cost=5, now=NOW)
    assert not (await storage.acquire(identifier, LIMIT, now=NOW)).allowed
    assert (await storage.acquire(identifier + "!", LIMIT, now=NOW)).allowed


async def test_what_makes_no_sense_is_refused_before_anything_happens(storage: RateLimitStorage) -> None:
    for cost in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidLimitError):
            await storage.acquire("user", LIMIT, cost=cost, now=NOW)
    with pytest.raises(InvalidLimitError):
        await storage.acquire("user", Limit(5, 60.0, "fixed_window", burst=3), now=NOW)
    with pytest.raises(InvalidLimitError):
        await storage.acquire("user", Limit(5, 60.0, "no_such"), now=NOW)
    with pytest.raises(InvalidLimitError):
        await storage.acquire("user", (), now=NOW)
    assert await storage.get_state("user") is None


async def test_health_and_statistics(storage: RateLimitStorage) -> None:
    await storage.acquire("user", LIMIT, now=NOW)
    assert (await storage.health_check()).healthy
    stats = await storage.get_stats()
    assert stats.entries >= 0
    assert stats.errors == {}


async def test_cleanup_drops_what_has_expired_and_nothing_else(storage: RateLimitStorage, clock) -> None:
    await storage.acquire("soon", Limit(5, 2.0, "fixed_window"))
    await storage.acquire("late", Limit(5, 3600.0, "fixed_window"))
    clock.now += 10.0
    assert await storage.cleanup_expired() >= 1
    assert await storage.get_state("soon") is None
    assert await storage.get_state("late") is not None


async def test_closing_twice_does_nothing_more(storage: RateLimitStorage) -> None:
    await storage.close()
    await storage.close()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_charge_of_less_than_nothing_gives_back_once(storage: RateLimitStorage, algorithm: str) -> None:
    """What a node had borrowed and did not spend: at the time at which it was borrowed, however often it is sent."""
    limit = Limit(10, 60.0, algorithm)
    await storage.acquire("user", limit, cost=8, now=NOW)
    back = Charge("user", limit, "n0~back", 1, 0.0, ((NOW, -3.0, 0),))
    for _ in range(3):
        await storage.charge_many([back])
    assert (await storage.peek("user", limit, now=NOW)).remaining == pytest.approx(5.0)
    again = Charge("user", limit, "n0~back", 2, 0.0, ((NOW, -5.0, 0),))
    await storage.charge_many([again])
    await storage.charge_many([back])
    assert (await storage.peek("user", limit, now=NOW)).remaining == pytest.approx(10.0)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_comes_back_late_gives_no_later_window_more(storage: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(10, 60.0, algorithm)
    await storage.acquire("user", limit, cost=8, now=NOW)
    await storage.acquire("user", limit, cost=1, now=NOW + 200)
    await storage.charge_many([Charge("user", limit, "n0~back", 1, 0.0, ((NOW, -3.0, 0),))])
    assert (await storage.peek("user", limit, now=NOW + 200.001)).remaining <= 10.0
