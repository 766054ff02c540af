"""Confidence intervals of a mean by Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

__all__ = ["half_width"]


def half_width(values: Sequence[float], confidence: float = 0.95) -> float:
    """Return half of the confidence interval of the mean of independent values.

    Parameters
    ----------
    values
        Independent and about normally distributed.
    confidence
        The probability with which the interval covers the true mean.

    Returns
    -------
    float
        In the unit of the values; nan for fewer than two values, or if one is not finite.
    """
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.nan
    if min(values) == max(values):
        return 0.0
    return float(stdtrit(n - 1, (1.0 + confidence) / 2.0) * np.std(values, ddof=1) / math.sqrt(n))
