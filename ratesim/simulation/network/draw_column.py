"""The draws of a counter-based generator, as plain functions that numba compiles: `counter_rng.draw`."""

from __future__ import annotations

from typing import Any

import numpy as np

DRAW_NAME = np.uint64(0x9E3779B97F4A7C15)  # what the hash of a name is multiplied by
DRAW_ADDED, DRAW_FIRST, DRAW_SECOND = DRAW_NAME, np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
DRAW_11, DRAW_27, DRAW_30, DRAW_31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
DRAW_SCALE = 9007199254740992.0  # 1 << 53


def draw_column(codes: Any, key: Any, time: Any, salt: Any, uniform: Any) -> None:
    """Draw a number in (0, 1) for each request, as `counter_rng.draw` does.

    codes: hashes of the names, uint64. key: whole numbers. time: the bits of the times, uint64. salt: of seed and purpose,
    uint64. uniform: becomes the numbers.
    """
    for row in range(len(key)):
        uniform[row] = draw_mixed((codes[key[row]] * DRAW_NAME + time[row]) ^ salt)


def draw_mixed(x: Any) -> float:
    """Return a number in (0, 1) that belongs to 64 bits: two rounds of splitmix64."""
    for _ in range(2):
        x = x + DRAW_ADDED
        x = (x ^ (x >> DRAW_30)) * DRAW_FIRST
        x = (x ^ (x >> DRAW_27)) * DRAW_SECOND
        x = x ^ (x >> DRAW_31)
    return (float(x >> DRAW_11) + 0.5) / DRAW_SCALE
