"""The cost of each hybrid policy in accuracy, latency and load.

One traffic is run through all policies, and through several intervals, numbers of nodes and skews.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratesim.limit import Limit
from ratesim.pages.log_traffic import LogFields, LogTraffic
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.fields import seconds
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

__all__ = ["INTERVALS", "POLICIES", "Map", "Policy", "Traffic", "Trial", "cheapest", "mapped", "trial"]

INTERVALS = (0.01, 0.1, 1.0)  # seconds between syncs, where they are varied
NODES = (2, 8, 32)
SKEWS = (0.0, 0.8, 1.5)
VARIED = ("eventual, 100 ms", "lease")


@dataclass(frozen=True)
class Policy:
    """name: as people say it. kind: who decides: memory, redis, or the hybrid's consistency. storage: a URL."""

    name: str
    kind: str
    storage: str

    @classmethod
    def hybrid(cls, name: str, kind: str, options: str = "") -> Policy:
        """Make the policy of a hybrid."""
        return cls(name, kind, f"hybrid+redis://redis?consistency={kind}{options}")

    @classmethod
    def eventual(cls, interval: float) -> Policy:
        """Flushed at every interval, with views that are no older."""
        said = f"{interval * 1e3:g} ms" if interval < 1 else f"{interval:g} s"
        return cls.hybrid(f"eventual, {said}", "eventual", f"&sync_interval={interval:g}&l1_ttl={interval:g}")


POLICIES = (
    Policy("memory alone", "memory", "memory://"),
    Policy("Redis", "redis", "redis://redis"),
    Policy.hybrid("strong", "strong"),
    Policy.hybrid("lease", "lease"),
    Policy.hybrid("session, 100 ms", "session", "&sync_interval=0.1&l1_ttl=0.1"),
    Policy.hybrid("write-through", "eventual", "&write=write_through&l1_ttl=0.1"),
    Policy.hybrid("write-around", "eventual", "&write=write_around&l1_ttl=0.1"),
    Policy.hybrid("write-behind", "eventual", "&write=write_behind&l1_ttl=0.1"),
    Policy.hybrid("read-through", "eventual", "&read=read_through&sync_interval=0.1"),
    Policy.hybrid("refresh-ahead", "eventual", "&read=refresh_ahead&refresh_after=0.1&l1_ttl=1&sync_interval=0.1"),
    *map(Policy.eventual, INTERVALS),
)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The traffic of a run.

    Attributes
    ----------
    requests
        Per second, of all keys and nodes.
    skew
        The exponent of Zipf's law by which keys are asked for.
    duration
        Seconds.
    log
        The log whose keys, costs and rhythm the traffic has; then `keys` and `skew` do not count.
    """

    limit: Limit
    requests: float
    keys: int
    skew: float
    nodes: int
    duration: float
    log: LogTraffic | None = None

    def trace(self, seed: int) -> Trace | None:
        """Return the traffic that the log gives; None where there is no log."""
        return self.log.fitted(self.requests, self.duration, seed) if self.log else None

    def sentence(self) -> str:
        """Describe the traffic."""
        each = f"Each request goes to a random one of {self.nodes} nodes."
        if self.log:
            return f"{self.log.sentence(self.limit, self.requests, self.duration)} {each}"
        return (
            f"The traffic is {self.requests:,.0f} requests per second for {self.keys} keys. {each} "
            f"The keys follow Zipf's law with exponent {self.skew:g}."
        )

    def scenario(self, seed: int) -> Scenario:
        """Poisson arrivals at any node, in one zone."""
        return Scenario.of(
            {
                "seed": seed,
                "replications": 1,
                "workload": {
                    "requests_per_second": self.requests,
                    "keys": self.keys,
                    "zipf": self.skew,
                    "duration": self.duration,
                },
                "limit": {"rate": f"{self.limit.rate:g}/{self.limit.period:g}s", "algorithm": self.limit.algorithm},
                "deployment": {"nodes": self.nodes, "routing": "random", "network": "same_zone"},
            }
        )


@dataclass(frozen=True)
class Map:
    """All that was simulated. given: the parameters. rows: one for each part, policy, traffic and seed; see `_row`."""

    given: dict[str, Any]
    traffic: Traffic
    seed: int
    seeds: int
    rows: pd.DataFrame

    def part(self, name: str, *by: str) -> pd.DataFrame:
        """Means over the seeds, by policy and what was varied, in the order in which they were simulated."""
        of = self.rows[self.rows["part"] == name]
        return of.groupby(["policy", "kind", *by], sort=False).mean(numeric_only=True).reset_index()


def mapped(
    limit: str = "50/second",
    requests: float = 2000.0,
    keys: int = 40,
    skew: float = 1.0,
    nodes: int = 8,
    seed: int = 1,
    seeds: int = 1,
    duration: str | float = "2s",
    **log_fields: str,
) -> Map:
    """All that the notebook shows, for a limit such as "50/second" for each of `keys` keys.

    requests: per second, of all. seeds: runs of each point. duration: of the traffic in each. log_fields: of
    `LogFields`; keys and skew are those of the log, if there is one.
    """
    given = {name: value for name, value in locals().items() if name != "log_fields"} | log_fields
    parsed = Limit.parse(limit)
    fixed = Limit(parsed.rate, parsed.period, "fixed_window")
    traffic = Traffic(limit=fixed, requests=requests, keys=keys, skew=skew, nodes=nodes, duration=seconds(duration))
    traffic = replace(traffic, log=LogFields(**log_fields).traffic())
    points = [("policies", policy, traffic) for policy in POLICIES]
    points += [("nodes", Policy.eventual(d), replace(traffic, nodes=n)) for d in INTERVALS for n in NODES]
    if traffic.log is None:  # which has a skew of its own
        points += [("skew", p, replace(traffic, skew=s)) for p in POLICIES if p.name in VARIED for s in SKEWS]
    return Map(given, traffic, seed, seeds, _simulated(points, range(seed, seed + seeds)))


def _simulated(points: Iterable[tuple[str, Policy, Traffic]], seeds: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame([_row(part, policy, of, seed) for part, policy, of in points for seed in seeds])


def _row(part: str, policy: Policy, traffic: Traffic, seed: int) -> dict[str, Any]:
    """Run one policy.

    The columns are over and denied (shares of what an exact limiter admits), p50 and p99 (seconds), operations (at Redis,
    per request), busy (the share of Redis's time), age (the 99th percentile of the views', seconds) and all (the share of
    requests that is admitted).
    """
    candidate = Candidate(name=policy.name, storage=policy.storage)
    row = run(traffic.scenario(seed), candidate, trace=traffic.trace(seed), progress=False).row()
    return {
        "part": part,
        "policy": policy.name,
        "kind": policy.kind,
        "nodes": traffic.nodes,
        "skew": traffic.skew,
        "seed": seed,
        "over": row["over_admission"],
        "denied": row["false_denial"],
        "p50": row["latency_p50"],
        "p99": row["latency_p99"],
        "operations": row["l2_operations_per_request"],
        "busy": row["utilization"],
        "age": row["view_age_p99"],
        "all": row["admitted"] / row["requests"],
    }


def cheapest(policies: pd.DataFrame, bearable: float, p99: float) -> str | None:
    """Return the cheapest policy: the one with the fewest operations at Redis.

    Parameters
    ----------
    bearable
        Largest over-admission, as a share of the limit.
    p99
        Largest 99th percentile of the latency, in seconds.

    Returns
    -------
    Row or None
        None if no policy keeps to both.
    """
    fit = policies[(policies["over"] <= bearable) & (policies["p99"] <= p99)]
    return None if fit.empty else str(fit.sort_values("operations", kind="stable")["policy"].iloc[0])


@dataclass(frozen=True)
class Trial:
    """One run of an eventual hybrid.

    Attributes
    ----------
    interval
        Seconds between syncs.
    asked, admitted
        Times of the busiest key's requests in a whole window, in seconds from its edge.
    row
        The row of `RunResult.row`.
    """

    traffic: Traffic
    interval: float
    asked: NDArray[np.float64]
    admitted: NDArray[np.float64]
    row: dict[str, Any]

    @property
    def times(self) -> float:
        """What the busiest key was admitted in the window, over its limit."""
        return len(self.admitted) / self.traffic.limit.rate


def trial(traffic: Traffic, interval: float, seed: int) -> Trial:
    """Eventual, synced at this interval, over the first two windows of the limit."""
    short = replace(traffic, duration=2.0 * traffic.limit.period)
    policy = Policy.eventual(interval)
    result = run(
        short.scenario(seed), Candidate(name=policy.name, storage=policy.storage), trace=short.trace(seed), progress=False
    )
    trace, period = result.trace, traffic.limit.period
    busiest = trace.key == int(np.bincount(trace.key).argmax())
    since = trace.time - (np.floor(trace.time[0] / period) + 1.0) * period
    within = busiest & (since >= 0.0) & (since < period)
    return Trial(short, interval, since[within], since[within & result.allowed], result.row())
