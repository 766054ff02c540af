"""`HybridStorage`: memory (L1) before a shared storage (L2).

strong: L2 decides. eventual: L1 decides, on its last view of L2 plus what this node has consumed since. What reaches L2 is
consumption, never a state: two nodes that overwrite each other's states would lose what the other admitted. A flush carries
what (node, epoch) had consumed before it, so L2 applies a repeated or overtaken flush once (`unseen` in charging.py).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np

from ratesim.algorithms import bind
from ratesim.errors import StorageError
from ratesim.limit import Decision, Limit, Limits, as_limits
from ratesim.runtime import AsyncioRuntime, Future, Runtime, Task
from ratesim.state import RateLimitState
from ratesim.storage.base import EXPIRY_MARGIN, Charge, RateLimitStorage, StorageHealth, StorageStats, learning
from ratesim.storage.charging import consumed_after
from ratesim.storage.config import HybridStorageConfig, MemoryStorageConfig
from ratesim.storage.memory import MemoryStorage

__all__ = ["HybridStorage"]


class _Record:
    """What this node knows of one limit of one identifier, beside the view in L1."""

    __slots__ = (
        "acked",
        "admitted",
        "epoch",
        "flight",
        "identifier",
        "limit",
        "overdue",
        "pending",
        "read_at",
        "sending",
        "settled",
    )

    def __init__(self, identifier: str, limit: Limit, epoch: int) -> None:
        self.identifier = identifier
        self.limit = limit
        self.epoch = epoch
        self.acked = 0.0  # cost admitted here in this epoch that L2 has taken in
        self.admitted = 0  # requests admitted here
        self.settled = 0  # of them, those that L2 knows
        self.pending: list[tuple[float, float, int]] = []
        self.sending: list[tuple[float, float, int]] = []
        self.flight: Future[None] | None = None
        self.overdue = False  # a tick found it being read: it is flushed when the answer is there
        self.read_at = -math.inf  # when L2 was last seen

    def add(self, time: float, cost: float, grain: float) -> None:
        """Note an admitted cost; costs of one grain travel as one entry."""
        self.admitted += 1
        if self.pending:
            last, merged, requests = self.pending[-1]
            if last == time or (grain and (math.isinf(grain) or math.floor(last / grain) == math.floor(time / grain))):
                self.pending[-1] = (max(last, time), merged + cost, requests + 1)
                return
        self.pending.append((time, cost, 1))


class HybridStorage(RateLimitStorage):
    """L1 and L2 under one roof.

    l2: the shared storage; closed with this one.
    rng: draws the phase of the flushes. sequence: as in MemoryStorage.
    """

    def __init__(
        self,
        l2: RateLimitStorage,
        config: HybridStorageConfig | None = None,
        runtime: Runtime | None = None,
        rng: np.random.Generator | None = None,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        self.config = config = config or HybridStorageConfig()
        self.runtime = runtime or AsyncioRuntime()
        self.l1 = MemoryStorage(MemoryStorageConfig(max_entries=config.max_entries), self.runtime, sequence)
        self.l2 = l2
        self.node = config.node or uuid.uuid4().hex
        self.l1_hits = self.l2_reads = self.flushes = self.failed_flushes = self.decided_without_l2 = 0
        self._records: dict[tuple[str, str], _Record] = {}
        self._dirty: dict[_Record, None] = {}  # in the order in which they became so
        self._epoch = int(self.runtime.time() * 1e6)  # above every epoch of an earlier life of this node
        draw = 0.0 if config.sync_jitter == 0 else float((rng or np.random.default_rng()).random())
        self._phase = draw * config.sync_jitter * config.sync_interval
        self._worker: Task | None = None
        self._closed = False

    async def open(self) -> Self:
        await self.l2.open()
        return self

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        now = self.runtime.time() if now is None else now
        if self.config.consistency == "strong":
            try:
                return await self.l2.acquire(identifier, limit, cost, now)
            except StorageError:
                return self._without_l2(limit)
        limits = (limit,) if isinstance(limit, Limit) else as_limits(limit)
        records = await self._seen(identifier, limits, now)
        if records is None:
            return self._without_l2(limit)
        decision = self.l1.decide(identifier, limit, cost, now)
        decision.view_age = self.runtime.time() - min(record.read_at for record in records)
        if decision.allowed and cost:
            for record in records:
                record.add(now, float(cost), bind(record.limit).algorithm.rule.grain(bind(record.limit).params))
                self._dirty[record] = None
            if self.config.write == "write_through":
                await self._through(records)
            else:
                self._wake()
        return decision

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        now = self.runtime.time() if now is None else now
        if self.config.consistency == "strong":
            return await self.l2.peek(identifier, limit, cost, now)
        if await self._seen(identifier, as_limits(limit), now) is None:
            return self._without_l2(limit)
        return self.l1.decide(identifier, limit, cost, now, consume=False)

    def _without_l2(self, limit: Limits) -> Decision:
        self.decided_without_l2 += 1
        allowed = self.config.when_away == "fail_open"
        return Decision(allowed, 0.0, 0.0 if allowed else 1.0, 1.0, as_limits(limit)[0])

    async def _seen(self, identifier: str, limits: tuple[Limit, ...], now: float) -> list[_Record] | None:
        """The records of the limits, each with a view of L2 that is young enough; None when L2 is away and must be asked."""
        records = []
        for limit in limits:
            record = self._records.get((identifier, limit.name))
            if record is None:
                record = self._new_record(identifier, limit)
            record.limit = limit
            if self.runtime.time() - record.read_at < self.config.l1_ttl:
                self.l1_hits += 1
            elif not await self._read(record) and self.config.when_away == "fail_closed":
                return None
            records.append(record)
        return records

    def _new_record(self, identifier: str, limit: Limit) -> _Record:
        if len(self._records) >= self.config.max_entries:
            self._forget_clean()
        self._epoch += 1
        record = self._records[identifier, limit.name] = _Record(identifier, limit, self._epoch)
        return record

    def _forget_clean(self) -> None:
        # A tenth at once, oldest first, so that this costs O(1) for each new key. What is dirty stays until it is flushed.
        room = max(1, self.config.max_entries // 10)
        for key in [key for key, record in self._records.items() if record not in self._dirty and not record.sending][:room]:
            del self._records[key]

    async def _read(self, record: _Record) -> bool:
        """Bring L2's state into the view; callers that come meanwhile wait for the same answer."""
        if record.flight is not None:
            await record.flight
            return self.runtime.time() - record.read_at < self.config.l1_ttl
        record.flight = flight = self.runtime.future()
        try:
            state = await self.l2.get_state(record.identifier, record.limit.name)
        except StorageError:
            return False
        else:
            self.l2_reads += 1
            record.read_at = self.runtime.time()
            if state is not None:
                self._view(record, state)
            return True
        finally:
            record.flight = None
            flight.set_result(None)
            if record.overdue:
                record.overdue = False
                self.runtime.spawn(self._catch_up(record))

    def _view(self, record: _Record, state: RateLimitState) -> None:
        """L1's view becomes what L2 says plus what L2 does not know yet."""
        algorithm, p, _, _ = bind(record.limit)
        rule = algorithm.rule
        if state.algorithm_data.algorithm != algorithm.name:
            return
        entry = self.l1.put(record.identifier, state, math.inf, record.limit.name)
        s = entry.load()
        for time, cost, _ in (*record.sending, *record.pending):
            if time > s[0]:
                rule.refresh(s, p, time)
            rule.charge(s, p, cost, time)
        entry.store(s)
        entry.expires_at = s[0] + rule.fresh_after(s, p, s[0]) + EXPIRY_MARGIN

    # -- flushing -----------------------------------------------------------------------------------------------------

    async def _through(self, records: Sequence[_Record]) -> None:
        """Wait until L2 has taken in all that these records had consumed; if it cannot, the background keeps trying."""
        for record, target in [(record, record.admitted) for record in records]:
            while record.settled < target:
                if record.flight is not None:
                    await record.flight
                elif not await self._flush([record]):
                    self._wake()
                    return

    def _wake(self) -> None:
        if self._worker is None and not self._closed:
            self._worker = self.runtime.spawn(self._work())

    async def _work(self) -> None:
        """Flush at every tick for as long as something is dirty. Ticks are multiples of the interval, plus the phase."""
        interval = self.config.sync_interval
        while self._dirty:
            now = self.runtime.time()
            tick = math.floor((now - self._phase) / interval + 1.0) * interval + self._phase
            await self.runtime.sleep(tick - now)
            await self._flush(list(self._dirty))
        self._worker = None

    async def _catch_up(self, record: _Record) -> None:
        """Flush what a tick could not, because it was being read then: a view that is read often must not stay unflushed."""
        if not self._closed and not await self._flush([record]):
            self._wake()

    async def _flush(self, records: Iterable[_Record]) -> bool:
        """Send what is pending of these records; whether L2 took it in. What it did not stays pending, and dirty."""
        flying = []
        for record in records:
            if record.pending:
                if record.flight is None:
                    flying.append(record)
                else:
                    record.overdue = not record.sending
        if not flying:
            return True
        flight: Future[None] = self.runtime.future()
        for record in flying:
            record.flight = flight
            record.sending, record.pending = record.pending, []
            self._dirty.pop(record, None)
        self.flushes += 1
        try:
            states = await self.l2.charge_many([self._charge(record) for record in flying])
        except StorageError:
            self.failed_flushes += 1
            for record in flying:
                record.pending = record.sending + record.pending
                record.sending = []
                self._dirty[record] = None
            return False
        else:
            seen = self.runtime.time()
            for record, state in zip(flying, states, strict=True):
                record.acked = consumed_after(record.acked, record.sending)
                record.settled += sum(requests for _, _, requests in record.sending)
                record.sending = []
                record.read_at = seen
                self._view(record, state)
            return True
        finally:
            for record in flying:
                record.flight = None
            flight.set_result(None)

    def _charge(self, record: _Record) -> Charge:
        return Charge(record.identifier, record.limit, self.node, record.epoch, record.acked, tuple(record.sending))

    # -- the rest of the interface ------------------------------------------------------------------------------------

    async def reset(self, identifier: str) -> None:
        self._drop(identifier)
        await self.l2.reset(identifier)
        await self.l1.reset(identifier)

    def _drop(self, identifier: str, name: str | None = None) -> None:
        for key in [key for key in self._records if key[0] == identifier and name in (None, key[1])]:
            self._dirty.pop(self._records.pop(key), None)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        if self.config.consistency == "eventual" and (identifier, name) in self._records:
            state = await self.l1.get_state(identifier, name)
            if state is not None:
                return state
        return await self.l2.get_state(identifier, name)

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        self._drop(identifier, name)
        await self.l2.set_state(identifier, state, ttl, name)
        await self.l1.set_state(identifier, state, ttl, name)

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        return await self.l2.increment(identifier, amount, window)

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Goes to L2, where the limit moves. A view that this node has of it learns the same, until it is next replaced."""
        now = self.runtime.time() if now is None else now
        limits = learning(limit, score)
        await self.l2.observe(identifier, limits, score, now)
        if self.config.consistency != "strong":
            seen = tuple(each for each in limits if (identifier, each.name) in self._records)
            self.l1.learn(identifier, seen, score, now)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        states = await self.l2.charge_many(charges)
        for charge, state in zip(charges, states, strict=True):
            record = self._records.get((charge.identifier, charge.limit.name))
            if record is not None:
                self._view(record, state)
        return states

    async def health_check(self) -> StorageHealth:
        return await self.l2.health_check()

    async def cleanup_expired(self) -> int:
        return await self.l1.cleanup_expired() + await self.l2.cleanup_expired()

    async def get_stats(self) -> StorageStats:
        """Entries and bytes of L1 with the errors of L2; hits are decisions that needed no read of L2."""
        near, far = await self.l1.get_stats(), await self.l2.get_stats()
        return StorageStats(
            entries=near.entries,
            bytes=near.bytes,
            operations=far.operations,
            hits=self.l1_hits,
            misses=self.l2_reads,
            evictions=near.evictions,
            errors=far.errors,
        )

    async def flush(self) -> bool:
        """Send all that is pending now; whether L2 took it in."""
        for record in list(self._dirty):
            while record.flight is not None:
                await record.flight
        return await self._flush(list(self._dirty))

    def kill(self) -> None:
        """Stop at once, as a crash of the process would: what was not flushed is lost."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        self._dirty.clear()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        flushed = await self.flush()
        await self.l2.close()
        if not flushed:
            lost = math.fsum(cost for record in self._dirty for _, cost, _ in record.pending)
            raise StorageError(f"closed while L2 was away: {lost:g} of consumption was not flushed")
