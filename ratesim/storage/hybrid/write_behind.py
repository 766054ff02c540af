"""`WriteBehindQueue`: how consumption that was admitted at this node reaches L2, under every write policy.

Consumption travels, not state, unless `sync` is `state`, which shows the loss that this causes. A flush states the
consumption of (node, epoch) before it. A flush that is repeated, overtaken or sent again therefore counts once
(`undelivered_part` in deduplicate.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from ratesim.errors import StorageError
from ratesim.runtime import Flight, Runtime, Supervisor, Task, WaitQueue
from ratesim.state import RateLimitState
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["WriteBehindQueue"]

FLUSH = "flush"  # the name of the background task


class WriteBehindQueue:
    """Sends unsent consumption to L2, the oldest record first.

    The worker that flushes in the background is supervised as "flush": a failed round is counted and shown, and the
    consumption is sent again in a later one.

    Parameters
    ----------
    l1, l2
        The node's memory, and the shared storage.
    config
        The policies; those of writing are read here.
    runtime
        Time and tasks.
    counters
        Counts flushes and dropped cost.
    supervisor
        Runs the flushes in the background.
    rng
        Draws the phase of the flushes where `sync_jitter` asks for one.
    views
        The records, whose views take in the states that L2 answers.

    Attributes
    ----------
    dirty
        The records with unsent consumption, in the order in which they became dirty.
    waiting
        Admitted requests that L2 may not know; write_behind bounds their number.
    """

    def __init__(
        self,
        l1: MemoryStorage,
        l2: RateLimitStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        counters: SyncCounters,
        supervisor: Supervisor,
        rng: np.random.Generator | None,
        views: ViewCache,
    ) -> None:
        self.dirty: dict[ReplicaState, None] = {}
        self.waiting = 0
        self._views = views
        self._l1 = l1
        self._l2 = l2
        self._config = config
        self._runtime = runtime
        self._counters = counters
        self._supervisor = supervisor
        draw = 0.0 if config.sync_jitter == 0 else float((rng or np.random.default_rng()).random())
        self._phase = draw * config.sync_jitter * config.sync_interval
        self._worker: Task | None = None
        self._room = WaitQueue(runtime)  # of requests that wait for room
        self._closed = False
        views.on_read_done = self._on_read_done

    def adopt(self) -> None:
        """Queue the unsent consumption of the views' records, which were taken over from a loop that has stopped."""
        for record in self._views.records.values():
            if record.unsent():
                self.waiting += sum(requests for _, _, requests in record.unsettled())
                self._mark_dirty(record)
        if self.dirty:
            self.wake()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def note(self, record: ReplicaState, now: float, cost: float) -> None:
        """Note an admitted cost; the write policy decides when it is sent."""
        if self._closed:  # a request that was under way when the node ended
            self._count_dropped(cost, 1)
            return
        record.note(now, cost)
        self.waiting += 1
        if not record.dirty:
            if len(self.dirty) >= self._config.max_entries:
                self._make_room(next(iter(self.dirty)))
            self._mark_dirty(record)
            self.wake()

    def _make_room(self, oldest: ReplicaState) -> None:
        # A dirty record may outlive its view in L1, but their number is bounded: the oldest is flushed before its time,
        # and dropped when L2 does not take it.
        if len(self.dirty) >= 2 * self._config.max_entries:
            self._count_dropped(*self._discard(oldest))
        else:
            self._runtime.spawn(self._flush_soon(oldest))

    def _mark_dirty(self, record: ReplicaState) -> None:
        if not record.dirty:
            record.dirty = True
            self.dirty[record] = None

    def _mark_clean(self, record: ReplicaState) -> None:
        if record.dirty:
            record.dirty = False
            del self.dirty[record]

    def forget(self, record: ReplicaState) -> None:
        """Discard the unsent consumption of a record."""
        if record.dirty:
            self._discard(record)

    def _discard(self, record: ReplicaState) -> tuple[float, int]:
        """Discard the unsent consumption; returns its cost and requests."""
        cost, requests = record.drop()
        self._mark_clean(record)
        self._leave(requests)
        return cost, requests

    def _count_dropped(self, cost: float, requests: int) -> None:
        self._counters.dropped_cost += cost
        self._counters.dropped_requests += requests

    async def enqueue(self, records: Sequence[ReplicaState], now: float, cost: float) -> None:
        """Note an admitted cost where the queue has room for it; else wait for room, or drop it."""
        if self.waiting >= self._config.queue_size and not await self._has_room():
            self._count_dropped(cost * len(records), len(records))
            return
        for record in records:
            self.note(record, now, cost)

    async def _has_room(self) -> bool:
        if self._config.queue_full == "drop":
            return False
        try:
            await self._runtime.timeout(self._wait_for_room(), self._config.max_wait)
        except TimeoutError:
            return False
        return True

    async def _wait_for_room(self) -> None:
        while self.waiting >= self._config.queue_size:
            await self._room.wait()

    def _leave(self, requests: int) -> None:
        """Let waiting requests in after so many have left the queue."""
        if self._config.write != "write_behind":
            return
        self.waiting -= requests
        for _ in range(self._config.queue_size - self.waiting):
            if not self._room.hand_on():
                return

    # -- the worker ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Start the worker that flushes dirty records, unless it runs."""
        if self._worker is None and not self._closed:
            behind = self._config.write == "write_behind"
            self._worker = self._runtime.spawn(self._flush_in_batches() if behind else self._flush_at_ticks())

    async def _flush_at_ticks(self) -> None:
        """Flush at every tick while a record is dirty.

        Ticks are multiples of the interval on the monotonic clock, plus the phase.
        """
        while self.dirty:
            await self._runtime.sleep(self._until_tick())
            await self._supervisor.attempt(FLUSH, self._flush, list(self.dirty))
        self._end_worker()

    async def _flush_in_batches(self) -> None:
        """Flush when a batch is full or its first record has lingered; after a failure, at the next tick."""
        while self.dirty:
            if len(self.dirty) < self._config.flush_batch:
                await self._runtime.sleep(self._config.linger)
            batch = list(islice(self.dirty, self._config.flush_batch))
            if not await self._supervisor.attempt(FLUSH, self._flush, batch):
                await self._runtime.sleep(self._until_tick())
        self._end_worker()

    def _end_worker(self) -> None:
        """End the worker, with nothing left to flush: whatever failed before has been sent or forgotten since."""
        self._worker = None
        self._supervisor.succeeded(FLUSH)

    def _until_tick(self) -> float:
        now, interval = self._runtime.monotonic(), self._config.sync_interval
        return math.floor((now - self._phase) / interval + 1.0) * interval + self._phase - now

    async def write_through(self, records: Sequence[ReplicaState]) -> bool:
        """Wait until L2 has taken in all that these records had noted, for `max_wait` seconds at most.

        The rest is sent in the background.

        Returns
        -------
        bool
            Whether L2 has taken in all of it.
        """
        try:
            return await self._runtime.abandon_after(self._deliver(records), self._config.max_wait)
        except TimeoutError:
            return False
        finally:  # also when the request is canceled
            if self.dirty:
                self.wake()

    async def _deliver(self, records: Sequence[ReplicaState]) -> bool:
        for record, wanted in [(record, record.started + 1) for record in records]:
            while record.finished < wanted and (record.unsent() or record.sending):
                if record.flight is not None:
                    await record.flight.wait()
                elif not await self.flush([record]):
                    return False
        return True

    def _on_read_done(self, record: ReplicaState) -> None:
        """Flush a record that was being read when its flush was due: one that is read often must not stay unflushed."""
        if record.overdue:
            record.overdue = False
            if not self._closed:
                self._runtime.spawn(self._flush_soon(record))

    async def _flush_soon(self, record: ReplicaState) -> None:
        if not await self._supervisor.attempt(FLUSH, self._flush, [record]):
            self.wake()

    # -- sending ------------------------------------------------------------------------------------------------------

    async def flush(self, records: Iterable[ReplicaState]) -> bool:
        """Send the unsent consumption of these records, `flush_batch` of them at a time.

        After one failure the rest stays unsent, so that a server that comes back does not get all of it at once.

        Returns
        -------
        bool
            Whether L2 has taken in all of it.
        """
        try:
            await self._flush(records)
        except StorageError:
            return False
        return True

    async def _flush(self, records: Iterable[ReplicaState]) -> None:
        """`flush`, with L2's error raised."""
        ready = []
        for record in records:
            if record.unsent():
                if record.flight is None:
                    ready.append(record)
                else:
                    record.overdue = not record.sending
            elif not record.sending:
                self._mark_clean(record)
        size = self._config.flush_batch
        for first in range(0, len(ready), size):
            batch = ready[first : first + size]
            if first:  # the first batch took a while: a read or a flush of these may be under way now
                batch = [record for record in batch if record.flight is None and record.unsent()]
            if batch:
                await self._send(batch)

    async def _send(self, batch: Sequence[ReplicaState]) -> None:
        begin = self._runtime.monotonic()
        flight = Flight(self._runtime)
        for record in batch:
            record.flight = flight
            record.take()
            self._mark_clean(record)
        try:
            await (self._send_states(batch) if self._config.sync == "state" else self._send_deltas(batch))
        except StorageError:
            flight.failed = True
            self._counters.failed_flushes += 1
            raise
        else:
            self._counters.count_flush(len(batch), self._runtime.monotonic() - begin)
        finally:
            for record in batch:
                record.flight = None
                if record.sending:
                    record.put_back()
                    self._mark_dirty(record)
            if self.dirty:
                self.wake()  # the worker may have ended, or the caller may be canceled
            flight.land()

    async def _send_deltas(self, batch: Sequence[ReplicaState]) -> None:
        node = self._config.node
        now = self._runtime.time()
        states = await self._l2.charge_many([record.charge(node, now) for record in batch])
        for record, state in zip(batch, states, strict=True):
            self._settled(record, state)

    async def _send_states(self, batch: Sequence[ReplicaState]) -> None:
        """Overwrite L2's states with L1's; consumption that other nodes wrote since they were read is lost."""
        for record in batch:
            state = await self._l1.get_state(record.identifier, record.limit.name)
            if state is not None:
                await self._l2.set_state(record.identifier, state, None, record.limit.name)
            self._settled(record, None)

    def _settled(self, record: ReplicaState, state: RateLimitState | None) -> None:
        requests = sum(requests for _, _, requests in record.sending)
        record.settle()
        self._leave(requests)
        if state is not None:
            self._views.store(record, state)

    # -- the end ------------------------------------------------------------------------------------------------------

    def unflushed(self) -> tuple[float, int]:
        """Return cost and requests of all consumption that L2 may not know."""
        several = {*self._views.records.values(), *self.dirty}
        deltas = [delta for record in several for delta in record.unsettled()]
        return math.fsum(cost for _, cost, _ in deltas), sum(requests for _, _, requests in deltas)

    async def flush_all(self) -> bool:
        """Send all that is unsent now; returns whether L2 has taken it in."""
        for record in list(self.dirty):
            while record.flight is not None:
                await record.flight.wait()
        return await self.flush(list(self.dirty))

    def stop(self) -> None:
        """Stop sending in the background."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()

    def kill(self) -> None:
        """Stop at once and count unflushed consumption as dropped, although a flush under way may still arrive."""
        self.stop()
        self._count_dropped(*self.unflushed())
        for record in list(self.dirty):
            self.forget(record)
