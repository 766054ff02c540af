"""Keys that L2 refuses for good, among good ones: on real servers, by every policy, with two nodes.

Good keys reach L2 once and keep to their limit. A refused key is counted by each node alone.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import redis.asyncio

from ratesim import Limit
from ratesim.errors import KeyRefusedError
from ratesim.servers import Server
from ratesim.storage import (
    HybridStorage,
    HybridStorageConfig,
    PostgresStorage,
    PostgresStorageConfig,
    RedisStorage,
    RedisStorageConfig,
    Request,
)

PERIOD = 1e9
SHARED = Limit(10, PERIOD, "fixed_window")
OWN = Limit(1e6, PERIOD, "fixed_window")
FIVE = Limit(5, PERIOD, "fixed_window")
HUGE = Limit(1e12, PERIOD, "fixed_window")
POISONS = {"redis": ["foreign", "damaged"], "postgres": ["damaged", "n\0l", "x" * 3000]}
HALF = "half \ud800"
ROUNDS = 7  # of a request of each node for each key
POLICIES: list[dict[str, Any]] = [
    *({"write": write} for write in ("write_back", "write_behind", "write_through", "write_around")),
    *({"write": write, "read": "read_through"} for write in ("write_back", "write_around")),
    {"write": "write_behind", "read": "refresh_ahead", "refresh_after": 0.001},
    {"consistency": "session"},
    {"consistency": "session", "write": "write_around"},
    {"consistency": "strong"},
    {"consistency": "lease"},
    *({"write": write, "sync": "state"} for write in ("write_back", "write_behind", "write_through")),
    {"on_store_failure": "fail_closed"},
]


@contextlib.asynccontextmanager
async def world(kind: str, server: Server, policies: dict[str, Any]) -> AsyncIterator[list[HybridStorage]]:
    """Two nodes before one server on which keys are damaged; it is cleaned up at the end."""
    tag = f"p_{uuid.uuid4().hex[:10]}"
    nodes: list[HybridStorage] = []
    for number in range(2):
        l2 = (
            RedisStorage(RedisStorageConfig(url=server.url, key_prefix=f"{tag}:", max_batch=4))
            if kind == "redis"
            else PostgresStorage(PostgresStorageConfig(url=server.url, table_name=tag, max_batch=4, command_timeout=10.0))
        )
        options = {"sync_interval": 0.02, "linger": 0.001, "flush_batch": 8, "nodes": 2, "node": f"n{number}"} | policies
        nodes.append(HybridStorage(l2, HybridStorageConfig(**options)))
    if kind == "redis":
        raw = redis.asyncio.Redis.from_url(server.url)
        await raw.set(f"{tag}:{{foreign}}", "of somebody else")
        await raw.hset(f"{tag}:{{damaged}}", mapping={"algorithm": "fixed_window", "expires_at": "later"})
        try:
            yield nodes
        finally:
            await raw.delete(*[key async for key in raw.scan_iter(match=f"{tag}:*")])
            await raw.aclose()
        return
    async with nodes[0].l2, await psycopg.AsyncConnection.connect(server.url, autocommit=True) as admin:
        await nodes[0].l2.acquire("damaged", FIVE)
        table, counters = nodes[0].l2.driver.tables  # type: ignore[attr-defined]
        await admin.execute(f"UPDATE {table} SET state = '{{NULL,1}}', watermarks = '[1]'".encode())
        try:
            yield nodes
        finally:
            await admin.execute(f"DROP TABLE {table}, {counters} CASCADE".encode())


async def count_at_l2(node: HybridStorage, key: str) -> float:
    state = await node.l2.get_state(key)
    assert state is not None, key
    count = state.algorithm_data.fields["count"]
    assert isinstance(count, float)
    return count


@pytest.mark.sampled(1)
@pytest.mark.parametrize("policies", POLICIES, ids=lambda policies: " ".join(map(str, policies.values())))
@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_good_keys_arrive_once_beside_poisoned_ones(
    kind: str, policies: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue({"redis": "valkey_server", "postgres": "postgres_server"}[kind])
    poisons, sessions = list(POISONS[kind]), {}
    if policies.get("sync") == "state":
        poisons.remove("damaged")  # it is overwritten
    far = policies.get("consistency") in ("strong", "lease")
    shared = [] if policies.get("sync") == "state" else [f"shared {i}" for i in range(3)]
    async with world(kind, server, policies) as nodes:
        admitted: dict[tuple[int, str], float] = {}

        async def ask(number: int, key: str, limit: Limit, cost: float = 1.0) -> None:
            decision = await nodes[number].acquire(key, limit, cost, session=sessions.get((number, key)))
            sessions[number, key] = decision.session
            admitted[number, key] = admitted.get((number, key), 0.0) + cost * decision.allowed

        for node in nodes:
            await node.open()
        for round_ in range(ROUNDS):
            for number, node in enumerate(nodes):
                for poison in poisons:
                    await ask(number, poison, FIVE)
                with pytest.raises(KeyRefusedError, match="surrogate"):
                    await node.acquire(HALF, FIVE)
                for key in shared:
                    await ask(number, key, SHARED)
                for key in range(6):
                    await ask(number, f"own {number} {key}", OWN)
                await ask(number, f"huge {number}", HUGE, 1e12 if round_ == 0 else 1.0)
                assert await node.flush()
        for node in nodes:
            stats = node.sync_stats()
            assert (stats.unflushed, stats.failed_flushes, stats.background_failures) == (0.0, 0, 0)
            assert stats.dropped_cost == 0.0
            assert stats.fallback_decisions == 0
            assert (await node.health_check()).healthy
            refused = 0.0 if far else 5.0 * len(poisons)
            assert (stats.refused_cost, stats.refused_requests) == (refused, refused)
        for number in range(2):
            assert [admitted[number, poison] for poison in poisons] == [5.0] * len(poisons)
            assert admitted[number, f"huge {number}"] == 1e12
            if policies.get("consistency") != "lease":  # what is out on lease is spent at L2
                for key in [f"own {number} {i}" for i in range(6)]:
                    assert await count_at_l2(nodes[number], key) == admitted[number, key] == ROUNDS
        for key in shared:
            both = admitted[0, key] + admitted[1, key]
            assert 10.0 <= both <= 11.0 or (policies.get("consistency") == "lease" and both <= 10.0)
            if policies.get("consistency") != "lease":
                assert await count_at_l2(nodes[0], key) == both
        for node in nodes:
            await node.close()


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_a_key_that_is_mended_is_shared_again(kind: str, request: pytest.FixtureRequest) -> None:
    """L1 asks again after l1_ttl. What was refused before stays lost, and counted."""
    server = request.getfixturevalue({"redis": "valkey_server", "postgres": "postgres_server"}[kind])
    async with world(kind, server, {"l1_ttl": 0.05, "write": "write_through"}) as (node, other):
        await node.open()
        await other.open()
        for _ in range(2):
            assert await node.acquire("damaged", FIVE)
        assert node.sync_stats().refused_cost == 2.0
        await other.l2.reset("damaged")
        for _ in range(3):
            assert await other.acquire("damaged", FIVE)
        while (await node.peek("damaged", FIVE)).remaining == 3.0:
            await node.runtime.sleep(0.01)
        assert (await node.peek("damaged", FIVE)).remaining == 2.0
        assert await node.acquire("damaged", FIVE)
        assert await count_at_l2(node, "damaged") == 4.0
        assert node.sync_stats().refused_cost == 2.0
        await node.close()
        await other.close()


async def test_a_batch_of_512_keys_of_which_one_is_refused_flushes_511(
    postgres_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_server.url
    l2 = PostgresStorage(PostgresStorageConfig(url=url, table_name=f"b_{uuid.uuid4().hex[:10]}", command_timeout=20.0))
    node = HybridStorage(l2, HybridStorageConfig(sync_interval=1e6, max_wait=60.0))
    await node.open()
    names = [f"key {i}" for i in range(511)]
    names.insert(300, "nul\0" + "y" * 200)
    await node.acquire_many([Request(name, OWN) for name in names])
    assert await node.flush()
    stats = node.sync_stats()
    assert (stats.flushes, stats.flushed, stats.refused_requests, stats.unflushed) == (1, 511, 1, 0.0)
    (record,) = [record for record in caplog.records if "refuses" in record.message]
    assert "'nul" in record.message
    assert len(record.message) < 330
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        table, counters = l2.driver.tables
        found = await (await admin.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()
        await node.close()
        await admin.execute(f"DROP TABLE {table}, {counters} CASCADE".encode())
    assert found is not None
    assert found[0] == 511
