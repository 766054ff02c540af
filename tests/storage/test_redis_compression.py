"""Compressed metadata and packed states at Redis: every node reads them, whatever codec it writes itself."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import fakeredis
import pytest
import redis.asyncio
from every_backend import Clock

from ratesim.errors import SerializationError
from ratesim.runtime import AsyncioRuntime
from ratesim.state import AlgorithmData, RateLimitState, Watermark
from ratesim.storage import RedisStorage, RedisStorageConfig
from ratesim.storage.compression import CODECS

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
            config = RedisStorageConfig(url=url, key_prefix=prefix, min_ttl=60.0, compression=codec)
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
