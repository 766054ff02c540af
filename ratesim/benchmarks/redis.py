"""The benchmark of Redis: decisions beside raw commands and other limiters, and what the server spends on each.

All of it is measured at one embedded Valkey, in rounds in which the contenders take turns. Raw is redis-py that sends the
very commands that RedisStorage sends, made before.
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import redis.asyncio

from ratesim import algorithms, servers
from ratesim.benchmarks.in_turns import Figures, Work, in_turns, table
from ratesim.benchmarks.redis_peers import Ask, Peer, open_peers
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.storage import RedisStorage, RedisStorageConfig, Request
from ratesim.storage.redis import RedisDriver
from ratesim.storage.remote.operations import Acquire

__all__ = ["at_once", "batches", "one_at_a_time", "section", "server_time"]

ROUNDS = 5
REQUESTS = 2000  # of a contender in a round
TASKS = 64
BATCH = 100
USERS = [f"user:{i}" for i in range(100)]
RATE = 1_000_000  # a minute: admitted, as most requests are
LIMITS = {name: Limit(RATE, 60.0, name) for name in algorithms.names()}


def section() -> list[str]:
    """Return the lines of the report."""
    with servers.valkey() as server:
        if server.kind == "fakeredis":
            return ['redis: no server is installed; pip install "ratesim[embedded]"']
        return asyncio.run(_section(server))


async def _section(server: Server) -> list[str]:
    with_peers = all(importlib.util.find_spec(name) for name in ("limits", "throttled", "pyrate_limiter"))
    async with AsyncExitStack() as stack:
        peers = await stack.enter_async_context(open_peers(server.url, RATE, USERS)) if with_peers else []
        alone = await one_at_a_time(server.url, peers)
        together = await at_once(server.url, peers)
        packed = await batches(server.url)
        spent = await server_time(server.url, peers)
    about = f"{REQUESTS:,} decisions a round, medians of {ROUNDS} rounds in turn, {len(USERS)} users"
    lines = [f"RedisStorage at an embedded {server}, {about}; decisions/s"]
    lines += table("one at a time, fixed_window", alone, "raw evalsha")
    raw, ours = alone["raw evalsha"], alone["ratesim"]
    lines.append(f"    p99 {ours.p99 * 1e3:.2f} ms, {ours.p99 / raw.p99:.2f} of raw's {raw.p99 * 1e3:.2f} ms")
    lines += table(f"{TASKS} tasks", together, f"raw pipelines of {BATCH}")
    lines += table(f"batches of {BATCH}, fixed_window", packed, "raw pipeline")
    lines.append("  microseconds of the server for one decision, one at a time (INFO commandstats)")
    for algorithm in algorithms.names():
        mine = spent.pop(("ratesim", algorithm))
        others = [(name, each) for (name, other), each in spent.items() if other == algorithm]
        beside = "   ".join(f"{name} {each:.1f}" for name, each in others)
        lines.append(f"    {algorithm:<16} {mine:>7.1f}   {beside}".rstrip())
    if not with_peers:
        lines.append('  peers: not installed; pip install "ratesim[bench]"')
    return lines


async def one_at_a_time(
    url: str, peers: Sequence[Peer], rounds: int = ROUNDS, requests: int = REQUESTS
) -> dict[str, Figures]:
    """Measure requests that wait for each other, of a fixed window."""

    async def ask_all(ask: Ask, latency: list[float]) -> None:
        for i in range(requests):
            start = time.perf_counter()
            await ask(USERS[i % len(USERS)])
            latency.append(time.perf_counter() - start)

    limit = LIMITS["fixed_window"]
    async with _ours(url) as storage, _raw(url, storage, limit) as (client, commands):
        asks: dict[str, Ask] = {
            "raw evalsha": lambda user: _raw_command(client, commands[user]),
            "ratesim": lambda user: storage.acquire(user, limit),
        }
        asks |= {peer.name: peer.ask for peer in peers if peer.algorithm == "fixed_window"}
        figures = {name: Figures() for name in asks}
        works: dict[str, Work] = {
            name: lambda ask=ask, latency=figures[name].latency: ask_all(ask, latency)  # type: ignore[misc]
            for name, ask in asks.items()
        }
        return await in_turns(works, figures, requests, rounds)


async def at_once(url: str, peers: Sequence[Peer], rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Figures]:
    """Measure requests of 64 tasks, each of which sends its next one when it has an answer."""

    async def task(ask: Ask, first: int) -> None:
        for i in range(first, requests, TASKS):
            await ask(USERS[i % len(USERS)])

    async def ask_all(ask: Ask) -> None:
        await asyncio.gather(*(task(ask, first) for first in range(TASKS)))

    fixed = LIMITS["fixed_window"]
    async with _ours(url) as storage, _raw(url, storage, fixed) as (client, commands):
        every = list(commands.values())

        async def pipelines() -> None:
            for _ in range(requests // BATCH):
                await _pipeline(client, every)

        works: dict[str, Work] = {f"raw pipelines of {BATCH}": pipelines}
        works["raw evalsha"] = lambda: ask_all(lambda user: _raw_command(client, commands[user]))
        measured = {"fixed_window", "token_bucket"}
        for algorithm in sorted(measured):
            limit = LIMITS[algorithm]
            works[f"ratesim, {algorithm}"] = lambda limit=limit: ask_all(lambda user: storage.acquire(user, limit))  # type: ignore[misc]
        for peer in peers:
            if peer.algorithm in measured:
                works[f"{peer.name}, {peer.algorithm}"] = lambda ask=peer.ask: ask_all(ask)  # type: ignore[misc]
        return await in_turns(works, {name: Figures() for name in works}, requests, rounds)


async def batches(url: str, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Figures]:
    """Measure `acquire_many` of 100 requests."""
    limit = LIMITS["fixed_window"]
    wanted = [Request(user, limit) for user in USERS]
    async with _ours(url) as storage, _raw(url, storage, limit) as (client, commands):
        every = list(commands.values())

        async def raw() -> None:
            for _ in range(requests // BATCH):
                await _pipeline(client, every)

        async def ours() -> None:
            for _ in range(requests // BATCH):
                await storage.acquire_many(wanted)

        works: dict[str, Work] = {"raw pipeline": raw, "ratesim": ours}
        return await in_turns(works, {name: Figures() for name in works}, requests, rounds)


async def server_time(
    url: str, peers: Sequence[Peer], rounds: int = ROUNDS, requests: int = REQUESTS
) -> dict[tuple[str, str], float]:
    """Measure the microseconds that the server spends on a decision, by contender and algorithm: medians of the rounds."""
    async with _ours(url) as storage, redis.asyncio.Redis.from_url(url) as client:
        asks: dict[tuple[str, str], Ask] = {
            ("ratesim", name): lambda user, limit=limit: storage.acquire(user, limit)  # type: ignore[misc]
            for name, limit in LIMITS.items()
        }
        asks |= {(peer.name, peer.algorithm): peer.ask for peer in peers}
        spent: dict[tuple[str, str], list[float]] = {who: [] for who in asks}
        for ask in asks.values():  # scripts are known, and keys are there
            for user in USERS:
                await ask(user)
        for _ in range(rounds):
            for who, ask in asks.items():
                await client.config_resetstat()
                for i in range(requests // 4):
                    await ask(USERS[i % len(USERS)])
                spent[who].append(_spent(await client.info("commandstats")) / (requests // 4))
    return {who: statistics.median(each) for who, each in spent.items()}


def _spent(stats: Mapping[str, Mapping[str, float]]) -> float:
    """Add up the microseconds of scripts, or of commands where there was none; those of a script are in it."""
    used = {name.removeprefix("cmdstat_"): each["usec"] for name, each in stats.items()}
    scripts = [used[name] for name in ("evalsha", "eval", "fcall") if name in used]
    return sum(scripts) if scripts else sum(each for name, each in used.items() if not name.startswith(("config", "info")))


@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(RedisStorageConfig(url=url)) as storage:
        yield storage


@asynccontextmanager
async def _raw(
    url: str, storage: RedisStorage, limit: Limit
) -> AsyncIterator[tuple[redis.asyncio.Redis, dict[str, tuple[object, ...]]]]:
    """Open redis-py, and give the command of each user's decision; the server knows the scripts."""
    driver = RedisDriver(storage.config)
    now = time.time()
    commands = {user: driver.commands([Acquire(user, (limit,), 1.0, now, True)])[0] for user in USERS}
    for user in USERS:
        await storage.acquire(user, limit)
    async with redis.asyncio.Redis.from_url(url, max_connections=100) as client:
        yield client, commands
    await driver.close()


def _raw_command(client: redis.asyncio.Redis, command: Sequence[object]) -> Awaitable[object]:
    answer: Awaitable[object] = client.execute_command(*command)  # type: ignore[no-untyped-call]
    return answer


async def _pipeline(client: redis.asyncio.Redis, commands: Sequence[tuple[object, ...]]) -> None:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    await pipe.execute()
