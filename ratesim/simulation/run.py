"""`run`: one candidate through one scenario in simulated time, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simpy

from ratesim.errors import StorageError
from ratesim.runtime import SimRuntime
from ratesim.simulation.deployment import Deployment, backend_of, build
from ratesim.simulation.faults import Timeline
from ratesim.simulation.profile import Profile
from ratesim.simulation.remote import Backing
from ratesim.simulation.result import RunResult
from ratesim.simulation.routing import Router
from ratesim.simulation.scenario import Candidate, Scenario
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
) -> RunResult:
    """Replay the scenario's traffic against a candidate.

    seed: of this replication, scenario.seed unless given. trace: the scenario's, if it was made already. backing: what
    decides behind the network, if not the model (see `deployment.build`).
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
    errors: dict[str, int] = {}
    router = Router(trace, candidate.routing or scenario.deployment.routing, scenario.deployment.nodes, seed)
    stamps, costs = trace.time.tolist(), trace.cost.tolist()
    names = [trace.keys[key] for key in trace.key.tolist()]
    storages, plan, cpu = deployment.storages, deployment.plan, deployment.costs.client_cpu
    # The processor's share is added to the answer rather than waited for: it saves an event for each request.
    waits = queued(trace.time - epoch, np.array(router.node), cpu).tolist() if router.known else []
    processors = [Station() for _ in storages]

    timeline = Timeline(scenario.faults) if scenario.faults else None
    if timeline is not None:
        runtime.spawn(unfold(timeline, deployment, runtime))

    async def send(i: int) -> None:
        start = env.now
        node, now = router.send(i), stamps[i]
        if timeline is not None:
            node = router.divert(i, [each for each in range(len(storages)) if not timeline.node_down(each, start)])
            if node < 0:
                failed[i], latency[i] = True, 0.0
                errors["NodeDown"] = errors.get("NodeDown", 0) + 1
                return
            now += timeline.skew(node, start)
        wait = waits[i] if waits else processors[node].take(start, cpu) - start
        if plan is not None:
            plan.request = i
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

    runtime.spawn(open_loop(trace, send, _AtOnce(runtime)))
    env.run()
    answered = ~failed
    order = np.where(sequence > 0, sequence, np.iinfo(np.int64).max)
    result = score(
        limit, trace.key[answered], trace.time[answered], trace.cost[answered], allowed[answered], order[answered]
    )
    return RunResult(
        scenario=scenario,
        candidate=candidate,
        seed=seed,
        trace=trace,
        allowed=allowed,
        failed=failed,
        latency=latency,
        sequence=sequence,
        node=np.array(router.node, np.int64),
        score=result,
        errors=errors,
        l2_operations=deployment.operations,
        l2_busy=deployment.station.busy if deployment.station else 0.0,
        concurrency=deployment.costs.concurrency,
        bytes_per_key=_bytes_per_key(deployment, candidate, profile, limit.algorithm),
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
