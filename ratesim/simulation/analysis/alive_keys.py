"""Alive keys: how many states a limiter must hold at once for a trace, and how fast that number grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ratesim.formatting import format_count, format_percent
from ratesim.limit import Limit
from ratesim.simulation.results.oracle import fresh_times
from traffic import Trace

__all__ = ["AliveKeys", "alive_keys"]

LAST = 0.1  # of the trace, whose growth is expected to go on


@dataclass(frozen=True)
class AliveKeys:
    """The keys of a trace that are alive at once: a key is alive until its state is as good as new.

    Attributes
    ----------
    most
        At any moment of the trace.
    growth
        By what share the most in the last tenth of the trace exceeds the most before it; 0 where it does not.
    is_cut
        Whether the trace is shorter than the longest life of one of its states, so that a longer one may have more.
    """

    most: int
    growth: float
    is_cut: bool

    @property
    def room(self) -> int:
        """The number of keys to hold: the most, grown once more as in the last tenth; at least 1."""
        return max(math.ceil(self.most * (1.0 + self.growth) - 1e-9), 1)

    @property
    def sentence(self) -> str:
        """The same in words."""
        grows = f", growing {format_percent(self.growth)} in its last tenth" if self.growth else ""
        cut = "; it is shorter than the life of a state, so a longer one may have more" if self.is_cut else ""
        return (
            f"Room for {format_count(self.room, 'key')}: {self.most:,} alive at once in the traffic{grows}{cut}; "
            "`--keys` says otherwise."
        )


def alive_keys(limit: Limit, trace: Trace) -> AliveKeys:
    """Count the keys of a trace whose states an exact limiter must hold.

    A state begins with an admitted request, and each further one prolongs it. A key that is only ever denied has no state.
    """
    allowed, until = fresh_times(limit, trace)
    rows = np.flatnonzero(allowed & (until > trace.time))
    if not rows.size:
        return AliveKeys(0, 0.0, False)
    rows = rows[np.argsort(trace.key[rows], kind="stable")]  # a trace is in the order of its times
    key, begin, end = trace.key[rows], trace.time[rows], until[rows]
    is_new = np.r_[True, (key[1:] != key[:-1]) | (begin[1:] >= end[:-1])]
    begins, ends = np.sort(begin[is_new]), np.sort(end[np.r_[is_new[1:], True]])
    alive = np.arange(1, len(begins) + 1) - np.searchsorted(ends, begins, "right")  # as each state begins
    cut = trace.time[-1] - LAST * trace.duration
    first = np.searchsorted(begins, cut)
    before = int(alive[:first].max(initial=0))
    carried = first - int(np.searchsorted(ends, cut, "right"))  # alive as the last tenth begins
    last = int(alive[first:].max(initial=carried))
    growth = max(last / before - 1.0, 0.0) if before else 0.0
    return AliveKeys(int(alive.max()), growth, bool((end - begin).max() > trace.duration))
