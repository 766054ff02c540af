"""`Random`: any entry goes, each with the same probability."""

from __future__ import annotations

import sys
from collections.abc import Hashable

import numpy as np

__all__ = ["Random"]

DRAWN_AT_ONCE = 256  # one number from a numpy Generator costs as much as all of these together


class Random:
    """A list of the keys and the place of each in it; the last key takes the place of one that goes.

    `max_entries` and `now` are not used.

    Parameters
    ----------
    seed
        Of the draws. The same seed and the same calls choose the same victims.
    """

    def __init__(self, max_entries: int = 0, seed: int = 0) -> None:
        self._keys: list[Hashable] = []
        self._place: dict[Hashable, int] = {}
        self._rng = np.random.default_rng(seed)
        self._drawn: list[float] = []
        self.touch = self._place.__contains__  # nothing to do, and a method in C does it fastest

    def insert(self, key: Hashable) -> None:
        """Add an entry that was not there."""
        self._place[key] = len(self._keys)
        self._keys.append(key)

    def remove(self, key: Hashable) -> None:
        """Drop an entry; KeyError if it was not there."""
        place = self._place.pop(key)
        last = self._keys.pop()
        if place < len(self._keys):
            self._keys[place] = last
            self._place[last] = place

    def victim(self, now: float = 0.0) -> Hashable:
        """Return the entry to forget; it stays until `remove`."""
        if not self._drawn:
            self._drawn = self._rng.random(DRAWN_AT_ONCE).tolist()
        return self._keys[int(self._drawn.pop() * len(self._keys))]

    def bytes(self) -> int:
        """Return the bytes of the policy itself."""
        places = sys.getsizeof(1) * len(self._keys)
        return sys.getsizeof(self._keys) + sys.getsizeof(self._place) + places
