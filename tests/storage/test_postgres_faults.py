"""PostgreSQL that refuses, freezes, cuts off or changes: the caller has an answer in time, with cause and remedy."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from freezing import frozen
from psycopg import conninfo
from psycopg.pq import TransactionStatus

from ratesim.errors import BatchError, StorageConnectionError, StorageError, StorageTimeoutError, StorageUnavailableError
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server, postgres
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.base import Charge, Request
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres import PostgresStorage, connections
from ratesim.storage.postgres.driver import PostgresDriver

NOW = 1_700_000_000.0
LIMIT = Limit(1000, 3600, "token_bucket")
HANG = 30.0  # seconds after which a test fails that the fault would keep waiting
Verb = Callable[[PostgresStorage], Awaitable[object]]

STATE = RateLimitState(AlgorithmData.of("token_bucket", [NOW, 3.0]), NOW, NOW, 1)
VERBS: dict[str, Verb] = {
    "open": lambda storage: storage.open(),
    "acquire": lambda storage: storage.acquire("x", LIMIT),
    "acquire_many": lambda storage: storage.acquire_many([Request("x", LIMIT), Request("y", LIMIT)]),
    "peek": lambda storage: storage.peek("x", LIMIT),
    "observe": lambda storage: storage.observe("x", Limit(5, 60, "adaptive"), 0.5),
    "reset": lambda storage: storage.reset("x"),
    "get_state": lambda storage: storage.get_state("x"),
    "set_state": lambda storage: storage.set_state("x", STATE),
    "batch_get": lambda storage: storage.batch_get(["x", "y"]),
    "batch_set": lambda storage: storage.batch_set([("x", STATE, None)]),
    "increment": lambda storage: storage.increment("x", 1, 60.0),
    "charge_many": lambda storage: storage.charge_many([Charge("x", LIMIT, "n", 1, 0.0, ((NOW, 1.0, 1),))]),
    "cleanup_expired": lambda storage: storage.cleanup_expired(),
    "get_stats": lambda storage: storage.get_stats(),
}


def storage_at(url: str, **options: Any) -> PostgresStorage:
    defaults: dict[str, Any] = {"synchronous_commit": "off", "breaker_failures": 10_000, "retries": 0}
    return PostgresStorage(PostgresStorageConfig(url=url, **{**defaults, **options}))


# -- a server that refuses --------------------------------------------------------------------------------------------


@asynccontextmanager
async def refusing(state: str, message: str) -> AsyncIterator[str]:
    """A server that ends every session with an error, and its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            length, _ = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            fields = f"SFATAL\0VFATAL\0C{state}\0M{message}\0\0".encode()
            writer.write(b"E" + struct.pack("!i", 4 + len(fields)) + fields)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"postgresql://me:hush@127.0.0.1:{port}/base?sslmode=disable&gssencmode=disable"


REFUSALS = [
    ("28P01", 'password authentication failed for user "me"', StorageConnectionError, "correct the password"),
    ("28000", 'role "me" does not exist', StorageConnectionError, "correct the user"),
    ("3D000", 'database "base" does not exist', StorageConnectionError, "correct the database"),
    ("28000", 'no pg_hba.conf entry for host "127.0.0.1", user "me"', StorageConnectionError, "pg_hba.conf"),
    (
        "28P01",
        "Passwort-Authentifizierung für Benutzer »me« fehlgeschlagen",
        StorageConnectionError,
        "look at the server's log",
    ),
    ("53300", "sorry, too many clients already", StorageUnavailableError, "lower pool_size"),
    ("53300", 'too many connections for role "me"', StorageUnavailableError, "lower pool_size"),
    (
        "53300",
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        StorageUnavailableError,
        "lower",
    ),
    ("57P03", "the database system is starting up", StorageUnavailableError, "wait"),
    # Of pgbouncer.
    ("08P01", "no such user: me", StorageConnectionError, "correct the user"),
    ("08P01", "unsupported startup parameter: options", StorageConnectionError, "schema="),
]


@pytest.mark.parametrize(("state", "message", "kind", "remedy"), REFUSALS)
async def test_a_refusal_is_one_line_with_its_own_remedy_from_every_verb(
    state: str, message: str, kind: type[StorageError], remedy: str
) -> None:
    async with refusing(state, message) as url:
        for name, verb in VERBS.items():
            storage = storage_at(url, command_timeout=20.0)
            with pytest.raises(StorageError) as caught:
                await verb(storage)
            error = caught.value.results[0] if isinstance(caught.value, BatchError) else caught.value
            assert type(error) is kind, name
            assert not getattr(error, "sent", False), name
            text = str(error)
            assert message in text, name
            assert remedy in text.replace(message, ""), name
            assert "running" not in text, name
            assert "start it" not in text, name
            assert "hush" not in text, name
            assert "\n" not in text, name
            await storage.close()
        async with asyncio.timeout(HANG):
            storage = storage_at(url)
            health = await storage.health_check()
            assert not health.healthy
            assert message in health.detail
            await storage.close()


# -- a server that freezes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    with postgres() as server:
        yield server


async def served(storage: PostgresStorage) -> None:
    """Return when the storage decides; on a busy machine not at the first try."""
    async with asyncio.timeout(HANG):
        while True:
            with suppress(StorageError):
                await asyncio.gather(*(storage.acquire(f"x{i}", LIMIT) for i in range(20)))
                return


@pytest.mark.servers
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the descendants of a process are read from /proc")
async def test_a_frozen_server_keeps_nobody_waiting_and_works_again_afterward(own_server: Server) -> None:
    loop = asyncio.get_running_loop()
    storage = await storage_at(own_server.url, command_timeout=0.3, connection_timeout=0.5).open()
    idle = await storage_at(own_server.url, command_timeout=0.3).open()
    async with storage:
        for each in (storage, idle):
            await served(each)
        async with frozen(own_server):
            waits = []
            for _ in range(6):  # first on connections that were open, then on none
                start = loop.time()
                with pytest.raises((StorageTimeoutError, StorageConnectionError)):
                    await storage.acquire("x", LIMIT)
                waits.append(loop.time() - start)
            answers = await asyncio.gather(*(storage.acquire(f"x{i}", LIMIT) for i in range(40)), return_exceptions=True)
            assert all(isinstance(answer, StorageError) for answer in answers)
            assert min(waits) < 2.0  # it took 11 s, whatever the command_timeout
            async with asyncio.timeout(HANG):
                await idle.close()
        await served(storage)


# -- a server with few connections ------------------------------------------------------------------------------------


@pytest.mark.servers
async def test_callers_share_the_connections_that_the_server_has(postgres_server: Server) -> None:
    url = postgres_server.url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        await admin.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 3; GRANT ALL ON SCHEMA public TO few")
        try:
            storage = storage_at(
                conninfo.make_conninfo(url, user="few"), table_name="few", pool_size=10, command_timeout=20.0
            )
            async with storage:
                for _ in range(5):
                    decisions = await asyncio.gather(*(storage.acquire(f"x{i}", LIMIT) for i in range(60)))
                    assert all(decisions)
                assert not storage.client.errors
        finally:
            await admin.execute("DROP OWNED BY few; DROP ROLE few")


# -- a caller who gives up --------------------------------------------------------------------------------------------


@pytest.mark.servers
async def test_a_canceled_request_frees_its_place_though_its_statement_waits(postgres_server: Server) -> None:
    url = postgres_server.url
    async with storage_at(url, table_name="given_up", pool_size=1, command_timeout=20.0) as storage:
        await storage.acquire("held", LIMIT)
        async with await psycopg.AsyncConnection.connect(url) as holder:
            await holder.execute("SELECT 1 FROM given_up WHERE identifier = 'held' FOR UPDATE")
            waiting = asyncio.create_task(storage.acquire("held", LIMIT))
            async with asyncio.timeout(HANG), await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
                seen = (
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ratesim' AND wait_event_type = 'Lock'"
                )
                while (await (await admin.execute(seen)).fetchone()) == (0,):  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(HANG), await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
                assert await storage.acquire("free", LIMIT)
                while (await (await admin.execute(seen)).fetchone()) != (0,):  # noqa: ASYNC110 - the server ends it as well
                    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == 1


# -- a connection that is cut off -------------------------------------------------------------------------------------


class Firewall:
    """Carries bytes between clients and the server, and forgets connections without a word."""

    def __init__(self, server: Server) -> None:
        address = conninfo.conninfo_to_dict(server.url)
        self._path = f"{address['host']}/.s.PGSQL.{address.get('port', 5432)}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes: list[asyncio.Event] = []
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    def forget(self) -> None:
        for each in self._passes:
            each.clear()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        passes = asyncio.Event()
        passes.set()
        self._passes.append(passes)
        there, out = await asyncio.open_unix_connection(self._path)
        for source, sink in ((reader, out), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink, passes))
            self._tasks.add(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        try:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    await passes.wait()
                    sink.write(data)
        finally:
            sink.close()


@pytest.mark.servers
async def test_connections_that_a_firewall_forgot_while_idle_cost_no_failed_request(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    firewall = Firewall(postgres_server)
    url = await firewall.start()
    storage = storage_at(url, table_name="forgotten", pool_size=4, command_timeout=4.0, connection_timeout=10.0)
    try:
        await asyncio.gather(*(storage.acquire(f"x{i}", LIMIT) for i in range(20)))
        before = firewall.connections
        monkeypatch.setattr(connections, "PROBE_AFTER", 0.0)
        assert await storage.acquire("x", LIMIT)
        assert firewall.connections == before  # the probe was answered
        firewall.forget()
        assert await storage.acquire("x", LIMIT)
        assert not storage.client.errors
        assert firewall.connections > before
    finally:
        await storage.close()
        await firewall.stop()


@pytest.mark.servers
async def test_a_look_at_the_tables_on_a_connection_that_was_cut_off_does_not_keep_decisions_waiting(
    postgres_server: Server,
) -> None:
    """As after a failover from a server that stands still, whose idle connections are still in the pool."""
    firewall = Firewall(postgres_server)
    url = await firewall.start()
    storage = storage_at(url, table_name="cut_off", pool_size=4, command_timeout=1.0, connection_timeout=10.0)
    try:
        async with asyncio.timeout(HANG):
            taken = [await storage.driver._take(HANG) for _ in range(4)]
        for each in taken:
            storage.driver._give_back(each)
        firewall.forget()
        assert storage.driver._schema is None

        async def is_well() -> bool:
            return (await storage.health_check()).healthy

        await until(is_well)
    finally:
        await storage.close()
        await firewall.stop()


@pytest.mark.servers
async def test_connections_end_when_they_are_old(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with storage_at(postgres_server.url, table_name="aged", pool_size=1) as storage:
        await storage.acquire("x", LIMIT)
        first = await storage.driver._take()
        storage.driver._give_back(first)
        assert not first.closed
        monkeypatch.setattr(first, "lifetime", 0.0)
        await storage.acquire("x", LIMIT)
        assert first.closed
        assert await storage.acquire("x", LIMIT)
        assert not storage.client.errors


# -- expired rows -----------------------------------------------------------------------------------------------------


async def rows(url: str, table: str) -> int:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await (await connection.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()
        assert found is not None
        return int(found[0])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG):
        while not await condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)


@pytest.mark.servers
async def test_expired_rows_are_removed_in_the_background(postgres_server: Server) -> None:
    url, clock = postgres_server.url, [NOW]
    config = PostgresStorageConfig(
        url=url, table_name="swept", cleanup_interval=0.05, synchronous_commit="off", command_timeout=HANG
    )
    async with PostgresStorage(config, AsyncioRuntime(lambda: clock[0])) as storage:
        await storage.acquire_many([Request(f"s{i}", Limit(5, 10)) for i in range(30)])
        await storage.acquire("kept", LIMIT, 900.0)
        clock[0] += 100

        async def is_swept() -> bool:
            return await rows(url, "swept") == 1

        await until(is_swept)
        assert (await storage.get_stats()).entries == 1
        # A failing round shows until one succeeds.
        await storage.increment("c", 1, 60.0)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
            await admin.execute("ALTER TABLE swept_counters RENAME COLUMN expires_at TO other")

            async def is_unhealthy() -> bool:
                return "cleanup failed" in (await storage.health_check()).detail

            await until(is_unhealthy)
            assert (await storage.get_stats()).background_failures > 0
            await admin.execute("ALTER TABLE swept_counters RENAME COLUMN other TO expires_at")

        async def is_healthy() -> bool:
            return (await storage.health_check()).healthy

        await until(is_healthy)


@pytest.mark.servers
async def test_a_node_whose_clock_is_ahead_removes_nothing_that_is_live(postgres_server: Server) -> None:
    ahead = AsyncioRuntime(lambda: AsyncioRuntime().time() + 7200)
    url, table = postgres_server.url, "ahead"
    async with storage_at(url, table_name=table, cleanup_interval=0.0) as storage:
        await storage.acquire("x", LIMIT, 900.0, AsyncioRuntime().time())
        node = PostgresStorage(PostgresStorageConfig(url=url, table_name=table), ahead)
        await node._maintain()
        assert await rows(url, table) == 1
        await node.close()


@pytest.mark.servers
async def test_one_node_in_each_interval_cleans_up(postgres_server: Server) -> None:
    drivers = [PostgresDriver(PostgresStorageConfig(url=postgres_server.url, table_name="turns")) for _ in range(5)]
    turns = await asyncio.gather(*(driver.take_turn(3600.0) for driver in drivers))
    assert sum(turn is not None for turn in turns) == 1
    assert await drivers[0].take_turn(3600.0) is None
    for driver in drivers:
        await driver.close()


async def test_a_storage_without_an_interval_has_no_background_task(postgres_server: Server) -> None:
    before = len(asyncio.all_tasks())
    async with storage_at(postgres_server.url, table_name="unswept", cleanup_interval=0.0):
        assert len(asyncio.all_tasks()) == before
    async with storage_at(postgres_server.url, table_name="unswept"):
        assert len(asyncio.all_tasks()) == before + 1
    assert len(asyncio.all_tasks()) == before


async def test_a_connection_that_was_just_given_up_is_closed_with_its_storage(postgres_server: Server) -> None:
    """Also where the task that asks the server to cancel the statement has not begun yet."""
    storage = await storage_at(postgres_server.url).open()
    connection = await storage.driver._take()

    async def give_up() -> None:
        try:
            await connection.execute("SELECT pg_sleep(60)")
        finally:
            storage.driver._give_back(connection)
            await storage.driver.close()

    caller = asyncio.create_task(give_up())
    async with asyncio.timeout(HANG):
        while connection.pgconn.transaction_status != TransactionStatus.ACTIVE:  # noqa: ASYNC110 - of the server
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
    assert connection.leaving is not None
    assert connection.leaving.cancelled()
    assert connection.closed
    await storage.close()
