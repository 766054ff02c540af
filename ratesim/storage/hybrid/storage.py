"""`HybridStorage`: memory before a shared storage, by a policy for deciding, reading and writing each."""

from __future__ import annotations

import logging
import uuid
from _thread import get_ident
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

import msgspec
import numpy as np

from ratesim.errors import (
    BatchError,
    KeyRefusedError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    require_all,
)
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost, check_time
from ratesim.runtime import AsyncioRuntime, Binding, Event, Mutex, Runtime, Supervisor, Task, keep_alive
from ratesim.state import RateLimitState
from ratesim.storage.base import (
    Charge,
    RateLimitStorage,
    Request,
    StorageHealth,
    StorageStats,
    adaptive_limits,
    check_identifier,
    check_requests,
)
from ratesim.storage.config import HybridStorageConfig, MemoryStorageConfig
from ratesim.storage.hybrid.fallback import FallbackPolicy
from ratesim.storage.hybrid.lease import lease_terms
from ratesim.storage.hybrid.lease_manager import RENEWAL, RETURN, LeaseManager
from ratesim.storage.hybrid.local_decisions import LocalDecider
from ratesim.storage.hybrid.node_claim import CLAIM, NodeClaim
from ratesim.storage.hybrid.read_cache import REFRESH, ViewCache
from ratesim.storage.hybrid.sync_stats import SyncCounters, SyncStats
from ratesim.storage.hybrid.write_behind import FLUSH, WriteBehindQueue
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["HybridStorage"]

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1000  # requests of one call that wait for L2 together


class HybridStorage(RateLimitStorage):
    """A node's memory (L1) before a storage that the nodes share (L2).

    Three policies of the configuration are independent: `consistency` (where a request is decided), `read` (where L1's view
    comes from) and `write` (how admitted cost reaches L2). docs/hybrid.md states the guarantee of each.

    Parameters
    ----------
    l2
        The shared storage; closed with this one.
    config
        The policies.
    runtime
        Time and tasks; by default the running asyncio loop.
    rng
        Draws the phase of the flushes.
    sequence
        Numbers decisions, as in MemoryStorage.

    Attributes
    ----------
    l1
        The memory that holds the views.
    counters
        The counts of `sync_stats`.
    supervisor
        The background tasks: flush, refresh, lease renewal and lease return.
    """

    def __init__(
        self,
        l2: RateLimitStorage,
        config: HybridStorageConfig | None = None,
        runtime: Runtime | None = None,
        rng: np.random.Generator | None = None,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        config = config or HybridStorageConfig()
        self.runtime = runtime or AsyncioRuntime()
        self.l2 = l2
        self._name = config.node  # as the user gave it
        self._rng = rng
        self._sequence = sequence
        self._opened = self._closed = False
        self._turn = Mutex(self.runtime)  # of opening and closing, one after the other
        self._under_way = 0  # requests that wait for L2
        self._idle: Event | None = None  # awaited by `close`
        self._live = self.runtime.realtime
        self._binding = Binding(self._move, self._live)
        self._begin(msgspec.structs.replace(config, node=config.node or uuid.uuid4().hex))

    def _begin(self, config: HybridStorageConfig) -> None:
        """Be a node that has seen and admitted nothing yet."""
        self.config = config
        l1_config = MemoryStorageConfig(
            max_entries=config.max_entries,
            memory_limit=config.memory_limit,
            eviction_policy=config.eviction_policy,
            thread_safe=False,
            max_clock_skew=config.max_clock_skew,
        )
        self.l1 = MemoryStorage(l1_config, self.runtime, self._sequence)
        self.counters = SyncCounters()
        self.supervisor = Supervisor(self.runtime, logger, FLUSH, REFRESH, RENEWAL, RETURN, CLAIM)
        self._fallback = FallbackPolicy(config)
        self._claim = None
        if self._live and config.node == self._name:
            self._claim = NodeClaim(self.l2, config.node, self.runtime, self.supervisor, self._begin_epochs)
        self._connect()

    def _connect(self) -> None:
        """Make everything that has tasks and futures of a loop."""
        common = (self.config, self.runtime, self.counters, self.supervisor)
        self._views = ViewCache(self.l1, self.l2, *common)
        self._write_behind = WriteBehindQueue(self.l1, self.l2, *common, self._rng, self._views)
        self._write_behind.before_flush = None if self._claim is None else self._claim.ensure
        self._leases = LeaseManager(self.l2, *common, self._sequence)
        self._local = LocalDecider(
            self.l1,
            self.config,
            self.runtime,
            self.counters,
            self._sequence,
            self._views,
            self._write_behind,
            self._fallback,
        )
        # Attributes of attributes that every request reads.
        self._time, self._monotonic = self.runtime.time, self.runtime.monotonic
        self._records = self._views.records
        self._may_decide_nowait = self.config.consistency == "eventual" and self.config.write == "write_back"

    def _move(self, forked: bool) -> None:
        self._turn = Mutex(self.runtime)
        self._opened = self._opened and not forked
        self._renew(forked)

    def _renew(self, forked: bool = False) -> None:
        """Begin anew as another node in the child of a fork; on another loop go on as the same node.

        Views, consumption and leases at the time of the fork are the parent's, which flushes and returns them.
        """
        views, leases = self._views, self._leases
        self._under_way = 0  # what was there ends with its process or loop
        if forked:
            keep_alive((views, self._write_behind, leases))
            self._rng = None
            unique = uuid.uuid4().hex
            self._begin(
                msgspec.structs.replace(self.config, node=f"{self._name[:47]}-{unique[:16]}" if self._name else unique)
            )
            return
        self._connect()
        self._views.adopt(views)
        self._leases.adopt(leases)
        self._write_behind.adopt()
        if self._claim is not None:
            self._claim.resume()

    def _begin_epochs(self) -> None:
        """Let no charge of another node under this node's name be taken for one of its own."""
        for record in self._views.records.values():
            self._views.begin_epoch(record)

    def _enter(self) -> None:
        """See that this storage is open and belongs to the running loop."""
        if self._live:
            if self._closed:
                raise StorageError("the storage is closed: open it again")
            self._binding.enter()

    async def open(self) -> Self:
        """Open L2. Background tasks start when there is something for them to do.

        A node opens also while L2 is away, for which it has its memory and a policy. A storage that was closed goes on with
        the consumption that it could not flush then.
        """
        if self._live:
            self._binding.enter()
        async with self._turn:
            if self._closed:
                self._opened = self._closed = False
                self._renew()
            if not self._opened:
                await self._open()
        return self

    async def _open(self) -> None:
        try:
            await self.l2.open()
        except (StorageConnectionError, StorageTimeoutError) as error:
            logger.warning("opened while L2 is away: %s", error)
        if self._claim is not None:
            try:
                await self._claim.take()
            except BaseException:
                self._shut()
                self._claim.stop()
                await self.l2.close()
                raise
        self._opened = True

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        """Decide by the consistency policy, in L1, in L2 or on a lease."""
        binding = self._binding
        # As `Binding.enter` finds out, in half the time: one loop at most runs in a thread.
        if self._live and (get_ident() != binding.thread or not binding.loop.is_running()):
            self._enter()
        if now is None:
            now = self._time()
        decision = self.acquire_nowait(identifier, limit, cost, now)
        if decision is not None:
            return decision
        check_identifier(identifier)
        limits, now = as_limits(limit), check_time(now)
        self._under_way += 1
        try:
            if self.config.consistency == "strong":
                answer = self.l2.acquire(identifier, limits, cost, now)
                return await self._answer_or_fall_back(answer, identifier, limits, cost, now)
            if self.config.consistency == "lease":
                return await self._spend_lease(identifier, limits, cost, now)
            return await self._local.acquire(identifier, limits, check_cost(cost), now, session)
        finally:
            self._leave()

    def _leave(self) -> None:
        self._under_way -= 1
        if self._idle is not None and not self._under_way:
            self._idle.set()

    def acquire_nowait(self, identifier: str, limit: Limits, cost: float, now: float) -> Decision | None:
        """Decide at once on a fresh view, where the policies let the node decide alone and write to L2 later.

        Parameters
        ----------
        identifier, limit, cost
            As of `acquire`.
        now
            The time of the request, seconds since the epoch.

        Returns
        -------
        Decision or None
            None where `acquire` would have to wait: for a read of L2, for L2's own decision, or for a write; and where
            several limits apply. Nothing has changed then, and the caller awaits `acquire` instead.

        Raises
        ------
        InvalidLimitError
            The cost is invalid.
        """
        if not self._may_decide_nowait or limit.__class__ is not Limit:
            return None
        name = limit.name
        record = self._records.get((identifier, name) if name else identifier)
        time = self._monotonic()
        if record is None or time >= record.fresh_until or record.limit is not limit:
            return None
        if cost != 1.0:
            cost = check_cost(cost)
        decision = record.decide(identifier, cost, now)
        decision.view_age = time - record.read_at
        if decision.allowed and cost:
            if record.since <= now < record.until:
                record.cost += cost
                record.requests += 1
                if now > record.time:
                    record.time = now
            else:
                self._write_behind.note(record, now, cost)
        return decision

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide what the node can decide alone at once, and the others together: L2 is waited for once, not for each.

        Raises
        ------
        InvalidLimitError
            A limit, a cost or an identifier is invalid. Nothing was decided.
        BatchError
            Some requests failed. Its `results` have the decisions of the others.
        """
        self._enter()
        results: list[object] = []
        checked = check_requests(requests)
        for first in range(0, len(checked), MOST_AT_ONCE):
            results += await self._acquire_together(checked[first : first + MOST_AT_ONCE])
        return require_all(results)

    async def _acquire_together(self, requests: Sequence[Request]) -> list[object]:
        if self.config.consistency == "strong":
            return await self._decide_in_l2(requests)
        results: list[object] = []
        tasks: list[tuple[int, Task]] = []
        for place, each in enumerate(requests):
            now = self._time() if each.now is None else each.now
            decision = self.acquire_nowait(each.identifier, each.limit, each.cost, now)
            results.append(decision)
            if decision is None:
                tasks.append((place, self.runtime.spawn(self.acquire(each.identifier, each.limit, each.cost, now))))
        try:
            for place, task in tasks:
                try:
                    results[place] = await task
                except StorageError as error:
                    results[place] = error
        finally:
            for _, task in tasks:
                if not task.done():  # this call was canceled
                    task.cancel()
        return results

    # -- where L2 decides ---------------------------------------------------------------------------------------------

    async def _decide_in_l2(self, requests: Sequence[Request]) -> list[object]:
        """Let L2 decide requests in their order."""
        times = [self._time() if each.now is None else check_time(each.now) for each in requests]
        timed = [msgspec.structs.replace(each, now=now) for each, now in zip(requests, times, strict=True)]
        answers: Sequence[object]
        self._under_way += 1
        try:
            answers = await self.runtime.abandon_after(self.l2.acquire_many(timed), self.config.max_wait)
        except BatchError as error:
            answers = error.results
        except TimeoutError:
            answers = [self._no_answer()] * len(timed)
        except StorageError as error:
            answers = [error] * len(timed)
        finally:
            self._leave()
        results: list[object] = []
        for each, now, answer in zip(requests, times, answers, strict=True):
            result = answer
            if isinstance(answer, StorageError):
                try:
                    result = self._settle(answer, each.identifier, as_limits(each.limit), each.cost, now)
                except StorageError as error:
                    result = error
            results.append(result)
        return results

    async def _spend_lease(self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float) -> Decision:
        if len(limits) == 1:
            decision = self._leases.spend(identifier, limits[0], cost, now)
            if decision is None:
                leased = self._leased_limits(limits)
                answer = self._leases.acquire(identifier, limits[0], cost, now)
                decision = await self._answer_or_fall_back(answer, identifier, leased, cost, now)
        else:  # all admit or none is charged, which only L2 can decide; with the limits that leases are borrowed of
            leased = self._leased_limits(limits)
            answer = self.l2.acquire(identifier, leased, cost, now)
            decision = await self._answer_or_fall_back(answer, identifier, leased, cost, now)
        decision.limit = next(each for each in limits if each.name == decision.limit.name)
        return decision

    def _leased_limits(self, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return tuple(lease_terms(each, self.config.lease_ttl).limit for each in limits)

    async def _answer_or_fall_back(
        self, answer: Awaitable[Decision], identifier: str, limits: tuple[Limit, ...], cost: float, now: float
    ) -> Decision:
        """Return L2's decision, the fallback policy's where L2 does not answer in time, or L1's where L2 refuses the key."""
        try:
            return await self.runtime.abandon_after(answer, self.config.max_wait)
        except TimeoutError:
            return self._settle(self._no_answer(), identifier, limits, cost, now)
        except StorageError as error:
            return self._settle(error, identifier, limits, cost, now)

    def _no_answer(self) -> StorageError:
        return StorageTimeoutError(f"no answer of L2 within {self.config.max_wait:g} s")

    def _settle(
        self, failure: StorageError, identifier: str, limits: tuple[Limit, ...], cost: float, now: float
    ) -> Decision:
        """Decide by L1 what L2 refuses for good, and by the fallback policy what it failed to decide."""
        if isinstance(failure, KeyRefusedError):
            return self.l1.acquire_nowait(identifier, limits[0] if len(limits) == 1 else limits, cost, now)
        return self._fall_back(identifier, limits, check_cost(cost), now, failure)

    def _fall_back(
        self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, failure: StorageError
    ) -> Decision:
        """Decide by the fallback policy.

        Cost that it admits is written to L2 later, unless L2 may have charged the request already.
        """
        self.counters.fallback_decisions += 1
        records = [self._views.record(identifier, each) for each in limits]
        allowed = self._fallback.admits(records, cost, now)
        if allowed and cost and isinstance(failure, StorageConnectionError) and not failure.sent:
            for record in records:
                self._write_behind.note(record, now, cost)
        return self._fallback.decision(allowed, limits[0])

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Answer as `acquire` would and change nothing, on the view or in L2 as the consistency policy says."""
        self._enter()
        now = self.runtime.time() if now is None else now
        check_identifier(identifier)
        limits = as_limits(limit)
        if self.config.consistency in ("strong", "lease"):
            limits = limits if self.config.consistency == "strong" else self._leased_limits(limits)
            with suppress(KeyRefusedError):
                return await self.l2.peek(identifier, limits, cost, now)
        else:
            _, fresh = await self._local.fresh_records(identifier, limits, {}, check_time(now))
            if not fresh and self._fallback.policy == "fail_closed":
                return self._fallback.decision(False, limits[0])
        return self.l1.peek_nowait(identifier, limits[0] if len(limits) == 1 else limits, cost, now)

    # -- the rest of the interface ------------------------------------------------------------------------------------

    async def reset(self, identifier: str) -> None:
        """Drop the identifier in L2 and at this node, its unsent consumption and leases included."""
        self._enter()
        self._drop(check_identifier(identifier))
        with suppress(KeyRefusedError):  # L2 has nothing of it
            await self.l2.reset(identifier)
        await self.l1.reset(identifier)

    def _drop(self, identifier: str, name: str | None = None) -> None:
        self._leases.forget(identifier, name)
        for record in self._views.of(identifier, name):
            self._write_behind.forget(record)
            self._views.forget(record)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Return the view with the unflushed consumption where L1 decides the limit, else L2's state."""
        self._enter()
        record = self._views.find(identifier, name)
        if record is None or self.config.consistency not in ("eventual", "session"):
            return await self.l2.get_state(identifier, name)
        if not await self._views.ensure_fresh(record):
            raise StorageConnectionError("L2 is away, and the view of its state is too old", sent=False)
        return await self.l1.get_state(identifier, name)

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Replace the state in L2 and at this node; unsent consumption of it is dropped."""
        self._enter()
        self._drop(identifier, name)
        await self.l2.set_state(identifier, state, ttl, name)
        await self.l1.set_state(identifier, state, ttl, name)

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a counter in L2."""
        self._enter()
        return await self.l2.increment(identifier, amount, window)

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Pass a score to L2, where the limit adapts; this node's view adapts alike until L2's state replaces it."""
        self._enter()
        now = self.runtime.time() if now is None else now
        limits = adaptive_limits(limit, score)
        check_identifier(identifier)
        with suppress(KeyRefusedError):  # L1 decides alone
            await self.l2.observe(identifier, limits, score, now)
        seen = tuple(each for each in limits if self._views.find(identifier, each.name) is not None)
        self.l1.observe_nowait(identifier, seen, score, now)

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Claim the name of a node in L2."""
        self._enter()
        return await self.l2.claim(name, holder, ttl)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply charges in L2, and update the views of this node."""
        self._enter()
        try:
            results = await self.l2.charge_many(charges)
        except BatchError as error:
            self._store_views(charges, error.results)
            raise
        self._store_views(charges, results)
        return results

    def _store_views(self, charges: Sequence[Charge], results: Sequence[object]) -> None:
        for charge, state in zip(charges, results, strict=True):
            record = self._views.find(charge.identifier, charge.limit.name)
            if record is not None and isinstance(state, RateLimitState):
                self._views.store(record, state)

    async def health_check(self) -> StorageHealth:
        """Check L2; unhealthy also while the last round of a background task failed."""
        health, problems = await self.l2.health_check(), self.supervisor.problems
        if not problems:
            return health
        return StorageHealth(False, health.latency, f"{health.detail}; {problems}" if health.detail else problems)

    async def cleanup_expired(self) -> int:
        """Drop expired entries of L1 and L2."""
        self._enter()
        dropped = await self.l1.cleanup_expired()
        self._views.forget_expired()
        return dropped + await self.l2.cleanup_expired()

    async def get_stats(self) -> StorageStats:
        """Return entries and bytes of L1 with the errors of L2; hits are decisions that needed no read of L2."""
        self._enter()
        l1, l2 = await self.l1.get_stats(), await self.l2.get_stats()
        reads = self.counters.reads
        return StorageStats(
            entries=l1.entries,
            bytes=l1.bytes,
            operations=l2.operations,
            hits=max(l1.operations - reads, 0),
            misses=reads,
            evictions=l1.evictions,
            memory_evictions=l1.memory_evictions,
            harmful_evictions=l1.harmful_evictions,
            cost_forgotten=l1.cost_forgotten,
            expirations=l1.expirations,
            restarts=l1.restarts,
            background_failures=self.supervisor.failures + l1.background_failures + l2.background_failures,
            clock_rewinds=l1.clock_rewinds + l2.clock_rewinds,
            errors=l2.errors,
            dead_rows=l2.dead_rows,
            hot_ratio=l2.hot_ratio,
            partitions=l2.partitions,
            upkeep=l2.upkeep,
        )

    def sync_stats(self) -> SyncStats:
        """Return the statistics of the synchronization between L1 and L2."""
        unflushed, requests = self._write_behind.unflushed()
        counts = {name: getattr(self.counters, name) for name in SyncCounters.__slots__}
        breaker = self.l2.client.breaker if isinstance(self.l2, RemoteStorage) else ""
        return SyncStats(
            **counts,
            unflushed=unflushed,
            unflushed_requests=requests,
            leased_outstanding=self._leases.outstanding(),
            breaker=breaker,
            background_failures=self.supervisor.failures,
        )

    async def flush(self) -> bool:
        """Send all unsent consumption now; returns whether L2 has taken in what it does not refuse for good."""
        self._enter()
        return await self._write_behind.flush_all() is None

    async def _let_finish(self) -> None:
        """Wait until no request is under way, for `max_wait` seconds at most."""
        if self._under_way > 0:
            self._idle = Event(self.runtime)
            try:
                await self.runtime.timeout(self._idle.wait(), self.config.max_wait)
            except TimeoutError:
                logger.warning("closed while requests were under way for more than %g s", self.config.max_wait)

    def kill(self) -> None:
        """Stop at once, as a crash of the process would; `sync_stats().dropped_cost` counts the unflushed consumption."""
        self._closed = True
        self._write_behind.kill()
        self._leases.kill()

    async def close(self) -> None:
        """Refuse further requests, let those under way finish, flush, give leases back, and close L2.

        Requests that have not finished after `max_wait` seconds are no longer waited for. What L2 refuses for good is no
        error here: `sync_stats` counts it.

        Raises
        ------
        StorageError
            L2 is away or fails, and consumption was not flushed.
        """
        if self._closed:
            return
        self._enter()
        async with self._turn:
            if not self._closed:
                await self._close()

    def _shut(self) -> None:
        """Refuse further requests."""
        self._closed = True
        self._binding.leave()  # so that each request looks whether the storage is closed
        self._may_decide_nowait = self._may_decide_nowait and not self._live

    async def _close(self) -> None:
        self._shut()
        try:
            await self._let_finish()
            self._write_behind.stop()
            error = await self._write_behind.flush_all()
            await self._leases.close()
            if self._claim is not None:
                await self._claim.release()
            lost = self._write_behind.unflushed()[0]
        finally:
            self._write_behind.stop()
            if self._claim is not None:
                self._claim.stop()
            await self.l2.close()
        if error is not None:
            raise StorageError(f"closed while L2 was away: {lost:g} of consumption was not flushed ({error})") from error
