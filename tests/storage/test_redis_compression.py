"""Compressed metadata and packed states at Redis: every node reads them, whatever codec it writes itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import fakeredis
import numpy as np
import pytest
import redis.asyncio
from every_backend import Clock

from ratesim import Limit
from ratesim.errors import BatchError, SerializationError, StorageConnectionError, StorageUnavailableError
from ratesim.runtime import AsyncioRuntime
from ratesim.state import AlgorithmData, RateLimitState, Watermark
from ratesim.storage import Charge, MemoryStorage, RedisStorage, RedisStorageConfig, Request
from ratesim.storage.compression import CODECS
from ratesim.storage.redis.live_form import make_live
from ratesim.storage.redis.scripts import in_full
from ratesim.storage.redis.single_limit import MOST_FLOATS
from ratesim.storage.redis.state_fields import PACKED_FROM

KEY = "user:1"
SHORT = {"plan": "professional"}
LONG = {f"account_{number}": f"team-payments-{number}, eu-west, \N{EURO SIGN}" for number in range(40)}


class Nodes:
    """Storages of one prefix, each of which writes another codec; and a client that looks at the hash."""

    def __init__(self, raw: redis.asyncio.Redis, prefix: str) -> None:
        self.raw = raw
        self.key = f"{prefix}{{{KEY}}}"
        self.of: dict[str, RedisStorage] = {}


@pytest.fixture(params=["fakeredis", "redis"])
async def nodes(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Nodes]:
    prefix = f"{uuid.uuid4().hex[:12]}:"
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            url = request.getfixturevalue("valkey_server").url
            raw = redis.asyncio.Redis.from_url(url)
        else:
            url = RedisStorageConfig().url
            raw = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        nodes = Nodes(raw, prefix)
        for codec in CODECS:
            config = RedisStorageConfig(url=url, key_prefix=prefix, min_ttl=60.0, compression=codec, command_timeout=60.0)
            connection = raw if request.param == "fakeredis" else None
            runtime = AsyncioRuntime(clock, clock)
            nodes.of[codec] = await stack.enter_async_context(RedisStorage(config, runtime, connection))
        yield nodes
        if request.param == "redis":
            await nodes.of["none"].reset(KEY)
            await raw.aclose()


def bucket(clock: Clock, metadata: dict[str, str]) -> RateLimitState:
    data = AlgorithmData("token_bucket", {"last_refill": clock.now, "tokens": 3.0})
    return RateLimitState(data, clock.now, clock.now, 5, metadata, {"node": Watermark(3, 4.5)})


@pytest.mark.parametrize("codec", CODECS)
async def test_metadata_of_every_codec_is_read_by_every_node(nodes: Nodes, clock: Clock, codec: str) -> None:
    for metadata in ({}, SHORT, LONG):
        state = bucket(clock, metadata)
        for name in ("", "other"):
            await nodes.of[codec].set_state(KEY, state, name=name)
        for reader in nodes.of.values():
            assert await reader.get_state(KEY) == state
            assert await reader.get_state(KEY, "other") == state


async def test_long_metadata_is_shorter_at_the_server_and_short_metadata_stays_readable(nodes: Nodes, clock: Clock) -> None:
    for codec in CODECS:
        sizes = []
        for metadata in (SHORT, LONG):
            await nodes.of[codec].set_state(KEY, bucket(clock, metadata))
            sizes.append(len(await nodes.raw.hget(nodes.key, "metadata")))
            if metadata is SHORT or codec == "none":
                assert (await nodes.raw.hget(nodes.key, "metadata")).startswith(b'{"')
        assert codec == "none" or sizes[1] < 1000, codec


async def test_damaged_metadata_is_said_and_harms_no_other_limit(nodes: Nodes, clock: Clock) -> None:
    await nodes.of["zstd"].set_state(KEY, bucket(clock, LONG))
    await nodes.of["zstd"].set_state(KEY, bucket(clock, LONG), name="other")
    blob = await nodes.raw.hget(nodes.key, "metadata")
    for damaged in (b"", blob[:-1], blob[:20] + b"\xff" + blob[21:], b"\x09" + blob[1:], b"\x00[]", b"\xff\xfe"):
        await nodes.raw.hset(nodes.key, "metadata", damaged)
        for reader in nodes.of.values():
            with pytest.raises(SerializationError, match="reset it"):
                await reader.get_state(KEY)
            assert await reader.get_state(KEY, "other") == bucket(clock, LONG)


async def test_a_client_that_decodes_answers_reads_blobs(clock: Clock) -> None:
    server = fakeredis.FakeServer(server_type="valkey")
    connection = fakeredis.FakeAsyncRedis(server=server, decode_responses=True, protocol=2)
    config = RedisStorageConfig(compression="lz4", min_ttl=60.0)
    async with RedisStorage(config, AsyncioRuntime(clock, clock), connection) as storage:
        await storage.set_state(KEY, bucket(clock, LONG))
        assert await storage.get_state(KEY) == bucket(clock, LONG)


# -- logs that are written whole ----------------------------------------------------------------------------------------

ENTRIES = 500
LOG = Limit(ENTRIES + 2.5, 600.0, "sliding_log")
NAMED = Limit(ENTRIES + 1.0, 600.0, "sliding_log", name="slow_one")
CHARGE = ((1_700_000_100.0, 1.5, 1),)


def logged(clock: Clock, entries: int = ENTRIES) -> RateLimitState:
    """Return a log whose entries have times and costs of many digits."""
    rng = np.random.default_rng(entries)
    times = np.round(clock.now - 60.0 + np.sort(rng.uniform(0.0, 60.0, entries)), 6)
    costs = rng.choice([1.0, 0.1, 1e-3, 1.0 / 3.0], entries)
    log = np.column_stack([np.unique(times), costs]).ravel().tolist()
    used = 0.0
    for cost in log[1::2]:
        used += cost
    fields = {"last": clock.now, "used": used, "log": log}
    return RateLimitState(AlgorithmData("sliding_log", fields), clock.now - 60.0, clock.now, entries, SHORT)


async def is_packed(nodes: Nodes, prefix: str = "") -> bool:
    return bool(await nodes.raw.hexists(nodes.key, f"{prefix}packed"))


@pytest.mark.parametrize("codec", CODECS)
async def test_a_log_of_every_codec_is_read_by_every_node_bit_for_bit(nodes: Nodes, clock: Clock, codec: str) -> None:
    state = logged(clock)
    for name in ("", "slow_one"):
        await nodes.of[codec].set_state(KEY, state, name=name)
        assert await is_packed(nodes, f"{name}." if name else "") == (codec != "none")
        for reader in nodes.of.values():
            assert await reader.get_state(KEY, name) == state
            assert (await reader.batch_get([KEY]))[0][1] == state


async def test_a_short_log_stays_readable(nodes: Nodes, clock: Clock) -> None:
    for storage in nodes.of.values():
        await storage.set_state(KEY, logged(clock, 9))
        assert not await is_packed(nodes)
        assert await storage.get_state(KEY) == logged(clock, 9)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("verb", ["acquire", "denied", "peek", "charge", "several limits"])
async def test_whoever_meets_a_packed_log_decides_on_it_as_memory_does(
    nodes: Nodes, clock: Clock, codec: str, verb: str
) -> None:
    memory = MemoryStorage(runtime=nodes.of[codec].runtime)
    answers = []
    for storage in (memory, nodes.of[codec]):
        await storage.set_state(KEY, logged(clock))
        await storage.set_state(KEY, logged(clock), name="slow_one")
        match verb:
            case "acquire":
                answer: object = [await storage.acquire(KEY, LOG, 0.75) for _ in range(3)]
            case "denied":
                answer = await storage.acquire(KEY, LOG, 2.0 * ENTRIES / 3.0)
            case "peek":
                answer = await storage.peek(KEY, LOG, 20.0)
            case "charge":
                answer = await storage.charge_many([Charge(KEY, LOG, "n", 1, 0.0, CHARGE)] * 2)  # counts once
            case "several limits":
                answer = await storage.acquire(KEY, (LOG, NAMED), 1.0)
        states = [await storage.get_state(KEY, name) for name in ("", "slow_one")]
        answers.append((answer, states))
    assert answers[0] == answers[1]
    assert not await is_packed(nodes)


async def test_a_batch_over_packed_and_other_states_is_decided_in_order_and_once(nodes: Nodes, clock: Clock) -> None:
    storage = nodes.of["lz4"]
    memory = MemoryStorage(runtime=storage.runtime)
    others = [f"{KEY} {place}" for place in range(6)]
    for each in (memory, storage):
        for place, other in enumerate(others):
            await each.set_state(other, logged(clock, 100 + place))
    requests = [Request(other, LOG, 1.0 + place) for place in range(5) for other in [*others, f"{KEY} new"]]
    assert await storage.acquire_many(requests) == await memory.acquire_many(requests)
    for other in [*others, f"{KEY} new"]:
        assert await storage.get_state(other) == await memory.get_state(other)
        await storage.reset(other)


async def test_a_packed_log_that_is_over_or_of_another_algorithm_is_as_none(nodes: Nodes, clock: Clock) -> None:
    storage = nodes.of["zstd"]
    await storage.set_state(KEY, logged(clock), ttl=5.0)
    clock.now += 6.0
    assert await storage.get_state(KEY) is None
    assert (await storage.acquire(KEY, LOG)).remaining == LOG.rate - 1.0
    await storage.set_state(KEY, logged(clock))
    bucket = Limit(10, 60.0, "token_bucket")
    assert (await storage.acquire(KEY, bucket)).remaining == 9.0
    assert not await is_packed(nodes)


async def test_damage_in_a_packed_log_is_said_by_every_verb_and_harms_no_other(nodes: Nodes, clock: Clock) -> None:
    storage = nodes.of["lz4"]
    await storage.set_state(KEY, logged(clock))
    blob = await nodes.raw.hget(nodes.key, "packed")
    for damaged in (b"", b"\x09", blob[:-1], blob[:50] + bytes((blob[50] ^ 1,)) + blob[51:]):
        await nodes.raw.hset(nodes.key, "packed", damaged)
        for attempt in (
            lambda: storage.acquire(KEY, LOG),
            lambda: storage.peek(KEY, LOG),
            lambda: storage.get_state(KEY),
            lambda: storage.charge_many([Charge(KEY, LOG, "n", 1, 0.0, CHARGE)]),
        ):
            with pytest.raises((SerializationError, BatchError), match="reset it"):
                await attempt()
        assert (await storage.acquire(f"{KEY} sound", LOG)).allowed
        await storage.reset(f"{KEY} sound")
    await nodes.raw.hset(nodes.key, "algorithm", "of the future")
    with pytest.raises(SerializationError, match="of the future"):
        await storage.get_state(KEY)


async def test_many_nodes_at_once_on_a_packed_log_admit_exactly_the_limit(nodes: Nodes, clock: Clock) -> None:
    state = logged(clock)
    limit = Limit(ENTRIES + 2.5, 600.0, "sliding_log")
    memory = MemoryStorage(runtime=nodes.of["lz4"].runtime)
    await memory.set_state(KEY, state)
    room = int((await memory.peek(KEY, limit)).remaining)
    await nodes.of["lz4"].set_state(KEY, state)
    tasks = [storage.acquire(KEY, limit) for storage in nodes.of.values() for _ in range(room // 3)]
    decisions = await asyncio.gather(*tasks)
    assert sum(decision.allowed for decision in decisions) == room
    assert len(decisions) > room


async def test_decisions_among_states_that_are_put_again_and_again_lose_no_answer(nodes: Nodes, clock: Clock) -> None:
    state = logged(clock)

    async def put() -> None:
        for _ in range(40):
            await nodes.of["snappy"].set_state(KEY, state)

    async def ask(storage: RedisStorage) -> None:
        for _ in range(20):
            with suppress(StorageUnavailableError):  # the states were faster
                assert (await storage.acquire(KEY, LOG)).allowed

    await asyncio.gather(put(), *map(ask, nodes.of.values()))
    assert await nodes.of["gzip"].get_state(KEY) is not None


async def test_a_server_that_forgot_its_scripts_unpacks_as_well(nodes: Nodes, clock: Clock) -> None:
    storage = nodes.of["gzip"]
    await storage.set_state(KEY, logged(clock))
    await nodes.raw.script_flush()
    assert (await storage.acquire(KEY, LOG)).allowed


async def test_what_was_unpacked_before_a_timeout_stays(nodes: Nodes, clock: Clock) -> None:
    keys = []
    for place in range(20):
        await nodes.of["lz4"].set_state(f"{KEY} {place}", logged(clock))
        keys.append(nodes.key.replace(KEY, f"{KEY} {place}").encode())
    done = 0

    async def run(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        nonlocal done
        if done >= 3:
            raise TimeoutError
        done += 1
        return [
            await nodes.raw.execute_command(*(in_full(command) if command[0] == "EVALSHA" else command))
            for command in commands
        ]

    with pytest.raises(TimeoutError):
        await make_live(keys, run)
    packed = [await nodes.raw.hexists(key, "packed") for key in keys]
    assert 0 < sum(packed) < 20
    for place in range(20):
        assert (await nodes.of["none"].acquire(f"{KEY} {place}", LOG)).allowed
        await nodes.of["none"].reset(f"{KEY} {place}")


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("exchange", range(5))
async def test_a_connection_that_is_lost_while_a_log_is_unpacked_counts_nothing_twice(
    clock: Clock, exchange: int, lost: str
) -> None:
    connection = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
    runtime = AsyncioRuntime(clock, clock)
    config = RedisStorageConfig(compression="zstd", min_ttl=60.0)
    async with RedisStorage(config, runtime, connection) as storage:
        await storage.set_state(KEY, logged(clock))
        send, sent = storage.driver._connections.send, 0

        async def lossy(commands: Sequence[tuple[Any, ...]], *reads: Any) -> list[Any]:
            nonlocal sent
            sent += 1
            if sent == exchange + 1 and lost == "before":
                raise redis.exceptions.ConnectionError("reset by peer")
            answers = await send(commands, *reads)
            if sent == exchange + 1:
                raise redis.exceptions.ConnectionError("reset by peer")
            return answers

        storage.driver._connections.send = lossy  # type: ignore[method-assign]
        counted = 0
        with suppress(StorageConnectionError):
            counted = int((await storage.acquire(KEY, LOG)).allowed)
        storage.driver._connections.send = send  # type: ignore[method-assign]
        state = await storage.get_state(KEY)
        assert state is not None
        assert counted <= state.request_count - ENTRIES <= 1
        assert (await storage.acquire(KEY, LOG)).allowed


async def test_a_name_that_is_no_text_is_damage_and_repeats_nothing(nodes: Nodes, clock: Clock) -> None:
    await nodes.of["lz4"].set_state(KEY, logged(clock))
    await nodes.raw.hset(nodes.key, b"\xff.packed", b"x")
    with pytest.raises(SerializationError, match="not text"):
        await nodes.of["lz4"].acquire(KEY, LOG)


def test_a_state_that_is_decided_by_a_script_of_its_own_is_never_packed() -> None:
    assert PACKED_FROM > MOST_FLOATS  # lua/decide.lua knows no packed states


async def test_cleanup_and_reset_take_packed_states_away(nodes: Nodes, clock: Clock) -> None:
    storage = nodes.of["zstd"]
    await storage.set_state(KEY, logged(clock), ttl=-1e6)
    assert await storage.cleanup_expired() == 1
    await storage.set_state(KEY, logged(clock))
    await storage.reset(KEY)
    assert not await nodes.raw.exists(nodes.key)


@pytest.mark.parametrize("server", ["valkey_cluster_server", "valkey_sentinel_server"])
async def test_packed_logs_are_met_on_every_topology(server: str, request: pytest.FixtureRequest, clock: Clock) -> None:
    config = RedisStorageConfig(
        url=request.getfixturevalue(server).url, key_prefix=f"{uuid.uuid4().hex[:12]}:", compression="lz4", min_ttl=60.0
    )
    users = [f"user:{place}" for place in range(20)]
    requests = [Request(user, LOG, cost) for cost in (0.5, 1.0, 2.0) for user in users]
    memory = MemoryStorage(runtime=AsyncioRuntime(clock, clock))
    async with RedisStorage(config, memory.runtime) as storage:
        for each in (memory, storage):
            await each.batch_set([(user, logged(clock, 100 + place), None) for place, user in enumerate(users)])
        assert await storage.acquire_many(requests) == await memory.acquire_many(requests)
        assert await storage.batch_get(users) == await memory.batch_get(users)
        for user in users:
            await storage.reset(user)
