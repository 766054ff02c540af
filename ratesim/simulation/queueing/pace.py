"""The pace of a processor that varies: for some time work takes longer than usual, and then less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["HOLD", "Pace"]

HOLD = 0.002  # seconds for which a factor holds: neighboring lone requests are alike (0.4 to 0.7 at 1 ms), and soon less so
MANY = 4096  # factors that are drawn; then they come again


class Pace:
    """Factors of the time that work takes, each for a moment.

    Parameters
    ----------
    quantiles, factors : Sequence[float]
        The distribution: factors at these quantiles, linear between them.
    rng : numpy.random.Generator
        The source of all draws.

    Attributes
    ----------
    factors
        Those that are drawn, shape (MANY,).
    """

    __slots__ = ("_listed", "factors")

    def __init__(self, quantiles: Sequence[float], factors: Sequence[float], rng: np.random.Generator) -> None:
        self.factors = np.interp(rng.random(MANY), quantiles, factors)
        self._listed: list[float] = []

    def at(self, now: float) -> float:
        """Return the factor at a time, in seconds."""
        if not self._listed:
            self._listed = self.factors.tolist()
        return self._listed[int(now / HOLD) % MANY]
