"""The algorithms side by side under one limit: their admissions of traffic that tells them apart, and their costs.

Workloads are made from the limit and a seed. Every algorithm decides each of them exactly (`results/oracle.py`) and is
scored against a sliding log. Memory and time are measured on a `MemoryStorage`. `summarize` gives the worst of each
algorithm, and its cost.
"""

from __future__ import annotations

import gc
import hashlib
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from msgspec.structs import replace
from numpy.typing import NDArray

from ratesim.algorithms import names
from ratesim.limit import Limit
from ratesim.simulation.results.accuracy import measure_accuracy
from ratesim.simulation.results.oracle import exact_trace
from ratesim.storage import MemoryStorage, MemoryStorageConfig
from traffic import Poisson, Trace, Uniform, Workload

__all__ = [
    "WORKLOADS",
    "AlgorithmSummary",
    "admitted_around",
    "compare",
    "measure",
    "request_cost",
    "summarize",
    "workloads",
]

Rng = np.random.Generator

PERIODS = 20  # that a workload lasts
OVERLOAD = 3.0  # times the limit
EDGE = 0.01  # of a period, on either side of an edge
CLIENTS = 20  # that come and go
OTHERS = 200  # keys beside the hot one, each at half the limit
FINEST = 1000.0  # requests within one limit, at most: a larger limit is met with larger costs
EXACT = "sliding_log"
DECISIONS = 50_000  # at most, to fill the keys whose memory is measured


def workloads(limit: Limit, rng: Rng) -> dict[str, Trace]:
    """Make traffic that tells algorithms apart, by name, in a fixed order; time starts at 0, on the edge of a window."""
    return {name: make(limit, rng) for name, make in WORKLOADS.items()}


def edge_burst(limit: Limit, rng: Rng) -> Trace:
    """Make one client that sends 1.5 times the limit just before an edge and again just after it.

    Then it is quiet for some periods.
    """
    width = EDGE * limit.period
    burst = Poisson(1.5 * _requests(limit) / width)
    edges = np.arange(1, PERIODS, 4) * limit.period
    times = [burst.times(width, rng, float(start)) for edge in edges for start in (edge - width, edge)]
    return _merge([np.concatenate(times)], limit)


def burst_then_more(limit: Limit, rng: Rng) -> Trace:
    """Make one client that sends 1.5 times the limit just before an edge, then three times the limit until the next.

    Then it is quiet. A two-window counter takes the requests of an ended window to be spread over it. Here they all lie at
    its end, so they fade while they should still count: in the worst case to twice the limit in a period.
    """
    width, per_period = EDGE * limit.period, _requests(limit)
    burst, more = Poisson(1.5 * per_period / width), Poisson(OVERLOAD * per_period / limit.period)
    times = []
    for edge in (np.arange(1, PERIODS, 4) * limit.period).tolist():
        times += [burst.times(width, rng, edge - width), more.times(limit.period - width, rng, edge)]
    return _merge([np.concatenate(times)], limit)


def steady_overload(limit: Limit, rng: Rng) -> Trace:
    """Make one client that sends three times the limit all the time."""
    arrivals = Poisson(OVERLOAD * _requests(limit) / limit.period)
    return Workload(arrivals, Uniform(1), PERIODS * limit.period, cost=request_cost(limit)).trace(rng)


def on_off(limit: Limit, rng: Rng) -> Trace:
    """Make clients that send three times the limit for a while, one period in the mean, and then pause for two."""
    asking = Poisson(OVERLOAD * _requests(limit) / limit.period)
    times = []
    for _ in range(CLIENTS):
        phases = []
        # Begins at some point of a pause, so that the clients are not in step.
        at = rng.exponential(2.0 * limit.period)
        while at < PERIODS * limit.period:
            lasts = min(rng.exponential(limit.period), PERIODS * limit.period - at)
            phases.append(asking.times(lasts, rng, at))
            at += lasts + rng.exponential(2.0 * limit.period)
        times.append(np.concatenate([np.empty(0), *phases]))
    return _merge(times, limit)


def hot_key(limit: Limit, rng: Rng) -> Trace:
    """Make one key that sends ten times the limit, among many that send half of it."""
    per_period, duration = _requests(limit) / limit.period, PERIODS / 2 * limit.period
    hot = Poisson(10.0 * per_period).times(duration, rng)
    others = Workload(Poisson(OTHERS * 0.5 * per_period), Uniform(OTHERS), duration).trace(rng)
    return _merge([hot, *(others.time[others.key == key] for key in range(OTHERS))], limit)


WORKLOADS: dict[str, Callable[[Limit, Rng], Trace]] = {
    "burst at an edge": edge_burst,
    "burst, then more": burst_then_more,
    "steady overload": steady_overload,
    "on and off": on_off,
    "one hot key": hot_key,
}
ADVERSARIAL = ("burst at an edge", "burst, then more")  # from clients that know where the edges are


def request_cost(limit: Limit) -> float:
    """Choose the cost of one request: 1, unless the limit is below that or admits very many."""
    return min(limit.rate, max(1.0, limit.rate / FINEST))


def _requests(limit: Limit) -> float:
    """Count the requests within one limit."""
    return limit.rate / request_cost(limit)


def _merge(times: Sequence[NDArray[np.float64]], limit: Limit) -> Trace:
    """Merge the times of each key to one trace."""
    key = np.repeat(np.arange(len(times)), [len(each) for each in times])
    together = np.concatenate(times)
    order = np.argsort(together, kind="stable")
    return Trace(together[order], key[order], [f"key-{i}" for i in range(len(times))], cost=request_cost(limit))


def with_algorithm(limit: Limit, algorithm: str) -> Limit:
    """Return the same rate and period by another algorithm, with its defaults."""
    return replace(limit, algorithm=algorithm, burst=None, options=())


def compare(limit: Limit, traces: Mapping[str, Trace], algorithms: Sequence[str] = ()) -> pd.DataFrame:
    """Decide each workload by each algorithm (all registered ones unless given).

    Returns
    -------
    pandas.DataFrame
        One row for each workload and algorithm.

        - worst_period: the largest cost that a key was admitted within any `period`, wherever it begins, as a multiple of
        the
          rate. worst_tenth: the same within a tenth of a period, still as a multiple of the whole rate.
        - share: cost admitted over the cost that a sliding log admits of the same requests. over_admission, false_denial:
        where
          the two differ within epoch-aligned periods, as in `Accuracy`.
        - decisions: a digest; equal where two algorithms decided every request alike.
    """
    log = with_algorithm(limit, EXACT)
    tenth = replace(log, period=limit.period / 10)
    rows = []
    for workload, trace in traces.items():
        for algorithm in algorithms or names():
            admitted = exact_trace(with_algorithm(limit, algorithm), trace)
            found = measure_accuracy(log, trace.key, trace.time, trace.cost, admitted)
            brief = measure_accuracy(tenth, trace.key, trace.time, trace.cost, admitted)
            rows.append(
                {
                    "workload": workload,
                    "algorithm": algorithm,
                    "worst_period": found.worst_excess + 1.0,
                    "worst_tenth": brief.worst_excess + 1.0,
                    "share": found.admitted_total / found.exact_total if found.exact_total else np.nan,
                    "over_admission": found.over_admission,
                    "false_denial": found.false_denial,
                    "decisions": hashlib.sha256(np.packbits(admitted).tobytes()).hexdigest()[:16],
                }
            )
    return pd.DataFrame(rows)


def admitted_around(limit: Limit, trace: Trace, algorithm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times at which requests were admitted, in seconds, and the cost admitted until then, over the rate."""
    admitted = exact_trace(with_algorithm(limit, algorithm), trace)
    return trace.time[admitted], np.cumsum(trace.cost[admitted]) / limit.rate


def measure(limit: Limit, trace: Trace, keys: int = 500, rounds: int = 5, algorithms: Sequence[str] = ()) -> pd.DataFrame:
    """Measure the cost of each algorithm here, live on a MemoryStorage.

    Returns
    -------
    pandas.DataFrame
        One row for each algorithm.

        - bytes_once: memory of each key that has sent one request. bytes_full: of a key that has used up its limit, request
        by
          request. Both are measured by tracemalloc over `keys` keys (fewer of a large limit), with everything that the
          storage keeps around a state, without the key's own name.
        - seconds: processor time of one decision, over `trace`, the best of `rounds`, in which the algorithms take turns.
        - time_ratio: that, over fixed_window's in the same run.
    """
    chosen = tuple(algorithms or names())
    asked = list(zip([trace.keys[k] for k in trace.key.tolist()], trace.cost.tolist(), trace.time.tolist(), strict=True))
    timed = dict.fromkeys({*chosen, "fixed_window"}, np.inf)
    for _ in range(rounds):
        for algorithm in timed:
            timed[algorithm] = min(timed[algorithm], _timed(with_algorithm(limit, algorithm), asked))
    rows = []
    for algorithm in chosen:
        once, full = _bytes(with_algorithm(limit, algorithm), keys)
        spent = timed[algorithm] / max(len(asked), 1)
        ratio = timed[algorithm] / timed["fixed_window"]
        rows.append({"algorithm": algorithm, "bytes_once": once, "bytes_full": full, "seconds": spent, "time_ratio": ratio})
    return pd.DataFrame(rows)


def _timed(limit: Limit, asked: Sequence[tuple[str, float, float]]) -> float:
    decide = MemoryStorage().acquire_nowait
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: other objects of the process are not this algorithm's
    try:
        begin = time.thread_time()
        for name, cost, now in asked:
            decide(name, limit, cost, now)
        return time.thread_time() - begin
    finally:
        if collecting:
            gc.enable()


def _bytes(limit: Limit, keys: int) -> tuple[float, float]:
    cost, requests = request_cost(limit), int(_requests(limit))
    keys = min(keys, max(20, DECISIONS // requests))
    identifiers = [f"user:{key}" for key in range(keys)]
    storage = MemoryStorage(MemoryStorageConfig(max_entries=keys))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for user, name in enumerate(identifiers):
            storage.acquire_nowait(name, limit, cost, (user + 1) / (keys + 1) / requests * limit.period / 2)
        once = tracemalloc.get_traced_memory()[0] - before
        for request in range(1, requests):
            for user, name in enumerate(identifiers):
                # Each has a time of its own: one shared float object would hide the memory of a log.
                storage.acquire_nowait(name, limit, cost, (request + (user + 1) / (keys + 1)) / requests * limit.period / 2)
        full = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return once / keys, full / keys


@dataclass(frozen=True, slots=True)
class AlgorithmSummary:
    """The results of an algorithm over all workloads.

    Attributes
    ----------
    worst_period, worst_tenth : float
        As in `compare`, of the workload in which they are greatest.
    off : float
        Over-admission plus false denial, the mean of the workloads that do not aim at an edge.
    after_pause : float
        `share` among clients that come and go.
    alike : tuple[str, ...]
        The other algorithms that decided every request like this one.
    bytes_once, bytes_full, seconds, time_ratio : float
        As in `measure`.
    """

    worst_period: float
    worst_tenth: float
    off: float
    after_pause: float
    alike: tuple[str, ...]
    bytes_once: float
    bytes_full: float
    seconds: float
    time_ratio: float


def summarize(rows: pd.DataFrame, measured: pd.DataFrame) -> dict[str, AlgorithmSummary]:
    """Summarize the rows of `compare` and those of `measure` by algorithm."""
    digests: dict[str, tuple[str, ...]] = {}
    for row in rows.to_dict("records"):
        digests[row["algorithm"]] = (*digests.get(row["algorithm"], ()), row["decisions"])
    found = {}
    for cost in measured.to_dict("records"):
        name = str(cost.pop("algorithm"))
        of = rows[rows["algorithm"] == name]
        usual = of[~of["workload"].isin(ADVERSARIAL)]
        found[name] = AlgorithmSummary(
            worst_period=float(of["worst_period"].max()),
            worst_tenth=float(of["worst_tenth"].max()),
            off=float((usual["over_admission"] + usual["false_denial"]).mean()),
            after_pause=float(of.loc[of["workload"] == "on and off", "share"].mean()),
            alike=tuple(other for other in digests if other != name and digests[other] == digests[name]),
            **{str(key): float(value) for key, value in cost.items()},
        )
    return found
