"""`Dispatcher`: the way of a request from the moment in which it is sent until it is answered."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.faulty_links import NodeDownError
from ratesim.simulation.engine.outcome_columns import OutcomeBuffer, column
from ratesim.simulation.network.load_balancer import Router
from ratesim.storage import HybridStorage, MemoryStorage
from traffic import Trace
from traffic.closed_loop import SendFn

__all__ = ["Dispatcher"]

Send = Callable[[], None]
"""Sends the next request of a trace."""


class Dispatcher:
    """Sends requests to the nodes of a cluster and records their answers.

    Parameters
    ----------
    context
        The run.
    cluster
        Its nodes and servers.

    Attributes
    ----------
    router
        The node of each request.
    outcome
        The answer to each request.
    adds_waits_later
        Whether the waits for the nodes' processors are worked out after the run and are not in the latencies yet. That saves
        an event for each request. It is possible where every request's node is known beforehand and memory alone decides.
    """

    def __init__(self, context: RunContext, cluster: Cluster) -> None:
        scenario = context.scenario
        self.router = Router(context.known, context.routing, scenario.deployment.nodes, context.seed)
        self.outcome = OutcomeBuffer.of(len(context.known), cluster.views)
        self.adds_waits_later = self.router.known and not context.clients and not cluster.servers and not cluster.processes
        self._limit = context.limit
        self._cluster = cluster
        self._runtime = context.runtime
        self._env = context.env
        self._timeline = context.timeline
        self._warmup = scenario.warmup
        self._sent = array("d")  # when each request was sent, or the node that slept woke up for it
        self._decided = [0.0] * len(cluster.loops)  # the loops' idle seconds at the last decision in memory
        self._warmup_requests = 0
        self._tokens: dict[tuple[int, str], str] | None = {} if cluster.sessions else None  # by session and key
        self._token_keys: dict[int, tuple[int, str]] = {}  # session and key of requests under way, where there are tokens

    def open_loop(self, trace: Trace, due: NDArray[np.float64]) -> tuple[array[float], Send]:
        """Prepare to replay a trace.

        Parameters
        ----------
        trace
            The requests.
        due
            When each is sent, in seconds of simulated time, shape (len(trace),).

        Returns
        -------
        tuple
            The arguments of `TraceEnvironment.schedule_arrivals`: the times, and what sends the next request.
        """
        self._sent = column(due)
        self._warmup_requests = int(np.searchsorted(due, self._warmup))
        if self._timeline is not None or self._tokens is not None or not self.router.known:
            send = self._general(trace)
        elif self.adds_waits_later:
            send = self._in_memory(trace)
        elif self._cluster.decides_locally:
            send = self._in_hybrids(trace)
        else:
            send = self._to_servers(trace)
        return column(due), send

    # The four are closures over local variables, because a replay spends most of its time in them.

    def _general(self, trace: Trace) -> Send:
        """Any node, with faults, session tokens, or a node that is chosen when the request is sent."""
        rows, sessions = _rows(trace), memoryview(trace.session)  # type: ignore[arg-type]
        keys, begin, answered, acquire = trace.keys, self._runtime.begin, self._answered, self._acquire

        def send() -> None:
            i, key, cost, now = next(rows)
            decision = acquire(i, keys[key], cost, now, sessions[i])
            if decision is not None:
                begin(decision, answered, i)

        return send

    def _to_servers(self, trace: Trace) -> Send:
        """Nodes that ask their servers and spend nothing beside, without faults."""
        rows, keys, limit, nodes = _rows(trace), trace.keys, self._limit, self.router.node
        storages, plan, begin, answered = self._cluster.storages, self._cluster.plan, self._runtime.begin, self._answered
        loops, wake, later = self._cluster.loops, self._wake, self._acquire_later

        def send() -> None:
            i, key, cost, now = next(rows)
            node = nodes[i]
            if not loops[node].is_idle():
                begin(later(i, node, keys[key], cost, now), answered, i)
                return
            wake(i, node)
            if plan is not None:
                plan.request = i
            begin(storages[node].acquire(keys[key], limit, cost, now), answered, i)

        return send

    def _wake(self, i: int, node: int) -> None:
        """Begin a turn of a node that sleeps, for a request; its latency counts from there."""
        loop, cold = self._cluster.loops[node], self._cluster.cold
        self._sent[i] = loop.wake(0.0 if cold is None else cold.waking(loop.slept))

    async def _acquire_later(
        self, i: int, node: int, identifier: str, cost: float, now: float, session: str | None = None
    ) -> Decision:
        """Ask a node whose event loop is busy: a turn takes the request in, and the next one runs its task.

        Who comes while the loop still wakes up is as one who found it asleep.
        """
        cluster = self._cluster
        loop = cluster.loops[node]
        self._sent[i] = max(self._env.now, loop.woken_at)
        await loop.next_turn()
        loop.work(cluster.arrival)
        await loop.next_turn()
        if cluster.plan is not None:
            cluster.plan.request = i
        return await cluster.nodes[node].acquire(identifier, self._limit, cost, now, session)

    def _in_hybrids(self, trace: Trace) -> Send:
        """Nodes that mostly decide by themselves, on a processor that is shared with requests on their way to the server."""
        rows, keys, limit, nodes = _rows(trace), trace.keys, self._limit, self.router.node
        storages, plan, begin, answered = self._cluster.storages, self._cluster.plan, self._runtime.begin, self._answered
        decide = self._decide
        allowed, _, latency, sequence, _, view_age = self.outcome
        acquire = [storage.acquire_nowait for storage in storages if isinstance(storage, HybridStorage)]

        def send() -> None:
            i, key, cost, now = next(rows)
            node = nodes[i]
            wait = decide(i, node)
            decision = acquire[node](keys[key], limit, cost, now)
            if decision is None:
                if plan is not None:
                    plan.request = i
                begin(storages[node].acquire(keys[key], limit, cost, now), answered, i)
                return
            allowed[i], sequence[i], latency[i] = decision.allowed, decision.sequence, wait
            if view_age is not None:
                view_age[i] = decision.view_age

        return send

    def _decide(self, i: int, node: int) -> float:
        """Spend what a decision in a node's memory takes; returns its latency, in seconds."""
        cluster, now = self._cluster, self._env.now
        loop = cluster.loops[node]
        if loop.is_idle():
            self._wake(i, node)
        else:
            self._sent[i] = max(now, loop.woken_at)
        idle, self._decided[node] = loop.idle - self._decided[node], loop.idle
        return now + loop.work_between(cluster.decision(idle)) - self._sent[i]

    def _in_memory(self, trace: Trace) -> Send:
        """Nodes whose memory decides at once."""
        rows, keys, limit, nodes = _rows(trace), trace.keys, self._limit, self.router.node
        allowed, _, latency, sequence, _, _ = self.outcome
        acquire = [storage.acquire_nowait for storage in self._cluster.storages if isinstance(storage, MemoryStorage)]

        def send() -> None:
            i, key, cost, now = next(rows)
            decision = acquire[nodes[i]](keys[key], limit, cost, now)
            allowed[i], sequence[i], latency[i] = decision.allowed, decision.sequence, 0.0

        return send

    def closed_loop(self, keys: tuple[str, ...]) -> SendFn:
        """Return the function with which clients that react send their requests."""
        denied = Decision(False, 0.0, 0.0, 0.0, self._limit)  # stands for an error, which is no reason to wait

        async def send(key: int, cost: float, session: int, attempt: int) -> Decision:
            i = self.outcome.add()
            self._sent.append(self._env.now)
            self._warmup_requests += self._env.now < self._warmup
            self.router.add(key, session)
            pending = self._acquire(i, keys[key], cost, self._runtime.time(), session)
            if pending is None:
                return denied
            try:
                decision = await pending
            except StorageError as error:
                self._answered(i, None, error)
                return denied
            ahead = self._cluster.loops[self.router.node[i]].ahead
            self._answered(i, decision, None)
            if self._cluster.servers:  # in memory that is no time
                await self._runtime.sleep(ahead)
            return decision

        return send

    def _acquire(
        self, i: int, identifier: str, cost: float, now: float, session: int
    ) -> Coroutine[Any, Any, Decision] | None:
        """Send a request to its node; None where no node is up. now: seconds since the Unix epoch."""
        cluster, router, timeline, start = self._cluster, self.router, self._timeline, self._env.now
        node = router.send(i)
        if timeline is not None:
            node = router.reroute(i, timeline.nodes_up(len(cluster.nodes), start))
            if node < 0:
                self.outcome.latency[i] = 0.0
                self._failed(i, NodeDownError.__name__)
                return None
            now = max(now + timeline.skew(node, start), 0.0)  # no clock shows a time before the epoch
        token = None
        if self._tokens is not None:
            token_key = self._token_keys[i] = session, identifier
            token = self._tokens.get(token_key)
        if self.adds_waits_later:
            pass
        elif cluster.decides_locally:
            self._decide(i, node)
        elif cluster.loops[node].is_idle():
            self._wake(i, node)
        else:
            return self._acquire_later(i, node, identifier, cost, now, token)
        if cluster.plan is not None:
            cluster.plan.request = i
        return cluster.nodes[node].acquire(identifier, self._limit, cost, now, token)

    def _answered(self, i: int, decision: Decision | None, error: Exception | None) -> None:
        """Record the decision of a request, or the error in its place."""
        allowed, _, latency, sequence, _, view_age = self.outcome
        end = self._env.now + self._cluster.loops[self.router.node[i]].ahead
        if self._cluster.processes:
            if isinstance(error, NodeDownError):
                end = self._env.now
            elif (down := self._goes_down(i)) < end:
                decision, error, end = None, NodeDownError("its answer was still to come"), down
            end = max(end, self._sent[i])  # the node may go down while it wakes up for the request
        latency[i] = end - self._sent[i]
        if self._tokens is not None:
            token_key = self._token_keys.pop(i)
            if decision is not None:
                self._tokens[token_key] = decision.session
        if decision is not None:
            allowed[i] = decision.allowed
            sequence[i] = decision.sequence
            if view_age is not None:
                view_age[i] = decision.view_age
        elif isinstance(error, StorageError):
            self._failed(i, type(error).__name__)
        elif error is not None:
            raise error
        if not self.router.known:
            self.router.record_answer(i)

    def _goes_down(self, i: int) -> float:
        """Return when the node of a request, which it has decided by now, goes down next; inf if never."""
        assert self._timeline is not None
        since = min(self._sent[i], self._env.now)  # what memory decides is decided while the node still wakes up
        return self._timeline.next_restart(self.router.node[i], since)

    def _failed(self, i: int, kind: str) -> None:
        errors = self.outcome.errors
        self.outcome.failed[i] = True
        if i >= self._warmup_requests:
            errors[kind] = errors.get(kind, 0) + 1

    def last_answer(self) -> float:
        """Return when the last request was answered, in simulated time; inf while a request is outstanding."""
        return self.outcome.last(self._sent)


def _rows(trace: Trace) -> Iterator[tuple[int, int, float, float]]:
    """Row, key, cost and time of each request, read in place: a list of ten million numbers would take 320 MB."""
    columns = (memoryview(each) for each in (trace.key, trace.cost, trace.time))  # type: ignore[arg-type]
    return zip(range(len(trace)), *columns, strict=True)
