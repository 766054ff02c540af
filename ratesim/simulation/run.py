"""`run`: one candidate through one scenario in simulated time, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.runtime import SimRuntime
from ratesim.simulation.deployment import Deployment, backend_of, build, route
from ratesim.simulation.profile import Profile
from ratesim.simulation.progress import Progress, carry_on
from ratesim.simulation.remote import Backing
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.score import Score, score
from ratesim.simulation.station import queued
from ratesim.storage import StorageURL
from traffic import Trace, open_loop

__all__ = ["RunResult", "run"]

Connect = Callable[[StorageURL, Callable[[], int]], Backing]


@dataclass(frozen=True)
class RunResult:
    """One run. Arrays have one row for each request of the trace.

    allowed: whether it was admitted; false also where no decision came. latency: seconds until the answer. sequence: the
    position in the order of decisions, 0 where none was taken. node: who served it. partial: it was interrupted, and the
    rows are only those of the requests that had their answer by then.
    """

    scenario: Scenario
    candidate: Candidate
    seed: int
    allowed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    sequence: NDArray[np.int64]
    node: NDArray[np.int64]
    score: Score
    l2_operations: int
    l2_busy: float
    concurrency: int
    simulated_seconds: float
    bytes_per_key: float
    partial: bool = False

    def row(self) -> dict[str, Any]:
        """The run as one row of a results table; times in seconds."""
        requests = len(self.allowed)
        admitted = int(self.allowed.sum())
        failed = int(self.failed.sum())
        answered = self.latency[~self.failed]
        p50, p90, p99, longest = np.quantile(answered, [0.5, 0.9, 0.99, 1.0]) if len(answered) else [np.nan] * 4
        url = StorageURL.parse(self.candidate.storage)
        asked = self.score.exact_total
        return {
            "candidate": self.candidate.name,
            "backend": url.backend if url.hybrid is None else "hybrid",
            "routing": self.candidate.routing or self.scenario.deployment.routing,
            "storage": self.candidate.storage,
            "seed": self.seed,
            "requests": requests,
            "admitted": admitted,
            "denied": requests - admitted - failed,
            "failed": failed,
            "exact_total": asked,
            "over_admission": self.score.over_admission,
            "false_denial": self.score.false_denial,
            "net_over_admission": self.score.net_over_admission,
            "worst_excess": self.score.worst_excess,
            "latency_p50": float(p50),
            "latency_p90": float(p90),
            "latency_p99": float(p99),
            "latency_max": float(longest),
            "l2_operations_per_request": self.l2_operations / requests,
            "l2_busy_per_request": self.l2_busy / requests,
            "utilisation": self.l2_busy / self.concurrency / max(self.simulated_seconds, 1e-9),
            "bytes_per_key": self.bytes_per_key,
            "simulated_seconds": self.simulated_seconds,
            "partial": self.partial,
        }


def run(
    scenario: Scenario,
    candidate: Candidate,
    seed: int | None = None,
    *,
    profile: Profile | None = None,
    trace: Trace | None = None,
    backing: Connect | None = None,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> RunResult:
    """Replay the scenario's traffic against a candidate.

    seed: of this replication, scenario.seed unless given. trace: the scenario's, if it was made already. backing: what
    decides behind the network, if not the model (see `deployment.build`). progress: told of the requests and the simulated
    time that are done; True shows a bar. interruptible: Ctrl-C does not raise but returns what was simulated so far, marked
    `partial`.
    """
    profile = profile or Profile.load()
    trace = scenario.trace() if trace is None else trace
    seed = scenario.seed if seed is None else seed
    env = simpy.Environment()
    epoch = float(trace.time[0])
    runtime = SimRuntime(env, epoch)
    deployment = build(scenario, candidate, profile, runtime, trace, seed, backing)
    limit = scenario.limit.limit()
    n = len(trace)
    allowed, failed = np.zeros(n, bool), np.zeros(n, bool)
    latency, sequence = np.full(n, np.nan), np.zeros(n, np.int64)
    nodes = route(trace, candidate.routing or scenario.deployment.routing, scenario.deployment.nodes)
    where = nodes.tolist()
    stamps, costs = trace.time.tolist(), trace.cost.tolist()
    names = [trace.keys[key] for key in trace.key.tolist()]
    storages, plan = deployment.storages, deployment.plan
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    waits = queued(trace.time - epoch, nodes, deployment.costs.client_cpu).tolist()

    async def send(i: int) -> None:
        start = env.now
        if plan is not None:
            plan.request = i
        try:
            decision = await storages[where[i]].acquire(names[i], limit, costs[i], stamps[i])
        except StorageError:
            failed[i] = True
        else:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
        latency[i] = env.now - start + waits[i]

    runtime.spawn(open_loop(trace, send, _AtOnce(runtime)))
    key, time, cost = trace.key, trace.time, trace.cost
    partial = False
    try:
        carry_on(env, time - epoch, progress)
    except KeyboardInterrupt:
        done = ~np.isnan(latency)
        if not interruptible or not done.any():
            raise
        partial = True
        allowed, failed, latency, sequence = allowed[done], failed[done], latency[done], sequence[done]
        nodes, key, time, cost = nodes[done], key[done], time[done], cost[done]
    answered = ~failed
    order = np.where(sequence > 0, sequence, np.iinfo(np.int64).max)
    result = score(limit, key[answered], time[answered], cost[answered], allowed[answered], order[answered])
    return RunResult(
        scenario,
        candidate,
        seed,
        allowed,
        failed,
        latency,
        sequence,
        nodes,
        result,
        deployment.operations,
        deployment.station.busy if deployment.station else 0.0,
        deployment.costs.concurrency,
        env.now if partial else trace.duration,
        _bytes_per_key(deployment, candidate, profile, limit.algorithm),
        partial,
    )


class _AtOnce:
    """What drives the clients: a request that needs no waiting is over when it was sent."""

    def __init__(self, runtime: SimRuntime) -> None:
        self.time, self.sleep, self.spawn = runtime.time, runtime.sleep, runtime.begin


def _bytes_per_key(deployment: Deployment, candidate: Candidate, profile: Profile, algorithm: str) -> float:
    """Bytes that one key takes: in the store, and on the one node that knows it."""
    backend = backend_of(candidate)
    url = StorageURL.parse(candidate.storage)
    total = profile.backends[url.backend].bytes_per_key.get(algorithm, float("nan"))
    if backend == "hybrid" and url.hybrid is not None and url.hybrid.consistency == "eventual":
        total += profile.backends["memory"].bytes_per_key.get(algorithm, float("nan"))
    return total
