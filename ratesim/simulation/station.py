"""A station: a queue in front of one or more equal servers, first come, first served.

No event is needed for the queue: Lindley's recursion gives the end of a service when it is asked for, free = max(arrival,
free) + service (D. V. Lindley, The theory of queues with a single server, 1952).
"""

from __future__ import annotations

from heapq import heapify, heapreplace

__all__ = ["Station"]


class Station:
    """`concurrency` servers; arrivals must come in order of time."""

    __slots__ = ("_free", "busy", "served")

    def __init__(self, concurrency: int = 1) -> None:
        self._free = [0.0] * concurrency
        heapify(self._free)
        self.busy = 0.0  # server-seconds spent
        self.served = 0

    def take(self, arrival: float, service: float) -> float:
        """The time at which a customer who comes at `arrival` and needs `service` seconds leaves."""
        free = self._free[0]
        end = (free if free > arrival else arrival) + service
        heapreplace(self._free, end)
        self.busy += service
        self.served += 1
        return end
