"""The order of requests by key and time, and the sums over windows and keys, as plain functions that numba compiles."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_ascending(values: Any) -> bool:
    """Tell whether no value is less than the one before it."""
    row = 1
    while row < len(values) and not values[row] < values[row - 1]:
        row += 1
    return row >= len(values)


def counting_order(values: Any, least: int, begin: Any, rows: Any) -> None:
    """Sort whole numbers, equal ones in the order of their rows.

    values: from `least` on. begin: zeros, two more than the largest is above that. rows: becomes the rows in order.
    """
    for row in range(len(values)):
        begin[values[row] - least + 1] += 1
    for place in range(len(begin) - 1):
        begin[place + 1] += begin[place]
    for row in range(len(values)):
        place = values[row] - least
        rows[begin[place]] = row
        begin[place] += 1


def order_ties(rows: Any, key: Any, stamp: Any, order: Any, most: int) -> bool:
    """Sort rows of one key and one time by `order`; return False if that takes more than so many steps.

    rows: by key and time. key, stamp: theirs, sorted alike. order: of all rows.
    """
    first = 0
    for place in range(1, len(rows)):
        if key[place] != key[first] or stamp[place] != stamp[first]:
            first = place
            continue
        row = rows[place]
        to = place
        while to > first and order[rows[to - 1]] > order[row]:
            rows[to] = rows[to - 1]
            to -= 1
        rows[to] = row
        most -= place - to
        if most < 0:
            return False
    return True


def gather_times(rows: Any, key: Any, stamp: Any, keys: Any, stamps: Any) -> None:
    """Gather keys and times in the order of rows."""
    for place in range(len(rows)):
        keys[place] = key[rows[place]]
        stamps[place] = stamp[rows[place]]


def gather_costs(
    rows: Any, key: Any, stamp: Any, cost: Any, admitted: Any, granted: Any, since: float, surplus: Any, kept: Any, sums: Any
) -> int:
    """Gather what was admitted beyond the oracle's, row by row, where equal decisions cancel exactly.

    Parameters
    ----------
    rows, key, stamp
        Rows by key and time, and their keys and times, sorted alike.
    cost, admitted, granted
        Of all rows.
    surplus
        Becomes the cost admitted beyond the oracle's, of the sorted rows.
    kept
        Its first elements become the places of the admissions since `since`.
    sums
        To the last two are added the costs that the oracle admitted and that the run did, since then.

    Returns
    -------
    int
        The number of these admissions.
    """
    count = 0
    for place in range(len(rows)):
        row = rows[place]
        ours = cost[row] if admitted[row] else 0.0
        exact = cost[row] if granted[row] else 0.0
        surplus[place] = ours - exact
        if stamp[place] >= since:
            sums[3] += exact
            sums[4] += ours
            kept[count] = place
            count += admitted[row]
    return count


def growth(after: float, before: float) -> float:
    """Return the growth of the part above 0."""
    return max(after, 0.0) - max(before, 0.0)


def window_sums(key: Any, stamp: Any, surplus: Any, since: float, period: float, sums: Any, excess: Any) -> bool:
    """Compare admissions window by window and key by key; return whether any window has more than the oracle's.

    What a window has more since the warm-up is shared among its counted rows with a surplus, in proportion to that.

    Parameters
    ----------
    key, stamp, surplus
        Of all rows of some keys, sorted by key, then time.
    sums
        To the first three are added the costs beyond and short of the oracle's by window, and beyond by key.
    excess
        Zeros; becomes what each row adds to what is beyond.
    """
    in_window, window_before, beyond, in_key, key_before = 0.0, 0.0, 0.0, 0.0, 0.0
    first, window, found = 0, 0.0, False
    for place in range(len(key) + 1):
        ends = place == len(key)
        now = 0.0 if ends else np.floor(stamp[place] / period)
        other_key = ends or key[place] != key[first]
        if other_key or now != window:
            more = growth(in_window, window_before)
            if more > 0.0:
                found = True
                sums[0] += more
                share = more / beyond if beyond > 0.0 else 0.0
                for i in range(first, place):
                    if surplus[i] > 0.0 and stamp[i] >= since:
                        excess[i] = surplus[i] * share
            sums[1] += max(growth(-in_window, -window_before), 0.0)
            in_window, window_before, beyond = 0.0, 0.0, 0.0
            if other_key:
                sums[2] += max(growth(in_key, key_before), 0.0)
                in_key, key_before = 0.0, 0.0
            first, window = place, now
        if not ends and surplus[place] != 0.0:
            in_window += surplus[place]
            in_key += surplus[place]
            if stamp[place] < since:
                window_before += surplus[place]
                key_before += surplus[place]
            elif surplus[place] > 0.0:
                beyond += surplus[place]
    return found


def heaviest_window(kept: Any, key: Any, stamp: Any, rows: Any, cost: Any, period: float) -> tuple[float, int]:
    """Return the greatest cost that was admitted to one key less than `period` apart, and the first place, or (0.0, -1).

    kept: the places of admissions in `rows`, as of `gather_costs`. What a half-open window holds is always such places.
    """
    most, at = 0.0, -1
    total, first = 0.0, 0
    for last in range(len(kept)):
        place = kept[last]
        if key[place] != key[kept[first]]:
            total, first = 0.0, last
        while stamp[place] - stamp[kept[first]] >= period:
            total -= cost[rows[kept[first]]]
            first += 1
        # A window that starts anew forgets the roundings of what has left it.
        total = cost[rows[place]] if first == last else total + cost[rows[place]]
        if total > most:
            most, at = total, kept[first]
    return most, at
