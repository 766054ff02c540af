"""A station: a queue in front of one or more equal servers, first come, first served.

No event is needed for the queue: Lindley's recursion gives the end of a service when it is asked for, free = max(arrival,
free) + service (D. V. Lindley, The theory of queues with a single server, 1952).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.queueing.station_stats import StationStats

__all__ = ["FifoStation", "lindley_waits", "record_batch"]

CHUNK = 3 * 2048  # numbers that are noted before the account takes them: 48 kB


class FifoStation:
    """`concurrency` servers; arrivals must come in order of time. What happens is kept account of, and checked.

    account: up to a moment ago; all of it once the station is closed.
    """

    __slots__ = ("_free", "_note", "_noted", "account", "in_order")

    def __init__(self, concurrency: int = 1) -> None:
        self._free = [0.0] * concurrency
        heapify(self._free)
        self.in_order = concurrency == 1  # whether customers leave in the order in which they came
        self.account = StationStats(concurrency)
        self._noted = array("d")  # arrival, service and end of one customer after the other
        self._note = self._noted.append

    @property
    def busy(self) -> float:
        """Server-seconds that were asked for, but for what a crash made idle."""
        return self.account.services + float(np.array(self._noted[1::3]).sum())

    @property
    def served(self) -> int:
        """Customers."""
        return self.account.arrivals + len(self._noted) // 3

    def begin_anew(self, at: float, down: float | None = None) -> None:
        """Nobody waits or is served any more, and nobody will be before `at`.

        down: since when; without it, since the last one came.
        """
        self._settle()
        self._free = [at] * len(self._free)
        self.account.begin_anew(self.account.until if down is None else down, at)

    def discount(self, at: float) -> None:
        """Figures count from now, `at`, on."""
        self._settle()
        self.account.discount(at)

    def take(self, arrival: float, service: float) -> float:
        """The time at which a customer who comes at `arrival` and needs `service` seconds leaves."""
        free = self._free[0]
        end = (free if free > arrival else arrival) + service
        if self.in_order:
            self._free[0] = end
        else:
            heapreplace(self._free, end)
        note = self._note
        note(arrival)
        note(service)
        note(end)
        if len(self._noted) >= CHUNK:
            self._settle()
        return end

    def took(self, arrival: NDArray[np.float64], service: float, stay: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        """Customers who came in the order of these rows and were here for so long; the station was not asked about them."""
        self._settle()
        for first in range(0, len(rows), CHUNK):
            some = rows[first : first + CHUNK]
            self.account.add(arrival[some], np.full(len(some), service), arrival[some] + stay[some])

    def close(self, at: float) -> None:
        """The observation ends at `at`; for inf, when the last one leaves. AssertionError where the station was no queue."""
        self._settle()
        self.account.close(at)

    def _settle(self) -> None:
        if self._noted:
            noted = np.array(self._noted).reshape(-1, 3)
            del self._noted[:]
            self.account.add(*np.ascontiguousarray(noted.T))


def lindley_waits(arrival: NDArray[np.float64], queue: NDArray[np.integer[Any]], service: float) -> NDArray[np.float64]:
    """Seconds in the system, waiting and service, of customers that are all known: Lindley's recursion at once.

    arrival: in order, shape (n,). queue: which of several equal single servers each goes to. service: the same for all.
    The k-th customer of a queue leaves at service + the maximum over j <= k of arrival[j] + (k - j) * service.
    """
    order = np.argsort(queue, kind="stable")
    stay = np.empty(len(arrival))
    for rows in np.split(order, np.flatnonzero(np.diff(queue[order])) + 1):
        ahead = np.arange(len(rows)) * service
        stay[rows] = np.maximum.accumulate(arrival[rows] - ahead) + ahead + service - arrival[rows]
    return stay


def record_batch(
    stations: Sequence[FifoStation],
    arrival: NDArray[np.float64],
    queue: NDArray[np.integer[Any]],
    service: float,
    stay: NDArray[np.float64],
) -> None:
    """Enter what `lindley_waits` found into the account of the stations that it was about."""
    order = np.argsort(queue, kind="stable")
    ends = np.searchsorted(queue[order], np.arange(len(stations) + 1))
    for station, first, last in zip(stations, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        station.took(arrival, service, stay, order[first:last])
