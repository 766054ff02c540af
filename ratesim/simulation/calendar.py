"""`Calendar`: a SimPy environment that is told the times of a trace's requests, instead of being given an event for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf

import simpy

__all__ = ["Calendar"]


class Calendar(simpy.Environment):
    """A SimPy environment in which something is also to be done at times that are known beforehand.

    An event costs its making, its place in a heap and its callbacks; the next of some times in order costs a comparison. Of
    an event and a time that are due at the same moment, the time comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._event = super().step
        self._times: Iterator[float] = iter(())
        self._do: Callable[[], None] = _nothing
        self._due = inf

    def expect(self, times: Iterable[float], do: Callable[[], None]) -> None:
        """Do this at each of these times: seconds, in order, none before now. They take the place of earlier ones."""
        self._times, self._do = iter(times), do
        self._due = next(self._times, inf)

    def forget(self) -> None:
        """Expect nothing any more."""
        self.expect((), _nothing)

    def peek(self) -> float:
        """When something happens next; inf if nothing does."""
        return min(self._due, super().peek())

    def step(self) -> None:
        """All that is due before the next event; if nothing is, that event."""
        queue, do = self._queue, self._do
        if not (self._due < inf and not (queue and queue[0][0] < self._due)):
            self._event()
            return
        while self._due < inf and not (queue and queue[0][0] < self._due):
            self._now = self._due
            self._due = next(self._times, inf)
            do()


def _nothing() -> None:
    pass
