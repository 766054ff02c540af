"""The Lua and SQL twins decide as the Python rules do, to the bit.

RATESIM_EXAMPLES sets the number of examples (a nightly run asks for many).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.storage import (
    Charge,
    MemoryStorage,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    RedisStorageConfig,
)

EXAMPLES = int(os.environ.get("RATESIM_EXAMPLES", "150"))
NOW = 1_700_000_000.0

rates = st.one_of(st.integers(1, 20).map(float), st.floats(0.01, 1000))
periods = st.sampled_from([0.1, 1.0, 7.0, 60.0, 3600.0])
costs = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.0]), st.floats(0.001, 30))
steps = st.one_of(st.sampled_from([0.0, 0.0, 0.25, 1.0, 60.0, -3.0]), st.floats(-2, 100))
requests = st.lists(st.tuples(steps, costs, st.booleans()), min_size=1, max_size=40)
flushes = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.floats(0, 20),
        st.lists(st.tuples(steps, st.floats(0.01, 5)), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


@st.composite
def limits(draw: st.DrawFn, name: str = "") -> Limit:
    algorithm = draw(st.sampled_from(["adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket"]))
    burst = draw(st.one_of(st.none(), st.floats(0.5, 50))) if algorithm == "token_bucket" else None
    options = {"buckets": draw(st.integers(1, 6))} if algorithm == "sliding_window" else {}
    return Limit(draw(rates), draw(periods), algorithm, burst, name, options)


Run = Callable[[Callable[[RateLimitStorage], Awaitable[None]]], None]


@pytest.fixture(scope="module", params=["fakeredis", "redis", "postgres"])
def against(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test body with a storage that stays open from example to example, on a loop of its own."""
    loop = asyncio.new_event_loop()

    async def opened() -> RateLimitStorage:
        storage: RateLimitStorage
        if request.param == "postgres":
            url = request.getfixturevalue("postgres_server").url
            storage = PostgresStorage(PostgresStorageConfig(url=url, table_name="twins", command_timeout=30.0))
        elif request.param == "redis":
            url = request.getfixturevalue("valkey_server").url
            storage = RedisStorage(RedisStorageConfig(url=url, key_prefix="twins:", min_ttl=60, command_timeout=30.0))
        else:
            fake = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
            storage = RedisStorage(RedisStorageConfig(min_ttl=60, command_timeout=30.0), connection=fake)
        return await storage.open()

    storage = loop.run_until_complete(opened())
    yield lambda body: loop.run_until_complete(body(storage))
    loop.run_until_complete(storage.close())
    loop.close()


alike = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@alike
@given(limit=st.one_of(limits(), st.tuples(limits("a"), limits("b"))), asked=requests)
def test_a_twin_decides_as_the_python_rule(
    against: Run, limit: Limit | tuple[Limit, ...], asked: list[tuple[float, float, bool]]
) -> None:
    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        now = NOW
        for step, cost, peek in asked:
            now += step
            if peek:
                assert await storage.peek("user", limit, cost, now) == await memory.peek("user", limit, cost, now)
            else:
                assert await storage.acquire("user", limit, cost, now) == await memory.acquire("user", limit, cost, now)

    against(body)


@alike
@given(limit=limits(), flushed=flushes)
def test_a_twin_merges_charges_as_the_python_rule(
    against: Run, limit: Limit, flushed: list[tuple[int, float, list[tuple[float, float]]]]
) -> None:
    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        now = NOW
        for epoch, before, entries in flushed:
            stamped = []
            for step, cost in entries:
                now += step
                stamped.append((now, cost, 1))
            charge = Charge("user", limit, "node", epoch, before, tuple(stamped))
            (merged,), (expected,) = await storage.charge_many([charge]), await memory.charge_many([charge])
            assert merged.algorithm_data == expected.algorithm_data
            assert merged.watermarks == expected.watermarks
            assert merged.request_count == expected.request_count
            # PostgreSQL rounds times of day to the microsecond in its own way.
            assert merged.created_at == pytest.approx(expected.created_at, abs=1.5e-6)
            assert merged.last_accessed == pytest.approx(expected.last_accessed, abs=1.5e-6)

    against(body)
