"""The draws of a counter-based generator, as plain functions that numba compiles: `counter_rng.draw`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DRAW_NAME = np.uint64(0x9E3779B97F4A7C15)  # what the hash of a name is multiplied by
DRAW_ADDED, DRAW_FIRST, DRAW_SECOND = DRAW_NAME, np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
DRAW_11, DRAW_27, DRAW_30, DRAW_31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
DRAW_SCALE = 9007199254740992.0  # 1 << 53
DRAW_CENTER = 0.425  # that far from 1/2 a quantile is near the center
# Of the three approximations of AS241 to the normal quantile, by the distance from the center.
DRAW_CENTER_NUMERATOR = (
    2509.0809287301227,
    33430.57558358813,
    67265.7709270087,
    45921.95393154987,
    13731.69376550946,
    1971.5909503065513,
    133.14166789178438,
    3.3871328727963665,
)
DRAW_CENTER_DENOMINATOR = (
    5226.495278852854,
    28729.085735721943,
    39307.89580009271,
    21213.794301586597,
    5394.196021424751,
    687.1870074920579,
    42.31333070160091,
    1.0,
)
DRAW_SIDE_NUMERATOR = (
    0.0007745450142783414,
    0.022723844989269184,
    0.2417807251774506,
    1.2704582524523684,
    3.6478483247632045,
    5.769497221460691,
    4.630337846156546,
    1.4234371107496835,
)
DRAW_SIDE_DENOMINATOR = (
    1.0507500716444169e-09,
    0.0005475938084995345,
    0.015198666563616457,
    0.14810397642748008,
    0.6897673349851,
    1.6763848301838038,
    2.053191626637759,
    1.0,
)
DRAW_TAIL_NUMERATOR = (
    2.0103343992922881e-07,
    2.7115555687434876e-05,
    0.0012426609473880784,
    0.026532189526576124,
    0.29656057182850487,
    1.7848265399172913,
    5.463784911164114,
    6.657904643501103,
)
DRAW_TAIL_DENOMINATOR = (
    2.0442631033899397e-15,
    1.421511758316446e-07,
    1.8463183175100548e-05,
    0.0007868691311456133,
    0.014875361290850615,
    0.1369298809227358,
    0.599832206555888,
    1.0,
)


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


def draw_normals(uniform: Any, far: Any, values: Any) -> None:
    """Draw a standard normal number for each uniform one, as `draw_normal` does: first as if all were near the center.

    far: room for some rows, as many as are drawn together.
    """
    for first in range(0, len(uniform), len(far)):
        last = min(first + len(far), len(uniform))
        for row in range(first, last):
            values[row] = draw_central(uniform[row] - 0.5)
        count = 0
        for row in range(first, last):
            far[count] = row
            count += abs(uniform[row] - 0.5) > DRAW_CENTER
        for place in range(count):
            values[far[place]] = draw_normal(uniform[far[place]])


def draw_normal(p: float) -> float:
    """Return a quantile of the standard normal distribution: `NormalDist.inv_cdf`, which is Wichura's AS241."""
    q = p - 0.5
    if abs(q) <= DRAW_CENTER:
        return draw_central(q)
    r = math.sqrt(-math.log(p if q <= 0.0 else 1.0 - p))
    if r <= 5.0:
        r = r - 1.6
        x = draw_polynomial(DRAW_SIDE_NUMERATOR, r) / draw_polynomial(DRAW_SIDE_DENOMINATOR, r)
    else:
        r = r - 5.0
        x = draw_polynomial(DRAW_TAIL_NUMERATOR, r) / draw_polynomial(DRAW_TAIL_DENOMINATOR, r)
    return -x if q < 0.0 else x


def draw_central(q: float) -> float:
    """Return a quantile that is near the center, by its distance from that."""
    r = 0.180625 - q * q
    return draw_polynomial(DRAW_CENTER_NUMERATOR, r) * q / draw_polynomial(DRAW_CENTER_DENOMINATOR, r)


def draw_polynomial(coefficients: Any, r: float) -> float:
    """Return the value of a polynomial whose highest coefficient is the first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * r + coefficient
    return value
