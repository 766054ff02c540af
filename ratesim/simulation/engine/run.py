"""`run`: one candidate through one scenario in simulated time."""

from __future__ import annotations

import numpy as np

from ratesim.progress import Progress
from ratesim.servers import Server
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.backends import Fidelity, open_backend
from ratesim.simulation.engine.cluster import Cluster, build_cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.replay import ReplayResult, replay
from ratesim.simulation.results.accuracy import Accuracy, measure_accuracy
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
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

    Parameters
    ----------
    scenario
        Traffic, limit, deployment and faults.
    candidate
        The storage and routing under test.
    seed
        Seed of this replication; `scenario.seed` unless given.
    fidelity
        What decides behind the modeled network, in the same simulated time: the `model`, the real scripts on fakeredis
        (`fake`), or a real server (`live`); see `open_backend`.
    profile
        Measured costs; this machine's or the shipped ones unless given.
    trace
        The scenario's trace for that seed, if it was made already.
    server
        The real server of the fidelity `live`; one is started for the run unless given.
    progress
        Called with the requests and the simulated time that are done; True shows a bar.
    interruptible
        Whether Ctrl-C returns what was simulated so far, marked `partial`, instead of raising.

    Raises
    ------
    ConfigurationError, ScenarioError
        If the candidate or the scenario cannot be run.
    ServerError
        If the fidelity is `live` and the server fails.
    """
    scenario = scenario.with_algorithm(candidate.algorithm)
    seed = scenario.seed if seed is None else seed
    if seed < 0:
        raise ScenarioError(f"seed {seed}: must be 0 or more")
    trace = scenario.trace(seed) if trace is None else trace
    context = RunContext.of(scenario, candidate, profile or Profile.load(), seed, trace)
    with open_backend(fidelity, scenario, candidate, context.sequence, server) as real:
        cluster = build_cluster(context, real)
        replayed = replay(context, cluster, progress, interruptible)
    accuracy = _accuracy(context, replayed)
    counted = _after_warmup(context, replayed) if scenario.warmup > 0.0 else replayed
    return RunResult(
        scenario=scenario,
        candidate=candidate,
        seed=seed,
        start_time=context.runtime.epoch,
        trace=counted.trace,
        **counted.outcome._asdict(),
        node=counted.node,
        accuracy=accuracy,
        errors=replayed.errors,
        l2_operations=cluster.operations,
        store_busy_seconds=cluster.busy,
        concurrency=cluster.concurrency,
        bytes_per_key=_bytes_per_key(context),
        partial=replayed.partial,
        in_flight=replayed.in_flight,
        stations={name: station.stats for name, station in cluster.stations.items()},
        bytes_to_store=sum(server.meter.bytes_to_store for server in cluster.servers),
        bytes_from_store=sum(server.meter.bytes_from_store for server in cluster.servers),
        redirects=cluster.redirects,
        slow_phases=tuple(phase for server in cluster.servers if server.work is not None for phase in server.work.phases),
        node_bytes=cluster.memory(context.runtime),
        store_bytes=_store_bytes(context, cluster, replayed.trace),
        events=context.env.scheduled() + len(context.known),
        fidelity=fidelity,
        server=real.server if real else "",
    )


def _after_warmup(context: RunContext, replayed: ReplayResult) -> ReplayResult:
    """Keep the requests after the warm-up. Raises ScenarioError where there is none."""
    rows = replayed.trace.time >= context.warmup_end
    if not rows.any():
        if replayed.partial:
            raise KeyboardInterrupt
        seconds = replayed.trace.duration
        raise ScenarioError(f"warmup: it is not over before the last request, {seconds:g} s after the first")
    trace = replayed.trace.select(rows, "after a warm-up")
    return replayed._replace(trace=trace, outcome=replayed.outcome.only(rows), node=replayed.node[rows])


def _accuracy(context: RunContext, replayed: ReplayResult) -> Accuracy:
    """Compare with the oracle, without failed requests; decisions without a number (no store was asked) come last."""
    trace, outcome = replayed.trace, replayed.outcome
    allowed, failed, sequence = outcome.allowed, outcome.failed, outcome.sequence
    order = np.where(sequence > 0, sequence, np.iinfo(np.int64).max)
    columns = (trace.key, trace.time, trace.cost, allowed, order)
    if failed.any():  # else nothing is copied: there may be ten million rows
        columns = tuple(each[~failed] for each in columns)  # type: ignore[assignment]
    skew = StorageURL.parse(context.candidate.storage).config.max_clock_skew
    return measure_accuracy(context.limit, *columns, since=context.warmup_end, max_clock_skew=skew)


def _bytes_per_key(context: RunContext) -> float:
    """Bytes that one key takes: in the store, and on the one node that knows it."""
    url, algorithm = StorageURL.parse(context.candidate.storage), context.limit.algorithm
    total = context.profile.backends[url.backend].bytes_per_key.get(algorithm, float("nan"))
    if url.hybrid is not None and url.hybrid.consistency != "strong":
        total += context.profile.backends["memory"].bytes_per_key.get(algorithm, float("nan"))
    return total


def _store_bytes(context: RunContext, cluster: Cluster, trace: Trace) -> float:
    """Bytes of the shared store that holds every key of the trace; 0 without a store."""
    if not cluster.servers:
        return 0.0
    backend = context.profile.backends[StorageURL.parse(context.candidate.storage).backend]
    return float(np.count_nonzero(np.bincount(trace.key))) * backend.bytes_per_key.get(context.limit.algorithm, float("nan"))
