"""`WriteBehindQueue`: how consumption that was admitted at this node reaches L2, under every write policy.

Consumption travels, not state, unless `sync` is `state`, which shows the loss that this causes. A flush states the
consumption of (node, epoch) before it. A flush that is repeated, overtaken or sent again therefore counts once
(`undelivered_part` in deduplicate.py).

Each key of a flush has an answer of its own. What L2 took in is settled. What it refuses for good is dropped and counted.
What may work later is sent again, apart from the others: in ever smaller batches, so that a key that makes its batch fail
stands alone at last, and at ever longer intervals.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, islice

import numpy as np

from ratesim.errors import (
    BatchError,
    CapacityError,
    KeyRefusedError,
    SerializationError,
    StorageConnectionError,
    StorageTimeoutError,
)
from ratesim.runtime import Flight, Runtime, Supervisor, Task, WaitQueue
from ratesim.runtime.supervision import LOG_INTERVAL, OPERATIONAL
from ratesim.safe_text import shorten_identifier
from ratesim.state import RateLimitState
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["WriteBehindQueue"]

logger = logging.getLogger(__name__)

FLUSH = "flush"  # the name of the background task
AWAY = (StorageConnectionError, StorageTimeoutError, CapacityError)  # errors that are no key's own where all keys have them
FAILING = 3  # flushes in a row that fail while L2 answers for other keys; then, or if the error is no AWAY, it is the key
LONGEST_RETRY = 10.0  # seconds between two tries to flush a key that keeps failing by itself
SHRINK = 4  # with each further failure such a key travels in batches that are smaller by this factor


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
    failing
        Those whose last flush failed for a reason of their own, which are not among `dirty`.
    waiting
        Admitted requests that L2 may not know; write_behind bounds their number.
    before_flush
        Awaited before consumption is sent under the name of this node; it raises a StorageError where that must not be.
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
        self.failing: dict[ReplicaState, None] = {}
        self.waiting = 0
        self.before_flush: Callable[[], Awaitable[None]] | None = None
        self._views = views
        self._l1 = l1
        self._l2 = l2
        self._config = config
        self._runtime = runtime
        self._counters = counters
        self._supervisor = supervisor
        draw = 0.0 if config.sync_jitter == 0 else float((rng or np.random.default_rng()).random())
        self._phase = draw * config.sync_jitter * config.sync_interval
        self._flying: dict[ReplicaState, None] = {}  # the records whose flush is under way
        self._worker: Task | None = None
        self._retrier: Task | None = None  # flushes `failing`
        self._refusals, self._next_log = 0, -math.inf  # refusals that were not logged yet
        self._room = WaitQueue(runtime)  # of requests that wait for room
        self._closed = False
        views.on_read_done = self._on_read_done

    def adopt(self) -> None:
        """Queue the unsent consumption of the views' records, which were taken over from a loop that has stopped."""
        for record in self._views.records.values():
            if record.unsent():
                self.waiting += sum(requests for _, _, requests in record.unsettled())
                self._mark_dirty(record)
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
            if len(self.dirty) + len(self.failing) >= self._config.max_entries:
                self._make_room(next(chain(self.failing, self.dirty)))
            self._mark_dirty(record)
            self.wake()

    def _make_room(self, oldest: ReplicaState) -> None:
        # A dirty record may outlive its view in L1, but their number is bounded: the oldest is flushed before its time,
        # and dropped when L2 does not take it.
        if len(self.dirty) + len(self.failing) >= 2 * self._config.max_entries:
            self._count_dropped(*self._discard(oldest))
        else:
            self._runtime.spawn(self._flush_soon(oldest))

    def _mark_dirty(self, record: ReplicaState) -> None:
        if not record.dirty:
            record.dirty = True
            (self.failing if record.failures >= FAILING else self.dirty)[record] = None

    def _mark_clean(self, record: ReplicaState) -> None:
        if record.dirty:
            record.dirty = False
            for several in (self.dirty, self.failing):
                several.pop(record, None)

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
        """Start the tasks that flush dirty and failing records, unless they run."""
        if self._closed:
            return
        if self._worker is None and self.dirty:
            behind = self._config.write == "write_behind"
            self._worker = self._runtime.spawn(self._flush_in_batches() if behind else self._flush_at_ticks())
        if self._retrier is None and self.failing:
            self._retrier = self._runtime.spawn(self._flush_failing())

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
            if all(record.flight is not None for record in batch):  # they are being read, and cannot be sent now
                batch = list(islice((record for record in self.dirty if record.flight is None), self._config.flush_batch))
                if not batch:
                    await self._runtime.sleep(self._config.linger)
                    continue
            if not await self._supervisor.attempt(FLUSH, self._flush, batch):
                await self._runtime.sleep(self._until_tick())
        self._end_worker()

    def _end_worker(self) -> None:
        """End the worker, with nothing left to flush: whatever failed before has been sent or forgotten since.

        What is under way, such as a further try of what failed before, tells by itself whether it succeeds.
        """
        self._worker = None
        if not self.failing and not self._flying:
            self._supervisor.succeeded(FLUSH)

    async def _flush_failing(self) -> None:
        """Flush the records that failed by themselves, each when its time has come, while others are flushed beside them."""
        while self.failing:
            await self._runtime.sleep(self._until_tick())
            now = self._runtime.monotonic()
            for batch in self._batches([record for record in self.failing if record.retry_at <= now]):
                await self._supervisor.attempt(FLUSH, self._flush, batch)
        self._retrier = None

    def _batches(self, records: Sequence[ReplicaState]) -> list[Sequence[ReplicaState]]:
        """Return batches in the order of the records; those that failed more often are in smaller ones."""
        batches: list[Sequence[ReplicaState]] = []
        for steps in sorted({_steps(record) for record in records}):
            alike = [record for record in records if _steps(record) == steps]
            size = max(self._config.flush_batch // SHRINK ** min(steps, 16), 1)
            batches += [alike[first : first + size] for first in range(0, len(alike), size)]
        return batches

    def _until_tick(self) -> float:
        return until_tick(self._runtime.monotonic(), self._config.sync_interval, self._phase)

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
            self.wake()

    async def _deliver(self, records: Sequence[ReplicaState]) -> bool:
        for record, wanted in [(record, record.started + 1) for record in records]:
            while record.finished < wanted and (record.unsent() or record.sending):
                if record.flight is not None:
                    await record.flight.wait()
                elif await self.flush([record]) is not None:
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

    async def flush(self, records: Iterable[ReplicaState]) -> Exception | None:
        """Send the unsent consumption of these records, `flush_batch` of them at a time.

        Returns
        -------
        Exception or None
            The first error of what is to be sent again; None where L2 has taken in the rest.
        """
        return (await self._send_all(records))[0]

    async def _flush(self, records: Iterable[ReplicaState]) -> None:
        """`flush`, with the error raised."""
        error = await self.flush(records)
        if error is not None:
            raise error

    async def _send_all(self, records: Iterable[ReplicaState]) -> tuple[Exception | None, bool]:
        """Send the unsent consumption of these records.

        Where L2 is away the rest stays unsent, so that a server that comes back does not get all of it at once.

        Returns
        -------
        Exception or None
            The first error of what is to be sent again.
        bool
            Whether L2 is away.
        """
        ready = []
        for record in records:
            if record.unsent():
                if record.flight is None:
                    ready.append(record)
                else:
                    record.overdue = not record.sending
            elif not record.sending:
                self._mark_clean(record)
        first: Exception | None = None
        for batch in self._batches(ready):
            # The batches before took a while: a read or a flush of these may be under way now.
            batch = [record for record in batch if record.flight is None and record.unsent()]
            if not batch:
                continue
            error, away = await self._send(batch)
            first = first or error
            if away:
                return first, True
        return first, False

    async def _send(self, batch: Sequence[ReplicaState]) -> tuple[Exception | None, bool]:
        """Send the unsent consumption of a batch, and take note of the answer for each record; returns as `_send_all`."""
        begin = self._runtime.monotonic()
        flight = Flight(self._runtime)
        for record in batch:
            record.flight = flight
            record.take()
            self._mark_clean(record)
            self._flying[record] = None
        try:
            results = await (self._send_states(batch) if self._config.sync == "state" else self._send_deltas(batch))
            failed = self._take_answers(batch, results)
            flight.failed = bool(failed)
        finally:
            for record in batch:
                record.flight = None
                del self._flying[record]
                if record.sending:
                    record.put_back()
                    self._mark_dirty(record)
            self.wake()  # the worker may have ended, or the caller may be canceled
            flight.set()
        settled = sum(not isinstance(result, Exception) for result in results)
        if settled:
            self._counters.count_flush(settled, self._runtime.monotonic() - begin)
        self._counters.failed_flushes += bool(failed)
        return (failed[0] if failed else None), len(failed) == len(batch) and isinstance(failed[0], AWAY)

    async def _send_deltas(self, batch: Sequence[ReplicaState]) -> Sequence[object]:
        """Return L2's state after the charge of each record, or its error."""
        node, now = self._config.node, self._runtime.time()
        try:
            if self.before_flush is not None:
                await self.before_flush()
            return await self._l2.charge_many([record.charge(node, now) for record in batch])
        except BatchError as error:
            return error.results
        except Exception as error:
            if not (self._runtime.realtime or isinstance(error, OPERATIONAL)):
                raise
            return [error] * len(batch)

    async def _send_states(self, batch: Sequence[ReplicaState]) -> Sequence[object]:
        """Overwrite L2's states with L1's; consumption that other nodes wrote since they were read is lost.

        Returns None for each record, or its error.
        """
        results: list[Exception | None] = []
        for record in batch:
            if results and isinstance(results[-1], AWAY):
                results.append(results[-1])
                continue
            try:
                state = await self._l1.get_state(record.identifier, record.limit.name)
                if state is not None:
                    await self._l2.set_state(record.identifier, state, None, record.limit.name)
                results.append(None)
            except Exception as error:
                if not (self._runtime.realtime or isinstance(error, OPERATIONAL)):
                    raise
                results.append(error)
        return results

    def _take_answers(self, batch: Sequence[ReplicaState], results: Sequence[object]) -> list[Exception]:
        """Settle what L2 took in, drop what it refuses for good; returns the errors of the rest, which is sent again."""
        failed = []
        for record, result in zip(batch, results, strict=True):
            if isinstance(result, KeyRefusedError):
                self._refused(record, result)
            elif isinstance(result, Exception):
                failed.append((record, result))
            else:
                self._settled(record, result if isinstance(result, RateLimitState) else None)
        for record, error in failed:
            own = not isinstance(error, AWAY)
            if own or record.failures >= FAILING or len(failed) < len(batch):
                record.failures = max(record.failures + 1, FAILING if own else 0)
                wait = min(self._config.sync_interval * 2.0 ** min(_steps(record) - 1, 30), LONGEST_RETRY)
                record.retry_at = self._runtime.monotonic() + wait
        return [error for _, error in failed]

    def _settled(self, record: ReplicaState, state: RateLimitState | None) -> None:
        requests = sum(requests for _, _, requests in record.sending)
        record.settle()
        self._leave(requests)
        if state is not None:
            try:
                self._views.store(record, state)
            except SerializationError:
                self._views.refuse(record)

    def _refused(self, record: ReplicaState, error: KeyRefusedError) -> None:
        """Drop what L2 refuses for good. L1 goes on counting it."""
        self._counters.refused_cost += math.fsum(cost for _, cost, _ in record.sending)
        self._counters.refused_requests += sum(requests for _, _, requests in record.sending)
        self._settled(record, None)
        self._views.refuse(record)
        self._refusals += 1
        now = self._runtime.monotonic()
        if now >= self._next_log:
            logger.log(
                logging.WARNING if self._runtime.realtime else logging.DEBUG,
                "L2 refuses %s for good, and %d keys since the last message: consumption of this node is dropped (%s)",
                shorten_identifier(record.identifier),
                self._refusals - 1,
                error,
            )
            self._refusals, self._next_log = 0, now + LOG_INTERVAL

    # -- the end ------------------------------------------------------------------------------------------------------

    def unflushed(self) -> tuple[float, int]:
        """Return cost and requests of all consumption that L2 may not know."""
        several = {*self._views.records.values(), *self.dirty, *self.failing}
        deltas = [delta for record in several for delta in record.unsettled()]
        return math.fsum(cost for _, cost, _ in deltas), sum(requests for _, _, requests in deltas)

    async def flush_all(self) -> Exception | None:
        """Send all that is unsent now, and wait for what is under way; returns the first error of what is left."""
        wanted = {record: record.started + record.unsent() for record in chain([*self.dirty, *self.failing], self._flying)}
        error: Exception | None = None
        size = self._config.flush_batch
        while size:  # until each key that fails by itself has been sent alone
            left = [each for each, last in wanted.items() if each.finished < last and (each.unsent() or each.sending)]
            if not left:
                return None
            flights = [record.flight for record in left if record.flight is not None]
            if len(flights) == len(left):
                await flights[0].wait()
                continue
            error, away = await self._send_all(left)
            if away:
                break
            if error is not None:
                size //= SHRINK
        return error

    def stop(self) -> None:
        """Stop sending in the background."""
        self._closed = True
        for task in (self._worker, self._retrier):
            if task is not None:
                task.cancel()

    def kill(self) -> None:
        """Stop at once and count unflushed consumption as dropped, although a flush under way may still arrive."""
        self.stop()
        self._count_dropped(*self.unflushed())
        for record in [*self.dirty, *self.failing]:
            self.forget(record)


def until_tick(now: float, interval: float, phase: float) -> float:
    """Return the seconds until the next multiple of the interval plus the phase: more than 0, however it is rounded."""
    ticks = math.floor((now - phase) / interval + 1.0)
    tick = ticks * interval + phase
    if tick <= now:
        tick = (ticks + 1) * interval + phase
    return tick - now


def _steps(record: ReplicaState) -> int:
    """Return by how many steps a record is set apart from the others."""
    return max(record.failures - FAILING + 1, 0)
