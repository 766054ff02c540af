"""Uniform random numbers that are functions of their arguments: a counter-based generator.

A draw belongs to (seed, request, purpose), not to the order of events. Candidates that are compared therefore share their
draws. The mixing function is splitmix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.network import draw_column
from ratesim.simulation.network.trace_columns import trace_column
from traffic import Trace

__all__ = ["draw", "draws", "name_codes", "name_hash", "salt"]

_MASK = (1 << 64) - 1


def draw(seed: int, identifier: str, now: float, purpose: int) -> float:
    """Return a uniform number in (0, 1) that belongs to these arguments alone.

    Parameters
    ----------
    seed : int
        Seed of the run.
    identifier : str
        Key of the request.
    now : float
        Time of the request, in seconds.
    purpose : int
        Purpose of the draw; different purposes give independent numbers.
    """
    bits: int = struct.unpack("<Q", struct.pack("<d", now))[0]
    x = (name_hash(identifier) * 0x9E3779B97F4A7C15 + bits) & _MASK
    x ^= salt(seed, purpose)
    for _ in range(2):
        x = (x + 0x9E3779B97F4A7C15) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return ((x >> 11) + 0.5) / (1 << 53)


def draws(seed: int, trace: Trace, purpose: int) -> NDArray[np.float64]:
    """Return `draw` for every request of a trace, shape (len(trace),); the same numbers to the bit."""
    uniform = np.empty(len(trace))
    bits = np.uint64(salt(seed, purpose))
    compiled(draw_column).draw_column(name_codes(trace), trace.key, trace.time.view(np.uint64), bits, uniform)
    return uniform


def salt(seed: int, purpose: int) -> int:
    """Return the 64 bits that belong to a seed and a purpose."""
    return (seed * 0xD1342543DE82EF95 + purpose * 0xA0761D6478BD642F) & _MASK


def name_codes(trace: Trace) -> NDArray[np.uint64]:
    """Return `name_hash` of every name of a trace, shape (keys,); made once for each trace."""
    return trace_column(trace, name_hash, lambda: np.array([name_hash(name) for name in trace.keys], np.uint64))


def name_hash(identifier: str) -> int:
    """Return a number that belongs to a name, the same in every process."""
    return zlib.crc32(identifier.encode("utf-8", "surrogatepass"))
