"""The accuracy of a run: how far its admissions are from those of an exact limiter in one place."""

from __future__ import annotations

import inspect
from math import fsum, inf
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.simulation.results.jit_cache import load
from ratesim.simulation.results.oracle import exact
from ratesim.storage.config import MAX_CLOCK_SKEW

__all__ = ["Accuracy", "WorstWindow", "measure_accuracy"]

ROWS = 1 << 20  # that are looked at together, and as many more as the last key among them has

_TAIL = """
from numba import njit

_heaviest = njit(cache=True, nogil=True)(_heaviest)
"""


class WorstWindow(NamedTuple):
    """The heaviest window of a run: [start, end) in seconds since the epoch, of the key with this index."""

    key: int
    start: float
    end: float


class Accuracy(msgspec.Struct, frozen=True):
    """The admissions of a run compared with the oracle's.

    Ratios are of the oracle's total; 0/0 counts as 0, x/0 is inf. After a warm-up, totals and the windows of `worst_excess`
    cover only the requests since its end. For a window (or a whole run) that straddles the warm-up boundary, only the growth
    of its surplus or shortage after the boundary counts. So a denial that makes up for a surplus before the boundary is no
    false one, and an old surplus is not counted again.

    Attributes
    ----------
    over_admission : float
        Cost admitted beyond the oracle's, summed over keys and windows [i * period, (i + 1) * period) since the epoch in
        which it is more.
    false_denial : float
        Cost admitted short of the oracle's, summed over those in which it is less.
    net_over_admission : float
        As over_admission, but with each key's whole run as one window: a bucket that overdraws pays back later.
    worst_excess : float
        The largest cost admitted within any window of length `period`, wherever it begins, of any key, over the cost that
        the limit permits there (rate; burst + rate for a bucket), minus 1. 0.5 is half too much, -1 that nothing was
        admitted. A value above 0 need not be a fault: an exact fixed window reaches 1 across an edge.
    exact_total, admitted_total : float
        Cost.
    worst : WorstWindow or None
        The window of worst_excess; None if no cost was admitted.
    """

    over_admission: float
    false_denial: float
    net_over_admission: float
    worst_excess: float
    exact_total: float
    admitted_total: float
    worst: WorstWindow | None


def measure_accuracy(
    limit: Limit,
    key: ArrayLike,
    stamp: ArrayLike,
    cost: ArrayLike,
    admitted: ArrayLike,
    order: ArrayLike | None = None,
    since: float = -inf,
    max_clock_skew: float = MAX_CLOCK_SKEW,
) -> Accuracy:
    """Compare n decisions with those of the oracle. Requests without a decision are no rows: leave them out.

    Parameters
    ----------
    limit : Limit
        The limit.
    key : ArrayLike
        Whole numbers from 0, dense, shape (n,).
    stamp : ArrayLike
        The true time at which each decision was requested, seconds since the epoch, shape (n,).
    cost : ArrayLike
        0, or 1e-6 to 1e12, shape (n,).
    admitted : ArrayLike
        Booleans, shape (n,).
    order : ArrayLike, optional
        Sequence numbers, shape (n,). The request with the least was decided first, equal ones in the order of their rows.
        Without them all were decided in the order of their rows.
    since : float
        End of the warm-up, seconds since the epoch. The oracle decides earlier requests as well, but they are not counted.
    max_clock_skew : float
        Seconds, the option of the storage that decided.

    Returns
    -------
    Accuracy
        The comparison.

    Raises
    ------
    ValueError, InvalidLimitError
        As `exact` does, and ValueError for shapes that differ.
    """
    key, stamp, cost = np.asarray(key), np.asarray(stamp, np.float64), np.asarray(cost, np.float64)
    admitted = np.asarray(admitted, np.bool_)
    if admitted.shape != key.shape:
        raise ValueError(f"admitted needs the shape of key, {key.shape}, not {admitted.shape}")
    if order is not None:
        order = np.asarray(order)
        if order.shape != key.shape:
            raise ValueError(f"order needs the shape of key, {key.shape}, not {order.shape}")
        decided = np.argsort(order, kind="stable")
        key, stamp, cost, admitted = key[decided], stamp[decided], cost[decided], admitted[decided]
    keys = int(key.max()) + 1 if key.size else 0
    granted = exact(limit, key, stamp, cost, keys, max_clock_skew=max_clock_skew)
    key = key.astype(np.int64, copy=False)
    by_key = np.lexsort((stamp, key))  # so by window, too: floor(stamp / period) never falls as stamp grows
    ends = np.cumsum(np.bincount(key, minlength=keys)) if key.size else np.zeros(1, np.int64)
    parts: list[_Part] = []
    first = 0
    while first < len(key):  # some keys at a time, since a sorted copy of ten million rows takes half a gigabyte
        last = int(ends[np.searchsorted(ends, min(first + ROWS, len(key)))])
        rows = by_key[first:last]
        parts.append(_part(limit, key[rows], stamp[rows], cost[rows], admitted[rows], granted[rows], since))
        first = last
    exact_total = fsum(part.exact for part in parts)
    heaviest = max(parts, key=lambda part: part.heaviest, default=None)
    permitted = limit.rate
    if bind(limit).algorithm.rule.BURST:
        permitted += limit.rate if limit.burst is None else limit.burst
    return Accuracy(
        over_admission=_ratio(fsum(part.over for part in parts), exact_total),
        false_denial=_ratio(fsum(part.short for part in parts), exact_total),
        net_over_admission=_ratio(fsum(part.net for part in parts), exact_total),
        worst_excess=-1.0 if heaviest is None else heaviest.heaviest / permitted - 1.0,
        exact_total=exact_total,
        admitted_total=fsum(part.admitted for part in parts),
        worst=None if heaviest is None else heaviest.worst,
    )


class _Part(NamedTuple):
    """The costs of some keys.

    Beyond and short of the oracle's by window, beyond by key; the oracle's, the run's, the heaviest window's, and that
    window.
    """

    over: float
    short: float
    net: float
    exact: float
    admitted: float
    heaviest: float
    worst: WorstWindow | None


def _part(
    limit: Limit,
    key: NDArray[np.int64],
    stamp: NDArray[np.float64],
    cost: NDArray[np.float64],
    admitted: NDArray[np.bool_],
    granted: NDArray[np.bool_],
    since: float,
) -> _Part:
    """Compare rows that are sorted by key, then time."""
    # Row by row, where equal decisions cancel exactly, before anything is summed and rounded.
    surplus = np.where(admitted, cost, 0.0) - np.where(granted, cost, 0.0)
    early = np.where(stamp < since, surplus, 0.0)
    other_key = np.diff(key, prepend=-1) != 0
    other_window = other_key | (np.diff(np.floor(stamp / limit.period), prepend=-inf) != 0)
    in_windows, before = _sums(surplus, other_window), _sums(early, other_window)
    counted = stamp >= since
    admitted, granted = admitted & counted, granted & counted
    key, stamp, ours = key[admitted], stamp[admitted], cost[admitted]
    heaviest, first = load("heaviest", "import numpy as np\n\n" + _HEAVIEST + _TAIL)._heaviest(
        key, stamp, ours, limit.period
    )
    start = float(stamp[first]) if first >= 0 else 0.0
    return _Part(
        over=_growth(in_windows, before),
        short=_growth(-in_windows, -before),
        net=_growth(_sums(surplus, other_key), _sums(early, other_key)),
        exact=float(cost[granted].sum()),
        admitted=float(ours.sum()),
        heaviest=heaviest,
        worst=WorstWindow(int(key[first]), start, start + limit.period) if first >= 0 else None,
    )


def _sums(values: NDArray[np.float64], begins: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.add.reduceat(values, np.flatnonzero(begins)) if len(values) else np.empty(0)


def _growth(after: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """Sum the growth, from before to after, of the parts above 0, where it is positive."""
    more = np.maximum(after, 0.0) - np.maximum(before, 0.0)
    return float(more[more > 0].sum())


def _ratio(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return float(part) / whole if whole > 0 else inf


def _heaviest(key, stamp, cost, period):  # type: ignore[no-untyped-def]
    # Compiled, never run here. Rows sorted by key, then stamp. The greatest cost of rows of one key less than `period`
    # apart, and the first of them; (0.0, -1) when none costs anything. What a half-open window holds is always such rows.
    most, at = 0.0, -1
    total, first = 0.0, 0
    for last in range(len(key)):
        if key[last] != key[first]:
            total, first = 0.0, last
        while stamp[last] - stamp[first] >= period:
            total -= cost[first]
            first += 1
        # A window that starts anew forgets the roundings of what has left it.
        total = cost[last] if first == last else total + cost[last]
        if total > most:
            most, at = total, first
    return most, at


_HEAVIEST = inspect.getsource(_heaviest)
