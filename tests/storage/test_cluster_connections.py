"""A Redis cluster: what travels where, and what a caller sees while slots move."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count

import pytest
import redis
from redis.crc import key_slot
from rights import KEYS, rights

from ratesim import Limit
from ratesim.errors import BatchError, ConfigurationError, KeyRefusedError, StorageError, StorageUnavailableError
from ratesim.server_url import redis_hosts
from ratesim.servers import Server
from ratesim.servers.supervisor import ProcessSupervisor
from ratesim.servers.valkey_process import VOLATILE, new_password, start_node, valkey_program
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, RedisStorage, RedisStorageConfig, Request, open_storage
from ratesim.storage.redis.keys import key_of
from ratesim.storage.remote.operations import Reset

LIMIT = Limit(5, 3600.0, "fixed_window")
NAMES = [f"user:{k}" for k in range(60)]  # some for each node
NOW = 1_700_000_000.0


def config_of(server: Server, **options: object) -> RedisStorageConfig:
    return RedisStorageConfig(url=server.url, key_prefix=f"{uuid.uuid4().hex[:12]}:", **{"pool_size": 4} | options)


@contextmanager
def admins(server: Server) -> Iterator[list[redis.Redis]]:
    """A client for each node."""
    clients = [redis.Redis.from_url(member.url) for member in server.members]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def owner_of(clients: list[redis.Redis], slot: int) -> int:
    """The number of the node that a slot belongs to."""
    for first, last, (_, port, *_), *_ in clients[0].execute_command("CLUSTER", "SLOTS", NEVER_DECODE=True):
        if first <= slot <= last:
            return next(k for k, client in enumerate(clients) if client.get_connection_kwargs()["port"] == port)
    raise AssertionError(f"slot {slot} has no owner")


@asynccontextmanager
async def moving(server: Server, slot: int) -> AsyncIterator[tuple[redis.Redis, redis.Redis]]:
    """A slot on its way from its node to another, and back at the end."""
    with admins(server) as clients:
        source = clients[number := owner_of(clients, slot)]
        target = clients[(number + 1) % len(clients)]
        names = [str(client.execute_command("CLUSTER MYID"), "ascii") for client in (source, target)]
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
        try:
            yield source, target
        finally:
            for client in (source, target):
                client.execute_command("CLUSTER SETSLOT", slot, "STABLE")
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[0])
            target.execute_command("CLUSTER SETSLOT", slot, "STABLE")


def migrate(source: redis.Redis, target: redis.Redis, *keys: bytes) -> None:
    about = target.get_connection_kwargs()
    source.execute_command("MIGRATE", "127.0.0.1", about["port"], "", 0, 5000, "AUTH", about["password"], "KEYS", *keys)


async def test_every_batch_verb_keeps_its_order_over_the_nodes(valkey_cluster_server: Server) -> None:
    async with RedisStorage(config_of(valkey_cluster_server)) as storage:
        decisions = await storage.acquire_many([Request(name, LIMIT, cost=1 + k % 4) for k, name in enumerate(NAMES)])
        assert [decision.remaining for decision in decisions] == [4 - k % 4 for k in range(len(NAMES))]
        found = await storage.batch_get([*NAMES, "nobody"])
        counts = [state and state.algorithm_data.fields["count"] for _, state in found]
        assert [name for name, _ in found] == [*NAMES, "nobody"]
        assert counts == [*(1 + k % 4 for k in range(len(NAMES))), None]
        states = [
            RateLimitState(AlgorithmData("fixed_window", {"window_start": 0.0, "count": float(k)}), 0, 0) for k in range(60)
        ]
        await storage.batch_set([(name, state, 3600.0) for name, state in zip(NAMES, states, strict=True)])
        assert [state.algorithm_data for _, state in await storage.batch_get(NAMES) if state] == [
            s.algorithm_data for s in states
        ]
        charges = [Charge(name, LIMIT, "node", 1, 0.0, ((NOW, float(k % 3), 1),)) for k, name in enumerate(NAMES)]
        merged = await storage.charge_many(charges)
        assert [state.watermarks["node"].consumed for state in merged] == [k % 3 for k in range(len(NAMES))]
        stats = await storage.get_stats()
        assert stats.entries == len(NAMES)
        assert stats.bytes > 60 * 50
        for name in NAMES:
            await storage.reset(name)
        assert (await storage.get_stats()).entries == 0
        assert (await storage.health_check()).healthy


async def test_cleanup_and_statistics_reach_every_node(valkey_cluster_server: Server) -> None:
    async with RedisStorage(config_of(valkey_cluster_server, min_ttl=3600.0)) as storage:
        await storage.acquire_many([Request(name, LIMIT, now=NOW) for name in NAMES[:40]])
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES[40:]])
        assert (await storage.get_stats()).entries == 60
        assert await storage.cleanup_expired() == 40
        assert (await storage.get_stats()).entries == 20


async def test_a_script_that_one_node_has_lost_is_sent_in_full(valkey_cluster_server: Server) -> None:
    async with RedisStorage(config_of(valkey_cluster_server)) as storage:
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        with admins(valkey_cluster_server) as clients:
            clients[1].script_flush()
        decisions = await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        assert {decision.remaining for decision in decisions} == {3.0}
        assert not storage.client.errors


async def test_a_slot_that_moves_takes_nobody_with_it(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server)
    async with RedisStorage(config) as storage:
        here = "user:1"
        key = key_of(config.key_prefix, here)
        slot = key_slot(key)
        assert (await storage.acquire(here, LIMIT)).remaining == 4
        async with moving(valkey_cluster_server, slot) as (source, target):
            assert (await storage.acquire(here, LIMIT)).remaining == 3  # it has not moved yet
            migrate(source, target, key)
            assert (await storage.acquire(here, LIMIT)).remaining == 2  # ASK
            together = await storage.acquire_many([Request(here, LIMIT), *(Request(name, LIMIT) for name in NAMES)])
            assert [each.remaining for each in together][:3] == [1, 4, 0]
            for client in (target, source):
                name = str(target.execute_command("CLUSTER MYID"), "ascii")
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)
            assert not (await storage.acquire(here, LIMIT)).allowed  # MOVED
            assert not (await storage.acquire(here, LIMIT)).allowed
            # and back, before the map of the client has heard of it
            for client in (source, target):
                client.execute_command("CLUSTER SETSLOT", slot, "STABLE")
            source_name = str(source.execute_command("CLUSTER MYID"), "ascii")
            source.execute_command(
                "CLUSTER SETSLOT", slot, "IMPORTING", str(target.execute_command("CLUSTER MYID"), "ascii")
            )
            target.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", source_name)
            migrate(target, source, key)
            assert not (await storage.acquire(here, LIMIT)).allowed
            for client in (source, target):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", source_name)
            assert not (await storage.acquire(here, LIMIT)).allowed
        assert not storage.client.errors


async def test_keys_that_a_moving_slot_has_parted_are_dropped_one_by_one(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server)
    async with RedisStorage(config) as storage:
        await storage.acquire("a", LIMIT)
        assert await storage.increment("a", 3, 3600.0) == 3
        key = key_of(config.key_prefix, "a")
        async with moving(valkey_cluster_server, key_slot(key)) as (source, target):
            migrate(source, target, key)
            async with asyncio.timeout(20):
                assert await storage.client.submit(Reset("a")) is None
            assert await storage.get_state("a") is None
            assert await storage.increment("a", 1, 3600.0) == 1
            await storage.reset("a")


async def test_a_script_waits_until_its_keys_are_on_one_node(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server, command_timeout=30.0)
    async with RedisStorage(config) as storage:
        connections = storage.driver._connections
        keys = [key_of(config.key_prefix, "x"), key_of(config.key_prefix, "x") + b":other"]
        script = ("EVAL", "return redis.call('GET', KEYS[1]) .. redis.call('GET', KEYS[2])", 2, *keys)
        await connections.send([("SET", keys[0], "1"), ("SET", keys[1], "2")])
        async with moving(valkey_cluster_server, key_slot(keys[0])) as (source, target):
            migrate(source, target, keys[0])
            waiting = asyncio.create_task(connections.send([script]))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            migrate(source, target, keys[1])
            assert await waiting == [b"12"]
            await connections.send([("DEL", key) for key in keys])


async def test_what_cannot_be_encoded_keeps_nothing_back_and_charges_nothing_twice(valkey_cluster_server: Server) -> None:
    async with RedisStorage(config_of(valkey_cluster_server)) as storage:
        requests = [Request(name, LIMIT) for name in NAMES]
        requests.insert(30, Request("half \ud800 pair", LIMIT))
        with pytest.raises(StorageError) as caught:
            await storage.acquire_many(requests)
        assert [type(each) for each in caught.value.results if isinstance(each, Exception)] == [KeyRefusedError]  # type: ignore[attr-defined]
        assert {(await storage.peek(name, LIMIT)).remaining for name in NAMES} == {4.0}


@pytest.mark.parametrize("first", ["127.0.0.1:1", "no-such-host.invalid:7000"])
async def test_one_host_that_answers_leads_to_all_nodes(valkey_cluster_server: Server, first: str) -> None:
    host, port = redis_hosts(valkey_cluster_server.url)[1]
    credentials = valkey_cluster_server.url.partition("://")[2].rpartition("@")[0]
    async with open_storage(
        f"redis+cluster://{credentials}@{first},{host}:{port}?key_prefix={uuid.uuid4().hex}:"
    ) as storage:
        decisions = await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        assert all(decision.remaining == 4 for decision in decisions)


async def test_a_user_of_its_own_needs_no_more_than_the_keys_and_the_topology(valkey_cluster_server: Server) -> None:
    rules = ["on", ">secret", KEYS, *rights("a cluster", "slots may move", "get_stats")]
    with admins(valkey_cluster_server) as clients:
        for client in clients:
            client.execute_command("ACL SETUSER", "limiter", "reset", *rules)
        hosts, who = valkey_cluster_server.url.rpartition("@")[2], uuid.uuid4().hex
        async with open_storage(f"redis+cluster://limiter:secret@{hosts}") as storage:
            assert (await storage.acquire(who, LIMIT)).remaining == 4
            key = key_of("ratesim:", who)
            async with moving(valkey_cluster_server, key_slot(key)) as (source, target):
                migrate(source, target, key)
                assert (await storage.acquire(who, LIMIT)).remaining == 3
                await storage.reset(who)
            assert (await storage.health_check()).healthy
            await storage.get_stats()
        async with open_storage(f"redis+cluster://limiter:wrong@{hosts}") as storage:
            with pytest.raises(StorageError, match="refuses the user or the password"):
                await storage.acquire("a", LIMIT)
        for client in clients:
            client.execute_command("ACL DELUSER", "limiter")


async def test_each_scheme_says_when_the_other_is_meant(valkey_cluster_server: Server, valkey_server: Server) -> None:
    async with open_storage(valkey_cluster_server.members[0].url) as storage:
        with pytest.raises(StorageError, match=r"begin the url with redis\+cluster://"):
            await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
    async with open_storage(valkey_server.url.replace("redis:", "redis+cluster:")) as storage:
        with pytest.raises(StorageError, match="begin the url with redis://"):
            await storage.acquire("a", LIMIT)


async def test_a_cluster_that_is_not_formed_yet_is_used_when_it_is() -> None:
    program = valkey_program()
    assert program is not None
    with ProcessSupervisor("valkey", stop=signal.SIGTERM) as supervisor:
        node = start_node(supervisor, program, "valkey", [*VOLATILE, "--cluster-enabled", "yes"], new_password())
        url = node.url.replace("redis:", "redis+cluster:")
        async with open_storage(f"{url}?breaker_failures=100000&retries=0") as storage:
            with pytest.raises(StorageUnavailableError, match="CLUSTER INFO"):
                await storage.acquire("a", LIMIT)
            assert "CLUSTER INFO" in (await storage.health_check()).detail
            with redis.Redis.from_url(node.url) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            async with asyncio.timeout(20):
                while not (await storage.health_check()).healthy:  # noqa: ASYNC110 - the cluster has no event
                    await asyncio.sleep(0.05)
            assert (await storage.acquire("a", LIMIT)).remaining == 4


async def test_a_cluster_of_which_no_node_answers_is_left_alone_for_a_while() -> None:
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2?retries=0&breaker_failures=2&breaker_reset=60"
    async with open_storage(url) as storage:
        for message in ("not reachable", "not reachable", "circuit breaker is open"):
            with pytest.raises(StorageError, match=message):
                await storage.acquire("a", LIMIT)


async def test_a_node_that_stands_still_takes_nothing_from_the_others(valkey_cluster_server: Server) -> None:
    config = config_of(
        valkey_cluster_server, command_timeout=0.3, breaker_failures=3, breaker_reset=0.3, pool_size=2, retries=1
    )
    frozen, errors, decided = valkey_cluster_server.members[0], Counter[str](), Counter[bool]()
    owner = {name: key_slot(key_of(config.key_prefix, name)) * 3 // 16384 for name in NAMES}
    limit = Limit(1e6, 3600.0)

    async def ask(number: int) -> None:
        while decided[False] < 200 or not errors:
            number += 1
            name = NAMES[number % len(NAMES)]
            try:
                await storage.acquire(name, limit)
                decided[owner[name] == 0] += 1
            except StorageError as error:
                errors[type(error).__name__ if owner[name] == 0 else f"{name}: {error}"] += 1

    async with RedisStorage(config) as storage:
        await storage.acquire_many([Request(name, limit) for name in NAMES])
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(ask(number * 7) for number in range(8)))
            assert errors.keys() <= {"StorageTimeoutError", "StorageConnectionError"}
            assert not decided[True]
            assert storage.client.breaker == "closed"
            states = [RateLimitState(AlgorithmData("fixed_window", {"window_start": 0.0, "count": 1.0}), 0, 0)] * len(NAMES)
            with pytest.raises(BatchError) as caught:
                await storage.batch_set([(name, state, 60.0) for name, state in zip(NAMES, states, strict=True)])
            failed = [isinstance(answer, StorageError) for answer in caught.value.results]
            assert failed == [owner[name] == 0 for name in NAMES]
            health = await storage.health_check()
            assert not health.healthy
            assert str(frozen.port) in health.detail
            for verb in (storage.get_stats, storage.cleanup_expired):
                with pytest.raises(StorageError, match=str(frozen.port)):
                    await verb()
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            while True:
                with suppress(StorageError):
                    await storage.acquire_many([Request(name, limit) for name in NAMES])
                    break
        assert (await storage.health_check()).healthy


async def test_a_node_that_stands_still_is_waited_for_once_by_many_batches(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server, command_timeout=2.0, max_batch=10, breaker_failures=1000)
    async with RedisStorage(config) as storage:
        await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
        pid = valkey_cluster_server.members[0].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            begin = asyncio.get_running_loop().time()
            with pytest.raises(BatchError) as caught:
                await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
            assert asyncio.get_running_loop().time() - begin < 3 * config.command_timeout, "its silences add up"
        finally:
            os.kill(pid, signal.SIGCONT)
        lost = [result for result in caught.value.results if isinstance(result, StorageError)]
        assert 0 < len(lost) < len(NAMES)


async def test_who_gives_up_leaves_no_answer_to_others(valkey_cluster_server: Server) -> None:
    limit = Limit(1000, 3600.0, "fixed_window")
    requests = [Request(name, limit, cost=1 + place % 4) for place, name in enumerate(NAMES)]
    async with RedisStorage(config_of(valkey_cluster_server, command_timeout=20.0)) as storage:
        await storage.acquire_many(requests)
        before = asyncio.all_tasks()
        os.kill(valkey_cluster_server.members[1].pid, signal.SIGSTOP)
        try:
            for _ in range(8):  # more than there are places for
                giving_up = [
                    asyncio.create_task(storage.acquire_many(requests)),
                    asyncio.create_task(storage.peek("a", limit)),
                ]
                await asyncio.sleep(0.02)
                for task in giving_up:
                    task.cancel()
                await asyncio.wait(giving_up)
            assert asyncio.all_tasks() <= before
        finally:
            os.kill(valkey_cluster_server.members[1].pid, signal.SIGCONT)
        for place, name in enumerate(NAMES):
            charged = 1000 - (await storage.peek(name, limit)).remaining
            assert charged % (1 + place % 4) == 0
            assert 1 <= charged / (1 + place % 4) <= 9
        assert (await storage.health_check()).healthy


async def test_connections_that_are_cut_charge_nothing_twice(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server, retries=5, breaker_failures=10**6)
    admitted, unknown = Counter[str](), Counter[str]()
    limit, ended = Limit(1e9, 1e7, "fixed_window"), False

    async def ask(number: int) -> None:
        while not ended:
            number += 1
            name = NAMES[number % len(NAMES)]
            try:
                await storage.acquire(name, limit)
                admitted[name] += 1
            except StorageError as error:
                unknown[name] += getattr(error, "sent", True)

    async with RedisStorage(config) as storage:
        tasks = [asyncio.create_task(ask(number * 7)) for number in range(32)]
        with admins(valkey_cluster_server) as clients:
            async with asyncio.timeout(60):
                for number in count():  # until some were cut that had a request
                    clients[number % 3].execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    await asyncio.sleep(0.01)
                    if number >= 60 and unknown.total():
                        break
        ended = True
        await asyncio.gather(*tasks)
        for name, state in await storage.batch_get(NAMES):
            assert state is not None
            charged = state.algorithm_data.fields["count"]
            assert admitted[name] <= charged <= admitted[name] + unknown[name], name


async def test_slots_without_an_owner_fail_alone(valkey_cluster_server: Server) -> None:
    config = config_of(valkey_cluster_server, retries=0, breaker_failures=1)
    with admins(valkey_cluster_server) as clients:
        slot = key_slot(key_of(config.key_prefix, "lost"))
        owner = clients[owner_of(clients, slot)]
        async with RedisStorage(config) as storage:
            await storage.acquire_many([Request(name, LIMIT) for name in NAMES])
            for client in clients:
                client.execute_command("CLUSTER DELSLOTS", slot)
            try:
                with pytest.raises(StorageUnavailableError, match="belongs to a cluster that is down"):
                    await storage.acquire("lost", LIMIT)
                others = [name for name in NAMES if key_slot(key_of(config.key_prefix, name)) != slot]
                assert all(each.allowed for each in await storage.acquire_many([Request(name, LIMIT) for name in others]))
                assert not (await storage.health_check()).healthy
            finally:
                owner.execute_command("CLUSTER ADDSLOTS", slot)
                name = str(owner.execute_command("CLUSTER MYID"), "ascii")
                for client in clients:
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert (await storage.acquire("lost", LIMIT)).allowed
                        break
                    except StorageUnavailableError:
                        await asyncio.sleep(0.05)


def test_one_server_has_no_replica_to_read_from() -> None:
    with pytest.raises(ConfigurationError, match="read_from_replicas"):
        RedisStorageConfig(read_from_replicas=True)


@pytest.mark.parametrize("identifier", ["", "}", "{", "{}", "}{", "a}b", "{a}", " ", "\x00", "é" * 40, "x" * 2**16])
async def test_all_keys_of_an_identifier_share_a_slot(valkey_cluster_server: Server, identifier: str) -> None:
    async with RedisStorage(config_of(valkey_cluster_server)) as storage:
        for _ in range(2):
            assert (await storage.acquire(identifier, LIMIT)).remaining == 4
            assert await storage.increment(identifier, 1, 60.0) == 1
            await storage.reset(identifier)
