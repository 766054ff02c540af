"""A Workload is a recipe for requests: arrivals x keys x cost for some seconds; a seed makes it a Trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.arrivals import Arrivals
from traffic.keys import Keys
from traffic.origin import Origin
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
        return Trace(time, key, self.keys.names(), cost=cost, origin=Origin(source=repr(self)))
