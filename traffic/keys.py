"""Who asks: distributions of keys over a population, each a small class that draws indices.

A new distribution is one class with `draw` and `names`; `Workload` takes any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Keys(Protocol):
    """A population of keys and how often each asks."""

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Indices into `names()` of `size` independent requests."""

    def names(self) -> tuple[str, ...]:
        """The names of all keys, also of those that are never drawn."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """n keys that ask equally often."""

    n: int

    def __post_init__(self) -> None:
        _check_population("Uniform", self.n)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.integers(0, self.n, size, dtype=np.int64)

    def names(self) -> tuple[str, ...]:
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class Zipf:
    """n keys of which number i (from 0) asks with probability proportional to 1 / (i + 1)**s.

    s = 0 is uniform; web clients and pages are seen near s = 1 (Breslau et al., Web Caching and Zipf-like
    Distributions, INFOCOM 1999: 0.64 to 0.83). Drawn by inversion of the cumulative distribution, exact for
    every s >= 0, which numpy's own zipf (unbounded, s > 1) is not.
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
        return np.searchsorted(self._cumulative, rng.random(size), side="right")

    def names(self) -> tuple[str, ...]:
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class HotKey:
    """n keys of which the first makes the share `share` of all requests, and the others ask equally often."""

    n: int
    share: float

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"HotKey: n must be a whole number of keys >= 2, got {self.n}")
        if not 0 < self.share < 1:
            raise ValueError(f"HotKey: share must be between 0 and 1, got {self.share:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        others = rng.integers(1, self.n, size, dtype=np.int64)
        return np.where(rng.random(size) < self.share, 0, others)

    def names(self) -> tuple[str, ...]:
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class InTurn:
    """n keys that ask one after the other, 0 to n - 1 and again from 0. Draws nothing."""

    n: int

    def __post_init__(self) -> None:
        _check_population("InTurn", self.n)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.arange(size, dtype=np.int64) % self.n

    def names(self) -> tuple[str, ...]:
        return _names(self.n)


@dataclass(frozen=True, slots=True)
class Churning:
    """A population that changes: `of` says who asks how often, and each of its keys is replaced by a new one `replaced`
    times in the course of the requests, the keys out of step with each other. A name that is gone does not come back.
    """

    of: Keys
    replaced: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.replaced) and self.replaced > 0):
            raise ValueError(f"Churning: replaced must be a positive finite number of times, got {self.replaced:g}")

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        place, n = self.of.draw(size, rng), len(self.of.names())
        # Multiples of the golden ratio, which spread evenly however many there are.
        ahead = (place + 1) * ((math.sqrt(5.0) - 1.0) / 2.0) % 1.0
        generation = np.floor(np.arange(size) * (self.replaced / max(size, 1)) + ahead).astype(np.int64)
        return place + n * generation

    def names(self) -> tuple[str, ...]:
        return _names(len(self.of.names()) * (math.ceil(self.replaced) + 1))


def _check_population(who: str, n: int) -> None:
    if n < 1:
        raise ValueError(f"{who}: n must be a whole number of keys >= 1, got {n}")


def _names(n: int) -> tuple[str, ...]:
    return tuple(f"key-{i}" for i in range(n))
