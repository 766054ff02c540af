"""The index of dispersion for counts: how bursty arrivals are in windows of each length, and the law that it follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DispersionLaw", "dispersion", "dispersion_law", "skewness_of_rate"]

FEWEST_WINDOWS = 30
SCALES = 40  # lengths of windows to which a law is fitted
DECAYS = 200  # that are tried


@dataclass(frozen=True, slots=True)
class DispersionLaw:
    """I(t) = 1 + (limit - 1) * (1 - (1 - exp(-decay * t)) / (decay * t)), of a rate whose correlation decays exponentially.

    Attributes
    ----------
    rate : float
        Mean rate in requests/s.
    limit : float
        The index of long windows, above 1.
    decay : float
        Of the correlation of the rate, per second.
    """

    rate: float
    limit: float
    decay: float


def dispersion(time: NDArray[np.float64], seconds: float) -> float:
    """Return the variance over the mean of the counts in the whole windows of a length; the times ascend.

    1 for Poisson's arrivals at every length, above 1 for bursts (R. Gusella, Characterizing the variability of arrival
    processes with indexes of dispersion, IEEE JSAC 9, 1991).
    """
    mean, squares, windows, _ = _moments(time, seconds)
    return squares / (windows - 1) / mean


def dispersion_law(time: NDArray[np.float64]) -> DispersionLaw:
    """Fit the law to the index of dispersion of ascending times, by least squares of the index over a grid of decays.

    Raises
    ------
    ValueError
        If the times are too few for it, or not burstier than Poisson's at any length.
    """
    length = float(time[-1] - time[0]) if len(time) else 0.0
    if len(time) < FEWEST_WINDOWS or not length:
        raise ValueError(f"fit: needs at least {FEWEST_WINDOWS} requests at different times, got {len(time)}")
    lengths = np.geomspace(length / len(time), length / FEWEST_WINDOWS, SCALES)
    above = np.array([dispersion(time, each) for each in lengths]) - 1.0
    decays = np.geomspace(0.1 / lengths[-1], 10.0 / lengths[0], DECAYS)[:, None]
    shape = 1.0 + np.expm1(-decays * lengths) / (decays * lengths)
    height = (shape * above).sum(axis=1) / (shape**2).sum(axis=1)
    best = int(np.argmin(((height[:, None] * shape - above) ** 2).sum(axis=1)))
    if height[best] <= 0:
        raise ValueError("fit: the requests are no burstier than Poisson's, so there is nothing to fit; use Poisson")
    return DispersionLaw((len(time) - 1) / length, 1.0 + float(height[best]), float(decays[best, 0]))


def skewness_of_rate(time: NDArray[np.float64], seconds: float) -> float:
    """Return the skewness of the rate that modulates Poisson arrivals, from factorial cumulants of counts in windows.

    The windows must be short beside the changes of the rate. 0 where the counts vary no more than Poisson's.
    """
    mean, squares, windows, cubes = _moments(time, seconds)
    second = squares / windows - mean
    third = cubes / windows - 3.0 * squares / windows + 2.0 * mean
    return third / second**1.5 if second > 0 else 0.0


def _moments(time: NDArray[np.float64], seconds: float) -> tuple[float, float, int, float]:
    """Return the mean count, the sums of squared and cubed deviations, and the number of windows."""
    windows = int((time[-1] - time[0]) / seconds * (1.0 + 1e-12))
    window = np.floor((time - time[0]) / seconds)
    counts = np.unique(window[window < windows], return_counts=True)[1].astype(np.float64)
    mean = float(counts.sum() / windows)
    empty = windows - len(counts)
    squares = float(((counts - mean) ** 2).sum() + empty * mean**2)
    return mean, squares, windows, float(((counts - mean) ** 3).sum() - empty * mean**3)
