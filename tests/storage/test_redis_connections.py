"""No answer reaches another caller than its own, whatever is canceled, late, lost, cut or closed on the way."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from pathlib import Path
from random import Random
from typing import Any

import hiredis
import pytest
import redis.asyncio
import redis.exceptions
from cancellation_world import AsyncioBench
from examples import examples
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from redis.asyncio.connection import _AsyncHiredisParser, _AsyncRESP2Parser

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.servers import Server
from ratesim.storage import RedisStorage, RedisStorageConfig, Request
from ratesim.storage.redis import RedisDriver
from ratesim.storage.redis.direct import DirectConnections
from ratesim.storage.remote.operations import Acquire, Get, Increment, Operation, Reset

SECONDS = 0.05  # of a deadline
PATIENCE = 0.002  # seconds of real time for what is sent to arrive
LOST = (redis.exceptions.ConnectionError, TimeoutError)


class Echo(asyncio.Protocol):
    """A server that answers each command with its argument, as well as its fault allows."""

    def __init__(self, world: Connections) -> None:
        self.world = world
        self.reader = hiredis.Reader()
        self.silent = False
        self.late: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.world.served.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.world.served.discard(self)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (command := self.reader.gets()) is not False:
            if command[0] == b"CLIENT":
                self.transport.write(b"+OK\r\n")
            elif not self.transport.is_closing():
                self.answer(command[1], last=not self.reader.has_data())

    def answer(self, token: bytes, last: bool) -> None:
        answer = b"$%d\r\n%s\r\n" % (len(token), token)
        match self.world.fault:
            case "silent":
                self.silent = True
            case "closes":
                self.transport.close()
            case "cuts":
                self.transport.write(answer[: len(answer) // 2])
                self.transport.close()
            case "garbles":
                self.transport.write(b"?" + answer)
            case "talks" if last:  # in one write: what comes later is not to be told from the answer of the next command
                self.transport.write(answer + b"$5\r\nextra\r\n")
                return
            case "refuses":
                answer = b"-ERR " + token + b"\r\n"
            case "slow":
                self.late.append(answer)
                self.world.loop.call_later(0.003, lambda: self.write(self.late.popleft()))
                return
        self.write(answer)

    def write(self, answer: bytes) -> None:
        if self.silent or self.transport.is_closing():  # what comes later must not be taken for the answer that is missing
            return
        for first in range(0, len(answer), self.world.piece):
            self.transport.write(answer[first : first + self.world.piece])


class Connections(RuleBasedStateMachine):
    """Batches, cancellations, deadlines and faults of the server, in any order."""

    @initialize()
    def begin(self) -> None:
        self.bench = AsyncioBench(PATIENCE)
        self.loop = self.bench._loop
        self.served: set[Echo] = set()
        self.fault, self.piece = "", 1000
        self.folder = tempfile.TemporaryDirectory()
        path = str(Path(self.folder.name) / "socket")
        self.server = self.loop.run_until_complete(self.loop.create_unix_server(lambda: Echo(self), path))
        client = redis.asyncio.Redis.from_url(f"unix://{path}", protocol=2, socket_timeout=1.0)
        self.connections = DirectConnections(client)
        self.calls: list[tuple[list[bytes], asyncio.Task[list[Any]]]] = []
        self.canceled: set[asyncio.Task[list[Any]]] = set()
        self.always_well = True

    async def call(self, tokens: list[bytes]) -> list[Any]:
        commands = [("ECHO", token) for token in tokens]
        exchange = self.connections.begin(SECONDS)
        if exchange is None:
            async with asyncio.timeout(SECONDS):
                return await self.connections.send(commands)
        try:
            half = len(commands) // 2
            return [*(await exchange.send(commands[:half]) if half else []), *await exchange.send(commands[half:])]
        finally:
            exchange.end()

    def send(self, size: int) -> asyncio.Task[list[Any]]:
        tokens = [f"{len(self.calls)}.{place}".encode() for place in range(size)]
        task = self.loop.create_task(self.call(tokens))
        self.calls.append((tokens, task))
        return task

    @rule(
        fault=st.sampled_from(["", "", "silent", "closes", "cuts", "garbles", "talks", "refuses", "slow"]),
        piece=st.sampled_from([1, 3, 1000]),
        burst=st.lists(st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 60))), max_size=5),
        seconds=st.sampled_from([0.0, 1e-6, 0.001, 0.003, SECONDS]),
    )
    def ask(self, fault: str, piece: int, burst: list[tuple[int, int | None]], seconds: float) -> None:
        """Send batches, some of which are canceled so many steps later, in whatever state they and others are then."""
        self.fault, self.piece = fault, piece
        self.always_well = self.always_well and fault in ("", "slow", "refuses")
        for size, step in burst:
            task = self.send(size)
            if step is not None:
                self.canceled.add(task)
                self.bench.cancel_at(step, task)
        if seconds:
            self.bench.run(seconds)

    @rule()
    def server_closes_all(self) -> None:
        for each in list(self.served):
            each.transport.close()
        self.always_well = False

    @rule()
    def drop_idle(self) -> None:
        self.loop.run_until_complete(self.connections.drop_idle())

    def teardown(self) -> None:
        if not hasattr(self, "connections"):
            return
        try:
            self.check()
        finally:
            self.server.close()
            self.bench.close()
            self.folder.cleanup()

    def check(self) -> None:
        self.bench.run(2 * SECONDS)
        for tokens, task in self.calls:
            assert task.done(), "answered in time"
            if task.cancelled():
                assert task in self.canceled
            elif (error := task.exception()) is not None:
                assert not self.always_well, error
                assert isinstance(error, (*LOST, redis.exceptions.InvalidResponse))
            else:
                said = [
                    str(each).encode() if isinstance(each, redis.exceptions.ResponseError) else each
                    for each in task.result()
                ]
                assert said == tokens, (said, tokens)
        assert not [link for link in self.connections._links if link not in self.connections._free], "none is left behind"
        assert len(self.served) == len(self.connections._links), "what is given up is closed"
        self.fault, self.piece = "", 1000
        fresh = [self.loop.create_task(self.call([b"fresh", b"%d" % k])) for k in range(3)]
        self.bench.run(SECONDS)
        assert [task.result() for task in fresh] == [[b"fresh", b"%d" % k] for k in range(3)]
        self.loop.run_until_complete(asyncio.wait_for(self.connections.close(), 1.0))
        self.bench.run(SECONDS)
        assert not self.served


TestConnections = Connections.TestCase
TestConnections.settings = settings(
    max_examples=examples(80, nightly=2_000), stateful_step_count=12, suppress_health_check=list(HealthCheck)
)


async def test_no_decision_is_mixed_up_at_a_real_server_that_kills_connections(valkey_server: Server) -> None:
    random = Random(1)
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="mixed:", pool_size=4, breaker_failures=10**6)
    limits = [Limit(1000.0 + k, 3600.0, "fixed_window") for k in range(300)]
    decided = 0

    async def ask(storage: RedisStorage, k: int) -> None:
        nonlocal decided
        await asyncio.sleep(random.random() * 0.2)
        wanted = [k] if k % 3 else [k, (k + 1) % 300]
        try:
            if k % 3:
                decisions = [await storage.acquire(f"user {k}", limits[k], now=1e9)]
            else:
                decisions = await storage.acquire_many([Request(f"user {j}", limits[j], now=1e9) for j in wanted])
        except StorageError:
            return
        for j, decision in zip(wanted, decisions, strict=True):
            assert 1000.0 + j - 3 <= decision.remaining < 1000.0 + j
            decided += 1

    async with RedisStorage(config) as storage, redis.asyncio.Redis.from_url(valkey_server.url) as killer:
        tasks = [asyncio.create_task(ask(storage, k)) for k in range(300)]
        for step in range(20):
            await asyncio.sleep(0.01)
            for task in random.sample(tasks, 4):
                task.cancel()
            if step % 5 == 0:
                await killer.client_kill_filter(_type="normal", skipme=True)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in outcomes if isinstance(each, Exception)] == []
        assert decided > 100
        for k in range(300):
            await storage.reset(f"user {k}")


@pytest.mark.parametrize("parser", [None, _AsyncHiredisParser, _AsyncRESP2Parser])
async def test_every_parser_answers_alike(valkey_server: Server, parser: Any) -> None:
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="parsers:")
    options = {"parser_class": parser} if parser else {}
    client = redis.asyncio.Redis.from_url(valkey_server.url, protocol=2, **options)
    driver = RedisDriver(config, client if parser else None)
    limits = tuple(Limit(10.0, 60.0, algorithm, name=algorithm) for algorithm in ("token_bucket", "sliding_log"))
    batch: list[Operation] = [Acquire("user", limits, 4.0, 1e9 + k, True) for k in range(4)]
    batch += [Get("user", "sliding_log", 1e9), Increment("user", 3, 60.0, 1e9), Get("nobody", "", 1e9)]
    try:
        answers = [str(answer) for answer in await driver.execute(batch)]
        assert await driver.execute([Reset("user")]) == [None]
    finally:
        await client.aclose()
        await driver.close()
    assert [answer.partition(",")[0] for answer in answers[:4]] == [f"Decision(allowed={k < 2}" for k in range(4)]
    assert answers[5:] == ["3", "None"]


async def test_a_connection_without_answers_outstanding_is_used_again(valkey_server: Server) -> None:
    async with (
        RedisStorage(RedisStorageConfig(url=valkey_server.url, key_prefix="again:")) as storage,
        redis.asyncio.Redis.from_url(valkey_server.url) as observer,
    ):
        await storage.acquire("user", Limit(1000, 60.0), now=1e9)
        before = (await observer.info("stats"))["total_connections_received"]
        for _ in range(20):
            await storage.acquire("user", Limit(1000, 60.0), now=1e9)
            await storage.acquire_many([Request("user", Limit(1000, 60.0), now=1e9)] * 50)
        assert (await observer.info("stats"))["total_connections_received"] == before
        await storage.reset("user")


async def test_a_request_on_a_free_connection_needs_no_task_and_no_timer(
    valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[object] = []
    timers: list[object] = []
    call_at, limit = loop.call_at, Limit(1000, 60.0)

    def count_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    def count_timer(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(arguments)
        return call_at(*arguments, **options)

    config = RedisStorageConfig(url=valkey_server.url, key_prefix="alone:", command_timeout=60.0)
    async with RedisStorage(config) as storage:
        for _ in range(2):  # connect, and let the deadlines have their timer
            await storage.acquire("user", limit)
        monkeypatch.setattr(loop, "call_at", count_timer)
        loop.set_task_factory(count_task)
        for _ in range(50):
            await storage.acquire("user", limit)
            await storage.acquire_many([Request("user", limit)] * 3)
            await storage.peek("user", limit)
        loop.set_task_factory(None)
        assert (tasks, timers) == ([], [])
        await storage.reset("user")


async def test_many_tasks_share_writes(valkey_server: Server) -> None:
    limit = Limit(1e6, 60.0)
    config = RedisStorageConfig(url=valkey_server.url, key_prefix="shared:", command_timeout=60.0)
    async with RedisStorage(config) as storage:

        async def ask() -> None:
            for _ in range(20):
                await storage.acquire("user", limit)

        await asyncio.gather(*(ask() for _ in range(64)))
        assert storage.client.operations == 64 * 20
        assert storage.client.batches < storage.client.operations / 5
        await storage.reset("user")


@pytest.mark.parametrize("steps", [["expire"], ["expire", "cancel"], ["cancel", "expire"]])
async def test_a_deadline_cancels_nobody_and_a_cancellation_in_its_moment_is_kept(
    valkey_server: Server, steps: list[str]
) -> None:
    client = redis.asyncio.Redis.from_url(valkey_server.url, protocol=2)
    connections = DirectConnections(client)
    await connections.send([("PING",)])
    cancelings: list[int] = []

    async def wait_in_vain() -> None:
        task = asyncio.current_task()
        assert task is not None
        exchange = connections.begin(60.0)
        assert exchange is not None
        asyncio.get_running_loop().call_soon(
            lambda: [{"expire": exchange.expire, "cancel": task.cancel}[step]() for step in steps]
        )
        try:
            await exchange.send([("BLPOP", "nothing", 0)])
        finally:
            cancelings.append(task.cancelling())
            exchange.end()

    with pytest.raises(TimeoutError if steps == ["expire"] else asyncio.CancelledError):
        await asyncio.create_task(wait_in_vain())
    assert cancelings == [len(steps) - 1]
    assert await connections.send([("PING",)]) == [b"PONG"]
    assert len(connections._links) == 1
    await connections.close()
