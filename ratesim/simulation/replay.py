"""`replay`: the requests of a run on their way through a deployment, and what came of each."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.simulation.answers import UNDER_WAY, Answers, Outcome, column
from ratesim.simulation.deployment import Deployment
from ratesim.simulation.failing import NodeDown
from ratesim.simulation.faults import Timeline
from ratesim.simulation.progress import SLICES, Progress, carry_on
from ratesim.simulation.routing import Router, Routing
from ratesim.simulation.scenario import Scenario
from ratesim.simulation.station import queued, stood
from ratesim.simulation.unfold import unfold
from traffic import Clients, Trace, open_loop

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """trace: what was asked, warm-up and all. node: who served it. errors: how many failed, by kind, after the warm-up.
    partial: it was interrupted, and the rows are only those of the requests that had their answer by then; in_flight: how
    many had been sent and had none, after the warm-up.
    """

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
    env, limit = runtime.env, scenario.limit.limit()
    known = trace.head(0) if clients else trace  # of clients that react nobody knows what they will ask
    answers = Answers.of(len(known), deployment.views)
    router = Router(known, routing, scenario.deployment.nodes, seed)
    stamps, costs = column(known.time), column(known.cost)
    names = [known.keys[key] for key in known.key.tolist()]
    nodes, plan, cpu = deployment.nodes, deployment.plan, deployment.cpu
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    ahead = router.known and not clients and not deployment.servers
    planned = np.array(router.node if ahead else (), np.int32)  # a fault may divert a request later
    waits = column(queued(known.time - runtime.epoch, planned, cpu)) if ahead else column(np.empty(0))
    processors, loops = deployment.processors, deployment.loops
    allowed, failed, latency, sequence, errors, view_age = answers
    timeline = Timeline(scenario.faults) if scenario.faults else None
    cut = runtime.epoch + scenario.warmup

    def fail(i: int, kind: str) -> None:
        failed[i] = True
        if stamps[i] >= cut:
            errors[kind] = errors.get(kind, 0) + 1

    async def send(i: int) -> Decision | None:
        start = env.now
        node, now = router.send(i), stamps[i]
        latency[i] = UNDER_WAY
        if timeline is not None:
            node = router.divert(i, [each for each in range(len(nodes)) if not timeline.node_down(each, start)])
            if node < 0:
                latency[i] = 0.0
                fail(i, NodeDown.__name__)
                return None
            now += timeline.skew(node, start)
        wait = 0.0
        if cpu > 0.0:
            if ahead:
                wait = waits[i]
            elif loops:  # shared with those that are on their way to the server
                wait = cpu * (1 + loops[node].inside)
            else:
                wait = processors[node].take(start, cpu) - start
        if plan is not None:
            plan.request = i
        decision = None
        try:
            decision = await nodes[node].acquire(names[i], limit, costs[i], now)
            if timeline is not None and (down := timeline.next_restart(node, start)) < env.now + wait:
                wait, decision = down - env.now, None  # with its answer still in the processor's queue
                raise NodeDown(f"node {node} went down")
        except StorageError as error:
            fail(i, type(error).__name__)
        else:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
            if view_age is not None:
                view_age[i] = decision.view_age
        latency[i] = env.now - start + wait
        router.answered(i)
        return decision

    async def ask(key: int, cost: float, session: int, attempt: int) -> Decision:
        i = answers.add()
        names.append(known.keys[key])
        costs.append(cost)
        stamps.append(runtime.time())
        router.add(key, session)
        decision = await send(i)
        return Decision(False, 0.0, 0.0, 0.0, limit) if decision is None else decision  # an error is no reason to wait

    async def warm_up() -> None:
        await runtime.sleep(scenario.warmup)
        deployment.discount(env.now)

    if timeline is not None:
        runtime.spawn(unfold(timeline, deployment, runtime))
    if scenario.warmup > 0.0 and not ahead:
        runtime.spawn(warm_up())
    record = None
    if clients is None:
        runtime.spawn(open_loop(known, send, _AtOnce(runtime)))
    else:
        record = clients.start(runtime, ask, np.random.default_rng([seed, 3]))
    # A closed loop's requests come when they come; what is known of them is how long they go on.
    due = trace.time - runtime.epoch if len(trace) else np.linspace(0.0, scenario.workload.duration, SLICES)
    # Nodes may still tell their store what they admitted; clients may be waiting to ask again.
    longest = max(limit.burst or 0.0, limit.rate) / limit.rate * limit.period  # until even the dearest is admitted
    grace = 60.0 if clients is None else max(60.0, 2.0 * longest)
    counted = (lambda: len(answers.latency)) if clients else None

    def answered() -> float:
        return answers.last_answer(stamps, runtime.epoch)

    partial = carry_on(env, due, progress, interruptible, counted, answered, grace)
    asked, outcome, node = known if record is None else record.trace(), answers.arrays(), np.array(router.node, np.int64)
    if ahead:
        sent = np.flatnonzero(~np.isnan(outcome.latency))
        due, stay = known.time[sent] - runtime.epoch, np.array(waits)[sent]
        warm = np.searchsorted(due, scenario.warmup)
        stood(processors, due[:warm], planned[sent[:warm]], cpu, stay[:warm])
        if scenario.warmup > 0.0:
            deployment.discount(scenario.warmup)
        stood(processors, due[warm:], planned[sent[warm:]], cpu, stay[warm:])
    for station in deployment.stations.values():
        station.close(env.now if partial else inf)
    in_flight = 0
    if partial:
        done = outcome.latency >= 0.0
        if not done.any():
            raise KeyboardInterrupt
        in_flight = int(((outcome.latency == UNDER_WAY) & (asked.time >= cut)).sum())
        asked, node = asked.only(done, "of an interrupted run"), node[done]
        outcome = outcome.only(done)
    return Replayed(asked, outcome, node, errors, partial, in_flight)


class _AtOnce:
    """What drives the clients: a request that needs no waiting is over when it was sent."""

    def __init__(self, runtime: SimRuntime) -> None:
        self.time, self.sleep, self.spawn = runtime.time, runtime.sleep, runtime.begin
