"""The command of an operation at the server, and what the server's answer means."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis.exceptions

from ratesim import algorithms
from ratesim.errors import SerializationError, StorageError
from ratesim.limit import Decision, Limit
from ratesim.state import RateLimitState
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.error_translation import MALFORMED, operation_error, strange_answer
from ratesim.storage.redis.keys import key_of
from ratesim.storage.redis.scripts import log_script_of, script_of
from ratesim.storage.redis.single_limit import SingleLimit, number_text
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
from ratesim.storage.remote.replay import Replay

__all__ = ["LOG_ANSWER", "Calls", "LogLimit"]

T = TypeVar("T")

Command = tuple[Any, ...]
# How to ask for a decision under limits, how to read the answer, and the limits, so that no others have their identity.
Prepared = tuple[Callable[[bytes, float, float, bool], Command], Replay, tuple[Limit, ...]]

MOST_PREPARED = 4096  # limits whose arguments are kept
MARGIN = number_text(EXPIRY_MARGIN)
LOG_ANSWER = struct.Struct(">4d")  # of lua/acquire_log.lua


class SeveralLimits:
    """Limits that are decided together, or one whose state varies in size: the general script.

    Attributes
    ----------
    described : tuple[bytes, ...]
        The limits as `opened` in lua/record.lua reads them.
    """

    def __init__(self, limits: tuple[Limit, ...], config: RedisStorageConfig, tally: list[int]) -> None:
        self.described = _describe(limits, config)
        self._limits = limits
        self._digest = script_of("acquire", _names(limits))
        self._least = number_text(config.min_ttl)
        self._server = config.clock == "server"
        self._tally = tally

    def command(self, key: bytes, cost: float, now: float, consume: bool) -> Command:
        """Return the command of a request."""
        time = "server" if self._server else number_text(now)
        head = (time, number_text(cost), int(consume), self._least, MARGIN)
        return ("EVALSHA", self._digest, 1, key, *head, *self.described)

    def answer(self, raw: Any, cost: float, now: float, consume: bool) -> Decision | SerializationError:
        """Return the decision that the script has taken."""
        allowed, index, remaining, retry_after, reset_after, rewound = raw
        self._tally[0] += rewound
        return self._decision(allowed == 1, index, (float(remaining), float(retry_after), float(reset_after)))

    def _decision(self, allowed: bool, index: int, numbers: tuple[float, float, float]) -> Decision | SerializationError:
        if any(map(math.isnan, numbers)):
            return SerializationError("a state that cannot be read: one of its numbers is NaN; reset it")
        return Decision(allowed, *numbers, self._limits[index])


class LogLimit(SeveralLimits):
    """One sliding log. Most of its decisions need its numbers and one or two chunks: lua/acquire_log.lua."""

    def __init__(self, limits: tuple[Limit, ...], config: RedisStorageConfig, tally: list[int]) -> None:
        super().__init__(limits, config, tally)
        (limit,), server = limits, config.clock == "server"
        prefix, skew = prefix_of(limit.name), min(config.max_clock_skew, limit.period)
        numbers = (skew, *algorithms.bind(limit).params)
        self._arguments = (*(number_text(value).encode() for value in numbers), *([prefix.encode()] if prefix else []))
        self._digests = [log_script_of(consume, bool(prefix), server, config.min_ttl) for consume in (False, True)]

    @staticmethod
    def suits(limits: Sequence[Limit]) -> bool:
        """Return whether limits are one sliding log."""
        return len(limits) == 1 and limits[0].algorithm == "sliding_log"

    def command(self, key: bytes, cost: float, now: float, consume: bool) -> Command:
        """Return the command of a request."""
        return ("EVALSHA", self._digests[consume], 1, key, number_text(now), number_text(cost), *self._arguments)

    def answer(self, raw: Any, cost: float, now: float, consume: bool) -> Decision | SerializationError:
        """Return the decision that the script has taken."""
        if not isinstance(raw, bytes):
            return super().answer(raw, cost, now, consume)
        allowed, remaining, retry_after, reset_after = LOG_ANSWER.unpack(raw)
        return self._decision(allowed == 1.0, 0, (remaining, retry_after, reset_after))


class _ByKind(dict[type[Operation], T]):
    """Values by the kind of an operation. A kind that is derived from another, as in a simulation, has its value."""

    def __missing__(self, kind: type[Operation]) -> T:
        self[kind] = found = self[kind.__bases__[0]]
        return found


class Calls:
    """Turns operations into commands, and the server's answers into those of the operations.

    What depends on a limit alone is prepared once for each limit.
    """

    def __init__(self, config: RedisStorageConfig) -> None:
        self.config = config
        self._tally = [0]
        self._least = number_text(config.min_ttl)
        self._server = config.clock == "server"
        self._prefix = config.key_prefix
        self._prepared: dict[int, Prepared] = {}  # by the identity of the limits
        self._commands: _ByKind[Callable[[Any], Command]] = _ByKind()
        self._commands |= {
            Acquire: self._acquire,
            Observe: self._observe,
            Apply: self._apply,
            Get: self._get,
            Put: self._put,
            Increment: self._increment,
            Claim: self._claim,
            Reset: self._reset,
        }
        self._answers: _ByKind[Callable[[Any, Any], object]] = _ByKind()
        self._answers |= {
            Operation: lambda _, __: None,
            Acquire: self._decision,
            Observe: self._observed,
            Apply: self._merged,
            Get: self._state,
            Increment: lambda _, raw: int(raw),
            Claim: lambda _, raw: (to_str(raw[0]), raw[1] / 1000),
        }

    @property
    def clock_rewinds(self) -> int:
        """States that the scripts brought back to the time of a request."""
        return self._tally[0]

    def call(self, operation: Operation) -> Command:
        """Return the command of an operation, for a server that knows the scripts."""
        return self._commands[operation.__class__](operation)

    def answer(self, operation: Operation, raw: Any) -> object:
        """Return the answer of an operation; its StorageError where the server answered an error."""
        if isinstance(raw, SerializationError):
            return raw
        if isinstance(raw, redis.exceptions.RedisError):
            return operation_error(raw, identifier_of(operation), self.config.url)
        try:
            return self._answers[operation.__class__](operation, raw)
        except MALFORMED:  # a proxy, or a server that is none of Redis'
            return operation_error(strange_answer(raw), identifier_of(operation), self.config.url)

    # -- decisions --------------------------------------------------------------------------------------------------------

    def _prepare(self, limits: tuple[Limit, ...]) -> Prepared:
        if len(self._prepared) >= MOST_PREPARED:
            self._prepared.clear()
        kind = SingleLimit if SingleLimit.suits(limits) else LogLimit if LogLimit.suits(limits) else SeveralLimits
        made = kind(limits, self.config, self._tally)
        prepared = self._prepared[id(limits)] = (made.command, made.answer, limits)
        return prepared

    def _acquire(self, operation: Acquire) -> Command:
        limits = operation.limits
        command = (self._prepared.get(id(limits)) or self._prepare(limits))[0]
        return command(key_of(self._prefix, operation.identifier), operation.cost, operation.now, operation.consume)

    def _decision(self, operation: Acquire, raw: Any) -> Decision | StorageError:
        limits = operation.limits
        answer = (self._prepared.get(id(limits)) or self._prepare(limits))[1]
        return answer(raw, operation.cost, operation.now, operation.consume)

    def _observe(self, operation: Observe) -> Command:
        head = (self._time(operation.now), number_text(operation.score), self._least, MARGIN)
        limits = _describe(operation.limits, self.config)
        digest = script_of("observe", _names(operation.limits))
        return ("EVALSHA", digest, 1, self.key_of(operation.identifier), *head, *limits)

    def _observed(self, operation: Observe, raw: int) -> None:
        self._tally[0] += raw

    # -- states -----------------------------------------------------------------------------------------------------------

    def _apply(self, operation: Apply) -> Command:
        charge = operation.charge
        limit = charge.limit
        p = algorithms.bind(limit).params
        arguments: list[Any] = [prefix_of(limit.name), limit.algorithm, self._least, MARGIN]
        arguments += [charge.node, charge.epoch, number_text(charge.before)]
        arguments += ["" if charge.sent is None or not self._server else number_text(charge.sent)]
        arguments += [len(p), *map(number_text, p)]
        for time, cost, requests in charge.entries:
            arguments += [number_text(time), number_text(cost), requests]
        return ("EVALSHA", script_of("charge", (limit.algorithm,)), 1, self.key_of(charge.identifier), *arguments)

    def _merged(self, operation: Apply, raw: Any) -> object:
        return read_state(raw, operation.charge.limit.name, None)

    def _get(self, operation: Get) -> Command:
        key = self.key_of(operation.identifier)
        return ("EVALSHA", script_of("get"), 1, key) if self._server else ("HGETALL", key)

    def _state(self, operation: Get, raw: Any) -> RateLimitState | SerializationError | None:
        now = operation.now
        if self._server:
            time, raw = raw
            now = float(time)
        return read_state(raw, operation.name, now)

    def _put(self, operation: Put) -> Command:
        config, ttl = self.config, operation.ttl
        prefix = prefix_of(operation.name)
        milliseconds = round(max(ttl + EXPIRY_MARGIN, config.min_ttl) * 1000)
        # By the server's clock the script knows when the state expires.
        values = fields_of(operation.state, prefix, ttl if self._server else operation.now + ttl, config.compression)
        key = self.key_of(operation.identifier)
        return ("EVALSHA", script_of("put"), 1, key, prefix, milliseconds, config.clock, *values)

    # -- the others -------------------------------------------------------------------------------------------------------

    def _increment(self, operation: Increment) -> Command:
        window = operation.window
        skew = number_text(min(self.config.max_clock_skew, window))
        arguments = (operation.amount, number_text(window), self._time(operation.now), self._least, skew)
        return ("EVALSHA", script_of("increment"), 1, self.counter_of(operation.identifier), *arguments)

    def _claim(self, operation: Claim) -> Command:
        key = self.config.key_prefix + operation.identifier
        return ("EVALSHA", script_of("claim"), 1, key, operation.holder, round(operation.ttl * 1000))

    def _reset(self, operation: Reset) -> Command:
        return ("DEL", self.key_of(operation.identifier), self.counter_of(operation.identifier))

    def _time(self, now: float) -> str:
        """Return the time of a decision as `time_of` in lua/time_of.lua reads it."""
        return "server" if self._server else number_text(now)

    def key_of(self, identifier: str) -> bytes:
        """Return the key of the hash of an identifier."""
        return key_of(self.config.key_prefix, identifier)

    def counter_of(self, identifier: str) -> bytes:
        """Return the key of the plain counter of an identifier."""
        return self.key_of(identifier) + b":counter"


def _names(limits: tuple[Limit, ...]) -> tuple[str, ...]:
    return tuple(sorted({limit.algorithm for limit in limits}))


def _describe(limits: tuple[Limit, ...], config: RedisStorageConfig) -> tuple[str, ...]:
    """Describe limits for `opened` in lua/record.lua."""
    described: list[str] = []
    for limit in limits:
        p = algorithms.bind(limit).params
        skew = number_text(min(config.max_clock_skew, limit.period))
        described += [prefix_of(limit.name), limit.algorithm, skew, str(len(p)), *map(number_text, p)]
    return tuple(described)
