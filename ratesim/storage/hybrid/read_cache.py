"""`ViewCache`: for each limit that a node decides, the last state seen of L2 and the consumption since."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator

from ratesim.algorithms import bind
from ratesim.errors import KeyRefusedError, StorageError
from ratesim.limit import Limit
from ratesim.runtime import Flight, Runtime, Supervisor
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.base import EXPIRY_MARGIN, RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.replica_state import NOTHING_SEEN, ReplicaState
from ratesim.storage.hybrid.session_token import SeenVersion
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["ViewCache"]

REFRESH = "refresh"  # the name of the background task


class ViewCache:
    """The records of a node and their views in L1.

    A record is dropped when L1 evicts its view, or with the view when that has expired.

    Parameters
    ----------
    l1, l2
        The node's memory, which holds the views, and the shared storage, which is read.
    config
        The policies; that of reading is applied here.
    runtime
        Time and tasks.
    counters
        Counts reads and refreshes.
    supervisor
        Runs the refreshes in the background.

    Attributes
    ----------
    records
        The records by identifier, or (identifier, name) for a named limit.
    on_read_done
        Called with a record when a read of it is over.
    """

    def __init__(
        self,
        l1: MemoryStorage,
        l2: RateLimitStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        counters: SyncCounters,
        supervisor: Supervisor,
    ) -> None:
        self.records: dict[Hashable, ReplicaState] = {}
        self.on_read_done: Callable[[ReplicaState], None] = _ignore
        self._l1 = l1
        self._l2 = l2
        self._config = config
        self._runtime = runtime
        self._counters = counters
        self._supervisor = supervisor
        self._epoch = int(runtime.time() * 1e6)  # above every epoch of an earlier life of this node
        refresh_after = min(config.refresh_after, config.l1_ttl)
        self._fresh_for = {"cache_aside": config.l1_ttl, "read_through": 0.0}.get(config.read, refresh_after)
        self._server_clock = isinstance(l2, RemoteStorage) and getattr(l2.client.config, "clock", "client") == "server"
        l1.on_eviction(self._on_eviction)

    def adopt(self, former: ViewCache) -> None:
        """Take over the records of a cache whose loop has stopped."""
        self._epoch = max(self._epoch, former._epoch)
        self.records.update((key, record.successor()) for key, record in former.records.items())

    def begin_epoch(self, record: ReplicaState) -> None:
        """Let the unsent consumption of a record count from 0 on, apart from all that was sent before."""
        self._epoch = max(self._epoch + 1, int(self._runtime.time() * 1e6))
        record.epoch, record.acked = self._epoch, 0.0

    # -- records ------------------------------------------------------------------------------------------------------

    def record(self, identifier: str, limit: Limit) -> ReplicaState:
        """Return the record of a limit that is being decided, made where there is none."""
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        record = self.records.get(key)
        if record is None:
            if len(self.records) >= 2 * self._config.max_entries:
                self._forget_clean()
            decide = self._l1.decider(limit)  # raises InvalidLimitError before a record is stored
            self._epoch += 1
            record = self.records[key] = ReplicaState(identifier, key, self._epoch)
            record.bind(limit, decide)
        elif record.limit is not limit:
            record.bind(limit, self._l1.decider(limit))
        return record

    def of(self, identifier: str, name: str | None = None) -> Iterator[ReplicaState]:
        """Yield the records of an identifier, or the one of that name."""
        for record in list(self.records.values()):
            if record.identifier == identifier and name in (None, record.limit.name):
                yield record

    def find(self, identifier: str, name: str) -> ReplicaState | None:
        """Return the record of a limit by its name, if there is one."""
        return self.records.get((identifier, name) if name else identifier)

    def forget(self, record: ReplicaState) -> None:
        """Drop a record."""
        self.records.pop(record.key, None)

    def forget_expired(self) -> None:
        """Drop idle records whose views L1 has dropped."""
        for key in [key for key, record in self.records.items() if key not in self._l1.entries and _idle(record)]:
            del self.records[key]

    def _forget_clean(self) -> None:
        # Records without a view are of keys that were only denied. A tenth at once, oldest first: O(1) for each new key.
        room = max(1, self._config.max_entries // 10)
        for key in [key for key, record in self.records.items() if _idle(record)][:room]:
            del self.records[key]

    def _on_eviction(self, key: Hashable) -> None:
        record = self.records.get(key)
        if record is None:
            return
        if _idle(record):
            del self.records[key]
        else:
            record.read_at = record.fresh_until = -math.inf

    # -- reading ------------------------------------------------------------------------------------------------------

    async def ensure_fresh(self, record: ReplicaState, seen: SeenVersion | None = None) -> bool:
        """Make a view fit to decide on: fresh, and no older than a session has seen; reads L2 if it must.

        Returns
        -------
        bool
            False where the view is not fit and L2 does not answer.
        """
        now = self._runtime.monotonic()
        if now >= record.fresh_until:
            if self._config.read == "refresh_ahead" and now - record.read_at < self._config.l1_ttl:
                self._refresh(record, now)
            elif not await self.read_with_timeout(record):
                return False
        if seen is None or seen.version <= record.version or now < record.refused_until:
            return True
        # A read that is under way may have left L2 before that version was there; one that starts now has not. If its
        # answer is older still, L2 itself has gone back.
        return await self.read_with_timeout(record) and (
            seen.version <= record.version or await self.read_with_timeout(record)
        )

    async def read_with_timeout(self, record: ReplicaState) -> bool:
        """`read`, but give up after `max_wait` seconds."""
        try:
            return await self._runtime.abandon_after(self.read(record), self._config.max_wait)
        except TimeoutError:
            return False

    async def read(self, record: ReplicaState) -> bool:
        """Read L2's state into the view, or wait for the read or flush that is under way.

        A read that is given up, because its request was canceled, is taken over by one that waits for it.

        Returns
        -------
        bool
            Whether L2 has answered since the call.
        """
        begin = self._runtime.monotonic()
        while (flight := record.flight) is not None:
            await flight.wait()
            if record.read_at >= begin:
                return True
            if flight.failed:
                return False
        return await self._fetch(record) is None

    async def _fetch(self, record: ReplicaState) -> StorageError | None:
        """Read L2's state into the view; returns the error where L2 does not answer."""
        record.flight = flight = Flight(self._runtime)
        try:
            state = await self._l2.get_state(record.identifier, record.limit.name)
            if state is not None and self._is_ahead(record, state):
                # A decision of L2 brings it back. Views and charges do not, and here L1 decides.
                await self._l2.acquire(record.identifier, record.limit, 0.0, self._latest_time(record))
                state = await self._l2.get_state(record.identifier, record.limit.name)
        except KeyRefusedError:
            self.refuse(record)
            return None
        except StorageError as error:
            flight.failed = True
            return error
        else:
            self._counters.reads += 1
            self.store(record, state)
            return None
        finally:
            record.flight = None
            flight.set()
            self.on_read_done(record)

    def _refresh(self, record: ReplicaState, now: float) -> None:
        # Until the answer is there, or is overdue, requests go on with the view that there is.
        record.fresh_until = min(record.read_at + self._config.l1_ttl, now + self._config.max_wait)
        if record.flight is None:
            self._counters.refreshes += 1
            self._supervisor.start(REFRESH, self._fetch_in_background, record)

    async def _fetch_in_background(self, record: ReplicaState) -> None:
        if record.flight is None and (error := await self._fetch(record)) is not None:
            raise error

    # -- the view -----------------------------------------------------------------------------------------------------

    def store(self, record: ReplicaState, state: RateLimitState | None) -> None:
        """Replace L1's view by L2's state and the consumption that L2 may not know.

        Parameters
        ----------
        record
            The record of the limit.
        state
            L2's answer; None where it has no state.
        """
        record.read_at = now = self._runtime.monotonic()
        record.fresh_until, record.refused_until = now + self._fresh_for, -math.inf
        unsettled = record.unsettled()
        algorithm, p, _, _ = bind(record.limit)
        rule = algorithm.rule
        if state is None:
            record.version, record.marks = NOTHING_SEEN, {}
            if not unsettled:
                self._l1.remove_entry(record.key)
                return
            first = unsettled[0][0]
            s = [0.0] * rule.size(p)
            rule.start(s, p, first)
            state = RateLimitState(AlgorithmData.of(algorithm.name, algorithm.stored(s)), first, first)
        else:
            if self._is_ahead(record, state):  # the answer to a flush: the next decision reads, which brings L2's state back
                record.fresh_until = -math.inf
            record.version, record.marks = (state.created_at, state.request_count), state.watermarks
            mark = record.marks.get(self._config.node)
            if mark is not None and mark.epoch > record.epoch:  # of a life whose clock was ahead: L2 would ignore this one
                self._epoch = max(self._epoch, mark.epoch)
                self.begin_epoch(record)
            if state.algorithm_data.algorithm != algorithm.name:
                return
        entry = self._l1.set_state_nowait(record.identifier, state, math.inf, record.limit.name)
        s = entry.load()
        for time, cost, _ in unsettled:
            if time > s[0]:
                rule.refresh(s, p, time)
            rule.charge(s, p, cost, time)
        entry.store(s)
        entry.expires_at = s[0] + rule.reset_after(s, p, s[0]) + EXPIRY_MARGIN

    def _is_ahead(self, record: ReplicaState, state: RateLimitState) -> bool:
        """Return whether L2's state is too far ahead of this node's time, so that a wrong clock has written it."""
        data = state.algorithm_data
        if self._server_clock or data.algorithm != record.limit.algorithm:
            return False
        own_time = data.fields.get(bind(record.limit).algorithm.rule.FIELDS[0])
        bound = min(self._config.max_clock_skew, record.limit.period)
        return isinstance(own_time, float) and own_time - self._latest_time(record) > bound

    def _latest_time(self, record: ReplicaState) -> float:
        """Return the time of the last request, whose caller may count time in another way, or of the clock if later."""
        return max(self._runtime.time(), record.asked_at)

    def refuse(self, record: ReplicaState) -> None:
        """Note that L2 refuses the key for good: L1 decides alone, on what it knows, and asks L2 again after `l1_ttl`."""
        record.read_at = now = self._runtime.monotonic()
        record.fresh_until = record.refused_until = now + self._config.l1_ttl

    def invalidate(self, record: ReplicaState) -> None:
        """Drop the view: the next decision reads L2. The view of a key that L2 refuses stays, as L2 has none."""
        if self._runtime.monotonic() < record.refused_until:
            return
        record.read_at = record.fresh_until = -math.inf
        self._l1.remove_entry(record.key)


def _idle(record: ReplicaState) -> bool:
    return not record.dirty and not record.sending and record.flight is None


def _ignore(_: ReplicaState) -> None:
    """Do nothing when a read is over."""
