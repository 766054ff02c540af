"""Sorting by counting, as a plain function that numba compiles."""

from __future__ import annotations

from typing import Any


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
