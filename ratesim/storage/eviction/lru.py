"""`LRU`: the least recently used entry goes first."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["LRU"]


class LRU:
    """A linked list in the order of use: an OrderedDict. Every operation is one of its own, in C.

    `max_entries`, `seed` and `now` are not used.
    """

    def __init__(self, max_entries: int = 0, seed: int = 0) -> None:
        self._order: OrderedDict[Hashable, None] = OrderedDict()
        self.touch = self._order.move_to_end  # bound once: this runs on every decision

    def insert(self, key: Hashable) -> None:
        """Add an entry that was not there."""
        self._order[key] = None

    def remove(self, key: Hashable) -> None:
        """Drop an entry; KeyError if it was not there."""
        del self._order[key]

    def victim(self, now: float = 0.0) -> Hashable:
        """Return the entry to forget; it stays until `remove`."""
        return next(iter(self._order))

    def bytes(self) -> int:
        """Return the bytes of the policy itself."""
        return sys.getsizeof(self._order)
