"""What an operation is at the server: a script with its arguments, or a command; and what its answer means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import redis.exceptions

from ratesim import algorithms
from ratesim.errors import SerializationError
from ratesim.limit import Decision, Limit
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.error_translation import operation_error
from ratesim.storage.redis.keys import key_of
from ratesim.storage.redis.scripts import script_of
from ratesim.storage.redis.state_fields import fields_of, prefix_of, read_state, to_str
from ratesim.storage.remote.operations import (
    Acquire,
    Apply,
    Claim,
    Get,
    Increment,
    Observe,
    Operation,
    Put,
    Reset,
    identifier_of,
)

__all__ = ["Calls"]


class Calls:
    """Turns operations into calls, and the server's answers into those of the operations.

    Attributes
    ----------
    clock_rewinds : int
        States that the scripts brought back to the time of a request.
    """

    def __init__(self, config: RedisStorageConfig) -> None:
        self.config = config
        self.clock_rewinds = 0

    def call(self, operation: Operation) -> tuple[Any, ...]:
        """Return (script or None, arguments) of an operation."""
        config = self.config
        match operation:
            case Acquire(identifier, limits, cost, now, consume):
                arguments: list[Any] = [self._time(now), repr(cost), int(consume), config.min_ttl, EXPIRY_MARGIN]
                script = script_of("acquire", tuple(sorted({limit.algorithm for limit in limits})))
                return (script, self.key_of(identifier), *arguments, *self._describe(limits))
            case Observe(identifier, limits, score, now):
                script = script_of("observe", tuple(sorted({limit.algorithm for limit in limits})))
                arguments = [self._time(now), repr(score), config.min_ttl, EXPIRY_MARGIN]
                return (script, self.key_of(identifier), *arguments, *self._describe(limits))
            case Apply(charge):
                limit = charge.limit
                p = algorithms.bind(limit).params
                arguments = [prefix_of(limit.name), limit.algorithm, config.min_ttl, EXPIRY_MARGIN]
                arguments += [charge.node, charge.epoch, repr(charge.before)]
                arguments += ["" if charge.sent is None or config.clock == "client" else repr(charge.sent)]
                arguments += [len(p), *map(repr, p)]
                for time, cost, requests in charge.entries:
                    arguments += [repr(time), repr(cost), requests]
                return (script_of("charge", (limit.algorithm,)), self.key_of(charge.identifier), *arguments)
            case Get(identifier) if config.clock == "server":
                return (script_of("get", ()), self.key_of(identifier))
            case Get(identifier):
                return (None, "HGETALL", self.key_of(identifier))
            case Put(identifier, name, state, now, ttl):
                milliseconds = round(max(ttl + EXPIRY_MARGIN, config.min_ttl) * 1000)
                # By the server's clock the script knows when the state expires.
                expires_at = ttl if config.clock == "server" else now + ttl
                values = fields_of(state, prefix_of(name), expires_at, config.compression)
                return (script_of("put", ()), self.key_of(identifier), prefix_of(name), milliseconds, config.clock, *values)
            case Increment(identifier, amount, window, now):
                return (
                    script_of("increment", ()),
                    self.counter_of(identifier),
                    amount,
                    repr(window),
                    self._time(now),
                    config.min_ttl,
                    repr(min(config.max_clock_skew, window)),
                )
            case Claim(_, holder, ttl):
                return (script_of("claim", ()), self.config.key_prefix + operation.identifier, holder, round(ttl * 1000))
            case Reset(identifier):
                return (None, "DEL", self.key_of(identifier), self.counter_of(identifier))
        raise TypeError(f"unknown operation {type(operation).__name__}")

    def answer(self, operation: Operation, raw: Any) -> object:
        """Return the answer of an operation; its StorageError where the server answered an error."""
        if isinstance(raw, redis.exceptions.RedisError):
            return operation_error(raw, identifier_of(operation), self.config.url)
        match operation:
            case Acquire(_, limits):
                allowed, index, remaining, retry_after, reset_after, rewound = raw
                self.clock_rewinds += rewound
                numbers = float(remaining), float(retry_after), float(reset_after)
                if any(map(math.isnan, numbers)):
                    return SerializationError("a state that cannot be read: one of its numbers is NaN; reset it")
                return Decision(allowed == 1, *numbers, limits[index])
            case Observe():
                self.clock_rewinds += raw
            case Apply(charge):
                return read_state(raw, charge.limit.name, None)
            case Get(_, name, now):
                if self.config.clock == "server":
                    time, raw = raw
                    now = float(time)
                return read_state(raw, name, now)
            case Increment():
                return int(raw)
            case Claim():
                holder, milliseconds = raw
                return to_str(holder), milliseconds / 1000
        return None

    def _time(self, now: float) -> str:
        """Return the time of a decision as `time_of` in lua/record.lua reads it."""
        return "server" if self.config.clock == "server" else repr(now)

    def _skew(self, limit: Limit) -> str:
        """Return the seconds that a state may be ahead of a request."""
        return repr(min(self.config.max_clock_skew, limit.period))

    def _describe(self, limits: Iterable[Limit]) -> Iterator[Any]:
        """Describe the limits as `opened` in lua/record.lua reads them."""
        for limit in limits:
            p = algorithms.bind(limit).params
            yield from (prefix_of(limit.name), limit.algorithm, self._skew(limit), len(p), *map(repr, p))

    def key_of(self, identifier: str) -> bytes:
        """Return the key of the hash of an identifier."""
        return key_of(self.config.key_prefix, identifier)

    def counter_of(self, identifier: str) -> bytes:
        """Return the key of the plain counter of an identifier."""
        return self.key_of(identifier) + b":counter"
