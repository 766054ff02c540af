"""Redis: its keys and its failures. What it decides: test_conformance.py and test_twins.py."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import pytest
import redis.asyncio
from every_backend import Clock
from redis._parsers.base import BaseParser

from ratesim import Limit
from ratesim.errors import (
    BatchError,
    ConfigurationError,
    KeyRefusedError,
    SerializationError,
    StorageConnectionError,
    StorageError,
    StorageUnavailableError,
)
from ratesim.limit import Decision, Limits
from ratesim.servers import Server, valkey
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, RedisStorage, RedisStorageConfig, Request, open_storage
from ratesim.storage.redis import RedisDriver
from ratesim.storage.redis.calls import Calls
from ratesim.storage.redis.connections import Command
from ratesim.storage.redis.error_translation import connection_error, operation_error
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Get, Increment, Observe, Operation, Put, Reset

NOW = 1_700_000_000.0
LIMIT = Limit(1000, 3600.0, "token_bucket")


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[redis.asyncio.Redis]:
    raw = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    try:
        yield raw
    finally:
        await raw.aclose()


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


# -- scripts that another client flushes ------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["fakeredis", "redis", "cluster"], indirect=True)
@pytest.mark.parametrize("limits", [LIMIT, Limit(5, 60.0, "sliding_log"), (LIMIT, Limit(3, 60.0, name="other"))])
async def test_what_is_charged_while_keys_are_cleaned_up_stays(storage: RedisStorage, clock: Clock, limits: Limits) -> None:
    await storage.acquire("charged", limits)
    await storage.acquire("over", limits)
    clock.now += 1e5
    connections = storage.driver._connections
    send = connections.send

    async def charge_before(commands: Sequence[tuple[Any, ...]], reads: Collection[int] = ()) -> list[Any]:
        if "DEL" in str(commands):
            connections.send = send  # type: ignore[method-assign]
            await storage.acquire("charged", limits)
        return await send(commands, reads)

    connections.send = charge_before  # type: ignore[method-assign]
    assert await storage.cleanup_expired() == 1
    left, fresh = (await storage.peek("charged", limits, cost=0.0)), (await storage.peek("over", limits, cost=0.0))
    assert left.remaining == fresh.remaining - 1


class Flushed(RedisDriver):
    """Flushes the server's scripts before each pipeline, as another client may at any time."""

    def __init__(self, config: RedisStorageConfig) -> None:
        super().__init__(config)
        self.pipelines = 0
        send = self._connections.send

        async def flush_and_send(commands: Sequence[Command]) -> list[Any]:
            self.pipelines += 1
            return (await send([("SCRIPT", "FLUSH"), *commands]))[1:]

        self._connections.send = flush_and_send  # type: ignore[method-assign]


@pytest.mark.parametrize("size", [1, 2, 60])
async def test_scripts_that_are_flushed_again_and_again_reach_no_caller(valkey_server: Server, size: int) -> None:
    driver = Flushed(RedisStorageConfig(url=valkey_server.url, key_prefix=f"flushed{size}:"))
    kinds = ("token_bucket", "fixed_window", "sliding_log")
    limits = [(Limit(1000, 3600.0, kinds[i % 3], name=f"n{i}"),) for i in range(size)]
    batch: list[Operation] = [Acquire("user", limit, 1.0, NOW, True) for limit in limits]
    batch.insert(1, Get("user", "n0", NOW))  # known to the server without a script, so it is carried out once, at first
    try:
        for turn in range(1, 4):
            answers = await driver.execute(batch)
            assert [answer.remaining for answer in answers if isinstance(answer, Decision)] == [1000.0 - turn] * size
            assert driver.pipelines == 2 * turn, "a script that is not known is sent in full"
    finally:
        async with client(valkey_server) as raw:
            await raw.delete(f"flushed{size}:{{user}}")
        await driver.close()


async def test_a_burst_through_flushes_of_the_scripts_counts_each_request_once(valkey_server: Server) -> None:
    async with (
        RedisStorage(RedisStorageConfig(url=valkey_server.url, key_prefix="burst:", command_timeout=60.0)) as storage,
        client(valkey_server) as raw,
    ):
        done = asyncio.Event()

        async def flush() -> None:
            while not done.is_set():
                await raw.script_flush()

        flushing = asyncio.create_task(flush())
        try:
            decisions = await asyncio.gather(*(storage.acquire("user", LIMIT, now=NOW) for _ in range(1000)))
        finally:
            done.set()
            await flushing
        assert sum(decision.allowed for decision in decisions) == 1000
        assert (await storage.peek("user", LIMIT, now=NOW)).remaining == 0
        await storage.reset("user")


# -- what fails alone -------------------------------------------------------------------------------------------------

DAMAGE: dict[str, str] = {
    "tokens": "many",
    "last_refill": "",
    "expires_at": "later",
    "algorithm": "of the future",
    "created_at": "once",
    "request_count": "x",
    "metadata": "{",
    "w:n": "1",
    "w:n ": "1 2 3",
}


async def test_what_redis_cannot_take_or_read_fails_alone_and_the_others_once(valkey_server: Server) -> None:
    names = [f"good {i}" for i in range(30)]
    bad = [f"bad {key}" for key in DAMAGE] + ["a string", "a list", "a set"]
    for place, name in enumerate(bad):
        names.insert(3 * place, name)
    async with (
        RedisStorage(RedisStorageConfig(url=valkey_server.url, key_prefix="alone:")) as storage,
        client(valkey_server) as raw,
    ):
        await storage.acquire_many([Request(name, LIMIT, 1.0, NOW) for name in names if name not in bad[-3:]])
        for field, value in DAMAGE.items():
            await raw.hset(f"alone:{{bad {field}}}", field.strip(), value)
        await raw.set("alone:{a string}", "x")
        await raw.rpush("alone:{a list}", "x")
        await raw.sadd("alone:{a set}", "x")
        charge = ((NOW, 1.0, 1),)
        for operations in (
            [Acquire(name, (LIMIT,), 1.0, NOW, True) for name in names],
            [Apply(Charge(name, LIMIT, "n", 1, 0.0, charge)) for name in names],
            [Get(name, "", NOW) for name in names],
        ):
            for name, answer in zip(names, await storage.driver.execute(operations), strict=True):
                if name.startswith("good"):
                    assert not isinstance(answer, Exception), name
                elif name.startswith("bad"):
                    assert isinstance(answer, SerializationError | Decision | RateLimitState | None), (name, answer)
                else:
                    assert type(answer) is KeyRefusedError, (name, answer)
                    assert "another type" in str(answer)
        for name in names:
            if name.startswith("good"):
                assert (await storage.peek(name, LIMIT, now=NOW)).remaining == 997.0
        with pytest.raises(BatchError, match=f"of {len(names)} failed") as raised:
            await storage.batch_get(names)
        for name, result in zip(names, raised.value.results, strict=True):
            assert name[:4] != "good" or result is None, "it is over by the clock of today"
        assert (await storage.get_stats()).entries == len(names)
        assert await storage.cleanup_expired() >= 30  # the sound ones are over by the clock of today
        await raw.delete(*[f"alone:{{{name}}}" for name in bad])


async def test_a_value_that_cannot_be_encoded_fails_alone(valkey_server: Server) -> None:
    data = AlgorithmData("fixed_window", {"window_start": NOW, "count": 1.0})
    bad = RateLimitState(data, NOW, NOW, 1, {"note": "\ud800"})
    driver = RedisDriver(RedisStorageConfig(url=valkey_server.url, key_prefix="encoded:"))
    batch: list[Operation] = [
        Put("a", "", bad, NOW, 10.0),
        Acquire("b", (LIMIT,), 1.0, NOW, True),
        Apply(Charge("c", LIMIT, "\udfff", 1, 0.0, ((NOW, 1.0, 1),))),
        Acquire("d", (LIMIT,), 1.0, NOW, True),
    ]
    for remaining in (999.0, 998.0):
        answers = await driver.execute(batch)
        assert [type(answer) for answer in answers] == [KeyRefusedError, Decision, KeyRefusedError, Decision]
        assert [answer.remaining for answer in answers if isinstance(answer, Decision)] == [remaining] * 2
    await driver.close()


# -- a server that takes nothing for now ------------------------------------------------------------------------------


async def test_a_server_that_takes_no_writes_says_why_and_executes_nothing() -> None:
    with valkey() as server:
        config = RedisStorageConfig(url=server.url, retries=0, breaker_failures=100)
        async with RedisStorage(config) as storage, client(server) as raw:
            await storage.acquire("before", LIMIT, now=NOW)
            for option, value, usual, word in (
                ("maxmemory", "1", "0", "maxmemory"),
                ("min-replicas-to-write", "1", "0", "replicas"),
            ):
                await raw.config_set(option, value)
                with pytest.raises(StorageUnavailableError, match=word) as raised:
                    await storage.acquire("user", LIMIT, now=NOW)
                assert not raised.value.sent
                assert await storage.get_state("before") is None  # it is over by the clock of today
                with pytest.raises(BatchError) as several:
                    await storage.acquire_many([Request(f"user {i}", LIMIT, 1.0, NOW) for i in range(3)])
                assert {type(result) for result in several.value.results} == {StorageUnavailableError}
                await raw.config_set(option, usual)
            await raw.replicaof("127.0.0.1", "1")
            with pytest.raises(StorageUnavailableError, match="read-only replica; give the address of the primary"):
                await storage.acquire("user", LIMIT, now=NOW)
            await raw.replicaof("NO", "ONE")
            assert (await storage.acquire("user", LIMIT, now=NOW)).remaining == 999


async def test_a_server_that_is_busy_with_a_script_is_tried_again() -> None:
    with valkey() as server:
        config = RedisStorageConfig(url=server.url, retries=30, retry_cap=0.1, breaker_failures=1000, command_timeout=60.0)
        async with RedisStorage(config) as storage, client(server) as raw, client(server) as other:
            await storage.acquire("user", LIMIT, now=NOW)
            await raw.config_set("busy-reply-threshold", 1)
            endless = asyncio.create_task(other.eval("while true do end", 0))
            while True:
                try:
                    await raw.ping()
                except redis.exceptions.ResponseError:
                    break
            waiting = asyncio.create_task(storage.acquire("user", LIMIT, now=NOW))
            while not storage.client.errors:  # noqa: ASYNC110 - the client has no event for its errors
                await asyncio.sleep(0.01)
            assert set(storage.client.errors) == {"StorageUnavailableError"}
            await raw.script_kill()
            with pytest.raises(redis.exceptions.ResponseError):
                await endless
            assert (await waiting).remaining == 998


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("LOADING Redis is loading the dataset in memory", StorageUnavailableError, "loads its data"),
        ("READONLY You can't write against a read only replica.", StorageUnavailableError, "read-only replica"),
        ("ERR Error running script (call to f_1): @user_script:9: READONLY You can't", StorageUnavailableError, "read-only"),
        ("OOM command not allowed when used memory > 'maxmemory'.", StorageUnavailableError, "maxmemory"),
        ("-OOM command not allowed script: 1, on @user_script:1.", StorageUnavailableError, "maxmemory"),
        ("MISCONF Valkey is configured to save RDB snapshots", StorageUnavailableError, "save to its disk"),
        ("BUSY Redis is busy running a script.", StorageUnavailableError, "SCRIPT KILL"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StorageUnavailableError, "try again"),
        ("CLUSTERDOWN The cluster is down", StorageUnavailableError, "CLUSTER INFO"),
        ("MASTERDOWN Link with MASTER is down", StorageUnavailableError, "primary is down"),
        ("NOSCRIPT No matching script. Please use EVAL.", StorageUnavailableError, "SCRIPT FLUSH"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", KeyRefusedError, "another type"),
        ("ERR Error running script (call to f_1): @user_script:9: WRONGTYPE Operation", KeyRefusedError, "another type"),
        (
            "ERR user_script:14: attempt to compare nil with number script: 1, on @user_script:14.",
            SerializationError,
            "read",
        ),
        ("NOPERM this user has no permissions to run the 'evalsha' command", StorageError, "user 'evalsha'; grant it"),
        ("NOPERM User u has no permissions to run the 'memory|usage' command", StorageError, "user 'memory|usage'; grant"),
        ("NOPERM No permissions to access a key", StorageError, "a command or a key; grant it by ACL SETUSER"),
        ("ERR ACL failure in script: User u has no permissions to run the 'hset' command", StorageError, "user 'hset'"),
        ("ERR The user executing the script can't run this command or subcommand", StorageError, "ACL SETUSER"),
        (
            "ERR Unknown Redis command called from script script: 1, on @user_script:9.",
            StorageError,
            "Unknown Redis command",
        ),
        (
            "ERR Error running script (call to f_1): @user_script:9: @user_script: 9: Unknown Redis command called",
            StorageError,
            "Unknown Redis command",
        ),
        (
            "ERR Error running script (call to f_1): @user_script:9: user_script:9: attempt to compare nil with number",
            SerializationError,
            "read",
        ),
        ("ERR hash value is not an integer script: 1, on @user_script:22.", SerializationError, "read"),
        ("ERR something new", StorageError, "something new"),
    ],
)
def test_each_error_of_the_server_has_its_kind_and_its_remedy(text: str, kind: type[StorageError], words: str) -> None:
    error = operation_error(BaseParser.parse_error(text), "user", "redis://h:6379")
    assert type(error) is kind
    assert words in str(error)
    assert len(str(error)) < 330


STRANGE = [
    None,
    b"",
    b"1",
    b"\xff",
    1,
    -1,
    [],
    [None],
    [[]],
    [b"a", b"b"],
    [1, [b"x"]],
    {b"a": 1},
    {},
    True,
    1.5,
    object(),
    (1, 2, 3),
]


@pytest.mark.parametrize("clock", ["client", "server"])
def test_an_answer_that_redis_does_not_give_raises_only_errors_of_ratesim(clock: Literal["client", "server"]) -> None:
    calls = Calls(RedisStorageConfig(clock=clock))
    limits = [(LIMIT,), (Limit(1, 1, "sliding_log"),), (LIMIT, Limit(1, 1, "gcra", name="g")), (Limit(1, 1, "adaptive"),)]
    operations: list[Operation] = [Acquire("u", each, 1.0, NOW, consume) for each in limits for consume in (True, False)]
    operations += [Get("u", "", NOW), Increment("u", 1, 1.0, NOW), Claim("u", "holder", 1.0), Reset("u")]
    operations += [Apply(Charge("u", LIMIT, "n", 1, 0.0, ((NOW, 1.0, 1),))), Observe("u", limits[3], 1.0, NOW)]
    strange = 0
    for operation in operations:
        for raw in STRANGE:
            answer = calls.answer(operation, raw)  # raises nothing
            strange += isinstance(answer, StorageError) and "its answer is none of Redis'" in str(answer)
    assert strange > len(operations)


@pytest.mark.parametrize(
    "answer", [b"$-1\r\n", b"*0\r\n", b"*1\r\n:1\r\n", b"$2\r\nab\r\n", b">1\r\n:1\r\n", b"%1\r\n:1\r\n:2\r\n"]
)
async def test_a_server_that_answers_strangely_raises_only_errors_of_ratesim(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            strange = b"EVAL" in data or b"SCAN" in data
            writer.write((answer if strange else b"+OK\r\n") * data.count(b"\r\n*") + (answer if strange else b"+OK\r\n"))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?retries=0&breaker_failures=1000"
    async with server, open_storage(url) as storage:
        for work in (
            storage.acquire("user", LIMIT),
            storage.acquire("user", (LIMIT, Limit(1, 1, name="other"))),
            storage.increment("user", 1, 1.0),
            storage.get_stats(),
            storage.cleanup_expired(),
        ):
            with suppress(StorageError):
                await work
        await storage.health_check()


async def test_a_database_that_the_server_does_not_have_is_said(valkey_server: Server) -> None:
    async with open_storage(f"{valkey_server.url.rpartition('/')[0]}/99999") as storage:
        with pytest.raises(StorageError, match="has no database of this number; correct the url"):
            await storage.acquire("user", LIMIT)


def test_a_wrong_password_is_not_called_an_unreachable_server() -> None:
    for text in ("WRONGPASS invalid username-password pair", "NOAUTH Authentication required."):
        error = connection_error(BaseParser.parse_error(text), "redis://h:6379")
        assert isinstance(error, StorageConnectionError)
        assert not error.sent
        assert "password" in str(error)


@pytest.mark.parametrize(
    ("scheme", "says"),
    [("redis", "is no Redis .* correct the url's host and port"), ("rediss", "TLS failed .* correct the url's scheme")],
)
async def test_a_server_of_another_protocol_is_told_from_one_that_is_down(scheme: str, says: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}?retries=0&command_timeout=60&connection_timeout=60"
    async with server, open_storage(url) as storage:
        with pytest.raises(StorageConnectionError, match=says):
            await storage.acquire("user", Limit(1, 1))
        assert re.search(says, (await storage.health_check()).detail)
