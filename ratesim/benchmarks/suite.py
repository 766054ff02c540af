"""The benchmark suite: ratios, all measured in one run, beside figures that a reader knows, written to a dated file.

It is not run in CI: an absolute time on a shared machine says little, a ratio within one run says more.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ratesim.benchmarks import compression, engines, eviction, hybrid, logs, memory, postgres, redis, simulator
from ratesim.errors import ConfigurationError
from ratesim.limit import Limit
from ratesim.safe_text import shorten_repr
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.results.oracle import exact

__all__ = ["SECTIONS", "main"]


def main(out: Path | None = None, sections: Sequence[str] = ()) -> str:
    """Measure, write benchmarks-DATE.txt into `out` (reports/), and return the text.

    Parameters
    ----------
    out
        The directory.
    sections
        What is measured, of SECTIONS; all unless given.

    Raises
    ------
    ConfigurationError
        If there is no such section.
    """
    for name in sections:
        if name not in SECTIONS:
            raise ConfigurationError(f"benchmark {shorten_repr(name)}: known are {', '.join(SECTIONS)}")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"ratesim benchmarks, {date}", machine(), ""]
    for name in sections or SECTIONS:
        lines += [*SECTIONS[name](), ""]
    text = "\n".join(lines)
    folder = out or Path("reports")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"benchmarks-{date}.txt").write_text(text, "utf-8")
    return text


def _rate(count: int, work: Callable[[], object]) -> float:
    """Measure the rate per second: the best of three, because noise only slows."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


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


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "memory": memory.section,
    "redis": redis.section,
    "postgres": postgres.section,
    "compression": compression.section,
    "hybrid": hybrid.section,
    "eviction": eviction.section,
    "oracle": _oracle,
    "engines": engines.section,
    "simulator": simulator.section,
    "logs": logs.section,
}
