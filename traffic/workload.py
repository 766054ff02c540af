"""A Workload is a recipe for requests: arrivals x keys x cost for some seconds; a seed makes it a Trace.

A PerKey is one in which every key has arrivals of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.arrivals import Arrivals
from traffic.keys import Keys, Uniform
from traffic.provenance import Provenance
from traffic.trace import Trace


class Costs(Protocol):
    """A distribution of what a request costs."""

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """The costs of `size` independent requests, all >= 0."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests for `duration` seconds from `start` (seconds since the epoch, or any zero).

    `cost` is what every request costs, or a distribution of it.
    """

    arrivals: Arrivals
    keys: Keys
    duration: float
    cost: float | Costs = 1.0
    start: float = 0.0

    def trace(self, rng: np.random.Generator) -> Trace:
        """One sample. Times are drawn first, then keys, then costs: changing a part leaves those before it.

        Raises TraceError if the parts do not make a trace (a negative cost, an index without a name).
        """
        time = self.arrivals.times(self.duration, rng, self.start)
        key = self.keys.draw(len(time), rng)
        cost = self.cost if isinstance(self.cost, int | float) else self.cost.draw(len(time), rng)
        return Trace(time, key, self.keys.names(), cost=cost, provenance=Provenance(source=repr(self)))


@dataclass(frozen=True, slots=True)
class PerKey:
    """Requests of n keys, each of which has its own independent sample of `arrivals`, superposed.

    Where `Workload` deals one stream out to keys, so that none has a rhythm, here each keeps its own: clients who
    come and go are a PerKey of `OnOff`. `duration`, `cost` and `start` as there.
    """

    arrivals: Arrivals
    n: int
    duration: float
    cost: float | Costs = 1.0
    start: float = 0.0

    def trace(self, rng: np.random.Generator) -> Trace:
        """One sample. Times are drawn first, key by key, then costs by time. Raises TraceError as Workload does."""
        names = Uniform(self.n).names()
        times = [self.arrivals.times(self.duration, rng, self.start) for _ in names]
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        key = np.repeat(np.arange(self.n), [len(each) for each in times])[order]
        cost = self.cost if isinstance(self.cost, int | float) else self.cost.draw(len(time), rng)
        return Trace(time[order], key, names, cost=cost, provenance=Provenance(source=repr(self)))
