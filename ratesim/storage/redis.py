"""`RedisStorage`: state in Redis or Valkey, decided by Lua scripts that are twins of the Python rules.

An identifier is one hash, whose fields are readable names. So several limits of it are decided atomically on one key, also
on a cluster. A batch of operations is one pipeline of EVALSHAs.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib import resources
from typing import Any

import msgspec
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ratesim import algorithms
from ratesim.errors import ConfigurationError, KeyRefusedError, SerializationError, StorageError, StorageUnavailableError
from ratesim.limit import Decision, InvalidLimitError, Limit
from ratesim.runtime import AsyncioRuntime, Runtime, abandon_descriptors
from ratesim.safe_text import shorten_repr
from ratesim.server_url import address_of, split_url
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import EXPIRY_MARGIN, StorageStats
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis_errors import DOWN, connection_error, error_code, operation_error
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
from ratesim.storage.remote.server_storage import ServerStorage

__all__ = ["RedisDriver", "RedisStorage"]

SPARE = 2  # connections for work that decides nothing: removing expired keys, and counting


class RedisStorage(ServerStorage["RedisDriver"]):
    """State in one Redis or Valkey.

    Parameters
    ----------
    config : RedisStorageConfig
        Options.
    connection : redis.asyncio.Redis, optional
        A client to use instead of one made from `config.url` (fakeredis, in tests).
    """

    def __init__(
        self,
        config: RedisStorageConfig | None = None,
        runtime: Runtime | None = None,
        connection: redis.asyncio.Redis | None = None,
    ) -> None:
        self.config = config or RedisStorageConfig()
        super().__init__(lambda: RedisDriver(self.config, connection), self.config, runtime or AsyncioRuntime())

    def __repr__(self) -> str:
        return f"RedisStorage({address_of(self.config.url)})"

    async def cleanup_expired(self) -> int:
        """Drop entries that are over by `now` and that the server, which owns expiry, has not dropped yet."""
        self._bound()
        return await self.driver.drop_expired(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        """Return the statistics; entries and bytes are those of the server."""
        self._bound()
        entries, size = await self.driver.size()
        return StorageStats(
            entries=entries,
            bytes=size,
            operations=self.client.operations,
            errors=dict(self.client.errors),
            clock_rewinds=self.client.clock_rewinds,
        )


class RedisDriver:
    """Operations as pipelined scripts; the scripts are loaded when the server does not know them.

    Attributes
    ----------
    clock_rewinds : int
        States that the scripts brought back to the time of a request.
    """

    def __init__(self, config: RedisStorageConfig, connection: redis.asyncio.Redis | None = None) -> None:
        self.config = config
        self.clock_rewinds = 0
        self._shared = connection is not None
        self._upkeep = asyncio.Semaphore(SPARE)
        self._redis = _connect(config) if connection is None else connection

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch as one pipeline; the driver's errors become ours."""
        try:
            return await self._execute(batch)
        except redis.exceptions.TimeoutError as error:
            raise TimeoutError from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error

    async def _execute(self, batch: Sequence[Operation]) -> list[object]:
        answers: list[object] = [None] * len(batch)
        calls: dict[int, tuple[Any, ...]] = {}
        for place, operation in enumerate(batch):
            try:
                calls[place] = self._call(operation)
            except UnicodeError as error:
                answers[place] = self._failed(operation, error)
        try:
            raw = await self._run(calls)
        except (UnicodeError, redis.exceptions.DataError):  # nothing was sent: the whole pipeline is encoded before
            encode = self._redis.get_encoder().encode  # type: ignore[no-untyped-call]
            for place in list(calls):
                try:
                    for argument in _command(calls[place]):
                        encode(argument)
                except (UnicodeError, redis.exceptions.DataError) as error:
                    del calls[place]
                    answers[place] = self._failed(batch[place], error)
            raw = await self._run(calls)
        for place, answer in raw.items():
            answers[place] = self._answer(batch[place], answer)
        codes = {error_code(answer) for answer in raw.values() if isinstance(answer, redis.exceptions.RedisError)}
        if codes & DOWN and all(isinstance(answer, StorageUnavailableError) for answer in answers):
            raise next(answer for answer in answers if isinstance(answer, StorageUnavailableError))
        if "READONLY" in codes:  # after a failover the address may lead to another server
            await self._redis.connection_pool.disconnect(inuse_connections=False)
        return answers

    async def _run(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Return the server's answers to calls by their places, errors included.

        Scripts that the server does not know, because it is new or another client flushes them, are loaded and run again.
        What the server did not know was not carried out, so only that is sent again.
        """
        raw = dict(zip(calls, await self._pipeline([_command(call) for call in calls.values()]), strict=True))
        for in_full in (False, True):  # in full no script has to be known
            unknown = [place for place, answer in raw.items() if isinstance(answer, redis.exceptions.NoScriptError)]
            if not unknown:
                break
            scripts = [] if in_full else list({calls[place][0] for place in unknown})
            commands = [("SCRIPT LOAD", script) for script in scripts]
            commands += [_command(calls[place], in_full) for place in unknown]
            raw.update(zip(unknown, (await self._pipeline(commands))[len(scripts) :], strict=True))
        return raw

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(await pipe.execute(raise_on_error=False))

    def _failed(self, operation: Operation, error: Exception) -> StorageError:
        return operation_error(error, identifier_of(operation), self.config.url)

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        """Turn the errors of redis-py into ours."""
        try:
            yield
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error

    def commands(self, batch: Sequence[Operation]) -> list[tuple[Any, ...]]:
        """Return the commands of a batch for a server that knows the scripts; nothing is sent."""
        return [_command(self._call(operation)) for operation in batch]

    def _call(self, operation: Operation) -> tuple[Any, ...]:
        """Return (script or None, arguments) of an operation."""
        config = self.config
        match operation:
            case Acquire(identifier, limits, cost, now, consume):
                arguments: list[Any] = [self._time(now), repr(cost), int(consume), config.min_ttl, EXPIRY_MARGIN]
                script = _script("acquire", tuple(sorted({limit.algorithm for limit in limits})))
                return (script, self._key(identifier), *arguments, *self._describe(limits))
            case Observe(identifier, limits, score, now):
                script = _script("observe", tuple(sorted({limit.algorithm for limit in limits})))
                arguments = [self._time(now), repr(score), config.min_ttl, EXPIRY_MARGIN]
                return (script, self._key(identifier), *arguments, *self._describe(limits))
            case Apply(charge):
                limit = charge.limit
                p = algorithms.bind(limit).params
                arguments = [_prefix(limit.name), limit.algorithm, config.min_ttl, EXPIRY_MARGIN]
                arguments += [charge.node, charge.epoch, repr(charge.before)]
                arguments += ["" if charge.sent is None or config.clock == "client" else repr(charge.sent)]
                arguments += [len(p), *map(repr, p)]
                for time, cost, requests in charge.entries:
                    arguments += [repr(time), repr(cost), requests]
                return (_script("charge", (limit.algorithm,)), self._key(charge.identifier), *arguments)
            case Get(identifier) if config.clock == "server":
                return (_script("get", ()), self._key(identifier))
            case Get(identifier):
                return (None, "HGETALL", self._key(identifier))
            case Put(identifier, name, state, now, ttl):
                milliseconds = round(max(ttl + EXPIRY_MARGIN, config.min_ttl) * 1000)
                # By the server's clock the script knows when the state expires.
                values = _fields(state, _prefix(name), ttl if config.clock == "server" else now + ttl)
                return (_script("put", ()), self._key(identifier), _prefix(name), milliseconds, config.clock, *values)
            case Increment(identifier, amount, window, now):
                return (
                    _script("increment", ()),
                    self._counter(identifier),
                    amount,
                    repr(window),
                    self._time(now),
                    config.min_ttl,
                    repr(min(config.max_clock_skew, window)),
                )
            case Claim(_, holder, ttl):
                return (_script("claim", ()), self.config.key_prefix + operation.identifier, holder, round(ttl * 1000))
            case Reset(identifier):
                return (None, "DEL", self._key(identifier), self._counter(identifier))
        raise TypeError(f"unknown operation {type(operation).__name__}")

    def _answer(self, operation: Operation, raw: Any) -> object:
        if isinstance(raw, redis.exceptions.RedisError):
            return self._failed(operation, raw)
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
                return _read(raw, charge.limit.name, None)
            case Get(_, name, now):
                if self.config.clock == "server":
                    time, raw = raw
                    now = float(time)
                return _read(raw, name, now)
            case Increment():
                return int(raw)
            case Claim():
                holder, milliseconds = raw
                return _str(holder), milliseconds / 1000
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
            yield from (_prefix(limit.name), limit.algorithm, self._skew(limit), len(p), *map(repr, p))

    def _key(self, identifier: str) -> bytes:
        # What stands in braces decides the slot on a cluster, so an identifier and its counter lie together.
        return f"{self.config.key_prefix}{{{identifier}}}".encode("utf-8", "surrogatepass")

    def _counter(self, identifier: str) -> bytes:
        return self._key(identifier) + b":counter"

    async def drop_expired(self, now: float) -> int:
        """Delete keys all of whose limits had expired by `now`, and return their number. Keys of others stay."""
        dropped = 0
        async with self._upkeep, self._translate_errors():
            seconds, micros = await self._redis.time()
            server_time = seconds + micros / 1e6
            # A node whose clock is ahead must not delete what is live for the others.
            now = server_time if self.config.clock == "server" else min(now, server_time)
            async for key in self._keys():
                try:
                    fields = _text(await self._redis.hgetall(key))
                    ends = [float(value) for field, value in fields.items() if field.split(".")[-1] == "expires_at"]
                except (KeyRefusedError, ValueError):
                    continue  # damaged
                except redis.exceptions.ResponseError as error:
                    if error_code(error) == "WRONGTYPE":
                        continue
                    raise
                if ends and max(ends) <= now:
                    dropped += int(await self._redis.delete(key))
        return dropped

    async def size(self) -> tuple[int, int]:
        """Return the entries, and the bytes as the server counts them.

        The bytes are the mean over at most 100 keys, times the entries.
        """
        entries, sampled, size = 0, 0, 0
        async with self._upkeep, self._translate_errors():
            async for key in self._keys():
                entries += 1
                if sampled < 100:
                    size += await self._memory(key)
                    sampled += 1
        return entries, round(size / sampled * entries) if sampled else 0

    def _keys(self) -> AsyncIterator[bytes]:
        keys: AsyncIterator[bytes] = self._redis.scan_iter(match=_pattern(self.config.key_prefix), count=1000)
        return keys

    async def _memory(self, key: bytes) -> int:
        try:
            return int(await self._redis.memory_usage(key) or 0)
        except redis.exceptions.ResponseError as error:
            if "unknown command" in str(error):  # fakeredis, which has no memory of its own to speak of
                return 0
            raise

    async def close(self) -> None:
        """Close the client."""
        async with self._translate_errors():
            await self._redis.aclose()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        pool = self._redis.connection_pool
        # redis-py keeps them in private attributes only. One that is not connected has no writer.
        connections = [*pool._available_connections, *pool._in_use_connections]
        writers = [getattr(connection, "_writer", None) for connection in connections]
        sockets = [writer.get_extra_info("socket") for writer in writers if isinstance(writer, asyncio.StreamWriter)]
        abandon_descriptors(socket.fileno() for socket in sockets)
        if self._shared:  # the next driver has the same client
            pool.reset()  # type: ignore[no-untyped-call]


def _connect(config: RedisStorageConfig) -> redis.asyncio.Redis:
    # Retries belong to the client layer: one place decides which operations may be repeated.
    for name, path in split_url(config.url).options:
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{name} {shorten_repr(path)}: no such file, or this user may not read it")
    return redis.asyncio.Redis.from_url(
        config.url,
        max_connections=config.pool_size + SPARE,
        socket_connect_timeout=config.connection_timeout,
        socket_timeout=config.command_timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _command(call: tuple[Any, ...], in_full: bool = False) -> tuple[Any, ...]:
    script, *arguments = call
    if script is None:
        return tuple(arguments)
    return ("EVAL", script, 1, *arguments) if in_full else ("EVALSHA", _sha(script), 1, *arguments)


@lru_cache(maxsize=256)
def _script(name: str, names: tuple[str, ...]) -> str:
    """Make a script with the rules of the algorithms it needs in front."""
    parts = ["local forget, time_of\n", _lua("forget"), _lua("time_of")]
    if names:
        parts.append("local rules, fields = {}, {}\n")
        for each in names:
            algorithm = algorithms.get(each)
            fields = ", ".join(f"'{field.removesuffix('[]')}'" for field in algorithm.rule.FIELDS)
            parts.append(f"fields['{each}'] = {{{fields}}}\n")
            parts.append(f"rules['{each}'] = (function()\n{algorithm.lua}\nend)()\n")
        parts.append(_lua("record"))
    return "".join([*parts, _lua(name)])


def _lua(stem: str) -> str:
    return (resources.files("ratesim.storage") / "lua" / f"{stem}.lua").read_text("utf-8")


@lru_cache(maxsize=256)
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _read(raw: Any, name: str, now: float | None) -> RateLimitState | SerializationError | None:
    try:
        return _state(_text(raw), name, now)
    except SerializationError as error:
        return error


def _text(raw: Any) -> dict[str, str]:
    pairs: Mapping[Any, Any] = raw if isinstance(raw, Mapping) else dict(zip(raw[::2], raw[1::2], strict=True))
    try:
        return {_str(key): _str(value) for key, value in pairs.items()}
    except UnicodeDecodeError as error:
        raise SerializationError(f"a hash that is not text: {error}") from error


def _str(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _fields(state: RateLimitState, prefix: str, expires_at: float) -> list[Any]:
    values: dict[str, Any] = {
        "algorithm": state.algorithm_data.algorithm,
        "created_at": repr(state.created_at),
        "last_accessed": repr(state.last_accessed),
        "expires_at": repr(expires_at),
        "request_count": state.request_count,
    }
    for field, value in state.algorithm_data.fields.items():
        values[field] = " ".join(map(repr, value)) if isinstance(value, list) else repr(value)
    if state.metadata:
        values["metadata"] = msgspec.json.encode(state.metadata).decode()
    for node, mark in state.watermarks.items():
        values[f"w:{node}"] = f"{mark.epoch} {mark.consumed!r}"
    return [item for field, value in values.items() for item in (prefix + field, value)]


def _state(fields: dict[str, str], name: str, now: float | None) -> RateLimitState | None:
    prefix = _prefix(name)
    if prefix:
        own = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    else:
        own = {key: value for key, value in fields.items() if "." not in key}
    if not own:
        return None
    try:
        if now is not None and float(own["expires_at"]) <= now:
            return None
        algorithm = algorithms.get(own["algorithm"])
        named: dict[str, float | list[float]] = {}
        for field in algorithm.rule.FIELDS:
            text = own[field.removesuffix("[]")]
            named[field.removesuffix("[]")] = [float(part) for part in text.split()] if field.endswith("[]") else float(text)
        if not all(map(math.isfinite, algorithm.flat(named))):
            raise ValueError("a field is not a finite number")
        marks = {}
        for key, value in own.items():
            if key.startswith("w:"):
                epoch, consumed = value.split()
                marks[key.removeprefix("w:")] = Watermark(int(float(epoch)), float(consumed))
        return RateLimitState(
            AlgorithmData(algorithm.name, named),
            micro(float(own["created_at"])),
            micro(float(own["last_accessed"])),
            int(own.get("request_count", 0)),
            msgspec.json.decode(own.get("metadata", "{}"), type=dict[str, str]),
            marks,
        )
    except (KeyError, ValueError, OverflowError, msgspec.DecodeError, InvalidLimitError) as error:
        raise SerializationError(f"a state that cannot be read: {error}; reset it") from error


def _pattern(prefix: str) -> str:
    escaped = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in prefix)
    return f"{escaped}{{*"  # a state's or a counter's: a claim has no braces
