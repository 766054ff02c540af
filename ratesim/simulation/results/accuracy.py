"""The accuracy of a run: how far its admissions are from those of an exact limiter in one place."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratesim.limit import Limit
from ratesim.simulation import counting
from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.results import comparison
from ratesim.simulation.results.oracle import exact
from ratesim.storage.config import MAX_CLOCK_SKEW

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Accuracy", "Comparison", "WorstWindow", "compare_with_oracle", "measure_accuracy"]

SPARSE = 4  # times as many whole numbers as requests are counted; more are compared
FEW = 16  # places that a request moves on average among those of its key and time, before all are sorted anew


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
        The busiest window: the largest cost admitted within any window of length `period`, wherever it begins, of any key,
        over the rate, minus 1. 0.5 is half too much, -1 that nothing was admitted. A value above 0 need not be a fault: an
        exact fixed window reaches 1 across an edge, and an exact bucket burst / rate.
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

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each measure: measure, value, unit (share, multiple of the limit minus 1, or cost)."""
        import pandas as pd

        units = {"worst_excess": "of the limit", "exact_total": "cost", "admitted_total": "cost"}
        names = [name for name in self.__struct_fields__ if name != "worst"]
        rows = [(name, getattr(self, name), units.get(name, "share")) for name in names]
        return pd.DataFrame(rows, columns=["measure", "value", "unit"])

    def _repr_html_(self) -> str:
        from ratesim.formatting import format_amount, format_excess, format_percent
        from ratesim.views.html import card_html

        facts = (
            ("over-admission", format_percent(self.over_admission)),
            ("false denial", format_percent(self.false_denial)),
            ("busiest window", format_excess(self.worst_excess)),
            ("admitted cost", format_amount(self.admitted_total)),
            ("exact cost", format_amount(self.exact_total)),
        )
        return card_html("Accuracy beside an exact limiter", facts)


class Comparison(NamedTuple):
    """A run's admissions beside the oracle's, request by request, in the order in which they were given.

    Attributes
    ----------
    accuracy
        The totals.
    granted
        Whether the oracle admitted each, shape (n,).
    excess
        What each adds to the cost that was admitted beyond the oracle's, shape (n,): a window's surplus is shared among the
        admissions in it that the oracle denied. It sums to over_admission times exact_total. None if nothing was.
    """

    accuracy: Accuracy
    granted: NDArray[np.bool_]
    excess: NDArray[np.float64] | None


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
    """Compare n decisions with those of the oracle; see `compare_with_oracle`."""
    return compare_with_oracle(limit, key, stamp, cost, admitted, order, since, max_clock_skew).accuracy


def compare_with_oracle(
    limit: Limit,
    key: ArrayLike,
    stamp: ArrayLike,
    cost: ArrayLike,
    admitted: ArrayLike,
    order: ArrayLike | None = None,
    since: float = -inf,
    max_clock_skew: float = MAX_CLOCK_SKEW,
) -> Comparison:
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
    Comparison
        The totals, and what is known of each request.

    Raises
    ------
    ValueError, InvalidLimitError
        As `exact` does, and ValueError for shapes that differ.
    """
    key, stamp, cost = np.asarray(key), np.ascontiguousarray(stamp, np.float64), np.ascontiguousarray(cost, np.float64)
    admitted = np.ascontiguousarray(admitted, np.bool_)
    if admitted.shape != key.shape:
        raise ValueError(f"admitted needs the shape of key, {key.shape}, not {admitted.shape}")
    if order is not None:
        order = np.ascontiguousarray(order)
        if order.shape != key.shape:
            raise ValueError(f"order needs the shape of key, {key.shape}, not {order.shape}")
    keys = int(key.max()) + 1 if key.size else 0
    if order is None or compiled(comparison).ascent(order):
        order = None
        granted = exact(limit, key, stamp, cost, keys, max_clock_skew=max_clock_skew)
    else:
        decided = _sorted_rows(order)
        granted = np.empty(len(key), np.bool_)
        granted[decided] = exact(limit, key[decided], stamp[decided], cost[decided], keys, max_clock_skew=max_clock_skew)
    rows, ends = _by_key_and_time(np.ascontiguousarray(key, np.int64), stamp, order, keys)
    most = int(np.diff(ends, prepend=0).max(initial=0))
    times, costs, sums, excess = np.empty(most), np.empty(most), np.zeros(5), np.zeros(len(key))
    columns = stamp, cost, admitted, granted, since, limit.period
    heaviest, place, start = compiled(comparison).compare_keys(rows, ends, *columns, times, costs, sums, excess)
    worst = WorstWindow(place, start, start + limit.period) if heaviest > 0.0 else None
    over, short, net, exact_total, admitted_total = sums.tolist()
    accuracy = Accuracy(
        over_admission=_ratio(over, exact_total),
        false_denial=_ratio(short, exact_total),
        net_over_admission=_ratio(net, exact_total),
        worst_excess=heaviest / limit.rate - 1.0,
        exact_total=exact_total,
        admitted_total=admitted_total,
        worst=worst,
    )
    return Comparison(accuracy, granted, excess if over > 0.0 else None)


def _sorted_rows(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows in the order of their numbers, equal ones in their own."""
    least = numbers.min()
    if not np.issubdtype(numbers.dtype, np.integer) or int(numbers.max()) - int(least) > SPARSE * len(numbers):
        return np.argsort(numbers, kind="stable")
    rows = np.empty(len(numbers), np.int64)
    compiled(counting).counting_order(numbers, least, np.zeros(int(numbers.max()) - int(least) + 2, np.int64), rows)
    return rows


def _by_key_and_time(
    key: NDArray[np.int64], stamp: NDArray[np.float64], order: NDArray[Any] | None, keys: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort by key and time, and so by window, too: floor(stamp / period) never falls as stamp grows.

    Returns
    -------
    tuple
        The rows, and the place at which each key ends.
    """
    rows, ends = np.empty(len(key), np.int64), np.zeros(keys + 1, np.int64)
    compiled(counting).counting_order(key, 0, ends, rows)
    loops = compiled(comparison)
    ascends = loops.ascent(stamp)  # strictly, most often
    if not ascends or (
        ascends == 1 and order is not None and not loops.order_ties(rows, key, stamp, order, FEW * len(rows))
    ):
        rows = np.lexsort((stamp, key) if order is None else (order, stamp, key))
    return rows, ends[:-1]


def _ratio(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return float(part) / whole if whole > 0 else inf
