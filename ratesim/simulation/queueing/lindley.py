"""Lindley's recursion for customers that are all known, as a plain function that numba compiles."""

from __future__ import annotations

from typing import Any


def serve_all(arrival: Any, queue: Any, service: Any, idle: Any, more: Any, free: Any, stay: Any) -> None:
    """Serve customers in the order of their arrivals, each at the single server that it goes to.

    arrival, queue: of the customers. service: their seconds; what a pause adds is added. idle, more: the points of a line,
    from idle seconds to the seconds that they add, if any. free: when each server is free. stay: becomes the seconds inside.
    """
    last = len(idle) - 1
    for row in range(len(arrival)):
        at = arrival[row]
        until = free[queue[row]]
        begin = max(at, until)
        if last >= 0:
            pause = begin - until
            place = 0
            while place < last and idle[place + 1] <= pause:
                place += 1
            added = more[place]
            if place < last:
                added += (pause - idle[place]) / (idle[place + 1] - idle[place]) * (more[place + 1] - added)
            service[row] += added
        end = begin + service[row]
        free[queue[row]] = end
        stay[row] = end - at
