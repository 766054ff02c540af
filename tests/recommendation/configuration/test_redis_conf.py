"""redis.conf: a real server starts with it, and does what it says."""

from __future__ import annotations

import math

import pytest
import redis
from configuring import HYBRID, REDIS, a_scenario, directives_of, valkey_with

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.recommendation.configuration.redis_conf import HEADROOM, LEAST, maxmemory, redis_conf
from ratesim.storage import Request, open_storage

NOW = 1_700_000_000.0
DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": ""}


@pytest.mark.servers
@pytest.mark.parametrize(
    ("storage", "requirements"),
    [(REDIS, {}), (HYBRID, {"persistence": "session", "max_over_admission": 0}), (REDIS, {"persistence": "durable"})],
)
def test_a_server_starts_with_it_and_has_every_directive(storage, requirements):
    fragment = redis_conf(a_scenario(**requirements), storage, 300.0, "Use it.")
    directives = directives_of(fragment)
    assert len(directives) >= 8
    with valkey_with(fragment) as url, redis.Redis.from_url(url, decode_responses=True) as client:
        for name, value in directives.items():
            assert client.config_get(name) == {name: value}


def test_an_evicted_key_is_refused_where_nothing_may_be_admitted_too_much():
    def policy(allowed):
        return directives_of(redis_conf(a_scenario(max_over_admission=allowed), REDIS))["maxmemory-policy"]

    assert policy(0) == "noeviction"
    assert policy("1%") == policy(None) == "volatile-ttl"


def test_what_must_be_durable_is_on_the_disk_before_the_answer_and_nothing_else_is_written():
    durable = directives_of(redis_conf(a_scenario(persistence="durable"), REDIS))
    assert DURABLE.items() <= durable.items()
    for level in ("none", "session"):
        directives = directives_of(redis_conf(a_scenario(persistence=level), REDIS))
        assert (directives["appendonly"], directives["save"]) == ("no", "")


def test_memory_is_for_the_keys_asked_for_with_headroom():
    assert maxmemory(1_000_000, 300.0) == math.ceil(300e6 * HEADROOM / 2**20) * 2**20
    assert maxmemory(1, 300.0) == LEAST
    assert maxmemory(1_000_000, math.nan) == maxmemory(1_000_000, 512.0)
    assert directives_of(redis_conf(a_scenario(key_count=1_000_000), REDIS, 300.0))["maxmemory"] == "450887680"


def test_there_are_connections_for_every_node():
    scenario = a_scenario().model_copy(update={"deployment": a_scenario().deployment.model_copy(update={"nodes": 1000})})
    directives = directives_of(redis_conf(scenario, "redis://localhost?pool_size=100"))
    assert int(directives["maxclients"]) >= 1000 * 100
    assert directives_of(redis_conf(a_scenario(), REDIS))["maxclients"] == "10000"


async def filled(url: str, keys: int) -> float:
    """Ask for so many keys; the bytes that the server says one of them takes."""
    limit = Limit.parse("100/minute", "token_bucket")
    async with open_storage(f"{url}?min_ttl=3600") as storage:
        for first in range(0, keys, 5000):
            await storage.acquire_many([Request(f"user:{i:08d}", limit, 1.0, NOW) for i in range(first, first + 5000)])
        stats = await storage.get_stats()
        assert stats.entries == keys
        return stats.bytes / stats.entries


@pytest.mark.servers
async def test_the_headroom_covers_what_is_not_counted_in_a_key():
    keys = 40_000
    with valkey_with(redis_conf(a_scenario(key_count=keys), REDIS, 300.0)) as url, redis.Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        each = await filled(url, keys)
        used = client.info("memory")["used_memory"] - before
        assert keys * each <= used * 1.05
        assert used < keys * each * HEADROOM
        assert client.info("stats")["evicted_keys"] == 0


@pytest.mark.servers
@pytest.mark.parametrize("allowed", [0, "1%"])
async def test_a_full_server_refuses_or_evicts_as_was_decided(allowed):
    scenario = a_scenario(max_over_admission=allowed)
    fragment = redis_conf(scenario, REDIS).replace(f"maxmemory {LEAST}", "maxmemory 3000000")
    with valkey_with(fragment) as url, redis.Redis.from_url(url) as client:
        limit = Limit.parse("100/minute", "token_bucket")
        async with open_storage(f"{url}?min_ttl=3600") as storage:
            asked = [Request(f"user:{i}", limit, 1.0, NOW) for i in range(20_000)]
            if allowed == 0:
                with pytest.raises(StorageError, match="maxmemory"):
                    await storage.acquire_many(asked)
                assert client.info("stats")["evicted_keys"] == 0
            else:
                assert all(decision.allowed for decision in await storage.acquire_many(asked))
                assert client.info("stats")["evicted_keys"] > 0
