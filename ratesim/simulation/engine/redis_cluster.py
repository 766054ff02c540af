"""A Redis cluster: servers that own a range of slots each, and a client that routes operations to their owners.

A key's slot is CRC16 of its hash tag modulo 16384 (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
All keys of an identifier lie in one slot, so several limits of it are still decided atomically. A batch is grouped by owner,
and the groups travel side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from redis.crc import key_slot

from ratesim.errors import StorageError
from ratesim.runtime import Runtime
from ratesim.simulation.engine.remote_storage import subject
from ratesim.storage.redis.keys import key_of
from ratesim.storage.remote.operations import Driver, Operation

__all__ = ["SLOTS", "ShardedDriver", "shard_of"]

SLOTS = 16384


@lru_cache(maxsize=1 << 20)
def shard_of(identifier: str, shards: int, prefix: str = "ratesim:") -> int:
    """Return which of `shards` primaries, from 0, owns an identifier under the key prefix of `RedisStorage`.

    Ranges of slots are as even as can be.
    """
    slot: int = key_slot(key_of(prefix, identifier))
    return slot * shards // SLOTS


class ShardedDriver:
    """One node's drivers to the primaries of a cluster."""

    def __init__(self, drivers: Sequence[Driver], runtime: Runtime, prefix: str = "ratesim:") -> None:
        self._drivers = drivers
        self._runtime = runtime
        self._prefix = prefix

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers in order. Where one of several groups fails, its operations have the error for an answer."""
        shards = len(self._drivers)
        owners = [shard_of(subject(operation)[0], shards, self._prefix) for operation in batch]
        if len(set(owners)) == 1:
            return await self._drivers[owners[0]].execute(batch)
        groups: dict[int, list[int]] = {}
        for place, owner in enumerate(owners):
            groups.setdefault(owner, []).append(place)
        tasks = [
            self._runtime.spawn(self._group(owner, [batch[place] for place in places])) for owner, places in groups.items()
        ]
        answers: list[object] = [None] * len(batch)
        for task, places in zip(tasks, groups.values(), strict=True):
            for place, answer in zip(places, await task, strict=True):
                answers[place] = answer
        return answers

    async def _group(self, owner: int, operations: Sequence[Operation]) -> list[object]:
        try:
            return await self._drivers[owner].execute(operations)
        except StorageError as error:
            return [error] * len(operations)

    async def close(self) -> None:
        """Close all drivers."""
        for driver in self._drivers:
            await driver.close()
