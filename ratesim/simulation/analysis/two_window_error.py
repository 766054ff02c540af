"""The two-window counter beside the true count: how often, and for which clients, its estimate decides wrongly.

Content delivery networks use the counter at the edge. It adds the requests of the current window, and those of the one
before it times the share of it that the trailing window still covers (`sliding_window` with one bucket).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ratesim.limit import Limit
from ratesim.simulation.results.oracle import exact_trace
from traffic import Poisson, Trace, Workload, Zipf

__all__ = ["TwoWindow", "crowd", "two_window"]

PERIODS = 20  # that made traffic lasts
NEAR = 0.15  # of the threshold


@dataclass(frozen=True, slots=True)
class TwoWindow:
    """The two-window counter over a trace, beside the true count in the trailing window.

    Attributes
    ----------
    requests, sources : int
        Their numbers.
    threshold : float
        Requests per period.
    above : int
        Sources that truly exceeded the threshold at some time.
    near : float
        Share of requests of the sources that came within 15 % of it.
    difference : float
        Mean over requests of abs(estimate - true) / true, all requests counted.
    wrong : float
        Share of requests where one count exceeds the threshold and the other does not.
    wrongly_allowed, wrongly_limited : int
        Those requests by the counter's decision.
    missed, mistaken : int
        Sources limited by the true count only, and by the estimate only.
    missed_by : float
        The worst excess of the missed sources, over the threshold.
    differing : float
        Share of requests that a two-window counter and a sliding log decide differently when, as a limiter does, they count
        only admitted requests.
    share : float
        The cost that the one admits over the cost that the other does.
    """

    requests: int
    sources: int
    threshold: float
    above: int
    near: float
    difference: float
    wrong: float
    wrongly_allowed: int
    wrongly_limited: int
    missed: int
    missed_by: float
    mistaken: int
    differing: float
    share: float


def crowd(period: float, requests: int, sources: int, rng: np.random.Generator) -> Trace:
    """Make so many requests, in the mean, of many sources with zipf popularity (s = 1), Poisson, for twenty periods."""
    duration = PERIODS * period
    return Workload(Poisson(requests / duration), Zipf(sources, 1.0), duration).trace(rng)


def two_window(trace: Trace, period: float, thresholds: Sequence[float]) -> list[TwoWindow]:
    """Measure the counter at each threshold, in requests per `period` seconds; every request counts 1.

    A request is wrong if it is the one over the threshold by one count and not by the other, as in J. Desgats, "How we built
    rate limiting capable of scaling to millions of domains" (Cloudflare, 2017), as far as that says.
    """
    order = np.lexsort((trace.time, trace.key))
    key = trace.key[order]
    true, estimate = _counts(key, trace.time[order], period)
    begins = np.flatnonzero(np.diff(key, prepend=-1) != 0)
    most, most_estimated = np.maximum.reduceat(true, begins), np.maximum.reduceat(estimate, begins)
    asked = np.diff(begins, append=len(key))
    difference = float(np.mean(np.abs(estimate - true) / true))
    found = []
    for threshold in thresholds:
        over, thought = true > threshold, estimate > threshold
        missed = (most > threshold) & (most_estimated <= threshold)
        near = np.abs(most / threshold - 1.0) <= NEAR
        counter, log = (exact_trace(Limit(threshold, period, name), trace) for name in ("sliding_window", "sliding_log"))
        found.append(
            TwoWindow(
                requests=len(key),
                sources=len(begins),
                threshold=threshold,
                above=int(np.count_nonzero(most > threshold)),
                near=float(asked[near].sum() / len(key)),
                difference=difference,
                wrong=float(np.mean(over != thought)),
                wrongly_allowed=int(np.count_nonzero(over & ~thought)),
                wrongly_limited=int(np.count_nonzero(thought & ~over)),
                missed=int(np.count_nonzero(missed)),
                missed_by=float(most[missed].max(initial=threshold) / threshold - 1.0),
                mistaken=int(np.count_nonzero((most_estimated > threshold) & (most <= threshold))),
                differing=float(np.mean(counter != log)),
                share=float(trace.cost[counter].sum() / trace.cost[log].sum()),
            )
        )
    return found


def _counts(
    key: NDArray[np.int64], time: NDArray[np.float64], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count the requests of the trailing period, the present one included, truly and by estimate.

    Rows are sorted by key and time.
    """
    since = time - time.min() + 2.0 * period
    apart = float(since.max()) + 2.0 * period  # a stretch of its own for each key, on one line that can be searched
    line = key * apart + since
    edge = np.floor(time / period) * period - time.min() + 2.0 * period
    now = np.arange(1.0, len(line) + 1.0)
    true = now - np.searchsorted(line, line - period, side="right")
    current = np.searchsorted(line, key * apart + edge)
    before = np.searchsorted(line, key * apart + edge - period)
    estimate = (now - current) + (current - before) * (1.0 - (since - edge) / period)
    return true, estimate
