"""Eviction policies: which entry a full memory storage forgets. One file each; every operation is O(1)."""

from __future__ import annotations

from ratesim.storage.eviction.adaptive_lru import AdaptiveLRU
from ratesim.storage.eviction.lfu import LFU
from ratesim.storage.eviction.limit_aware import LimitAware
from ratesim.storage.eviction.lru import LRU
from ratesim.storage.eviction.policy import ChargedPolicy, EvictionPolicy
from ratesim.storage.eviction.random_choice import Random
from ratesim.storage.eviction.ttl import TTL

__all__ = [
    "LFU",
    "LRU",
    "POLICIES",
    "TTL",
    "AdaptiveLRU",
    "ChargedPolicy",
    "EvictionPolicy",
    "LimitAware",
    "Random",
]

POLICIES: dict[str, type[EvictionPolicy]] = {
    "LRU": LRU,
    "LFU": LFU,
    "TTL": TTL,
    "Random": Random,
    "AdaptiveLRU": AdaptiveLRU,
    "LimitAware": LimitAware,
}
