"""A sliding log at Redis lies in chunks: it decides as the one in memory, at a cost that does not grow with it."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import resources

import fakeredis
import pytest
import redis.asyncio
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.errors import SerializationError
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, MemoryStorage, RateLimitStorage, RedisStorage, RedisStorageConfig, Request
from ratesim.storage.compression import Codec
from ratesim.storage.redis.log_fields import (
    CHUNK,
    LogRecord,
    entries_of,
    expiry_of,
    fields_of_log,
    is_log_field,
    read_log,
    to_bytes,
)

NOW = 1_700_000_000.0
PERIOD = 60.0
ENTRIES = CHUNK // 16  # of a full chunk
PREFIX = "logs:"

Run = Callable[[Callable[[RateLimitStorage], Awaitable[None]]], None]


def limit_of(rate: float, name: str = "", algorithm: str = "sliding_log") -> Limit:
    return Limit(rate, PERIOD, algorithm, name=name)


def state_of(times: list[float], costs: list[float], now: float = NOW) -> RateLimitState:
    log = [number for pair in zip(times, costs, strict=True) for number in pair]
    used = 0.0
    for cost in costs:
        used += cost
    return RateLimitState(AlgorithmData("sliding_log", {"last": now, "used": used, "log": log}), now, now, len(times))


def filled(entries: int, until: float = NOW) -> RateLimitState:
    """A state whose entries of 1 fill the last nine tenths of a period."""
    step = 0.9 * PERIOD / entries
    return state_of([until - (entries - 1 - i) * step for i in range(entries)], [1.0] * entries, until)


def config_of(server: Server, compression: Codec = "none", **options: object) -> RedisStorageConfig:
    """The options of a storage; without a codec a state that is put lies in chunks at once."""
    return RedisStorageConfig(
        url=server.url,
        key_prefix=PREFIX,
        min_ttl=60.0,
        command_timeout=60.0,
        compression=compression,
        **options,  # type: ignore[arg-type]
    )


def early() -> AsyncioRuntime:
    """A clock by which no state is over."""
    return AsyncioRuntime(lambda: NOW - 1e6)


@asynccontextmanager
async def opened(
    server: Server, compression: Codec = "none", **options: object
) -> AsyncIterator[tuple[RedisStorage, redis.asyncio.Redis]]:
    raw = redis.asyncio.Redis.from_url(server.url)
    async with RedisStorage(config_of(server, compression, **options), early()) as storage:
        try:
            yield storage, raw
        finally:
            await raw.delete(*[key async for key in raw.scan_iter(match=f"{PREFIX}*")], f"{PREFIX}none")
            await raw.aclose()


async def keys_of(raw: redis.asyncio.Redis, key: str) -> list[bytes]:
    """The names of the fields of a hash."""
    names = await raw.hkeys(key)
    return [name for name in names if isinstance(name, bytes)]


# -- as in memory -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["fakeredis", "redis"])
def against(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a test body with a storage that stays open from example to example."""
    loop = asyncio.new_event_loop()

    async def make() -> RateLimitStorage:
        if request.param == "redis":
            server = request.getfixturevalue("valkey_server")
            return await RedisStorage(config_of(server, "lz4"), early()).open()
        fake = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        return await RedisStorage(RedisStorageConfig(min_ttl=60.0, command_timeout=60.0), early(), fake).open()

    storage = loop.run_until_complete(make())
    yield lambda body: loop.run_until_complete(body(storage))
    loop.run_until_complete(storage.reset("user"))
    loop.run_until_complete(storage.close())
    loop.close()


costs = st.sampled_from([0.0, 1.0, 1.0, 1.0, 2.5, 1.0 / 3.0, 17.0, 1e6])
steps = st.sampled_from([0.0, 0.0, 1e-6, 0.01, 0.7, 3.0, -0.5, -4.0, -30.0, 20.0, 45.0, 59.999, 60.0, 60.5, 61.0, 200.0])
logs = st.builds(
    lambda gaps, shares: (gaps, [shares[i % len(shares)] for i in range(len(gaps))]),
    st.integers(0, 4 * ENTRIES).flatmap(
        lambda n: st.just([0.25] * n) | st.lists(st.floats(1e-3, 1.0), min_size=n, max_size=n)
    ),
    st.lists(st.sampled_from([1.0, 0.1, 2.0, 1.0 / 3.0]), min_size=1, max_size=3),
)
actions = st.one_of(
    st.tuples(st.sampled_from(["acquire", "acquire", "acquire", "peek", "named", "joint"]), steps, costs, st.integers(1, 3)),
    st.tuples(st.just("charge"), steps, costs.filter(bool), st.integers(1, 3 * ENTRIES)),
    st.tuples(st.just("put"), steps, logs),
    st.tuples(st.sampled_from(["get", "reset", "bucket"])),
)


@settings(max_examples=examples(100, nightly=5000), suppress_health_check=list(HealthCheck))
@given(rates=st.tuples(*[st.sampled_from([1.0, 5.0, 40.5, 100.0, 1e9])] * 2), acting=st.lists(actions, max_size=25))
def test_it_decides_as_the_log_in_memory(against: Run, rates: tuple[float, float], acting: list[tuple]) -> None:  # type: ignore[type-arg]
    plain, named = limit_of(rates[0]), limit_of(rates[1], "x")

    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        both = (storage, memory)
        await storage.reset("user")
        now, before = NOW, 0.0
        for kind, *rest in acting:
            if kind in ("acquire", "peek", "named", "joint"):
                step, cost, times = rest
                for _ in range(times):
                    now += step
                    asked = (plain, named) if kind == "joint" else named if kind == "named" else plain
                    found = [
                        await (each.peek if kind == "peek" else each.acquire)("user", asked, cost, now) for each in both
                    ]
                    assert found[0] == found[1]
            elif kind == "charge":
                step, cost, count = rest
                stamped = tuple((now + step + i * 0.3, cost, 1) for i in range(count))
                charge = Charge("user", plain, "node", 1, before, stamped)
                before += cost * count
                states = [(await each.charge_many([charge]))[0] for each in both]
                assert states[0] == states[1]
            elif kind == "put":
                step, (gaps, shares) = rest
                times_put = [now + step]
                for gap in gaps[1:]:
                    times_put.append(times_put[-1] + gap)
                state = state_of(times_put[: len(gaps)], shares, now)
                for each in both:
                    await each.set_state("user", state, 1e7)
            elif kind == "reset":
                for each in both:
                    await each.reset("user")
                before = 0.0
            elif kind == "bucket":  # another algorithm begins afresh, and so does the log after it
                bucket = limit_of(rates[0], "", "token_bucket")
                assert await storage.acquire("user", bucket, 1.0, now) == await memory.acquire("user", bucket, 1.0, now)
            for name in ("", "x"):
                assert await storage.get_state("user", name) == await memory.get_state("user", name)

    against(body)


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("entries", [0, 1, ENTRIES, ENTRIES + 1, 10_000, 100_000])
async def test_a_log_of_any_length_is_put_read_and_decided_on(
    valkey_server: Server, entries: int, compression: Codec
) -> None:
    state = filled(entries) if entries else state_of([], [])
    limit = limit_of(entries + 2.0)
    memory = MemoryStorage(runtime=early())
    async with opened(valkey_server, compression) as (storage, _):
        for each in (storage, memory):
            await each.batch_set([("user", state, 1e7)])
        assert await storage.batch_get(["user"]) == [("user", state)]
        for now, cost in [
            (NOW, 1.0),
            (NOW + 1, 1.0),
            (NOW + 1, 1.0),
            (NOW + 1, entries / 2),
            (NOW + 40, 3.0),
            (NOW + 300, 1.0),
        ]:
            assert await storage.peek("user", limit, cost, now) == await memory.peek("user", limit, cost, now)
            assert await storage.acquire("user", limit, cost, now) == await memory.acquire("user", limit, cost, now)
        assert await storage.get_state("user") == await memory.get_state("user")


@settings(max_examples=examples(40, nightly=5000), suppress_health_check=list(HealthCheck))
@given(data=st.data(), period=st.sampled_from([0.1, 1.0 / 3.0, 60.0, 86_400.0]), of=st.sampled_from([3, 30, 64]))
def test_a_wait_among_entries_that_are_close_is_that_of_memory(
    against: Run, data: st.DataObject, period: float, of: int
) -> None:
    """Waits are rounded to a microsecond, and times near now to a quarter of one: which entries are over then is seen."""
    gaps = data.draw(st.lists(st.sampled_from([2.4e-7, 5e-7, 1e-6, 1e-6 + 2.4e-7, 1e-5]), min_size=of, max_size=of))
    times = [NOW + 0.123456789]
    for gap in gaps:
        times.append(times[-1] + gap)
    state = state_of(times, [data.draw(st.sampled_from([1.0, 0.1, 1.0 / 3.0]))] * len(times), times[-1])
    used = state.algorithm_data.values()[1]
    limit = Limit(used, period, "sliding_log")

    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        for each in (storage, memory):
            await each.set_state("user", state, 1e7)
        now = times[-1]
        for share in (1e-3, 0.1, 0.5, 0.9, 1.0):
            for cost in (used * share, min(1.0, used)):
                found = [await each.acquire("user", limit, cost, now) for each in (storage, memory)]
                assert found[0] == found[1]
                now += max(found[0].retry_after - 1e-6, 0.0)

    against(body)


async def assert_no_chunk_is_left_over(storage: RedisStorage, raw: redis.asyncio.Redis) -> None:
    state = await storage.get_state("user")
    assert state is not None
    chunks = [field for field in await keys_of(raw, f"{PREFIX}{{user}}") if field.startswith(b"log:")]
    assert len(chunks) <= len(state.algorithm_data.values()) / 2 / ENTRIES + 1


@pytest.mark.parametrize("joint", [False, True])
async def test_what_is_taken_from_a_log_at_either_end_leaves_no_chunk(valkey_server: Server, joint: bool) -> None:
    limits = (limit_of(1e6), limit_of(1e6, "x"))[: 1 + joint]
    memory = MemoryStorage(runtime=early())
    async with opened(valkey_server) as (storage, raw):
        for now in (
            NOW + 30,
            NOW - 20,
            NOW - 40,
            NOW + 19.0,
            NOW + 50,
        ):  # expires, is ahead of a clock that goes back, expires
            for each in (storage, memory):
                await each.set_state("user", filled(20 * ENTRIES), 1e7)
            assert await storage.acquire("user", limits, 1.0, now) == await memory.acquire("user", limits, 1.0, now)
            assert await storage.get_state("user") == await memory.get_state("user")
            await assert_no_chunk_is_left_over(storage, raw)


async def test_late_charges_between_the_entries_of_a_long_log(valkey_server: Server) -> None:
    limit, memory = limit_of(1e6), MemoryStorage(runtime=early())
    async with opened(valkey_server) as (storage, raw):
        for each in (storage, memory):
            await each.set_state("user", filled(1000), 1e7)
        before = 0.0
        for late in (0.0, 0.1, 1.0, 30.0, 53.0, 55.0, 59.0, 70.0):
            for count in (1, 2 * ENTRIES):
                charge = Charge("user", limit, "n", 1, before, tuple((NOW - late + i * 1e-4, 0.1, 1) for i in range(count)))
                before += sum(cost for _, cost, _ in charge.entries)
                assert await storage.charge_many([charge]) == await memory.charge_many([charge])
                await assert_no_chunk_is_left_over(storage, raw)
        assert await storage.acquire("user", limit, now=NOW + 30) == await memory.acquire("user", limit, now=NOW + 30)
        assert await storage.get_state("user") == await memory.get_state("user")


# -- its cost ---------------------------------------------------------------------------------------------------------


async def calls(raw: redis.asyncio.Redis, work: Awaitable[object]) -> dict[str, int]:
    """Count the commands that the server carries out meanwhile, those of scripts included."""
    await raw.config_resetstat()
    await work
    stats = await raw.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items() if "config" not in name}


async def test_the_commands_of_a_decision_do_not_grow_with_the_log(valkey_server: Server) -> None:
    counted = {}
    async with opened(valkey_server) as (storage, raw):
        for entries in (2 * ENTRIES, 10 * ENTRIES, 320 * ENTRIES):
            await storage.set_state("user", filled(entries), 1e7)
            full, roomy = limit_of(entries), limit_of(entries + 1000.0)
            await storage.acquire("user", roomy, now=NOW)  # the scripts are known, and the key lives long enough
            other = limit_of(1000.0, "other")
            await storage.acquire("user", (roomy, other), now=NOW)
            charge = Charge("user", roomy, "n", 1, 0.0, ((NOW + 0.5, 1.0, 1),))
            work: dict[str, Awaitable[object]] = {
                "denied": storage.acquire("user", full, now=NOW),
                "peek": storage.peek("user", full, now=NOW),
                "admitted": storage.acquire("user", roomy, now=NOW + 0.1),
                "two limits": storage.acquire("user", (roomy, other), now=NOW + 0.2),
                "denied by two": storage.acquire("user", (full, other), now=NOW + 0.2),
                "charge": storage.charge_many([charge]),
            }
            counted[entries] = {name: await calls(raw, each) for name, each in work.items()}
            await storage.reset("user")
    one, *others = counted.values()
    assert all(each == one for each in others)
    assert one["denied"] == one["peek"] == {"evalsha": 1, "hmget": 1, "hget": 1}
    assert sum(one["admitted"].values()) <= 6


async def test_expiry_costs_by_the_chunk_and_not_again(valkey_server: Server) -> None:
    async with opened(valkey_server) as (storage, raw):
        await storage.set_state("user", filled(100 * ENTRIES), 1e7)
        limit = limit_of(1e6)
        half = await calls(raw, storage.acquire("user", limit, now=NOW + 33.0))
        assert half["hget"] <= 60
        after = await calls(raw, storage.acquire("user", limit, now=NOW + 33.0))
        assert sum(after.values()) <= 6
        assert await raw.hlen(f"{PREFIX}{{user}}") <= 60  # what expired is gone
        state = await storage.get_state("user")
        assert state is not None
        assert len(state.algorithm_data.values()) < 2 * 51 * ENTRIES
        whole = await calls(raw, storage.acquire("user", limit, now=NOW + 500.0))
        assert whole.get("hget", 0) <= 2, "what is over as a whole is not read"
        assert await raw.hlen(f"{PREFIX}{{user}}") == 4


async def test_bytes_of_a_long_log_count_and_its_identifier_counts_once(valkey_server: Server) -> None:
    async with opened(valkey_server) as (storage, raw):
        for user in ("a", "b"):
            await storage.set_state(user, filled(10_000), 1e7)
        stats = await storage.get_stats()
        assert stats.entries == 2
        assert 16 * 20_000 < stats.bytes < 24 * 20_000
        await storage.reset("a")
        assert [key async for key in raw.scan_iter(match=f"{PREFIX}*")] == [f"{PREFIX}{{b}}".encode()]
        assert await storage.cleanup_expired() == 0  # by its clock, nothing is over
    async with RedisStorage(config_of(valkey_server)) as later:
        await later.set_state("a", filled(100), 0.001)
        while await later.cleanup_expired() == 0:  # noqa: ASYNC110 - time sets no event
            await asyncio.sleep(0.01)
        assert await later.get_state("a") is None


async def test_what_changes_nothing_writes_nothing(valkey_server: Server) -> None:
    async with opened(valkey_server) as (storage, raw):
        await storage.set_state("user", filled(100), 1e7)
        before = await raw.hgetall(f"{PREFIX}{{user}}")
        for now in (NOW, NOW + 20, NOW + 500):
            await storage.peek("user", limit_of(100), now=now)
        await storage.acquire("user", limit_of(100), 10.0, NOW + 5)
        await storage.acquire("user", limit_of(100), 200.0, NOW + 5)
        assert await raw.hgetall(f"{PREFIX}{{user}}") == before


# -- a state of the version before, a server's clock, damage ----------------------------------------------------------


@pytest.mark.parametrize("entries", [0, 3, 200])
@pytest.mark.parametrize("name", ["", "x"])
async def test_a_log_that_was_text_is_read_and_moved(valkey_server: Server, entries: int, name: str) -> None:
    state = filled(entries) if entries else state_of([], [])
    data = state.algorithm_data.fields
    log = data["log"]
    assert isinstance(log, list)
    text = {
        "algorithm": "sliding_log",
        "created_at": repr(NOW),
        "last_accessed": repr(NOW),
        "expires_at": repr(NOW + 1e7),
        "last": f"{NOW:.17g}",
        "used": f"{data['used']:.17g}",
        "log": " ".join(f"{number:.17g}" for number in log),
        "request_count": str(entries),
        "w:n": "1 3",
    }
    prefix = f"{name}." if name else ""
    limit, memory = limit_of(entries + 2.0, name), MemoryStorage(runtime=early())
    async with opened(valkey_server) as (storage, raw):
        key = f"{PREFIX}{{user}}"
        await raw.hset(key, mapping={prefix + field: value for field, value in text.items()})
        found = await storage.get_state("user", name)
        assert found is not None
        assert (found.algorithm_data, found.request_count) == (state.algorithm_data, entries)
        await memory.set_state("user", found, 1e7, name)
        assert await storage.peek("user", limit, now=NOW) == await memory.peek("user", limit, now=NOW)
        assert b"last" in {field.rpartition(b".")[2] for field in await keys_of(raw, key)}  # a look moves nothing
        for cost in (1.0, 1.0, 1.0):
            assert await storage.acquire("user", limit, cost, NOW + 1) == await memory.acquire("user", limit, cost, NOW + 1)
        assert await storage.get_state("user", name) == await memory.get_state("user", name)
        left = {field.rpartition(b".")[2].decode() for field in await keys_of(raw, key)}
    assert {each for each in left if not is_log_field(each)} == {"algorithm", "created_at", "w:n"}


async def test_a_log_by_the_clock_of_the_server(valkey_server: Server) -> None:
    limit = limit_of(ENTRIES + 5.0)
    async with opened(valkey_server, clock="server") as (storage, raw):
        seconds, _ = await raw.time()
        await storage.set_state("user", filled(ENTRIES + 4, float(seconds)), 1000.0)
        head = await raw.hget(f"{PREFIX}{{user}}", "log_head")
        assert isinstance(head, bytes)
        assert expiry_of(head) == pytest.approx(seconds + 1000.0, abs=60.0)
        decisions = await storage.acquire_many([Request("user", limit), Request("user", limit)])
        assert [decision.allowed for decision in decisions] == [True, False]
        state = await storage.get_state("user")
        assert state is not None
        assert len(state.algorithm_data.values()) == 2 + 2 * (ENTRIES + 5)


DAMAGE: dict[str, dict[str, bytes]] = {
    "a short head": {"log_head": b"short"},
    "no numbers": {"log_head": struct.pack(">8d", *[math.nan] * 8)},
    "chunks that are not there": {"log_head": struct.pack(">8d", NOW * 2, NOW, 3, NOW, 3, 1e12, 512e12 + 1, NOW)},
    "a chunk that is not there": {"log_head": struct.pack(">8d", NOW * 2, NOW, 3, NOW, 3, 8, 513, NOW)},
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_log_fails_alone_and_at_once(valkey_server: Server, damage: str) -> None:
    limit = limit_of(1000.0)
    async with opened(valkey_server) as (storage, raw):
        for user in ("bad", "good"):
            await storage.set_state(user, filled(100), 1e7)
        for field, value in DAMAGE[damage].items():
            await raw.hset(f"{PREFIX}{{bad}}", field, value)
        with pytest.raises(SerializationError):
            await storage.get_state("bad")
        for verb in (storage.acquire, storage.peek):
            for asked in (limit, (limit, limit_of(5.0, "x"))):
                with pytest.raises(SerializationError):
                    await verb("bad", asked, 1.0, NOW + 60.0)
        assert (await storage.acquire("good", limit, now=NOW)).allowed


# -- the form ---------------------------------------------------------------------------------------------------------


@given(entries=st.integers(0, 3 * ENTRIES), seed=st.floats(0.0, 1e11))
def test_a_record_is_read_as_it_was_written(entries: int, seed: float) -> None:
    values = [seed, -0.0, *[seed + i / 3 for i in range(2 * entries)]]
    record = LogRecord(seed + 1.0, seed, float(entries), values)
    fields = fields_of_log(record)
    assert read_log(fields) == record
    assert all(map(is_log_field, fields))
    assert {len(fields[name]) for name in fields if ":" in name} <= {CHUNK}
    assert entries_of(to_bytes(values[2:])) == values[2:]


@given(number=st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, 2.2250738585072014e-308, math.inf]))
def test_a_server_without_the_library_struct_writes_the_same_bytes(number: float) -> None:
    lua = (resources.files("ratesim.storage.redis") / "lua" / "doubles.lua").read_text("utf-8")
    fake = fakeredis.FakeRedis(server_type="valkey", protocol=2)
    body = """
        local text = struct.pack('>dd', 1, tonumber(ARGV[1]))
        local _, second, place = struct.unpack('>dd', '12345678' .. text, 9)
        return {text, string.format('%.17g', second), place}
    """
    packed, text, place = fake.eval(lua + body, 0, repr(number))
    assert packed == struct.pack(">dd", 1.0, number)
    assert struct.pack(">d", float(text)) == struct.pack(">d", number)
    assert place == 25
