"""A SimPy environment that knows the arrival times of a trace, and so needs no event for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

import simpy

__all__ = ["TraceEnvironment"]


class TraceEnvironment(simpy.Environment):
    """A SimPy environment with a callback at times that are known beforehand.

    An event costs its creation, its place in a heap and its callbacks; the next of some times in order costs a comparison.
    An arrival time that is due together with an event comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._times: Iterator[float] = iter(())
        self._do: Callable[[], None] = _nothing
        self._due = inf

    def scheduled(self) -> int:
        """Return how many events there were, without arrivals. Call it once, at the end: each call takes a number."""
        return next(self._eid)

    def schedule_arrivals(self, times: Iterable[float], do: Callable[[], None]) -> None:
        """Call `do` at each of these times, in place of earlier ones. times: seconds, in order, none before now."""
        self._times, self._do = iter(times), do
        self._due = next(self._times, inf)

    def clear_arrivals(self) -> None:
        """Remove all arrival times."""
        self.schedule_arrivals((), _nothing)

    def peek(self) -> float:
        """Return when something happens next; inf if nothing does."""
        return min(self._due, super().peek())

    def step(self) -> None:
        """Process the next arrival time or the next event."""
        queue = self._queue
        if self._due < inf and not (queue and queue[0][0] < self._due):
            self._now = self._due
            self._due = next(self._times, inf)
            self._do()
        else:
            super().step()

    def run(self, until: float | simpy.Event | None = None) -> Any:
        """Run as `simpy.Environment.run` does; stopping at a number of seconds needs no event."""
        if isinstance(until, simpy.Event):
            return super().run(until)
        end = inf if until is None else until
        if end <= self._now:
            raise ValueError(f"until ({end}) must be greater than the current simulation time ({self._now})")
        queue, event = self._queue, super().step
        while True:
            due, soonest = self._due, queue[0][0] if queue else inf
            if due <= soonest:
                if due >= end:
                    break
                self._now = due
                self._due = next(self._times, inf)
                self._do()
            elif soonest < end:
                event()
            else:
                break
        if end < inf:
            self._now = end
        return None


def _nothing() -> None:
    pass
