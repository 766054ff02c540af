"""`EntryTable`: the entries of a MemoryStorage within their bounds, and the account of evictions."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Protocol

from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.eviction import POLICIES, EvictionPolicy
from ratesim.storage.memory.entry import Counter, Entry, ListEntry
from ratesim.storage.memory.size_estimator import SizeEstimator, estimate_bytes

__all__ = ["ChangeLog", "EntryTable"]


class ChangeLog(Protocol):
    """Records every change of an entry, such as a database on disk."""

    def wrote(self, key: Hashable) -> None:
        """Record that the entry of this key was written."""

    def dropped(self, key: Hashable) -> None:
        """Record that the entry of this key is gone."""


class EntryTable:
    """At most `max_entries` entries, of `memory_limit` bytes together. The eviction policy chooses which one goes.

    The caller must hold the storage's lock.

    Attributes
    ----------
    by_key
        The entries themselves, by identifier, or (identifier, name).
    change_log
        Records every change, where there is one.
    evicted
        Called with the key of each entry that is evicted.
    plain_room
        Entries below which one more is a write to `by_key` and nothing else; 0 where somebody else wants to know of it.
    charged
        Tells the policy about the content of an entry, where the policy wants to know.
    evictions, for_memory, harmful, expired
        Counts of evictions, of those for which `memory_limit` was the reason, of those of a state that was not as good as
        new, and of expirations.
    cost_forgotten
        Cost that the harmful evictions gave back.
    """

    def __init__(self, config: MemoryStorageConfig) -> None:
        self.by_key: OrderedDict[Hashable, Entry | Counter] = OrderedDict()
        # LRU needs no list of its own: the entries themselves are kept in the order of their use.
        policy = config.eviction_policy
        self._policy: EvictionPolicy | None = None if policy == "LRU" else POLICIES[policy](config.max_entries)
        self.touch = self.by_key.move_to_end if self._policy is None else self._policy.touch
        self.charged: Callable[[Hashable, float, float], None] | None = getattr(self._policy, "charged", None)
        self.change_log: ChangeLog | None = None
        self.evicted: Callable[[Hashable], None] | None = None
        self.evictions = self.harmful = self.for_memory = self.expired = 0
        self.cost_forgotten = 0.0  # cost
        self._named: dict[str, set[Hashable]] = {}  # keys of an identifier beyond its own
        self._room = config.max_entries
        self._limit = config.memory_limit
        self.plain_room = self._room if self._policy is None and self._limit is None else 0
        self._size_estimator = None if self._limit is None else SizeEstimator(self.by_key, self._overhead_bytes)

    def __len__(self) -> int:
        return len(self.by_key)

    def of(self, identifier: str) -> Iterator[Hashable]:
        """Yield the keys of an identifier that are there."""
        if identifier in self.by_key:
            yield identifier
        yield from tuple(self._named.get(identifier, ()))

    def insert(self, identifier: str, key: Hashable, entry: Entry | Counter, now: float) -> None:
        """Put an entry in the place of the one that has this key, or of as many others as it takes."""
        old = self.by_key.get(key)
        if old is None:
            while len(self.by_key) >= self._room:
                self._evict(now)
            if self._size_estimator is not None:
                self._shrink(now)
                self._size_estimator.added(key, entry)
            if self._policy is not None:
                self._policy.insert(key)
            if key is not identifier:
                self._named.setdefault(identifier, set()).add(key)
        else:
            self.touch(key)
            if self._size_estimator is not None and old is not entry:
                self._size_estimator.removed(key, old)
                self._size_estimator.added(key, entry)
        self.by_key[key] = entry

    def written(self, key: Hashable, entry: Entry, now: float) -> None:
        """Tell the policy and the change log, where they want to know, that an entry was written."""
        if self.charged is not None:
            self.charged(key, entry.expires_at - EXPIRY_MARGIN, entry.loss_if_evicted(now))
        if self.change_log is not None:
            self.change_log.wrote(key)
        if isinstance(entry, ListEntry) and len(entry.state) != entry.length:
            self.grew(entry, len(entry.state), now)

    def grew(self, entry: ListEntry, floats: int, now: float) -> None:
        """Take note that the list in an entry has `floats` floats now."""
        more, entry.length = floats - entry.length, floats
        if self._size_estimator is not None:
            self._size_estimator.resized(more)
        self._shrink(now)

    def remove(self, key: Hashable) -> None:
        """Remove an entry; KeyError when it is not there."""
        entry = self.by_key.pop(key)
        if self._policy is not None:
            self._policy.remove(key)
        self._gone(key, entry)

    def _gone(self, key: Hashable, entry: Entry | Counter) -> None:
        if self._size_estimator is not None:
            self._size_estimator.removed(key, entry)
        if self.change_log is not None:
            self.change_log.dropped(key)
        if isinstance(key, tuple):
            keys = self._named[key[0]]
            keys.discard(key)
            if not keys:
                del self._named[key[0]]

    def drop_expired(self, keys: Iterable[Hashable], now: float) -> int:
        """Drop those of these entries that have expired by `now`; return how many."""
        expired = [key for key in keys if (entry := self.by_key.get(key)) is not None and entry.expires_at <= now]
        for key in expired:
            self.remove(key)
        self.expired += len(expired)
        return len(expired)

    def measure(self, now: float) -> None:
        """Count the bytes anew, and make room when they are too many."""
        if self._size_estimator is not None:
            self._size_estimator.measure()
        self._shrink(now)

    @property
    def bytes(self) -> int:
        """Bytes of all of it, names and order included, within 10 % of what tracemalloc sees."""
        return (
            estimate_bytes(self.by_key) + self._overhead_bytes()
            if self._size_estimator is None
            else self._size_estimator.bytes
        )

    def _overhead_bytes(self) -> int:
        """Return the bytes that the policy and the names take."""
        size = 0 if self._policy is None else self._policy.bytes()
        if self._named:
            keys = next(iter(self._named.values()))
            size += sys.getsizeof(self._named) + sys.getsizeof(keys) * len(self._named)
        return size

    def _shrink(self, now: float) -> None:
        """Evict until the bytes fit."""
        if self._size_estimator is None or self._limit is None:
            return
        while self.by_key and self._size_estimator.bytes > self._limit:
            self._evict(now)
            self.for_memory += 1

    def _evict(self, now: float) -> None:
        if self._policy is None:
            key, entry = self.by_key.popitem(last=False)
        else:
            key = self._policy.victim(now)
            entry = self.by_key.pop(key)
            self._policy.remove(key)
        self.evictions += 1
        if entry.limit is None:
            self.harmful += entry.expires_at > now
        else:
            forgotten = entry.loss_if_evicted(now)
            if forgotten > 0.0:
                self.harmful += 1
                self.cost_forgotten += forgotten
        if self._size_estimator is not None or self.change_log is not None or key.__class__ is tuple:
            self._gone(key, entry)
        if self.evicted is not None:
            self.evicted(key)
