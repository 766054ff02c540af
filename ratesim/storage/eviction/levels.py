"""`Levels`: entries by a whole number, the lowest first. An entry that is gone, or has risen, is moved when it is met."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

from ratesim.storage.eviction.entry import Entry

__all__ = ["Levels"]


class Levels:
    """Entries by level; those of one level in the order in which they were added. A level may rise, but never fall.

    Nothing is taken out of the middle. An entry that comes to the front is dropped if it is gone, and moved if its level has
    risen, which a use has paid for: amortized O(1). Finding the next level costs the logarithm of how many levels have any;
    that does not grow with the entries where a level is a share of what it measures. `tidy` keeps the gone from piling up.

    Attributes
    ----------
    lowest
        No entry is below this level; inf if there is none.
    """

    def __init__(self) -> None:
        self.lowest = inf
        self._slots: dict[int, deque[Entry]] = {}
        self._heap: list[int] = []

    def add(self, entry: Entry, level: int) -> None:
        """Add an entry to a level, behind those that are there."""
        slot = self._slots.get(level)
        if slot is None:
            slot = self._slots[level] = deque()
            heappush(self._heap, level)
            if level < self.lowest:
                self.lowest = level
        slot.append(entry)

    def first(self, level_of: Callable[[Entry], int], below: float = inf) -> Entry | None:
        """Return the first entry of the lowest level, by the present `level_of`; None if none is below `below`."""
        slots, heap = self._slots, self._heap
        while self.lowest < below:
            level = heap[0]
            slot = slots[level]
            while slot:
                entry = slot[0]
                if not entry.gone:
                    actual = level_of(entry)
                    if actual <= level:
                        return entry
                    self.add(entry, actual)
                slot.popleft()
            del slots[level]
            heappop(heap)
            self.lowest = heap[0] if heap else inf
        return None

    def tidy(self) -> None:
        """Drop the entries that are gone."""
        slots = {level: deque(entry for entry in slot if not entry.gone) for level, slot in self._slots.items()}
        self._slots = {level: slot for level, slot in slots.items() if slot}
        self._heap = sorted(self._slots)
        self.lowest = self._heap[0] if self._heap else inf

    def bytes(self) -> int:
        """Return the bytes of the lists, without the entries."""
        return sys.getsizeof(self._slots) + sys.getsizeof(self._heap) + sum(map(sys.getsizeof, self._slots.values()))
