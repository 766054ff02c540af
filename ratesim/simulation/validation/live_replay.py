"""Live replay: the same traffic against real servers, in real time, as a control of the simulation.

One API node, a process of its own on the cores that the server leaves free, sends the first requests of a trace at an even
rate over loopback: an open loop, bounded in requests and rate. It decides them as of when they come. Latencies count as in
`traffic.live_replay`. Operations of the storage are timed besides: one at a time, back to back, of keys in use.

Then the same process measures the costs of that very server, unless they are known of the same minute, and the very replay
is simulated with them. So a report has three figures that belong together: measured, its own simulation, and their ratio.

A replay that its server does not outlive has no figures: its row says what happened, and when. One that a busy machine
disturbed is repeated, and its row says so if that does not help (`disturbance.py`).
"""

from __future__ import annotations

import math
import os
import tempfile
import uuid
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ratesim.errors import RatesimError
from ratesim.servers import Server
from ratesim.simulation.cost_model.load_process import in_process, server_cores, split_cores
from ratesim.simulation.cost_model.profile import BackendCosts, Profile, on_cores
from ratesim.simulation.engine.backends import own_schema
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario, WorkloadSpec
from ratesim.simulation.validation.covariates import sampled
from ratesim.simulation.validation.live_measurement import (
    WARM_UP,
    KnownCosts,
    Measured,
    Order,
    commit_of,
    is_unlogged,
    kept,
    measure,
    schema_of,
)
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["RecentCosts", "failed_row", "live_row"]

# Requests/s of a replay: the traffic's own, but so many that a replay is short, and no more than one Python process sends
# without becoming the bottleneck.
SLOWEST, FASTEST = 400.0, 2000.0
SECONDS = 2.5  # that a replay lasts
ATTEMPTS = 3  # replays at most, where the machine is disturbed
EFFORT = 0.5  # of a survey of the server: about two seconds
RECENT = 60.0  # seconds for which the costs of a server are those of another replay as well
SEEDS = 3  # of the simulation, so that its quantiles are surer than those of the replay
UNUSED = BackendCosts(client_cpu=0.0, split=(1.0, 0.0, 0.0))  # of memory beside a store: hybrids bring costs of their own

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
    recent: RecentCosts | None = None,
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
    recent
        Costs that replays share; this one adds its own.

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
    recent = recent or RecentCosts()
    with tempfile.TemporaryDirectory() as folder:
        count, samples = Path(folder) / "answered", Path(folder) / "pace"
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        try:
            with _place(server, tag), sampled(samples, cores) as sampler, split_cores(pids):
                order = Order(
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
                    known=recent.known(server, candidate),
                    count=count,
                    samples=samples,
                )
                found = in_process(measure, order, server=server)
        except (RatesimError, OSError) as error:
            answered = int(count.read_text("ascii")) if count.exists() else 0
            why = f"{' '.join(str(error).split())}; {answered:,} of {len(head):,} requests were answered"
            return failed_row(candidate, why, server)
    recent.keep(server, candidate, found)
    figures = found.figures | {"note": f"one API node, {rate:,.0f} requests/s", "disturbed": found.disturbed}
    if found.costs:
        figures |= _simulated(scenario, candidate, _even(head, found.start, rate), found)
        for name in ("p50", "p99"):
            figures[f"ratio_{name}"] = figures[f"simulated_{name}"] / figures[f"latency_{name}"]
    return _row(candidate, server, figures)


class RecentCosts:
    """Costs of servers that were measured less than a minute ago."""

    def __init__(self) -> None:
        self._measured: dict[tuple[str, ...], tuple[float, KnownCosts]] = {}

    def known(self, server: Server | None, candidate: Candidate) -> KnownCosts | None:
        """Return the costs of the server as the candidate asks it."""
        when, known = self._measured.get(_asked(server, candidate), (-math.inf, None))
        return known if perf_counter() - when < RECENT else None

    def keep(self, server: Server | None, candidate: Candidate, found: Measured) -> None:
        """Keep what a replay has measured on a machine that was left alone."""
        if found.beside is not None and found.costs and not found.disturbed:
            self._measured[_asked(server, candidate)] = perf_counter(), KnownCosts(found.costs, found.beside)


def _asked(server: Server | None, candidate: Candidate) -> tuple[str, ...]:
    """Name a server and how a candidate asks it."""
    place = () if server is None else (server.url, *map(str, server.pids))
    how = (commit_of(candidate.storage), is_unlogged(candidate.storage))
    return (*place, StorageURL.parse(candidate.storage).backend, *map(str, how))


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
    return own_schema(StorageURL.parse(server.url).config.url, schema_of(tag), server)


def replay_rate(trace: Trace) -> float:
    """Return the requests/s at which a trace is replayed."""
    return min(max(trace.rate, SLOWEST), FASTEST)


def _even(trace: Trace, start: float, rate: float) -> Trace:
    """Space the same requests evenly, in the same order, from a start."""
    times = start + np.arange(len(trace)) / rate
    return Trace(times, trace.key, trace.keys, cost=trace.cost)


# -- simulated --------------------------------------------------------------------------------------------------------


def _simulated(scenario: Scenario, candidate: Candidate, trace: Trace, found: Measured) -> dict[str, Any]:
    """Simulate the replay of a trace on one node of this machine, with the costs that were measured beside it."""
    deployment = scenario.deployment.model_copy(update={"nodes": 1, "network": "loopback", "rtt": None, "loss": None})
    alone = {"deployment": deployment, "workload": WorkloadSpec(requests_per_second=1.0), "faults": (), "warmup": 0.0}
    backends = {"memory": UNUSED} | {name: on_cores(costs, server_cores()) for name, costs in found.costs.items()}
    profile = Profile(machine="", measured="", versions={}, backends=backends, hybrids=found.hybrids)
    results = [
        run(scenario.model_copy(update=alone), candidate, seed, profile=profile, trace=trace, progress=False)
        for seed in range(SEEDS)
    ]
    rows = kept(len(trace))
    latency = np.concatenate([result.latency[rows][~result.failed[rows]] for result in results])
    p50, p99 = np.quantile(latency, (0.5, 0.99)) if len(latency) else (math.nan, math.nan)
    row, url = results[0].row(), StorageURL.parse(candidate.storage)
    operation = found.costs["memory"].client_cpu if url.backend == "memory" else math.nan
    if url.hybrid is not None and url.hybrid.consistency != "strong":
        operation = found.hybrids[url.hybrid.consistency].decide
    return {
        "simulated_p50": float(p50),
        "simulated_p99": float(p99),
        "simulated_admitted": int(results[0].allowed[rows].sum()),
        "simulated_operation": operation,  # nan where a decision asks a server
        "utilization": max(float(row.get(name, 0.0)) for name in ("utilization_max", "node_utilization_max")),
    }
