"""Interpolation between a few points, as a plain function that numba compiles."""

from __future__ import annotations

from typing import Any


def interpolate(uniform: Any, quantiles: Any, factors: Any, slopes: Any, values: Any) -> None:
    """Interpolate factors at their quantiles, ascending from 0, as `np.interp` does, to the bit.

    slopes: those behind each quantile, 0 behind the last. values: becomes the factors; may be `uniform`.
    """
    for row in range(len(uniform)):
        place = 0
        for i in range(1, len(quantiles)):  # no branch: nobody could foretell it
            place += quantiles[i] <= uniform[row]
        values[row] = slopes[place] * (uniform[row] - quantiles[place]) + factors[place]
