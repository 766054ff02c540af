"""The benchmark of eviction: hit ratios beside libCacheSim, over-admission, nanoseconds and bytes."""

from __future__ import annotations

import importlib
import importlib.util
import time
import tracemalloc
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ratesim.limit import Limit
from ratesim.simulation.evicting import Keys, hit_ratio, key_traces, live_keys, over_admission, workloads
from ratesim.storage.eviction import POLICIES, ChargedPolicy, EvictionPolicy

__all__ = ["section"]

PEERS = ("LRU", "ARC", "S3FIFO", "Sieve")  # AdaptiveLRU must be within 0.01 of the best of them
ROOM = 100_000


def section() -> list[str]:
    """The lines of the report."""
    return [*_hit_ratios(), "", *_over_admissions(), "", *_costs()]


def _hit_ratios() -> list[str]:
    ours = ("LRU", "LFU", "AdaptiveLRU")
    peer = None if importlib.util.find_spec("libcachesim") is None else importlib.import_module("libcachesim")
    lines = ["eviction, hit ratio with 1 % and 10 % of the keys"]
    if peer is None:
        lines.append("  beside nobody: pip install libcachesim (GPL) sets it beside libCacheSim")
    theirs = () if peer is None else (*PEERS, "LFU")
    lines.append(
        "  ".join([" " * 18, *(f"{name:>11}" for name in ours), *(f"{name + '*':>7}" for name in theirs), "   lead"])
    )
    for name, keys in key_traces(np.random.default_rng(1)).items():
        for share in (0.01, 0.1):
            room = max(1, int(len(np.unique(keys)) * share))
            mine = {policy: hit_ratio(policy, keys, room) for policy in ours}
            other = {policy: _peer_hit_ratio(peer, policy, keys, room) for policy in theirs}
            numbers = [f"{value:>11.4f}" for value in mine.values()] + [f"{value:>7.4f}" for value in other.values()]
            if other:
                numbers.append(f"{mine['AdaptiveLRU'] - max(other[policy] for policy in PEERS):+7.4f}")
            lines.append("  ".join([f"  {name:<10} {share:>4.0%} ", *numbers]))
    return [*lines, "  * libcachesim; lead: of AdaptiveLRU over the best of its LRU, ARC, S3FIFO and Sieve"]


def _peer_hit_ratio(peer: Any, policy: str, keys: Keys, room: int) -> float:
    cache, request = getattr(peer, policy)(room, hashpower=16), peer.Request()
    request.obj_size = 1
    hits = 0
    for key in keys.tolist():
        request.obj_id = key
        hits += cache.get(request)
    return hits / len(keys)


def _over_admissions() -> list[str]:
    lines = ["eviction, over-admission of 10/minute with room for 5, 20 and 50 % of the live keys"]
    lines.append("  ".join([" " * 35, *(f"{name:>11}" for name in POLICIES)]))
    for name, trace in workloads(np.random.default_rng(1)).items():
        for algorithm in ("token_bucket", "fixed_window", "sliding_window"):
            limit = Limit(10, 60.0, algorithm)
            live = live_keys(limit, trace)
            for share in (0.05, 0.2, 0.5):
                over = [over_admission(policy, limit, trace, int(live * share)).over_admission for policy in POLICIES]
                least = min(over)
                numbers = [f"{value:>10.4f}{'<' if value == least else ' '}" for value in over]
                lines.append("  ".join([f"  {name:<10} {algorithm:<16} {share:>4.0%} ", *numbers]))
    return [*lines, "  < the lowest of its row"]


def _costs() -> list[str]:
    lines = [
        f"eviction, {ROOM:,} entries: ns per touch, per insertion that evicts, per request where nine of ten hit (some",
        "  policies put the work of a touch off); bytes per key without the key itself, with as many ghosts as there can be",
    ]
    for name, make in POLICIES.items():
        keys = list(range(1000, 1000 + 3 * ROOM))
        tracemalloc.start()
        policy = make(ROOM)
        _fill(policy, keys[:ROOM])
        _turn_over(policy, keys[ROOM:])
        size = tracemalloc.get_traced_memory()[0] / ROOM
        tracemalloc.stop()
        held = keys[-ROOM:]
        new = list(range(10**6, 10**6 + ROOM // 4))
        fewer = [-key for key in new]
        touch = _nanoseconds(ROOM, lambda policy=policy, held=held: _touch(policy, held))  # type: ignore[misc]
        mixed = _nanoseconds(10 * len(fewer), lambda policy=policy, fewer=fewer: _mix(policy, fewer))  # type: ignore[misc]
        evict = _nanoseconds(len(new), lambda policy=policy, new=new: _turn_over(policy, new))  # type: ignore[misc]
        lines.append(f"  {name:<12} {touch:>8.0f} {evict:>8.0f} {mixed:>8.0f} {size:>8.0f}")
    return lines


def _fill(policy: EvictionPolicy, keys: list[int]) -> None:
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    for key in keys:
        policy.insert(key)
        policy.touch(key)
        if charged is not None:
            charged(key, inf, 1.0)


def _turn_over(policy: EvictionPolicy, keys: list[int]) -> None:
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    for key in keys:
        policy.remove(policy.victim(0.0))
        policy.insert(key)
        if charged is not None:
            charged(key, inf, 1.0)


def _touch(policy: EvictionPolicy, keys: list[int]) -> None:
    touch = policy.touch
    for key in keys:
        touch(key)


def _mix(policy: EvictionPolicy, new: list[int]) -> None:
    """Insertions that evict, and nine touches of the newest entry after each."""
    touch = policy.touch
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    for key in new:
        policy.remove(policy.victim(0.0))
        policy.insert(key)
        if charged is not None:
            charged(key, inf, 1.0)
        for _ in range(9):
            touch(key)


def _nanoseconds(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / count * 1e9
