"""PostgreSQL dies under load: which acknowledged charges survive which setting, and how callers fare meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psycopg
import pytest
from outage import WAL_WRITER_DELAY, descriptor_count, nothing_is_left
from stores import PATIENCE, PostgresStore, children, postgres_store, wait_until
from subjects import SLACK, Lag, with_options

from ratesim import Limit, servers
from ratesim.errors import StorageConnectionError, StorageError
from ratesim.storage import PostgresStorage, RateLimitStorage, open_storage

LIMIT = Limit(1e9, 1e7, "fixed_window")  # never used up, and no window ends within a test
KEYS = 10
CLIENT = {"pool_size": 8, "command_timeout": 0.5, "connection_timeout": 0.5, "breaker_reset": 0.3, "breaker_failures": 3}
# Seconds: three times wal_writer_delay, which PostgreSQL gives as the most that synchronous_commit=off loses.
WINDOW = 3 * WAL_WRITER_DELAY
SIZES = [(2, 8), pytest.param(4, 64, marks=pytest.mark.nightly)]  # nodes, and tasks of each
pytestmark = [pytest.mark.servers, pytest.mark.slow]


@dataclass
class Ledger:
    """What callers were told.

    Attributes
    ----------
    acknowledged : list[tuple[float, str]]
        When a charge was acknowledged, and of which key.
    unknown : Counter[str]
        Charges by key of which nobody knows whether the server carried them out.
    longest : float
        The longest call, in seconds.
    """

    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    ended: bool = False

    def charged(self, begin: float = 0.0, end: float = float("inf")) -> Counter[str]:
        """Charges by key that were acknowledged in [begin, end)."""
        return Counter(key for at, key in self.acknowledged if begin <= at < end)

    async def charge(self, storage: PostgresStorage, number: int) -> None:
        """One caller, who goes from key to key."""
        while not self.ended:
            key, begin = f"hot{number % KEYS}", time.monotonic()
            number += 1
            try:
                assert (await storage.acquire(key, LIMIT)).allowed
            except StorageError as error:
                self.unknown[key] += not (isinstance(error, StorageConnectionError) and error.sent is False)
                self.errors[type(error).__name__] += 1
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append((time.monotonic(), key))
            self.longest = max(self.longest, time.monotonic() - begin)


@asynccontextmanager
async def load(url: str, nodes: int, tasks: int, **options: object) -> AsyncIterator[Ledger]:
    """Charge without a pause within the block; at its end all is well again, and no call has hung."""
    ledger, lag = Ledger(), Lag()
    storages = [open_storage(with_options(url, **CLIENT, **options)) for _ in range(nodes)]
    callers: list[asyncio.Task[None]] = []
    watching = asyncio.create_task(lag.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(storage.open() for storage in storages))
        assert all(isinstance(storage, PostgresStorage) for storage in storages)
        callers += [
            asyncio.create_task(ledger.charge(storage, number))  # type: ignore[arg-type]
            for storage in storages
            for number in range(tasks)
        ]
        await progress(ledger, 20 * tasks)
        yield ledger
        await progress(ledger, 5 * tasks)
        for storage in storages:
            await well(storage)
    finally:
        ledger.ended = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*callers)
            await asyncio.gather(*(storage.close() for storage in storages))
        watching.cancel()
        await asyncio.wait([watching])
    assert ledger.longest <= SLACK * 2 * 0.5 + lag.most, ledger.errors  # connection_timeout and command_timeout


async def well(storage: RateLimitStorage) -> None:
    """Wait until the breaker is closed and the server answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if (await storage.health_check()).healthy:
                return
            await asyncio.sleep(0.02)


async def progress(ledger: Ledger, count: int) -> None:
    """Wait until so many more charges are acknowledged."""
    before, deadline = len(ledger.acknowledged), time.monotonic() + PATIENCE
    while len(ledger.acknowledged) < before + count:
        assert time.monotonic() < deadline, f"{len(ledger.acknowledged) - before} of {count} charges: {ledger.errors}"
        await asyncio.sleep(0.01)


async def counted(url: str, **options: object) -> Counter[str]:
    """Return what the server counts of each key."""
    async with open_storage(with_options(url, command_timeout=10, **options)) as storage:
        asked = [await storage.peek(f"hot{number}", LIMIT, 0.0) for number in range(KEYS)]
    return Counter({f"hot{number}": round(LIMIT.rate - each.remaining) for number, each in enumerate(asked)})


def hold(ledger: Ledger, count: Counter[str], least: Counter[str]) -> None:
    """Every key counts what must be left of its acknowledged charges, and none that nobody has asked for."""
    most = ledger.charged() + ledger.unknown
    assert {key: (least[key], count[key], most[key]) for key in most if not least[key] <= count[key] <= most[key]} == {}


@pytest.fixture(scope="module")
def store() -> Iterator[PostgresStore]:
    with postgres_store() as found:
        assert isinstance(found, PostgresStore)
        yield found


async def crash(store: PostgresStore) -> float:
    """Kill the postmaster, as the kernel does when memory runs out, and start it again; returns when it was killed.

    Its processes end by themselves, but for those that wait for a lock of one that has. A service manager kills these.
    """
    at, left = time.monotonic(), children(store.pid)
    os.kill(store.pid, signal.SIGKILL)
    await asyncio.sleep(0.3)  # so that callers meet a server that is not there
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: store.supervisor.status(store.pid) is not None, "the end of the server")
    await asyncio.to_thread(store.start)
    return at


@pytest.mark.parametrize(("nodes", "tasks"), SIZES)
@pytest.mark.parametrize("durability", ["synchronous_commit=on", "synchronous_commit=off", "unlogged=true"])
async def test_a_crash_loses_what_the_setting_says(store: PostgresStore, durability: str, nodes: int, tasks: int) -> None:
    descriptors, connections = descriptor_count(), store.connections()
    name, _, value = durability.partition("=")
    options = {name: value, "table_name": f"t{nodes}_{value}"}
    async with load(store.url, nodes, tasks, **options) as ledger:
        killed = await crash(store)
        started = time.monotonic()
        await progress(ledger, 5 * tasks)
    count = await counted(store.url, **options)
    assert sum(ledger.errors.values()) > 0
    if durability == "synchronous_commit=on":
        hold(ledger, count, ledger.charged())
    elif durability == "synchronous_commit=off":
        hold(ledger, count, ledger.charged(end=killed - WINDOW) + ledger.charged(started))
    else:  # empty after the crash, and from then on as before
        assert sum(count.values()) <= sum((ledger.charged(started) + ledger.unknown).values()) + 2 * nodes * tasks
        hold(ledger, count, ledger.charged(started))
    await nothing_is_left(store, descriptors, connections)


SYNCHRONOUS = {"synchronous_standby_names": "FIRST 1 (standby1)"}


def end(server: servers.Server, number: signal.Signals) -> None:
    """Send a signal to the primary and its children, the primary first: it cannot start another one then."""
    primary = server.members[0].pid
    left = children(primary)
    os.kill(primary, number)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.parametrize(("nodes", "tasks"), SIZES)
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_synchronous_standby_takes_over_with_every_acknowledged_charge(
    way: signal.Signals, nodes: int, tasks: int
) -> None:
    """Of a primary that is only frozen, too: when it goes on, it has no standby that would acknowledge a charge."""
    with servers.postgres(standbys=1, settings=SYNCHRONOUS) as server:
        options = {"synchronous_commit": "remote_apply"}
        try:
            async with load(server.url, nodes, tasks, **options) as ledger:
                end(server, way)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(servers.promote, server.members[1])
                await progress(ledger, 5 * tasks)
        finally:
            end(server, signal.SIGCONT)
        hold(ledger, await counted(server.members[1].url), ledger.charged())


async def test_an_asynchronous_standby_lacks_what_it_was_not_sent() -> None:
    """What was acknowledged before the standby heard its primary for the last time is there; of the rest some is lost."""
    with servers.postgres(standbys=1) as server:
        primary, standby = server.members
        with psycopg.connect(standby.url, autocommit=True) as admin:
            async with load(server.url, 2, 8) as ledger:
                heard = time.monotonic()
                with psycopg.connect(primary.url) as connection:
                    sent = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
                received = "SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn"
                wait_until(lambda: admin.execute(received, sent).fetchone() == (True,), "the standby's catching up")
                admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
                admin.execute("SELECT pg_reload_conf()")
                wait_until(lambda: admin.execute("SELECT FROM pg_stat_wal_receiver").fetchone() is None, "its deafness")
                await progress(ledger, 100)
                end(server, signal.SIGKILL)
                await asyncio.to_thread(servers.promote, standby)
                promoted = time.monotonic()
            count = await counted(standby.url)
        hold(ledger, count, ledger.charged(end=heard) + ledger.charged(promoted))
        assert (ledger.charged() - count).total() > 0
