"""`retry_after` and `reset_after` say the truth: waiting them is enough, and two microseconds less than the first is not.

That waiting retry_after is enough holds always. That less is not, is claimed for rates of 0.01 to 1e4 per 0.1 to 86400 s,
bursts up to 100 times the rate, and costs of at least a thousandth of the rate (or 0): there what a state holds is rounded
by far less (some 1e-16 of it) than what comes back in a microsecond. A bucket of 1e12 tokens that gets back one a day knows
its tokens to 1e-4, which is ten seconds, and no answer can be right to the microsecond.
"""

from __future__ import annotations

import math

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Decision, Limit
from ratesim.limit import LATEST
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import MemoryStorage

BUCKETS = ("token_bucket", "leaky_bucket", "gcra")
ALGORITHMS = (*BUCKETS, "adaptive", "fixed_window", "sliding_log", "sliding_window")
MICRO = 1e-6

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
laws = settings(max_examples=examples(100))

# Seconds since the one before and a cost or a score, as shares of the period and of what the limit holds; cost or score.
Ask = tuple[float, float, bool]

starts = st.sampled_from([0.0, 1.0, 12.3456, 1.7e9, 1.7e9 + 0.1]) | st.floats(1.7e9, 1.8e9)
halves = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5])
steps = halves | st.floats(0.0, 1.5) | st.sampled_from([0.0, 0.01, 5.0, -0.25])
costs = halves | st.sampled_from([0.1, 0.3, 2.0]) | st.floats(0.001, 1.2)
scores = st.sampled_from([0.0, 0.0, 1.0, 1.0]) | st.floats(0, 1)


@st.composite
def limits(draw: st.DrawFn, algorithm: str, name: str = "") -> Limit:
    rate = draw(st.sampled_from([0.01, 1.0, 10.0, 1e4]) | st.floats(-2, 4).map(lambda n: 10.0**n))
    period = draw(st.sampled_from([0.1, 1.0, 60.0, 86400.0]) | st.floats(0.1, 86400))
    burst = draw(st.none() | st.floats(0.1, 100).map(lambda times: times * rate)) if algorithm in BUCKETS else None
    options = {"buckets": draw(st.integers(1, 10))} if algorithm == "sliding_window" else {}
    return Limit(rate, period, algorithm, burst, name, options)


def asks(limit: Limit, longest: int = 25) -> st.SearchStrategy[list[Ask]]:
    cost = st.tuples(steps, costs, st.just(True))
    score = st.tuples(steps, scores, st.just(False))
    rows = st.lists(cost, max_size=longest)
    return rows | st.lists(st.one_of(cost, cost, score), max_size=longest) if limit.algorithm == "adaptive" else rows


def asked(storage: MemoryStorage, limit: Limit, rows: list[Ask], now: float) -> list[tuple[float, float, Decision]]:
    """Time, cost and decision of each request."""
    holds = limit.burst or limit.rate
    decisions = []
    for step, share, is_cost in rows:
        now = max(now + step * limit.period, 0.0)
        if is_cost:
            decisions.append((now, share * holds, storage.acquire_nowait("user", limit, share * holds, now)))
        else:
            storage.observe_nowait("user", (limit,), share, now)
    return decisions


def end_of(limit: Limit, rows: list[Ask], start: float) -> float:
    """Return the latest time of the rows; the state could be too far ahead of an earlier one."""
    now = latest = start
    for step, _, _ in rows:
        now = max(now + step * limit.period, 0.0)
        latest = max(latest, now)
    return latest


@each_algorithm
@laws
@given(st.data(), starts)
def test_waiting_retry_after_is_enough_and_two_microseconds_less_is_not(
    algorithm: str, data: st.DataObject, start: float
) -> None:
    limit, storage = data.draw(limits(algorithm)), MemoryStorage()
    rows = data.draw(asks(limit))
    asked(storage, limit, rows, start)
    now = end_of(limit, rows, start)
    for share in data.draw(st.lists(costs, min_size=1, max_size=4)):
        cost = share * (limit.burst or limit.rate)
        decision = storage.peek_nowait("user", limit, cost, now)
        retry_after = decision.retry_after
        if decision.allowed:
            assert retry_after == 0.0
        elif retry_after == math.inf:
            for wait in (1e3, 1e6, 1e9):
                assert not storage.peek_nowait("user", limit, cost, now + wait).allowed
        else:
            assert storage.peek_nowait("user", limit, cost, now + retry_after).allowed
            if retry_after > 2 * MICRO:
                assert not storage.peek_nowait("user", limit, cost, now + (retry_after - 2 * MICRO)).allowed


@each_algorithm
@laws
@given(
    st.data(),
    starts,
    st.floats(-6, 11).map(lambda n: 10.0**n),
    st.floats(-6, 6).map(lambda n: 10.0**n),
    st.floats(0.001, 1e6),
)
def test_waiting_retry_after_is_enough_for_any_numbers(
    algorithm: str, data: st.DataObject, start: float, rate: float, period: float, times: float
) -> None:
    burst = min(max(times * rate, 1e-6), 1e12) if algorithm in BUCKETS else None
    limit, storage = Limit(rate, period, algorithm, burst), MemoryStorage()

    def can_be_asked(share: float) -> bool:
        return share == 0.0 or 1e-6 <= share * (burst or rate) <= 1e12

    rows = [row for row in data.draw(asks(limit)) if not row[2] or can_be_asked(row[1])]
    asked(storage, limit, rows, start)
    now = end_of(limit, rows, start)
    for share in filter(can_be_asked, (0.001, 0.1, 0.5, 1.0)):
        cost = share * (burst or rate)
        decision = storage.peek_nowait("user", limit, cost, now)
        if not decision.allowed and now + decision.retry_after <= LATEST:  # later there is no time to ask at
            assert storage.peek_nowait("user", limit, cost, now + decision.retry_after).allowed


@each_algorithm
@laws
@given(data=st.data())
def test_waiting_retry_after_is_enough_for_several_limits(algorithm: str, data: st.DataObject) -> None:
    limit = data.draw(limits(algorithm, "one"))
    other = Limit(
        limit.rate * data.draw(st.sampled_from([0.5, 2.0, 5.0])),
        limit.period * data.draw(st.sampled_from([0.5, 4.0])),
        data.draw(st.sampled_from(ALGORITHMS)),
        name="other",
    )
    storage, now = MemoryStorage(), data.draw(starts)
    learning = tuple(each for each in (limit, other) if each.algorithm == "adaptive")
    for step, share, is_cost in data.draw(st.lists(st.tuples(steps, costs, st.booleans()), min_size=1, max_size=25)):
        now = max(now + step * limit.period, 0.0)
        if not is_cost:
            storage.observe_nowait("user", learning, min(share, 1.0), now)
            continue
        cost = share * limit.rate
        decision = storage.acquire_nowait("user", (limit, other), cost, now)
        if not decision.allowed and decision.retry_after < math.inf:
            assert storage.peek_nowait("user", (limit, other), cost, now + decision.retry_after).allowed


@pytest.mark.parametrize("less", [0.0, 5e-8, 5e-7, 1e-3])
def test_an_adaptive_limit_that_is_about_to_fall_says_when_it_will_have_room_again(less: float) -> None:
    """What fades makes room for the cost only as the window ends; there the limit falls below it until all is forgotten,
    16 windows after the last admitted request: half a microsecond before the end is too short a time to be named.
    """
    limit, storage, now = Limit(10.0, 10.0, "adaptive"), MemoryStorage(), 1.7e9
    assert storage.acquire_nowait("user", limit, 10.0, now).allowed
    for _ in range(2):
        storage.observe_nowait("user", (limit,), 0.0, now + 10.0)
    assert storage.acquire_nowait("user", limit, 4.0, now + 15.0).allowed
    cost = 6.0 - less
    retry_after = storage.acquire_nowait("user", limit, cost, now + 16.0).retry_after
    assert storage.peek_nowait("user", limit, cost, now + 16.0 + retry_after).allowed
    assert not storage.peek_nowait("user", limit, cost, now + 16.0 + (retry_after - 2 * MICRO)).allowed


def test_several_limits_wait_for_one_that_admits_now_and_will_have_fallen_by_then() -> None:
    """The adaptive limit halves at the next window, long before the fixed window ends, and comes back after 16 windows."""
    window, adaptive = Limit(6.0, 100.0, "fixed_window", name="window"), Limit(10.0, 10.0, "adaptive", name="adaptive")
    storage, now = MemoryStorage(), 1.7e9
    assert storage.acquire_nowait("user", window, 6.0, now).allowed
    storage.observe_nowait("user", (adaptive,), 0.0, now)
    storage.observe_nowait("user", (adaptive,), 0.0, now)
    assert storage.peek_nowait("user", adaptive, 6.0, now).allowed
    retry_after = storage.acquire_nowait("user", (window, adaptive), 6.0, now).retry_after
    assert storage.peek_nowait("user", (window, adaptive), 6.0, now + retry_after).allowed


@each_algorithm
def test_a_cost_above_what_a_limit_can_ever_admit_is_denied_for_ever(algorithm: str) -> None:
    limit = Limit(10.0, 60.0, algorithm)
    for begun in (False, True):
        storage = MemoryStorage()
        if begun:
            assert storage.acquire_nowait("user", limit, 4.0, 1.7e9).allowed
        decision = storage.acquire_nowait("user", limit, 10.001, 1.7e9)
        assert (decision.allowed, decision.retry_after) == (False, math.inf)
        assert storage.acquire_nowait("user", limit, 10.0, 1.7e9 + 120.0).allowed


@each_algorithm
@laws
@given(st.data(), starts)
def test_a_state_decides_like_a_fresh_one_a_second_after_reset_after(
    algorithm: str, data: st.DataObject, start: float
) -> None:
    limit = data.draw(limits(algorithm))
    kept, fresh = MemoryStorage(runtime=AsyncioRuntime(lambda: -1.0)), MemoryStorage()
    rows = data.draw(asks(limit))
    asked(kept, limit, rows, start)
    now = end_of(limit, rows, start)
    now += kept.peek_nowait("user", limit, 0.0, now).reset_after + 1.0
    entry = kept.live_entry("user")
    if entry is not None:
        entry.expires_at = math.inf  # or it would be dropped by now, and there would be nothing to compare
    later = [(0.0, 0.001, True)]  # at once, while what is left to fade is most
    later += [(max(step, 0.0), share, is_cost) for step, share, is_cost in data.draw(asks(limit))]
    assert asked(kept, limit, later, now) == asked(fresh, limit, later, now)
