"""`Schedule`: keys by the time at which they are due. The earliest is found at once, however many there are.

Times are cut into ticks. The keys of a tick lie together, and a tree of bitmaps, 64 ticks or 64 bitmaps to each, tells
which ticks have any. An operation reads LEVELS whole numbers at most. (A timing wheel, Varghese and Lauck, SOSP 1987,
turns with the clock; this needs none, and a key may be added that is due before all others.)
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Schedule", "tick_of"]

TICKS_PER_SECOND = 1024
LEVELS = 8  # of 6 bits each: 2**48 ticks, 8700 years
LAST = (1 << 6 * LEVELS) - 1
END = LAST / TICKS_PER_SECOND  # seconds
COARSE = 5  # bits: a tick is at most 1/32 of the time left too early, so that far times need few slots


def tick_of(time: float, now: float) -> int:
    """Return the tick of a due time, seconds, seen at `now`: never later, earlier by 1/32 of the time left at most."""
    tick = _tick(time)
    rounded = (tick - _tick(now)).bit_length() - 1 - COARSE if time > now else 0
    return tick >> rounded << rounded if rounded > 0 else tick


def _tick(time: float) -> int:
    if 0.0 <= time < END:
        return int(time * TICKS_PER_SECOND)
    return 0 if time < 0.0 else LAST


class Schedule:
    """Keys by tick; those of one tick in the order in which they were added."""

    def __init__(self) -> None:
        self._slots: dict[int, OrderedDict[Hashable, None]] = {}
        self._maps: list[dict[int, int]] = [{} for _ in range(LEVELS)]  # of each level, by what its ticks begin with

    def add(self, key: Hashable, tick: int) -> None:
        """Add a key that is not there."""
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = OrderedDict()
            at = tick
            for level in self._maps:
                bits = level.get(at >> 6, 0)
                level[at >> 6] = bits | 1 << (at & 63)
                if bits:  # the levels above know already
                    break
                at >>= 6
        slot[key] = None

    def discard(self, key: Hashable, tick: int) -> None:
        """Drop a key; KeyError if it is not there."""
        slot = self._slots[tick]
        del slot[key]
        if slot:
            return
        del self._slots[tick]
        at = tick
        for level in self._maps:
            bits = level[at >> 6] & ~(1 << (at & 63))
            if bits:
                level[at >> 6] = bits
                break
            del level[at >> 6]
            at >>= 6

    def bytes(self) -> int:
        """Return the bytes of the tables, without keys and ticks."""
        tables = [*self._slots.values(), *self._maps, self._slots]
        return sum(map(sys.getsizeof, tables)) + sys.getsizeof(1 << 63) * sum(map(len, self._maps))

    def earliest(self) -> int:
        """Return the first tick that has a key; -1 if none has."""
        if not self._slots:
            return -1
        at = 0
        for level in reversed(self._maps):
            bits = level[at]
            at = at << 6 | (bits & -bits).bit_length() - 1
        return at

    def first(self, tick: int) -> Hashable:
        """Return the key that was added first to a tick that has any."""
        return next(iter(self._slots[tick]))
