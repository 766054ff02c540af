"""When requests come where their rate follows the clock: arrival processes (see `arrivals.py`) of a day, and of a crowd.

Both are Poisson processes with a rate that varies, drawn by thinning: candidates come at the highest rate, and each stays
with the probability rate / highest (P. A. W. Lewis, G. S. Shedler, Simulation of Nonhomogeneous Poisson Processes by
Thinning, Naval Research Logistics Quarterly 26, 1979). Their clock begins at the start, wherever that is.
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
    """Night and day: `rate` * (1 - amplitude * cos(2 pi t / day)) requests/s, so it begins at its lowest.

    rate: the mean over whole days. amplitude: a share from 0 to 1; of 0.5 the day's highest rate is three times its lowest.
    day: seconds.
    """

    rate: float
    amplitude: float
    day: float = 86400.0

    def __post_init__(self) -> None:
        _positive("Diurnal", rate=self.rate, day=self.day)
        if not 0 <= self.amplitude <= 1:
            raise ValueError(f"Diurnal: amplitude must be a share from 0 to 1, got {self.amplitude:g}")

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        def share(t: NDArray[np.float64]) -> NDArray[np.float64]:
            return (1.0 - self.amplitude * np.cos(2.0 * math.pi * t / self.day)) / (1.0 + self.amplitude)

        return start + _thinned(self.rate * (1.0 + self.amplitude), share, duration, rng)


@dataclass(frozen=True, slots=True)
class FlashCrowd:
    """`rate` requests/s, until a crowd comes `at` seconds after the start that asks `surge` times as often in all.

    It grows in a straight line for `ramp` seconds, stays for `hold` and fades in a straight line for `fade`: the three
    phases of I. Ari, B. Hong, E. L. Miller, S. A. Brandt, D. D. E. Long, Managing Flash Crowds on the Internet (MASCOTS
    2003).
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


def _positive(who: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{who}: {name} must be a positive finite number, got {value:g}")
