"""The slots of a Redis cluster: which primary owns an identifier.

A key's slot is CRC16 of its hash tag modulo 16384 (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from __future__ import annotations

from functools import lru_cache

from redis.crc import key_slot

from ratesim.storage.redis.keys import key_of

__all__ = ["SLOTS", "shard_of", "slot_of"]

SLOTS = 16384


@lru_cache(maxsize=1 << 20)
def slot_of(identifier: str, prefix: str = "ratesim:") -> int:
    """Return the slot of an identifier under the key prefix of `RedisStorage`."""
    slot: int = key_slot(key_of(prefix, identifier))
    return slot


def shard_of(identifier: str, shards: int, prefix: str = "ratesim:") -> int:
    """Return which of `shards` primaries, from 0, owns an identifier under the key prefix of `RedisStorage`.

    Ranges of slots are as even as can be.
    """
    return slot_of(identifier, prefix) * shards // SLOTS
