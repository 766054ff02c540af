"""The accounts of stations: the servers', and behind them the nodes'; `StationStats`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.layout import ACCOUNT_WRONG, FULL
from ratesim.simulation.queueing.station_account import (
    BINS,
    account_add,
    account_come,
    account_go,
    account_room,
)

STATION_BINS = BINS + 5  # from a station to the next: a power of two would crowd them into a few places of a cache


def station_add(w: Any, number: int, arrival: float, service: float, end: float) -> None:
    """Add a customer of a queue."""
    account = w.accounts[number]
    ring = w.rings[number]
    if account.inside == ring.length:
        station_widen(w, number)
    bins = w.bins[number * STATION_BINS : number * STATION_BINS + BINS]
    code = account_add(account, bins, w.guests[ring.first : ring.first + ring.length], arrival, service, end)
    if code != 0 and w.abort == 0:
        w.abort = ACCOUNT_WRONG


def station_widen(w: Any, number: int) -> None:
    """Move the customers inside a station to a ring of twice the size."""
    ring = w.rings[number]
    first = w.guests_used
    size = 2 * ring.length
    if first + size > len(w.guests):
        w.abort = FULL
        return
    account_room(w.accounts[number], w.guests[ring.first : ring.first + ring.length], w.guests[first : first + size])
    ring.first = first
    ring.length = size
    w.guests_used = first + size


def station_come(w: Any) -> None:
    """Let a customer come to the cores of the first server."""
    account_come(w.accounts[0], w.bins[0:BINS], w.guests[w.rings[0].first : w.rings[0].first + 1], w.now)


def station_go(w: Any, at: float, stay: float, service: float) -> None:
    """Let a customer leave the cores of the first server."""
    account_go(w.accounts[0], w.bins[0:BINS], w.guests[w.rings[0].first : w.rings[0].first + 1], at, stay, service)
