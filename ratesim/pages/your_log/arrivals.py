"""When requests come: the rate over time, the busiest second and minute, how bursty it is, and the gaps between.

How bursty is said by the index of dispersion for counts, the variance over the mean of how many requests fall into windows
of one length: 1 for Poisson's arrivals at every length, above where they come in bursts, below where they keep a pace. R.
Gusella, "Characterizing the variability of arrival processes with indexes of dispersion", IEEE Journal on Selected Areas in
Communications 9(2), 1991, https://doi.org/10.1109/49.68448.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from traffic import Trace

__all__ = ["Arrivals", "Gaps", "Scale", "Timeline", "arrivals", "busiest", "dispersion", "gaps", "over_time"]

LENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)  # seconds
FEWEST_WINDOWS = 30  # from which a variance is worth saying
WIDTHS = (*LENGTHS[:6], 300.0, 900.0, 3600.0, 10800.0, 43200.0, 86400.0, 604800.0)  # seconds, of a step in the figure
MOST_STEPS = 240


@dataclass(frozen=True)
class Scale:
    """The index of dispersion at one length of window.

    Attributes
    ----------
    seconds
        Length of a window.
    windows
        Number of windows.
    index
        The variance of the counts over their mean.
    low, high
        The range of the index in 95 % of all Poisson processes of one rate.
    """

    seconds: float
    windows: int
    index: float
    low: float
    high: float


@dataclass(frozen=True)
class Gaps:
    """Seconds between one request and the next; variation: their standard deviation over their mean, of Poisson's 1."""

    median: float
    high: float  # of 99 % no longer
    longest: float
    variation: float


@dataclass(frozen=True)
class Timeline:
    """Requests, and those of them that were answered 429, in steps of `width` seconds from `start` on."""

    start: float
    width: float
    requests: NDArray[np.int64]
    refused: NDArray[np.int64]


@dataclass(frozen=True)
class Arrivals:
    """The arrivals of a trace.

    Attributes
    ----------
    whole
        Whether time stamps are whole seconds.
    second, minute
        The most requests in any second, and in any minute.
    gaps
        The gaps between requests; None if there is only one request.
    """

    whole: bool
    timeline: Timeline
    second: int
    minute: int
    scales: tuple[Scale, ...]
    gaps: Gaps | None


def arrivals(trace: Trace) -> Arrivals:
    """All of it, of a trace with at least one request."""
    return Arrivals(
        whole=_whole(trace.time),
        timeline=over_time(trace),
        second=busiest(trace.time, 1.0),
        minute=busiest(trace.time, 60.0),
        scales=dispersion(trace.time),
        gaps=gaps(trace.time),
    )


def busiest(time: NDArray[np.float64], seconds: float) -> int:
    """Count the most requests in any [t, t + seconds). The times ascend."""
    return int((np.searchsorted(time, time + seconds) - np.arange(len(time))).max(initial=0))


def dispersion(time: NDArray[np.float64]) -> tuple[Scale, ...]:
    """Compute the index at every length of which at least 30 windows fit into the trace. The times ascend.

    Windows are at least one second where stamps are whole seconds. The interval is that of the dispersion test: (windows -
    1) times the index is about chi-square with windows - 1 degrees of freedom (W. G. Cochran, "Some methods for
    strengthening the common chi-square tests", Biometrics 10(4), 1954, https://doi.org/10.2307/3001616).
    """
    if len(time) < 2:
        return ()
    whole = _whole(time)
    # Finer stamps begin with a request for certain, which is no draw from their windows; a second of it holds others, too.
    since = (time if whole else time[1:]) - time[0]
    length = float(since[-1]) + (1.0 if whole else 0.0)
    found = []
    for seconds in LENGTHS:
        windows = int(length // seconds)
        if windows < FEWEST_WINDOWS or (whole and seconds < 1.0):
            continue
        window = np.floor(since / seconds)
        window = window[: np.searchsorted(window, windows)]
        # Times ascend, so a window's requests lie together; the empty windows are not made.
        edges = np.flatnonzero(np.diff(window, prepend=-1.0, append=np.inf))
        counts = np.diff(edges).astype(np.float64)
        mean = counts.sum() / windows
        if mean == 0:
            continue
        squares = ((counts - mean) ** 2).sum() + (windows - len(counts)) * mean**2
        low, high = chi2.ppf([0.025, 0.975], windows - 1) / (windows - 1)
        found.append(Scale(seconds, windows, float(squares / (windows - 1) / mean), float(low), float(high)))
    return tuple(found)


def gaps(time: NDArray[np.float64]) -> Gaps | None:
    """Compute the gaps between ascending times; None if there is none."""
    if len(time) < 2:
        return None
    between = np.diff(time)
    median, high, longest = np.quantile(between, [0.5, 0.99, 1.0]).tolist()
    mean = float(between.mean())
    return Gaps(median, high, longest, float(between.std() / mean) if mean else 0.0)


def over_time(trace: Trace) -> Timeline:
    """Count requests in steps: the finest of the usual steps of which at most 240 span the trace."""
    duration = trace.duration
    fine = 1.0 if _whole(trace.time) else 0.0
    width = next((each for each in WIDTHS if each >= fine and duration / each < MOST_STEPS), duration / MOST_STEPS)
    start = float(np.floor(trace.time[0] / width) * width)
    step = np.maximum(((trace.time - start) // width).astype(np.int64), 0)
    requests = np.bincount(step)
    refused = np.zeros(len(requests), np.int64)
    if trace.status is not None:
        refused = np.bincount(step[trace.status == 429], minlength=len(requests))
    return Timeline(start, width, requests, refused)


def _whole(time: NDArray[np.float64]) -> bool:
    return bool(np.all(time == np.floor(time)))
