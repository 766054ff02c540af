"""Processor sharing: an operating system among its processes.

It is followed in virtual time, which is the service that each customer inside has received since the beginning. A
customer that comes at virtual time v and needs s of it leaves at v + s, however many come and go meanwhile. So it takes no
more than one event for each departure (L. Kleinrock, Time-shared systems: a theoretical treatment, JACM 14, 1967).
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import NamedTuple

import numpy as np
import simpy

from ratesim.runtime import Future, SimRuntime
from ratesim.simulation.queueing.station_stats import SharedStationStats

__all__ = ["MultiCoreCPU"]

CHUNK = 6 * 2048  # numbers that are noted before the account takes them
CLOSE = 1e-9  # seconds: a departure so soon happens now, because virtual time is rounded


class MultiCoreCPU:
    """Cores that an operating system shares equally among processes; virtual time is the share of each.

    Parameters
    ----------
    speedup : dict[int, float]
        The combined speed of so many processes over that of one; linear between the entries.

    Attributes
    ----------
    busy : float
        Seconds of work that were asked for.
    stats : SharedStationStats
        Statistics up to a moment ago; complete once the processor is closed.
    """

    def __init__(self, runtime: SimRuntime, speedup: dict[int, float]) -> None:
        points = sorted({0: 0.0, 1: 1.0, **speedup}.items())
        speeds = [0.0]
        for (a, low), (b, high) in pairwise(points):
            speeds += [low + (high - low) * (n - a) / (b - a) for n in range(a + 1, b + 1)]
        self._shares = [0.0, *(speed / n for n, speed in enumerate(speeds[1:], 1))]
        self._runtime = runtime
        self._virtual = 0.0
        self._at = 0.0  # when that was brought forward
        self._inside: list[_Customer] = []
        self._wakes = inf  # the earliest time of an event that looks for departures
        self._alone: _SoleCustomer | None = None  # the only customer, until another comes
        self._count = 0
        self.busy = 0.0
        self.stats = SharedStationStats()
        self._noted = array("d")  # comings and goings since the account was told: time, stay, service

    @property
    def inside(self) -> int:
        """Number of customers inside."""
        if self._alone is None and not self._inside:
            return 0
        self._go_to(self._runtime.env.now)
        return len(self._inside) + (self._alone is not None)

    def close(self, at: float) -> None:
        """End the observation at `at`; for inf, when nothing happens any more.

        Raises AssertionError if Little's law fails.
        """
        self._go_to(self._runtime.env.now if at == inf else at)
        self._settle(self._at)
        unfinished = sum(self._at - each.came for each in self._inside)
        self.stats.end(unfinished + (0.0 if self._alone is None else self._at - self._alone.came))

    def end_warmup(self, at: float) -> None:
        """Count figures from now, `at`, on."""
        self._go_to(at)
        self._settle(at)
        self.stats.end_warmup(at)

    def _settle(self, to: float) -> None:
        self.stats.advance(to, np.array(self._noted).reshape(-1, 3))
        del self._noted[:]

    def _pace(self, many: int) -> float:
        """Return the virtual time per second with so many customers inside."""
        shares = self._shares
        return shares[many] if many < len(shares) else shares[-1] * (len(shares) - 1) / many

    def spend(self, seconds: float) -> Awaitable[None]:
        """Wait until `seconds` of a core's time were given."""
        now = self._runtime.env.now
        alone = self._alone
        if alone is not None or self._inside:
            self._go_to(now)
            alone = self._alone
        self._noted.extend((now, -1.0, 0.0))
        self.busy += seconds
        if alone is None and not self._inside:  # most customers come to an empty processor and leave before the next
            left = now + seconds / self._pace(1)
            sleep = self._runtime.sleep(left - now)
            self._alone = _SoleCustomer(left, now, seconds, sleep)
            self._at = now
            return sleep
        if alone is not None:
            self._alone = None
            done = self._runtime.future()
            self._runtime.put_off(alone.sleep, done)
            self._push(alone.seconds, alone.came, alone.seconds, done)
        done = self._runtime.future()
        self._push(self._virtual + seconds, now, seconds, done)
        self._set(now)
        return done

    def _push(self, leaves: float, came: float, seconds: float, done: Future[None]) -> None:
        self._count += 1
        heappush(self._inside, _Customer(leaves, self._count, came, seconds, done))

    def _go_to(self, now: float) -> None:
        alone = self._alone
        if alone is not None:
            if now >= alone.left:
                self._alone = None
                self._gone(alone.came, alone.seconds, alone.left)
                self._virtual = 0.0
            else:
                self._virtual += (now - self._at) * self._pace(1)
        elif self._inside:
            self._virtual += (now - self._at) * self._pace(len(self._inside))
        self._at = now

    def _gone(self, came: float, seconds: float, left: float) -> None:
        self._noted.extend((left, left - came, seconds))
        if len(self._noted) >= CHUNK:
            self._settle(left)

    def _set(self, now: float) -> None:
        """Schedule an event for the next departure; an event that is too early schedules another."""
        at = now + max((self._inside[0].leaves - self._virtual) / self._pace(len(self._inside)), 0.0)
        if at < self._wakes:
            self._wakes = at
            event = simpy.Timeout(self._runtime.env, at - now)
            event.callbacks.append(self._pass)

    def _pass(self, _: simpy.Event) -> None:
        now = self._runtime.env.now
        if now >= self._wakes:  # else an earlier one was set since, and has looked
            self._wakes = inf
            self._runtime.run(self._leave, now)

    def _leave(self, now: float) -> None:
        self._go_to(now)
        inside = self._inside
        while inside and inside[0].leaves - self._virtual <= CLOSE * self._pace(len(inside)):
            customer = heappop(inside)
            self._gone(customer.came, customer.seconds, now)
            customer.done.set_result(None)
        if inside:
            self._set(now)
        else:
            self._virtual = 0.0


class _Customer(NamedTuple):
    """A customer: `leaves` in virtual time; `done` is to be resolved."""

    leaves: float
    number: int
    came: float
    seconds: float
    done: Future[None]


class _SoleCustomer(NamedTuple):
    """The only customer inside, who has left at `left` if nobody comes, and sleeps until then."""

    left: float
    came: float
    seconds: float
    sleep: Awaitable[None]
