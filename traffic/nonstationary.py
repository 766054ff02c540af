"""Arrival processes whose rate follows the clock: a day, and a flash crowd (see `arrivals.py` for the others).

Both are non-homogeneous Poisson processes, drawn by thinning. Candidates come at the highest rate, and each stays with the
probability rate / highest (P. A. W. Lewis, G. S. Shedler, Simulation of Nonhomogeneous Poisson Processes by Thinning, Naval
Research Logistics Quarterly 26, 1979). Their clock begins at the start of the workload.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traffic.arrivals import Poisson

__all__ = ["Diurnal", "FlashCrowd"]


@dataclass(frozen=True, slots=True)
class Diurnal:
    """Night and day: `rate` * (1 - amplitude * cos(2 pi t / day)) requests/s, which begins at its lowest.

    Attributes
    ----------
    rate : float
        Mean over whole days, in requests/s.
    amplitude : float
        A share from 0 to 1. With 0.5 the day's highest rate is three times its lowest.
    day : float
        Length of the day, in seconds.
    """

    rate: float
    amplitude: float
    day: float = 86400.0

    def __post_init__(self) -> None:
        _positive("Diurnal", rate=self.rate, day=self.day)
        if not 0 <= self.amplitude <= 1:
            raise ValueError(f"Diurnal: amplitude must be a share from 0 to 1, got {self.amplitude:g}")

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw candidates at the highest rate, and thin them."""

        def share(t: NDArray[np.float64]) -> NDArray[np.float64]:
            return (1.0 - self.amplitude * np.cos(2.0 * math.pi * t / self.day)) / (1.0 + self.amplitude)

        return start + _thinned(self.rate * (1.0 + self.amplitude), share, duration, rng)


@dataclass(frozen=True, slots=True)
class FlashCrowd:
    """A steady rate until a crowd comes that raises it `surge` times.

    The crowd grows linearly for `ramp` seconds, stays for `hold` and fades linearly for `fade`: the three phases of I. Ari,
    B. Hong, E. L. Miller, S. A. Brandt, D. D. E. Long, Managing Flash Crowds on the Internet (MASCOTS 2003).

    Attributes
    ----------
    rate : float
        Requests/s without the crowd.
    surge : float
        The peak rate as a multiple of `rate`.
    at : float
        Seconds from the start until the crowd comes.
    ramp, hold, fade : float
        Length of each phase, in seconds.
    """

    rate: float
    surge: float
    at: float
    ramp: float
    hold: float
    fade: float

    def __post_init__(self) -> None:
        _positive("FlashCrowd", rate=self.rate, ramp=self.ramp, hold=self.hold, fade=self.fade)
        if not (math.isfinite(self.surge) and self.surge >= 1):
            raise ValueError(f"FlashCrowd: surge must be a finite number >= 1, got {self.surge:g}")
        if not (math.isfinite(self.at) and self.at >= 0):
            raise ValueError(f"FlashCrowd: at must be a finite number of seconds >= 0, got {self.at:g}")

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw candidates at the peak rate, and thin them."""
        turns = np.cumsum([self.at, self.ramp, self.hold, self.fade])

        def share(t: NDArray[np.float64]) -> NDArray[np.float64]:
            return (1.0 + (self.surge - 1.0) * np.interp(t, turns, (0.0, 1.0, 1.0, 0.0))) / self.surge

        return start + _thinned(self.rate * self.surge, share, duration, rng)


def _thinned(
    highest: float,
    share: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    duration: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    times = Poisson(highest).times(duration, rng)
    return times[rng.random(len(times)) < share(times)]


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{owner}: {name} must be a positive finite number, got {value:g}")
