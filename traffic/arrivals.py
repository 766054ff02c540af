"""Arrival processes: each is a small class that draws the times of requests.

A new process is one class with `times`; `Workload` takes any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.dispersion import dispersion_law, skewness_of_rate


class Arrivals(Protocol):
    """An arrival process."""

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw arrival times, and how many there are.

        Parameters
        ----------
        duration : float
            Seconds.
        rng : numpy.random.Generator
            The source of all draws.
        start : float
            The clock's time at the beginning, in seconds.

        Returns
        -------
        NDArray[np.float64]
            Ascending times in [start, start + duration], seconds.
        """


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals at `rate` requests/s: the sum of many clients that know nothing of each other.

    The number in T seconds is Poisson distributed with mean rate * T. Given the number, the times are uniform and
    independent (Ross, Introduction to Probability Models, section 5.3: "conditional distribution of the arrival times").

    Attributes
    ----------
    rate : float
        Mean rate in requests/s.
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("Poisson", "rate", self.rate)

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw the number of arrivals, then their times."""
        _positive("Poisson", "duration", duration)
        return start + np.sort(rng.uniform(0.0, duration, rng.poisson(self.rate * duration)))


@dataclass(frozen=True, slots=True)
class Steady:
    """Arrivals exactly 1 / rate seconds apart, the first at the start; no bursts and no randomness.

    Attributes
    ----------
    rate : float
        Requests/s.
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("Steady", "rate", self.rate)

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Compute the times; draws nothing."""
        _positive("Steady", "duration", duration)
        times = np.arange(math.ceil(self.rate * duration)) / self.rate
        return start + times[times < duration]  # rate * duration may round up to one too many


@dataclass(frozen=True, slots=True)
class OnOff:
    """Poisson arrivals while on, none while off; the lengths of both phases are exponential.

    The process begins in its stationary state: on with probability on / (on + off), which is also the mean share of `rate`.
    It is an interrupted Poisson process (A. Kuczura, The Interrupted Poisson Process as an Overflow Process, Bell System
    Technical Journal 52, 1973). Clients that come and go at times of their own are a `PerKey` of it.

    Attributes
    ----------
    rate : float
        Requests/s while on.
    on, off : float
        Mean length of a phase, in seconds.
    tail : float or None
        With it the lengths are of Pareto's law, with this exponent from above 1 to 2, so that a few are very long. Many such
        processes together are self-similar, with a Hurst parameter of (3 - tail) / 2 (W. Willinger, M. S. Taqqu, R. Sherman,
        D. V. Wilson, Self-similarity through high-variability, IEEE/ACM Transactions on Networking 5, 1997).
    """

    rate: float
    on: float
    off: float
    tail: float | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "on", "off"):
            _positive("OnOff", name, getattr(self, name))
        if self.tail is not None and not 1 < self.tail <= 2:
            raise ValueError(f"OnOff: tail must be above 1 and at most 2, got {self.tail:g}")

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw the phases, and the arrivals in each."""
        _positive("OnOff", "duration", duration)
        return start + _in_turns((self.rate, 0.0), (self.on, self.off), duration, rng, self.tail)


@dataclass(frozen=True, slots=True)
class MMPP:
    """A Markov-modulated Poisson process of two states, quiet and busy, each of exponential length.

    The process begins in its stationary state. Its mean rate is (quiet * quiet_for + busy * busy_for) / (quiet_for +
    busy_for). It fits the mean, the variance and the correlation in time of bursty traffic (H. Heffes, D. M. Lucantoni, A
    Markov Modulated Characterization of Packetized Voice and Data Traffic, IEEE JSAC 4, 1986).

    Attributes
    ----------
    quiet, busy : float
        Rate in each state, in requests/s.
    quiet_for, busy_for : float
        Mean length of a stay in each state, in seconds.
    """

    quiet: float
    busy: float
    quiet_for: float
    busy_for: float

    def __post_init__(self) -> None:
        for name in ("quiet", "busy", "quiet_for", "busy_for"):
            _positive("MMPP", name, getattr(self, name))

    @classmethod
    def fit(cls, times: NDArray[np.float64]) -> MMPP:
        """Match the mean rate, the index of dispersion for counts over time, and the skewness of the rate.

        The method of moments of Heffes and Lucantoni (1986). With r = 1 / quiet_for + 1 / busy_for and V the variance of the
        rate, the index tends to 1 + 2 * V / (r * mean), and it is measured at many lengths of window, not at one.

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
        variance = (law.limit - 1.0) * law.rate * law.decay / 2.0
        span = float(times[-1] - times[0])
        skew = skewness_of_rate(times, min(max(0.3 / law.decay, 2.0 / law.rate), span / 2.0))
        share = (1.0 - skew / math.sqrt(4.0 + skew**2)) / 2.0  # of the time that is busy
        share = max(1e-4, min(share, law.rate**2 / (law.rate**2 + variance)))  # beyond which the quiet rate is below 0
        busy = law.rate + math.sqrt(variance * (1.0 - share) / share)
        quiet = max(law.rate - math.sqrt(variance * share / (1.0 - share)), 1e-6 * busy)
        busy = (law.rate - (1.0 - share) * quiet) / share
        return cls(quiet, busy, 1.0 / (share * law.decay), 1.0 / ((1.0 - share) * law.decay))

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw the stays in each state, and the arrivals in each stay."""
        _positive("MMPP", "duration", duration)
        return start + _in_turns((self.busy, self.quiet), (self.busy_for, self.quiet_for), duration, rng)


@dataclass(frozen=True, slots=True)
class EdgeHerd:
    """Requests that crowd around the edges of windows of `period` seconds, with none between.

    Edges are the multiples of `period` on the clock of the times, where windows that are aligned to the epoch begin. The
    share `before` of a herd, rounded to whole requests, comes in [edge - spread, edge). The rest comes in [edge, edge +
    spread). Both are uniform. An edge is left out if its herd does not fit between the start and the end. With `InTurn(n)`
    for keys, each of n keys sends size / n requests at every edge.

    Attributes
    ----------
    period : float
        Length of a window, in seconds.
    size : int
        Requests at each edge.
    spread : float
        Seconds on either side of an edge, at most half a period.
    before : float
        Share of a herd that comes before its edge. 0 models cron jobs and pollers that all wake on the minute; 0.5 models a
        client that exploits the double limit of a fixed window around an edge.
    """

    period: float
    size: int
    spread: float
    before: float = 0.0

    def __post_init__(self) -> None:
        _positive("EdgeHerd", "period", self.period)
        _positive("EdgeHerd", "spread", self.spread)
        if self.size < 1:
            raise ValueError(f"EdgeHerd: size must be a whole number of requests >= 1, got {self.size}")
        if self.spread > self.period / 2:
            raise ValueError(f"EdgeHerd: spread must be at most half a period, got {self.spread:g} of {self.period:g} s")
        if not 0 <= self.before <= 1:
            raise ValueError(f"EdgeHerd: before must be a share from 0 to 1, got {self.before:g}")

    def times(self, duration: float, rng: np.random.Generator, start: float = 0.0) -> NDArray[np.float64]:
        """Draw the herd of every edge that fits between the start and the end."""
        _positive("EdgeHerd", "duration", duration)
        early = round(self.before * self.size)
        end = start + duration
        first = max(start + self.spread, np.nextafter(start, np.inf)) if early else start
        last = end - (self.spread if early < self.size else 0.0)
        edges = np.arange(math.ceil(start / self.period), math.floor(end / self.period) + 1) * self.period
        edges = edges[(edges >= first) & (edges <= last)][:, None]
        ahead = edges - self.spread * (1.0 - rng.random((len(edges), early)))
        behind = edges + self.spread * rng.random((len(edges), self.size - early))
        # Within float's time_resolution of an edge a sum may round to the wrong side of it.
        herd = np.hstack([np.minimum(ahead, np.nextafter(edges, -np.inf)), behind])
        times: NDArray[np.float64] = np.sort(herd, axis=1).ravel()
        return times.clip(start, end)


def _in_turns(
    rates: tuple[float, float],
    stays: tuple[float, float],
    duration: float,
    rng: np.random.Generator,
    tail: float | None = None,
) -> NDArray[np.float64]:
    """Draw Poisson arrivals of two states in turn; `stays` are the mean lengths, and the first state is stationary."""
    turn, at = int(rng.random() >= stays[0] / (stays[0] + stays[1])), 0.0
    times = [np.empty(0)]
    while at < duration:
        stay = rng.exponential(stays[turn]) if tail is None else _pareto(stays[turn], tail, rng, begun=at == 0)
        end = min(duration, at + stay)
        if rates[turn]:
            times.append(np.sort(rng.uniform(at, end, rng.poisson(rates[turn] * (end - at)))))
        turn, at = 1 - turn, end
    return np.concatenate(times)


def _pareto(mean: float, tail: float, rng: np.random.Generator, begun: bool) -> float:
    """Draw a length of Pareto's law, or what is left of one that has begun (the law of the residual life in equilibrium)."""
    shortest = mean * (tail - 1.0) / tail
    if not begun:
        return float(shortest * (1.0 - rng.random()) ** (-1.0 / tail))
    if rng.random() < shortest / mean:
        return float(shortest * rng.random())
    return float(shortest * (1.0 - rng.random()) ** (-1.0 / (tail - 1.0)))


def _positive(owner: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{owner}: {name} must be a positive finite number, got {value:g}")
