"""Work that decides nothing: removing keys that are over, and counting keys and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, TypeVar

import redis.exceptions

from ratesim.errors import SerializationError
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.connections import SPARE, Connections
from ratesim.storage.redis.error_translation import MALFORMED, connection_error, strange_answer
from ratesim.storage.redis.scripts import lua_source
from ratesim.storage.redis.state_fields import expiries_of

__all__ = ["Upkeep"]

T = TypeVar("T")

SAMPLE = 100  # keys whose size is asked for
SAMPLE_OF_STEP = 25  # of them at each step of a walk, whose steps go from server to server


class Upkeep:
    """Walks over the keys under a prefix, on all servers that have some."""

    def __init__(self, config: RedisStorageConfig, connections: Connections) -> None:
        self._config = config
        self._connections = connections
        self._pattern = _pattern(config.key_prefix)
        self._turn = asyncio.Semaphore(SPARE)

    async def drop_expired(self, now: float) -> int:
        """Delete keys all of whose limits had expired by `now`, and return their number. Keys of others stay."""
        dropped, script = 0, lua_source("drop")
        async with self._turn, self._translate_errors():
            async for server_time, keys in self._steps():
                # A node whose clock is ahead must not delete what is live for the others.
                by = server_time if self._config.clock == "server" else min(now, server_time)
                hashes = await self._send([("HGETALL", key) for key in keys], "WRONGTYPE")
                over = [(key, raw) for key, raw in zip(keys, hashes, strict=True) if _is_over(raw, by)]
                dropped += sum(map(int, await self._send([("EVAL", script, 1, key, _joined(raw)) for key, raw in over])))
        return dropped

    async def size(self) -> tuple[int, int]:
        """Return the entries, and the bytes as the servers count them.

        The bytes are the mean over at most 100 keys, times the entries.
        """
        entries, sampled, size = 0, 0, 0
        async with self._turn, self._translate_errors():
            async for _, keys in self._steps():
                entries += len(keys)
                sample = keys[: min(SAMPLE_OF_STEP, SAMPLE - sampled)]
                # All fields count: those of a log differ in size. fakeredis has no memory of its own to speak of.
                usage = [("MEMORY", "USAGE", key, "SAMPLES", 0) for key in sample]
                sizes = await self._send(usage, "unknown command")
                sampled += len(sample)
                size += sum(int(answer or 0) for answer in sizes)
        return entries, round(size / sampled * entries) if sampled else 0

    async def _send(self, commands: Sequence[tuple[Any, ...]], accepted: str = "\0") -> list[Any]:
        """Send commands, and return None for those that are refused in accepted words. Raises the error of any other."""
        answers = await self._timed(self._connections.send(commands)) if commands else []
        for place, answer in enumerate(answers):
            if isinstance(answer, redis.exceptions.ResponseError) and accepted in str(answer):
                answers[place] = None
            elif isinstance(answer, Exception):
                raise answer
        return answers

    async def _steps(self) -> AsyncIterator[tuple[float, list[bytes]]]:
        walk = self._connections.walk(self._pattern)
        while (step := await self._timed(anext(walk, None))) is not None:
            yield step

    async def _timed(self, step: Awaitable[T]) -> T:
        """Await one answer of the servers."""
        async with asyncio.timeout(self._config.command_timeout):
            return await step

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        """Turn the errors of redis-py into ours."""
        try:
            yield
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self._config.url) from error
        except MALFORMED as error:
            raise connection_error(strange_answer(error), self._config.url) from error


def _is_over(raw: Any, by: float) -> bool:
    """Return whether all limits of a hash had expired; one that is damaged or of another type never has."""
    try:
        ends = expiries_of(raw or {})
    except (SerializationError, ValueError):
        return False
    return bool(ends) and max(ends) <= by


def _joined(raw: Any) -> bytes:
    """Return the answer to HGETALL in one piece, as lua/drop.lua does."""
    return b"".join(chain(*raw.items()) if isinstance(raw, Mapping) else raw)


def _pattern(prefix: str) -> str:
    escaped = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in prefix)
    return f"{escaped}{{*"  # a state's or a counter's: a claim has no braces
