"""Every verb of every backend, while its server is down, dies, freezes, refuses or lies: only errors of ratesim leave.

Verbs are found in the base class, so a new one is walked without being named here. Each call ends, and returns or raises an
error of the RatesimError family: one line with a cause and without the password. Health tries a write, so it is unhealthy
wherever a decision would not be stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import signal
import socket
import subprocess
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import psycopg
import pytest
import redis
import simpy
from examples import sample

from ratesim import servers
from ratesim.errors import BatchError, RatesimError, StorageConnectionError
from ratesim.limit import Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.remote_storage import SimulatedStorage, execute_operation
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import MemoryStorage, MemoryStorageConfig, RateLimitStorage, open_storage
from ratesim.storage.base import Charge, Request, StorageHealth
from ratesim.storage.config import ClientConfig
from ratesim.storage.postgres import connector
from ratesim.storage.remote.operations import Operation

PATIENCE = 60.0  # seconds after which a call counts as stuck
SECRET = "hu/sh+7=a b"
LIMIT = Limit(5, 60.0, "adaptive")
STATE = RateLimitState(AlgorithmData("token_bucket", {"last_refill": 0.0, "tokens": 1.0}), 0.0, 0.0)
ARGUMENTS: dict[str, Any] = {
    "identifier": "user:1",
    "identifiers": ["user:1", "user:2"],
    "name": "node",
    "limit": LIMIT,
    "requests": [Request("user:1", LIMIT), Request("user:2", LIMIT)],
    "state": STATE,
    "operations": [("user:1", STATE, 10.0), ("user:2", STATE, None)],
    "amount": 1,
    "window": 10.0,
    "score": 0.5,
    "holder": "one",
    "ttl": 10.0,
    "charges": [Charge("user:1", LIMIT, "node", 1, 0.0, ((1.7e9, 1.0, 1),))],
}
VERBS = [
    name
    for name, member in inspect.getmembers(RateLimitStorage, inspect.isfunction)
    if not name.startswith("_") and name not in ("open", "close")
]

MODES = [f"hybrid-{mode}" for mode in ("strong", "eventual", "session", "lease")]
KINDS = ("redis", "cluster", "sentinel", "postgres")
START = {
    "redis": servers.valkey,
    # Nobody takes over from a node that is frozen.
    "cluster": lambda: servers.valkey_cluster(primaries=2, replicas=0, node_timeout=PATIENCE),
    "sentinel": lambda: servers.valkey_sentinel(sentinels=1, replicas=0, down_after=PATIENCE),
    "postgres": servers.postgres,
}
USUALLY_ON_SERVER = [
    (kind, prefix) for kind in KINDS for prefix in ("", *MODES) if not prefix or kind in ("redis", "postgres")
]
BEHIND_SENTINEL = ("down", "frozen", "read-only", "wrong password")  # the others it has in common with a server alone
VALKEYS = ("redis", "cluster", "sentinel")
NOT_CLUSTER = ("redis", "sentinel", "postgres")  # a cluster has one database, and no node of it can be made a replica so
ON_SERVER = [(kind, prefix) for kind in KINDS for prefix in ("", *MODES)]


# -- servers that are hurt --------------------------------------------------------------------------------------------


@dataclass
class Hurt:
    """A server of this module's own, what was done to it, and how to undo that."""

    kind: str
    url: str
    pids: tuple[int, ...] = ()  # of those that hold data
    nodes: tuple[str, ...] = ()  # their addresses, where they are Valkeys
    undo: list[Callable[[], object]] = field(default_factory=list)

    @classmethod
    def of(cls, kind: str, server: servers.Server) -> Hurt:
        nodes = [member for member in server.members if member.role != "sentinel"]
        return cls(kind, server.url, tuple(node.pid for node in nodes) or server.pids, tuple(node.url for node in nodes))

    def address(self, prefix: str, **more: str) -> str:
        mode, tag = prefix.removeprefix("hybrid-"), uuid.uuid4().hex[:12]
        options = {
            "command_timeout": "0.4",
            "connection_timeout": "0.4",
            "retries": "0",
            "breaker_failures": "1000000",  # so that every verb meets the server itself
            **({"key_prefix": f"{tag}:"} if self.kind != "postgres" else {"table_name": f"t_{tag}"}),
            **({"consistency": mode, "max_wait": "0.3"} if prefix else {}),
            **more,
        }
        query = "&".join(f"{name}={value}" for name, value in options.items())
        scheme, _, rest = self.url.partition("://")
        return f"{'hybrid+' if prefix else ''}{scheme}://{rest}{'&' if '?' in rest else '?'}{query}"

    def __enter__(self) -> Hurt:
        return self

    def __exit__(self, *_: object) -> None:
        while self.undo:
            self.undo.pop()()


class OnDemand(dict[str, servers.Server]):
    """Starts a server where it is asked for."""

    def __init__(self, start: Callable[[str], servers.Server]) -> None:
        super().__init__()
        self._start = start

    def __missing__(self, kind: str) -> servers.Server:
        self[kind] = self._start(kind)
        return self[kind]


@pytest.fixture(scope="module")
def own_servers() -> Iterator[dict[str, servers.Server]]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RATESIM_REDIS_URL", "RATESIM_POSTGRES_URL"):
            patch.delenv(name, raising=False)
        with contextlib.ExitStack() as stack:
            yield OnDemand(lambda kind: stack.enter_context(START[kind]()))


@pytest.fixture
def hurt(own_servers: dict[str, servers.Server]) -> Iterator[Callable[[str], Hurt]]:
    with contextlib.ExitStack() as stack:

        def of(kind: str) -> Hurt:
            return stack.enter_context(Hurt.of(kind, own_servers[kind]))

        yield of


def valkey_command(hurt: Hurt, *command: object) -> None:
    for url in hurt.nodes:
        with redis.Redis.from_url(url) as client:
            client.execute_command(*command)


def psql(hurt: Hurt, *statements: str) -> None:
    with psycopg.connect(hurt.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def strike_down(hurt: Hurt) -> None:
    """Nothing listens where the storage looks."""
    place = f"{quote(SECRET, safe='')}@127.0.0.1:{free_port()}"
    hurt.url = {
        "redis": f"redis://:{place}/0",
        "cluster": f"redis+cluster://:{place}",
        "sentinel": f"redis+sentinel://:{place}/ratesim/0",
        "postgres": f"postgresql://u:{place}/db",
    }[hurt.kind]


def strike_frozen(hurt: Hurt) -> None:
    pids = [*hurt.pids, *(child for pid in hurt.pids for child in _children(pid))]
    hurt.undo.append(lambda: [os.kill(pid, signal.SIGCONT) for pid in reversed(pids) if Path(f"/proc/{pid}").exists()])
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def strike_read_only(hurt: Hurt) -> None:
    if hurt.kind != "postgres":
        valkey_command(hurt, "REPLICAOF", "127.0.0.1", free_port())
        hurt.undo.append(lambda: valkey_command(hurt, "REPLICAOF", "NO", "ONE"))
        return
    hurt.undo.append(lambda: psql(hurt, "ALTER ROLE postgres RESET default_transaction_read_only", CUT))
    psql(hurt, "ALTER ROLE postgres SET default_transaction_read_only = on", CUT)


def strike_full(hurt: Hurt) -> None:
    hurt.undo.append(lambda: valkey_command(hurt, "CONFIG", "SET", "maxmemory", 0))
    valkey_command(hurt, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    valkey_command(hurt, "CONFIG", "SET", "maxmemory", 1)


def strike_unsaved(hurt: Hurt) -> None:
    """The last snapshot failed, as on a disk that is full: a directory lies where its file goes."""
    for url in hurt.nodes:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            in_the_way = Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]
            in_the_way.unlink(missing_ok=True)
            in_the_way.mkdir()
            client.config_set("save", "3600 1")

        def save(end: str, url: str = url) -> None:
            with redis.Redis.from_url(url, decode_responses=True) as client:
                client.bgsave()
                while client.info("persistence")["rdb_last_bgsave_status"] != end:
                    time.sleep(0.01)

        save("err")
        hurt.undo.append(partial(save, "ok"))
        hurt.undo.append(in_the_way.rmdir)
    hurt.undo.insert(0, lambda: valkey_command(hurt, "CONFIG", "SET", "save", ""))


def strike_wrong_password(hurt: Hurt) -> None:
    if hurt.kind != "postgres":
        hurt.url = re.sub("//.*@", f"//:{quote(SECRET, safe='')}@", hurt.url)
        return
    rules = Path(parse_qs(urlsplit(hurt.url).query)["host"][0]) / "data" / "pg_hba.conf"
    before, trusting = rules.read_text(), Hurt(hurt.kind, hurt.url)
    psql(trusting, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    rules.write_text("local all guarded scram-sha-256\n" + before)
    psql(trusting, RELOAD)
    hurt.undo.append(lambda: psql(trusting, RELOAD, "DROP ROLE guarded"))
    hurt.undo.append(lambda: rules.write_text(before))
    hurt.url = hurt.url.replace("//postgres@", f"//guarded:{quote(SECRET, safe='')}@")


def strike_unknown_database(hurt: Hurt) -> None:
    hurt.url = hurt.url.replace("/postgres?", "/nowhere?") if hurt.kind == "postgres" else re.sub(r"/0\b", "/9999", hurt.url)


def strike_no_rights(hurt: Hurt) -> None:
    """A role that may connect, and nothing else; for Redis a user that may ping."""
    if hurt.kind != "postgres":
        valkey_command(hurt, "ACL", "SETUSER", "poor", "on", f">{SECRET}", "+ping", "~*")
        hurt.undo.append(lambda: valkey_command(hurt, "ACL", "DELUSER", "poor"))
        hurt.url = re.sub("//.*@", f"//poor:{quote(SECRET, safe='')}@", hurt.url)
        return
    rich = Hurt(hurt.kind, hurt.url)
    psql(rich, "CREATE ROLE poor LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    hurt.undo.append(lambda: psql(rich, "DROP ROLE poor"))
    hurt.url = hurt.url.replace("//postgres@", "//poor@")


def strike_cut(hurt: Hurt) -> None:
    """Every connection is cut, and the server lives on: the next call may fail, a later one finds it well."""
    if hurt.kind != "postgres":
        valkey_command(hurt, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    else:
        psql(hurt, CUT)


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename IS NOT NULL"
RELOAD = "SELECT pg_reload_conf()"


def _children(parent: int) -> list[int]:
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(pid) for pid in said.split()]


# -- the walk ---------------------------------------------------------------------------------------------------------


def call_of(storage: RateLimitStorage, verb: str) -> Any:
    method = getattr(storage, verb)
    needed = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert set(needed) <= ARGUMENTS.keys(), f"give ARGUMENTS a value for the new parameters of {verb}"
    return method(*(ARGUMENTS[name] for name in needed))


async def answer(call: Callable[[], Any]) -> RatesimError | None:
    """The error of a call, which must be one of ratesim's, on one line, without the password; None if it succeeds."""
    try:
        await asyncio.wait_for(call(), PATIENCE)
    except RatesimError as error:
        check(error)
        if isinstance(error, BatchError):
            for each in error.results:
                if isinstance(each, RatesimError):
                    check(each)
        return error
    return None


def check(error: RatesimError) -> None:
    message = str(error)
    assert len(message) > len("no answer")
    assert "\n" not in message
    told = "".join(traceback.format_exception(error))
    for secret in (SECRET, quote(SECRET, safe=""), quote(SECRET)):
        assert secret not in told


async def walk(storage: RateLimitStorage) -> dict[str, RatesimError | None]:
    return {verb: await answer(lambda verb=verb: call_of(storage, verb)) for verb in VERBS}


async def until_healthy(storage: RateLimitStorage) -> None:
    while not (await storage.health_check()).healthy:  # noqa: ASYNC110 - a server that recovers sets no event
        await asyncio.sleep(0.05)


async def end(storage: RateLimitStorage) -> None:
    await answer(storage.close)
    await answer(storage.close)  # a second call does nothing more


@pytest.fixture(autouse=True)
def _short_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "UPKEEP_SECONDS", 1.0)


def test_the_verbs_are_those_of_the_interface() -> None:
    assert {"acquire", "peek", "charge_many", "health_check", "get_stats", "cleanup_expired"} <= set(VERBS)


@dataclass(frozen=True)
class Fault:
    strike: Callable[[Hurt], None]
    cause: str  # what the detail of health says, as a pattern
    kinds: tuple[str, ...] = KINDS
    from_start: bool = False  # whether it is there before the storage is opened
    recovers: bool = True


FAULTS = {
    "down": Fault(strike_down, r"127\.0\.0\.1:\d+", from_start=True, recovers=False),
    "frozen": Fault(strike_frozen, r"no (answer|connection) (within 0\.|in time)"),
    "read-only": Fault(strike_read_only, r"(?i)read-only|standby|replica", NOT_CLUSTER),
    "read-only from the start": Fault(strike_read_only, r"(?i)read-only|standby|replica", NOT_CLUSTER, from_start=True),
    "full": Fault(strike_full, r"maxmemory", VALKEYS),
    "unsaved": Fault(strike_unsaved, r"save|disk", VALKEYS),
    "wrong password": Fault(strike_wrong_password, r"(?i)password", from_start=True, recovers=False),
    "unknown database": Fault(
        strike_unknown_database, r"(?i)database|DB index", NOT_CLUSTER, from_start=True, recovers=False
    ),
    "no rights": Fault(strike_no_rights, r"(?i)ratesim schema|ACL SETUSER", from_start=True, recovers=False),
}
CASES = [(fault, kind, prefix) for fault, each in FAULTS.items() for kind, prefix in ON_SERVER if kind in each.kinds]
USUAL = [
    case
    for case in CASES
    if (not case[2] and (case[1] != "sentinel" or case[0] in BEHIND_SENTINEL))
    or (case[2] == "hybrid-eventual" and case[1] in ("redis", "postgres"))
]


@pytest.mark.servers
@pytest.mark.parametrize(("name", "kind", "prefix"), sample(CASES, USUAL))
async def test_only_errors_of_ratesim_leave(hurt: Callable[[str], Hurt], name: str, kind: str, prefix: str) -> None:
    fault, server = FAULTS[name], hurt(kind)
    if fault.from_start:
        fault.strike(server)
    storage = open_storage(server.address(prefix))
    try:
        opened = await answer(storage.open)
        if not fault.from_start:
            assert opened is None
            assert not any((await walk(storage)).values())
            assert (await storage.health_check()).healthy
            fault.strike(server)
        errors = await walk(storage)
        assert errors["set_state"] is not None
        health = await asyncio.wait_for(storage.health_check(), PATIENCE)
        assert not health.healthy
        assert re.search(fault.cause, health.detail), health.detail
        assert "\n" not in health.detail
        assert "is the server running" not in health.detail or name in ("down", "frozen")
        assert health.latency >= 0.0
        if fault.recovers:
            server.__exit__()
            await until_healthy(storage)
            assert not any((await walk(storage)).values())
    finally:
        await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "prefix"), sample(ON_SERVER, [(kind, "") for kind in KINDS]))
async def test_a_server_that_is_killed_in_between_raises_only_errors_of_ratesim(kind: str, prefix: str) -> None:
    with contextlib.suppress(servers.ServerDiedError), START[kind]() as server:
        hurt = Hurt.of(kind, server)
        storage = open_storage(hurt.address(prefix))
        try:
            async with asyncio.TaskGroup() as group:  # some are under way when it dies
                await storage.open()
                for verb in [*VERBS] * 3:
                    group.create_task(answer(lambda verb=verb: call_of(storage, verb)))
                await asyncio.sleep(0.01)
                for pid in hurt.pids:
                    os.kill(pid, signal.SIGKILL)
            errors = await walk(storage)
            assert errors["set_state"] is not None
            assert not (await storage.health_check()).healthy
        finally:
            await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "prefix"), sample(ON_SERVER, [(kind, "") for kind in KINDS]))
async def test_connections_that_are_cut_raise_only_errors_of_ratesim(
    hurt: Callable[[str], Hurt], kind: str, prefix: str
) -> None:
    server = hurt(kind)
    storage = open_storage(server.address(prefix))
    try:
        assert await answer(storage.open) is None
        for verb in VERBS:
            await asyncio.to_thread(strike_cut, server)
            await answer(lambda verb=verb: call_of(storage, verb))
        await until_healthy(storage)
    finally:
        await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize("prefix", ["", *MODES])
async def test_a_key_of_another_type_raises_only_errors_of_ratesim(hurt: Callable[[str], Hurt], prefix: str) -> None:
    server = hurt("redis")
    tag = uuid.uuid4().hex
    storage = open_storage(server.address(prefix, key_prefix=f"{tag}:"))
    for identifier in ("user:1", "user:2"):
        valkey_command(server, "SET", f"{tag}:{{{identifier}}}", "x")
        valkey_command(server, "RPUSH", f"{tag}:{{{identifier}}}:counter", "x")
    try:
        await storage.open()
        errors = await walk(storage)
        assert errors["increment"] is not None
        assert prefix or (await storage.health_check()).healthy  # of one key the server knows nothing
    finally:
        await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "prefix"), sample(ON_SERVER, USUALLY_ON_SERVER))
async def test_a_closed_storage_raises_only_errors_of_ratesim(hurt: Callable[[str], Hurt], kind: str, prefix: str) -> None:
    storage = open_storage(hurt(kind).address(prefix))
    assert await answer(storage.open) is None
    await end(storage)
    errors = await walk(storage)
    assert "closed" in str(errors["acquire"])
    health = await storage.health_check()
    assert not health.healthy
    assert "closed" in health.detail
    await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize("kind", KINDS)
async def test_an_open_breaker_is_unhealthy_and_names_what_opened_it(hurt: Callable[[str], Hurt], kind: str) -> None:
    server = hurt(kind)
    strike_down(server)
    storage = open_storage(server.address("", breaker_failures="2", breaker_reset="60"))
    try:
        for _ in range(3):
            health = await storage.health_check()
        assert not health.healthy
        opened = r"the circuit breaker is open after 2 failures in a row \(the last: .*\); it tries again in [\d.]+ s"
        assert re.fullmatch(opened, health.detail)
        assert re.search(FAULTS["down"].cause, health.detail)
        assert SECRET not in health.detail
    finally:
        await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "prefix"), sample(ON_SERVER, USUALLY_ON_SERVER))
async def test_a_health_check_leaves_nothing_and_measures_the_write(
    hurt: Callable[[str], Hurt], kind: str, prefix: str
) -> None:
    storage = open_storage(hurt(kind).address(prefix, command_timeout="5"))
    try:
        await storage.open()
        checks = await asyncio.gather(*(storage.health_check() for _ in range(20)))
        assert all(check.healthy and check.detail == "" and 0.0 < check.latency < 5.0 for check in checks)
        l2 = getattr(storage, "l2", storage)
        assert (await l2.get_stats()).entries == 0
        assert (await storage.get_stats()).entries == 0
    finally:
        await end(storage)


@pytest.mark.servers
@pytest.mark.parametrize("gone", ["tables", "functions"])
async def test_missing_tables_and_functions_are_unhealthy_for_a_role_that_may_not_create_them(
    hurt: Callable[[str], Hurt], gone: str
) -> None:
    server = hurt("postgres")
    owner, admin = open_storage(server.address("", table_name="gone")), Hurt("postgres", server.url)
    await owner.open()
    assert not any((await walk(owner)).values())
    await end(owner)
    psql(
        admin,
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "CREATE ROLE poor LOGIN",
        "GRANT ALL ON gone, gone_counters TO poor",
    )
    try:
        async with open_storage(server.address("", table_name="gone").replace("//postgres@", "//poor@")) as storage:
            assert (await storage.health_check()).healthy
            if gone == "tables":
                psql(admin, "DROP TABLE gone, gone_counters CASCADE")
            else:
                psql(admin, DROP_FUNCTIONS)
            health = await storage.health_check()
            assert not health.healthy
            assert "ratesim schema" in health.detail
    finally:
        psql(admin, "DROP TABLE IF EXISTS gone, gone_counters, gone_denied CASCADE", DROP_FUNCTIONS, "DROP ROLE poor")


DROP_FUNCTIONS = """DO $$ DECLARE each regprocedure; BEGIN
FOR each IN SELECT oid FROM pg_proc WHERE proname LIKE 'gone%' LOOP
EXECUTE 'DROP FUNCTION ' || each || ' CASCADE'; END LOOP; END $$"""


def test_a_simulated_storage_is_as_healthy_as_its_server() -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env)
    memory = MemoryStorage(runtime=runtime)

    class Driver:
        down = False

        async def execute(self, batch: Sequence[Operation]) -> list[object]:
            await runtime.sleep(0.25)
            if self.down:
                raise StorageConnectionError("the server is down")
            return [execute_operation(memory, operation) for operation in batch]

        async def close(self) -> None: ...

    driver = Driver()
    storage = SimulatedStorage(driver, runtime, ClientConfig(retries=0), np.random.default_rng(1))
    found = []

    async def check() -> None:
        found.append(await storage.health_check())
        assert memory.entries == {}
        driver.down = True
        found.append(await storage.health_check())

    runtime.spawn(check())
    env.run()
    assert found == [StorageHealth(True, 0.25), StorageHealth(False, 0.25, "the server is down")]


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "persist_to_disk={}&fsync=always", "persist_to_disk={}&fsync=interval"])
async def test_memory_raises_only_errors_of_ratesim_also_when_closed(tmp_path: Path, options: str) -> None:
    storage = open_storage(f"memory://?{options.format(tmp_path)}")
    await storage.open()
    assert not any((await walk(storage)).values())
    health = await storage.health_check()
    assert health.healthy
    assert (health.latency > 0.0) == bool(options)
    await end(storage)
    await walk(storage)


@pytest.fixture
def no_room(tmp_path: Path) -> Iterator[Callable[[bool], None]]:
    """Forbids this process, or allows it again, to make files longer than those in the directory are."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(on: bool) -> None:
        size = max((path.stat().st_size for path in tmp_path.iterdir()), default=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]) if on else before)

    yield limit
    limit(False)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
async def test_a_disk_that_fails_under_memory_is_unhealthy(
    tmp_path: Path, no_room: Callable[[bool], None], fsync: str
) -> None:
    storage = open_storage(f"memory://?persist_to_disk={tmp_path}&fsync={fsync}")
    await storage.open()
    try:
        await storage.acquire("user:1", LIMIT)
        no_room(True)
        health = await storage.health_check()
        no_room(False)
        assert not health.healthy
        assert str(tmp_path) in health.detail
        assert "must be closed and opened again" in health.detail
        assert (await walk(storage))["acquire"] is not None  # what the disk holds is unknown
    finally:
        await end(storage)


async def test_a_full_disk_of_memory_is_unhealthy_until_there_is_room(tmp_path: Path) -> None:
    storage = MemoryStorage(MemoryStorageConfig(persist_to_disk=str(tmp_path)))
    async with storage:
        await storage.acquire("user:1", LIMIT)
        assert storage._database is not None
        connection = storage._database._connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
        health = await storage.health_check()
        assert not health.healthy
        assert health.detail == f"{tmp_path / 'entries.db'}: database or disk is full; make room on the disk"
        connection.execute("PRAGMA max_page_count = 1000000")
        assert (await storage.health_check()).healthy
        assert not any((await walk(storage)).values())
    async with MemoryStorage(MemoryStorageConfig(persist_to_disk=str(tmp_path))) as again:
        assert {key for key in again.entries if "probe" in str(key)} == set()
