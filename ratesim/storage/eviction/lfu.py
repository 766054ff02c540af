"""`LFU`: the least frequently used entry goes first; of several, the least recently used."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["LFU"]


class _Bucket:
    """The keys that were used equally often, the least recently used first; linked to the buckets beside it."""

    __slots__ = ("above", "below", "keys", "uses")

    def __init__(self, uses: int) -> None:
        self.uses = uses
        self.keys: OrderedDict[Hashable, None] = OrderedDict()
        self.below = self.above = self


class LFU:
    """Buckets by number of uses, in a ring sorted by it, so that nothing is ever searched for.

    Source: Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010. Uses are
    counted while an entry is in the store: one that comes back starts at 1. `max_entries`, `seed` and `now` are not used.
    """

    def __init__(self, max_entries: int = 0, seed: int = 0) -> None:
        self._ring = _Bucket(0)  # an empty bucket that closes the ring, below the fewest and above the most uses
        self._bucket: dict[Hashable, _Bucket] = {}

    def insert(self, key: Hashable) -> None:
        """Add an entry that was not there."""
        self._put(key, 1, self._ring)

    def touch(self, key: Hashable) -> None:
        """Move an entry that was used to the bucket of one more use."""
        bucket = self._bucket[key]
        above = bucket.above
        if len(bucket.keys) == 1 and above.uses != bucket.uses + 1:
            bucket.uses += 1  # alone in it, and nobody in the next: the bucket itself moves up
            return
        self._put(key, bucket.uses + 1, bucket)
        self._leave(key, bucket)

    def remove(self, key: Hashable) -> None:
        """Drop an entry; KeyError if it was not there."""
        self._leave(key, self._bucket.pop(key))

    def victim(self, now: float = 0.0) -> Hashable:
        """Return the entry to forget; it stays until `remove`."""
        return next(iter(self._ring.above.keys))

    def bytes(self) -> int:
        """Return the bytes of the policy itself."""
        size, bucket = sys.getsizeof(self._bucket), self._ring.above
        while bucket is not self._ring:
            size += sys.getsizeof(bucket) + sys.getsizeof(bucket.keys)
            bucket = bucket.above
        return size

    def _put(self, key: Hashable, uses: int, below: _Bucket) -> None:
        above = below.above
        if above.uses != uses:
            bucket = _Bucket(uses)
            bucket.below, bucket.above = below, above
            below.above = above.below = bucket
            above = bucket
        above.keys[key] = None
        self._bucket[key] = above

    def _leave(self, key: Hashable, bucket: _Bucket) -> None:
        del bucket.keys[key]
        if not bucket.keys:
            bucket.below.above, bucket.above.below = bucket.above, bucket.below
