"""`run`: one candidate through one scenario in simulated time, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simpy
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.simulation.answers import Answers, column
from ratesim.simulation.deployment import Deployment, backend_of, build
from ratesim.simulation.faults import Timeline
from ratesim.simulation.profile import Profile
from ratesim.simulation.progress import SLICES, Progress, carry_on
from ratesim.simulation.remote import Backing
from ratesim.simulation.result import RunResult
from ratesim.simulation.routing import Router
from ratesim.simulation.scenario import EPOCH, Candidate, Scenario
from ratesim.simulation.score import score
from ratesim.simulation.station import Station, queued
from ratesim.simulation.unfold import unfold
from ratesim.storage import StorageURL
from traffic import Trace, open_loop

__all__ = ["RunResult", "run"]

Connect = Callable[[StorageURL, Callable[[], int]], Backing]


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
    asked_for = scenario.trace() if trace is None else trace
    seed = scenario.seed if seed is None else seed
    clients = scenario.clients(asked_for)
    env = simpy.Environment()
    epoch = float(asked_for.time[0]) if len(asked_for) else EPOCH
    runtime = SimRuntime(env, epoch)
    deployment = build(scenario, candidate, profile, runtime, None if clients else asked_for, seed, backing)
    limit = scenario.limit.limit()
    known = asked_for.head(0) if clients else asked_for  # of clients that react nobody knows what they will ask
    answers = Answers.of(len(known))
    router = Router(known, candidate.routing or scenario.deployment.routing, scenario.deployment.nodes, seed)
    stamps, costs = column(known.time), column(known.cost)
    names = [known.keys[key] for key in known.key.tolist()]
    storages, plan, cpu = deployment.storages, deployment.plan, deployment.costs.client_cpu
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    ahead = router.known and not clients
    waits = column(queued(known.time - epoch, np.array(router.node), cpu)) if ahead else column(np.empty(0))
    processors = [Station() for _ in storages]
    allowed, failed, latency, sequence, errors = answers

    timeline = Timeline(scenario.faults) if scenario.faults else None
    if timeline is not None:
        runtime.spawn(unfold(timeline, deployment, runtime))

    async def send(i: int) -> Decision | None:
        start = env.now
        node, now = router.send(i), stamps[i]
        if timeline is not None:
            node = router.divert(i, [each for each in range(len(storages)) if not timeline.node_down(each, start)])
            if node < 0:
                failed[i], latency[i] = True, 0.0
                errors["NodeDown"] = errors.get("NodeDown", 0) + 1
                return None
            now += timeline.skew(node, start)
        wait = waits[i] if ahead else processors[node].take(start, cpu) - start
        if plan is not None:
            plan.request = i
        decision = None
        try:
            decision = await storages[node].acquire(names[i], limit, costs[i], now)
        except StorageError as error:
            failed[i] = True
            kind = type(error).__name__
            errors[kind] = errors.get(kind, 0) + 1
        else:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
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

    asked: Trace
    if clients is None:
        asked = known
        runtime.spawn(open_loop(known, send, _AtOnce(runtime)))
        partial = carry_on(env, known.time - epoch, progress, interruptible)
    else:
        record = clients.start(runtime, ask, np.random.default_rng([seed, 3]))
        due = asked_for.time - epoch if len(asked_for) else np.linspace(0.0, scenario.workload.duration, SLICES)
        partial = carry_on(env, due, progress, interruptible, lambda: len(answers.latency))
        asked = record.trace()
    outcome, nodes = answers.arrays(), np.array(router.node, np.int64)
    if partial:
        done = ~np.isnan(outcome.latency)
        if not done.any():
            raise KeyboardInterrupt
        asked, outcome, nodes = _rows(asked, done), outcome.of(done), nodes[done]
    answered = ~outcome.failed
    order = np.where(outcome.sequence > 0, outcome.sequence, np.iinfo(np.int64).max)
    kept = (asked.key[answered], asked.time[answered], asked.cost[answered], outcome.allowed[answered], order[answered])
    result = score(limit, *kept)
    return RunResult(
        scenario=scenario,
        candidate=candidate,
        seed=seed,
        trace=asked,
        **outcome._asdict(),
        node=nodes,
        score=result,
        errors=answers.errors,
        l2_operations=deployment.operations,
        l2_busy=deployment.station.busy if deployment.station else 0.0,
        concurrency=deployment.costs.concurrency,
        bytes_per_key=_bytes_per_key(deployment, candidate, profile, limit.algorithm),
        partial=partial,
    )


def _rows(trace: Trace, rows: NDArray[np.bool_]) -> Trace:
    return Trace(
        trace.time[rows],
        trace.key[rows],
        trace.keys,
        cost=trace.cost[rows],
        session=trace.session[rows],
        endpoint=trace.endpoint[rows],
        endpoints=trace.endpoints,
        origin=trace.origin.noted("interrupted"),
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
