"""Processor sharing: an operating system among its processes.

It is followed in virtual time, which is the service that each customer inside has received since the beginning. A
customer that comes at virtual time v and needs s of it leaves at v + s, however many come and go meanwhile. So it takes no
more than one event for each departure (L. Kleinrock, Time-shared systems: a theoretical treatment, JACM 14, 1967).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Awaitable
from functools import partial
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import NamedTuple

import numpy as np
import simpy

from ratesim.runtime import Future, SimRuntime
from ratesim.simulation.queueing.station_stats import SharedStationStats

__all__ = ["MultiCoreCPU"]

CHUNK = 2048  # departures between two updates of the statistics
CLOSE = 1e-9  # seconds: a departure so soon happens now, because virtual time is rounded


class ProcessorSharing(ABC):
    """A shared processor: the customers inside, and the next departure.

    Subclasses define how fast virtual time passes.

    Attributes
    ----------
    busy : float
        Seconds of work that were asked for.
    stats : SharedStationStats
        Statistics up to a moment ago; complete once the processor is closed.
    """

    def __init__(self, runtime: SimRuntime) -> None:
        self._runtime = runtime
        self._virtual = 0.0
        self._at = 0.0  # when that was brought forward
        self._work = 0.0  # seconds that those inside need, all together
        self._inside: list[_Customer] = []
        self._wakes = inf  # the earliest time of an event that looks for departures
        self._alone: _SoleCustomer | None = None  # the only customer, until another comes
        self._count = 0
        self.busy = self._stays = self._services = 0.0
        self.stats = SharedStationStats()
        self._came, self._left = array("d"), array("d")  # since the account was told

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
        self.stats.advance(to, np.array(self._came), np.array(self._left), self._stays, self._services)
        del self._came[:], self._left[:]
        self._stays = self._services = 0.0

    @abstractmethod
    def _pace(self, many: int) -> float:
        """Return the virtual time per second with so many customers inside."""

    def _enter(self, seconds: float, needs: float, after: float) -> Awaitable[None]:
        """Add a customer that asks for `seconds` and needs so much virtual time; done `after` seconds after it has left."""
        now = self._runtime.env.now
        alone = self._alone
        if alone is not None or self._inside:
            self._go_to(now)
            alone = self._alone
        self._came.append(now)
        self.busy += seconds
        if alone is None and not self._inside:
            # Most customers come to an empty processor and leave before the next: one event covers departure and `after`.
            self._work = seconds
            left = now + needs / self._pace(1)
            sleep = self._runtime.sleep(left - now + after)
            self._alone = _SoleCustomer(left, now, seconds, needs, after, sleep)
            self._at = now
            return sleep
        if alone is not None:
            self._alone = None
            done = self._runtime.future()
            self._runtime.put_off(alone.sleep, done)
            self._push(alone.needs, alone.came, alone.seconds, alone.after, done)
        self._work += seconds
        done = self._runtime.future()
        self._push(self._virtual + needs, now, seconds, after, done)
        self._set(now)
        return done

    def _push(self, leaves: float, came: float, seconds: float, after: float, done: Future[None]) -> None:
        self._count += 1
        heappush(self._inside, _Customer(leaves, self._count, came, seconds, after, done))

    def _go_to(self, now: float) -> None:
        alone = self._alone
        if alone is not None:
            if now >= alone.left:
                self._alone = None
                self._gone(alone.came, alone.seconds, alone.left)
                self._virtual = self._work = 0.0
            else:
                self._virtual += (now - self._at) * self._pace(1)
        elif self._inside:
            self._virtual += (now - self._at) * self._pace(len(self._inside))
        self._at = now

    def _gone(self, came: float, seconds: float, left: float) -> None:
        self._stays += left - came
        self._services += seconds
        self._left.append(left)
        if len(self._left) >= CHUNK:
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
            self._work -= customer.seconds
            if customer.after > 0.0:
                event = simpy.Timeout(self._runtime.env, customer.after)
                event.callbacks.append(partial(self._runtime.run, customer.done.set_result))
            else:
                customer.done.set_result(None)
        if inside:
            self._set(now)
        else:
            self._virtual = self._work = 0.0


class _Customer(NamedTuple):
    """A customer: `leaves` in virtual time; `done` is to be resolved; for the others see `_enter`."""

    leaves: float
    number: int
    came: float
    seconds: float
    after: float
    done: Future[None]


class _SoleCustomer(NamedTuple):
    """The only customer inside.

    It has left at `left` if nobody comes. It needs virtual time from 0 on, and sleeps until `after` is over.
    """

    left: float
    came: float
    seconds: float
    needs: float
    after: float
    sleep: Awaitable[None]


class MultiCoreCPU(ProcessorSharing):
    """Cores that an operating system shares equally among processes; virtual time is the share of each.

    Parameters
    ----------
    speedup : dict[int, float]
        The combined speed of so many processes over that of one; linear between the entries.
    """

    def __init__(self, runtime: SimRuntime, speedup: dict[int, float]) -> None:
        super().__init__(runtime)
        points = sorted({0: 0.0, 1: 1.0, **speedup}.items())
        speeds = [0.0]
        for (a, low), (b, high) in pairwise(points):
            speeds += [low + (high - low) * (n - a) / (b - a) for n in range(a + 1, b + 1)]
        self._shares = [0.0, *(speed / n for n, speed in enumerate(speeds[1:], 1))]

    def spend(self, seconds: float, after: float = 0.0) -> Awaitable[None]:
        """Wait until `after` seconds after `seconds` of a core's time were given."""
        return self._enter(seconds, seconds, after)

    def _pace(self, many: int) -> float:
        shares = self._shares
        return shares[many] if many < len(shares) else shares[-1] * (len(shares) - 1) / many
