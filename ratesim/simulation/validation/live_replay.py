"""Live replay: the same traffic against real servers, in real time, as a control of the simulation.

One API node, a process of its own on the cores that the server leaves free, sends the first requests of a trace at an even
rate over loopback: an open loop, bounded in requests and rate. It decides them as of when they come. Latencies count as in
`traffic.live_replay`. Operations of the storage are timed besides: one at a time, back to back, of keys in use.

Then the same process measures the costs of that very server, and the very replay is simulated with them. So a report has
three figures that belong together: measured, its own simulation, and their ratio.

A replay that its server does not outlive has no figures: its row says what happened, and when. One that a busy machine
disturbed is repeated, and its row says so if that does not help (`disturbance.py`).
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.errors import RatesimError
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.server_url import redis_topology, split_url
from ratesim.servers import Server
from ratesim.simulation.cost_model.cost_fit import fit
from ratesim.simulation.cost_model.hybrid_costs import measure_hybrids
from ratesim.simulation.cost_model.load_process import in_process, server_cores, split_cores
from ratesim.simulation.cost_model.machine_account import Meter
from ratesim.simulation.cost_model.memory_survey import fit_memory, memory_pieces
from ratesim.simulation.cost_model.profile import CLUSTER, BackendCosts, HybridCosts, Profile, on_cores
from ratesim.simulation.cost_model.survey import survey, warm_up
from ratesim.simulation.cost_model.target_server import open_target
from ratesim.simulation.engine.backends import own_schema
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario, WorkloadSpec
from ratesim.simulation.validation.covariates import BESIDE, Covariates, covariates_of, read_samples, sampled
from ratesim.simulation.validation.disturbance import disturbance
from ratesim.storage import HybridStorage, MemoryStorage, PostgresStorage, RateLimitStorage, RedisStorage, StorageURL
from traffic import Trace, replay
from traffic.live_replay import LiveResult

__all__ = ["failed_row", "live_row"]

# Requests/s of a replay: the traffic's own, but so many that a replay is short, and no more than one Python process sends
# without becoming the bottleneck.
SLOWEST, FASTEST = 400.0, 2000.0
SECONDS = 2.5  # that a replay lasts
WARM_UP = 100  # requests that open connections and load scripts
LEAST_TIMEOUT = 10.0  # seconds that a request may take, before it counts as failed
ATTEMPTS = 3  # replays at most, where the machine is disturbed
EFFORT = 0.5  # of a survey of the server: about two seconds
SEEDS = 3  # of the simulation, so that its quantiles are surer than those of the replay
OPERATIONS, HOT_KEYS = 500, 50  # decisions one at a time, each key in a row
LONGEST = 1.0  # seconds of them, where a disk is slow

FIGURES = (
    *("latency_p50", "latency_p50_low", "latency_p50_high", "latency_p99", "latency_p99_low", "latency_p99_high"),
    *("service_p50", "lateness_p50", "lateness_p99", "operation_p50"),
    *("simulated_p50", "simulated_p99", "simulated_operation", "ratio_p50", "ratio_p99", "utilization"),
)


def live_row(
    scenario: Scenario,
    candidate: Candidate,
    trace: Trace,
    server: Server | None,
    requests: int | None = None,
    attempts: int = ATTEMPTS,
    effort: float = EFFORT,
) -> dict[str, Any]:
    """Measure one candidate live and simulate the same replay, as one row; times in seconds.

    Parameters
    ----------
    scenario, candidate, trace
        What is replayed.
    server
        The one that the candidate's store runs on.
    requests
        As many are measured, after a warm-up; those of SECONDS unless given.
    attempts
        Replays at most, where the machine is disturbed.
    effort
        Of measuring the server's costs, see `survey`; with 0 they are not, and nothing is simulated.

    Returns
    -------
    dict
        The figures; ratios are simulated over measured. Where the server died or froze, or the storage failed, they are nan,
        and `failure` says why. `disturbed` says what disturbed the machine in every attempt.
    """
    scenario = scenario.with_algorithm(candidate.algorithm)
    candidate = _on_one_node(scenario, candidate)
    rate, tag = replay_rate(trace), uuid.uuid4().hex[:12]
    head = trace.head((round(SECONDS * rate) if requests is None else requests) + WARM_UP)
    pids = () if server is None else server.pids
    with tempfile.TemporaryDirectory() as folder:
        count, samples = Path(folder) / "answered", Path(folder) / "pace"
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        try:
            with _place(server, tag), sampled(samples, cores) as sampler, split_cores(pids):
                order = _Order(
                    storage=candidate.storage,
                    url=None if server is None else server.url,
                    pids=(*pids, sampler),
                    has_all_pids=server is None or bool(pids),
                    tag=tag,
                    limit=scenario.limit.limit(),
                    names=tuple(head.keys[key] for key in head.key.tolist()),
                    costs=tuple(head.cost.tolist()),
                    rate=rate,
                    attempts=attempts,
                    effort=effort,
                    count=count,
                    samples=samples,
                )
                found = in_process(_measure, order, server=server)
        except (RatesimError, OSError) as error:
            answered = int(count.read_text("ascii")) if count.exists() else 0
            why = f"{' '.join(str(error).split())}; {answered:,} of {len(head):,} requests were answered"
            return failed_row(candidate, why, server)
    figures = found.figures | {"note": f"one API node, {rate:,.0f} requests/s", "disturbed": found.disturbed}
    if found.costs:
        figures |= _simulated(scenario, candidate, _even(head, found.start, rate), found)
        for name in ("p50", "p99"):
            figures[f"ratio_{name}"] = figures[f"simulated_{name}"] / figures[f"latency_{name}"]
    return _row(candidate, server, figures)


def failed_row(candidate: Candidate, failure: str, server: Server | None = None) -> dict[str, Any]:
    """Make the row of a candidate that was not measured."""
    return _row(candidate, server, {"failure": failure})


def _row(candidate: Candidate, server: Server | None, figures: dict[str, Any]) -> dict[str, Any]:
    counted = {"requests": 0, "errors": 0, "admitted": 0, "simulated_admitted": 0}
    place = "this process" if server is None else str(server)
    said = {"note": "", "disturbed": "", "failure": ""}
    store = StorageURL.parse(candidate.storage).backend
    empty = counted | dict.fromkeys(FIGURES, math.nan) | said
    return {"candidate": candidate.name, "server": place, "store": store, **empty, **figures}


def _on_one_node(scenario: Scenario, candidate: Candidate) -> Candidate:
    """Return the candidate as one of the deployment's nodes has it: a lease is a share of what is left for all of them."""
    hybrid, nodes = StorageURL.parse(candidate.storage).hybrid, scenario.deployment.nodes
    if hybrid is None or hybrid.nodes > 1 or nodes == 1:
        return candidate
    mark = "&" if "?" in candidate.storage else "?"
    return candidate.model_copy(update={"storage": f"{candidate.storage}{mark}nodes={nodes}"})


def _place(server: Server | None, tag: str) -> AbstractContextManager[None]:
    """Make a schema of a replay's own: tables of another candidate may be cut otherwise, or logged."""
    if server is None or server.kind != "postgres":
        return nullcontext()
    return own_schema(StorageURL.parse(server.url).config.url, _schema(tag), server)


def _schema(tag: str) -> str:
    return f"ratesim_live_{tag}"


def _kept(requests: int) -> slice:
    return slice(min(WARM_UP, requests // 2), None)


def replay_rate(trace: Trace) -> float:
    """Return the requests/s at which a trace is replayed."""
    return min(max(trace.rate, SLOWEST), FASTEST)


def _even(trace: Trace, start: float, rate: float) -> Trace:
    """Space the same requests evenly, in the same order, from a start."""
    times = start + np.arange(len(trace)) / rate
    return Trace(times, trace.key, trace.keys, cost=trace.cost)


# -- simulated --------------------------------------------------------------------------------------------------------


def _simulated(scenario: Scenario, candidate: Candidate, trace: Trace, found: _Measured) -> dict[str, Any]:
    """Simulate the replay of a trace on one node of this machine, with the costs that were measured beside it."""
    deployment = scenario.deployment.model_copy(update={"nodes": 1, "network": "loopback", "rtt": None, "loss": None})
    alone = {"deployment": deployment, "workload": WorkloadSpec(requests_per_second=1.0), "faults": (), "warmup": 0.0}
    backends = {name: on_cores(costs, server_cores()) for name, costs in found.costs.items()}
    profile = Profile(machine="", measured="", versions={}, backends=backends, hybrids=found.hybrids)
    results = [
        run(scenario.model_copy(update=alone), candidate, seed, profile=profile, trace=trace, progress=False)
        for seed in range(SEEDS)
    ]
    kept = _kept(len(trace))
    latency = np.concatenate([result.latency[kept][~result.failed[kept]] for result in results])
    p50, p99 = np.quantile(latency, (0.5, 0.99)) if len(latency) else (math.nan, math.nan)
    row, url = results[0].row(), StorageURL.parse(candidate.storage)
    operation = found.costs["memory"].client_cpu if url.backend == "memory" else math.nan
    if url.hybrid is not None and url.hybrid.consistency != "strong":
        operation = found.hybrids[url.hybrid.consistency].decide
    return {
        "simulated_p50": float(p50),
        "simulated_p99": float(p99),
        "simulated_admitted": int(results[0].allowed[kept].sum()),
        "simulated_operation": operation,  # nan where a decision asks a server
        "utilization": max(float(row.get(name, 0.0)) for name in ("utilization_max", "node_utilization_max")),
    }


# -- measured, in a process of its own --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
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
    count: Path  # of the file that says in the end how many requests were answered
    samples: Path  # of the pace of the cores


@dataclass
class _Measured:
    """What was measured: figures of a replay that began at `start`, and costs of the same minute."""

    start: float
    figures: dict[str, Any]
    costs: dict[str, BackendCosts] = field(default_factory=dict)
    hybrids: dict[str, HybridCosts] = field(default_factory=dict)
    disturbed: str = ""


async def _measure(order: _Order) -> _Measured:
    """Replay, and measure the costs of the server behind it, until nothing disturbs that.

    Costs are not measured behind a replay that is made again.
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
        measured = _Stretch(order)
        if order.effort > 0:
            await _measure_costs(order, found)
        measured.end()
        await asyncio.sleep(BESIDE)
        found.disturbed = disturbance(replayed.covariates(), measured.covariates(), wakes)
        if not found.disturbed:
            break
    return found


class _Stretch:
    """A stretch of time, and how the machine was during it."""

    def __init__(self, order: _Order) -> None:
        self._samples, self._has_all_pids = order.samples, order.has_all_pids
        self._meter, self._began = Meter(order.pids), perf_counter()

    def end(self) -> None:
        self._ended = perf_counter()
        steal, others = self._meter.shares()
        self._shares = steal, others if self._has_all_pids else math.nan

    def covariates(self) -> Covariates:
        return covariates_of(read_samples(self._samples), self._began, self._ended, *self._shares)


@asynccontextmanager
async def _opened(order: _Order) -> AsyncIterator[RateLimitStorage]:
    """Open the storage of the node; in the end nothing is left of its keys."""
    async with _storage(order) as storage:
        await storage.peek("warm-up", order.limit)  # connect, and teach the server its scripts or functions
        try:
            yield storage
        finally:
            await asyncio.gather(*map(storage.reset, {*order.names, *map(_hot_name, range(HOT_KEYS))}))


async def _replay(order: _Order, storage: RateLimitStorage) -> tuple[_Measured, LiveResult]:
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
    kept = _kept(requests)
    good = ~result.failed[kept]
    figures = {"requests": requests - kept.start, "errors": int((~good).sum())}
    figures["admitted"] = sum(answer is True for answer in result.results[kept])
    # Lateness is the replayer's own part of these latencies: without the wake-up, which is in none of them.
    for name, column in (("latency", result.latency), ("service", result.service), ("lateness", result.held)):
        seconds = column[kept][good]
        p50, p99 = np.quantile(seconds, (0.5, 0.99)) if len(seconds) else (math.nan, math.nan)
        figures |= {f"{name}_p50": float(p50), f"{name}_p99": float(p99)}
    figures |= quantile_intervals(result.latency[kept][good])
    return _Measured(start, figures), result


def quantile_intervals(latency: NDArray[np.float64]) -> dict[str, float]:
    """Return the 95 % intervals of p50 and p99: order statistics, by the binomial distribution; open where these are few."""
    found: dict[str, float] = {}
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        spread = 1.96 * math.sqrt(q * (1.0 - q) / len(latency)) if len(latency) else math.inf
        low = float(np.quantile(latency, q - spread)) if q > spread else 0.0
        high = float(np.quantile(latency, q + spread)) if q + spread < 1.0 else math.inf
        found |= {f"latency_{name}_low": low, f"latency_{name}_high": high}
    return found


async def _operation(order: _Order, storage: RateLimitStorage) -> float:
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


async def _measure_costs(order: _Order, found: _Measured) -> None:
    """Measure memory, and the server as the candidate asks it."""
    url = StorageURL.parse(order.storage)
    found.costs["memory"] = fit_memory([{key: piece async for key, piece in memory_pieces(order.effort)}])
    if url.hybrid is not None:
        found.hybrids = await measure_hybrids(order.effort, [url.hybrid.consistency])
    if order.url is None:
        return
    # A standby is simulated beside what was measured, so that the flush here is that of the primary alone.
    waits = url.backend == "postgres" and url.config.synchronous_commit != "off" and not url.config.unlogged
    commit = {"postgres": "local" if waits else "off"}.get(url.backend)
    async with open_target(_with_commit(order.url, commit)) as opened:
        await warm_up(opened.target)
        costs = fit(opened.target, [await survey(opened.target, order.effort)])
    found.costs[url.backend] = costs = msgspec.structs.replace(costs, stalls={})  # what comes once in a minute
    if url.backend == "redis" and redis_topology(order.url) == "cluster":
        found.costs[CLUSTER] = costs


def _with_commit(url: str, commit: str | None) -> str:
    if commit is None:
        return url
    parts = split_url(url)
    options = [(name, value) for name, value in parts.options if name not in ("synchronous_commit", "unlogged")]
    return parts.text(parts.scheme, [*options, ("synchronous_commit", commit)])


def _storage(order: _Order) -> RateLimitStorage:
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
        storage = PostgresStorage(msgspec.structs.replace(config, url=at.url, schema=_schema(order.tag)), runtime)
    return storage if hybrid is None else HybridStorage(storage, msgspec.structs.replace(hybrid, node=""), runtime)
