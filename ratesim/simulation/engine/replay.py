"""`replay`: the requests of a run on their way through a deployment, and what came of each."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.progress import Progress
from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.dispatcher import Dispatcher
from ratesim.simulation.engine.event_loop import SLICES, run_until_done
from ratesim.simulation.engine.fault_events import inject_faults
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.outcome_columns import OutcomeBuffer, OutcomeColumns
from ratesim.simulation.engine.trace_environment import TraceEnvironment
from ratesim.simulation.network.load_balancer import Router, Routing
from ratesim.simulation.queueing.fifo_station import lindley_waits, record_batch
from ratesim.simulation.scenario.scenario import Scenario
from traffic import ReactiveClients, Trace

__all__ = ["ReplayResult", "replay"]


class ReplayResult(NamedTuple):
    """trace: what was asked, warm-up and all. node: who served it. errors: how many failed, by kind, after the warm-up.
    partial: it was interrupted, and the rows are only those of the requests that had their answer by then; in_flight: how
    many had been sent and had none, after the warm-up.
    """

    trace: Trace
    outcome: OutcomeColumns
    node: NDArray[np.int16]
    errors: dict[str, int]
    partial: bool
    in_flight: int


def replay(
    scenario: Scenario,
    routing: Routing,
    deployment: Cluster,
    env: TraceEnvironment,
    runtime: SimRuntime,
    trace: Trace,
    clients: ReactiveClients | None,
    seed: int,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> ReplayResult:
    """Play a trace, or clients that react (then `trace` is what they would ask unhindered), to its end, beginning now.

    progress, interruptible: see `run`.
    """
    known = trace.head(0) if clients else trace  # of clients that react nobody knows what they will ask
    answers = OutcomeBuffer.of(len(known), deployment.views)
    router = Router(known, routing, scenario.deployment.nodes, seed)
    timeline = FaultTimeline(scenario.faults) if scenario.faults else None
    if timeline is not None:
        runtime.spawn(inject_faults(timeline, deployment, runtime))
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    ahead = router.known and not clients and not deployment.servers and not deployment.processes
    due = known.time - runtime.epoch
    limit = scenario.limit.limit()
    sending = Dispatcher(limit, deployment, runtime, router, answers, timeline, ahead, scenario.warmup)
    if scenario.warmup > 0.0 and not ahead:
        runtime.spawn(_warm_up(scenario.warmup, deployment, runtime))
    record = None
    if clients is None:
        env.schedule_arrivals(*sending.open_loop(known, due))
    else:
        record = clients.start(runtime, sending.closed_loop(trace.keys), np.random.default_rng([seed, 3]))
    # A closed loop's requests come when they come; what is known of them is how long they go on.
    shown = trace.time - runtime.epoch if len(trace) else np.linspace(0.0, scenario.workload.duration, SLICES)
    # Nodes may still tell their store what they admitted; clients may be waiting to ask again.
    longest = max(limit.burst or 0.0, limit.rate) / limit.rate * limit.period  # until even the dearest is admitted
    grace = 60.0 if clients is None else max(60.0, 2.0 * longest)
    counted = (lambda: len(answers.latency)) if clients else None
    with _rest_uncounted():
        partial = run_until_done(env, shown, progress, interruptible, counted, sending.last_answer, grace)
    env.clear_arrivals()  # what it took to send them is not needed any more
    del sending
    asked, outcome, node = (
        known if record is None else record.trace(),
        answers.arrays(),
        np.frombuffer(router.node, np.int16),
    )
    if ahead:
        _wait(deployment, due, node, outcome, scenario.warmup)
    for station in deployment.stations.values():
        station.close(env.now if partial else inf)
    in_flight = 0
    if partial:
        done = outcome.latency >= 0.0
        if not done.any():
            raise KeyboardInterrupt
        begun = len(asked) if clients else int(np.searchsorted(due, env.now))
        warm = int(np.searchsorted(asked.time, runtime.epoch + scenario.warmup))
        in_flight = int(np.isnan(outcome.latency[warm:begun]).sum())
        asked, node = asked.only(done, "of an interrupted run"), node[done]
        outcome = outcome.only(done)
    return ReplayResult(asked, outcome, node, answers.errors, partial, in_flight)


async def _warm_up(seconds: float, deployment: Cluster, runtime: SimRuntime) -> None:
    await runtime.sleep(seconds)
    deployment.discount(runtime.env.now)


def _wait(
    deployment: Cluster, due: NDArray[np.float64], node: NDArray[np.int16], outcome: OutcomeColumns, warmup: float
) -> None:
    """Add to the latencies what the requests that were answered had to wait for the processors of their nodes."""
    sent = int(np.isfinite(outcome.latency).sum())  # all were answered at once, up to where the run was interrupted
    stay = lindley_waits(due[:sent], node[:sent], deployment.cpu)
    outcome.latency[:sent] += stay
    warm = int(np.searchsorted(due[:sent], warmup))
    record_batch(deployment.processors, due[:warm], node[:warm], deployment.cpu, stay[:warm])
    if warmup > 0.0:
        deployment.discount(warmup)
    record_batch(deployment.processors, due[warm:sent], node[warm:sent], deployment.cpu, stay[warm:])


@contextmanager
def _rest_uncounted() -> Iterator[None]:
    """Let the garbage collector leave alone what is there already: libraries alone take it a tenth of a second each time."""
    if gc.get_freeze_count():  # somebody does so already
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
