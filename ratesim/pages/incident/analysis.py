"""A limiter whose replicas decide in memory and sync with Redis at an interval.

Its overshoot and its load on Redis are simulated by replicas, interval and rate, and shown beside the expected values
(`rule.py`). It is built like the gateway on record (`sources.py`): `HybridStorage`, eventual and write_back, with views that
only their own flushes refresh.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from ratesim.limit import Limit
from ratesim.notebook import NotebookError
from ratesim.pages.incident.rule import bends, expected, interval_for, rule
from ratesim.pages.incident.sources import GATEWAY, KONG_FLOOR, KONG_LEAST, PUBLISHED, PUBLISHED_LIMIT
from ratesim.pages.log_traffic import LogFields, LogTraffic
from ratesim.simulation.results.oracle import exact
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

__all__ = ["ALLOWED", "MIDDLE", "GatewaySetup", "Replay", "load", "replayed", "simulated", "summary"]

REPLICAS = (2, 4, 8, 16)
MIDDLE = 8  # replicas, where their number is not what is varied
FEW = 4  # replicas where the offered load is varied: few enough to be asked for more than all their limits together
ALGORITHMS = ("fixed_window", "sliding_window", "token_bucket")
ALLOWED = (0.01, 0.05, 0.2)  # overshoot as a share of the limit
LOAD_KEYS = (1, 10, 100)
HOLDS = (3.0, 0.6)  # times the lower and the upper bend: between them the rule's line is followed
NEVER = 1e6  # seconds: longer than any run


@dataclass(frozen=True, kw_only=True)
class GatewaySetup:
    """The setting of one simulation.

    Attributes
    ----------
    part
        The part of the page that shows it.
    offered
        Requests per second, over all keys and replicas.
    interval
        Seconds between syncs. 0 asks Redis for every request, inf never syncs.
    spread
        Whether each replica syncs in a phase of its own.
    reads
        Whether a view that is older than the interval is read again when it is needed.
    log
        The log whose rhythm the requests for the one key have.
    """

    part: str
    limit: Limit
    replicas: int
    offered: float
    interval: float
    spread: bool = True
    network: str = "same_zone"
    keys: int = 1
    reads: bool = False
    log: LogTraffic | None = None

    def trace(self, seed: int, duration: float) -> Trace | None:
        """Return the traffic that the log gives for `duration` seconds; None where there is no log."""
        return self.log.fitted(self.offered, duration, seed, one_key=True) if self.log else None

    def scenario(self, seed: int, duration: float) -> Scenario:
        """Poisson arrivals, all keys alike, sent to any replica at random; `duration` in seconds."""
        return Scenario.of(
            {
                "seed": seed,
                "replications": 1,
                "workload": {
                    "requests_per_second": self.offered,
                    "keys": self.keys,
                    "zipf": 0.0,
                    "duration": duration,
                },
                "limit": {"rate": f"{self.limit.rate:g}/{self.limit.period:g}s", "algorithm": self.limit.algorithm},
                "deployment": {"nodes": self.replicas, "routing": "random", "network": self.network},
            }
        )

    def candidate(self) -> Candidate:
        """Return the candidate that is simulated."""
        if self.interval == 0.0:
            return Candidate(name="every request", storage="redis://redis")
        if math.isinf(self.interval):
            return Candidate(name="never", storage="memory://")
        options = f"sync_interval={self.interval!r}&sync_jitter={1 if self.spread else 0}"
        options += f"&l1_ttl={self.interval if self.reads else NEVER!r}"
        return Candidate(name="sync", storage=f"hybrid+redis://redis?consistency=eventual&write=write_back&{options}")


@dataclass(frozen=True)
class Replay:
    """All that was simulated.

    Attributes
    ----------
    given
        The parameters.
    offered
        Requests per second.
    rows
        Of `simulated`.
    answers
        Seconds that Redis takes to answer, by network.
    log
        The log whose rhythm the traffic has.
    """

    given: dict[str, Any]
    limit: Limit
    offered: float
    seed: int
    seeds: int
    windows: int
    rows: pd.DataFrame
    answers: dict[str, float]
    log: LogTraffic | None = None

    def sentence(self) -> str:
        """Describe the traffic of a log; empty where there is none."""
        if self.log is None:
            return ""
        replayed = self.log.sentence(self.limit, self.offered, self.windows * self.limit.period, one_key=True)
        return (
            f"{replayed} All its requests are for one key. Other loads and lengths take more or less of the log. "
            "The load on Redis for several keys, the latency of Redis and the published measurement are simulated with made "
            "traffic."
        )

    def part(self, name: str) -> pd.DataFrame:
        """Return the rows of one part of the page."""
        return self.rows[self.rows["part"] == name]

    def beside(self, name: str) -> pd.DataFrame:
        """Return the summary of a part of fixed windows that sync, beside the expected values.

        Further columns: rule and expected (requests per window), low and high (the bends, seconds), slope (the rule's, in
        requests per second of interval) and holds (whether the rule should).
        """
        of = self.part(name)
        of = of[(of["interval"] > 0.0) & np.isfinite(of["interval"])]
        found = summary(of, ["replicas", "offered", "spread", "network", "rate", "period", "interval"])
        told = []
        for row in found.to_dict("records"):
            limit, answer = Limit(row["rate"], row["period"], "fixed_window"), self.answers[row["network"]]
            replicas, offered, interval = row["replicas"], row["offered"], row["interval"]
            low, high = bends(limit, replicas, offered, answer)
            told.append(
                {
                    "rule": rule(replicas, offered, interval),
                    "expected": expected(limit, replicas, offered, interval, answer),
                    "low": low,
                    "high": high,
                    "slope": rule(replicas, offered, 1.0),
                    "holds": HOLDS[0] * low <= interval <= HOLDS[1] * high,
                }
            )
        return pd.concat([found, pd.DataFrame(told)], axis=1)


def simulated(settings: Iterable[GatewaySetup], seeds: Sequence[int], windows: int) -> pd.DataFrame:
    """One row for each setting, seed and window of the limit's period, from `windows` of them.

    Columns: those of Setting (rate, period and algorithm for the limit), seed, window, excess (cost admitted there less what
    an exact limiter would have admitted), and of the whole run operations and admitted (both per request), utilization (of
    Redis) and latency (median, seconds).
    """
    rows: list[dict[str, Any]] = []
    for setting in settings:
        for seed in seeds:
            length = windows * setting.limit.period
            result = run(
                setting.scenario(seed, length), setting.candidate(), trace=setting.trace(seed, length), progress=False
            )
            rows += _rows(setting, seed, windows, result)
    return pd.DataFrame(rows)


def _rows(setting: GatewaySetup, seed: int, windows: int, result: RunResult) -> list[dict[str, Any]]:
    trace, limit = result.trace, setting.limit
    granted = exact(limit, trace.key, trace.time, trace.cost, len(trace.keys))
    begin = math.floor(trace.time[0] / limit.period)
    window = np.floor(trace.time / limit.period).astype(np.int64) - begin
    surplus = np.where(result.allowed, trace.cost, 0.0) - np.where(granted, trace.cost, 0.0)
    excess = np.bincount(window, surplus, windows)
    row = result.row()
    named = {field.name: getattr(setting, field.name) for field in fields(setting)}
    named |= {"rate": limit.rate, "period": limit.period, "algorithm": limit.algorithm, "seed": seed}
    del named["limit"], named["log"]
    whole = {
        "operations": row["l2_operations_per_request"],
        "admitted": row["admitted"] / row["requests"],
        "utilization": row["utilization"],
        "latency": row["latency_p50"],
    }
    return [named | {"window": i, "excess": float(excess[i])} | whole for i in range(windows)]


def summary(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Summarize the windows for each value of `by`.

    The columns are overshoot (mean of the excess above 0), worst (the most of any window), and the means of operations,
    admitted and utilization.
    """
    above = rows.assign(overshoot=rows["excess"].clip(lower=0.0), worst=rows["excess"])
    found = above.groupby(list(by), sort=False).agg(
        overshoot=("overshoot", "mean"),
        worst=("worst", "max"),
        operations=("operations", "mean"),
        admitted=("admitted", "mean"),
        utilization=("utilization", "mean"),
    )
    return found.reset_index()


def replayed(
    limit: str = "1000/second",
    offered: float = 3.0,
    seed: int = 1,
    seeds: int = 2,
    windows: int = 3,
    points: int = 10,
    load_seconds: int = 20,
    **log_fields: str,
) -> Replay:
    """All that the notebook shows, for a limit such as "1000/second" of which `offered` times as much is asked.

    seeds: runs of each setting. windows: of the limit's period, in each run. points: intervals, from a thousandth of the
    period to twice the period. load_seconds: of the traffic whose load on Redis is measured. log_fields: of `LogFields`.
    """
    given = {name: value for name, value in locals().items() if name != "log_fields"} | log_fields
    log = LogFields(**log_fields).traffic()
    parsed = Limit.parse(limit)
    asked = Limit(parsed.rate, parsed.period, "fixed_window")
    asks = offered * asked.rate / asked.period
    plain = GatewaySetup(part="", limit=asked, replicas=MIDDLE, offered=asks, interval=0.0)
    grid = np.geomspace(1e-3, 2.0, points) * asked.period
    intervals = [float(f"{each:.3g}") for each in grid]
    several = range(seed, seed + seeds)

    networks = ("same_zone", "cross_region")
    alone = [replace(plain, part="answer", network=network, offered=100.0 / asked.period) for network in networks]
    parts = [simulated(alone, several[:1], windows)]
    plain = replace(plain, log=log)
    answers = {str(network): float(of["latency"].iloc[0]) for network, of in parts[0].groupby("network", sort=False)}
    for n in REPLICAS:
        low, high = bends(asked, n, asks, next(iter(answers.values())))
        if not any(HOLDS[0] * low <= each <= HOLDS[1] * high for each in intervals):
            raise NotebookError(
                f"parameter points: none of {points} sync intervals lies where the rule can be checked with {n} replicas; "
                "try more points, or a higher limit"
            )

    settings = [
        replace(plain, part="replicas", replicas=n, interval=d) for n in REPLICAS for d in (0.0, *intervals, math.inf)
    ]
    for times in (1.1, 1.5, offered, 1.5 * FEW):
        load_of_it = times * asked.rate / asked.period
        settings += [replace(plain, part="offered", replicas=FEW, offered=load_of_it, interval=d) for d in intervals]
    for spread, network in ((True, networks[0]), (False, networks[0]), (True, networks[1])):
        settings += [replace(plain, part="phases", spread=spread, network=network, interval=d) for d in intervals]
    settings += [
        replace(plain, part="chosen", replicas=n, interval=d)
        for n in REPLICAS
        for allowed in ALLOWED
        if (d := interval_for(asked, n, asks, allowed * asked.rate, answers[networks[0]])) is not None and math.isfinite(d)
    ]
    parts.append(simulated(settings, several, windows))

    debt = [
        replace(plain, part="debt", limit=Limit(asked.rate, asked.period, name), interval=0.1 * asked.period)
        for name in ALGORITHMS
    ]
    parts.append(simulated(debt, several, 4 * windows))
    parts.append(simulated(_published(answers[networks[0]]), several, windows))
    parts.append(load(seed, load_seconds))
    return Replay(given, asked, asks, seed, seeds, windows, pd.concat(parts, ignore_index=True), answers, log)


def _published(answer: float) -> list[GatewaySetup]:
    """Simulate the published measurement for several numbers of replicas, each at the load that predicts 13.1 % at 50 ms."""
    limit, (first, over) = PUBLISHED_LIMIT, next(iter(PUBLISHED.items()))
    wanted = over * limit.rate
    found = []
    for n in REPLICAS:
        asks = float(brentq(lambda x, n=n: expected(limit, n, x, first, answer) - wanted, 1.2 * limit.rate, 20 * limit.rate))
        plain = GatewaySetup(part="published", limit=limit, replicas=n, offered=round(asks), interval=first)
        found += [replace(plain, interval=d) for d in PUBLISHED]
    return found


def load(seed: int, duration: int, offered: float = 500.0) -> pd.DataFrame:
    """Rows of `simulated` for the load on Redis: `offered` requests per second over one key or many, none denied."""
    limit = Limit(1e6, float(duration), "fixed_window")
    plain = GatewaySetup(part="load", limit=limit, replicas=MIDDLE, offered=offered, interval=0.0)
    named = (KONG_LEAST, GATEWAY, KONG_FLOOR)
    grid = sorted({*named, *(float(f"{each:.3g}") for each in np.geomspace(2e-3, 0.25 * duration, 7))})
    settings = [replace(plain, keys=keys, interval=d) for keys in LOAD_KEYS for d in (0.0, *grid)]
    settings += [replace(plain, keys=LOAD_KEYS[1], interval=d, reads=True) for d in grid]
    return simulated(settings, [seed], 1)
