"""Distributions of the cost of a request: each is a small class that draws costs.

A new distribution is one class with `draw`; `Workload` takes any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lognormal"]


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormal costs: most are below the mean, few are far above.

    Sizes of requests and answers are lognormal, prompts in tokens among them. With a sigma of 1 the 99th percentile is 6.2
    times the mean.

    Attributes
    ----------
    mean : float
        Mean cost.
    sigma : float
        Standard deviation of the logarithm of the cost.
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        for name in ("mean", "sigma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Lognormal: {name} must be a positive finite number, got {value:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the costs of `size` independent requests."""
        return rng.lognormal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, size)
