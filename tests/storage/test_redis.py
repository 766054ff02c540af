"""Redis: its keys and its failures. What it decides: test_conformance.py and test_twins.py."""

from __future__ import annotations

import math

import pytest
import redis.asyncio

from ratesim import Limit
from ratesim.errors import ConfigurationError, StorageConnectionError
from ratesim.servers import Server
from ratesim.storage import RedisStorage, RedisStorageConfig


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
    assert 0 < milliseconds <= math.ceil(12000)


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
        with pytest.raises(StorageConnectionError, match=r"127\.0\.0\.1:1") as caught:
            await storage.acquire("user", Limit(10, 60.0), now=1.0)
        assert not (await storage.health_check()).healthy
    assert "secret" not in str(caught.value) + repr(storage)
    assert caught.value.sent is False


def test_a_prefix_with_braces_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="braces"):
        RedisStorageConfig(key_prefix="{x}:")
