"""`MemoryStorage`: state in the memory of this process. The fastest backend, the L1 of the hybrid, and what decides at the
end of every simulated network.

The decisions themselves are synchronous (`decide`, `apply`): nothing is awaited between reading a state and writing it, so
they are atomic on one event loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Self

from ratesim.algorithms import bind
from ratesim.algorithms import get as algorithms_get
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost
from ratesim.runtime import AsyncioRuntime, Runtime, Task
from ratesim.state import RateLimitState
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
from ratesim.storage.deciding import Decide, decider
from ratesim.storage.entry import FEW, Counter, Entry, entry_class
from ratesim.storage.eviction import POLICIES, EvictionPolicy
from ratesim.storage.keeping import COUNTER, Keeper, upkeep
from ratesim.storage.waiting import long_enough, until_all_admit

__all__ = ["MemoryStorage"]

MOST_LIMITS = 4096  # whose deciding functions are kept


class InOrder:
    """LRU without a list of its own: the entries themselves are kept in the order of their use."""

    def __init__(self, entries: OrderedDict[Hashable, Entry | Counter]) -> None:
        self._entries = entries
        self.touch = entries.move_to_end  # bound once: this runs on every decision

    def insert(self, key: Hashable) -> None:
        """It comes last."""

    def remove(self, key: Hashable) -> None:
        """It is gone from the entries already."""

    def victim(self, now: float) -> Hashable:
        return next(iter(self._entries))


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
        self._time = self.runtime.time
        self._entries: OrderedDict[Hashable, Entry | Counter] = OrderedDict()
        self._lock = threading.RLock()
        self._named: dict[str, set[Hashable]] = {}  # keys of an identifier beyond its own
        policy = self.config.eviction_policy
        self._policy: EvictionPolicy = (
            InOrder(self._entries) if policy == "LRU" else POLICIES[policy](self.config.max_entries)
        )
        self._charged: Callable[[Hashable, float, float], None] | None = getattr(self._policy, "charged", None)
        self._deciders: dict[Limit, Decide] = {}
        self._tally = [0, 0]  # decisions, and those that found no state; a list, which the deciding functions share
        self._evictions = self._harmful = self._expirations = self._restarts = 0
        self._forgotten = 0.0
        self.recovered = ""  # what `open` found on the disk
        self._keeper: Keeper | None = None
        self._upkeep: Task | None = None

    @property
    def entries(self) -> OrderedDict[Hashable, Entry | Counter]:
        """The entries themselves, by identifier, or (identifier, name)."""
        return self._entries

    async def open(self) -> Self:
        """Read back what was persisted, and start what runs in the background.

        Config when another process has the directory; StorageError or Serialization, which name the file, when what is there
        is damaged: it is left as it is.
        """
        if self._upkeep is not None:
            return self
        if self.config.persist_to_disk is not None:
            keeper = Keeper(self.config, self._entries)
            self.recovered = keeper.recover(self)
            self._keeper = keeper
            self._deciders.clear()  # those made before write to no journal
        self._upkeep = self.runtime.spawn(upkeep(self, self._keeper))
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
        if type(limit) is Limit and cost == 1.0 and (decide := self._deciders.get(limit)) is not None:
            return decide(identifier, 1.0, self._time() if now is None else now)
        return self.decide(identifier, limit, cost, self._time() if now is None else now)

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        return self.decide(identifier, limit, cost, self._time() if now is None else now, False)

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        time = self._time()
        return [self.decide(r.identifier, r.limit, r.cost, time if r.now is None else r.now) for r in requests]

    def decide(self, identifier: str, limit: Limits, cost: float, now: float, consume: bool = True) -> Decision:
        """The decision at `now`, taken at once. consume=False only looks."""
        if type(limit) is not Limit:
            return self._decide_several(identifier, as_limits(limit), cost, now, consume)
        if cost != 1.0:
            cost = check_cost(cost)
        if not consume:
            return self._decide(limit, identifier, cost, now, False)
        decide = self._deciders.get(limit)
        return (decide or self._decider(limit))(identifier, cost, now)

    def _decider(self, limit: Limit) -> Decide:
        """What decides this limit: written out for its algorithm where the state is small, else `_decide`."""
        algorithm, p, size, _ = bind(limit)
        if size is not None and size > FEW:
            decide: Decide = partial(self._decide, limit)
        else:
            make = decider(algorithm, size, len(p), bool(limit.name))
            mine, touch = entry_class(algorithm, size), self._policy.touch
            fresh = [0.0] * algorithm.rule.size(p)
            algorithm.rule.start(fresh, p, 0.0)
            full = algorithm.rule.available(fresh, p, 0.0)
            wrote = None if self._keeper is None else self._keeper.wrote
            ours = self._lock, touch, self._charged, wrote, self._begin, self._give_up, mine, self._tally, self._sequence
            decide = make(limit, algorithm.rule, p, full, self._entries, *ours)
        if len(self._deciders) >= MOST_LIMITS:
            self._deciders.clear()
        self._deciders[limit] = decide
        return decide

    def _decide(self, limit: Limit, identifier: str, cost: float, now: float, consume: bool = True) -> Decision:
        algorithm, p, size, head = bind(limit)
        rule = algorithm.rule
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        mine = entry_class(algorithm, size)
        entry = self._live(key, mine, now)
        if entry is None:
            s = [0.0] * rule.size(p)
            rule.start(s, p, now)
            at = now
        else:
            s = entry.load()
            before = s[:head]  # put back unless the request is admitted: a denied one changes nothing, not even a rounding
            at = now if now > s[0] else s[0]
            rule.refresh(s, p, at)
        left = rule.available(s, p, at)
        late = at - now
        allowed = left >= cost
        retry_after = 0.0
        if allowed and consume:
            rule.charge(s, p, cost, at)
            left = rule.available(s, p, at)
        reset_after = rule.fresh_after(s, p, at) + late
        if allowed and consume:
            if entry is None:
                entry = self._begin(identifier, key, mine, now)
            entry.request_count += 1
            self._keep(key, entry, s, limit, at, now + reset_after)
        else:
            if not allowed:
                retry_after = rule.retry_after(s, p, cost, at) + late
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
            entry = self._live(key, entry_class(algorithm, size), now)
            if entry is None:
                s = [0.0] * rule.size(p)
                before = s
                rule.start(s, p, now)
                at = now
            else:
                s = entry.load()
                before = s[:head]
                at = max(now, s[0])
                rule.refresh(s, p, at)
            left = rule.available(s, p, at)
            allowed = allowed and left >= cost
            work.append((limit, bind(limit), key, entry, s, before, at, left))
        decisions = []
        for limit, (algorithm, p, size, head), key, entry, s, before, at, left in work:
            rule = algorithm.rule
            if allowed and consume:
                rule.charge(s, p, cost, at)
                left = rule.available(s, p, at)
            reset_after = rule.fresh_after(s, p, at) + (at - now)
            if allowed and consume:
                kept = entry or entry_class(algorithm, size)(now)
                if self._entries.get(key) is not kept:  # new, or it had to make room for another of these limits
                    self._insert(identifier, key, kept, now)
                kept.request_count += 1
                self._keep(key, kept, s, limit, at, now + reset_after)
            elif entry is not None:
                s[:head] = before
            decisions.append(Decision(allowed, max(left, 0.0), 0.0, reset_after, limit))
        if allowed:
            deciding = min(decisions, key=lambda decision: decision.remaining)
        else:
            held = [
                (bound.algorithm.rule, None if entry is None else s, bound.params, bound.head)
                for _, bound, _, entry, s, _, _, _ in work
            ]
            retry_after, last = until_all_admit(held, cost, now)
            deciding = decisions[last]
            deciding.retry_after = retry_after
        if self._sequence is not None:
            deciding.sequence = self._sequence()
        return deciding

    def _live(self, key: Hashable, mine: type[Entry], now: float) -> Entry | None:
        """The entry that a decision goes on from, if there is one."""
        self._tally[0] += 1
        entry = self._entries.get(key)
        if entry is not None:
            self._policy.touch(key)
            assert isinstance(entry, Entry)
            if entry.__class__ is mine and entry.expires_at > now:
                return entry
            self._give_up(entry, now)
        self._tally[1] += 1
        return None

    def _give_up(self, entry: Entry, now: float) -> None:
        """Note that an entry is not gone on from: its time is over, or it is another algorithm's."""
        if entry.expires_at > now:
            self._restarts += 1

    def _begin(self, identifier: str, key: Hashable, mine: type[Entry], now: float) -> Entry:
        entry = mine(now)
        self._insert(identifier, key, entry, now)
        return entry

    def _insert(self, identifier: str, key: Hashable, entry: Entry | Counter, now: float) -> None:
        if key in self._entries:
            self._policy.touch(key)
        else:
            while len(self._entries) >= self.config.max_entries:
                self._evict(now)
            self._policy.insert(key)
            if key is not identifier:
                self._named.setdefault(identifier, set()).add(key)
        self._entries[key] = entry

    def _keep(self, key: Hashable, entry: Entry, s: list[float], limit: Limit, at: float, fresh_at: float) -> None:
        """Keep a state that was written at `at` and is as good as new at `fresh_at`."""
        entry.store(s)
        entry.limit = limit
        entry.last_accessed = at
        entry.expires_at = fresh_at + EXPIRY_MARGIN
        self._written(key, entry, at)

    def _written(self, key: Hashable, entry: Entry, now: float) -> None:
        """Tell the policy what is in an entry that was written, if it wants to know, and the journal, if there is one."""
        if self._charged is not None:
            self._charged(key, entry.expires_at - EXPIRY_MARGIN, entry.forgets(now))
        if self._keeper is not None:
            self._keeper.wrote(key)

    def _evict(self, now: float) -> None:
        key = self._policy.victim(now)
        entry = self._entries[key]
        self._evictions += 1
        if isinstance(entry, Entry):
            forgotten = entry.forgets(now)
            self._forgotten += forgotten
            self._harmful += forgotten > 0.0
        else:
            self._harmful += entry.expires_at > now
        self._remove(key)

    def _remove(self, key: Hashable) -> None:
        del self._entries[key]
        self._policy.remove(key)
        if self._keeper is not None:
            self._keeper.dropped(key)
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
            mine = entry_class(algorithm, size)
            entry = self._live(key, mine, now)
            if entry is None:
                entry = self._begin(identifier, key, mine, now)
                s = [0.0] * rule.size(p)
                rule.start(s, p, now)
            else:
                s = entry.load()
            at = max(now, s[0])
            rule.refresh(s, p, at)
            rule.observe(s, p, score, at)
            self._keep(key, entry, s, limit, at, at + rule.fresh_after(s, p, at))

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
        entry = entry_class(algorithm, None if algorithm.growing else len(values))(state.created_at)
        entry.store(algorithm.working(values))
        entry.last_accessed = state.last_accessed
        entry.request_count = state.request_count
        if state.metadata or state.watermarks:
            entry.described().metadata = dict(state.metadata)
            entry.described().watermarks = dict(state.watermarks)
        entry.expires_at = expires_at
        key: Hashable = (identifier, name) if name else identifier
        now = self.runtime.time()
        self._insert(identifier, key, entry, now)
        self._written(key, entry, now)
        return entry

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        check_window(amount, window)
        return self.count(identifier, amount, window)

    def count(self, identifier: str, amount: int, window: float) -> int:
        """`increment` at once."""
        now = self.runtime.time()
        key = (identifier, COUNTER)
        counter = self._entries.get(key)
        if not isinstance(counter, Counter) or counter.expires_at <= now:
            counter = Counter(now + window)
        self._insert(identifier, key, counter, now)
        counter.count += amount
        if self._keeper is not None:
            self._keeper.wrote(key)
        return counter.count

    def put_count(self, identifier: str, count: int, expires_at: float) -> None:
        """Put a counter in place of what is there."""
        counter = Counter(expires_at)
        counter.count = count
        self._insert(identifier, (identifier, COUNTER), counter, self.runtime.time())

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        return [self.apply(charge).export() for charge in charges]

    def apply(self, charge: Charge) -> Entry:
        """Apply one charge at once; the entry it went into."""
        limit = charge.limit
        algorithm, p, size, _ = bind(limit)
        rule = algorithm.rule
        key: Hashable = (charge.identifier, limit.name) if limit.name else charge.identifier
        first = charge.entries[0][0]
        mine = entry_class(algorithm, size)
        entry = self._live(key, mine, first)
        if entry is None:
            entry = self._begin(charge.identifier, key, mine, first)
            s = [0.0] * rule.size(p)
            rule.start(s, p, first)
        else:
            s = entry.load()
        marks = entry.described().watermarks
        entries, marks[charge.node] = unseen(charge, marks.get(charge.node))
        for time, cost, requests in entries:
            if time > s[0]:
                rule.refresh(s, p, time)
            rule.charge(s, p, cost, time)
            entry.request_count += requests
        at = max(charge.entries[-1][0], s[0])
        self._keep(key, entry, s, limit, at, at + rule.fresh_after(s, p, at))
        return entry

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def health_check(self) -> StorageHealth:
        return StorageHealth(True, 0.0, "in this process")

    async def close(self) -> None:
        """Stop what runs in the background and let the disk go, synced; the states stay readable."""
        task, self._upkeep = self._upkeep, None
        keeper, self._keeper = self._keeper, None
        self._deciders.clear()  # they may write to the journal
        try:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        finally:
            if keeper is not None:
                keeper.journal.close()

    async def cleanup_expired(self) -> int:
        return self.drop_expired(list(self._entries), self.runtime.time())

    def drop_expired(self, keys: Iterable[Hashable], now: float) -> int:
        """Drop those of these entries that have expired by `now`; returns how many."""
        expired = [key for key in keys if (entry := self._entries.get(key)) is not None and entry.expires_at <= now]
        for key in expired:
            self._remove(key)
        self._expirations += len(expired)
        return len(expired)

    async def get_stats(self) -> StorageStats:
        sample = [_bytes(key, entry) for key, entry in islice(self._entries.items(), 1000)]
        size = sys.getsizeof(self._entries) + sum(sample) / max(len(sample), 1) * len(self._entries)
        return StorageStats(
            entries=len(self._entries),
            bytes=round(size),
            operations=self._tally[0],
            hits=self._tally[0] - self._tally[1],
            misses=self._tally[1],
            evictions=self._evictions,
            harmful_evictions=self._harmful,
            cost_forgotten=self._forgotten,
            expirations=self._expirations,
            restarts=self._restarts,
        )


def _bytes(key: Hashable, entry: Entry | Counter) -> int:
    """What an entry takes beside its place among the others: itself, its key, and the numbers that no other holds."""
    size = sys.getsizeof(key) + sys.getsizeof(entry)
    numbers: list[object] = [entry.expires_at]
    if isinstance(key, tuple):
        size += sys.getsizeof(key[0])
    if isinstance(entry, Entry):
        s = entry.load()
        numbers += [entry.last_accessed, entry.origin, *s]
        size += sys.getsizeof(s) if len(s) > FEW else 0
    floats = {id(number) for number in numbers if isinstance(number, float) and number != 0.0}  # zeros are all one
    return size + sys.getsizeof(1.0) * len(floats)
