"""`Dispatcher`: what happens to a request from the moment in which it is sent until it is answered."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.limit import Decision, Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.faulty_links import NodeDownError
from ratesim.simulation.engine.outcome_columns import OutcomeBuffer, column
from ratesim.simulation.network.load_balancer import Router
from ratesim.storage import HybridStorage, MemoryStorage
from traffic import Trace
from traffic.closed_loop import SendFn

__all__ = ["Dispatcher"]


class Dispatcher:
    """Sends requests to the nodes of a deployment, and notes what they answer.

    ahead: what a node's processor takes is known beforehand; it is no part of the latencies here. warmup: seconds in which
    errors are not counted.
    """

    def __init__(
        self,
        limit: Limit,
        deployment: Cluster,
        runtime: SimRuntime,
        router: Router,
        answers: OutcomeBuffer,
        timeline: FaultTimeline | None,
        ahead: bool,
        warmup: float,
    ) -> None:
        self._limit = limit
        self._cluster = deployment
        self._runtime = runtime
        self._env = runtime.env
        self._router = router
        self._outcome = answers
        self._timeline = timeline
        self._ahead = ahead
        self._warmup = warmup
        self._begun = array("d")  # when each was sent; earlier by what it waited for its node's processor
        self._waits: dict[int, float] = {}  # that, of requests in nodes that may restart
        self._warm = 0  # requests that were sent in the warm-up
        self._tokens: dict[tuple[int, str], str] | None = {} if deployment.sessions else None  # of a session, for a key
        self._whose: dict[int, tuple[int, str]] = {}  # session and key of requests under way, where there are tokens

    def open_loop(self, trace: Trace, due: NDArray[np.float64]) -> tuple[Iterable[float], Callable[[], None]]:
        """What `TraceEnvironment.expect` takes: when the requests of a trace are due, and what sends the next of them.

        due: in seconds of simulated time, shape (len(trace),).
        """
        self._begun = column(due)
        self._warm = int(np.searchsorted(due, self._warmup))
        # Read from where they are, since a list of ten million numbers takes 320 MB.
        columns = (memoryview(each) for each in (trace.key, trace.cost, trace.time))  # type: ignore[arg-type]
        rows = zip(range(len(trace)), *columns, strict=True)
        sessions = memoryview(trace.session)  # type: ignore[arg-type]
        limit, router, keys, deployment = self._limit, self._router, trace.keys, self._cluster
        storages, plan, nodes = deployment.storages, deployment.plan, router.node
        allowed, _, latency, sequence, _, view_age = self._outcome
        begin, answered, acquire = self._runtime.begin, self._answered, self._acquire

        def send() -> None:
            i, key, cost, now = next(rows)
            asked = acquire(i, keys[key], cost, now, sessions[i])
            if asked is not None:
                begin(asked, answered, i)

        def send_plainly() -> None:
            # Where nothing goes wrong, everybody's node is known, and no processor's queue is met on the way.
            i, key, cost, now = next(rows)
            if plan is not None:
                plan.request = i
            begin(storages[nodes[i]].acquire(keys[key], limit, cost, now), answered, i)

        loops, cpu, begun = deployment.loops, deployment.cpu, self._begun
        at_once = [storage.acquire_nowait for storage in storages if isinstance(storage, HybridStorage)]

        def send_near() -> None:
            # The same of nodes that decide by themselves, on a processor that is shared with those on their way.
            i, key, cost, now = next(rows)
            node = nodes[i]
            wait = cpu * (1 + loops[node].inside)
            decision = at_once[node](keys[key], limit, cost, now)
            if decision is None:
                begun[i] -= wait
                if plan is not None:
                    plan.request = i
                begin(storages[node].acquire(keys[key], limit, cost, now), answered, i)
                return
            allowed[i], sequence[i], latency[i] = decision.allowed, decision.sequence, wait
            if view_age is not None:
                view_age[i] = decision.view_age

        decides = [storage.acquire_nowait for storage in storages if isinstance(storage, MemoryStorage)]

        def decide() -> None:
            # The same of memories, whose `acquire` is `decide`, and waits for nothing.
            i, key, cost, now = next(rows)
            decision = decides[nodes[i]](keys[key], limit, cost, now)
            allowed[i], sequence[i], latency[i] = decision.allowed, decision.sequence, 0.0

        if self._timeline is not None or self._tokens is not None or not router.known:
            return column(due), send
        if self._ahead:
            return column(due), decide
        return column(due), send_plainly if cpu == 0.0 else send_near

    def closed_loop(self, keys: tuple[str, ...]) -> SendFn:
        """What clients that react call."""
        nothing = Decision(False, 0.0, 0.0, 0.0, self._limit)  # an error is no reason to wait

        async def ask(key: int, cost: float, session: int, attempt: int) -> Decision:
            i = self._outcome.add()
            self._begun.append(self._env.now)
            self._warm += self._env.now < self._warmup
            self._router.add(key, session)
            asked = self._acquire(i, keys[key], cost, self._runtime.time(), session)
            if asked is None:
                return nothing
            try:
                decision = await asked
            except StorageError as error:
                self._answered(i, None, error)
                return nothing
            self._answered(i, decision, None)
            return decision

        return ask

    def _acquire(
        self, i: int, identifier: str, cost: float, now: float, session: int
    ) -> Coroutine[Any, Any, Decision] | None:
        """What becomes of a request that is sent now; None where there is no node for it. now: by the world's clock."""
        deployment, router, timeline, start = self._cluster, self._router, self._timeline, self._env.now
        node = router.send(i)
        if timeline is not None:
            node = router.reroute(i, [each for each in range(len(deployment.nodes)) if not timeline.node_down(each, start)])
            if node < 0:
                self._outcome.latency[i] = 0.0
                self._failed(i, NodeDownError.__name__)
                return None
            now += timeline.skew(node, start)
        if deployment.cpu > 0.0 and not self._ahead:
            if deployment.loops:  # shared with those that are on their way to the server
                wait = deployment.cpu * (1 + deployment.loops[node].inside)
            else:
                wait = deployment.processors[node].serve(start, deployment.cpu) - start
            self._begun[i] = start - wait
            if deployment.processes:
                self._waits[i] = wait
        if deployment.plan is not None:
            deployment.plan.request = i
        if self._tokens is None:
            return deployment.nodes[node].acquire(identifier, self._limit, cost, now)
        whose = self._whose[i] = session, identifier
        return deployment.nodes[node].acquire(identifier, self._limit, cost, now, self._tokens.get(whose))

    def _answered(self, i: int, decision: Decision | None, error: Exception | None) -> None:
        """A request has its decision, or an error in the place of one."""
        allowed, _, latency, sequence, _, view_age = self._outcome
        latency[i] = self._env.now - self._begun[i]
        if self._waits and decision is not None and (early := self._lost(i)) > 0.0:
            latency[i] -= early
            decision, error = None, NodeDownError("its answer was still to come")
        if self._tokens is not None:
            whose = self._whose.pop(i)
            if decision is not None:
                self._tokens[whose] = decision.session
        if decision is not None:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
            if view_age is not None:
                view_age[i] = decision.view_age
        elif isinstance(error, StorageError):
            self._failed(i, type(error).__name__)
        elif error is not None:
            raise error
        if not self._router.known:
            self._router.record_answer(i)

    def _lost(self, i: int) -> float:
        """How long before its answer has come through the processor's queue its node goes down; 0 where it does not."""
        assert self._timeline is not None
        wait, now = self._waits.pop(i, 0.0), self._env.now
        return max(now + wait - self._timeline.next_restart(self._router.node[i], self._begun[i] + wait), 0.0)

    def _failed(self, i: int, kind: str) -> None:
        errors = self._outcome.errors
        self._outcome.failed[i] = True
        if i >= self._warm:
            errors[kind] = errors.get(kind, 0) + 1

    def last_answer(self) -> float:
        """When the last of all requests was answered, in simulated time; inf while one was not."""
        return self._outcome.last(self._begun)
