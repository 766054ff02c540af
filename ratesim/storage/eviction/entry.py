"""An entry: all that LimitAware knows of a key that is there."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf, log2

__all__ = ["FAR", "NEAR", "Entry"]

# Half-lives of a use, in turnovers: as many requests as there are entries.
NEAR = 4.0
FAR = 128.0


class Entry:
    """A key's time of being fresh again, its last use, and its demand of late and at all.

    fresh_at: seconds; -inf when nothing was charged yet.
    used: turnovers, when it was last used.
    near, far: log2 of its demand (LRFU: Lee et al., IEEE Trans. Computers 50(12), 2001), in which a use counts 1 and halves
        with every NEAR or FAR turnovers, plus the time in those half-lives. Everybody's demand falls as fast as that time
        rises, so these stand still between uses, and entries can be compared by them at any time.
    gone: whether it was removed. It may lie about as a shell for a while.
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
        self.used = now
        time = now / NEAR
        self.near = time + log2(2.0 ** (self.near - time) + 1.0)
        time = now / FAR
        self.far = time + log2(2.0 ** (self.far - time) + 1.0)

    def leave(self) -> None:
        """Be gone, and keep nothing alive."""
        self.gone = True
        self.key = None
        self.fresh_at = self.used = self.near = self.far = inf
