"""A server as all nodes see it: the backend that decides, behind locks, a processor and a disk."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ratesim.limit import Decision
from ratesim.runtime import Future, SimRuntime
from ratesim.simulation.cost_model.profile import BackendCosts, Cost
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.postgres_work import PostgresWork
from ratesim.simulation.network.wire_size import MeteredBackend
from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.simulation.queueing.pace import Pace
from ratesim.simulation.queueing.processor_sharing import MultiCoreCPU
from ratesim.storage.remote.operations import Acquire, Get, Operation

__all__ = ["GroupCommit", "RowLocks", "Standby", "StoreServer", "changes", "wrote"]


class StoreServer:
    """A server and its queues.

    Attributes
    ----------
    meter
        The backend that decides, and its bytes on the wire.
    costs
        Measured costs.
    station
        The processor, first come, first served.
    cores
        Cores that the server's processes share, in the place of the station; None without such.
    commit, locks
        The flush of the log and the row locks; None where the server answers without a disk, or has no rows to lock.
    standby
        The standby that answers wait for; None without such.
    work
        What else the server does, and what its table's partitions cost; None without either.
    pace
        How much longer than usual work takes; None where it does not vary.
    timeline
        The faults of this server.
    takeovers
        How often a replica has taken its place.
    host_lost
        Whether the host of the primary that was replaced last is gone.
    straight
        Whether batches are decided and answered in the order in which they come.
    """

    def __init__(
        self,
        meter: MeteredBackend,
        costs: BackendCosts,
        runtime: SimRuntime,
        timeline: FaultTimeline | None = None,
        standby: Standby | None = None,
        work: PostgresWork | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._runtime = runtime
        self.pace = pace
        self.timeline = timeline or FaultTimeline([])
        self.meter = meter
        self.costs = costs
        self.station = FifoStation(costs.concurrency)
        self.cores = MultiCoreCPU(runtime, costs.speedup) if len(costs.speedup) > 1 else None
        self.commit = None if costs.commit is None else GroupCommit()
        self.locks = RowLocks(runtime) if costs.locks else None
        self.standby = standby
        self.work = work
        # Whether whoever comes first is decided and answered first.
        waits = self.locks is not None or self.commit is not None or standby is not None
        self.straight = not waits and self.cores is None and self.station.in_order
        self.takeovers = 0
        self.host_lost = False
        self._awake_until = 0.0
        self._pause = 0.0  # before the last batch, as `Coldness.pause` counts it

    @property
    def busy(self) -> float:
        """Processor seconds spent."""
        return self.station.busy if self.cores is None else self.cores.busy

    def woken(self, arrival: float, service: float) -> float:
        """Return the service time, in seconds, of a batch that may find the processor idle, and so its caches cold."""
        cold = self.costs.cold
        if cold is not None:
            self._pause = cold.pause(max(arrival - self._awake_until, 0.0), self._pause)
            service += cold.serving(self._pause)
        return service if self.pace is None else service * self.pace.at(arrival)

    def take(self, arrival: float, service: float) -> float:
        """Return when a batch that comes to the station at `arrival` leaves it."""
        service = self.woken(arrival, service)
        end = self.station.serve(arrival, service)
        if end > self._awake_until:
            self._awake_until = end
        return end

    async def spend(self, service: float, outage: float = inf) -> bool:
        """Wait for the processor and the service; return False if the server goes down at `outage` before."""
        now = self._runtime.env.now
        if self.cores is None:
            end = self.take(now, service)
            await self._runtime.sleep(min(end, outage) - now)
            return end <= outage
        await self.cores.spend(self.woken(arrival=now, service=service))
        self._awake_until = self._runtime.env.now
        return self._awake_until <= outage

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers to a batch, at the end of its service."""
        answers = self.meter.execute(batch)
        if self.work is not None and self.work.follows:
            self.work.record(batch, answers)
        return answers

    @property
    def processor(self) -> FifoStation | MultiCoreCPU:
        """The queue in which batches are served."""
        return self.station if self.cores is None else self.cores

    def begin_anew(self, at: float, down: float) -> None:
        """Restart after an outage. down, at: when the server went down and when it is up again."""
        self.station.restart(at, down)
        if self.commit is not None:
            self.commit = GroupCommit()
        if self.standby is not None:
            self.standby.begin_anew()

    async def remove_expired(self, until: float) -> None:
        """Remove expired rows at every `cleanup_interval`, as one of the nodes does, until a simulated time."""
        work, env = self.work, self._runtime.env
        if work is None:
            return
        at = work.first_cleanup
        while at < until:
            await self._runtime.sleep(at - env.now)
            if not self.timeline.server_down(env.now):
                if work.drops:
                    work.drop_partitions()
                for seconds in work.remove_rows():
                    await self.spend(seconds)
            at = max(at + work.config.cleanup_interval, env.now)

    def flushed(self, now: float, uniform: float) -> float:
        """Return when changes that are made now are as durable as their answer says.

        Parameters
        ----------
        now
            Seconds; calls come in order of time.
        uniform
            The quantile of the costs.
        """
        if self.commit is not None and self.costs.commit is not None:
            seconds = self.costs.commit.of(1, uniform)
            now = self.commit.take(now, seconds if self.work is None else self.work.flush(seconds, now))
        return now if self.standby is None else self.standby.take(now, uniform)


class GroupCommit:
    """The flush of a write-ahead log: one at a time; batches that come during a flush share the next one.

    Calls come in order of time.
    """

    __slots__ = ("_ends", "_next")

    def __init__(self) -> None:
        self._ends = 0.0  # of the flush under way, or of the last one
        self._next: float | None = None  # end of the flush for which somebody waits

    def take(self, arrival: float, seconds: float) -> float:
        """Return when changes that come at `arrival` are on the disk. seconds: of a flush, should one begin."""
        if self._next is not None and arrival >= self._ends:
            self._ends, self._next = self._next, None
        if arrival >= self._ends:
            self._ends = arrival + seconds
            return self._ends
        if self._next is None:
            self._next = self._ends + seconds
        return self._next


class Standby:
    """A standby that commits wait for.

    A change travels there, is flushed or applied together with those that wait, and the word of it travels back.

    Parameters
    ----------
    round_trip
        Seconds from the server to the standby and back.
    cost
        Of what a commit waits for there.
    """

    def __init__(self, round_trip: float, cost: Cost) -> None:
        self._way = 0.5 * round_trip
        self._cost = cost
        self._commit = GroupCommit()

    def take(self, now: float, uniform: float) -> float:
        """Return when the server hears that the standby has what it flushed now."""
        return self._commit.take(now + self._way, self._cost.of(1, uniform)) + self._way

    def begin_anew(self) -> None:
        """Restart after an outage."""
        self._commit = GroupCommit()


class RowLocks:
    """Row locks that are held until a commit, granted in the order of the requests."""

    def __init__(self, runtime: SimRuntime) -> None:
        self._runtime = runtime
        self._last: dict[str, Future[None]] = {}  # of each row, the last that wants it or holds it

    def queue(self, names: Sequence[str]) -> tuple[Future[None], list[Future[None]]]:
        """Queue for these rows.

        Returns
        -------
        tuple
            The future that frees the rows for the next in line, and the futures to wait for first.
        """
        last = self._last
        earlier = [last[name] for name in names if name in last]
        mine: Future[None] = self._runtime.future()
        for name in names:
            last[name] = mine
        return mine, earlier

    async def take(self, names: Sequence[str]) -> Future[None]:
        """Wait for these rows; returns the future that frees them.

        Whoever is behind one that is canceled while it waits has to wait for those before it all the same.
        """
        mine, earlier = self.queue(names)
        try:
            for each in earlier:
                await each
        except BaseException:
            self._runtime.spawn(self._leave(names, mine, earlier))
            raise
        return mine

    async def _leave(self, names: Sequence[str], mine: Future[None], earlier: Sequence[Future[None]]) -> None:
        for each in earlier:
            await each
        self.release(names, mine)

    def held(self, names: Sequence[str]) -> bool:
        """Tell whether somebody holds one of these rows."""
        return any(name in self._last for name in names)

    def release(self, names: Sequence[str], mine: Future[None]) -> None:
        """Free these rows."""
        last = self._last
        for name in names:
            if last.get(name) is mine:
                del last[name]
        mine.set_result(None)


def changes(operation: Operation) -> bool:
    """Return whether an operation may write; a peek and a read do not."""
    return not isinstance(operation, Get) and not (isinstance(operation, Acquire) and not operation.consume)


def wrote(operation: Operation, answer: object) -> bool:
    """Return whether an operation wrote: a denied request changes nothing."""
    return changes(operation) and not (isinstance(answer, Decision) and not answer.allowed)
