"""Each storage under the same traffic twice: while all is well, and while something breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ratesim.durations import write_duration
from ratesim.limit import Limit
from ratesim.pages.backends.analysis import named
from ratesim.pages.log_traffic import LogFields, LogTraffic
from ratesim.safe_text import shorten_repr
from ratesim.simulation.network.hash_slots import SLOTS
from ratesim.simulation.results.oracle import exact
from ratesim.simulation.results.run_result import AROUND, RunResult
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.faults import Fault
from ratesim.simulation.scenario.fields import seconds
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.scenario.topology import PRIMARIES
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["NAMES", "FaultComparison", "FaultRun", "FaultSetup", "compare_under_faults", "faults_of", "standard"]

NAMES = (
    "memory",
    "redis",
    "postgres",
    "hybrid strong",
    "hybrid lease 1 s",
    "hybrid session 100 ms",
    "hybrid eventual 100 ms",
)
AFTER = 10.0  # seconds of traffic after the last fault
PAUSE = 10.0  # seconds before the first fault, and between two
BIN = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class FaultSetup:
    """The setting of all runs.

    Attributes
    ----------
    requests
        Per second, of all keys and nodes.
    on_store_failure
        What a hybrid answers without its store.
    log
        The log whose keys, costs and rhythm the traffic has; then `keys` does not count.
    """

    limit: str
    requests: float
    keys: int
    nodes: int
    on_store_failure: str
    faults: tuple[Fault, ...]
    seed: int
    log: LogTraffic | None = None

    @property
    def duration(self) -> float:
        """Seconds of traffic, until some time after the last fault."""
        return max(fault.start + fault.duration for fault in self.faults) + AFTER

    def trace(self) -> Trace | None:
        """Return the traffic that the log gives; None where there is no log."""
        return self.log.fitted(self.requests, self.duration, self.seed) if self.log else None

    @property
    def is_on_cluster(self) -> bool:
        """Whether Redis is a cluster: slots that move are a fault of nothing else."""
        return any(fault.kind == "reshard" for fault in self.faults)

    def scenario(self, faults: Sequence[Fault]) -> Scenario:
        """Poisson arrivals at any node, in one zone, until some time after the last fault, whether it happens or not."""
        limit = Limit.parse(self.limit)
        cluster = {"shards": PRIMARIES} if self.is_on_cluster else {}
        return Scenario.of(
            {
                "name": "faults",
                "seed": self.seed,
                "replications": 1,
                "workload": {"requests_per_second": self.requests, "keys": self.keys, "duration": self.duration},
                "limit": {"rate": f"{limit.rate:g}/{limit.period:g}s"},
                "deployment": {"nodes": self.nodes, "routing": "random", "network": "same_zone", **cluster},
                "faults": [fault.model_dump(exclude_unset=True) for fault in faults],
            }
        )

    def candidate(self, name: str) -> Candidate:
        """Return the default candidate with the given answer to a failure of its store."""
        (found,) = named(self.scenario(()), [name])
        if not found.storage.startswith("hybrid+"):
            return found
        return found.model_copy(update={"storage": f"{found.storage}&on_store_failure={self.on_store_failure}"})


def standard(nodes: int) -> tuple[Fault, ...]:
    """One failover of the store, one crash of a node, and 30 s in which a quarter of the nodes cannot reach the store."""
    cut = tuple(range(max(nodes // 4, 1)))
    failover = Fault(kind="failover", start=PAUSE, duration=5.0)
    restart = Fault(kind="restart", start=2 * PAUSE + 5.0, duration=5.0, nodes=(0,))
    partition = Fault(kind="partition", start=3 * PAUSE + 10.0, duration=30.0, nodes=cut)
    return failover, restart, partition


def faults_of(kind: str, start: float, duration: float, nodes: int) -> tuple[Fault, ...]:
    """Return the standard faults, or one fault of the given kind.

    Parameters
    ----------
    start, duration
        Seconds.

    Raises
    ------
    ScenarioError
        The kind is unknown, or the times are invalid.
    """
    if not kind:
        return standard(nodes)
    told: dict[str, Any] = {"kind": kind, "start": start, "duration": duration}
    if kind == "restart":
        told["nodes"] = (0,)
    if kind == "reshard":
        told["slots"] = SLOTS  # all of the first primary's
    if kind == "clock_skew":
        told |= {"nodes": (0,), "offset": 1.0}
    try:
        return (Fault.model_validate(told),)
    except ValueError as error:
        known = ", ".join(Fault.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
        raise ScenarioError(
            f"fault {shorten_repr(kind)} at {start:g} s for {duration:g} s: cannot be; kinds are {known}"
        ) from error


@dataclass(frozen=True, eq=False)
class FaultRun:
    """The run of one candidate.

    Attributes
    ----------
    phases
        The table of `RunResult.phases`.
    series
        The table of `RunResult.series` by the second. The column `due` counts the requests that an exact limiter would
        have admitted.
    short
        The share of the due requests that was not admitted during the faults.
    healthy, faulty
        Rows of `RunResult.row` without and with faults.
    """

    name: str
    backend: str
    phases: pd.DataFrame
    series: pd.DataFrame
    short: float
    healthy: dict[str, Any]
    faulty: dict[str, Any]

    @property
    def during(self) -> pd.DataFrame:
        """The phases in which a fault holds."""
        return self.phases[~self.phases["phase"].isin(["healthy", AROUND])]

    @property
    def failed(self) -> float:
        """The share of requests that got no decision, of those sent while a fault held."""
        return float(self.during["failed"].sum() / max(self.during["requests"].sum(), 1))

    @property
    def around(self) -> float:
        """The share of requests that got no decision, of those sent shortly before a fault or after it."""
        rows = self.phases[self.phases["phase"] == AROUND]
        return float(rows["failed"].sum() / max(rows["requests"].sum(), 1))

    @property
    def over(self) -> tuple[float, float]:
        """Over-admission without and with faults."""
        return float(self.healthy["over_admission"]), float(self.faulty["over_admission"])


@dataclass(frozen=True)
class FaultComparison:
    """given: the parameters, for reproducing."""

    setting: FaultSetup
    given: dict[str, Any]
    candidates: tuple[FaultRun, ...]


def compare_under_faults(
    fault: str = "",
    start: str | float = "10s",
    duration: str | float = "30s",
    nodes: int = 8,
    limit: str = "5/second",
    on_store_failure: str = "fail_open",
    requests: float = 60.0,
    keys: int = 10,
    seed: int = 1,
    **log_fields: str,
) -> FaultComparison:
    """All that the notebook shows, of the traffic of a log if `log_fields` (of `LogFields`) name one.

    Raises ScenarioError, InvalidLimitError, ConfigurationError, LogError and NotebookError for what cannot be.
    """
    given = {name: value for name, value in locals().items() if name != "log_fields"} | log_fields
    begin, length = float(seconds(start)), float(seconds(duration))
    given |= {"start": write_duration(begin), "duration": write_duration(length)}
    if not fault:
        del given["fault"], given["start"], given["duration"]
    faults = faults_of(fault, begin, length, nodes)
    setting = FaultSetup(
        limit=limit,
        requests=requests,
        keys=keys,
        nodes=nodes,
        on_store_failure=on_store_failure,
        faults=faults,
        seed=seed,
        log=LogFields(**log_fields).traffic(),
    )
    return FaultComparison(setting, given, tuple(_broken(setting, name) for name in NAMES))


def turned(setting: FaultSetup, names: Sequence[str], **changed: Any) -> tuple[FaultRun, ...]:
    """Run some candidates under another setting."""
    return tuple(_broken(replace(setting, **changed), name) for name in names)


def _broken(setting: FaultSetup, name: str) -> FaultRun:
    candidate, trace = setting.candidate(name), setting.trace()
    healthy = run(setting.scenario(()), candidate, trace=trace, progress=False).row()
    result = run(setting.scenario(setting.faults), candidate, trace=trace, progress=False)
    due = _due(result)
    series = result.series(BIN).assign(due=_binned(result, due))
    return FaultRun(
        name=name,
        backend=str(healthy["backend"]),
        phases=result.phases(),
        series=series,
        short=_short(series, setting.faults),
        healthy=healthy,
        faulty=result.row(),
    )


def _due(result: RunResult) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which requests an exact limiter would have admitted."""
    trace = result.trace
    skew = StorageURL.parse(result.candidate.storage).config.max_clock_skew
    limit = result.scenario.limit.limit()
    return exact(limit, trace.key, trace.time, trace.cost, len(trace.keys), max_clock_skew=skew)


def _binned(result: RunResult, due: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many of them in each bin of `series`, which has only bins in which something was asked."""
    bins = np.floor((result.trace.time - result.start_time) / BIN).astype(np.int64)
    counted = np.bincount(bins, due).astype(np.int64)
    return counted[np.unique(bins)]


def _short(series: pd.DataFrame, faults: Sequence[Fault]) -> float:
    """By what share less was admitted than was due, in the bins in which a fault held throughout."""
    begin = series["begin"]
    during = series[
        np.logical_or.reduce([(begin >= each.start) & (begin + BIN <= each.start + each.duration) for each in faults])
    ]
    due = float(during["due"].sum())
    return max(1.0 - float(during["admitted"].sum()) / due, 0.0) if due else 0.0
