"""Benchmarks: figures as ratios, all measured in one run, beside what a reader knows. Written to a dated file.

Not run in CI: an absolute time on a shared machine says little, a ratio within one run says more.
"""

from __future__ import annotations

import asyncio
import datetime
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simpy

from ratesim.algorithms import names
from ratesim.limit import Limit
from ratesim.simulation import bench_eviction
from ratesim.simulation.calibrate import machine
from ratesim.simulation.oracle import exact
from ratesim.simulation.peers import installed, peers
from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
from ratesim.simulation.scenario import Scenario
from ratesim.simulation.study import catalogue
from ratesim.storage import MemoryStorage, MemoryStorageConfig
from traffic import Zipf

__all__ = ["main"]

DECISIONS = 200_000
KEYS = 10_000


def main(out: Path | None = None) -> str:
    """Measure, and write benchmarks-DATE.txt into `out` (reports/). Returns the text."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"ratesim benchmarks, {date}", machine(), ""]
    for section in (_memory, bench_eviction.section, _oracle, _simulator):
        lines += [*section(), ""]
    text = "\n".join(lines)
    folder = out or Path("reports")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"benchmarks-{date}.txt").write_text(text, "utf-8")
    return text


def _rate(count: int, work: Callable[[], object]) -> float:
    """Per second: the best of three, since noise only slows."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def _users() -> list[str]:
    rng = np.random.default_rng(1)
    return [f"user:{key}" for key in Zipf(KEYS, 1.0).draw(DECISIONS, rng).tolist()]


def _memory() -> list[str]:
    users = _users()
    lines = [f"MemoryStorage.acquire, {DECISIONS:,} decisions over {KEYS:,} zipf keys, 100/minute, decisions/s"]
    others = peers(users) if installed() else {}
    for algorithm in names():
        limit = Limit(100, 60.0, algorithm)

        async def decide(limit: Limit = limit) -> None:
            acquire = MemoryStorage().acquire
            for user in users:
                await acquire(user, limit)

        ours = _rate(DECISIONS, lambda decide=decide: asyncio.run(decide()))  # type: ignore[misc]
        rates = {name: _rate(DECISIONS, work) for name, work in others.get(algorithm, {}).items()}
        beside = ", ".join(f"{ours / rate:.1f} x {name} ({rate:,.0f})" for name, rate in rates.items())
        lines.append(f"  {algorithm:<16} {ours:>12,.0f}   {beside}".rstrip())
    if not others:
        lines.append('  peers: not installed; pip install "ratesim[bench]"')
    return [*lines, "", *_bytes()]


def _bytes() -> list[str]:
    keys = 1_000_000
    lines = [f"MemoryStorage, bytes per key at {keys:,} keys asked once, without their names (tracemalloc)"]
    users = [f"user:{key}" for key in range(keys)]
    for algorithm in ("token_bucket", "sliding_window"):
        limit = Limit(100, 60.0, algorithm)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        storage = MemoryStorage(MemoryStorageConfig(max_entries=keys))
        for second, user in enumerate(users):
            storage.decide(user, limit, 1.0, 1.7e9 + second * 1e-4)
        lines.append(f"  {algorithm:<16} {(tracemalloc.get_traced_memory()[0] - before) / keys:>12,.0f}")
        tracemalloc.stop()
    return lines


def _oracle() -> list[str]:
    rng = np.random.default_rng(1)
    n = 10_000_000
    lines = [f"oracle, {n:,} decisions, decisions/s on one core, the best of three"]
    for keys, rate, algorithms in (
        (
            1_000_000,
            2,
            ("token_bucket", "leaky_bucket", "gcra", "fixed_window", "sliding_window", "sliding_log", "adaptive"),
        ),
        (1_000_000, 100, ("sliding_log",)),
        (20_000, 100, ("sliding_log",)),
    ):
        key = rng.integers(0, keys, n)
        stamp = 1.7e9 + np.sort(rng.uniform(0, 240.0, n))
        cost = np.ones(n)
        lines.append(f"  {keys:,} keys, {n // keys} requests each in four minutes, {rate}/minute")
        for algorithm in algorithms:
            limit = Limit(rate, 60.0, algorithm)
            denied = 1.0 - exact(limit, key, stamp, cost, keys).mean()
            per_second = _rate(n, lambda limit=limit, args=(key, stamp, cost, keys): exact(limit, *args))  # type: ignore[misc]
            lines.append(f"    {algorithm:<16} {per_second:>12,.0f}   {denied:.0%} denied")
    return lines


def _simulator() -> list[str]:
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 2000.0, "keys": 1000, "duration": 20.0},
            "limit": {"rate": "100/minute"},
            "deployment": {"nodes": 8},
        }
    )
    trace, profile = scenario.trace(), Profile.load()
    n = len(trace)

    def bare() -> None:
        env = simpy.Environment()

        def process() -> object:
            yield env.timeout(1.0)
            yield env.timeout(1.0)

        for _ in range(n):
            env.process(process())  # type: ignore[arg-type]
        env.run()

    reference = _rate(n, bare)
    lines = [
        f"simulator, {n:,} requests on 8 nodes, requests/s on one core",
        f"  {'bare SimPy, two hops':<28} {reference:>12,.0f}",
    ]
    for candidate in catalogue(scenario):
        rate = _rate(n, lambda candidate=candidate: run(scenario, candidate, profile=profile, trace=trace))  # type: ignore[misc]
        lines.append(f"  {candidate.name:<28} {rate:>12,.0f}   {rate / reference:.2f} of bare SimPy")
    return lines
