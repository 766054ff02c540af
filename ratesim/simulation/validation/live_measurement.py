"""The live side of a live replay: what is measured in a process of its own, which imports no more than that takes.

Requests are sent and timed, then operations of the storage, and then, where they are not known of the same minute, the costs
of that very server, or of memory.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.server_url import redis_topology, split_url
from ratesim.simulation.cost_model.cost_fit import fit
from ratesim.simulation.cost_model.hybrid_costs import measure_hybrids
from ratesim.simulation.cost_model.machine_account import Meter
from ratesim.simulation.cost_model.memory_survey import fit_memory, memory_pieces
from ratesim.simulation.cost_model.profile import CLUSTER, BackendCosts, HybridCosts
from ratesim.simulation.cost_model.survey import survey, warm_up
from ratesim.simulation.cost_model.target_server import open_target
from ratesim.simulation.validation.covariates import BESIDE, Covariates, covariates_of, read_samples
from ratesim.simulation.validation.disturbance import disturbance
from ratesim.storage import HybridStorage, MemoryStorage, PostgresStorage, RateLimitStorage, RedisStorage, StorageURL
from traffic import Trace, replay
from traffic.live_replay import LiveResult

__all__ = ["WARM_UP", "KnownCosts", "Measured", "Order", "commit_of", "is_unlogged", "kept", "measure", "schema_of"]

WARM_UP = 100  # requests that open connections and load scripts
LEAST_TIMEOUT = 10.0  # seconds that a request may take, before it counts as failed
OPERATIONS, HOT_KEYS = 500, 50  # decisions one at a time, each key in a row
LONGEST = 1.0  # seconds of them, where a disk is slow


class KnownCosts(NamedTuple):
    """Costs of memory or of a server that were measured within the same minute, and how the machine was then."""

    costs: Mapping[str, BackendCosts]
    beside: Covariates


@dataclass(frozen=True)
class Order:
    """What is measured: requests on a storage, at the server with that URL.

    The processes `pids` take part. Of a server that was there already none is known, so neither is what others take.
    """

    storage: str
    url: str | None = field(repr=False)  # may hold a password
    pids: tuple[int, ...]
    has_all_pids: bool
    tag: str
    limit: Limit
    names: tuple[str, ...]
    costs: tuple[float, ...]
    rate: float
    attempts: int
    effort: float
    known: KnownCosts | None
    count: Path  # of the file that says in the end how many requests were answered
    samples: Path  # of the pace of the cores


@dataclass
class Measured:
    """What was measured: figures of a replay that began at `start`, and costs of the same minute.

    `beside` is how the machine was while its costs were measured; None where they were known.
    """

    start: float
    figures: dict[str, Any]
    costs: dict[str, BackendCosts] = field(default_factory=dict)
    hybrids: dict[str, HybridCosts] = field(default_factory=dict)
    disturbed: str = ""
    beside: Covariates | None = None


async def measure(order: Order) -> Measured:
    """Replay, and measure the costs of the server behind it, until nothing disturbs that.

    Costs are not measured behind a replay that is made again, nor where they are known and the machine is as it was then.
    """
    for left in reversed(range(order.attempts)):
        async with _opened(order) as storage:
            replayed = _Stretch(order)
            found, result = await _replay(order, storage)
            replayed.end()
            found.figures["operation_p50"] = await _operation(order, storage)
        wakes = result.late[result.asleep]
        await asyncio.sleep(BESIDE)  # the pace behind it counts as well
        found.disturbed = disturbance(replayed.covariates(), replayed.covariates(), wakes)
        if found.disturbed and left:
            continue
        if order.known and not disturbance(replayed.covariates(), order.known.beside, wakes):
            found.costs |= order.known.costs
            found.hybrids = await _hybrids(order)
            break
        measured = _Stretch(order)
        if order.effort > 0:
            await _measure_costs(order, found)
        measured.end()
        await asyncio.sleep(BESIDE)
        found.beside = measured.covariates()
        found.disturbed = disturbance(replayed.covariates(), found.beside, wakes)
        if not found.disturbed:
            break
    return found


class _Stretch:
    """A stretch of time, and how the machine was during it."""

    def __init__(self, order: Order) -> None:
        self._samples, self._has_all_pids = order.samples, order.has_all_pids
        self._meter, self._began = Meter(order.pids), perf_counter()

    def end(self) -> None:
        self._ended = perf_counter()
        steal, others = self._meter.shares()
        self._shares = steal, others if self._has_all_pids else math.nan

    def covariates(self) -> Covariates:
        return covariates_of(read_samples(self._samples), self._began, self._ended, *self._shares)


def schema_of(tag: str) -> str:
    """Return the name of a replay's own schema."""
    return f"ratesim_live_{tag}"


def kept(requests: int) -> slice:
    """Return the requests of a replay that count: those behind its warm-up."""
    return slice(min(WARM_UP, requests // 2), None)


@asynccontextmanager
async def _opened(order: Order) -> AsyncIterator[RateLimitStorage]:
    """Open the storage of the node; in the end nothing is left of its keys."""
    async with _storage(order) as storage:
        await storage.peek("warm-up", order.limit)  # connect, and teach the server its scripts or functions
        try:
            yield storage
        finally:
            await asyncio.gather(*map(storage.reset, {*order.names, *map(_hot_name, range(HOT_KEYS))}))


async def _replay(order: Order, storage: RateLimitStorage) -> tuple[Measured, LiveResult]:
    requests = len(order.names)
    start, answered = time.time(), 0
    stamps = (start + np.arange(requests) / order.rate).tolist()

    async def send(i: int) -> bool:
        nonlocal answered
        decision = await storage.acquire(order.names[i], order.limit, order.costs[i], stamps[i])
        answered += 1
        return decision.allowed

    due = Trace(np.array(stamps), np.zeros(requests, np.int64), ["any"])
    try:
        result = await replay(due, send)
    finally:
        order.count.write_text(str(answered), "ascii")
    rows = kept(requests)
    good = ~result.failed[rows]
    figures = {"requests": requests - rows.start, "errors": int((~good).sum())}
    figures["admitted"] = sum(answer is True for answer in result.results[rows])
    # Lateness is the replayer's own part of these latencies: without the wake-up, which is in none of them.
    for name, column in (("latency", result.latency), ("service", result.service), ("lateness", result.held)):
        seconds = column[rows][good]
        p50, p99 = np.quantile(seconds, (0.5, 0.99)) if len(seconds) else (math.nan, math.nan)
        figures |= {f"{name}_p50": float(p50), f"{name}_p99": float(p99)}
    figures |= quantile_intervals(result.latency[rows][good])
    return Measured(start, figures), result


def quantile_intervals(latency: NDArray[np.float64]) -> dict[str, float]:
    """Return the 95 % intervals of p50 and p99: order statistics, by the binomial distribution; open where these are few."""
    found: dict[str, float] = {}
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        spread = 1.96 * math.sqrt(q * (1.0 - q) / len(latency)) if len(latency) else math.inf
        low = float(np.quantile(latency, q - spread)) if q > spread else 0.0
        high = float(np.quantile(latency, q + spread)) if q + spread < 1.0 else math.inf
        found |= {f"latency_{name}_low": low, f"latency_{name}_high": high}
    return found


async def _operation(order: Order, storage: RateLimitStorage) -> float:
    """Return the median seconds of a decision that is admitted, one at a time, of keys that are in use."""
    limit = msgspec.structs.replace(order.limit, rate=1e6, period=60.0, burst=None)
    spent: list[float] = []
    for i in range(OPERATIONS):
        if sum(spent) > LONGEST:
            break
        name = _hot_name(i * HOT_KEYS // OPERATIONS)
        began = perf_counter()
        await storage.acquire(name, limit)
        spent.append(perf_counter() - began)
    return float(np.median(spent))


def _hot_name(i: int) -> str:
    return f"operation:{i}"


async def _measure_costs(order: Order, found: Measured) -> None:
    """Measure memory, or the server as the candidate asks it: a hybrid decides at the costs of its node."""
    if order.url is None:
        found.costs["memory"] = fit_memory([{key: piece async for key, piece in memory_pieces(order.effort)}])
        return
    found.hybrids = await _hybrids(order)
    backend = StorageURL.parse(order.storage).backend
    async with open_target(_with_commit(order.url, commit_of(order.storage))) as opened:
        target = opened.target if is_unlogged(order.storage) else replace(opened.target, unlogged=None)
        await warm_up(target)
        costs = fit(target, [await survey(target, order.effort)])
    found.costs[backend] = costs = msgspec.structs.replace(costs, stalls={})  # what comes once in a minute
    if backend == "redis" and redis_topology(order.url) == "cluster":
        found.costs[CLUSTER] = costs


async def _hybrids(order: Order) -> dict[str, HybridCosts]:
    """Measure what a hybrid of the candidate's consistency costs its node; nothing where it is none."""
    hybrid = StorageURL.parse(order.storage).hybrid
    return {} if hybrid is None else await measure_hybrids(order.effort, [hybrid.consistency])


def commit_of(storage: str) -> str | None:
    """Return the synchronous_commit with which the costs of a candidate's PostgreSQL are measured; None of another store.

    A standby is simulated beside what is measured, so that the flush here is that of the primary alone.
    """
    url = StorageURL.parse(storage)
    if url.backend != "postgres":
        return None
    return "off" if url.config.synchronous_commit == "off" or url.config.unlogged else "local"


def is_unlogged(storage: str) -> bool:
    """Tell whether a candidate's tables are in no log."""
    return bool(getattr(StorageURL.parse(storage).config, "unlogged", False))


def _with_commit(url: str, commit: str | None) -> str:
    if commit is None:
        return url
    parts = split_url(url)
    options = [(name, value) for name, value in parts.options if name not in ("synchronous_commit", "unlogged")]
    return parts.text(parts.scheme, [*options, ("synchronous_commit", commit)])


def _storage(order: Order) -> RateLimitStorage:
    backend, config, hybrid = StorageURL.parse(order.storage)
    runtime = AsyncioRuntime()
    if order.url is None:
        return MemoryStorage(config, runtime)
    at = StorageURL.parse(order.url).config
    # A machine that is slow for a moment shows in the latencies; it does not end a replay.
    config = msgspec.structs.replace(config, command_timeout=max(config.command_timeout, LEAST_TIMEOUT))
    storage: RateLimitStorage
    if backend == "redis":
        place = {"url": at.url, "cluster_mode": at.cluster_mode, "read_from_replicas": False}
        place["key_prefix"] = f"ratesim:live:{order.tag}:"
        storage = RedisStorage(msgspec.structs.replace(config, **place), runtime)
    else:
        storage = PostgresStorage(msgspec.structs.replace(config, url=at.url, schema=schema_of(order.tag)), runtime)
    return storage if hybrid is None else HybridStorage(storage, msgspec.structs.replace(hybrid, node=""), runtime)
