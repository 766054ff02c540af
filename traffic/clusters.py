"""Arrival processes that depend on their own past: `Hawkes`, in which requests cause others (see `arrivals.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traffic.dispersion import dispersion_law

__all__ = ["Hawkes"]

SETTLE = 20.0  # relaxation times before the start, after which what was before has died out but for 2e-9


@dataclass(frozen=True, slots=True)
class Hawkes:
    """A self-exciting process: each request causes others, after exponential delays, and those cause others again.

    Its intensity is mu + sum over earlier requests of (branching / delay) * exp(-(t - t_i) / delay), with mu = rate * (1 -
    branching). It is drawn as its clusters, generation after generation: requests of their own accord are Poisson, and each
    request has a Poisson number of children with mean `branching` (A. G. Hawkes, D. Oakes, A cluster process representation
    of a self-exciting process, Journal of Applied Probability 11, 1974). It begins in its stationary state.

    Attributes
    ----------
    rate : float
        Mean rate in requests/s.
    branching : float
        Mean number of requests that a request causes directly, from 0 to below 1.
    delay : float
        Mean seconds from a request to one that it causes.
    """

    rate: float
    branching: float
    delay: float

    def __post_init__(self) -> None:
        for name in ("rate", "delay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Hawkes: {name} must be a positive finite number, got {value:g}")
        if not 0 <= self.branching < 1:
            raise ValueError(f"Hawkes: branching must be from 0 to below 1, got {self.branching:g}")

    @classmethod
    def fit(cls, times: NDArray[np.float64]) -> Hawkes:
        """Match the mean rate and the index of dispersion for counts over time.

        With r = (1 - branching) / delay the index tends to 1 / (1 - branching)**2 at the rate r (A. G. Hawkes, Spectra of
        some self-exciting and mutually exciting point processes, Biometrika 58, 1971; as a method: J. Da Fonseca, R.
        Zaatour, Hawkes process: fast calibration, Journal of Futures Markets 34, 2014).

        Parameters
        ----------
        times : NDArray[np.float64]
            Ascending times of requests, seconds.

        Raises
        ------
        ValueError
            If there are too few to measure the index, or they are not burstier than Poisson's.
        """
        law = dispersion_law(times)
        branching = 1.0 - 1.0 / math.sqrt(law.limit)
        return cls(law.rate, branching, (1.0 - branching) / law.decay)

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw the requests of their own accord, then those that they cause, generation after generation."""
        if not (math.isfinite(duration) and duration > 0):
            raise ValueError(f"Hawkes: duration must be a positive finite number, got {duration:g}")
        before = SETTLE * self.delay / (1.0 - self.branching)
        alone = self.rate * (1.0 - self.branching) * (before + duration)
        parents = rng.uniform(-before, duration, rng.poisson(alone))
        found = [parents]
        while len(parents):
            parents = np.repeat(parents, rng.poisson(self.branching, len(parents)))
            parents = parents + rng.exponential(self.delay, len(parents))
            parents = parents[parents < duration]
            found.append(parents)
        times = np.concatenate(found)
        return start + np.sort(times[times >= 0.0])
