"""Demand: keys by how often they ask, with what is long ago counting less, and remembered beyond their eviction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import log2

from ratesim.storage.eviction.schedule import Schedule

__all__ = ["Demand"]

HALF_LIFE = 16.0  # turnovers of the store, after which a use counts half
STEPS = 8  # levels for each doubling of demand
GHOSTS = 2  # keys that are remembered, for each that is there


class Demand:
    """An order of entries by decayed demand (LRFU: Lee et al., IEEE Trans. Computers 50(12), 2001), in O(1).

    A use counts 1 and halves with every half-life, which is counted in turnovers: as many insertions as there are entries.
    The logarithm of an entry's demand falls as fast as everybody's, so relative to a clock that rises as fast it stands
    still between uses, and entries can lie in queues by it. A queue spans a factor of 2**(1/8), and within one the first
    to come is the first: so an entry may go before another that is wanted less, by that factor at most. A use moves no
    entry; one that comes to the front of the lowest queue is moved when it was used since: amortised O(1). What goes is
    remembered, until there are twice as many ghosts as entries."""

    def __init__(self) -> None:
        self._demand: dict[Hashable, float] = {}  # log2 of the demand, plus the clock
        self._level: dict[Hashable, int] = {}
        self._queues = Schedule()
        self._gone: OrderedDict[Hashable, float] = OrderedDict()
        self._clock = 0.0  # half-lives

    def insert(self, key: Hashable) -> None:
        self._clock += 1.0 / (HALF_LIFE * (len(self._demand) + 1))
        demand = self._raised(self._gone.pop(key, None))
        self._demand[key] = demand
        level = self._level[key] = int(demand * STEPS)
        self._queues.add(key, level)

    def touch(self, key: Hashable) -> None:
        self._demand[key] = self._raised(self._demand[key])

    def remove(self, key: Hashable) -> None:
        self._gone[key] = self._demand.pop(key)
        self._queues.discard(key, self._level.pop(key))
        while len(self._gone) > GHOSTS * (len(self._demand) + 1):
            self._gone.popitem(last=False)

    def least(self) -> Hashable:
        """The entry with the least demand; there must be one."""
        while True:
            level = self._queues.earliest()
            key = self._queues.first(level)
            actual = int(self._demand[key] * STEPS)
            if actual == level:
                return key
            self._queues.discard(key, level)
            self._level[key] = actual
            self._queues.add(key, actual)

    def _raised(self, demand: float | None) -> float:
        clock = self._clock
        return clock if demand is None else clock + log2(2.0 ** (demand - clock) + 1.0)
