"""`replay`: sends the requests of a run to a cluster and collects the answers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.progress import Progress
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import REACTIVE_CLIENTS, RunContext
from ratesim.simulation.engine.dispatcher import Dispatcher
from ratesim.simulation.engine.event_loop import SLICES, run_until_done
from ratesim.simulation.engine.fault_events import inject_faults
from ratesim.simulation.engine.outcome_columns import OutcomeColumns
from ratesim.simulation.queueing.fifo_station import lindley_waits, record_batch
from traffic import Trace

__all__ = ["GRACE", "ReplayResult", "add_waits", "answered_part", "replay"]

GRACE = 60.0  # simulated seconds after the last answer in which nodes may still tell their store what they admitted


class ReplayResult(NamedTuple):
    """The requests of a run and their answers, with the warm-up.

    Attributes
    ----------
    trace
        The requests that were sent.
    outcome
        The answer to each.
    node
        The node that served each, shape (len(trace),).
    errors
        How many requests failed after the warm-up, by kind of error.
    partial
        Whether the run was interrupted. The rows are then those of the requests that were answered by that time.
    in_flight
        How many requests of an interrupted run were sent after the warm-up and had no answer.
    """

    trace: Trace
    outcome: OutcomeColumns
    node: NDArray[np.int16]
    errors: dict[str, int]
    partial: bool
    in_flight: int


def replay(
    context: RunContext, cluster: Cluster, progress: Progress | bool | None = None, interruptible: bool = False
) -> ReplayResult:
    """Play the trace, or the clients that react, to the end, from the current simulated time on.

    Parameters
    ----------
    context, cluster
        The run, and its nodes and servers.
    progress, interruptible
        As for `run`.
    """
    env, runtime, trace, clients = context.env, context.runtime, context.trace, context.clients
    warmup = context.scenario.warmup
    dispatcher = Dispatcher(context, cluster)
    if context.timeline is not None:
        runtime.spawn(inject_faults(context.timeline, cluster, runtime, trace.keys))
    for server in cluster.servers:
        if server.work is not None and server.work.removes:
            runtime.spawn(server.remove_expired(context.duration))
    if warmup > 0.0 and not dispatcher.adds_waits_later:
        runtime.spawn(_end_warmup(context, cluster))
    due = context.known.time - runtime.epoch
    record, grace = None, GRACE
    if clients is None:
        env.schedule_arrivals(*dispatcher.open_loop(trace, due))
    else:
        record = clients.start(runtime, dispatcher.closed_loop(trace.keys), context.rng(REACTIVE_CLIENTS))
        grace = max(GRACE, 2.0 * _longest_wait(context))
    # A closed loop's requests are not known; what is known is how long it lasts.
    milestones = trace.time - runtime.epoch if len(trace) else np.linspace(0.0, context.scenario.workload.duration, SLICES)
    outcome, router, adds_waits = dispatcher.outcome, dispatcher.router, dispatcher.adds_waits_later
    sent = (lambda: len(outcome.latency)) if clients else None
    with _frozen_garbage():
        partial = run_until_done(env, milestones, progress, interruptible, sent, dispatcher.last_answer, grace)
    env.clear_arrivals()  # frees what it took to send them
    del dispatcher
    result = ReplayResult(
        trace if record is None else record.trace(),
        outcome.arrays(),
        np.frombuffer(router.node, np.int16),
        outcome.errors,
        partial,
        in_flight=0,
    )
    if adds_waits:
        add_waits(cluster, due, result, warmup)
    for station in cluster.stations.values():
        station.close(env.now if partial else inf)
    return answered_part(result, context, env.now) if partial else result


def _longest_wait(context: RunContext) -> float:
    """Seconds until even the dearest request is admitted."""
    limit = context.limit
    return max(limit.burst or 0.0, limit.rate) / limit.rate * limit.period


async def _end_warmup(context: RunContext, cluster: Cluster) -> None:
    await context.runtime.sleep(context.scenario.warmup)
    cluster.discount(context.env.now)


def answered_part(result: ReplayResult, context: RunContext, now: float) -> ReplayResult:
    """Keep the rows that were answered before an interruption at the time `now`. Raises KeyboardInterrupt where none was."""
    trace, outcome = result.trace, result.outcome
    answered = outcome.latency >= 0.0
    if not answered.any():
        raise KeyboardInterrupt
    sent = len(trace) if context.clients else int(np.searchsorted(trace.time - context.runtime.epoch, now))
    first = int(np.searchsorted(trace.time, context.warmup_end))
    return result._replace(
        trace=trace.select(answered, "of an interrupted run"),
        outcome=outcome.only(answered),
        node=result.node[answered],
        in_flight=int(np.isnan(outcome.latency[first:sent]).sum()),
    )


def add_waits(cluster: Cluster, due: NDArray[np.float64], result: ReplayResult, warmup: float) -> None:
    """Add the waits for the nodes' processors to the latencies of the requests that were answered."""
    latency, node = result.outcome.latency, result.node
    sent = int(np.isfinite(latency).sum())  # all were answered at once, up to where the run was interrupted
    costs, cold = cluster.memory_costs, cluster.memory_costs.cold
    service = np.broadcast_to(costs.client_cpu, sent)
    pauses = () if cold is None else (cold.idle, cold.ask)  # decisions in memory take longer after a pause of their node
    service, waits = lindley_waits(due[:sent], node[:sent], service, *pauses)
    latency[:sent] += waits
    first = int(np.searchsorted(due[:sent], warmup))
    stations = [loop.station for loop in cluster.loops]
    record_batch(stations, due[:first], node[:first], service[:first], waits[:first])
    if warmup > 0.0:
        cluster.discount(warmup)
    record_batch(stations, due[first:sent], node[first:sent], service[first:], waits[first:])


@contextmanager
def _frozen_garbage() -> Iterator[None]:
    """Exempt all objects that exist from garbage collection: the libraries alone take it a tenth of a second each time."""
    if gc.get_freeze_count():  # the caller does so already
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
