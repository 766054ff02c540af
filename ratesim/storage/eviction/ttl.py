"""`TTL`: the entry whose state is soonest as good as new goes first."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable
from math import inf

from ratesim.storage.eviction.schedule import Schedule, tick_of

__all__ = ["TTL"]

PLACED_AT_ONCE = 4
WAITING = -1


class _Entry:
    __slots__ = ("fresh_at", "tick")

    def __init__(self) -> None:
        self.fresh_at = -inf
        self.tick = WAITING


class TTL:
    """A schedule of the entries by the time at which they are as good as new. Entries without a charge go first.

    The order is coarse: an entry may go before another that is fresh sooner by up to 1/32 of the time left, or 1/1024 s. An
    entry waits, in the order of arrival, until a victim is sought, which schedules up to four. A charge only notes the
    time; an entry that comes to the front of the schedule is moved if it was charged since: amortized O(1), one charge
    pays for a few moves. `max_entries` and `seed` are not used.
    """

    def __init__(self, max_entries: int = 0, seed: int = 0) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._waiting: OrderedDict[Hashable, None] = OrderedDict()
        self._schedule = Schedule()
        self.touch = self._entries.__contains__  # nothing to do, and a method in C does it fastest

    def insert(self, key: Hashable) -> None:
        """Add an entry that was not there."""
        self._entries[key] = _Entry()
        self._waiting[key] = None

    def charged(self, key: Hashable, fresh_at: float, loss: float) -> None:
        """Take note of the time, seconds, at which the state is as good as new."""
        self._entries[key].fresh_at = fresh_at

    def fresh_at(self, key: Hashable) -> float:
        """Return the time at which the state is as good as new, seconds; -inf before anything was charged."""
        return self._entries[key].fresh_at

    def remove(self, key: Hashable) -> None:
        """Drop an entry; KeyError if it was not there."""
        tick = self._entries.pop(key).tick
        if tick == WAITING:
            del self._waiting[key]
        else:
            self._schedule.discard(key, tick)

    def bytes(self) -> int:
        """Return the bytes of the policy itself."""
        each = sys.getsizeof(_Entry()) + sys.getsizeof(0.0)
        ticks = sys.getsizeof(1 << 40) * (len(self._entries) - len(self._waiting))
        tables = sys.getsizeof(self._entries) + sys.getsizeof(self._waiting) + self._schedule.bytes()
        return tables + each * len(self._entries) + ticks

    def victim(self, now: float) -> Hashable:
        """Return the entry to forget at `now`, seconds; it stays until `remove`."""
        schedule = self._schedule
        for _ in range(min(PLACED_AT_ONCE, len(self._waiting))):
            key, _none = self._waiting.popitem(last=False)
            entry = self._entries[key]
            entry.tick = tick_of(entry.fresh_at, now)
            schedule.add(key, entry.tick)
        while True:
            tick = schedule.earliest()
            key = schedule.first(tick)
            entry = self._entries[key]
            due = tick_of(entry.fresh_at, now)
            if due <= tick:
                return key
            schedule.discard(key, tick)
            entry.tick = due
            schedule.add(key, due)
