"""What a request costs: distributions of costs, each a small class that draws them.

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
    """Costs with this mean, sigma the standard deviation of their logarithm: most are below the mean, few are far above.

    Sizes of requests and answers are such, prompts in tokens among them; a sigma of 1 has its 99th percentile at 6.2 means.
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        for name in ("mean", "sigma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Lognormal: {name} must be a positive finite number, got {value:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.lognormal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, size)
