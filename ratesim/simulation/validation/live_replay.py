"""Live replay: the same traffic against real servers, in real time, for the columns of a report that say "measured live".

Every API node is a storage of its own, all in this process. The load is an open loop on loopback, bounded in requests and
rate. Decisions are taken at the trace's own times, so they can be compared with the simulation's. Latencies count from the
moment a request was due. `service_p50` counts from the moment it was really sent: the time of the storage alone.

A replay that its server does not outlive has no figures: its row says what happened, and when.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ratesim.errors import RatesimError
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.servers.watch import run_watched
from ratesim.simulation.engine.backends import own_schema
from ratesim.simulation.network.load_balancer import Router
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import HybridStorage, MemoryStorage, PostgresStorage, RateLimitStorage, RedisStorage, StorageURL
from traffic import Trace, replay

__all__ = ["failed_row", "live_row"]

MOST_NODES = 8
RATE = 400.0  # requests/s that one Python process can send without becoming the bottleneck
WARM_UP = 100  # requests that open connections and load scripts
LEAST_TIMEOUT = 10.0  # seconds that a request may take, before it counts as failed


def live_row(
    scenario: Scenario, candidate: Candidate, trace: Trace, server: Server | None, requests: int = 1000
) -> dict[str, Any]:
    """Measure one candidate live, as one row; times in seconds.

    Parameters
    ----------
    scenario, candidate, trace
        What is replayed.
    server
        The one that the candidate's store runs on.
    requests
        As many are measured, after a warm-up.

    Returns
    -------
    dict
        The figures. Where the server died or froze, or the storage failed, they are nan, and `failure` says why.
    """
    head = trace.head(requests + WARM_UP)
    sent, tag = _Sent(), uuid.uuid4().hex[:12]
    try:
        with _place(server, tag):
            work = _replay(scenario, candidate, head, server, sent, tag)
            figures = asyncio.run(work) if server is None else run_watched(server, work)
    except (RatesimError, OSError) as error:
        answered = f"{sent.answered:,} of {len(head):,} requests were answered"
        return failed_row(candidate, f"{' '.join(str(error).split())}; {answered}", server)
    return _row(candidate, server, figures)


def failed_row(candidate: Candidate, failure: str, server: Server | None = None) -> dict[str, Any]:
    """Make the row of a candidate that was not measured."""
    return _row(candidate, server, {"failure": failure})


def _row(candidate: Candidate, server: Server | None, figures: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(("latency_p50", "latency_p99", "service_p50", "lateness_p99"), math.nan)
    counted = {"requests": 0, "errors": 0, "admitted": 0}
    place = "this process" if server is None else str(server)
    return {"candidate": candidate.name, "server": place, **counted, **empty, "note": "", "failure": "", **figures}


@dataclass
class _Sent:
    answered: int = 0


def _place(server: Server | None, tag: str) -> AbstractContextManager[None]:
    """Make a schema of a replay's own: tables of another candidate may be cut otherwise, or logged."""
    if server is None or server.kind != "postgres":
        return nullcontext()
    return own_schema(StorageURL.parse(server.url).config.url, _schema(tag), server)


def _schema(tag: str) -> str:
    return f"ratesim_live_{tag}"


async def _replay(
    scenario: Scenario, candidate: Candidate, trace: Trace, server: Server | None, sent: _Sent, tag: str
) -> dict[str, Any]:
    nodes = min(scenario.deployment.nodes, MOST_NODES)
    router = Router(trace, candidate.routing or scenario.deployment.routing, nodes, scenario.seed)
    storages = [_storage(candidate, server, tag) for _ in range(nodes)]
    limit = scenario.limit.limit()
    names = [trace.keys[key] for key in trace.key.tolist()]
    stamps, costs = trace.time.tolist(), trace.cost.tolist()
    async with AsyncExitStack() as stack:
        for storage in storages:
            await stack.enter_async_context(storage)
            await storage.peek("warm-up", limit, now=stamps[0])  # connect, and teach the server its scripts or functions
        try:

            async def send(i: int) -> bool:
                try:
                    allowed = bool(await storages[router.send(i)].acquire(names[i], limit, costs[i], stamps[i]))
                    sent.answered += 1
                    return allowed
                finally:
                    router.record_answer(i)

            speed = RATE / trace.rate if trace.rate > 0 else 1.0
            result = await replay(_even(trace, RATE), send)
        finally:
            for name in set(names):
                await storages[0].reset(name)
    kept = slice(min(WARM_UP, len(trace) // 2), None)
    good = ~result.failed[kept]
    latency = result.latency[kept][good]
    p50, p99 = np.quantile(latency, [0.5, 0.99]) if len(latency) else (np.nan, np.nan)
    service = np.median(result.service[kept][good]) if len(latency) else np.nan
    return {
        "requests": len(trace) - kept.start,
        "errors": int(result.failed[kept].sum()),
        "admitted": int(sum(1 for answer in result.results[kept.start :] if answer is True)),
        "latency_p50": float(p50),
        "latency_p99": float(p99),
        "service_p50": float(service),
        "lateness_p99": float(result.lateness.get("p99", np.nan)),
        "note": f"open loop at {RATE:g} requests/s ({speed:.3g} times the trace's own rate), {nodes} nodes in one process",
    }


def _even(trace: Trace, rate: float) -> Trace:
    """Space the same requests evenly, in the same order: the pace of the load, while decisions keep the trace's times."""
    times = float(trace.time[0]) + np.arange(len(trace)) / rate
    return Trace(
        times,
        trace.key,
        trace.keys,
        cost=trace.cost,
        session=trace.session,
        endpoint=trace.endpoint,
        endpoints=trace.endpoints,
    )


def _storage(candidate: Candidate, server: Server | None, tag: str) -> RateLimitStorage:
    backend, config, hybrid = StorageURL.parse(candidate.storage)
    runtime = AsyncioRuntime()
    if server is None:
        return MemoryStorage(config, runtime)
    at = StorageURL.parse(server.url).config
    # Decisions keep the trace's times. A machine that is slow for a moment shows in the latencies; it does not end a replay.
    patience = max(config.command_timeout, LEAST_TIMEOUT)
    config = msgspec.structs.replace(config, clock="client", command_timeout=patience)
    storage: RateLimitStorage
    if backend == "redis":
        place = {"url": at.url, "cluster_mode": at.cluster_mode, "read_from_replicas": False}
        place["key_prefix"] = f"ratesim:live:{tag}:"
        storage = RedisStorage(msgspec.structs.replace(config, **place, pool_size=2, min_ttl=600.0), runtime)
    else:
        storage = PostgresStorage(msgspec.structs.replace(config, url=at.url, schema=_schema(tag), pool_size=2), runtime)
    if hybrid is None:
        return storage
    return HybridStorage(storage, msgspec.structs.replace(hybrid, node=""), runtime)  # each makes up a name of its own
