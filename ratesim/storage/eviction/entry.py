"""`Entry`: the knowledge of LimitAware about a key that is there."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf, log2

__all__ = ["FAR", "NEAR", "Entry"]

# Half-lives of a use, in turnovers: as many requests as there are entries.
NEAR = 4.0
FAR = 128.0


class Entry:
    """A key's time of being as good as new, its last use, and its recent and long-term demand.

    Attributes
    ----------
    fresh_at
        Seconds; -inf before anything was charged.
    used
        Time of the last use, turnovers.
    near, far
        log2 of the demand (LRFU: Lee et al., IEEE Trans. Computers 50(12), 2001), in which a use counts 1 and halves with
        every NEAR or FAR turnovers, plus the time in those half-lives. The demand of every entry falls as fast as that time
        rises, so these stand still between uses, and entries can be compared by them at any time.
    gone
        Whether it was removed. The shell may stay in some lists for a while.
    """

    __slots__ = ("far", "fresh_at", "gone", "key", "near", "used")

    def __init__(self, key: Hashable, now: float) -> None:
        """First used at `now`, turnovers."""
        self.key = key
        self.fresh_at = -inf
        self.gone = False
        self.used = now
        self.near = now / NEAR
        self.far = now / FAR

    def use(self, now: float) -> None:
        """Count a use at `now`, turnovers."""
        self.used = now
        time = now / NEAR
        self.near = time + log2(2.0 ** (self.near - time) + 1.0)
        time = now / FAR
        self.far = time + log2(2.0 ** (self.far - time) + 1.0)

    def leave(self) -> None:
        """Mark the entry as gone, and keep nothing alive."""
        self.gone = True
        self.key = None
        self.fresh_at = self.used = self.near = self.far = inf
