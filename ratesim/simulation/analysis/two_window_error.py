"""The two-window counter beside the true count: how often, and for whom, its estimate decides wrongly.

The counter is what content delivery networks use at the edge: the requests of the current window, plus those of the one
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

    requests, sources: how many. threshold: requests per period. above: sources that truly exceeded it at some time; near:
        share of requests of those that came within 15 % of it.
    difference: mean over requests of |estimate - true| / true, all requests counted.
    wrong: share of requests where one count exceeds the threshold and the other does not: allowed or limited wrongly.
    missed, mistaken: sources limited by the true count only, and by the estimate only. missed_by: by how much the worst of
        the missed exceeded the threshold, over the threshold.
    differing: share of requests that a two-window counter and a sliding log decide differently when, as a limiter does, they
        count only what they admit. share: what the one admits over what the other does.
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
    """So many requests, in the mean, of many sources with zipf popularity (s = 1), Poisson, for twenty periods."""
    duration = PERIODS * period
    return Workload(Poisson(requests / duration), Zipf(sources, 1.0), duration).trace(rng)


def two_window(trace: Trace, period: float, thresholds: Sequence[float]) -> list[TwoWindow]:
    """How the counter does at each threshold, in requests per `period` seconds; every request counts 1.

    A request is wrong when it is the one over the threshold by one count and not by the other, as in J. Desgats, "How we
    built rate limiting capable of scaling to millions of domains" (Cloudflare, 2017), as far as that says.
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
    """True and estimated requests of the trailing period, the present one included, of rows sorted by key and time."""
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
