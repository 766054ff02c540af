"""`Deadlines`: those of calls on an asyncio loop. They share a few timers: one for each call costs as much as a task."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

__all__ = ["Deadlines", "Expiring"]


class Expiring(Protocol):
    """A call with a deadline.

    Attributes
    ----------
    live
        Whether its caller waits.
    """

    live: bool

    def expire(self) -> None:
        """Give up: the deadline has passed."""


class Deadlines:
    """The deadlines of one loop: of those of one length, the first that is set is the first to pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queues: dict[float, _Queue] = {}  # by the seconds from now

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, call: Expiring, seconds: float) -> None:
        """Let a call that is live expire after some seconds."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(self.loop, self._queues, seconds)
        queue.add(call)


class _Queue:
    def __init__(self, loop: asyncio.AbstractEventLoop, siblings: dict[float, _Queue], seconds: float) -> None:
        self._loop = loop
        self._siblings = siblings
        self._seconds = seconds
        self._calls: deque[tuple[float, Expiring]] = deque()
        self._timed = False

    def add(self, call: Expiring) -> None:
        at = self._loop.time() + self._seconds
        calls = self._calls
        while calls and not calls[0][1].live:  # kept until their deadlines, thousands would pile up
            calls.popleft()
        if not self._timed:
            self._timed = True
            self._loop.call_at(at, self._pass)
        calls.append((at, call))

    def _pass(self) -> None:
        calls, now = self._calls, self._loop.time()
        while calls:
            at, call = calls[0]
            if call.live:
                if at > now:
                    self._loop.call_at(at, self._pass)
                    return
                call.expire()
            calls.popleft()
        self._siblings.pop(self._seconds, None)
