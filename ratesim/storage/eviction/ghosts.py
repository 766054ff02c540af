"""`Ghosts`: the demand of evicted keys, remembered in a table of a few bytes for each."""

from __future__ import annotations

import sys
from array import array
from zlib import crc32

from ratesim.storage.eviction.entry import Entry

__all__ = ["Ghosts"]

LEAST = 1 << 12  # places
SHARE = 4  # places for each entry, at least

NOTHING = -1e30


class Ghosts:
    """A table in which a key has two places, by a CRC of its text, so that they are the same in every run.

    The CRC tells the owner of a place. Of two keys that want one place, the key with more demand has it. Demand, as an
    `Entry` counts it, falls behind by itself, so nothing needs to be halved. The keys themselves are not kept: a place takes
    12 bytes. (The counters of W-TinyLFU: Einziger, Friedman and Manes, ACM Trans. Storage 2017, are smaller, but count every
    request; this table is written when a key goes and read when it comes.)
    """

    def __init__(self) -> None:
        self._whose = array("I", [0]) * LEAST
        self._near = array("f", [NOTHING]) * LEAST
        self._far = array("f", [NOTHING]) * LEAST

    def put(self, entry: Entry, entries: int) -> None:
        """Remember an entry that goes. The table grows with `entries`, the number of entries that are there."""
        while len(self._far) < SHARE * entries:
            self._grow()
        whose, far = self._whose, self._far
        code = crc32(str(entry.key).encode("utf-8", "surrogatepass"))
        at = code & len(far) - 1
        if whose[at] != code:
            other = at ^ 1
            if whose[other] == code or far[other] < far[at]:
                at = other
            if whose[at] != code and far[at] > entry.far:
                return
        whose[at], self._near[at], far[at] = code, entry.near, entry.far

    def get(self, entry: Entry) -> None:
        """Give an entry that comes its remembered demand."""
        whose = self._whose
        code = crc32(str(entry.key).encode("utf-8", "surrogatepass"))
        at = code & len(whose) - 1
        if whose[at] != code:
            at ^= 1
            if whose[at] != code:
                return
        entry.near, entry.far = self._near[at], self._far[at]
        entry.use(entry.used)

    def bytes(self) -> int:
        """Return the bytes of the table."""
        return sum(map(sys.getsizeof, (self._whose, self._near, self._far)))

    def _grow(self) -> None:
        # Each place becomes two, and a key looks for its own in the one or the other.
        self._whose, self._near, self._far = self._whose * 2, self._near * 2, self._far * 2
