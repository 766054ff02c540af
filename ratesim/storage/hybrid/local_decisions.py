"""`LocalDecider`: decisions on L1's view, for consistency eventual and session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from ratesim.limit import Decision, Limit
from ratesim.runtime import Runtime
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.fallback import FallbackPolicy
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.hybrid.session_token import MAX_OWN, SeenVersion, SessionToken, missing_consumption
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.hybrid.what_if import decide_with_extra
from ratesim.storage.hybrid.write_behind import WriteBehindQueue
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["LocalDecider"]

MOST_READS = 100  # that a decision makes because its view is dropped before it is used


class LocalDecider:
    """Makes eventual and session decisions on the local view.

    A decision refreshes the view if it is stale, decides, queues the write to L2, and issues the session token.
    """

    def __init__(
        self,
        l1: MemoryStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        counters: SyncCounters,
        sequence: Callable[[], int] | None,
        views: ViewCache,
        write_behind: WriteBehindQueue,
        fallback: FallbackPolicy,
    ) -> None:
        self._l1 = l1
        self._config = config
        self._runtime = runtime
        self._counters = counters
        self._sequence = sequence
        self._views = views
        self._write_behind = write_behind
        self._fallback = fallback

    async def acquire(
        self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, session: str | None
    ) -> Decision:
        """Decide on L1's view, queue the write to L2, and issue the session token.

        Parameters
        ----------
        identifier, limits, cost, now
            As of `RateLimitStorage.acquire`.
        session
            The token that the session brings along, if any.
        """
        seen = self._read_token(identifier, session)
        records, fresh = await self.fresh_records(identifier, limits, seen, now)
        if not fresh:
            self._counters.fallback_decisions += 1
            if not self._fallback.admits(records, cost, now):
                denied = self._fallback.decision(False, limits[0])
                denied.session = session or ""  # nothing was seen since
                return denied
        decision = self._decide(identifier, limits, records, seen, cost, now)
        if not fresh:
            decision.sequence = 0  # the fallback policy let it through, as where there is no view at all
        decision.view_age = self._runtime.monotonic() - min(record.read_at for record in records)
        spent = cost if decision.allowed else 0.0
        try:
            if spent:
                await self._write(records, now, spent)
            if self._config.consistency == "session":
                decision.session = await self._next_token(identifier, records, seen, spent, now, fresh)
        finally:  # also when the request is canceled
            if spent and self._config.write == "write_around":
                for record in records:
                    self._views.invalidate(record)
        return decision

    async def fresh_records(
        self, identifier: str, limits: tuple[Limit, ...], seen: dict[str, SeenVersion], now: float
    ) -> tuple[list[ReplicaState], bool]:
        """Return the record of each limit, its view refreshed if it is stale.

        Parameters
        ----------
        identifier, limits
            As of `RateLimitStorage.acquire`.
        seen
            The versions that the session has seen, by the name of the limit.
        now
            The time of the request, seconds since the epoch.

        Returns
        -------
        list of ReplicaState
            One record for each limit.
        bool
            Whether all views are fit to decide on; False where one is stale and L2 does not answer.
        """
        records: list[ReplicaState] = []
        fresh, around = False, self._config.write == "write_around"
        for _ in range(MOST_READS):
            records = [self._views.record(identifier, limit) for limit in limits]
            fresh = True
            for record in records:
                record.asked_at = now
                fresh = await self._views.ensure_fresh(record, seen.get(record.limit.name)) and fresh
            there = all(self._views.records.get(record.key) is record for record in records)
            if there and not (fresh and around and any(record.read_at == -inf for record in records)):
                break
            # Meanwhile another request made L1 evict one of them, or dropped a view that it had written around.
        return records, fresh

    def _decide(
        self,
        identifier: str,
        limits: tuple[Limit, ...],
        records: list[ReplicaState],
        seen: dict[str, SeenVersion],
        cost: float,
        now: float,
    ) -> Decision:
        node = self._config.node
        extra = [
            (record, missing_consumption(seen[record.limit.name], record, node, now) if record.limit.name in seen else [])
            for record in records
        ]
        stricter = None
        if any(missing for _, missing in extra):
            allowed, stricter = decide_with_extra(self._l1, extra, cost, now)
            if not allowed:
                return self._numbered(stricter)
        decision = self._l1.acquire_nowait(identifier, limits[0] if len(limits) == 1 else limits, cost, now)
        if stricter is not None:
            decision.remaining, decision.reset_after = stricter.remaining, stricter.reset_after
            decision.limit = stricter.limit
        return decision

    def _numbered(self, decision: Decision) -> Decision:
        if self._sequence is not None:
            decision.sequence = self._sequence()
        return decision

    async def _write(self, records: Sequence[ReplicaState], now: float, cost: float) -> None:
        """Write an admitted cost to L2 as the write policy says."""
        if self._config.write == "write_behind":
            await self._write_behind.enqueue(records, now, cost)
            return
        for record in records:
            self._write_behind.note(record, now, cost)
        if self._config.write in ("write_through", "write_around"):
            await self._write_behind.write_through(records)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _read_token(self, identifier: str, session: str | None) -> dict[str, SeenVersion]:
        if self._config.consistency != "session" or not session:
            return {}
        token = SessionToken.decode(session, identifier)
        if token is None:
            self._counters.stale_tokens += 1
            return {}
        return token.seen

    async def _next_token(
        self,
        identifier: str,
        records: Sequence[ReplicaState],
        seen: dict[str, SeenVersion],
        cost: float,
        now: float,
        fresh: bool,
    ) -> str:
        """Return the session's next token; where it would grow too long, its consumption is written to L2 first."""
        node, nothing = self._config.node, SeenVersion()
        found = {}
        for record in records:
            before = seen.get(record.limit.name, nothing)
            after = before.after_decision(record, node, cost, now, fresh)
            if len(after.own) > MAX_OWN:
                await self._write_behind.write_through([record])
                after = before.after_decision(record, node, 0.0, now, fresh)
            found[record.limit.name] = after
        return SessionToken.for_identifier(identifier, found).encode()
