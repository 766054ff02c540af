"""`RateLimitState`: the portable state of one limit of one identifier, and its wire format.

A state that `get_state` returns from one backend can be put into any other by `set_state`. The next decisions are identical.
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
    """The floats of an algorithm by field name, such as {"last_refill": 1.7e9, "tokens": 3.0} of a token_bucket.

    Attributes
    ----------
    algorithm : str
        A registered name.
    fields : dict[str, float | list[float]]
        Values by field name.
    """

    algorithm: str
    fields: dict[str, float | list[float]]

    @classmethod
    def of(cls, algorithm: str, values: list[float]) -> AlgorithmData:
        """Name the floats of a stored flat state.

        Raises SerializationError if there is no such algorithm, or it has no state of that length.
        """
        try:
            return cls(algorithm, algorithms.get(algorithm).named(values))
        except InvalidLimitError as error:
            raise SerializationError(f"state of an {error}") from error
        except ValueError as error:
            raise SerializationError(f"state of {algorithm}: {error}") from error

    def values(self) -> list[float]:
        """Return the flat state as it is stored; SerializationError if it is no state of a known algorithm."""
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
    """The part of a node's consumption that a state contains.

    Attributes
    ----------
    epoch : int
        The node's epoch.
    consumed : float
        The cumulative consumption of that epoch up to which everything is contained.
    """

    epoch: int
    consumed: float


class RateLimitState(msgspec.Struct, frozen=True):
    """State of one limit of one identifier.

    Attributes
    ----------
    algorithm_data : AlgorithmData
        The floats of the algorithm.
    created_at, last_accessed : float
        Seconds since the epoch, to the microsecond.
    request_count : int
        Requests admitted or merged since the state began.
    metadata : dict[str, str]
        Free text of the caller.
    watermarks : dict[str, Watermark]
        By node, the consumption that `charge_many` has already applied, so that a repeated flush counts once.
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
    """Serialize a state: a version byte, then MessagePack."""
    return bytes((VERSION,)) + _encoder.encode(state)


def decode(data: bytes) -> RateLimitState:
    """Invert `encode`; SerializationError for an unknown version or damaged bytes."""
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
    """Round a time to the microsecond, the resolution that every backend stores."""
    return round(seconds, 6)
