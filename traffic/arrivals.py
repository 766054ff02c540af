"""When requests come: arrival processes, each a small class that draws times.

A new process is one class with `times`; `Workload` takes any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Arrivals(Protocol):
    """An arrival process."""

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Ascending arrival times in [start, start + duration], seconds; how many there are is drawn too."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals at `rate` requests/s: what many clients who know nothing of each other add up to.

    The number in T seconds is Poisson distributed with mean rate * T and, given the number, the times are
    uniform and independent (Ross, Introduction to Probability Models, section 5.3: "conditional distribution
    of the arrival times").
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("Poisson", "rate", self.rate)

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        _positive("Poisson", "duration", duration)
        return start + np.sort(rng.uniform(0.0, duration, rng.poisson(self.rate * duration)))


@dataclass(frozen=True, slots=True)
class Steady:
    """Arrivals exactly 1 / rate seconds apart, the first at the start: no bursts at all. Draws nothing."""

    rate: float

    def __post_init__(self) -> None:
        _positive("Steady", "rate", self.rate)

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        _positive("Steady", "duration", duration)
        times = np.arange(math.ceil(self.rate * duration)) / self.rate
        return start + times[times < duration]  # rate * duration may round up to one too many


def _positive(who: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{who}: {name} must be a positive finite number, got {value:g}")
