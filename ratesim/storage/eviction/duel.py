"""A duel: two orders of eviction tried on a sample of the keys, to see which the traffic rewards."""

from __future__ import annotations

from collections.abc import Hashable
from zlib import crc32

from ratesim.storage.eviction.adaptive_lru import AdaptiveLRU
from ratesim.storage.eviction.demand import Demand

__all__ = ["Duel"]

SHADOW = 512  # entries of each shadow at most
MEMORY = 8  # requests that a hit ratio looks back on, for each entry of a shadow
WAIT = 2  # requests for each entry, once the shadows are full, before which AdaptiveLRU is taken to be ahead
MARGIN = 0.02  # of hit ratio, that AdaptiveLRU must be ahead: where they are level, demand forgets what admits less


class Duel:
    """Two caches of keys alone, one that AdaptiveLRU keeps and one that Demand does, and the hit ratio of each.

    Of a store of more than SHADOW entries, a share of the keys plays, chosen by a CRC of the key's text, so that the same
    keys do in every run (set dueling: Qureshi et al., "Adaptive insertion policies for high performance caching", ISCA
    2007; sampling by key: Waldspurger et al., "Cache modeling and optimization using miniature simulations", USENIX ATC
    2017)."""

    def __init__(self, max_entries: int) -> None:
        bits = max(0, (max(max_entries, 1) - 1) // SHADOW).bit_length()
        self._mask = (1 << bits) - 1
        self._size = max(1, max_entries >> bits)
        self._recent, self._wanted = AdaptiveLRU(self._size), Demand()
        self._held_recent: set[Hashable] = set()
        self._held_wanted: set[Hashable] = set()
        self._requests = 0
        self._lead = 0.0

    @property
    def recency_wins(self) -> bool:
        """Whether AdaptiveLRU finds more, by more than MARGIN of the requests; also before that can be told."""
        return self._requests < WAIT * self._size or self._lead > MARGIN

    def plays(self, key: Hashable) -> bool:
        """Whether the key is in the sample."""
        return not (self._mask and crc32(str(key).encode()) & self._mask)

    def see(self, key: Hashable) -> None:
        """A request for a key; one that does not play is passed over."""
        if not self.plays(key):
            return
        ahead = self._recent_hits(key) - self._wanted_hits(key)
        if len(self._held_recent) == self._size:  # until then they are level, which says nothing
            self._requests += 1
            self._lead += (ahead - self._lead) / min(self._requests, MEMORY * self._size)

    def _recent_hits(self, key: Hashable) -> bool:
        held, order = self._held_recent, self._recent
        if key in held:
            order.touch(key)
            return True
        if len(held) >= self._size:
            victim = order.victim()
            order.remove(victim)
            held.remove(victim)
        order.insert(key)
        held.add(key)
        return False

    def _wanted_hits(self, key: Hashable) -> bool:
        held, order = self._held_wanted, self._wanted
        if key in held:
            order.touch(key)
            return True
        if len(held) >= self._size:
            victim = order.least()
            order.remove(victim)
            held.remove(victim)
        order.insert(key)
        held.add(key)
        return False
