"""`replay`: the requests of a run on their way through a deployment, and what came of each."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.simulation.answers import Answers, Outcome, column
from ratesim.simulation.calendar import Calendar
from ratesim.simulation.deployment import Deployment
from ratesim.simulation.faults import Timeline
from ratesim.simulation.progress import SLICES, Progress, carry_on
from ratesim.simulation.routing import Router, Routing
from ratesim.simulation.scenario import Scenario
from ratesim.simulation.station import queued, stood
from ratesim.simulation.unfold import unfold
from ratesim.storage import MemoryStorage
from traffic import Clients, Trace

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """trace: what was asked. node: who served it. errors: how many failed, by kind. partial: it was interrupted, and the
    rows are only those of the requests that had their answer by then; in_flight: how many had been sent and had none."""

    trace: Trace
    outcome: Outcome
    node: NDArray[np.int64]
    errors: dict[str, int]
    partial: bool
    in_flight: int


def replay(
    scenario: Scenario,
    routing: Routing,
    deployment: Deployment,
    env: Calendar,
    runtime: SimRuntime,
    trace: Trace,
    clients: Clients | None,
    seed: int,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> Replayed:
    """Play a trace, or clients that react (then `trace` is what they would ask unhindered), to its end, beginning now.

    progress, interruptible: see `run`.
    """
    limit = scenario.limit.limit()
    known = trace.head(0) if clients else trace  # of clients that react nobody knows what they will ask
    answers = Answers.of(len(known), deployment.views)
    router = Router(known, routing, scenario.deployment.nodes, seed)
    stamps, costs, keys = column(known.time), column(known.cost), known.keys
    key = array("q", known.key.tobytes())
    due = known.time - runtime.epoch
    begun = column(due)
    storages, plan, cpu = deployment.storages, deployment.plan, deployment.cpu
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    ahead = router.known and not clients and not deployment.servers
    planned = np.array(router.node if ahead else (), np.int32)  # a fault may divert a request later
    waits = queued(due, planned, cpu) if ahead else np.empty(0)
    processors, loops = deployment.processors, deployment.loops
    allowed, failed, latency, sequence, errors, view_age = answers
    timeline = Timeline(scenario.faults) if scenario.faults else None
    nodes = router.node

    def acquire(i: int) -> Coroutine[Any, Any, Decision] | None:
        """What becomes of a request that is sent now; None where there is no node for it."""
        node, now = router.send(i), stamps[i]
        if timeline is not None:
            start = env.now
            node = router.divert(i, [each for each in range(len(storages)) if not timeline.node_down(each, start)])
            if node < 0:
                failed[i], latency[i] = True, 0.0
                errors["NodeDown"] = errors.get("NodeDown", 0) + 1
                return None
            now += timeline.skew(node, start)
        if cpu > 0.0 and not ahead:
            start = env.now
            # It waits as if it had come earlier. A loop is shared with those on their way to the server.
            wait = cpu * (1 + loops[node].inside) if loops else processors[node].take(start, cpu) - start
            begun[i] = start - wait
        if plan is not None:
            plan.request = i
        return storages[node].acquire(keys[key[i]], limit, costs[i], now)

    def answered(i: int, decision: Decision | None, error: Exception | None) -> None:
        """A request has its decision, or has failed."""
        latency[i] = env.now - begun[i]
        if decision is not None:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
            if view_age is not None:
                view_age[i] = decision.view_age
        elif isinstance(error, StorageError):
            failed[i] = True
            kind = type(error).__name__
            errors[kind] = errors.get(kind, 0) + 1
        elif error is not None:
            raise error
        if not router.known:
            router.answered(i)

    begin = runtime.begin
    row = iter(range(len(known))).__next__

    def send() -> None:
        """The next request of the trace."""
        i = row()
        asked = acquire(i)
        if asked is not None:
            begin(asked, answered, i)

    rows = zip(range(len(known)), nodes, key, costs, stamps, strict=True)

    def send_plainly() -> None:
        """The same where nothing goes wrong, everybody's node is known, and no processor's queue is met on the way."""
        i, node, name, cost, now = next(rows)
        if plan is not None:
            plan.request = i
        begin(storages[node].acquire(keys[name], limit, cost, now), answered, i)

    decides = [storage.decide for storage in storages if isinstance(storage, MemoryStorage)]

    def decide() -> None:
        """The same of memories, whose `acquire` is `decide`, and waits for nothing."""
        i, node, name, cost, now = next(rows)
        decision = decides[node](keys[name], limit, cost, now)
        allowed[i], sequence[i], latency[i] = decision.allowed, decision.sequence, 0.0

    async def ask(whose: int, cost: float, session: int, attempt: int) -> Decision:
        i = answers.add()
        key.append(whose)
        costs.append(cost)
        stamps.append(runtime.time())
        begun.append(env.now)
        router.add(whose, session)
        nothing = Decision(False, 0.0, 0.0, 0.0, limit)  # an error is no reason to wait
        asked = acquire(i)
        if asked is None:
            return nothing
        try:
            decision = await asked
        except StorageError as error:
            answered(i, None, error)
            return nothing
        answered(i, decision, None)
        return decision

    if timeline is not None:
        runtime.spawn(unfold(timeline, deployment, runtime))
    record = None
    if clients is None:
        plain = timeline is None and router.known and (ahead or cpu == 0.0)
        env.expect(begun, (decide if ahead else send_plainly) if plain else send)
    else:
        record = clients.start(runtime, ask, np.random.default_rng([seed, 3]))
    # A closed loop's requests come when they come; what is known of them is how long they go on.
    shown = trace.time - runtime.epoch if len(trace) else np.linspace(0.0, scenario.workload.duration, SLICES)
    # Nodes may still tell their store what they admitted; clients may be waiting to ask again.
    grace = 60.0 if clients is None else max(60.0, 2.0 * limit.period)
    counted = (lambda: len(answers.latency)) if clients else None
    with _rest_uncounted():
        partial = carry_on(env, shown, progress, interruptible, counted, answers.complete, grace)
    asked, outcome, node = known if record is None else record.trace(), answers.arrays(), np.array(router.node, np.int64)
    if ahead:
        sent = np.flatnonzero(~np.isnan(outcome.latency))
        stood(processors, due[sent], planned[sent], cpu, waits[sent])
        outcome.latency[~outcome.failed] += waits[~outcome.failed]
    for station in deployment.stations.values():
        station.close(env.now if partial else inf)
    in_flight = 0
    if partial:
        done = outcome.latency >= 0.0
        if not done.any():
            raise KeyboardInterrupt
        begun_by_now = len(asked) if clients else int(np.searchsorted(due, env.now, "right"))
        in_flight = int(np.isnan(outcome.latency[:begun_by_now]).sum())
        asked, node = asked.only(done, "of an interrupted run"), node[done]
        outcome = outcome.only(done)
    return Replayed(asked, outcome, node, errors, partial, in_flight)


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
