"""The cost of an eviction policy itself: time, and bytes for each key."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from functools import partial
from math import inf
from time import thread_time
from timeit import timeit
from typing import Any, NamedTuple

import numpy as np

from ratesim.limit import Limit
from ratesim.storage import MemoryStorage, MemoryStorageConfig
from ratesim.storage.eviction import POLICIES, ChargedPolicy
from traffic import Zipf

__all__ = ["PolicyCost", "policy_costs"]

TURNS = 4  # times that a store is filled before its memory is read: a policy's ghosts are complete by then


class PolicyCost(NamedTuple):
    """The cost of a policy on this machine, in a full store.

    Attributes
    ----------
    touch, insertion : float
        Seconds of the policy's own, for a use of an entry, and for an insertion with the eviction before it.
    decision : float
        Seconds of a decision of a MemoryStorage, where some requests evict and others do not.
    bytes : float
        Bytes of the whole store by tracemalloc, over its entries, with their keys (13 letters) and the ghosts of others.
    """

    touch: float
    insertion: float
    decision: float
    bytes: float


def policy_costs(policies: Sequence[str], limit: Limit, entries: int, rounds: int = 5) -> dict[str, PolicyCost]:
    """Measure policies and stores of about `entries` entries.

    Each time is the best of `rounds`. The policies take turns in a round, so that a disturbance of the machine disturbs all.
    """
    times = dict.fromkeys(policies, (inf, inf, inf))
    for _ in range(rounds):
        for name, best in times.items():
            touch, insertion, decision = _times(name, limit, entries)
            times[name] = min(best[0], touch), min(best[1], insertion), min(best[2], decision)
    return {name: PolicyCost(*best, _bytes(name, limit, entries)) for name, best in times.items()}


def _times(policy_name: str, limit: Limit, entries: int) -> tuple[float, float, float]:
    policy = POLICIES[policy_name](entries)
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    held: set[Any] = set()
    storage = MemoryStorage(MemoryStorageConfig(max_entries=entries, eviction_policy=policy_name))
    keys = [f"user:{key:08d}" for key in Zipf(10 * entries, 0.8).draw(4 * entries, np.random.default_rng(0)).tolist()]
    asked = [(key, _soon(limit, i / len(keys))) for i, key in enumerate(keys)]

    def touch_all() -> None:
        touch = policy.touch
        for key in held:
            touch(key)

    def insert_all(keys: range) -> None:
        for key in keys:
            if len(held) >= entries:
                victim = policy.victim(0.0)
                policy.remove(victim)
                held.remove(victim)
            policy.insert(key)
            held.add(key)
            if charged is not None:
                charged(key, inf, 1.0)

    def decide_all(asked: Sequence[tuple[str, float]]) -> None:
        decide = storage.acquire_nowait
        for key, now in asked:
            decide(key, limit, 1.0, now)

    insert_all(range(entries))
    decide_all(asked[: 2 * entries])
    timed = partial(timeit, timer=thread_time, number=1)  # of processor time; nothing is collected meanwhile
    touch = timed(touch_all) / entries
    insertion = timed(partial(insert_all, range(entries, 2 * entries))) / entries
    return touch, insertion, timed(partial(decide_all, asked[2 * entries :])) / (2 * entries)


def _bytes(policy_name: str, limit: Limit, entries: int) -> float:
    """Measure bytes per entry, the mean of three sizes a cube root of 2 apart, because the tables of a dict double."""
    total = 0.0
    for size in (round(entries * 2 ** (step / 3)) for step in range(3)):
        storage = MemoryStorage(MemoryStorageConfig(max_entries=size, eviction_policy=policy_name))
        storage.acquire_nowait("first", limit, 1.0, _soon(limit, 0.0))  # the fixed part of every store
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for i in range(TURNS * size):
                storage.acquire_nowait(f"user:{i:08d}", limit, 1.0, _soon(limit, i / (TURNS * size)))
            total += (tracemalloc.get_traced_memory()[0] - before) / size
        finally:
            tracemalloc.stop()
    return total / 3


def _soon(limit: Limit, part: float) -> float:
    """Return times within so little of a period that nothing is as good as new again; every time is a float of its own."""
    return limit.period * (1000.0 + part / 1000.0)
