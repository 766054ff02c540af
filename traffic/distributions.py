"""Random numbers that belong to their purpose (this user's third pause), not to the order in which they are drawn.

Clients that react draw while a simulation runs, in an order that depends on the answers. A draw is therefore a hash of its
purpose and a seed. So two simulations of the same clients give each client the same luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Draws"]

MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Draws:
    """Uniform numbers from a seed of 64 bits."""

    seed: int

    @classmethod
    def of(cls, rng: np.random.Generator) -> Draws:
        """Draw a seed from a generator; it is the only draw from it."""
        return cls(int(rng.integers(1 << 64, dtype=np.uint64)))

    def uniform(self, *purpose: int) -> float:
        """Return a uniform number in (0, 1) that depends on these whole numbers alone.

        Each number is mixed in by a step of splitmix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
        Generators, OOPSLA 2014; its increment is the golden ratio of 2**64).
        """
        x = self.seed
        for number in purpose:
            x = (x + (number + 1) * 0x9E3779B97F4A7C15) & MASK
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
            x ^= x >> 31
        # 52 bits, so that one half more of the last still is below 1.
        return ((x >> 12) + 0.5) / (1 << 52)
