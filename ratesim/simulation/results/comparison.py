"""The order of requests by key and time, and the sums over windows and keys, as plain functions that numba compiles."""

from __future__ import annotations

from typing import Any

import numpy as np


def ascent(values: Any) -> int:
    """Return 2 where every value is greater than the one before it, 1 where none is less, else 0."""
    found = 2
    for row in range(1, len(values)):
        if values[row] < values[row - 1]:
            return 0
        if values[row] == values[row - 1]:
            found = 1
    return found


def order_ties(rows: Any, key: Any, stamp: Any, order: Any, most: int) -> bool:
    """Sort rows of one key and one time by `order`; return False if that takes more than so many steps.

    rows: by key and time. key, stamp, order: of all rows.
    """
    first = 0
    for place in range(1, len(rows)):
        row = rows[place]
        if key[row] != key[rows[first]] or stamp[row] != stamp[rows[first]]:
            first = place
            continue
        to = place
        while to > first and order[rows[to - 1]] > order[row]:
            rows[to] = rows[to - 1]
            to -= 1
        rows[to] = row
        most -= place - to
        if most < 0:
            return False
    return True


def growth(after: float, before: float) -> float:
    """Return the growth of the part above 0."""
    return max(after, 0.0) - max(before, 0.0)


def compare_keys(
    rows: Any,
    ends: Any,
    stamp: Any,
    cost: Any,
    admitted: Any,
    granted: Any,
    since: float,
    period: float,
    times: Any,
    costs: Any,
    sums: Any,
    excess: Any,
) -> tuple[float, int, float]:
    """Compare admissions window by window and key by key, where equal decisions cancel exactly.

    Parameters
    ----------
    rows, ends
        Rows by key and time, and the place at which each key ends.
    stamp, cost, admitted, granted
        Of all rows.
    times, costs
        Room for as many numbers as a key has rows.
    sums
        Zeros; become the costs beyond and short of the oracle's by window, and beyond by key, and, since `since`, those that
        the oracle admitted and that the run did.
    excess
        Zeros; becomes what each row adds to what is beyond. What a window has more since the warm-up is shared among its
        counted rows with a surplus, in proportion to that.

    Returns
    -------
    tuple
        The greatest cost that was admitted to one key less than `period` apart, that key, and the first time; 0.0 if nothing
        was admitted. What a half-open window holds is always from one admission to another.
    """
    heaviest, worst, begins = 0.0, -1, 0.0
    place = 0
    for key in range(len(ends)):
        in_window, window_before, beyond, in_key, key_before = 0.0, 0.0, 0.0, 0.0, 0.0
        opened, window = place, 0.0
        total, first, last = 0.0, 0, 0
        while place < ends[key]:
            row = rows[place]
            at, more = stamp[row], cost[row]
            if admitted[row] != granted[row] and more != 0.0:
                now = np.floor(at / period)
                if now != window:
                    close_window(
                        in_window,
                        window_before,
                        beyond,
                        rows[opened:place],
                        stamp,
                        cost,
                        admitted,
                        granted,
                        since,
                        sums,
                        excess,
                    )
                    in_window, window_before, beyond = 0.0, 0.0, 0.0
                    opened, window = place, now
                surplus = more if admitted[row] else -more
                in_window += surplus
                in_key += surplus
                if at < since:
                    window_before += surplus
                    key_before += surplus
                elif surplus > 0.0:
                    beyond += surplus
            if granted[row] and at >= since:
                sums[3] += more
            if admitted[row] and at >= since:
                sums[4] += more
                times[last], costs[last] = at, more
                while at - times[first] >= period:
                    total -= costs[first]
                    first += 1
                # A window that starts anew forgets the roundings of what has left it.
                total = more if first == last else total + more
                last += 1
                if total > heaviest:
                    heaviest, worst, begins = total, key, times[first]
            place += 1
        close_window(
            in_window, window_before, beyond, rows[opened:place], stamp, cost, admitted, granted, since, sums, excess
        )
        sums[2] += max(growth(in_key, key_before), 0.0)
    return heaviest, worst, begins


def close_window(
    in_window: float,
    before: float,
    beyond: float,
    rows: Any,
    stamp: Any,
    cost: Any,
    admitted: Any,
    granted: Any,
    since: float,
    sums: Any,
    excess: Any,
) -> None:
    """Add the surplus or the shortage of one key's window of these rows, of which `before` was there before `since`."""
    more = growth(in_window, before)
    if more > 0.0:
        sums[0] += more
        share = more / beyond if beyond > 0.0 else 0.0
        for row in rows:
            if admitted[row] and not granted[row] and stamp[row] >= since:
                excess[row] = cost[row] * share
    sums[1] += max(growth(-in_window, -before), 0.0)
