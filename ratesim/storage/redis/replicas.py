"""`ReplicaReads`: what a replica may answer goes to one that sentinels name, all else to the primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import redis.exceptions

from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.connections import Command
from ratesim.storage.redis.direct import DirectConnections

__all__ = ["ReplicaReads"]


class ReplicaReads:
    """A primary and its replicas. What a replica does not answer, the primary answers.

    Parameters
    ----------
    primary, replicas
        Connections to the one and to the others.
    config
        Options. A replica may take half of `command_timeout`; after `breaker_failures` in a row the replicas are left alone
        for `breaker_reset`.
    """

    one_server = True

    def __init__(self, primary: DirectConnections, replicas: DirectConnections, config: RedisStorageConfig) -> None:
        self.primary = primary
        self._replicas = replicas
        self._config = config
        self._failures = 0
        self._open_until = 0.0

    async def send(self, commands: Sequence[Command], reads: Collection[int] = ()) -> list[Any]:
        """Send the reads to a replica, and then the others with those that failed there to the primary."""
        if not reads:
            return await self.primary.send(commands)
        places = sorted(reads)
        answers = dict(zip(places, await self._ask_replica([commands[place] for place in places]), strict=True))
        left = [place for place in range(len(commands)) if _has_failed(answers.get(place, _NONE))]
        if left:
            answers |= zip(left, await self.primary.send([commands[place] for place in left]), strict=True)
        return [answers[place] for place in range(len(commands))]

    async def _ask_replica(self, commands: Sequence[Command]) -> list[Any]:
        nothing = [_NONE] * len(commands)
        clock = asyncio.get_running_loop().time
        if self._failures >= self._config.breaker_failures:
            if clock() < self._open_until:
                return nothing
            self._open_until = clock() + self._config.breaker_reset  # one batch probes
        try:
            async with asyncio.timeout(self._config.command_timeout / 2):
                answers = await self._replicas.send(commands)
        except (redis.exceptions.RedisError, OSError):  # the primary is asked instead
            self._failures += 1
            self._open_until = clock() + self._config.breaker_reset
            return nothing
        self._failures = 0
        return answers

    def walk(self, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
        """Yield the keys of the primary."""
        return self.primary.walk(pattern)

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        await self.primary.drop_idle()
        await self._replicas.drop_idle()

    async def close(self) -> None:
        """Close all connections."""
        await self.primary.close()
        await self._replicas.close()

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        self.primary.abandon()
        self._replicas.abandon()


_NONE = redis.exceptions.ResponseError("no replica has answered")


def _has_failed(answer: Any) -> bool:
    """Return whether the primary has to answer. A script that a replica does not know is sent to it in full first."""
    return isinstance(answer, Exception) and not isinstance(answer, redis.exceptions.NoScriptError)
