"""Calibration: measure what the backends cost on this machine, and store it as a profile for the simulation.

One operation at a time and in batches, through the same drivers that serve live. What the client's processor spends is taken
apart from what it waits; the wait, less a bare round trip to the same server, is the server's. The wait of batches of
several sizes gives the fixed and the per-operation share (least squares).
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import importlib.metadata
import os
import platform
import time
import tracemalloc
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import redis.asyncio

from ratesim import algorithms, servers
from ratesim.limit import Limit
from ratesim.simulation.profile import QUANTILES, Backend, Profile, stored_path
from ratesim.storage import MemoryStorage, PostgresStorage, RedisStorage, StorageURL
from ratesim.storage.operations import Acquire
from ratesim.storage.served import ServedStorage

__all__ = ["calibrate", "machine"]

KEYS = 2000
SINGLES = 5000
ROUNDS = 5
BATCHES = (1, 8, 64)
LIMIT = Limit(1e6, 60.0)
Progress = Callable[[int, int, str], None]


def calibrate(out: Path | None = None, progress: Progress | None = None) -> Profile:
    """Measure memory, Redis and PostgreSQL here, on servers started for it (or those of RATESIM_REDIS_URL and
    RATESIM_POSTGRES_URL, under a prefix and tables of its own that are removed again). Takes about 20 seconds.

    Writes the profile to `out`, or where the simulation looks for it.
    """
    path = out or stored_path()
    tell = progress or (lambda done, total, what: None)
    tell(0, 3, "memory")
    backends = {"memory": _memory()}
    tell(1, 3, "redis")
    with servers.valkey() as server:
        backends["redis"] = asyncio.run(_redis(server))
    tell(2, 3, "postgres")
    with servers.postgres() as server:
        backends["postgres"] = asyncio.run(_postgres(server))
    tell(3, 3, "done")
    profile = Profile(
        machine=machine(),
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("ratesim", "redis", "psycopg")},
        },
        backends=backends,
    )
    profile.save(path)
    return Profile.load(path)


def machine() -> str:
    """The processor and its cores; no name that would tell whose machine it is."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def _memory() -> Backend:
    storage = MemoryStorage()
    names = [f"user:{i % KEYS}" for i in range(50_000)]

    async def decide() -> list[float]:
        spent = []
        for name in names:
            start = time.perf_counter()
            await storage.acquire(name, LIMIT, 1.0, 1.7e9)
            spent.append(time.perf_counter() - start)
        return spent

    latency = np.array(asyncio.run(decide()))
    return Backend(
        client_cpu=float(np.median(latency)),
        bytes_per_key={name: _memory_bytes(name) for name in algorithms.names()},
        latency_p50=float(np.quantile(latency, 0.5)),
        latency_p99=float(np.quantile(latency, 0.99)),
        server=f"Python {platform.python_version()}",
    )


def _memory_bytes(algorithm: str) -> float:
    """Bytes of memory that a key takes, its name included, as tracemalloc sees it."""
    limit = Limit(1e6, 60.0, algorithm)
    storage = MemoryStorage()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(10 * KEYS):
            storage.decide(f"user:{i}", limit, 1.0, 1.7e9)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / (10 * KEYS)


async def _redis(server: servers.Server) -> Backend:
    config = StorageURL.parse(server.url).config
    config = type(config)(url=config.url, pool_size=2, key_prefix=f"ratesim:calibrate:{uuid.uuid4().hex}:")
    bare = redis.asyncio.Redis.from_url(config.url)
    try:
        hop = await _round_trip(bare.ping)
    finally:
        await bare.aclose()
    async with RedisStorage(config) as storage:
        return await _served(storage, hop, 1, f"{server.kind} {server.version}")


async def _postgres(server: servers.Server) -> Backend:
    import psycopg

    config = StorageURL.parse(server.url).config
    config = type(config)(url=config.url, pool_size=2, table_name=f"ratesim_calibrate_{uuid.uuid4().hex[:12]}")
    async with await psycopg.AsyncConnection.connect(config.url, autocommit=True) as bare:
        # An empty query is a round trip that PostgreSQL answers without parsing or planning anything.
        hop = await _round_trip(lambda: bare.execute(""))
        try:
            async with PostgresStorage(config) as storage:
                return await _served(storage, hop, os.cpu_count() or 1, f"{server.kind} {server.version}")
        finally:
            for table in (config.table_name, f"{config.table_name}_counters"):
                await bare.execute(psycopg.sql.SQL("DROP TABLE IF EXISTS {}").format(psycopg.sql.Identifier(table)))


async def _round_trip(ask: Callable[[], object]) -> float:
    """The wait (time less processor time) of a request without work: median of 500."""
    waits = []
    for _ in range(500):
        start, cpu = time.perf_counter(), time.process_time()
        await ask()  # type: ignore[misc]
        waits.append((time.perf_counter() - start) - (time.process_time() - cpu))
    return float(np.median(waits))


async def _served(storage: ServedStorage, hop: float, concurrency: int, server: str) -> Backend:
    driver = storage.client.driver
    sizes: dict[str, float] = {}
    for name in algorithms.names():
        limit = Limit(1e6, 60.0, name)
        before = await storage.get_stats()
        for first in range(0, KEYS, 100):
            await driver.execute([_acquire(f"{name}:{i}", limit) for i in range(first, first + 100)])
        after = await storage.get_stats()
        sizes[name] = (after.bytes - before.bytes) / max(after.entries - before.entries, 1)
    names = [f"{LIMIT.algorithm}:{i}" for i in range(KEYS)]
    # Other work on the machine only slows, so of several rounds, spread over time, the one with the lowest median counts.
    rounds = [{size: await _timed(storage, names, size) for size in BATCHES} for _ in range(ROUNDS)]
    waits = {size: min((each[size][0] for each in rounds), key=np.median) for size in BATCHES}
    spent = min(float(np.median(each[1][1])) for each in rounds)
    total = min((each[1][0] + each[1][1] for each in rounds), key=np.median)
    medians = [float(np.median(waits[size])) - hop for size in BATCHES]
    item, fixed = _line(BATCHES, medians)
    alone = max(fixed + item, 1e-6)
    service = np.maximum(waits[1] - hop, 0.1 * alone)
    factors = np.quantile(service, QUANTILES) / np.median(service)
    for name in algorithms.names():
        for i in range(KEYS):
            await storage.reset(f"{name}:{i}")
    return Backend(
        client_cpu=spent,
        fixed=max(alone - item, 0.0),
        item=item,
        factors=tuple(float(factor) for factor in factors),
        concurrency=concurrency,
        bytes_per_key=sizes,
        latency_p50=float(np.quantile(total, 0.5)),
        latency_p99=float(np.quantile(total, 0.99)),
        server=server,
    )


async def _timed(storage: ServedStorage, names: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds waited, and seconds of processor time, of each of a round's batches of `size` decisions."""
    wait, cpu = [], []
    for k in range(SINGLES // size // ROUNDS):
        batch = [_acquire(names[(k * size + j) % KEYS], LIMIT) for j in range(size)]
        start, used = time.perf_counter(), time.process_time()
        await storage.client.driver.execute(batch)
        elapsed, spent = time.perf_counter() - start, time.process_time() - used
        wait.append(elapsed - spent)
        cpu.append(spent)
    return np.array(wait), np.array(cpu)


def _acquire(identifier: str, limit: Limit) -> Acquire:
    return Acquire(identifier, (limit,), 1.0, time.time(), True)


def _line(sizes: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept, in seconds, both at least a tenth of a microsecond."""
    slope, intercept = np.polyfit(np.array(sizes, float), np.array(values), 1)
    return max(float(slope), 1e-7), max(float(intercept), 1e-7)
