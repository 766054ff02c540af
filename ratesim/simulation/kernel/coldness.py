"""What a request costs more after a pause: `Coldness`, whose points are the rows [first, first + size) of an array."""

from __future__ import annotations

from typing import Any

COLD_LAST = 0.7  # as LAST of the cost model
COLD_WAKE, COLD_ASK, COLD_ANSWER, COLD_AFTER, COLD_SERVED = 0, 1, 2, 3, 4


def cold_pause(points: Any, first: int, size: int, idle: float, before: float) -> float:
    """Return the idle seconds that count for a request."""
    return COLD_LAST * min(idle, points[first + size - 1].idle) + (1.0 - COLD_LAST) * before


def cold_place(points: Any, first: int, size: int, idle: float) -> int:
    """Return the last point that is not above so many idle seconds."""
    place = first
    while place + 1 < first + size and points[place + 1].idle <= idle:
        place += 1
    return place


def cold_share(points: Any, first: int, size: int, place: int, idle: float) -> float:
    """Return the share of the way from a point to the next one; 0 at the last."""
    if place + 1 >= first + size:
        return 0.0
    return (idle - points[place].idle) / (points[place + 1].idle - points[place].idle)


def cold_value(point: Any, what: int) -> float:
    """Return one of the costs of a point."""
    if what == COLD_WAKE:
        return point.wake
    if what == COLD_ASK:
        return point.ask
    if what == COLD_ANSWER:
        return point.answer
    if what == COLD_AFTER:
        return point.after
    return point.served


def cold_between(points: Any, place: int, share: float, what: int) -> float:
    """Return what costs more at a share of the way from a point to the next one: `between`."""
    value = cold_value(points[place], what)
    return value + share * (cold_value(points[place + 1], what) - value) if share != 0.0 else value


def cold_more(points: Any, first: int, size: int, idle: float, what: int) -> float:
    """Return what costs more after so many idle seconds."""
    place = cold_place(points, first, size, idle)
    return cold_between(points, place, cold_share(points, first, size, place, idle), what)
