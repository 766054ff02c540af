"""`MemoryStorage`: state in the memory of this process. The fastest backend, the L1 of the hybrid, and what decides at the
end of every simulated network.

The decisions themselves are synchronous (`decide`, `apply`): nothing is awaited between reading a state and writing it, so
they are atomic on one event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from math import inf

from ratesim.algorithms import Algorithm, bind
from ratesim.algorithms import get as algorithms_get
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost
from ratesim.runtime import AsyncioRuntime, Runtime
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import (
    DEFAULT_TTL,
    EXPIRY_MARGIN,
    Charge,
    RateLimitStorage,
    Request,
    StorageHealth,
    StorageStats,
    check_window,
    learning,
)
from ratesim.storage.charging import unseen
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.eviction import POLICIES
from ratesim.storage.waiting import long_enough, until_all_admit

__all__ = ["Entry", "MemoryStorage"]

_COUNTER = ":counter"  # no limit can have this name


class Entry:
    """One state: of one limit of one identifier."""

    __slots__ = (
        "algorithm",
        "created_at",
        "expires_at",
        "last_accessed",
        "metadata",
        "request_count",
        "state",
        "watermarks",
    )

    def __init__(self, algorithm: Algorithm, state: list[float], created_at: float) -> None:
        self.algorithm = algorithm
        self.state = state
        self.created_at = created_at
        self.last_accessed = created_at
        self.expires_at = inf
        self.request_count = 0
        self.metadata: dict[str, str] | None = None
        self.watermarks: dict[str, Watermark] | None = None

    def export(self) -> RateLimitState:
        return RateLimitState(
            AlgorithmData.of(self.algorithm.name, self.algorithm.stored(self.state)),
            micro(self.created_at),
            micro(self.last_accessed),
            self.request_count,
            dict(self.metadata or {}),
            dict(self.watermarks or {}),
        )


class Counter:
    """One plain counter of `increment`."""

    __slots__ = ("count", "expires_at")

    def __init__(self, expires_at: float) -> None:
        self.count = 0
        self.expires_at = expires_at


class MemoryStorage(RateLimitStorage):
    """State in a dict of this process, bounded by `max_entries`.

    sequence: numbers the decisions of several storages in the order in which they are taken (a simulation passes one).
    """

    def __init__(
        self,
        config: MemoryStorageConfig | None = None,
        runtime: Runtime | None = None,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        self.config = config or MemoryStorageConfig()
        self.runtime = runtime or AsyncioRuntime()
        self._sequence = sequence
        self._entries: dict[Hashable, Entry | Counter] = {}
        self._named: dict[str, set[Hashable]] = {}  # keys of an identifier beyond its own
        self._policy = POLICIES[self.config.eviction_policy]()
        self._hits = self._misses = self._evictions = self._expirations = self._restarts = 0

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        return self.decide(identifier, limit, cost, self.runtime.time() if now is None else now)

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        return self.decide(identifier, limit, cost, self.runtime.time() if now is None else now, False)

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        time = self.runtime.time()
        return [self.decide(r.identifier, r.limit, r.cost, time if r.now is None else r.now) for r in requests]

    def decide(self, identifier: str, limit: Limits, cost: float, now: float, consume: bool = True) -> Decision:
        """The decision at `now`, taken at once. consume=False only looks."""
        if type(limit) is not Limit:
            return self._decide_several(identifier, as_limits(limit), cost, now, consume)
        if cost != 1.0:
            cost = check_cost(cost)
        algorithm, p, size, head = bind(limit)
        rule = algorithm.rule
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        entry = self._live(key, algorithm, size, now)
        if entry is None:
            s = [0.0] * rule.size(p)
            rule.start(s, p, now)
            at = now
        else:
            s = entry.state
            before = s[:head]  # put back unless the request is admitted: a denied one changes nothing, not even a rounding
            at = now if now > s[0] else s[0]
            rule.refresh(s, p, at)
        left = rule.available(s, p, at)
        late = at - now
        allowed = left >= cost
        if allowed and consume:
            rule.charge(s, p, cost, at)
            left = rule.available(s, p, at)
            reset_after = rule.fresh_after(s, p, at) + late
            if entry is None:
                entry = self._begin(identifier, key, algorithm, now)
                entry.state = s
            entry.last_accessed = at
            entry.expires_at = now + reset_after + EXPIRY_MARGIN
            entry.request_count += 1
            retry_after = 0.0
        else:
            reset_after = rule.fresh_after(s, p, at) + late
            retry_after = 0.0 if allowed else rule.retry_after(s, p, cost, at) + late
            if entry is not None:
                s[:head] = before
                if not allowed:
                    retry_after = long_enough(rule, s, p, head, cost, now, retry_after)
        decision = Decision(allowed, left if left > 0.0 else 0.0, retry_after, reset_after, limit)
        if self._sequence is not None:
            decision.sequence = self._sequence()
        return decision

    def _decide_several(
        self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, consume: bool
    ) -> Decision:
        cost = check_cost(cost)
        work = []
        allowed = True
        for limit in limits:
            algorithm, p, size, head = bind(limit)
            rule = algorithm.rule
            key: Hashable = (identifier, limit.name) if limit.name else identifier
            entry = self._live(key, algorithm, size, now)
            if entry is None:
                s = [0.0] * rule.size(p)
                before = s
                rule.start(s, p, now)
                at = now
            else:
                s = entry.state
                before = s[:head]
                at = max(now, s[0])
                rule.refresh(s, p, at)
            left = rule.available(s, p, at)
            allowed = allowed and left >= cost
            work.append((limit, algorithm, p, head, key, entry, s, before, at, left))
        decisions = []
        for limit, algorithm, p, head, key, entry, s, before, at, left in work:
            rule = algorithm.rule
            if allowed and consume:
                rule.charge(s, p, cost, at)
                left = rule.available(s, p, at)
            reset_after = rule.fresh_after(s, p, at) + (at - now)
            if allowed and consume:
                kept = entry or self._begin(identifier, key, algorithm, now)
                kept.state = s
                kept.last_accessed = at
                kept.expires_at = now + reset_after + EXPIRY_MARGIN
                kept.request_count += 1
            elif entry is not None:
                s[:head] = before
            decisions.append(Decision(allowed, max(left, 0.0), 0.0, reset_after, limit))
        if allowed:
            deciding = min(decisions, key=lambda decision: decision.remaining)
        else:
            held = [(w[1].rule, w[6] if w[5] is not None else None, w[2], w[3]) for w in work]
            retry_after, last = until_all_admit(held, cost, now)
            deciding = decisions[last]
            deciding.retry_after = retry_after
        if self._sequence is not None:
            deciding.sequence = self._sequence()
        return deciding

    def _live(self, key: Hashable, algorithm: Algorithm, size: int | None, now: float) -> Entry | None:
        """The entry that a decision goes on from, if there is one."""
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._policy.touch(key)
        assert isinstance(entry, Entry)
        if entry.expires_at <= now:
            return None
        if entry.algorithm is not algorithm or (size is not None and len(entry.state) != size):
            self._restarts += 1
            return None
        return entry

    def _begin(self, identifier: str, key: Hashable, algorithm: Algorithm, now: float) -> Entry:
        entry = Entry(algorithm, [], now)
        self._insert(identifier, key, entry)
        return entry

    def _insert(self, identifier: str, key: Hashable, entry: Entry | Counter) -> None:
        if key in self._entries:
            self._policy.touch(key)
        else:
            while len(self._entries) >= self.config.max_entries:
                self._remove(self._policy.victim())
                self._evictions += 1
            self._policy.insert(key)
            if key is not identifier:
                self._named.setdefault(identifier, set()).add(key)
        self._entries[key] = entry

    def _remove(self, key: Hashable) -> None:
        del self._entries[key]
        self._policy.remove(key)
        if isinstance(key, tuple):
            keys = self._named[key[0]]
            keys.discard(key)
            if not keys:
                del self._named[key[0]]

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        self.learn(identifier, learning(limit, score), score, self.runtime.time() if now is None else now)

    def learn(self, identifier: str, limits: tuple[Limit, ...], score: float, now: float) -> None:
        """`observe` at once; the limits are those that learn."""
        for limit in limits:
            algorithm, p, size, _ = bind(limit)
            rule = algorithm.feedback
            assert rule is not None
            key: Hashable = (identifier, limit.name) if limit.name else identifier
            entry = self._live(key, algorithm, size, now)
            if entry is None:
                entry = self._begin(identifier, key, algorithm, now)
                entry.state = [0.0] * rule.size(p)
                rule.start(entry.state, p, now)
            s = entry.state
            at = max(now, s[0])
            rule.refresh(s, p, at)
            rule.observe(s, p, score, at)
            entry.last_accessed = at
            entry.expires_at = at + rule.fresh_after(s, p, at) + EXPIRY_MARGIN

    # -- state --------------------------------------------------------------------------------------------------------

    async def reset(self, identifier: str) -> None:
        self.forget(identifier)

    def forget(self, identifier: str) -> None:
        """`reset` at once."""
        for key in (identifier, *self._named.get(identifier, ())):
            if key in self._entries:
                self._remove(key)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        entry = self.entry(identifier, name)
        return None if entry is None else entry.export()

    def entry(self, identifier: str, name: str = "") -> Entry | None:
        """The live entry itself, without touching it."""
        entry = self._entries.get((identifier, name) if name else identifier)
        if entry is None or entry.expires_at <= self.runtime.time():
            return None
        assert isinstance(entry, Entry)
        return entry

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        self.put(identifier, state, self.runtime.time() + (DEFAULT_TTL if ttl is None else ttl), name)

    def put(self, identifier: str, state: RateLimitState, expires_at: float, name: str = "") -> Entry:
        """`set_state` at once, until a given time."""
        values = state.algorithm_data.values()
        algorithm = algorithms_get(state.algorithm_data.algorithm)
        entry = Entry(algorithm, algorithm.working(values), state.created_at)
        entry.last_accessed = state.last_accessed
        entry.request_count = state.request_count
        entry.metadata = dict(state.metadata) or None
        entry.watermarks = dict(state.watermarks) or None
        entry.expires_at = expires_at
        self._insert(identifier, (identifier, name) if name else identifier, entry)
        return entry

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        check_window(amount, window)
        return self.count(identifier, amount, window)

    def count(self, identifier: str, amount: int, window: float) -> int:
        """`increment` at once."""
        now = self.runtime.time()
        key = (identifier, _COUNTER)
        counter = self._entries.get(key)
        if not isinstance(counter, Counter) or counter.expires_at <= now:
            counter = Counter(now + window)
        self._insert(identifier, key, counter)
        counter.count += amount
        return counter.count

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        return [self.apply(charge).export() for charge in charges]

    def apply(self, charge: Charge) -> Entry:
        """Apply one charge at once; the entry it went into."""
        limit = charge.limit
        algorithm, p, size, _ = bind(limit)
        rule = algorithm.rule
        key: Hashable = (charge.identifier, limit.name) if limit.name else charge.identifier
        first = charge.entries[0][0]
        entry = self._live(key, algorithm, size, first)
        if entry is None:
            entry = self._begin(charge.identifier, key, algorithm, first)
            entry.state = [0.0] * rule.size(p)
            rule.start(entry.state, p, first)
        if entry.watermarks is None:
            entry.watermarks = {}
        known = entry.watermarks.get(charge.node)
        entries, mark = unseen(charge, known)
        entry.watermarks[charge.node] = mark
        s = entry.state
        for time, cost, requests in entries:
            if time > s[0]:
                rule.refresh(s, p, time)
            rule.charge(s, p, cost, time)
            entry.request_count += requests
        at = max(charge.entries[-1][0], s[0])
        entry.last_accessed = at
        entry.expires_at = at + rule.fresh_after(s, p, at) + EXPIRY_MARGIN
        return entry

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def health_check(self) -> StorageHealth:
        return StorageHealth(True, 0.0, "in this process")

    async def close(self) -> None:
        """Nothing runs and nothing is pending; the states stay readable."""

    async def cleanup_expired(self) -> int:
        now = self.runtime.time()
        expired = [key for key, entry in self._entries.items() if entry.expires_at <= now]
        for key in expired:
            self._remove(key)
        self._expirations += len(expired)
        return len(expired)

    async def get_stats(self) -> StorageStats:
        sample = [_bytes(key, entry) for key, entry in islice(self._entries.items(), 1000)]
        size = round(sum(sample) / len(sample) * len(self._entries)) if sample else 0
        return StorageStats(
            entries=len(self._entries),
            bytes=size,
            operations=self._hits + self._misses,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            expirations=self._expirations,
            restarts=self._restarts,
        )


def _bytes(key: Hashable, entry: Entry | Counter) -> int:
    size = sys.getsizeof(key) + sys.getsizeof(entry) + 200  # two dict slots and their share of slack
    if isinstance(entry, Entry):
        size += sys.getsizeof(entry.state) + 24 * (len(entry.state) + 3)
    return size
