"""`RateLimitState`: the portable state of one limit of one identifier, and its wire format.

What `get_state` returns from one backend, `set_state` puts into any other, and the next decisions are identical.
"""

from __future__ import annotations

import math

import msgspec

from ratesim import algorithms
from ratesim.errors import SerializationError
from ratesim.limit import InvalidLimitError

__all__ = ["AlgorithmData", "RateLimitState", "Watermark", "decode", "encode"]

VERSION = 1


class AlgorithmData(msgspec.Struct, frozen=True):
    """The floats of an algorithm by field name, such as {"last_refill": 1.7e9, "tokens": 3.0} of a token_bucket."""

    algorithm: str
    fields: dict[str, float | list[float]]

    @classmethod
    def of(cls, algorithm: str, values: list[float]) -> AlgorithmData:
        """A stored flat state; SerializationError when there is no such algorithm, or it has no state of that length."""
        try:
            return cls(algorithm, algorithms.get(algorithm).named(values))
        except InvalidLimitError as error:
            raise SerializationError(f"state of an {error}") from error
        except ValueError as error:
            raise SerializationError(f"state of {algorithm}: {error}") from error

    def values(self) -> list[float]:
        """The flat state as it is stored; SerializationError when it is no state of a known algorithm."""
        try:
            algorithm = algorithms.get(self.algorithm)
            values = algorithm.flat(self.fields)
            if not all(map(math.isfinite, values)):
                raise ValueError("a field is not a finite number")
            algorithm.working(values)
        except InvalidLimitError as error:
            raise SerializationError(f"state of an {error}") from error
        except KeyError as error:
            raise SerializationError(f"state of {self.algorithm}: field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise SerializationError(f"state of {self.algorithm}: {error}") from error
        return values


class Watermark(msgspec.Struct, frozen=True, array_like=True):
    """How much of a node's consumption a state has taken in: all up to `consumed`, of the node's `epoch`."""

    epoch: int
    consumed: float


class RateLimitState(msgspec.Struct, frozen=True):
    """State of one limit of one identifier.

    algorithm_data: what the algorithm keeps.
    created_at, last_accessed: seconds since the epoch, to the microsecond.
    request_count: requests admitted or merged since the state began.
    metadata: whatever a person wants to attach.
    watermarks: by node, what `charge_many` has already applied (a flush that is repeated counts once).
    """

    algorithm_data: AlgorithmData
    created_at: float
    last_accessed: float
    request_count: int = 0
    metadata: dict[str, str] = {}
    watermarks: dict[str, Watermark] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RateLimitState)


def encode(state: RateLimitState) -> bytes:
    """A version byte, then MessagePack."""
    return bytes((VERSION,)) + _encoder.encode(state)


def decode(data: bytes) -> RateLimitState:
    """The inverse of `encode`; SerializationError for an unknown version or damaged bytes."""
    if not data:
        raise SerializationError("state: no bytes")
    if data[0] != VERSION:
        raise SerializationError(f"state: version {data[0]} is unknown; this is version {VERSION}")
    try:
        state = _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise SerializationError(f"state: damaged bytes ({error})") from error
    state.algorithm_data.values()
    return state


def micro(seconds: float) -> float:
    """A time to the microsecond, which is what every backend keeps of it."""
    return round(seconds, 6)
