"""Recipes for requests: a `Workload` is arrivals x keys x cost for some seconds, and a seed makes it a `Trace`.

In a `PerKey` every key has arrivals of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.arrivals import Arrivals
from traffic.keys import Keys, Uniform
from traffic.provenance import Provenance
from traffic.tenants import Tenants
from traffic.trace import Trace


class Costs(Protocol):
    """A distribution of the cost of a request."""

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the costs of `size` independent requests, all >= 0."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one stream, dealt out to keys.

    Attributes
    ----------
    arrivals : Arrivals
        Draws the times.
    keys : Keys
        Draws the keys.
    duration : float
        Seconds.
    cost : float or Costs
        Cost of every request, or a distribution of it.
    start : float
        Seconds since the epoch, or any zero.
    """

    arrivals: Arrivals
    keys: Keys
    duration: float
    cost: float | Costs = 1.0
    start: float = 0.0

    @classmethod
    def fit(cls, trace: Trace, rng: np.random.Generator | None = None) -> Tenants:
        """Learn a recipe from a trace, that can be handed on in its place: see `traffic.fit`.

        Parameters
        ----------
        trace : Trace
            The requests, of a log.
        rng : numpy.random.Generator, optional
            Draws the samples of the recipes that are tried; one of seed 1 by default.

        Returns
        -------
        Tenants
            The recipe.

        Raises
        ------
        TraceError
            If the trace has no two requests at different times.
        """
        from traffic.fit import fit

        return fit(trace, rng)

    def trace(self, rng: np.random.Generator) -> Trace:
        """Draw one sample: times first, then keys, then costs, so that changing a part leaves the earlier ones.

        Raises TraceError if the parts do not make a trace (a negative cost, an index without a name).
        """
        time = self.arrivals.times(self.duration, rng, self.start)
        key = self.keys.draw(len(time), rng)
        cost = self.cost if isinstance(self.cost, int | float) else self.cost.draw(len(time), rng)
        return Trace(time, key, self.keys.names(), cost=cost, provenance=Provenance(source=repr(self)))


@dataclass(frozen=True, slots=True)
class PerKey:
    """Requests of n keys, each with its own independent sample of `arrivals`, superposed.

    `Workload` deals one stream out to keys, so that no key has a rhythm. Here each key keeps its own: clients that come and
    go are a PerKey of `OnOff`.

    Attributes
    ----------
    arrivals : Arrivals
        Draws the times of each key.
    n : int
        Number of keys.
    duration : float
        Seconds.
    cost : float or Costs
        Cost of every request, or a distribution of it.
    start : float
        Seconds since the epoch, or any zero.
    """

    arrivals: Arrivals
    n: int
    duration: float
    cost: float | Costs = 1.0
    start: float = 0.0

    def trace(self, rng: np.random.Generator) -> Trace:
        """Draw one sample: times key by key, then costs by time; raises TraceError as `Workload.trace` does."""
        names = Uniform(self.n).names()
        times = [self.arrivals.times(self.duration, rng, self.start) for _ in names]
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        key = np.repeat(np.arange(self.n), [len(each) for each in times])[order]
        cost = self.cost if isinstance(self.cost, int | float) else self.cost.draw(len(time), rng)
        return Trace(time[order], key, names, cost=cost, provenance=Provenance(source=repr(self)))
