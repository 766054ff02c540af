"""One limit at Redis: its own script leaves what the general script leaves, in as few commands as the documentation says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator

import fakeredis
import pytest
import redis.asyncio
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_twins import ALGORITHMS, NOW, asked, limits, moves

from ratesim import Limit
from ratesim.errors import SerializationError
from ratesim.limit import Decision
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server, valkey
from ratesim.storage import RedisStorage, RedisStorageConfig
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import MAX_CLOCK_SKEW
from ratesim.storage.redis.single_limit import SingleLimit

SMALL = tuple(algorithm for algorithm in ALGORITHMS if algorithm != "sliding_log")
PAIR = (Limit(5, 60.0, "token_bucket", name="own"), Limit(9, 3600.0, "fixed_window", name="other"))

Hash = dict[str, list[float] | str]


async def read(client: redis.asyncio.Redis, key: str) -> Hash:
    """Read a hash, numbers as such: the server and Lua write the same number in different ways."""
    found: Hash = {}
    for field, value in (await client.hgetall(key)).items():
        text = value.decode()
        found[field.decode()] = text if field.decode().endswith("algorithm") else [float(part) for part in text.split()]
    return found


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for all examples."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@settings(max_examples=examples(60, nightly=5000))
@given(limit=limits(among=SMALL) | limits("named", among=SMALL), moving=moves, peeks=st.lists(st.booleans(), min_size=30))
def test_its_own_script_leaves_what_the_general_script_leaves(
    loop: asyncio.AbstractEventLoop, limit: Limit, moving: list[tuple[float | str, float, bool]], peeks: list[bool]
) -> None:
    async def body() -> None:
        client = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        runtime = AsyncioRuntime(lambda: NOW)
        own = RedisStorage(RedisStorageConfig(key_prefix="own:", min_ttl=60.0, command_timeout=60.0), runtime, client)
        general = RedisStorage(
            RedisStorageConfig(key_prefix="general:", min_ttl=60.0, command_timeout=60.0), runtime, client
        )
        for (now, cost), peek in zip(asked(limit, moving, 1), peeks, strict=False):
            answers: list[Decision] = []
            for storage, suits in ((own, True), (general, False)):
                with pytest.MonkeyPatch.context() as patch:
                    if not suits:
                        patch.setattr(SingleLimit, "suits", staticmethod(lambda limits: False))
                    ask = storage.peek if peek else storage.acquire
                    answers.append(await ask("user", limit, cost, now))
            assert answers[0] == answers[1]
            left, right = await read(client, "own:{user}"), await read(client, "general:{user}")
            if not any(field.endswith("request_count") for field in right):  # nothing was admitted; it need not be there
                left = {field: value for field, value in left.items() if not field.endswith("request_count")}
            assert left == right
        assert own.driver.clock_rewinds == general.driver.clock_rewinds
        await own.close()
        await general.close()

    loop.run_until_complete(body())


@pytest.mark.parametrize("algorithm", SMALL)
async def test_a_key_lives_as_long_as_its_state_matters_and_is_seldom_lengthened(
    valkey_server: Server, algorithm: str
) -> None:
    limit = Limit(50, 60.0, algorithm)
    async with (
        RedisStorage(RedisStorageConfig(url=valkey_server.url, key_prefix=f"lives-{algorithm}:")) as storage,
        redis.asyncio.Redis.from_url(valkey_server.url) as client,
    ):
        key, longest, lengthened, before = f"lives-{algorithm}:{{user}}", 0.0, 0, 0
        for step in range(60):
            start = time.monotonic()
            decision = await storage.acquire("user", limit, now=NOW)
            milliseconds = await client.pttl(key)
            took = (time.monotonic() - start) * 1000.0
            needed = (decision.reset_after + EXPIRY_MARGIN + MAX_CLOCK_SKEW) * 1000.0
            if decision.allowed:
                assert milliseconds + 1 >= needed - took  # whole milliseconds of the server's clock
                longest = max(longest, needed)
            assert milliseconds <= math.ceil(longest * (1.25 if step else 1.0))
            lengthened += milliseconds > before
            before = milliseconds
        assert lengthened <= 25, "it grows by a quarter at a time"
        await storage.reset("user")


@pytest.mark.parametrize("algorithm", SMALL)
async def test_another_algorithm_takes_the_place_of_a_limit_and_of_no_other(algorithm: str) -> None:
    client = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    async with RedisStorage(RedisStorageConfig(command_timeout=60.0), AsyncioRuntime(lambda: NOW), client) as storage:
        await storage.acquire("user", PAIR, now=NOW)
        kept = {field: value for field, value in (await read(client, "ratesim:{user}")).items() if field[:6] == "other."}
        milliseconds = await client.pttl("ratesim:{user}")
        decision = await storage.acquire("user", Limit(7, 0.5, algorithm, name="own"), now=NOW + 1.0)
        assert decision == await storage.peek("user", Limit(7, 0.5, algorithm, name="own"), 0.0, NOW + 1.0)
        found = await read(client, "ratesim:{user}")
        assert {field: value for field, value in found.items() if field[:6] == "other."} == kept
        own = {field for field in found if field[:4] == "own."}
        assert ("own.tokens" in own) == (algorithm == "token_bucket")
        assert found["own.created_at"] == [NOW + (algorithm != "token_bucket")]
        assert await client.pttl("ratesim:{user}") > milliseconds - 60_000, "the other limit still needs the key"


async def test_the_commands_of_a_decision_are_those_of_the_table() -> None:
    with valkey() as server:
        async with (
            RedisStorage(RedisStorageConfig(url=server.url, command_timeout=60.0)) as storage,
            redis.asyncio.Redis.from_url(server.url) as client,
        ):

            async def issued() -> list[str]:
                stats = await client.info("commandstats")
                await client.config_resetstat()
                calls = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
                own = {"evalsha", "hmget", "hset", "pttl", "pexpire", "hkeys", "hdel", "hincrby", "time"}
                return [name for name in sorted(calls) for _ in range(calls[name]) if name in own]

            for algorithm in SMALL:
                limit = Limit(9, 1e6, algorithm)
                await storage.acquire("another", limit, now=NOW)  # the server knows the script now
                await issued()
                seen = []
                for ask, cost in (
                    (storage.acquire, 5.0),
                    (storage.acquire, 1.0),
                    (storage.acquire, 5.0),
                    (storage.peek, 1.0),
                ):
                    await ask(algorithm, limit, cost, NOW)
                    seen.append(await issued())
                assert seen[0] == ["evalsha", "hmget", "hset", "pexpire", "pttl"]
                assert [name for name in seen[1] if name != "pexpire"] == ["evalsha", "hmget", "hset", "pttl"]
                assert seen[2:] == [["evalsha", "hmget"], ["hmget"]]


@pytest.mark.parametrize("name", ["", "named"])
async def test_a_client_that_decodes_answers_reads_decisions(name: str) -> None:
    client = fakeredis.FakeAsyncRedis(server_type="valkey", decode_responses=True, protocol=2)
    async with RedisStorage(RedisStorageConfig(command_timeout=60.0), AsyncioRuntime(lambda: NOW), client) as storage:
        for algorithm in SMALL:
            limit = Limit(5, 60.0, algorithm, name=name)
            assert [(await storage.acquire(algorithm, limit, 2.0, NOW)).remaining for _ in range(3)] == [3.0, 1.0, 1.0]
            assert (await storage.peek(algorithm, limit, 2.0, NOW)).remaining == 1.0


async def test_bounds_of_time_are_met_exactly() -> None:
    client = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    config = RedisStorageConfig(min_ttl=60.0, command_timeout=60.0)
    async with RedisStorage(config, AsyncioRuntime(lambda: NOW), client) as storage:
        for algorithm in SMALL:
            limit = Limit(5, 60.0, algorithm)
            decision = await storage.acquire(algorithm, limit, now=NOW)
            end = NOW + decision.reset_after + EXPIRY_MARGIN
            for now, born, count in ((math.nextafter(end, 0.0), NOW, 2), (end, end, 1)):
                await storage.reset(algorithm)
                for moment in (NOW, now):
                    await storage.acquire(algorithm, limit, now=moment)
                found = await read(client, f"ratesim:{{{algorithm}}}")
                assert (found["created_at"], found["request_count"]) == ([born], [count])
                assert (await storage.peek(algorithm, limit, 0.0, NOW)) == await storage.acquire(algorithm, limit, 0.0, NOW)
        limit = Limit(5, 60.0, "token_bucket")
        await storage.acquire("ahead", limit, now=NOW + MAX_CLOCK_SKEW)
        before = storage.driver.clock_rewinds
        await storage.acquire("ahead", limit, now=NOW)
        assert storage.driver.clock_rewinds == before
        await storage.acquire("ahead", limit, now=math.nextafter(NOW, 0.0))
        assert storage.driver.clock_rewinds == before + 1


async def test_a_state_that_only_learned_is_decided_on() -> None:
    client = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    async with RedisStorage(RedisStorageConfig(command_timeout=60.0), AsyncioRuntime(lambda: NOW), client) as storage:
        limit = Limit(5, 60.0, "adaptive")
        await storage.observe("user", limit, 0.5, NOW)
        await storage.acquire("user", limit, now=NOW)
        state = await storage.get_state("user")
    assert state is not None
    assert (state.request_count, state.algorithm_data.fields["observations"]) == (1, 1.0)


async def test_a_key_is_kept_for_three_centuries_at_most(valkey_server: Server) -> None:
    limit = Limit(1e-3, 1e9, "token_bucket", burst=50.0)
    async with (
        RedisStorage(RedisStorageConfig(url=valkey_server.url, key_prefix="centuries:")) as storage,
        redis.asyncio.Redis.from_url(valkey_server.url) as client,
    ):
        decision = await storage.acquire("user", limit, 50.0, NOW)
        assert decision.reset_after > 1e10
        assert 0.99e13 < await client.pttl("centuries:{user}") <= 1e13
        await storage.reset("user")


async def test_a_state_of_another_size_gives_way_to_a_new_one() -> None:
    client = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    async with RedisStorage(RedisStorageConfig(command_timeout=60.0), AsyncioRuntime(lambda: NOW), client) as storage:
        one, three = (Limit(5, 60.0, "sliding_window", options={"buckets": buckets}) for buckets in (1, 3))
        await storage.acquire("user", one, 4.0, NOW)
        assert (await storage.peek("user", three, now=NOW)).remaining == 5.0
        assert (await storage.acquire("user", three, now=NOW)).remaining == 4.0
        assert (await read(client, "ratesim:{user}"))["counts"] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("damage", ["nan", "many", "", "1 2", None])
@pytest.mark.parametrize("cost", [1.0, 9.0])
async def test_a_damaged_state_is_said_by_an_acquire_and_a_peek(
    valkey_server: Server, damage: str | None, cost: float
) -> None:
    async with (
        RedisStorage(
            RedisStorageConfig(url=valkey_server.url, key_prefix="damaged:"), AsyncioRuntime(lambda: NOW)
        ) as storage,
        redis.asyncio.Redis.from_url(valkey_server.url) as client,
    ):
        for limit, field in ((Limit(5, 60.0, "gcra"), "backlog"), (Limit(5, 60.0, "gcra", name="named"), "named.backlog")):
            await storage.acquire("user", limit, now=NOW)
            if damage is None:
                await client.hdel("damaged:{user}", field)
            else:
                await client.hset("damaged:{user}", field, damage)
            for ask in (storage.peek, storage.acquire):
                with pytest.raises(SerializationError, match="a state that cannot be read"):
                    await ask("user", limit, cost, NOW)
        await storage.reset("user")
