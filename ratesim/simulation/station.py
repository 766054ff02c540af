"""A station: a queue in front of one or more equal servers, first come, first served.

No event is needed for the queue: Lindley's recursion gives the end of a service when it is asked for, free = max(arrival,
free) + service (D. V. Lindley, The theory of queues with a single server, 1952).
"""

from __future__ import annotations

from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Station", "queued"]


class Station:
    """`concurrency` servers; arrivals must come in order of time."""

    __slots__ = ("_free", "busy", "in_order", "served")

    def __init__(self, concurrency: int = 1) -> None:
        self._free = [0.0] * concurrency
        heapify(self._free)
        self.in_order = concurrency == 1  # whether customers leave in the order in which they came
        self.busy = 0.0  # server-seconds spent
        self.served = 0

    def begin_anew(self, at: float) -> None:
        """Nobody waits or is served any more, and nobody will be before `at`."""
        self._free = [at] * len(self._free)

    def take(self, arrival: float, service: float) -> float:
        """The time at which a customer who comes at `arrival` and needs `service` seconds leaves."""
        free = self._free[0]
        end = (free if free > arrival else arrival) + service
        if self.in_order:
            self._free[0] = end
        else:
            heapreplace(self._free, end)
        self.busy += service
        self.served += 1
        return end


def queued(arrival: NDArray[np.float64], queue: NDArray[np.int64], service: float) -> NDArray[np.float64]:
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
