"""A FIFO station: a queue in front of one or more equal servers, first come, first served.

The queue needs no event. Lindley's recursion gives the end of a service when it is asked for: free = max(arrival, free) +
service (D. V. Lindley, The theory of queues with a single server, 1952).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation import counting
from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.queueing import lindley
from ratesim.simulation.queueing.station_stats import StationStats

__all__ = ["FifoStation", "lindley_waits", "record_batch", "rows_by_queue"]

CHUNK = 3 * 2048  # numbers that are noted before the account takes them: 48 kB


class FifoStation:
    """A queue in front of `concurrency` servers; arrivals must come in order of time.

    Attributes
    ----------
    stats : StationStats
        Statistics up to a moment ago; complete once the station is closed. They are checked for consistency.
    """

    __slots__ = ("_free", "_note", "_noted", "in_order", "stats")

    def __init__(self, concurrency: int = 1) -> None:
        self._free = [0.0] * concurrency
        heapify(self._free)
        self.in_order = concurrency == 1  # whether customers leave in the order in which they came
        self.stats = StationStats(concurrency)
        self._noted = array("d")  # arrival, service and end of one customer after the other
        self._note = self._noted.append

    @property
    def busy(self) -> float:
        """Server-seconds that were asked for, without those that a crash made idle."""
        self._settle()
        return self.stats.services

    @property
    def served(self) -> int:
        """Number of customers."""
        return self.stats.arrivals + len(self._noted) // 3

    def restart(self, at: float, down: float | None = None) -> None:
        """Send all customers away, and serve nobody before `at`.

        Parameters
        ----------
        at : float
            The time at which the station serves again, in seconds.
        down : float, optional
            The time since which it is down; by default the last arrival.
        """
        self._settle()
        self._free = [at] * len(self._free)
        self.stats.restart(self.stats.until if down is None else down, at)

    def end_warmup(self, at: float) -> None:
        """Count figures from now, `at`, on."""
        self._settle()
        self.stats.end_warmup(at)

    def serve(self, arrival: float, service: float) -> float:
        """Return the departure time of a customer that comes at `arrival` and needs `service` seconds."""
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

    def record(self, *customers: NDArray[Any]) -> None:
        """Record customers whose stays were computed elsewhere; the columns of `StationStats.enter`."""
        self._settle()
        self.stats.enter(*customers)

    def close(self, at: float) -> None:
        """End the observation at `at`; for inf, when the last customer leaves.

        Raises AssertionError if the station was no queue.
        """
        self._settle()
        self.stats.close(at)

    def _settle(self) -> None:
        if self._noted:
            noted = np.array(self._noted).reshape(-1, 3)
            del self._noted[:]
            self.stats.add(noted)


def rows_by_queue(queue: NDArray[np.integer[Any]], queues: int) -> list[NDArray[np.int64]]:
    """Return the rows of each of so many queues, in their order."""
    rows, ends = np.empty(len(queue), np.int64), np.zeros(queues + 1, np.int64)
    compiled(counting).counting_order(queue, 0, ends, rows)
    return np.split(rows, ends[:-2])


def lindley_waits(
    arrival: NDArray[np.float64],
    queue: NDArray[np.integer[Any]],
    service: NDArray[np.float64],
    idle: Sequence[float] = (),
    more: Sequence[float] = (),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the time in the system of customers that are all known, by Lindley's recursion at once.

    Parameters
    ----------
    arrival : NDArray[np.float64]
        Arrival times in order, shape (n,), seconds.
    queue : NDArray[np.integer]
        The one of several equal single servers that each customer goes to, shape (n,).
    service : NDArray[np.float64]
        Service times, shape (n,), seconds.
    idle, more : Sequence[float]
        Points of a line: a server that was idle for so many seconds, ascending from 0, needs so many more; by default none.

    Returns
    -------
    tuple
        Seconds of service, and in the system, waiting and service, each of shape (n,).
    """
    servers = int(queue.max(initial=-1)) + 1
    took, stay = np.array(service, np.float64), np.empty(len(arrival))
    line = np.array(idle, np.float64), np.array(more, np.float64)
    compiled(lindley).serve_all(arrival, queue, took, *line, np.zeros(servers), stay)
    return took, stay


def record_batch(
    stations: Sequence[FifoStation],
    arrival: NDArray[np.float64],
    queue: NDArray[np.integer[Any]],
    service: NDArray[np.float64],
    stay: NDArray[np.float64],
) -> None:
    """Enter the result of `lindley_waits` into the statistics of its stations."""
    for station, rows in zip(stations, rows_by_queue(queue, len(stations)), strict=True):
        station.record(arrival, service, stay, rows)
