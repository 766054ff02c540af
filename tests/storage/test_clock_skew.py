"""A clock that is wrong costs a key at most `max_clock_skew`, on every backend and in every algorithm."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Literal

import fakeredis
import msgspec
import pytest
from every_backend import Clock
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.errors import ConfigurationError
from ratesim.limit import InvalidLimitError
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import (
    Charge,
    HybridStorage,
    HybridStorageConfig,
    MemoryStorage,
    MemoryStorageConfig,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    RedisStorageConfig,
    Request,
    StorageURL,
)
from ratesim.storage.config import Consistency, ReadPolicy

ALGORITHMS = ["adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket"]
NOW = 1_700_000_040.0  # the edge of a minute
HOUR, DAY, YEAR = 3600.0, 86400.0, 31_536_000.0
SKEW = 5.0


# -- times that are none ----------------------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.parametrize("now", [math.inf, -math.inf, math.nan, -1.0, 1.7e12, "now"])
async def test_a_time_that_is_none_is_refused_and_changes_nothing(
    storage: RateLimitStorage, clock: Clock, now: float
) -> None:
    clock.now = NOW
    limit = Limit(5, 60.0, "adaptive")
    await storage.acquire("user", limit, now=NOW)
    before = await storage.get_state("user")
    for call in (
        storage.acquire("user", limit, now=now),
        storage.acquire("nobody", limit, now=now),
        storage.acquire("user", (limit, Limit(5, 60.0, "gcra", name="other")), now=now),
        storage.peek("user", limit, now=now),
        storage.observe("user", limit, 0.5, now=now),
        storage.acquire_many([Request("user", limit), Request("user", limit, now=now)]),
        storage.charge_many([Charge("user", limit, "node", 1, 0.0, ((now, 1.0, 1),))]),
    ):
        with pytest.raises(InvalidLimitError, match="must be seconds since the epoch"):
            await call
    after = await storage.get_state("user")
    assert before is not None
    assert after is not None
    assert after.algorithm_data == before.algorithm_data
    assert await storage.get_state("nobody") is None


@pytest.mark.parametrize("now", [math.inf, math.nan, -1.0])
@pytest.mark.parametrize("consistency", ["strong", "eventual", "session", "lease"])
async def test_a_hybrid_refuses_a_time_that_is_none_whoever_decides(consistency: Consistency, now: float) -> None:
    limit, config = Limit(1000.0, 60.0, "fixed_window"), HybridStorageConfig(consistency=consistency)
    async with HybridStorage(MemoryStorage(), config) as storage:
        for _ in range(50):  # so that there is a lease to spend
            await storage.acquire("user", limit)
        with pytest.raises(InvalidLimitError, match="must be seconds since the epoch"):
            await storage.acquire("user", limit, now=now)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "many"])
@pytest.mark.parametrize("url", ["memory://", "redis://h", "postgresql://h", "hybrid+redis://h"])
def test_a_bound_that_is_none_is_refused(url: str, seconds: str) -> None:
    with pytest.raises(ConfigurationError, match="max_clock_skew"):
        StorageURL.parse(f"{url}?max_clock_skew={seconds}")


def test_a_hybrid_and_its_store_take_the_same_bound() -> None:
    url = StorageURL.parse("hybrid+redis://h?max_clock_skew=2&clock=server")
    assert url.hybrid is not None
    assert (url.config.max_clock_skew, url.config.clock, url.hybrid.max_clock_skew) == (2.0, "server", 2.0)
    with pytest.raises(ConfigurationError, match="clock 'node': known are client, server"):
        StorageURL.parse("redis://h?clock=node")


# -- one wrong time ---------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wrong", [HOUR, DAY, YEAR, -HOUR, -DAY, -YEAR])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_wrong_clock_that_used_the_limit_up_does_not_lock_the_key(
    storage: RateLimitStorage, clock: Clock, algorithm: str, wrong: float
) -> None:
    """What it used up is used up; but waiting as long as the answer says is enough, and that is at most two periods."""
    clock.now = NOW + wrong
    limit = Limit(5, 60.0, algorithm)
    for _ in range(5):
        assert await storage.acquire("user", limit, now=NOW + wrong)
    clock.now = NOW
    waited = 0.0
    for _ in range(2):
        decision = await storage.acquire("user", limit, now=clock.now)
        if decision.allowed:
            break
        assert decision.retry_after > 0.0
        waited += decision.retry_after
        clock.now += decision.retry_after
    assert decision.allowed
    assert waited <= 2 * limit.period
    stats = await storage.get_stats()
    assert (stats.clock_rewinds > 0) == (wrong > 0)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_peek_gives_the_answer_of_an_acquire_and_brings_nothing_back(
    storage: RateLimitStorage, clock: Clock, algorithm: str
) -> None:
    limit = Limit(5, 60.0, algorithm)
    clock.now = NOW + DAY
    for _ in range(5):
        await storage.acquire("user", limit, now=NOW + DAY)
    if not isinstance(storage, HybridStorage):  # whose read of the view asks L2 for a decision
        before = await storage.get_state("user")
        clock.now = NOW
        peeked = await storage.peek("user", limit, now=NOW)
        after = await storage.get_state("user")
        assert before is not None
        assert after is not None
        assert after.algorithm_data == before.algorithm_data
        assert (await storage.get_stats()).clock_rewinds == 0
        acquired = await storage.acquire("user", limit, now=NOW)
        assert peeked == acquired
        assert not acquired.allowed
        assert (await storage.get_stats()).clock_rewinds == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("period", [0.5, 60.0])
async def test_below_the_bound_a_decision_is_taken_at_the_states_own_time(
    storage: RateLimitStorage, clock: Clock, algorithm: str, period: float
) -> None:
    """The bound itself is below: one float more is not."""
    limit, bound = Limit(5, period, algorithm), min(SKEW, period)
    clock.now = start = NOW  # an edge of windows of both lengths
    for _ in range(5):
        await storage.acquire("user", limit, now=start)
    late = await storage.acquire("user", limit, now=start - bound)
    assert not late.allowed
    assert (await storage.get_stats()).clock_rewinds == 0
    at = await storage.peek("user", limit, now=start)
    assert late.retry_after == pytest.approx(at.retry_after + bound, abs=3e-6)
    assert late.reset_after == pytest.approx(at.reset_after + bound, abs=3e-6)
    await storage.acquire("user", limit, now=math.nextafter(start - bound, 0.0))
    if not isinstance(storage, HybridStorage):
        assert (await storage.get_stats()).clock_rewinds == 1


async def test_a_state_from_elsewhere_that_is_ahead_is_brought_back(storage: RateLimitStorage, clock: Clock) -> None:
    limit = Limit(5, 60.0, "sliding_log")
    memory = MemoryStorage()
    for step in range(5):
        memory.acquire_nowait("user", limit, 1.0, NOW + YEAR + step)
    clock.now = NOW + YEAR + 5
    state = await memory.get_state("user")
    entry = memory.live_entry("user", now=NOW)
    assert entry is not None
    state = entry.export()
    clock.now = NOW
    await storage.set_state("user", state, 2 * YEAR)
    denied = await storage.acquire("user", limit, now=NOW)
    assert not denied.allowed
    assert denied.retry_after == 60.0
    clock.now = NOW + 60.0
    assert (await storage.acquire("user", limit, now=NOW + 60.0)).remaining == 4.0


async def test_entries_of_a_log_that_are_ahead_become_one_entry_of_now(storage: RateLimitStorage, clock: Clock) -> None:
    limit = Limit(10, 60.0, "sliding_log")
    for ahead, cost in ((0.0, 1.0), (10.0, 2.0), (20.0, 3.0)):
        clock.now = NOW + ahead
        assert await storage.acquire("user", limit, cost, now=clock.now)
    clock.now = NOW
    decision = await storage.acquire("user", limit, 0.5, now=NOW)
    assert (decision.allowed, decision.remaining) == (True, 3.5)
    state = await storage.get_state("user")
    assert state is not None
    assert state.algorithm_data.values() == [NOW, 6.5, NOW, 6.5]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
async def test_several_limits_are_brought_back_together(storage: RateLimitStorage, clock: Clock, wrong: float) -> None:
    limits = tuple(Limit(5, period, name, name=name) for name, period in (("gcra", 60.0), ("sliding_window", 20.0)))
    clock.now = NOW + wrong
    for _ in range(5):
        await storage.acquire("user", limits, now=NOW + wrong)
    clock.now = NOW
    denied = await storage.acquire("user", limits, now=NOW)
    assert denied.allowed == (wrong < 0)
    if wrong > 0:
        assert denied.retry_after <= 40.0
        clock.now += denied.retry_after
        assert await storage.acquire("user", limits, now=clock.now)


# -- the exact formula ------------------------------------------------------------------------------------------------

ROUNDING = 1e-9


def permitted(limit: Limit, seconds: float) -> float:
    """The cost that one exact limiter admits at most in any `seconds`."""
    if limit.algorithm in ("gcra", "leaky_bucket", "token_bucket"):
        return limit.rate + limit.rate * seconds / limit.period
    if limit.algorithm == "sliding_log":
        return limit.rate * math.ceil(seconds / limit.period + ROUNDING)
    return limit.rate * (math.floor(seconds / limit.period) + 2)  # as many windows as it can meet


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(60))
@given(data=st.data())
def test_clocks_within_the_bound_admit_what_the_limit_permits_in_that_much_longer(
    algorithm: str, data: st.DataObject
) -> None:
    """N nodes whose clocks are within d of each other: in true time t at most what is permitted in t + d."""
    period = data.draw(st.sampled_from([1.0, 7.0, 60.0]))
    limit = Limit(10.0, period, algorithm)
    d = data.draw(st.floats(0.0, 1.0)) * min(SKEW, period)
    offsets = data.draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4))
    steps = st.floats(0.0, 0.3) | st.sampled_from([0.0, 0.0, 1.0])
    asked = data.draw(st.lists(st.tuples(steps, st.integers(0, 3), st.sampled_from([1.0, 3.0])), max_size=60))
    storage, true, admitted = MemoryStorage(), NOW, []
    for step, node, cost in asked:
        true += step * period
        if storage.acquire_nowait("user", limit, cost, true + offsets[node % len(offsets)] * d):
            admitted.append((true, cost))
    assert storage.get_stats_nowait(walk=False).clock_rewinds == 0
    for first, (begin, _) in enumerate(admitted):
        total = 0.0
        for end, cost in admitted[first:]:
            total += cost
            assert total <= permitted(limit, end - begin + d) + ROUNDING


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_node_that_lags_within_the_bound_waits_that_much_longer(algorithm: str, data: st.DataObject) -> None:
    """A denial by a clock that is d behind lasts at most d longer than one by the clock that is furthest ahead."""
    limit = Limit(5.0, data.draw(st.sampled_from([1.0, 60.0])), algorithm)
    d = data.draw(st.floats(0.0, 1.0)) * min(SKEW, limit.period)
    storage, now = MemoryStorage(), NOW
    for step in data.draw(st.lists(st.floats(0.0, 0.2), min_size=5, max_size=20)):
        now += step * limit.period
        storage.acquire_nowait("user", limit, 1.0, now)
    right, lagging = (storage.peek_nowait("user", limit, 3.0, each) for each in (now, now - d))
    if not right.allowed:
        assert right.retry_after <= lagging.retry_after <= right.retry_after + d + 3e-6
    else:
        assert lagging.allowed or lagging.retry_after <= d + 3e-6


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(60))
@given(data=st.data())
def test_one_wrong_time_costs_a_key_no_more_than_what_it_admitted_and_the_bound(algorithm: str, data: st.DataObject) -> None:
    """Compared with the same requests without it: twice the limit's cost at most, either way."""
    limit = Limit(10.0, 60.0, algorithm)
    wrong = data.draw(st.sampled_from([HOUR, DAY, YEAR, -HOUR, -DAY, -YEAR, SKEW, -SKEW]) | st.floats(-1e7, 1e7))
    glitches = data.draw(st.integers(1, 12))
    place = data.draw(st.integers(0, 30))
    right, glitched = MemoryStorage(), MemoryStorage()
    admitted = [0, 0]
    for i in range(120):
        now = NOW + 3.0 * i
        if i == place:
            for _ in range(glitches):
                glitched.acquire_nowait("user", limit, 1.0, max(now + wrong, 0.0))
        for which, storage in enumerate((right, glitched)):
            admitted[which] += storage.acquire_nowait("user", limit, 1.0, now).allowed
    assert abs(admitted[0] - admitted[1]) <= 2 * limit.rate
    assert right.acquire_nowait("user", limit, 0.0, now).remaining <= limit.rate
    assert glitched.get_stats_nowait(walk=False).clock_rewinds <= 2


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0)), min_size=2, max_size=40))
def test_each_change_between_a_node_ahead_and_a_right_one_refills_at_most_one_burst(
    asked: list[tuple[bool, float]],
) -> None:
    limit = Limit(10.0, 60.0, "token_bucket")
    storage, now, admitted, changes, last = MemoryStorage(), NOW, 0.0, 0, None
    for ahead, step in asked:
        now += step
        admitted += storage.acquire_nowait("user", limit, 3.0, now + DAY * ahead).allowed * 3.0
        changes += last is not None and ahead != last
        last = ahead
    assert admitted <= limit.rate * (1 + changes + (now - NOW) / limit.period) + ROUNDING
    assert storage.get_stats_nowait(walk=False).clock_rewinds <= (changes + 1) // 2 + 1


# -- upkeep -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [0.5, 30.0])
def test_the_bound_is_an_option(bound: float) -> None:
    limit = Limit(5, 60.0, "token_bucket")
    storage = MemoryStorage(MemoryStorageConfig(max_clock_skew=bound))
    storage.acquire_nowait("user", limit, 5.0, NOW + 20.0)
    assert storage.acquire_nowait("user", limit, 1.0, NOW).retry_after == pytest.approx(12.0 if bound < 20 else 32.0)
    assert storage.get_stats_nowait().clock_rewinds == (bound < 20)


# -- the server's clock -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["fakeredis", "redis", "postgres"])
async def by_server(request: pytest.FixtureRequest) -> AsyncIterator[RateLimitStorage]:
    """A storage that decides at the server's time, on a node whose clock is a day ahead."""
    runtime = AsyncioRuntime(lambda: time.time() + DAY)
    storage: RateLimitStorage
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").url
        storage = PostgresStorage(PostgresStorageConfig(url=url, table_name="by_server", clock="server"), runtime)
    elif request.param == "redis":
        url = request.getfixturevalue("valkey_server").url
        storage = RedisStorage(RedisStorageConfig(url=url, key_prefix="by_server:", clock="server"), runtime)
    else:
        fake = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        storage = RedisStorage(RedisStorageConfig(clock="server"), runtime, fake)
    async with storage:
        yield storage
        await storage.reset("user")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_by_the_servers_clock_the_clocks_of_nodes_do_not_matter(by_server: RateLimitStorage, algorithm: str) -> None:
    limit = Limit(5, 3600.0, algorithm)
    begin = time.time()
    nows = [None, 0.0, NOW, NOW + YEAR, begin + DAY]
    assert all([await by_server.acquire("user", limit, now=now) for now in nows])
    denied = await by_server.acquire("user", limit, now=begin + 2 * DAY)
    assert not denied.allowed
    assert denied.retry_after <= 2 * 3600.0
    assert not await by_server.peek("user", limit, now=begin - 2 * DAY)
    if algorithm == "adaptive":
        await by_server.observe("user", limit, 0.5, now=NOW)
    state = await by_server.get_state("user")
    assert state is not None
    own_time = state.algorithm_data.values()[0]
    assert begin - 3600.0 - 1e-3 <= own_time <= time.time() + 1e-3
    assert begin - 1e-3 <= state.created_at <= time.time() + 1e-3
    assert (await by_server.get_stats()).clock_rewinds == 0


async def test_by_the_servers_clock_states_and_counters_live_as_long_as_asked(by_server: RateLimitStorage) -> None:
    limit = Limit(5, 60.0, "token_bucket")
    await by_server.acquire("user", limit)
    state = await by_server.get_state("user")
    assert state is not None
    await by_server.set_state("user", state, 0.01)
    async with asyncio.timeout(30):
        while await by_server.get_state("user") is not None:  # noqa: ASYNC110 - a server tells no event
            await asyncio.sleep(0.05)
        await by_server.set_state("user", state, 60.0)
        assert await by_server.get_state("user") is not None
        assert await by_server.increment("user", 2, 0.2) == 2
        while await by_server.increment("user", 1, 0.2) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_by_the_servers_clock_charges_are_moved_to_its_time(by_server: RateLimitStorage) -> None:
    limit = Limit(10, 3600.0, "sliding_log")
    sender = time.time() - YEAR
    charge = Charge("user", limit, "node", 1, 0.0, ((sender - 5.0, 1.0, 1), (sender, 2.0, 1)), sender)
    (state,) = await by_server.charge_many([charge])
    _, used, first, _, last, _ = state.algorithm_data.values()
    assert used == 3.0
    assert last - first == pytest.approx(5.0, abs=1e-3)
    assert abs(last - time.time()) < 60.0
    (again,) = await by_server.charge_many([msgspec.structs.replace(charge, sent=None, epoch=2)])
    assert again.algorithm_data == state.algorithm_data  # a year ago is out of the window


@pytest.mark.sampled(1)
@pytest.mark.parametrize("ahead", [61.0, HOUR, DAY, YEAR])
async def test_a_counter_that_a_clock_ahead_wrote_lives_its_window_from_now(
    storage: RateLimitStorage, clock: Clock, ahead: float
) -> None:
    clock.now = NOW + ahead
    assert await storage.increment("user", 3, 60.0) == 3
    clock.now = NOW
    assert await storage.increment("user", 1, 60.0) == 4
    clock.now = NOW + 59.0
    assert await storage.increment("user", 1, 60.0) == 5
    clock.now = NOW + 60.0
    assert await storage.increment("user", 1, 60.0) == 1


@pytest.mark.parametrize(("window", "ahead"), [(60.0, SKEW), (1.0, 1.0)])
async def test_a_counter_keeps_the_end_that_a_skew_within_the_bound_gave_it(
    storage: RateLimitStorage, clock: Clock, window: float, ahead: float
) -> None:
    clock.now = NOW + ahead
    assert await storage.increment("user", 3, window) == 3
    clock.now = NOW
    assert await storage.increment("user", 1, window) == 4
    clock.now = NOW + window
    assert await storage.increment("user", 1, window) == 5
    clock.now = NOW + window + ahead
    assert await storage.increment("user", 1, window) == 1


# -- the hybrid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["read_through", "cache_aside", "refresh_ahead"])
@pytest.mark.parametrize("consistency", ["eventual", "session"])
async def test_a_node_that_is_ahead_does_not_make_the_others_wait(consistency: Consistency, policy: ReadPolicy) -> None:
    """The node that is an hour ahead uses the limit up; the right one admits again when the bucket has refilled."""
    limit = Limit(20.0, 2.0, "token_bucket")
    l2 = MemoryStorage()
    config = HybridStorageConfig(consistency=consistency, read=policy, sync_interval=0.02, l1_ttl=0.05, refresh_after=0.02)
    ahead = HybridStorage(l2, config, AsyncioRuntime(lambda: time.time() + HOUR))
    right = HybridStorage(l2, config)
    for _ in range(20):
        assert await ahead.acquire("user", limit)
    await ahead.flush()
    token, admitted = "", 0
    async with asyncio.timeout(60):
        while admitted < 30:
            decision = await right.acquire("user", limit, session=token)
            token, admitted = decision.session, admitted + decision.allowed
            await asyncio.sleep(0.01)
    assert l2.get_stats_nowait().clock_rewinds >= 1
    await right.close()


def test_what_a_node_may_admit_alone_is_not_locked_by_a_wrong_time() -> None:
    from ratesim.storage.hybrid.fallback import FallbackPolicy
    from ratesim.storage.hybrid.replica_state import ReplicaState

    limit = Limit(10.0, 60.0, "token_bucket")
    record = ReplicaState("user", "user", 1)
    record.bind(limit, MemoryStorage().decider(limit))
    policy = FallbackPolicy(HybridStorageConfig(on_store_failure="local"))
    assert policy.admits([record], 10.0, NOW + DAY)
    assert not policy.admits([record], 1.0, NOW)
    assert policy.admits([record], 1.0, NOW + 6.0)


async def test_a_clock_that_was_ahead_in_an_earlier_life_loses_no_consumption() -> None:
    """The consumption of a node is told from that of its earlier lives by their times."""
    limit, l2, config = Limit(20.0, 7200.0, "token_bucket"), MemoryStorage(), HybridStorageConfig(node="web1")
    for offset in (HOUR, 0.0):
        node = HybridStorage(l2, config, AsyncioRuntime(lambda offset=offset: time.time() + offset))  # type: ignore[misc]
        for _ in range(3):
            assert await node.acquire("user", limit)
        await node.close()
    state = await l2.get_state("user")
    assert state is not None
    assert state.algorithm_data.values()[1] == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize("clock_of", ["client", "server"])
async def test_a_node_that_is_ahead_cleans_up_nothing_that_is_live(
    request: pytest.FixtureRequest, clock_of: Literal["client", "server"]
) -> None:
    limit, ahead = Limit(5, 600.0, "token_bucket"), AsyncioRuntime(lambda: time.time() + DAY)
    tag = f"cleaned_{clock_of}"
    redis = RedisStorageConfig(url=request.getfixturevalue("valkey_server").url, key_prefix=f"{tag}:", clock=clock_of)
    table = PostgresStorageConfig(url=request.getfixturevalue("postgres_server").url, table_name=tag, clock=clock_of)
    storages: list[tuple[RateLimitStorage, RateLimitStorage]] = [
        (RedisStorage(redis), RedisStorage(redis, ahead)),
        (PostgresStorage(table), PostgresStorage(table, ahead)),
    ]
    for right, wrong in storages:
        async with right, wrong:
            await right.acquire("user", limit)
            assert await wrong.cleanup_expired() == 0
            assert await right.get_state("user") is not None
            await right.reset("user")
