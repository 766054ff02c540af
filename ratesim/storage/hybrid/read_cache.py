"""`ViewCache`: what a node has last seen of L2, and has consumed since, of every limit that it decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator

from ratesim.algorithms import bind
from ratesim.errors import StorageError
from ratesim.limit import Limit
from ratesim.runtime import Runtime
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.base import EXPIRY_MARGIN, RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.replica_state import NOTHING_SEEN, ReplicaState
from ratesim.storage.hybrid.session_token import SeenVersion
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["ViewCache"]


class ViewCache:
    """The records, and their views in L1. A record goes when L1 evicts its view, or with it when that has expired.

    landed: told when a read of a record is over.
    """

    def __init__(
        self,
        l1: MemoryStorage,
        l2: RateLimitStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        tally: SyncCounters,
    ) -> None:
        self.records: dict[Hashable, ReplicaState] = {}
        self.landed: Callable[[ReplicaState], None] = _nobody
        self._l1 = l1
        self._l2 = l2
        self._config = config
        self._runtime = runtime
        self._counters = tally
        self._epoch = int(runtime.time() * 1e6)  # above every epoch of an earlier life of this node
        young = {"cache_aside": config.l1_ttl, "read_through": 0.0}.get(
            config.read, min(config.refresh_after, config.l1_ttl)
        )
        self._young = young
        l1.on_eviction(self._evicted)

    # -- records ------------------------------------------------------------------------------------------------------

    def record(self, identifier: str, limit: Limit) -> ReplicaState:
        """The record of a limit that asks now."""
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        record = self.records.get(key)
        if record is None:
            if len(self.records) >= 2 * self._config.max_entries:
                self._forget_clean()
            decide = self._l1.decider(limit)  # InvalidLimitError before anything is kept
            self._epoch += 1
            record = self.records[key] = ReplicaState(identifier, key, self._epoch)
            record.is_for(limit, decide)
        elif record.limit is not limit:
            record.is_for(limit, self._l1.decider(limit))
        return record

    def of(self, identifier: str, name: str | None = None) -> Iterator[ReplicaState]:
        """The records of an identifier, or the one of that name."""
        for record in list(self.records.values()):
            if record.identifier == identifier and name in (None, record.limit.name):
                yield record

    def find(self, identifier: str, name: str) -> ReplicaState | None:
        return self.records.get((identifier, name) if name else identifier)

    def forget(self, record: ReplicaState) -> None:
        """As if it had never been asked for."""
        self.records.pop(record.key, None)

    def forget_expired(self) -> None:
        """Records whose views L1 has dropped go as well."""
        for key in [key for key, record in self.records.items() if key not in self._l1.entries and _idle(record)]:
            del self.records[key]

    def _forget_clean(self) -> None:
        # Records without a view are of keys that were only denied. A tenth at once, oldest first: O(1) for each new key.
        room = max(1, self._config.max_entries // 10)
        for key in [key for key, record in self.records.items() if _idle(record)][:room]:
            del self.records[key]

    def _evicted(self, key: Hashable) -> None:
        record = self.records.get(key)
        if record is None:
            return
        if _idle(record):
            del self.records[key]
        else:
            record.read_at = record.young_until = -math.inf

    # -- reading ------------------------------------------------------------------------------------------------------

    async def ready(self, record: ReplicaState, seen: SeenVersion | None = None) -> bool:
        """See to it that the view may be decided on: young enough, and no older than what a session has seen. False when L2
        is away and it is not."""
        now = self._runtime.time()
        if now >= record.young_until:
            if self._config.read == "refresh_ahead" and now - record.read_at < self._config.l1_ttl:
                self._refresh(record, now)
            elif not await self.patient_read(record):
                return False
        if seen is None or seen.version <= record.version:
            return True
        # What is under way may have left L2 before the session had seen that; what is asked now has not. If that is older
        # still, L2 itself has gone back.
        return await self.patient_read(record) and (seen.version <= record.version or await self.patient_read(record))

    async def patient_read(self, record: ReplicaState) -> bool:
        """`read`, for `max_wait` seconds at most."""
        try:
            return await self._runtime.timeout(self.read(record), self._config.max_wait)
        except TimeoutError:
            return False

    async def read(self, record: ReplicaState) -> bool:
        """Bring L2's state into the view, or wait for what is under way already; whether L2 was heard of since."""
        asked = self._runtime.time()
        if record.flight is not None:
            await record.flight
            return record.read_at >= asked
        record.flight = flight = self._runtime.future()
        try:
            state = await self._l2.get_state(record.identifier, record.limit.name)
        except StorageError:
            return False
        else:
            self._counters.reads += 1
            self.store(record, state)
            return True
        finally:
            record.flight = None
            flight.set_result(None)
            self.landed(record)

    def _refresh(self, record: ReplicaState, now: float) -> None:
        # Until the answer is there, or is overdue, requests go on with the view that there is.
        record.young_until = min(record.read_at + self._config.l1_ttl, now + self._config.max_wait)
        if record.flight is None:
            self._counters.refreshes += 1
            self._runtime.spawn(self.read(record))

    # -- seeing -------------------------------------------------------------------------------------------------------

    def store(self, record: ReplicaState, state: RateLimitState | None) -> None:
        """L1's view becomes what L2 says plus what L2 does not know yet."""
        record.read_at = now = self._runtime.time()
        record.young_until = now + self._young
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
            record.version, record.marks = (state.created_at, state.request_count), state.watermarks
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

    def invalidate(self, record: ReplicaState) -> None:
        """Drop the view: the next decision reads L2."""
        record.read_at = record.young_until = -math.inf
        self._l1.remove_entry(record.key)


def _idle(record: ReplicaState) -> bool:
    return not record.dirty and not record.sending and record.flight is None


def _nobody(_: ReplicaState) -> None:
    """Nobody has to be told."""
