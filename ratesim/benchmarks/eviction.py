"""The benchmark of eviction: hit ratios beside libCacheSim, over-admission, nanoseconds and bytes."""

from __future__ import annotations

import numpy as np

from ratesim.limit import Limit
from ratesim.simulation.analysis.eviction_accuracy import (
    PEERS,
    hit_ratio,
    key_traces,
    libcachesim_hit_ratios,
    live_keys,
    over_admission,
    workloads,
)
from ratesim.simulation.analysis.eviction_cost import policy_costs
from ratesim.storage.eviction import POLICIES

__all__ = ["section"]

ROOM = 20_000


def section() -> list[str]:
    """Return the lines of the report."""
    return [*_hit_ratios(), "", *_over_admissions(), "", *_costs()]


def _hit_ratios() -> list[str]:
    ours = ("LRU", "LFU", "AdaptiveLRU")
    asked = (*PEERS, "LFU")
    lines = [
        "eviction, hit ratio with 1 % and 10 % of the keys, beside libcachesim* where it is installed (GPL, so no extra)"
    ]
    head = [*(f"{name:>11}" for name in ours), *(f"{name + '*':>7}" for name in asked), "   lead"]
    lines.append("  ".join([" " * 18, *head]))
    for name, keys in key_traces(np.random.default_rng(1)).items():
        for share in (0.01, 0.1):
            room = max(1, int(len(np.unique(keys)) * share))
            mine = {policy: hit_ratio(policy, keys, room) for policy in ours}
            theirs = libcachesim_hit_ratios(keys, room, asked)
            cells = [f"{value:>11.4f}" for value in mine.values()]
            cells += [f"{theirs[competitor]:>7.4f}" if competitor in theirs else f"{'-':>7}" for competitor in asked]
            if theirs:
                cells.append(
                    f"{mine['AdaptiveLRU'] - max(theirs[competitor] for competitor in PEERS if competitor in theirs):+7.4f}"
                )
            lines.append("  ".join([f"  {name:<10} {share:>4.0%} ", *cells]))
    return [*lines, "  lead: of AdaptiveLRU over the best of libcachesim's"]


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
    found = policy_costs(tuple(POLICIES), Limit(100, 60.0, "token_bucket"), ROOM, rounds=3)
    lines = [
        f"eviction, stores of {ROOM:,} token buckets: ns of the policy's own for a touch, and for an insertion that evicts",
        "  (some put the work of a touch off); ns for a whole decision where some evict; bytes per key, names included",
    ]
    for name, it in found.items():
        times = "".join(f" {seconds * 1e9:>8,.0f}" for seconds in (it.touch, it.insertion, it.decision))
        lines.append(f"  {name:<12}{times} {it.bytes:>8,.0f}   {it.bytes / found['LRU'].bytes:.2f} of LRU's")
    return lines
