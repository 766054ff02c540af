"""Processors that all who are there share: an asyncio process among its tasks, an operating system among processes.

Both are followed in virtual time: what each of those inside has been given since the beginning. Who comes at virtual time v
and needs s of it leaves at v + s, however many come and go meanwhile; so it takes no more than an event for each who leaves
(L. Kleinrock, Time-shared systems: a theoretical treatment, JACM 14, 1967).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heappop, heappush
from itertools import pairwise

import simpy

from ratesim.runtime import Future, SimRuntime

__all__ = ["EventLoop", "Sharing", "TimeShared"]

CLOSE = 1e-9  # seconds: who would leave so soon leaves now, since virtual time is rounded


class Sharing(ABC):
    """The common half: who is inside, and when the first of them leaves. Subclasses say how fast virtual time goes.

    busy: seconds asked for. served: how many have left. stays, presence: the sum of how long each of them was inside, and
    the time integral of how many were, both up to now and counted apart: Little's law says that they are equal.
    """

    def __init__(self, runtime: SimRuntime) -> None:
        self._runtime = runtime
        self._virtual = 0.0
        self._at = 0.0  # when that was brought forward
        self._work = 0.0  # seconds that those inside need, all together
        self._inside: list[tuple[float, int, float, float, Future[None]]] = []  # leaves at, number, came, needs, tell
        self._wakes = float("inf")  # the earliest time at which an event is set
        self._count = 0
        self.busy = self.stays = self.presence = 0.0
        self.served = 0

    @property
    def inside(self) -> int:
        """How many are there."""
        return len(self._inside)

    def close(self, at: float) -> None:
        """The observation ends at `at`, now or later. AssertionError where Little's law does not hold: those inside, over
        time, are the stays, the unfinished ones as far as they have come."""
        self._go_to(at)
        stays = self.stays + sum(at - came for _, _, came, _, _ in self._inside)
        if abs(self.presence - stays) > 1e-6 * max(stays, 1e-3):
            raise AssertionError(f"Little's law: {self.presence:g} customer-seconds inside, but stays of {stays:g} s in all")

    @abstractmethod
    def _pace(self) -> float:
        """Virtual time by second, with those who are inside."""

    def _enter(self, seconds: float, needs: float) -> Future[None]:
        now = self._runtime.env.now
        self._go_to(now)
        done: Future[None] = self._runtime.future()
        self._count += 1
        self.busy += seconds
        self._work += seconds
        heappush(self._inside, (self._virtual + needs, self._count, now, seconds, done))
        return done

    def _go_to(self, now: float) -> None:
        many = len(self._inside)
        if many:
            passed = now - self._at
            self._virtual += passed * self._pace()
            self.presence += passed * many
        self._at = now

    def _set(self, now: float) -> None:
        """See to it that there is an event when the first will leave; a set one that is too early looks again."""
        at = now + max((self._inside[0][0] - self._virtual) / self._pace(), 0.0)
        if at < self._wakes:
            self._wakes = at
            event = simpy.Timeout(self._runtime.env, at - now)
            event.callbacks.append(self._pass)

    def _pass(self, _: simpy.Event) -> None:
        now = self._runtime.env.now
        if now >= self._wakes:  # else an earlier one was set since, and has looked
            self._wakes = float("inf")
            self._runtime.run(self._leave, now)

    def _leave(self, now: float) -> None:
        self._go_to(now)
        inside = self._inside
        while inside and inside[0][0] - self._virtual <= CLOSE * self._pace():
            _, _, came, seconds, done = heappop(inside)
            self.stays += now - came
            self.served += 1
            self._work -= seconds
            done.set_result(None)
        if inside:
            self._set(now)
        else:
            self._virtual = self._work = 0.0


class EventLoop(Sharing):
    """An asyncio process: in each turn of its event loop everybody under way takes one step.

    So what is under way ends in the order in which it began, large or small, after as many turns; and a turn lasts as long
    as the steps of all and one look for news together. With short turns all get through the same fraction of their work:
    d(fraction)/dt = 1 / (look + the sum of what those under way need). Virtual time is that fraction.

    look: seconds that a customer who is alone takes longer than each of many, since all looks for news are its own.
    """

    def __init__(self, runtime: SimRuntime, look: float = 0.0) -> None:
        super().__init__(runtime)
        self._look = look

    def spend(self, seconds: float) -> Future[None]:
        """To be awaited: done when `seconds` of work are done."""
        done = self._enter(seconds, 1.0)
        self._set(self._at)
        return done

    def _pace(self) -> float:
        return 1.0 / max(self._look + self._work, 1e-9)


class TimeShared(Sharing):
    """Cores that an operating system shares among processes, an equal part of the time to each. Virtual time is that part.

    speedup: {processes: what they get done together, over what one does}; straight lines between.
    """

    def __init__(self, runtime: SimRuntime, speedup: dict[int, float]) -> None:
        super().__init__(runtime)
        points = sorted({0: 0.0, 1: 1.0, **speedup}.items())
        speeds = [0.0]
        for (a, low), (b, high) in pairwise(points):
            speeds += [low + (high - low) * (n - a) / (b - a) for n in range(a + 1, b + 1)]
        self._shares = [0.0, *(speed / n for n, speed in enumerate(speeds[1:], 1))]

    def spend(self, seconds: float) -> Future[None]:
        """To be awaited: done when `seconds` of a core's time were given."""
        done = self._enter(seconds, seconds)
        self._set(self._at)
        return done

    def _pace(self) -> float:
        many, shares = len(self._inside), self._shares
        return shares[many] if many < len(shares) else shares[-1] * (len(shares) - 1) / many
