"""A list of floats as one blob, bit for bit: the log of a state that is written and read whole.

The floats are pairs of a time and a cost. Of each kind the differences of neighboring bit patterns are kept: times in order
have small ones, equal costs have none. Their bytes are laid out by place, all highest bytes together, so a codec meets long
runs (docs/redis.md, "Compression", has what that is worth).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ratesim.errors import SerializationError
from ratesim.storage.compression import Codec, compress, decompress

__all__ = ["from_differences", "pack", "to_differences", "unpack"]


def pack(values: Sequence[float], codec: Codec) -> bytes:
    """Return the blob of a list of floats."""
    return compress(to_differences(values), codec)


def unpack(blob: bytes) -> list[float]:
    """Invert `pack`. Raises SerializationError for damaged bytes."""
    data = decompress(blob)
    if len(data) % 8:
        raise SerializationError(f"a packed log of {len(data)} bytes, which are no floats; reset it")
    return from_differences(data)


def to_differences(values: Sequence[float]) -> bytes:
    """Lay floats out for a codec, 8 bytes each."""
    bits = np.array(values, "<f8").view("<i8")
    differences = np.concatenate([np.diff(bits[::2], prepend=0), np.diff(bits[1::2], prepend=0)])
    return differences.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()


def from_differences(data: bytes) -> list[float]:
    """Invert `to_differences`."""
    differences = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(8, -1).T).view("<i8").ravel()
    bits = np.empty(len(differences), "<i8")
    half = (len(bits) + 1) // 2
    np.cumsum(differences[:half], out=bits[::2])
    np.cumsum(differences[half:], out=bits[1::2])
    values: list[float] = bits.view("<f8").tolist()
    return values
