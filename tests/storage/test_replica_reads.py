"""`read_from_replicas`: peek and get_state are answered by replicas of a cluster or of sentinels, all else by primaries."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from typing import cast

import pytest
import redis

from ratesim import Limit
from ratesim.servers import Server, valkey_cluster, valkey_sentinel
from ratesim.storage import RedisStorage, RedisStorageConfig, Request
from ratesim.storage.redis.direct import DirectConnections
from ratesim.storage.redis.replicas import ReplicaReads

LIMIT = Limit(1000, 1e7, "fixed_window")
NAMES = [f"user:{k}" for k in range(30)]
CALLS = ("evalsha", "eval", "evalsha_ro", "eval_ro", "fcall", "fcall_ro", "hgetall", "hmget")


@pytest.fixture(scope="module", params=["cluster", "sentinel"])
def replicated(request: pytest.FixtureRequest) -> Iterator[Server]:
    with valkey_cluster(3, 1) if request.param == "cluster" else valkey_sentinel() as server:
        yield server


def storage_of(server: Server, **options: object) -> RedisStorage:
    prefix = f"{uuid.uuid4().hex[:12]}:"
    return RedisStorage(RedisStorageConfig(url=server.url, key_prefix=prefix, read_from_replicas=True, **options))


def calls(server: Server) -> Counter[str]:
    """How many calls primaries and replicas have carried out."""
    found: Counter[str] = Counter()
    for member in server.members:
        if member.role != "sentinel":
            with redis.Redis.from_url(member.url) as client:
                stats = client.info("commandstats")
                found[member.role] += sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in CALLS)
    return found


async def until_replicated(storage: RedisStorage, names: list[str], remaining: float) -> None:
    """Wait until replicas have what was written."""
    async with asyncio.timeout(30):
        for name in names:
            while (await storage.peek(name, LIMIT)).remaining != remaining:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.01)


async def test_replicas_answer_peeks_and_states_and_nothing_else(replicated: Server) -> None:
    # A replica may take half of command_timeout: on a busy machine the primary would answer instead.
    async with storage_of(replicated, command_timeout=20.0) as storage:
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        before = calls(replicated)
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        assert set(calls(replicated) - before) == {"primary"}
        await until_replicated(storage, NAMES, 998)
        before = calls(replicated)
        for name in NAMES:
            assert (await storage.peek(name, LIMIT)).remaining == 998
            state = await storage.get_state(name)
            assert state is not None
            assert state.algorithm_data.fields["count"] == 2
        assert set(calls(replicated) - before) == {"replica"}
        assert len([state for _, state in await storage.batch_get(NAMES) if state]) == len(NAMES)
        together = [storage.acquire(NAMES[0], LIMIT), storage.peek(NAMES[0], LIMIT), storage.get_state("nobody")]
        decision, _, state = await asyncio.gather(*together)
        assert decision.remaining == 997
        assert state is None


async def test_a_replica_that_stands_still_delays_and_hides_nothing(replicated: Server) -> None:
    async with storage_of(replicated, command_timeout=2.0) as storage:
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        replicas = [member.pid for member in replicated.members if member.role == "replica"]
        for pid in replicas:
            os.kill(pid, signal.SIGSTOP)
        try:
            peeks = await asyncio.gather(*(storage.peek(name, LIMIT) for name in NAMES))
            assert {decision.remaining for decision in peeks} == {999.0}
            assert (await storage.acquire(NAMES[0], LIMIT)).remaining == 998
        finally:
            for pid in replicas:
                os.kill(pid, signal.SIGCONT)


class _Side:
    """Connections that count what is asked, and fail while `error` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    async def send(self, commands: list[tuple[str, ...]], reads: Collection[int] = ()) -> list[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ["answer"] * len(commands)


@pytest.mark.parametrize("error", [TimeoutError(), OSError(), redis.ConnectionError("lost"), redis.TimeoutError("late")])
async def test_replicas_that_fail_in_a_row_are_left_alone_for_a_while(error: Exception) -> None:
    primary, replicas = _Side(), _Side()
    config = RedisStorageConfig(breaker_failures=3, breaker_reset=3600.0)
    reads = ReplicaReads(cast("DirectConnections", primary), cast("DirectConnections", replicas), config)
    for failures in (2, 2, 3, 3):  # an answer between them starts the row again
        replicas.error = error
        for _ in range(failures):
            assert await reads.send([("GET", "key")], {0}) == ["answer"]
        replicas.error = None
        assert await reads.send([("GET", "key")], {0}) == ["answer"]
    assert (replicas.asked, primary.asked) == (3 + 3 + 3, 2 + 2 + 4 + 4)


async def test_an_answer_is_as_old_as_replication_is_late(replicated: Server) -> None:
    async with storage_of(replicated) as storage:
        await storage.acquire("user", LIMIT)
        await until_replicated(storage, ["user"], 999)
        primaries = [member.url for member in replicated.members if member.role == "primary"]
        replicas = [member.url for member in replicated.members if member.role == "replica"]
        try:
            for url in replicas:
                with redis.Redis.from_url(url) as client:
                    client.config_set("masterauth", "none of yours")
            for url in primaries:
                with redis.Redis.from_url(url) as client:
                    client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            assert (await storage.acquire("user", LIMIT)).remaining == 998
            assert (await storage.peek("user", LIMIT)).remaining == 999
        finally:
            for url in replicas:
                with redis.Redis.from_url(url) as client:
                    client.config_set("masterauth", client.get_connection_kwargs()["password"])
        await until_replicated(storage, ["user"], 998)


async def test_replicas_of_which_none_is_there_leave_all_to_the_primary(valkey_cluster_server: Server) -> None:
    async with storage_of(valkey_cluster_server) as storage:
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        assert {(await storage.peek(name, LIMIT)).remaining for name in NAMES} == {999.0}
