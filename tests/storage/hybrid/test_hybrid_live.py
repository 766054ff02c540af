"""The same class, live and simulated: several processes before one real Valkey, and as many nodes on SimPy."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import simpy

from ratesim import Limit, servers
from ratesim.runtime import SimRuntime
from ratesim.storage import HybridStorage, HybridStorageConfig, MemoryStorage, open_storage

NODES = 4
RATE = 100.0  # requests per second that each node is asked
PERIOD = 1.0
LIMIT = Limit(200.0, PERIOD, "fixed_window")  # half of what is asked
WINDOWS = 5
INTERVALS = (0.01, 0.1, 1.0)

_PROCESS = """
import asyncio, json, sys, time
sys.path.insert(0, {here!r})
from test_hybrid_live import ask
print("ready", flush=True)
print(json.dumps(asyncio.run(ask(*json.loads(sys.stdin.read())))))
"""


async def ask(url: str, intervals: list[float], start: float, seed: int) -> dict[str, list[float]]:
    """One process: Poisson requests, for each interval to keys of its own; when each was admitted, by interval, and under
    "late" the seconds by which the latest answer came after its request was due and the latest tick after its own: a sync
    is a tick and an answer.

    Stamps are those of the schedule, as in a simulation: a process that is late asks late, for the same time.
    """
    found: dict[str, list[float]] = {"late": [0.0, 0.0]}

    async def tick() -> None:
        while time.time() < start + PERIOD * WINDOWS:
            due = time.time() + min(intervals)
            await asyncio.sleep(min(intervals))
            found["late"][1] = max(found["late"][1], time.time() - due)

    async def of(interval: float) -> None:
        rng = np.random.default_rng([seed, int(interval * 1000)])
        times = start + np.cumsum(rng.exponential(1 / RATE, int(RATE * PERIOD * WINDOWS * 1.5)))
        admitted = found.setdefault(repr(interval), [])
        async with open_storage(f"{url}&sync_interval={interval}&node=n{seed}-{round(interval * 1e3)}") as storage:
            for at in times[times < start + PERIOD * WINDOWS].tolist():
                if (wait := at - time.time()) > 0:
                    await asyncio.sleep(wait)
                if (await storage.acquire(f"key {interval}", LIMIT, now=at)).allowed:
                    admitted.append(at)
                found["late"][0] = max(found["late"][0], time.time() - at)

    await asyncio.gather(tick(), *(of(interval) for interval in intervals))
    return found


def over(times: list[float]) -> np.ndarray:
    """Cost admitted beyond the limit, by window; the first and the last are not whole."""
    windows = np.floor(np.array(times) / PERIOD).astype(np.int64)
    counts = np.bincount(windows - windows.min())
    return np.maximum(counts[1:-1] - LIMIT.rate, 0.0)


def live(url: str) -> tuple[dict[float, np.ndarray], float]:
    """Excess cost of the processes, by interval and window, and how late the latest sync may have been, in seconds."""
    code = _PROCESS.format(here=str(Path(__file__).parent))
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(NODES)
    ]
    for process in processes:  # importing takes seconds on a busy machine
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = math.ceil(time.time() + 0.5) - 0.1
    for seed, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps([url, INTERVALS, start, seed]))
        process.stdin.close()
    told = []
    for process in processes:
        assert process.stdout is not None
        told.append(json.loads(process.stdout.read()))
        assert process.wait() == 0
    late = max(sum(each["late"]) for each in told)
    return {d: over([at for each in told for at in each[repr(d)]]) for d in INTERVALS}, late


def simulated(interval: float, seed: int) -> np.ndarray:
    """The same of nodes on SimPy, before a memory that takes half a millisecond to answer."""
    env = simpy.Environment()
    runtime = SimRuntime(env, 1_700_000_000.0 - 0.1)
    rngs = np.random.default_rng([seed, 7]).spawn(2 * NODES)

    class Near(MemoryStorage):
        async def get_state(self, *arguments: object, **options: object) -> object:
            await runtime.sleep(0.0005)
            return await super().get_state(*arguments, **options)

        async def charge_many(self, *arguments: object, **options: object) -> object:
            await runtime.sleep(0.0005)
            return await super().charge_many(*arguments, **options)

    l2, admitted = Near(runtime=runtime), []

    async def node(k: int) -> None:
        config = HybridStorageConfig(node=f"n{k}", sync_interval=interval)
        storage = HybridStorage(l2, config, runtime, rngs[k])
        end = runtime.time() + PERIOD * WINDOWS
        while True:
            await runtime.sleep(float(rngs[NODES + k].exponential(1 / RATE)))
            if runtime.time() >= end:
                return
            if (await storage.acquire("key", LIMIT)).allowed:
                admitted.append(runtime.time())

    for k in range(NODES):
        runtime.spawn(node(k))
    env.run()
    return over(admitted)


@pytest.mark.servers
def test_live_and_simulated_admit_as_much_too_much_within_the_interval_of_the_seeds() -> None:
    with servers.valkey() as server:
        options = f"consistency=eventual&write=write_back&key_prefix=t{uuid.uuid4().hex[:8]}:&min_ttl=60&pool_size=2"
        found, latest = live(f"hybrid+{server.url}?{options}")
    # A busy machine adds delay: a sync is as late as a tick and an answer, some milliseconds at least.
    late = (NODES - 1) * LIMIT.rate / NODES * max(0.03, latest)
    means = {}
    for interval in INTERVALS:
        seeds = np.array([simulated(interval, seed).mean() for seed in range(24)])
        few = len(found[interval])
        # The mean of a few windows of one live run, beside that of as many windows of each seed: 99.9 % of them lie within
        # 3.3 standard deviations.
        means[interval] = float(found[interval].mean())
        assert few >= 3
        assert abs(means[interval] - seeds.mean()) <= 3.3 * seeds.std(ddof=1) + late, f"{interval} s: {means}"
    assert means[0.01] < means[0.1] + (late if latest > 0.03 else 0.0)
    assert means[0.1] < means[1.0] + (late if latest > 0.03 else 0.0)
