"""Faulty parts: a link that is cut, lossy or slow, a server that fails over or loses its memory, a node that restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ratesim.errors import StorageConnectionError, StorageError
from ratesim.limit import Decision, Limit
from ratesim.runtime import Future, SimRuntime
from ratesim.simulation.engine.remote_storage import ModelBackend, SimDriver, execute_operation, subject
from ratesim.simulation.engine.store_server import changes
from ratesim.simulation.network.counter_rng import draw
from ratesim.simulation.network.links import BACK, LOST, OUT
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.memory.entry import Counter, Entry
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.operations import Operation

__all__ = ["FaultyDriver", "NodeDownError", "ReplicatedBackend", "RestartingNode"]


RECONNECTION = 4  # round trips: a question to Sentinel and a greeting of the new primary, each on a new connection


class NodeDownError(StorageConnectionError):
    """The node went down before it answered: the caller's connection is reset."""


class RestartingNode:
    """A node that may restart, as its callers see it: requests that are under way in it then fail.

    What has left the node arrives at the server and is charged all the same. Only its answer is lost.

    Parameters
    ----------
    storages
        Of all nodes; a restart replaces one of them.
    node
        The number of this node.
    runtime
        The simulated time.
    """

    def __init__(self, storages: Sequence[RateLimitStorage], node: int, runtime: SimRuntime) -> None:
        self._storages = storages
        self._node = node
        self._runtime = runtime
        self._under_way: dict[Future[Decision], None] = {}

    async def acquire(self, identifier: str, limit: Limit, cost: float, now: float, session: str | None = None) -> Decision:
        """Decide as the node's storage does. Raises NodeDownError if the node goes down meanwhile."""
        answer: Future[Decision] = self._runtime.future()
        self._under_way[answer] = None
        self._runtime.begin(self._carry(answer, self._storages[self._node].acquire(identifier, limit, cost, now, session)))
        try:
            return await answer
        finally:
            self._under_way.pop(answer, None)

    async def _carry(self, answer: Future[Decision], pending: Coroutine[Any, Any, Decision]) -> None:
        try:
            decision = await pending
        except StorageError as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(decision)

    def go_down(self) -> None:
        """Fail every request that is under way."""
        for answer in self._under_way:
            if not answer.done():
                answer.set_exception(NodeDownError(f"node {self._node} went down"))


class FaultyDriver(SimDriver):
    """One node's link to a server, with the faults of the server's timeline.

    Parameters
    ----------
    driver
        The link without faults.
    node
        The number of the node.
    asks_sentinel
        Whether a connection to a new primary begins with a question to Sentinel.
    """

    def __init__(self, driver: SimDriver, node: int, asks_sentinel: bool = False) -> None:
        super().__init__(*driver.parts)
        self._node = node
        self._asks_sentinel = asks_sentinel
        self._known = self._server.takeovers
        self._timeline = self._server.timeline

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Travel to the server, execute a batch, and travel back, as far as the faults allow."""
        server = self._server
        out, service, back = self._drawn(batch)
        if not self._processor.is_in_turn():
            await self._processor.enter()
        asked, answer, after = self._ask(batch)
        await self._runtime.sleep(asked)
        if self._asks_sentinel and self._known != server.takeovers:
            self._known = server.takeovers
            await self._runtime.sleep(RECONNECTION * 2.0 * self._link.median)
        await self._travel(out, batch, "to_server")
        try:
            answers = await (self._served(batch, service) if server.locks is None else self._in_turn(batch, service))
        except StorageConnectionError:
            await self._travel(back, batch, "from_server")
            raise
        await self._travel(back, batch, "from_server")
        await self._take_in(len(batch), answer, after)
        return answers

    async def _served(self, batch: Sequence[Operation], service: float) -> list[object]:
        env, timeline = self._runtime.env, self._timeline
        arrival = env.now
        if timeline.server_down(arrival):
            await self._silence()
            raise StorageConnectionError("the server is down", sent=False)
        outage = timeline.next_outage(arrival)
        if (work := self._server.work) is not None:
            if env.now < work.locked_until:
                await self._runtime.sleep(work.locked_until - env.now)
            service = work.service(batch, service, env.now)
        if not await self._server.spend(service * timeline.slowness(arrival), outage):
            await self._silence()
            raise StorageConnectionError("the server went down")
        answers = self._server.execute(batch)
        await self._runtime.sleep(min(self._flushed(batch, answers), outage) - env.now)
        if env.now >= outage:  # it is done, but nobody will say so
            await self._silence()
            raise StorageConnectionError("the server went down")
        return answers

    async def _silence(self) -> None:
        """Wait for ever where the host is gone: the client gives up when its timeout has passed."""
        if self._timeline.host_lost(self._runtime.env.now):
            await self._runtime.future()

    async def _travel(self, seconds: float, batch: Sequence[Operation], direction: str) -> None:
        runtime, node, now = self._runtime, self._node, self._runtime.env.now
        if self._timeline.cut(node, now, direction):
            await runtime.future()  # nobody sets it: the client gives up when its timeout has passed
        loss = self._timeline.loss(node, now, direction)
        if loss > 0.0:
            # By the time at which it is sent: who tries again is not lost again because it was lost before.
            uniform = draw(self._seed, subject(batch[0])[0], now, LOST[OUT if direction == "to_server" else BACK])
            seconds += self._link.retransmission_delay(uniform, loss) - self._link.retransmission_delay(
                uniform
            )  # its own losses are in `seconds`
        await runtime.sleep(seconds)


class ReplicatedBackend(ModelBackend):
    """A server that may go down, with a replica that receives every change later.

    Parameters
    ----------
    make
        Makes an empty store. Its argument tells whether the store numbers decisions: the server does, the replica does not.
    now
        Returns the simulated time.
    clock
        The server's clock, if it decides by that.
    """

    def __init__(
        self,
        make: Callable[[bool], MemoryStorage],
        now: Callable[[], float],
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(make(True), clock)
        self._make = make
        self._now = now
        self._replica = make(False)
        self._behind: deque[tuple[float, Operation | _Move]] = deque()
        self._lag = inf

    def set_lag(self, seconds: float) -> None:
        """Set by how many seconds the replica is behind from now on; inf: there is none."""
        self._lag = seconds

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, and queue its changes for the replica."""
        batch = self.stamped(batch)
        if self._lag < inf:
            now = self._now()
            self._behind.extend((now, each) for each in batch if changes(each))
            self._catch_up(now)
        return super().execute(batch)

    def fail_over(self) -> None:
        """Replace the server by its replica, which gets a replica of its own; changes that it had not received are lost."""
        self._catch_up(self._now())
        self._behind.clear()
        self.memory = _copied(self._replica, self._make(True))

    def lose_memory(self) -> None:
        """Restart the server, and its replica, without any state."""
        self._behind.clear()
        self._replica = self._make(False)
        self.memory = self._make(True)

    def move(self, identifier: str, target: ReplicatedBackend) -> None:
        """Move an identifier to another server; both replicas hear of it later."""
        found = [(key, self.memory.entries[key]) for key in self.memory.keys_of(identifier)]
        self._changed(_Move(identifier, ()))
        target._changed(_Move(identifier, tuple(found)))

    def _changed(self, move: _Move) -> None:
        move.apply(self.memory)
        if self._lag < inf:
            now = self._now()
            self._behind.append((now, move))
            self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        behind = self._behind
        while behind and behind[0][0] <= now - self._lag:
            change = behind.popleft()[1]
            if isinstance(change, _Move):
                change.apply(self._replica)
            else:
                execute_operation(self._replica, change)


@dataclass(frozen=True)
class _Move:
    """All that is kept of an identifier from now on."""

    identifier: str
    found: tuple[tuple[Hashable, Entry | Counter], ...]

    def apply(self, memory: MemoryStorage) -> None:
        memory.reset_nowait(self.identifier)
        for key, entry in self.found:
            _put(memory, key, entry)


def _copied(source: MemoryStorage, target: MemoryStorage) -> MemoryStorage:
    for key, entry in source.entries.items():
        _put(target, key, entry)
    return target


def _put(memory: MemoryStorage, key: Hashable, entry: Entry | Counter) -> None:
    """Put a copy of an entry."""
    identifier, name = key if isinstance(key, tuple) else (str(key), "")
    if isinstance(entry, Counter):
        memory.set_counter(identifier, entry.count, entry.expires_at)
    else:
        memory.set_state_nowait(identifier, entry.export(), entry.expires_at, name)
