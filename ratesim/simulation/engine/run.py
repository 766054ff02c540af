"""`run`: one candidate through one scenario in simulated time, and what came of it."""

from __future__ import annotations

import itertools

import numpy as np

from ratesim.limit import Limit
from ratesim.progress import Progress
from ratesim.runtime import SimRuntime
from ratesim.servers import Server
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.backends import Fidelity, open_backend
from ratesim.simulation.engine.cluster import Cluster, backend_of, build_cluster
from ratesim.simulation.engine.replay import ReplayResult, replay
from ratesim.simulation.engine.trace_environment import TraceEnvironment
from ratesim.simulation.results.accuracy import Accuracy, measure_accuracy
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import EPOCH, Candidate, Scenario, ScenarioError
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["RunResult", "run"]


def run(
    scenario: Scenario,
    candidate: Candidate,
    seed: int | None = None,
    *,
    fidelity: Fidelity = "model",
    profile: Profile | None = None,
    trace: Trace | None = None,
    server: Server | None = None,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> RunResult:
    """Replay the scenario's traffic against a candidate.

    seed: of this replication, scenario.seed unless given. fidelity: what decides behind the modelled network: the `model`,
    the real scripts on fakeredis (`fake`), or a real server, in the same simulated time (`live`): `server`, or one that is
    started for the run; see `open_backend`. trace: the scenario's with that seed, if it was made already. progress:
    told of the requests and the simulated time that are done; True shows a bar. interruptible: Ctrl-C does not raise but
    returns what was simulated so far, marked `partial`. Raises ConfigurationError, ScenarioError and, `live`, ServerError.
    """
    profile, scenario = profile or Profile.load(), scenario.limited(candidate.algorithm)
    seed = scenario.seed if seed is None else seed
    if seed < 0:
        raise ScenarioError(f"seed {seed}: must be 0 or more")
    trace = scenario.trace(seed) if trace is None else trace
    cut = (float(trace.time[0]) if len(trace) else EPOCH) + scenario.warmup
    clients = scenario.clients(trace)
    env = TraceEnvironment()
    runtime = SimRuntime(env, float(trace.time[0]) if len(trace) else EPOCH)
    routing = candidate.routing or scenario.deployment.routing
    sequence = itertools.count(1).__next__
    with open_backend(fidelity, scenario, candidate, sequence, server) as real:
        deployment = build_cluster(scenario, candidate, profile, runtime, None if clients else trace, seed, sequence, real)
        played = replay(scenario, routing, deployment, env, runtime, trace, clients, seed, progress, interruptible)
    limit = scenario.limit.limit()
    counted, scored = played, _scored(limit, played, cut)
    if scenario.warmup > 0.0:
        counted = _after(cut, played)
    return RunResult(
        scenario=scenario,
        candidate=candidate,
        seed=seed,
        start_time=runtime.epoch,
        trace=counted.trace,
        **counted.outcome._asdict(),
        node=counted.node,
        accuracy=scored,
        errors=played.errors,
        l2_operations=deployment.operations,
        store_busy_seconds=deployment.busy,
        concurrency=deployment.concurrency,
        bytes_per_key=_bytes_per_key(deployment, candidate, profile, limit.algorithm),
        partial=played.partial,
        in_flight=played.in_flight,
        stations={name: station.stats for name, station in deployment.stations.items()},
        bytes_to_store=sum(server.meter.bytes_to_store for server in deployment.servers),
        bytes_from_store=sum(server.meter.bytes_from_store for server in deployment.servers),
        node_bytes=deployment.memory(runtime),
        store_bytes=_store_bytes(deployment, candidate, profile, limit.algorithm, played.trace),
        events=env.scheduled() + (len(trace) if clients is None else 0),
        fidelity=fidelity,
        server=real.server if real else "",
    )


def _after(cut: float, played: ReplayResult) -> ReplayResult:
    """What is left of it after a warm-up, the requests from `cut` on. Raises ScenarioError for nothing."""
    rows = played.trace.time >= cut
    if not rows.any():
        if played.partial:
            raise KeyboardInterrupt
        raise ScenarioError(f"warmup: it is not over before the last request, {played.trace.duration:g} s after the first")
    trace = played.trace.only(rows, "after a warm-up")
    return played._replace(trace=trace, outcome=played.outcome.only(rows), node=played.node[rows])


def _scored(limit: Limit, played: ReplayResult, cut: float) -> Accuracy:
    """Requests that failed are left out; those that were decided without a number (no store was asked) come last."""
    trace, outcome = played.trace, played.outcome
    allowed, failed, sequence = outcome.allowed, outcome.failed, outcome.sequence
    order = np.where(sequence > 0, sequence, np.iinfo(np.int64).max)
    columns = (trace.key, trace.time, trace.cost, allowed, order)
    if failed.any():  # else nothing is copied: it may be ten million rows
        columns = tuple(each[~failed] for each in columns)  # type: ignore[assignment]
    return measure_accuracy(limit, *columns, since=cut)


def _bytes_per_key(deployment: Cluster, candidate: Candidate, profile: Profile, algorithm: str) -> float:
    """Bytes that one key takes: in the store, and on the one node that knows it."""
    backend = backend_of(candidate)
    url = StorageURL.parse(candidate.storage)
    total = profile.backends[url.backend].bytes_per_key.get(algorithm, float("nan"))
    if backend == "hybrid" and url.hybrid is not None and url.hybrid.consistency != "strong":
        total += profile.backends["memory"].bytes_per_key.get(algorithm, float("nan"))
    return total


def _store_bytes(deployment: Cluster, candidate: Candidate, profile: Profile, algorithm: str, trace: Trace) -> float:
    """Bytes of the shared store with every key that was asked for in it; 0 without a store."""
    if not deployment.servers:
        return 0.0
    backend = profile.backends[StorageURL.parse(candidate.storage).backend]
    return float(np.count_nonzero(np.bincount(trace.key))) * backend.bytes_per_key.get(algorithm, float("nan"))
