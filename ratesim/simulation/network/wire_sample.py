"""The choice of the batches whose bytes on the wire are measured, as a plain function that numba compiles.

Of each kind of batch the first are all measured, then few, and of very many fewer, so that a million take no longer than a
hundred thousand: after 512 measured operations the mean of as many is known far better than a model of their bytes.
"""

from __future__ import annotations

from typing import Any

WIRE_ALWAYS = 64  # operations that are all measured
WIRE_SELDOM, WIRE_RARELY = 251, 4099  # of how many later batches one is; primes, so that no rhythm of the traffic keeps step
WIRE_ENOUGH = 512  # measured operations from which on one is rarely


def wire_is_sampled(kind: Any, operations: int) -> bool:
    """Count a batch of so many operations, and tell whether its bytes are measured.

    kind: the counts of its kind, `batches`, `operations` and `measured`: a `WireKind`, or a record with these fields.
    """
    kind.batches += 1
    kind.operations += operations
    if kind.measured >= WIRE_ENOUGH:
        sampled = kind.batches % WIRE_RARELY == 0
    else:
        sampled = kind.measured < WIRE_ALWAYS or kind.batches % WIRE_SELDOM == 0
    if sampled:
        kind.measured += operations
    return bool(sampled)
