"""`LocalDecider`: decisions that L1 takes on its view, for consistency eventual and session."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratesim.limit import Decision, Limit
from ratesim.runtime import Runtime
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.fallback import FallbackPolicy
from ratesim.storage.hybrid.read_cache import ViewCache
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.hybrid.session_token import MOST_OWN, SeenVersion, SessionToken, unknown
from ratesim.storage.hybrid.sync_stats import SyncCounters
from ratesim.storage.hybrid.what_if import decide_with_extra
from ratesim.storage.hybrid.write_behind import WriteBehindQueue
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["LocalDecider"]


class LocalDecider:
    """Sees to a view that may be decided on, decides, has L2 told, and gives the session its token."""

    def __init__(
        self,
        l1: MemoryStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        tally: SyncCounters,
        sequence: Callable[[], int] | None,
        views: ViewCache,
        flusher: WriteBehindQueue,
        away: FallbackPolicy,
    ) -> None:
        self._l1 = l1
        self._config = config
        self._runtime = runtime
        self._counters = tally
        self._sequence = sequence
        self._views = views
        self._write_behind = flusher
        self._away = away

    async def acquire(
        self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, session: str | None
    ) -> Decision:
        """A decision on L1's view, and what follows from it."""
        seen = self._token(identifier, session)
        records, young = await self.looked_at(identifier, limits, seen)
        if not young:
            self._counters.fallback_decisions += 1
            if not self._away.admits(records, cost, now):
                denied = self._numbered(self._away.decision(False, limits[0]))
                denied.session = session or ""  # nothing was seen since
                return denied
        decision = self._decided(identifier, limits, records, seen, cost, now)
        decision.view_age = self._runtime.time() - min(record.read_at for record in records)
        spent = cost if decision.allowed else 0.0
        if spent:
            await self._tell(records, now, spent)
        if self._config.consistency == "session":
            decision.session = await self._next_token(identifier, records, seen, spent, now, young)
        if spent and self._config.write == "write_around":
            for record in records:
                self._views.invalidate(record)
        return decision

    async def looked_at(
        self, identifier: str, limits: tuple[Limit, ...], seen: dict[str, SeenVersion]
    ) -> tuple[list[ReplicaState], bool]:
        """The record of each limit, with a view that may be decided on; and whether there is one, or L2 is away."""
        while True:
            records = [self._views.record(identifier, limit) for limit in limits]
            young = True
            for record in records:
                young = await self._views.ready(record, seen.get(record.limit.name)) and young
            if all(self._views.records.get(record.key) is record for record in records):
                return records, young
            # Another request made L1 forget one of them meanwhile.

    def _decided(
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
            (record, unknown(seen[record.limit.name], record, node, now) if record.limit.name in seen else [])
            for record in records
        ]
        told = None
        if any(lacks for _, lacks in extra):
            allowed, told = decide_with_extra(self._l1, extra, cost, now)
            if not allowed:
                return self._numbered(told)
        decision = self._l1.acquire_nowait(identifier, limits[0] if len(limits) == 1 else limits, cost, now)
        if told is not None:
            decision.remaining, decision.reset_after, decision.limit = told.remaining, told.reset_after, told.limit
        return decision

    def _numbered(self, decision: Decision) -> Decision:
        if self._sequence is not None:
            decision.sequence = self._sequence()
        return decision

    async def _tell(self, records: Sequence[ReplicaState], now: float, cost: float) -> None:
        """Have L2 told of an admitted cost, as the write policy says."""
        if self._config.write == "write_behind":
            await self._write_behind.enqueue(records, now, cost)
            return
        for record in records:
            self._write_behind.note(record, now, cost)
        if self._config.write in ("write_through", "write_around"):
            await self._write_behind.write_through(records)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _token(self, identifier: str, session: str | None) -> dict[str, SeenVersion]:
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
        heard: bool,
    ) -> str:
        """What the session brings along next time; where it would grow too long, L2 is told first."""
        node, nothing = self._config.node, SeenVersion()
        found = {}
        for record in records:
            before = seen.get(record.limit.name, nothing)
            after = before.later(record, node, cost, now, heard)
            if len(after.own) > MOST_OWN:
                await self._write_behind.write_through([record])
                after = before.later(record, node, 0.0, now, heard)
            found[record.limit.name] = after
        return SessionToken.of(identifier, found).encode()
