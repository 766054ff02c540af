"""The eviction policies compared over many cases, and which to choose, worked out from that: no result is assumed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ratesim.formatting import format_percent
from ratesim.limit import Limit
from ratesim.pages.log_traffic import LogFields, LogTraffic
from ratesim.simulation.analysis.eviction_accuracy import (
    hit_ratio,
    key_traces,
    libcachesim_hit_ratios,
    live_keys,
    over_admission,
    workloads,
)
from ratesim.simulation.analysis.eviction_cost import PolicyCost, policy_costs
from ratesim.storage.eviction import POLICIES
from traffic import Trace

__all__ = [
    "CACHES",
    "CASE",
    "MIDDLE",
    "SHARES",
    "Comparison",
    "Standing",
    "best",
    "compared",
    "points",
    "standings",
    "verdict",
]

CASE = ["algorithm", "workload", "share"]  # columns that say which case a row belongs to; the policies compete in each
SHARES = (0.05, 0.1, 0.2, 0.5)  # of the live keys, that there is room for
MIDDLE = 0.2  # the one that is looked into
PERIODS = 4  # that the traffic lasts
CACHES = ("LRU", "LFU", "AdaptiveLRU")  # set beside libCacheSim
SIZES = (0.01, 0.1)  # of the keys, that a cache holds
LOGGED = "your log"
ROUNDED = 10.0  # bytes: so that an odd one here or there does not change the room that a policy gets


@dataclass(frozen=True)
class Comparison:
    """The results of all policies.

    Attributes
    ----------
    rows
        One row for each algorithm, workload, bound ("entries" or "bytes"), share of the live keys and policy. `room` is
        in entries.
    costs
        The measured running costs, by policy.
    size
        Measured bytes per key, rounded, by policy.
    hits
        One row for each trace, size and cache. The caches of libCacheSim have a star.
    logged
        What is replayed of the log; empty without one.
    """

    given: dict[str, Any]
    limits: tuple[Limit, ...]
    seed: int
    requests: int
    keys: int
    entries: int
    rows: pd.DataFrame
    costs: dict[str, PolicyCost]
    size: dict[str, float]
    hits: pd.DataFrame
    logged: str = ""

    def bounded(self, by: str) -> pd.DataFrame:
        """Return the rows in which all policies have equally many "entries", or "bytes"."""
        return self.rows[self.rows["bound"] == by]

    @property
    def leanest(self) -> str:
        """The policy whose keys take the fewest bytes."""
        return min(self.size, key=lambda policy: self.size[policy])


def compared(
    limit: str = "10/minute",
    algorithms: str = "token_bucket",
    seed: int = 1,
    requests: int = 12_000,
    keys: int = 1_200,
    entries: int = 4_096,
    **log_fields: str,
) -> Comparison:
    """All that the notebook shows.

    algorithms: one or more names, with commas between. requests, keys: of each workload; the caches get four times as many.
    entries: of the stores whose time and memory are measured. log_fields: of `LogFields`; the log is one more workload, with
    at most so many requests.
    """
    given = {name: value for name, value in locals().items() if name != "log_fields"} | log_fields
    log = LogFields(**log_fields).traffic()
    logged = {LOGGED: log.spread.head(requests)} if log else {}
    limits = tuple(Limit.parse(limit, algorithm=name.strip()) for name in algorithms.split(","))
    taken = policy_costs(tuple(POLICIES), limits[0], entries)
    size = {policy: ROUNDED * round(it.bytes / ROUNDED) for policy, it in taken.items()}
    rows = []
    for each in limits:
        traces = workloads(np.random.default_rng([seed, 0]), requests, keys, PERIODS * each.period)
        for workload, trace in {**traces, **logged}.items():
            rows += [{"algorithm": each.algorithm, "workload": workload, **row} for row in _tried(each, trace, size)]
    return Comparison(
        given=given,
        limits=limits,
        seed=seed,
        requests=requests,
        keys=keys,
        entries=entries,
        rows=pd.DataFrame(rows),
        costs=taken,
        size=size,
        hits=_hits(np.random.default_rng([seed, 1]), 4 * requests, 4 * keys, log),
        logged=log.describe(limits[0], requests) if log else "",
    )


def _tried(limit: Limit, trace: Trace, size: Mapping[str, float]) -> list[dict[str, object]]:
    """Replay a trace under every policy and bound.

    The bound is the same number of entries for all, or the bytes of that many entries in the leanest policy.
    """
    live, least = live_keys(limit, trace), min(size.values())
    done: dict[tuple[str, int], dict[str, object]] = {}
    rows = []
    for bound in ("entries", "bytes"):
        for part in SHARES:
            for policy in POLICIES:
                fits = least / size[policy] if bound == "bytes" else 1.0
                room = max(1, int(part * live * fits + 1e-9))
                if (policy, room) not in done:
                    found = over_admission(policy, limit, trace, room)
                    done[policy, room] = {**found._asdict(), "requests": len(trace), "hit_ratio": found.hits / len(trace)}
                rows.append({"bound": bound, "share": part, "policy": policy, "room": room, **done[policy, room]})
    return rows


def _hits(rng: np.random.Generator, requests: int, keys: int, log: LogTraffic | None) -> pd.DataFrame:
    rows = []
    logged = {LOGGED: np.array(log.trace.key[:requests])} if log else {}
    for trace, asked in {**key_traces(rng, requests, keys), **logged}.items():
        count = len(np.unique(asked))
        for part in SIZES:
            room = max(1, int(part * count))
            found = {policy: hit_ratio(policy, asked, room) for policy in CACHES}
            found |= {f"{name}*": value for name, value in libcachesim_hit_ratios(asked, room).items()}
            case = {"trace": trace, "share": part, "room": room}
            rows += [{**case, "cache": name, "hit_ratio": value} for name, value in found.items()]
    return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a policy comes to, over all cases.

    mean: of its over-admission. least: the cases in which none admitted less, ties included.
    behind: the most by which it was above the least of a case, as a share of the exact total.
    """

    mean: float
    least: int
    behind: float


def standings(rows: pd.DataFrame) -> dict[str, Standing]:
    """By policy, from rows with the columns of `CASE`, policy and over_admission."""
    above = rows["over_admission"] - rows.groupby(CASE)["over_admission"].transform("min")
    found = {}
    for policy, of in rows.assign(above=above).groupby("policy", sort=False):
        least = int((of["above"] == 0.0).sum())
        found[str(policy)] = Standing(float(of["over_admission"].mean()), least, float(of["above"].max()))
    return found


def best(found: Mapping[str, Standing], size: Mapping[str, float]) -> str:
    """Return the policy with the least mean; of several, the one with the fewest bytes per key (`size`)."""
    return min(found, key=lambda policy: (found[policy].mean, size[policy]))


def verdict(
    by_entries: Mapping[str, Standing], by_bytes: Mapping[str, Standing], size: Mapping[str, float], cases: int
) -> list[str]:
    """Sentences, the choice first.

    by_entries: where all have room for equally many entries; by_bytes: where all have the same memory. size: bytes for each
    key. cases: that each mean is taken over.
    """
    if all(it.mean == 0.0 for found in (by_entries, by_bytes) for it in found.values()):
        lean = min(size, key=lambda policy: size[policy])
        return [
            f"every policy is sufficient, so choose {lean}, which takes the least memory",
            "No policy over-admitted: hardly any key of this traffic requests more than its limit",
        ]
    entries, memory = best(by_entries, size), best(by_bytes, size)
    if entries == memory:
        choice = f"{entries}, both with a bounded number of entries and with bounded memory"
    else:
        more = size[entries] / size[memory]
        choice = f"{memory} if memory is bounded, {entries} if only the number of entries is bounded"
        choice += f"; a key takes {more:.1f} times the bytes in {entries}" if more > 1.0 else ""
    return [
        choice,
        f"With equally many entries, {_evidence(by_entries, entries, cases)}",
        f"With equally many bytes, {_evidence(by_bytes, memory, cases)}",
    ]


def points(value: float) -> str:
    """Format a difference of two shares in percentage points, without the unit."""
    return f"{100 * value:.2g}" if value < 0.1 else f"{100 * value:,.0f}"


def _evidence(found: Mapping[str, Standing], policy: str, cases: int) -> str:
    it = found[policy]
    said = f"{policy} over-admits {format_percent(it.mean)} in the mean of {cases} cases"
    said += f". It has the lowest over-admission in {it.least} of them"
    said += f" and is never more than {points(it.behind)} percentage points above the lowest" if it.behind else ""
    others = {name: each for name, each in found.items() if name != policy}
    if not others:
        return said
    often = max(others, key=lambda name: others[name].least)
    if others[often].least > it.least:
        up_to = points(others[often].behind)
        said += f". {often} is lowest in {others[often].least}, but up to {up_to} points above the lowest in other cases"
    second = min(others, key=lambda name: others[name].mean)
    last = max(others, key=lambda name: others[name].mean)
    said += f". The next policy is {second} with {format_percent(found[second].mean)}"
    return said + (f", the last is {last} with {format_percent(found[last].mean)}" if last != second else "")
