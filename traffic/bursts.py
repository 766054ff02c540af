"""How much of a key's cost comes in windows of time, and how far the distributions of two traces are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from traffic.dispersion import FEWEST_WINDOWS
from traffic.trace import Trace

__all__ = ["burst_values", "burst_windows", "bursts", "kolmogorov", "places", "preceding", "sorted_distance", "thinned"]

Reals = NDArray[np.float64]

WINDOWS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)  # seconds
MOST_VALUES = 20_000  # of a distribution


def burst_values(trace: Trace, windows: Sequence[float]) -> list[Reals]:
    """Return sorted values whose distances say how alike two traces are to a limiter.

    They are the places of requests in time, and the cost in the windows before a request, of all and of its key.
    """
    found = [thinned(places(trace)), *bursts(trace, windows, per_key=False)]
    return found + bursts(trace, windows, per_key=True) if len(trace.keys) > 1 else found


def bursts(trace: Trace, windows: Sequence[float], per_key: bool) -> list[Reals]:
    """Return `preceding` for each window, sorted and thinned."""
    return [thinned(each) for each in _preceding(trace, windows, per_key)]


def thinned(values: Reals) -> Reals:
    """Sort values, and keep at most `MOST_VALUES` of them, evenly by rank: no share changes by more than one in so many."""
    values = np.sort(values)
    if len(values) <= MOST_VALUES:
        return values
    kept: Reals = values[((np.arange(MOST_VALUES) + 0.5) * len(values) / MOST_VALUES).astype(np.int64)]
    return kept


def kolmogorov(one: Reals, other: Reals) -> float:
    """Return the largest difference of two empirical distribution functions, from 0 to 1.

    A. N. Kolmogorov, Giornale dell'Istituto Italiano degli Attuari 4, 1933; of two samples: N. V. Smirnov, 1939.
    """
    return sorted_distance(np.sort(one), np.sort(other))


def sorted_distance(one: Reals, other: Reals) -> float:
    """Return `kolmogorov` of values that ascend."""
    at = np.unique(np.concatenate((one, other)))
    shares = [np.searchsorted(each, at, side="right") / max(len(each), 1) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max(initial=0.0))


def preceding(trace: Trace, seconds: float, per_key: bool = True) -> Reals:
    """Return, for each request, the cost of the requests in the window of `seconds` that ends with it, its own included.

    A sliding log whose period is the window finds just that, if it has denied none of them. Shape (len(trace),), in the
    order of keys and times.

    Parameters
    ----------
    trace : Trace
        The requests.
    seconds : float
        Length of the window.
    per_key : bool
        Whether only requests of the same key count.
    """
    return _preceding(trace, (seconds,), per_key)[0]


def _preceding(trace: Trace, windows: Sequence[float], per_key: bool) -> list[Reals]:
    if not len(trace) or not windows:
        return [np.zeros(0)] * len(windows)
    key = trace.key if per_key else np.zeros(len(trace), np.int64)
    order = np.lexsort((trace.time, key)) if per_key else np.arange(len(trace))
    span = trace.duration + 2.0 * max(windows)  # of one key, so that no window reaches into the one before
    tick = max(1e-9, span * (int(key.max()) + 1) / 2.0**61)  # whole ticks, for any number of keys
    at = ((trace.time[order] - trace.time[0]) / tick).astype(np.int64) + key[order] * int(span / tick)
    paid = np.concatenate(([0.0], np.cumsum(trace.cost[order])))
    # Sums are rounded, so that equal ones are equal.
    return [np.round(paid[1:] - paid[np.searchsorted(at, at - int(each / tick), side="right")], 9) for each in windows]


def burst_windows(duration: float) -> list[float]:
    """Return the lengths of windows, in seconds, of which enough fit into a duration."""
    return [each for each in WINDOWS if each * FEWEST_WINDOWS <= duration]


def places(trace: Trace) -> Reals:
    """Return the place of each request between the first and the last, from 0 to 1."""
    between: Reals = (trace.time - trace.time[0]) / trace.duration
    return between
