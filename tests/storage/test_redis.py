"""Redis: its twins, its keys, its failures."""

from __future__ import annotations

import math

import fakeredis
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.errors import Config, ConnectionFailed
from ratesim.servers import Server
from ratesim.storage import Charge, MemoryStorage, RedisStorage, RedisStorageConfig

rates = st.one_of(st.integers(1, 20).map(float), st.floats(0.01, 1000))
periods = st.sampled_from([0.1, 1.0, 7.0, 60.0, 3600.0])
costs = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.0]), st.floats(0.001, 30))
steps = st.one_of(st.sampled_from([0.0, 0.0, 0.25, 1.0, 60.0, -3.0]), st.floats(-2, 100))
requests = st.lists(st.tuples(steps, costs, st.booleans()), min_size=1, max_size=40)


@st.composite
def limits(draw: st.DrawFn, name: str = "") -> Limit:
    algorithm = draw(st.sampled_from(["fixed_window", "sliding_window", "token_bucket"]))
    burst = draw(st.one_of(st.none(), st.floats(0.5, 50))) if algorithm == "token_bucket" else None
    options = {"buckets": draw(st.integers(1, 6))} if algorithm == "sliding_window" else {}
    return Limit(draw(rates), draw(periods), algorithm, burst, name, options)


async def _alike(redis_storage: RedisStorage, limit: object, asked: list[tuple[float, float, bool]]) -> None:
    memory = MemoryStorage(runtime=redis_storage.runtime)
    now = 1_700_000_000.0
    await redis_storage.reset("user")
    for step, cost, peek in asked:
        now += step
        verb = "peek" if peek else "acquire"
        expected = await getattr(memory, verb)("user", limit, cost, now)
        assert await getattr(redis_storage, verb)("user", limit, cost, now) == expected


relaxed = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@relaxed
@given(limit=st.one_of(limits(), st.tuples(limits("a"), limits("b"))), asked=requests)
async def test_the_lua_twins_decide_as_the_python_rules_on_fakeredis(limit: object, asked: list) -> None:
    connection = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    async with RedisStorage(RedisStorageConfig(min_ttl=60), connection=connection) as storage:
        await _alike(storage, limit, asked)


@relaxed
@given(limit=st.one_of(limits(), st.tuples(limits("a"), limits("b"))), asked=requests)
async def test_the_lua_twins_decide_as_the_python_rules_on_a_real_server(
    valkey_server: Server, limit: object, asked: list
) -> None:
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="twins:", min_ttl=60, command_timeout=10.0)
    async with RedisStorage(config) as storage:
        await _alike(storage, limit, asked)


@relaxed
@given(
    limit=limits(),
    flushes=st.lists(
        st.tuples(
            st.integers(1, 2), st.floats(0, 20), st.lists(st.tuples(steps, st.floats(0.01, 5)), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=6,
    ),
)
async def test_charges_merge_as_in_memory(valkey_server: Server, limit: Limit, flushes: list) -> None:
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="charges:", min_ttl=60, command_timeout=10.0)
    async with RedisStorage(config) as storage:
        await storage.reset("user")
        memory = MemoryStorage(runtime=storage.runtime)
        now = 1_700_000_000.0
        for epoch, before, entries in flushes:
            stamped = []
            for step, cost in entries:
                now += step
                stamped.append((now, cost, 1))
            charge = Charge("user", limit, "node", epoch, before, tuple(stamped))
            assert await storage.charge_many([charge]) == await memory.charge_many([charge])


async def test_a_person_can_read_the_state(valkey_server: Server) -> None:
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="readable:")
    async with RedisStorage(config) as storage:
        await storage.acquire("user:1", Limit(10, 60.0, "token_bucket"), now=1_700_000_000.0)
        raw = redis.asyncio.Redis.from_url(valkey_server.url, decode_responses=True)
        fields = await raw.hgetall("readable:{user:1}")
        milliseconds = await raw.pttl("readable:{user:1}")
        await raw.aclose()
        await storage.reset("user:1")
    assert fields["algorithm"] == "token_bucket"
    assert fields["tokens"] == "9"
    assert fields["last_refill"] == "1700000000"
    assert 0 < milliseconds <= math.ceil(7000)


async def test_a_server_that_lost_its_scripts_is_taught_them_again(valkey_server: Server) -> None:
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="scripts:")
    async with RedisStorage(config) as storage:
        limit = Limit(10, 60.0)
        await storage.acquire("user", limit, now=1_700_000_000.0)
        raw = redis.asyncio.Redis.from_url(valkey_server.url)
        await raw.script_flush()
        await raw.aclose()
        decision = await storage.acquire("user", limit, now=1_700_000_000.0)
        await storage.reset("user")
    assert decision.remaining == 8  # the first try was not carried out, and not counted


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    config = RedisStorageConfig(url="redis://me:secret@127.0.0.1:1/0", retries=0)
    async with RedisStorage(config) as storage:
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1") as caught:
            await storage.acquire("user", Limit(10, 60.0), now=1.0)
        assert not (await storage.health_check()).healthy
    assert "secret" not in str(caught.value) + repr(storage)
    assert caught.value.sent is False


def test_a_prefix_with_braces_is_refused() -> None:
    with pytest.raises(Config, match="braces"):
        RedisStorageConfig(key_prefix="{x}:")
