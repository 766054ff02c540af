"""Distributions as quantiles at fixed probabilities: what a recipe keeps of a log's values, and draws from.

A list of one value is a constant. Between two quantiles the quantile function is geometric where both are positive, since
gaps and sizes span decades, and linear elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROBABILITIES", "even_uniforms", "normal_scores", "quantile_mean", "quantile_values", "quantiles"]

PROBABILITIES = (0, 0.01, 0.02, *(each / 20 for each in range(1, 20)), 0.98, 0.99, 0.995, 0.998, 1)

Reals = NDArray[np.float64]


def quantiles(values: NDArray[Any], digits: int = 4) -> tuple[float, ...]:
    """Return the quantiles of values at `PROBABILITIES`, rounded to significant digits; one value where all are equal."""
    found = np.quantile(values, PROBABILITIES)
    rounded = tuple(float(f"{each:.{digits}g}") for each in found)
    return rounded[:1] if rounded[0] == rounded[-1] else rounded


def quantile_values(points: Sequence[float], u: Reals) -> Reals:
    """Evaluate the quantile function of quantiles at probabilities `u`, of any shape."""
    if len(points) == 1:
        return np.full(u.shape, float(points[0]))
    known = np.asarray(points, np.float64)
    part = np.clip(np.searchsorted(PROBABILITIES, u, side="right") - 1, 0, len(known) - 2)
    low, high = known[part], known[part + 1]
    at = np.asarray(PROBABILITIES)
    weight = (u - at[part]) / (at[part + 1] - at[part])
    straight = low + weight * (high - low)
    curved = np.exp(np.log(np.where(low > 0, low, 1.0)) * (1.0 - weight) + np.log(np.where(low > 0, high, 1.0)) * weight)
    values: Reals = np.where(low > 0, curved, straight)
    return values


def quantile_mean(points: Sequence[float]) -> float:
    """Return the mean of the distribution: between a and b it is (b - a) / ln(b / a), or (a + b) / 2 where a is 0."""
    if len(points) == 1:
        return float(points[0])
    value = np.asarray(points, np.float64)
    low, high = value[:-1], value[1:]
    curved = (low > 0) & (high > low * (1.0 + 1e-9))
    mean = (low + high) / 2.0
    mean[curved] = (high - low)[curved] / np.log(high[curved] / low[curved])
    return float(np.dot(mean, np.diff(PROBABILITIES)))


def even_uniforms(n: int, rng: np.random.Generator, memory: float = 0.0) -> Reals:
    """Draw n uniforms, one from each n-th part of (0, 1), in a random order: a stratified sample.

    Its distribution is that of the law for any n, so a recipe with few sessions is no less like its log. With `memory` the
    order is that of a Gaussian autoregression of that coefficient: values that follow one another are alike (M. C. Cario,
    B. L. Nelson, Autoregressive to anything: time-series input processes for simulation, Operations Research Letters 19,
    1996).
    """
    order = rng.standard_normal(n)
    if memory and n:
        from scipy.signal import lfilter

        order = lfilter([np.sqrt(1.0 - memory**2)], [1.0, -memory], order)
    return (np.argsort(np.argsort(order)) + rng.random(n)) / max(n, 1)


def normal_scores(values: NDArray[Any]) -> Reals:
    """Replace values by the normal quantiles of their ranks; equal ones share theirs."""
    from scipy.stats import norm, rankdata

    scores: Reals = norm.ppf((rankdata(values) - 0.5) / max(len(values), 1))
    return scores
