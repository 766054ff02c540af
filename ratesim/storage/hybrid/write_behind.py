"""`WriteBehindQueue`: how what was admitted here reaches L2, under every write policy.

What travels is consumption, never a state (unless sync is `state`, which shows what is lost by it). A flush says what (node,
epoch) had consumed before it, so one that is repeated, overtaken or sent again counts once (`undelivered_part` in
charging.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from ratesim.errors import StorageError
from ratesim.runtime import Future, Runtime, Task
from ratesim.state import RateLimitState
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["WriteBehindQueue"]


class WriteBehindQueue:
    """Knows which records have something unsent, oldest first, and sends it.

    waiting: admitted requests that L2 may not know, under write_behind, which bounds their number.
    """

    def __init__(
        self,
        l1: MemoryStorage,
        l2: RateLimitStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        tally: SyncCounters,
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
        self._counters = tally
        draw = 0.0 if config.sync_jitter == 0 else float((rng or np.random.default_rng()).random())
        self._phase = draw * config.sync_jitter * config.sync_interval
        self._worker: Task | None = None
        self._room: deque[Future[None]] = deque()  # who waits for room in the queue
        self._closed = False
        views.landed = self._landed

    # -- what was admitted --------------------------------------------------------------------------------------------

    def note(self, record: ReplicaState, now: float, cost: float) -> None:
        """Note an admitted cost; it is sent when the policy says so."""
        if self._closed:  # a request that was under way when the node ended
            self._lose(cost, 1)
            return
        record.note(now, cost)
        self.waiting += 1
        if not record.dirty:
            if len(self.dirty) >= self._config.max_entries:
                self._relieve(next(iter(self.dirty)))
            self._is_dirty(record)

    def _relieve(self, oldest: ReplicaState) -> None:
        # What is dirty may outlive its view in L1, but not without bound: the oldest is flushed before its time, and lost
        # when L2 does not take it.
        if len(self.dirty) >= 2 * self._config.max_entries:
            self._give_up(oldest)
        else:
            self._runtime.spawn(self._catch_up(oldest))

    def _is_dirty(self, record: ReplicaState) -> None:
        record.dirty = True
        self.dirty[record] = None
        self.wake()

    def forget(self, record: ReplicaState) -> None:
        """What it has not sent is not to be sent."""
        if record.dirty:
            record.dirty = False
            del self.dirty[record]
            self._leave(record.drop()[1])

    def _give_up(self, record: ReplicaState) -> None:
        cost, requests = record.drop()
        self._lose(cost, requests)
        self._leave(requests)
        record.dirty = False
        del self.dirty[record]

    def _lose(self, cost: float, requests: int) -> None:
        self._counters.dropped_cost += cost
        self._counters.dropped_requests += requests

    async def enqueue(self, records: Sequence[ReplicaState], now: float, cost: float) -> None:
        """Note an admitted cost where the queue has room for it; else wait for some, or drop it."""
        if self.waiting >= self._config.queue_size and not await self._has_room():
            self._lose(cost * len(records), len(records))
            return
        for record in records:
            self.note(record, now, cost)

    async def _has_room(self) -> bool:
        if self._config.queue_full == "drop":
            return False
        try:
            await self._runtime.timeout(self._turn(), self._config.max_wait)
        except TimeoutError:
            return False
        return True

    async def _turn(self) -> None:
        while self.waiting >= self._config.queue_size:
            future: Future[None] = self._runtime.future()
            self._room.append(future)
            await future

    def _leave(self, requests: int) -> None:
        """So many requests have left the queue."""
        if self._config.write != "write_behind":
            return
        self.waiting -= requests
        for _ in range(min(len(self._room), max(self._config.queue_size - self.waiting, 0))):
            future = self._room.popleft()
            if not future.done():
                future.set_result(None)

    # -- when it is sent ----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have somebody see to what is dirty."""
        if self._worker is None and not self._closed:
            behind = self._config.write == "write_behind"
            self._worker = self._runtime.spawn(self._in_batches() if behind else self._at_ticks())

    async def _at_ticks(self) -> None:
        """Flush at every tick for as long as something is dirty. Ticks are multiples of the interval, plus the phase."""
        while self.dirty:
            await self._runtime.sleep(self._until_tick())
            await self.flush(list(self.dirty))
        self._worker = None

    async def _in_batches(self) -> None:
        """Flush as soon as a batch is full, or its first has lingered; after a failure, at the next tick."""
        while self.dirty:
            if len(self.dirty) < self._config.flush_batch:
                await self._runtime.sleep(self._config.linger)
            batch = list(islice(self.dirty, self._config.flush_batch))
            if not await self.flush(batch):
                await self._runtime.sleep(self._until_tick())
        self._worker = None

    def _until_tick(self) -> float:
        now, interval = self._runtime.time(), self._config.sync_interval
        return math.floor((now - self._phase) / interval + 1.0) * interval + self._phase - now

    async def write_through(self, records: Sequence[ReplicaState]) -> bool:
        """Wait until L2 has taken in all that these records had noted, for `max_wait` seconds at most; whether it has.

        What it has not is sent in the background.
        """
        try:
            arrived = await self._runtime.timeout(self._through(records), self._config.max_wait)
        except TimeoutError:
            arrived = False
        if not arrived:
            self.wake()
        return arrived

    async def _through(self, records: Sequence[ReplicaState]) -> bool:
        for record, wanted in [(record, record.started + 1) for record in records]:
            while record.finished < wanted and (record.unsent() or record.sending):
                if record.flight is not None:
                    await record.flight
                elif not await self.flush([record]):
                    return False
        return True

    def _landed(self, record: ReplicaState) -> None:
        """A read is over, during which a flush was due: a view that is read often must not stay unflushed."""
        if record.overdue:
            record.overdue = False
            if not self._closed:
                self._runtime.spawn(self._catch_up(record))

    async def _catch_up(self, record: ReplicaState) -> None:
        if not await self.flush([record]):
            self.wake()

    # -- sending it ---------------------------------------------------------------------------------------------------

    async def flush(self, records: Iterable[ReplicaState]) -> bool:
        """Send what is unsent of these records, `flush_batch` of them at a time; whether L2 took it in.

        After one failure the rest stays where it is: a server that comes back is not met by all at once.
        """
        flying = []
        for record in records:
            if record.unsent():
                if record.flight is None:
                    flying.append(record)
                else:
                    record.overdue = not record.sending
            elif record.dirty and not record.sending:
                record.dirty = False
                del self.dirty[record]
        size = self._config.flush_batch
        for first in range(0, len(flying), size):
            batch = flying[first : first + size]
            if first:  # the first batch took a while: a read or a flush of these may be under way now
                batch = [record for record in batch if record.flight is None and record.unsent()]
            if batch and not await self._send(batch):
                return False
        return True

    async def _send(self, batch: Sequence[ReplicaState]) -> bool:
        begin = self._runtime.time()
        flight: Future[None] = self._runtime.future()
        for record in batch:
            record.flight = flight
            record.take()
            if record.dirty:
                record.dirty = False
                del self.dirty[record]
        try:
            await (self._send_states(batch) if self._config.sync == "state" else self._send_deltas(batch))
        except StorageError:
            self._counters.failed_flushes += 1
            return False
        else:
            self._counters.flushed_in(len(batch), self._runtime.time() - begin)
            return True
        finally:
            for record in batch:
                record.flight = None
                if record.sending:
                    record.put_back()
                    if not record.dirty:
                        record.dirty = True
                        self.dirty[record] = None
            flight.set_result(None)

    async def _send_deltas(self, batch: Sequence[ReplicaState]) -> None:
        node = self._config.node
        states = await self._l2.charge_many([record.charge(node) for record in batch])
        for record, state in zip(batch, states, strict=True):
            self._settled(record, state)

    async def _send_states(self, batch: Sequence[ReplicaState]) -> None:
        """As the sketch does: L1's state overwrites L2's, and with it what the others have written since it was read."""
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
        """Cost and requests of all that L2 may not know."""
        several = {*self._views.records.values(), *self.dirty}
        deltas = [delta for record in several for delta in record.unsettled()]
        return math.fsum(cost for _, cost, _ in deltas), sum(requests for _, _, requests in deltas)

    async def flush_all(self) -> bool:
        """Send all that is unsent now; whether L2 took it in."""
        for record in list(self.dirty):
            while record.flight is not None:
                await record.flight
        return await self.flush(list(self.dirty))

    def stop(self) -> None:
        """Nothing is sent in the background any more."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()

    def kill(self) -> None:
        """Stop at once: what was not flushed is lost. What is on its way may still arrive, so this is the most."""
        self.stop()
        self._lose(*self.unflushed())
        for record in list(self.dirty):
            self.forget(record)
