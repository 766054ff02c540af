"""The benchmark of the hybrid: an eventual decision beside one of memory, and the operations that reach L2 per request."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence

import numpy as np
import simpy

from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime, Runtime, SimRuntime
from ratesim.state import RateLimitState
from ratesim.storage import Charge, HybridStorage, HybridStorageConfig, MemoryStorage, MemoryStorageConfig, RateLimitStorage

__all__ = ["decision_rates", "expected_flushes", "operations_per_request", "section"]

ROUNDS = 7
REQUESTS = 20_000
KEYS = 1000
ALGORITHMS = ("fixed_window", "sliding_window", "token_bucket")
# Requests of a key at a node in one sync interval: from far below the bend of the load to far above it.
PER_INTERVAL = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0)
EPOCH = 1_700_000_000.0


def section() -> list[str]:
    """Return the lines of the report."""
    lines = [
        f"hybrid, eventual and write_back, decisions/s on one core, medians of {ROUNDS} rounds in turn with memory's",
        "  " + "  ".join([f"{'algorithm':<16}", f"{'runtime':<9}", f"{'memory':>10}", f"{'hybrid':>10}", " ratio"]),
    ]
    for algorithm in ALGORITHMS:
        for simulated in (False, True):
            near, hybrid = decision_rates(algorithm, simulated)
            runtime = "simpy" if simulated else "asyncio"
            lines.append(f"  {algorithm:<16}  {runtime:<9}  {near:>10,.0f}  {hybrid:>10,.0f}  {hybrid / near:>6.2f}")
    lines += ["", "hybrid, operations at L2 per request, m Poisson requests of a key at a node and interval"]
    lines.append("  " + "  ".join([f"{'m':>6}", f"{'measured':>9}", "(1 - e^-m) / m"]))
    for m in PER_INTERVAL:
        lines.append(f"  {m:>6g}  {operations_per_request(m):>9.4f}  {expected_flushes(m):>14.4f}")
    return lines


def expected_flushes(m: float) -> float:
    """Return the flushes per request if all requests of an interval travel together.

    An interval has one flush unless it has no request.
    """
    return -math.expm1(-m) / m


def decision_rates(algorithm: str, simulated: bool) -> tuple[float, float]:
    """Measure decisions per second of memory and of a hybrid before it, in turns, so that both meet the same noise."""
    limit, keys = Limit(1e9, 60.0, algorithm), [f"key {i}" for i in range(KEYS)]
    runtime: Runtime = SimRuntime(simpy.Environment(), EPOCH) if simulated else AsyncioRuntime()
    memory = MemoryStorage(MemoryStorageConfig(), runtime)
    hybrid = HybridStorage(MemoryStorage(MemoryStorageConfig(), runtime), HybridStorageConfig(), runtime)
    seconds: dict[RateLimitStorage, list[float]] = {memory: [], hybrid: []}

    async def ask(storage: RateLimitStorage) -> float:
        begin = time.perf_counter()
        for i in range(REQUESTS):
            await storage.acquire(keys[i % KEYS], limit)
        return time.perf_counter() - begin

    async def main() -> None:
        for storage in seconds:
            await ask(storage)  # every key is there, and every view young
        for _ in range(ROUNDS):
            for storage, taken in seconds.items():
                taken.append(await ask(storage))
        await hybrid.flush()
        hybrid.kill()

    if isinstance(runtime, SimRuntime):
        runtime.spawn(main())
        runtime.env.run(until=1.0)
    else:
        asyncio.run(main())
    near, far = (REQUESTS / statistics.median(taken) for taken in seconds.values())
    return near, far


class _CountingStorage(MemoryStorage):
    """An L2 that counts its operations."""

    operations = 0

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        self.operations += len(charges)
        return await super().charge_many(charges)


def operations_per_request(m: float, requests: int = 20_000, seed: int = 1) -> float:
    """Simulate the operations at L2 per request, without the reads of a key's first view."""
    runtime = SimRuntime(simpy.Environment(), EPOCH)
    l2 = _CountingStorage(runtime=runtime)
    config = HybridStorageConfig(sync_interval=1.0, l1_ttl=1e9)
    hybrid, limit = HybridStorage(l2, config, runtime, np.random.default_rng(seed)), Limit(1e9, 1e6, "fixed_window")
    gaps = np.random.default_rng([seed, 1]).exponential(1.0 / m, requests).tolist()

    async def main() -> None:
        for gap in gaps:
            await runtime.sleep(gap)
            await hybrid.acquire("key", limit)

    runtime.spawn(main())
    runtime.env.run()
    return l2.operations / requests
