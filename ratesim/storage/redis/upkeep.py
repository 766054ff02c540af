"""Work that decides nothing: removing keys that are over, and counting keys and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
import redis.exceptions

from ratesim.errors import KeyRefusedError
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.error_translation import connection_error, error_code
from ratesim.storage.redis.state_fields import to_text

__all__ = ["SPARE", "Upkeep"]

SPARE = 2  # connections for it


class Upkeep:
    """Walks over the keys under a prefix."""

    def __init__(self, config: RedisStorageConfig, client: redis.asyncio.Redis) -> None:
        self._config = config
        self._redis = client
        self._turn = asyncio.Semaphore(SPARE)

    async def drop_expired(self, now: float) -> int:
        """Delete keys all of whose limits had expired by `now`, and return their number. Keys of others stay."""
        dropped = 0
        async with self._turn, self._translate_errors():
            seconds, micros = await self._redis.time()
            server_time = seconds + micros / 1e6
            # A node whose clock is ahead must not delete what is live for the others.
            now = server_time if self._config.clock == "server" else min(now, server_time)
            async for key in self._keys():
                try:
                    fields = to_text(await self._redis.hgetall(key))
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
        async with self._turn, self._translate_errors():
            async for key in self._keys():
                entries += 1
                if sampled < 100:
                    size += await self._memory(key)
                    sampled += 1
        return entries, round(size / sampled * entries) if sampled else 0

    def _keys(self) -> AsyncIterator[bytes]:
        keys: AsyncIterator[bytes] = self._redis.scan_iter(match=_pattern(self._config.key_prefix), count=1000)
        return keys

    async def _memory(self, key: bytes) -> int:
        try:
            return int(await self._redis.memory_usage(key) or 0)
        except redis.exceptions.ResponseError as error:
            if "unknown command" in str(error):  # fakeredis, which has no memory of its own to speak of
                return 0
            raise

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        """Turn the errors of redis-py into ours."""
        try:
            yield
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self._config.url) from error


def _pattern(prefix: str) -> str:
    escaped = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in prefix)
    return f"{escaped}{{*"  # a state's or a counter's: a claim has no braces
