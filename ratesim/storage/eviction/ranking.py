"""`Ranking`: two orders of entries, by demand and by recency, and the one that the traffic confirms."""

from __future__ import annotations

import sys

from ratesim.storage.eviction.entry import NEAR, Entry

__all__ = ["Ranking", "by_demand", "by_recency"]

CREDIT = 10.0  # turnovers, by which the order by late use puts an entry that was used twice before one used once
STEPS = 16.0  # levels for each doubling of demand, and for each turnover
MEMORY = 8  # comparisons looked back on, for each entry
FEWEST = 256
STRIDE = 0.6180339887498949  # of the entries, from one opponent to the next


class Ranking:
    """Compares two orders of entries: an order is right if it puts an entry that is used before another, taken at random.

    How often an order is right is the area under its ROC curve (Hanley and McNeil, Radiology 143(1), 1982). So the orders
    are compared on the entries that are there, and no cache needs to be kept by each (set dueling does: Qureshi et al., ISCA
    2007). "At random" is by steps of the golden section, which reach all.

    The order by demand, `Entry.far` alone, is right where popularity stays. The order by recency, the time of the last use,
    is right where keys come and go. Its credit for a second use keeps one-time keys from driving out keys that came back.

    Attributes
    ----------
    others
        All entries, and some that are gone.
    """

    def __init__(self) -> None:
        self.others: list[Entry] = []
        self._lead = 0.0  # of the order by late use
        self._compared = 0
        self._at = 0.0

    def judge(self, used: Entry, entries: int) -> None:
        """Judge both orders by an entry that is about to be used, one of `entries`."""
        others = self.others
        self._at = (self._at + STRIDE) % 1.0
        at = int(self._at * len(others))
        other = others[at]
        if other.gone:
            others[at] = others[-1]
            others.pop()
            return
        if other is used:
            return
        self._compared += 1
        ahead = _sign(_recency(used) - _recency(other)) - _sign(used.far - other.far)
        self._lead += (ahead - self._lead) / min(self._compared, max(FEWEST, MEMORY * entries))

    @property
    def recency_leads(self) -> bool:
        """Whether the order by recency is right more often; False before any comparison."""
        return self._lead > 0.0

    def tidy(self) -> None:
        """Drop the entries that are gone."""
        self.others = [entry for entry in self.others if not entry.gone]

    def bytes(self) -> int:
        """Return the bytes of the lists, without the entries."""
        return sys.getsizeof(self.others)


def by_demand(entry: Entry) -> int:
    """Return the level of an entry in the order by demand; it rises with each use."""
    return int(entry.far * STEPS)


def by_recency(entry: Entry) -> int:
    """Return the level of an entry in the order by recency; it rises with each use."""
    return int(_recency(entry) * STEPS)


def _recency(entry: Entry) -> float:
    """Turnovers; `near` is the logarithm of the demand of late, so 0 is one use and 1 is two."""
    uses = entry.near - entry.used / NEAR
    return entry.used + (CREDIT * uses if uses < 1.0 else CREDIT)


def _sign(difference: float) -> int:
    return (difference > 0.0) - (difference < 0.0)
