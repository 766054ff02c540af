"""The effect of eviction: how many requests find their entry, and how much a limiter admits too much because it forgot.

Both are measured on a store of `max_entries`, for any policy of `ratesim.storage.eviction`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from importlib import resources
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import Params, Rule, bind
from ratesim.limit import Limit
from ratesim.simulation.results.accuracy import measure_accuracy
from ratesim.storage.eviction import POLICIES, ChargedPolicy
from traffic import Trace, Zipf, read_log

__all__ = [
    "PEERS",
    "OverAdmission",
    "hit_ratio",
    "key_traces",
    "libcachesim_hit_ratios",
    "live_keys",
    "over_admission",
    "workloads",
]

PEERS = ("LRU", "ARC", "S3FIFO", "Sieve")  # of libCacheSim
LEAST_S3FIFO = 20  # entries

Keys = NDArray[np.int64]


class OverAdmission(NamedTuple):
    """The effect of a bounded store on a limit.

    Attributes
    ----------
    over_admission : float
        `Accuracy.over_admission`: the cost admitted too much, as a share of the exact total.
    harmless, harmful : int
        Evictions of states that were as good as new, and of others.
    forgotten : float
        Cost that the harmful ones made available again.
    hits : int
        Requests that found their key's state.
    exact : float
        Cost that an exact limiter admits in all.
    """

    over_admission: float
    harmless: int
    harmful: int
    forgotten: float
    hits: int
    exact: float


def hit_ratio(policy_name: str, keys: Keys, max_entries: int, seed: int = 0) -> float:
    """Return the share of requests that find their key in a cache that takes in every missed key.

    No entry is ever as good as new.

    Parameters
    ----------
    policy_name : str
        The eviction policy.
    keys : Keys
        Keys in the order of the requests, shape (n,), n > 0.
    max_entries : int
        Size of the cache.
    seed : int
        Seed of the policy.
    """
    policy = POLICIES[policy_name](max_entries, seed)
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    held: set[Any] = set()
    hits = 0
    for now, key in enumerate(keys.tolist()):
        if key in held:
            hits += 1
            policy.touch(key)
            continue
        if len(held) >= max_entries:
            victim = policy.victim(float(now))
            policy.remove(victim)
            held.remove(victim)
        policy.insert(key)
        held.add(key)
        if charged is not None:
            charged(key, inf, 1.0)
    return hits / len(keys)


def libcachesim_hit_ratios(keys: Keys, max_entries: int, names: Sequence[str] = PEERS) -> dict[str, float]:
    """Return the same of libCacheSim's caches (package libcachesim), by their names there; empty if it is not installed.

    S3FIFO is left out if its small queue, a tenth, holds less than 2: it finds nothing then, and below 1 ends the process.
    """
    if importlib.util.find_spec("libcachesim") is None:
        return {}
    peer = importlib.import_module("libcachesim")
    asked = keys.tolist()
    found = {}
    for name in names if max_entries >= LEAST_S3FIFO else (each for each in names if each != "S3FIFO"):
        cache, request = getattr(peer, name)(max_entries, hashpower=16), peer.Request()
        request.obj_size = 1
        hits = 0
        for key in asked:
            request.obj_id = key
            hits += cache.get(request)
        found[name] = hits / len(asked)
    return found


def over_admission(policy_name: str, limit: Limit, trace: Trace, max_entries: int, seed: int = 0) -> OverAdmission:
    """Decide a trace by the limit's algorithm with at most `max_entries` states, and compare it with the oracle."""
    algorithm, p, _, head = bind(limit)
    rule = algorithm.rule
    policy = POLICIES[policy_name](max_entries, seed)
    charged = policy.charged if isinstance(policy, ChargedPolicy) else None
    states: dict[Any, list[float]] = {}
    admitted = np.zeros(len(trace), np.bool_)
    harmless = harmful = hits = 0
    forgotten = 0.0
    requests = zip(trace.key.tolist(), trace.time.tolist(), trace.cost.tolist(), strict=True)
    for row, (key, now, cost) in enumerate(requests):
        s = states.get(key)
        known = s is not None
        if s is None:
            s = _fresh(rule, p, now)
        else:
            hits += 1
            policy.touch(key)
        before = s[:head]
        rule.refresh(s, p, now)
        if rule.available(s, p, now) < cost:
            s[:head] = before  # a denied request changes nothing
            continue
        admitted[row] = True
        rule.charge(s, p, cost, now)
        if not known:
            if len(states) >= max_entries:
                victim = policy.victim(now)
                policy.remove(victim)
                loss = _loss(rule, p, states.pop(victim), now)
                harmless += loss == 0.0
                harmful += loss > 0.0
                forgotten += loss
            policy.insert(key)
            states[key] = s
        if charged is not None:
            charged(key, now + rule.reset_after(s, p, now), _loss(rule, p, s[:], now))
    found = measure_accuracy(limit, trace.key, trace.time, trace.cost, admitted)
    return OverAdmission(found.over_admission, harmless, harmful, forgotten, hits, found.exact_total)


def live_keys(limit: Limit, trace: Trace) -> int:
    """Return the most states that are not as good as new at one time, if none is evicted."""
    algorithm, p, _, head = bind(limit)
    rule = algorithm.rule
    states: dict[int, list[float]] = {}
    until: dict[int, float] = {}
    steps: list[tuple[float, int]] = []
    for key, now, cost in zip(trace.key.tolist(), trace.time.tolist(), trace.cost.tolist(), strict=True):
        s = states.get(key)
        if s is None:
            s = states[key] = _fresh(rule, p, now)
        before = s[:head]
        rule.refresh(s, p, now)
        if rule.available(s, p, now) < cost:
            s[:head] = before
            continue
        rule.charge(s, p, cost, now)
        end = now + rule.reset_after(s, p, now)
        steps += [(max(until.get(key, now), now), 1), (end, -1)]  # lives on from where it would have ended, or begins
        until[key] = end
    return int(np.cumsum([step for _, step in sorted(steps)]).max(initial=0))


def key_traces(rng: np.random.Generator, requests: int = 100_000, keys: int = 10_000) -> dict[str, Keys]:
    """Make keys of requests in order, by name.

    They are zipf of four exponents, the shipped access log's clients, zipf with a scan of new keys after every twentieth of
    it, and zipf over a population in which every 10 requests a key is replaced.
    """
    traces = {f"zipf {s}": Zipf(keys, s).draw(requests, rng) for s in (0.6, 0.8, 1.0, 1.2)}
    with resources.as_file(resources.files("traffic") / "data" / "apache_access_10k.log.gz") as path:
        traces["access log"] = np.array(read_log(path).key)
    scan = requests // 80
    new = keys + np.arange(20 * scan).reshape(20, scan)
    parts = np.array_split(Zipf(keys, 1.0).draw(requests, rng), 20)
    traces["scanned"] = np.concatenate([part for pair in zip(parts, new, strict=True) for part in pair])
    traces["churning"] = Zipf(keys, 1.0).draw(requests, rng) + np.arange(requests) // 10
    return traces


def workloads(
    rng: np.random.Generator, requests: int = 30_000, keys: int = 3_000, duration: float = 240.0
) -> dict[str, Trace]:
    """Make traces for a limiter, by name.

    They are `key_traces` without the log and the scans, at uniform random times; zipf of which 30 % occur only once; zipf
    under keys that send 30 requests within 3 s and never again; and zipf with geometric costs.
    """
    start = 1.7e9
    time = start + np.sort(rng.uniform(0.0, duration, requests))
    asked = {name: key for name, key in key_traces(rng, requests, keys).items() if name not in ("access log", "scanned")}
    once = Zipf(keys // 3, 1.0).draw(requests, rng)
    some = rng.random(requests) < 0.3
    once[some] = keys + np.arange(np.count_nonzero(some))
    asked["ask once"] = once
    traces = {name: Trace(time, key, _names(key)) for name, key in asked.items()}
    traces["costs"] = Trace(
        time, asked["zipf 1.0"], _names(asked["zipf 1.0"]), cost=rng.geometric(0.4, requests).astype(np.float64)
    )
    bursts = requests // 30
    begin = np.repeat(rng.uniform(0.0, duration - 3.0, bursts), 30)
    key = np.concatenate([np.repeat(np.arange(bursts), 30), bursts + Zipf(keys, 0.8).draw(requests // 2, rng)])
    times = np.concatenate([begin + rng.uniform(0.0, 3.0, len(begin)), rng.uniform(0.0, duration, requests // 2)])
    traces["bursts"] = Trace(start + times, key, _names(key))
    return traces


def _names(key: Keys) -> list[str]:
    return [f"key-{i}" for i in range(int(key.max()) + 1)]


def _fresh(rule: Rule, p: Params, now: float) -> list[float]:
    s = [0.0] * rule.size(p)
    rule.start(s, p, now)
    return s


def _loss(rule: Rule, p: Params, s: list[float], now: float) -> float:
    """Refresh s, and return the cost that is available again when it is forgotten; 0 for a state as good as new."""
    rule.refresh(s, p, now)
    if rule.reset_after(s, p, now) <= 0.0:
        return 0.0
    return max(0.0, rule.available(_fresh(rule, p, now), p, now) - rule.available(s, p, now))
