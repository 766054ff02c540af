"""`RunResult`: what came of one run, request by request, and the views of it that a report, or a doubt, asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.score import Score
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["RunResult", "jain"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run. Arrays have one row for each request of the trace.

    allowed: whether it was admitted; false also where no decision came. failed: whether none came; errors: how many, by
    kind. latency: seconds until the answer, or the error. sequence: the position in the order of decisions, 0 where none was
    taken. node: who served it. partial: it was interrupted, and the rows are only those of requests that had their answer.
    fidelity: what decided: model, fake or live; server: which one that was and its version, "" where none was asked.
    """

    scenario: Scenario
    candidate: Candidate
    seed: int
    trace: Trace
    allowed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    sequence: NDArray[np.int64]
    node: NDArray[np.int64]
    score: Score
    errors: dict[str, int]
    l2_operations: int
    l2_busy: float
    concurrency: int
    bytes_per_key: float
    partial: bool = False
    fidelity: str = "model"
    server: str = ""

    def __post_init__(self) -> None:
        """Nothing is lost or made up: every request was admitted, denied or failed, on some node, after some time."""
        unanswered = int(np.isnan(self.latency).sum())
        if unanswered or (self.node < 0).any() or sum(self.errors.values()) != int(self.failed.sum()):
            raise AssertionError(f"{unanswered} of {len(self.latency)} requests were never answered")
        if (self.allowed & self.failed).any() or (self.latency < 0).any():
            raise AssertionError("a request was both admitted and failed, or answered before it was sent")

    def row(self) -> dict[str, Any]:
        """The run as one row of a results table; times in seconds."""
        requests = len(self.allowed)
        admitted = int(self.allowed.sum())
        failed = int(self.failed.sum())
        answered = self.latency[~self.failed]
        p50, p90, p99, longest = np.quantile(answered, [0.5, 0.9, 0.99, 1.0]) if len(answered) else [np.nan] * 4
        url = StorageURL.parse(self.candidate.storage)
        asked = self.score.exact_total
        return {
            "candidate": self.candidate.name,
            "backend": url.backend if url.hybrid is None else "hybrid",
            "routing": self.candidate.routing or self.scenario.deployment.routing,
            "storage": self.candidate.storage,
            "seed": self.seed,
            "requests": requests,
            "admitted": admitted,
            "denied": requests - admitted - failed,
            "failed": failed,
            "exact_total": asked,
            "over_admission": self.score.over_admission,
            "false_denial": self.score.false_denial,
            "net_over_admission": self.score.net_over_admission,
            "worst_excess": self.score.worst_excess,
            "latency_p50": float(p50),
            "latency_p90": float(p90),
            "latency_p99": float(p99),
            "latency_max": float(longest),
            "l2_operations_per_request": self.l2_operations / requests,
            "l2_busy_per_request": self.l2_busy / requests,
            "utilisation": self.l2_busy / self.concurrency / max(self.trace.duration, 1e-9),
            "bytes_per_key": self.bytes_per_key,
            "simulated_seconds": self.trace.duration,
            "partial": self.partial,
        }

    def decisions(self) -> pd.DataFrame:
        """One row for each request, enough to audit any other number: time, key, cost, session, node, decision, sequence,
        latency in seconds, and decision is admitted, denied or failed."""
        trace = self.trace
        outcome = np.where(self.failed, 2, np.where(self.allowed, 0, 1))
        return pd.DataFrame(
            {
                "time": trace.time,
                "key": pd.Categorical.from_codes(trace.key, pd.Index(trace.keys)),
                "cost": trace.cost,
                "session": trace.session,
                "node": self.node,
                "decision": pd.Categorical.from_codes(outcome, pd.Index(["admitted", "denied", "failed"])),
                "sequence": self.sequence,
                "latency": self.latency,
            }
        )

    def series(self, seconds: float) -> pd.DataFrame:
        """By bins of so many seconds of the trace: begin, offered, admitted, denied, failed, latency_p50, latency_p99."""
        bins = np.floor((self.trace.time - self.trace.time[0]) / seconds).astype(np.int64)
        table = self.decisions().groupby(bins, observed=True)
        counted = table["decision"].value_counts().unstack(fill_value=0)
        found = pd.DataFrame({"begin": counted.index * seconds, "offered": counted.sum(axis=1)}, index=counted.index)
        for outcome in ("admitted", "denied", "failed"):
            found[outcome] = counted.get(outcome, 0)
        found["latency_p50"] = table["latency"].quantile(0.5)
        found["latency_p99"] = table["latency"].quantile(0.99)
        return found.reset_index(drop=True)

    def phases(self) -> pd.DataFrame:
        """What clients saw when all was well, and during each fault; latencies in seconds.

        A request belongs to every fault that held when it was sent.
        """
        since = self.trace.time - self.trace.time[0]
        faults = self.scenario.faults
        during = [(since >= fault.start) & (since < fault.start + fault.duration) for fault in faults]
        healthy = ~np.logical_or.reduce(during, axis=0) if during else np.ones(len(since), bool)
        named = [f"{fault.kind} at {fault.start:g} s" for fault in faults]
        rows = []
        for phase, rows_of in [("healthy", healthy), *zip(named, during, strict=True)]:
            requests, admitted, failed = (
                int(each[rows_of].sum()) for each in (np.ones_like(healthy), self.allowed, self.failed)
            )
            p50, p99 = np.quantile(self.latency[rows_of], [0.5, 0.99]) if requests else (np.nan, np.nan)
            counts = (phase, requests, admitted, requests - admitted - failed, failed)
            rows.append((*counts, float(p50), float(p99)))
        return pd.DataFrame(
            rows, columns=["phase", "requests", "admitted", "denied", "failed", "latency_p50", "latency_p99"]
        )

    def by_node(self) -> pd.DataFrame:
        """For each node: requests, admitted cost, the longest and the median latency."""
        return self._by(self.node, self.scenario.deployment.nodes)

    def by_key(self) -> pd.DataFrame:
        """The same for each key, by its index."""
        return self._by(self.trace.key, len(self.trace.keys))

    def _by(self, group: NDArray[np.int64], groups: int) -> pd.DataFrame:
        latency = pd.Series(self.latency).groupby(group)
        return pd.DataFrame(
            {
                "requests": np.bincount(group, minlength=groups),
                "admitted": np.bincount(group, np.where(self.allowed, self.trace.cost, 0.0), groups),
                "latency_p50": latency.median().reindex(range(groups)),
                "latency_max": latency.max().reindex(range(groups)),
            }
        )

    def worst(self) -> pd.DataFrame:
        """The admitted requests of the window that `score.worst_excess` speaks of; of no rows when nothing was admitted."""
        worst = self.score.worst
        rows = self.decisions()
        if worst is None:
            return rows.iloc[:0]
        time = self.trace.time
        within = (self.trace.key == worst.key) & (time >= worst.start) & (time < worst.end) & self.allowed
        return rows.iloc[np.flatnonzero(within)]


def jain(shares: NDArray[np.float64]) -> float:
    """Jain's fairness index, (sum x)^2 / (n * sum x^2): 1 when all have the same, 1/n when one has all; 1 for nothing.

    R. Jain, D. Chiu and W. Hawe, "A quantitative measure of fairness and discrimination", DEC-TR-301, 1984.
    """
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares > 0 else 1.0
