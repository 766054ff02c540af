"""Distributions of keys over a population: each is a small class that draws indices.

A new distribution is one class with `draw` and `names`; `Workload` takes any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Keys(Protocol):
    """A population of keys and how often each occurs."""

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw indices into `names()` for `size` independent requests."""

    def names(self) -> tuple[str, ...]:
        """Return the names of all keys, also of those that are never drawn."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """`n` keys that occur equally often."""

    n: int

    def __post_init__(self) -> None:
        _check_population("Uniform", self.n)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw uniform indices."""
        return rng.integers(0, self.n, size, dtype=np.int64)

    def names(self) -> tuple[str, ...]:
        """Return the n names."""
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class Zipf:
    """`n` keys of which number i (from 0) occurs with probability proportional to 1 / (i + 1)**s.

    s = 0 is uniform. Web clients and pages have an s near 1 (Breslau et al., Web Caching and Zipf-like Distributions,
    INFOCOM 1999: 0.64 to 0.83). Indices are drawn by inversion of the cumulative distribution. That is exact for every s >=
    0, which numpy's own zipf (unbounded, s > 1) is not.
    """

    n: int
    s: float = 1.0
    _cumulative: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_population("Zipf", self.n)
        if not (math.isfinite(self.s) and self.s >= 0):
            raise ValueError(f"Zipf: s must be a finite number >= 0, got {self.s:g}")
        cumulative = np.cumsum(np.arange(1, self.n + 1, dtype=np.float64) ** -self.s)
        object.__setattr__(self, "_cumulative", cumulative / cumulative[-1])

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw indices by inversion of the cumulative distribution."""
        return np.searchsorted(self._cumulative, rng.random(size), side="right")

    def names(self) -> tuple[str, ...]:
        """Return the n names, the most frequent first."""
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class HotKey:
    """`n` keys of which the first makes the share `share` of all requests; the others occur equally often."""

    n: int
    share: float

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"HotKey: n must be a whole number of keys >= 2, got {self.n}")
        if not 0 < self.share < 1:
            raise ValueError(f"HotKey: share must be between 0 and 1, got {self.share:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the other keys first, then which requests belong to the hot key."""
        others = rng.integers(1, self.n, size, dtype=np.int64)
        return np.where(rng.random(size) < self.share, 0, others)

    def names(self) -> tuple[str, ...]:
        """Return the n names, the hot one first."""
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class InTurn:
    """`n` keys one after the other, 0 to n - 1 and again from 0."""

    n: int

    def __post_init__(self) -> None:
        _check_population("InTurn", self.n)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Count through the keys; draws nothing."""
        return np.arange(size, dtype=np.int64) % self.n

    def names(self) -> tuple[str, ...]:
        """Return the n names."""
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class Churning:
    """A population that changes while it sends: keys are replaced by new ones, out of step with each other.

    A name that is gone does not come back.

    Attributes
    ----------
    of : Keys
        The distribution over the population at any moment.
    replaced : float
        How many times each key is replaced in the course of the requests.
    """

    of: Keys
    replaced: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.replaced) and self.replaced > 0):
            raise ValueError(f"Churning: replaced must be a positive finite number of times, got {self.replaced:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw places in the population, then number their generations."""
        place, n = self.of.draw(size, rng), len(self.of.names())
        # Multiples of the golden ratio, which spread evenly however many there are.
        ahead = (place + 1) * ((math.sqrt(5.0) - 1.0) / 2.0) % 1.0
        generation = np.floor(np.arange(size) * (self.replaced / max(size, 1)) + ahead).astype(np.int64)
        return place + n * generation

    def names(self) -> tuple[str, ...]:
        """Return the names of all generations."""
        return _names(len(self.of.names()) * (math.ceil(self.replaced) + 1))


def _check_population(owner: str, n: int) -> None:
    if n < 1:
        raise ValueError(f"{owner}: n must be a whole number of keys >= 1, got {n}")


def _names(n: int) -> tuple[str, ...]:
    return tuple(f"key-{i}" for i in range(n))
