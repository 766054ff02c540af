"""Networks: presets of one-way delay between an API node and a server, and the draws that give each message its own.

A draw belongs to (seed, request, purpose), not to the order of events, so candidates that are compared share them.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from traffic import Trace

__all__ = ["PRESETS", "Link", "Way", "code_of", "draw", "draws"]

_NORMAL = NormalDist()
_MASK = (1 << 64) - 1


class Way(Protocol):
    """One-way delays in seconds: at a quantile in (0, 1), and of many at once (the same but for rounding)."""

    def delay(self, uniform: float) -> float: ...

    def delays(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Link:
    """One-way delay, lognormal: `median` seconds, `sigma` the standard deviation of its logarithm."""

    median: float
    sigma: float
    source: str

    def delay(self, uniform: float) -> float:
        """The delay at a quantile in (0, 1), in seconds."""
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(uniform))

    def delays(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of many, but for rounding."""
        return np.asarray(self.median * np.exp(self.sigma * ndtri(uniform)), np.float64)


# Medians are half of a round trip. The spread is an assumption: sigma 0.25 puts the 99th percentile at 1.8 medians.
PRESETS = {
    "loopback": Link(
        15e-6, 0.1, "round trip of about 30 us through the loopback of the machine the profile was measured on"
    ),
    "same_zone": Link(
        250e-6, 0.25, "0.5 ms round trip within a data centre: J. Dean, Designs, Lessons and Advice (LADIS 2009)"
    ),
    "cross_zone": Link(500e-6, 0.25, "assumed: 1 ms round trip between zones of a region, single-digit as vendors state"),
    "cross_region": Link(35e-3, 0.1, "assumed: 70 ms round trip, about one coast of North America to the other"),
    "mobile_edge": Link(25e-3, 0.5, "assumed: 50 ms round trip with the wide spread of a radio link"),
}


def draw(seed: int, identifier: str, now: float, purpose: int) -> float:
    """A uniform number in (0, 1) that belongs to these arguments alone (splitmix64: Steele, Lea, Flood, OOPSLA 2014)."""
    bits: int = struct.unpack("<Q", struct.pack("<d", now))[0]
    x = (code_of(identifier) * 0x9E3779B97F4A7C15 + bits) & _MASK
    x = (x ^ (seed * 0xD1342543DE82EF95 + purpose * 0xA0761D6478BD642F)) & _MASK
    for _ in range(2):
        x = (x + 0x9E3779B97F4A7C15) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return ((x >> 11) + 0.5) / (1 << 53)


def draws(seed: int, trace: Trace, purpose: int) -> NDArray[np.float64]:
    """`draw` for every request of a trace, shape (len(trace),); the same numbers to the bit."""
    codes = np.array([code_of(name) for name in trace.keys], np.uint64)
    x = codes[trace.key] * np.uint64(0x9E3779B97F4A7C15) + trace.time.view(np.uint64)
    x ^= np.uint64((seed * 0xD1342543DE82EF95 + purpose * 0xA0761D6478BD642F) & _MASK)
    for _ in range(2):
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)


def code_of(identifier: str) -> int:
    """A number that belongs to a name, the same in every process."""
    return zlib.crc32(identifier.encode("utf-8", "surrogatepass"))
