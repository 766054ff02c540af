"""Calibration: measures the costs of the backends on this machine, and stores them as a profile for the simulation.

It uses servers started for it, or the user's own (`target_server.py` leaves those as they were). The measurements are
described in `cost_fit.py`.
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
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from ratesim import algorithms, servers
from ratesim.errors import ConfigurationError
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.servers.watch import run_watched
from ratesim.simulation.cost_model.cost_fit import LIMIT, measure, raise_if_canceled
from ratesim.simulation.cost_model.profile import BackendCosts, Profile, stored_path
from ratesim.simulation.cost_model.target_server import SIZED_KEYS, OpenTarget, open_target
from ratesim.storage import MemoryStorage, StorageURL
from ratesim.storage.remote.operations import Acquire

__all__ = ["calibrate", "machine"]

Progress = Callable[[int, int, str], None]


def calibrate(
    out: Path | None = None, progress: Progress | None = None, url: str | None = None, rtt: float | None = None
) -> Profile:
    """Measure memory, Redis and PostgreSQL on this machine (about 30 seconds), and write the profile.

    Parameters
    ----------
    out : Path, optional
        File of the profile; by default the one that the simulation looks for.
    progress : Progress, optional
        Callback.
    url : str, optional
        Measure this Redis or PostgreSQL instead of servers started for it. The servers of RATESIM_REDIS_URL and
        RATESIM_POSTGRES_URL count as such. The other backend stays as the profile in use has it.
    rtt : float, optional
        Round trip to the user's server in seconds, instead of the measured one of `url`.

    Returns
    -------
    Profile
        The new profile.

    Raises
    ------
    ConfigurationError, StorageConnectionError
        If the server cannot be measured; without passwords.
    ServerError
        If a server does not start, or dies or freezes meanwhile. The profile then stays as it was.
    """
    path = out or stored_path()
    tell = progress or (lambda done, total, what: None)
    base = Profile.load() if url else None
    backends = dict(base.backends) if base else {}
    kinds = [StorageURL.parse(url).backend] if url else ["redis", "postgres"]
    if "memory" in kinds:
        raise ConfigurationError("--url memory://: memory is measured without one; give a redis:// or postgresql:// URL")
    where, today = machine(), datetime.datetime.now(datetime.UTC).date().isoformat()
    tell(0, 1 + len(kinds), "memory")
    backends["memory"] = _memory()
    for done, kind in enumerate(kinds, 1):
        tell(done, 1 + len(kinds), kind)
        if url:
            backends[kind] = run_watched(Server(url, kind, "at --url", embedded=False), _served(url))
        else:
            with servers.valkey() if kind == "redis" else servers.postgres() as server:
                backends[kind] = run_watched(server, _served(server.url))
    tell(1 + len(kinds), 1 + len(kinds), "done")
    if base:  # an older measurement keeps its machine and date
        for kind in set(backends) - {"memory", *kinds}:
            old = backends[kind]
            backends[kind] = msgspec.structs.replace(
                old, machine=old.machine or base.machine, measured=old.measured or base.measured
            )
    profile = Profile(
        machine=where,
        measured=today,
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("ratesim", "redis", "psycopg")},
            **{kind: backends[kind].server for kind in kinds},
        },
        backends=backends,
        round_trip=rtt,
    )
    if url and rtt is None:
        own = backends[kinds[0]]
        factors = own.round_trip_factors
        profile = msgspec.structs.replace(profile, round_trip=own.round_trip, round_trip_factors=factors)
    profile.save(path)
    return Profile.load(path)


def machine() -> str:
    """Describe the processor and its cores, without a name that would identify the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def _memory() -> BackendCosts:
    storage = MemoryStorage()
    names = [f"user:{i % SIZED_KEYS}" for i in range(50_000)]

    async def decide() -> list[float]:
        spent = []
        for name in names:
            start = time.perf_counter()
            await storage.acquire(name, LIMIT, 1.0, 1.7e9)
            spent.append(time.perf_counter() - start)
        return spent

    latency = np.array(asyncio.run(decide()))
    return BackendCosts(
        client_cpu=float(np.median(latency)),
        bytes_per_key={name: _memory_bytes(name) for name in algorithms.names()},
        latency_p50=float(np.quantile(latency, 0.5)),
        latency_p99=float(np.quantile(latency, 0.99)),
        server=f"Python {platform.python_version()}",
    )


def _memory_bytes(algorithm: str) -> float:
    """Measure the bytes of memory that a key takes, its name included, as tracemalloc sees it."""
    limit = Limit(1e6, 60.0, algorithm)
    storage = MemoryStorage()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(10 * SIZED_KEYS):
            storage.acquire_nowait(f"user:{i}", limit, 1.0, 1.7e9)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / (10 * SIZED_KEYS)


async def _served(url: str) -> BackendCosts:
    async with open_target(url) as opened:
        sizes = {name: await _bytes(opened, name) for name in algorithms.names()}
        costs = await measure(opened.target)
    return msgspec.structs.replace(costs, bytes_per_key=sizes, server=opened.server)


async def _bytes(opened: OpenTarget, algorithm: str) -> float:
    """Measure the bytes that the server keeps of one key, its name included."""
    storage, limit = opened.target.storage, Limit(1e6, 60.0, algorithm)
    names = [f"{algorithm}:{i}" for i in range(SIZED_KEYS)]
    before = await opened.size([])
    for first in range(0, SIZED_KEYS, 100):
        raise_if_canceled()
        batch = [Acquire(name, (limit,), 1.0, time.time(), True) for name in names[first : first + 100]]
        await storage.client.driver.execute(batch)
    return (await opened.size(names) - before) / SIZED_KEYS
