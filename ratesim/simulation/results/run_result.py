"""`RunResult`: the result of one run, request by request, and the views of it that a report or a doubt asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.queueing.station_stats import StationStats
from ratesim.simulation.results.accuracy import Accuracy
from ratesim.simulation.results.histogram import Histogram
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["RunResult", "SlowPhase", "jain"]


class SlowPhase(NamedTuple):
    """Times at which a server is slow, again and again: `lasts` seconds from `first` on, and so every `every` seconds."""

    cause: str
    first: float
    every: float
    lasts: float

    def holds(self, since: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Select the times, in seconds since the first request, that lie in such a phase."""
        return (since - self.first) % self.every < self.lasts


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run. Arrays have one row for each request of the trace after the warm-up.

    Attributes
    ----------
    scenario, candidate, seed
        The question.
    start_time : float
        When the first request was due, that of the warm-up, in seconds since the epoch; faults count from there.
    trace : Trace
        The requests.
    allowed : NDArray[np.bool_]
        Whether each was admitted; false also without a decision.
    failed : NDArray[np.bool_]
        Whether no decision came.
    errors : dict[str, int]
        Number of failures by kind.
    latency : NDArray[np.float64]
        Seconds until the answer, or the error.
    sequence : NDArray[np.int64]
        Position in the order of decisions; 0 without a decision.
    view_age : NDArray[np.float32] or None
        See `Decision`; None where nobody decides on a view.
    node : NDArray[np.int16]
        The node that served each.
    accuracy : Accuracy
        The admissions compared with the oracle's.
    partial : bool
        Whether the run was interrupted; then the rows are only the answered requests.
    in_flight : int
        Requests that had been sent and not answered.
    stations : dict[str, StationStats]
        Statistics of "store" ("store 0" and so on, if there are several), "node 0" and so on.
    l2_operations, store_busy_seconds, concurrency
        Operations of the store, its busy seconds, and the number that it serves at once.
    bytes_to_store, bytes_from_store : int
        Bytes on the wire (see `network/wire_size.py`) of the messages that reached the store.
    bytes_per_key : float
        Bytes of one key in the store, as measured.
    redirects : tuple[int, int]
        Redirects of a cluster whose slots move that the nodes' clients followed, with the warm-up: MOVED, and ASK.
    slow_phases : tuple[SlowPhase, ...]
        When the store was slow by its own work.
    node_bytes : NDArray[np.int64]
        Bytes of each node's own entries at the end, shape (nodes,).
    store_bytes : float
        Bytes of the store with every key that occurred, as measured for one key.
    events : int
        Simulated moments: arrivals of requests, and SimPy's events.
    fidelity : str
        The decider: model, fake or live.
    server : str
        Its name and version; "" if no server was asked.
    """

    scenario: Scenario
    candidate: Candidate
    seed: int
    start_time: float
    trace: Trace
    allowed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    sequence: NDArray[np.int64]
    node: NDArray[np.int16]
    accuracy: Accuracy
    errors: dict[str, int]
    l2_operations: int
    store_busy_seconds: float
    concurrency: int
    bytes_per_key: float
    stations: dict[str, StationStats]
    bytes_to_store: int
    bytes_from_store: int
    node_bytes: NDArray[np.int64]
    store_bytes: float
    view_age: NDArray[np.float32] | None = None
    redirects: tuple[int, int] = (0, 0)
    slow_phases: tuple[SlowPhase, ...] = ()
    partial: bool = False
    in_flight: int = 0
    events: int = 0
    fidelity: str = "model"
    server: str = ""

    def __post_init__(self) -> None:
        """Check that every request was admitted, denied or failed, on some node, after some time."""
        unanswered = int((~(self.latency >= 0.0)).sum())
        if unanswered or (self.node < 0).any() or sum(self.errors.values()) != int(self.failed.sum()):
            raise AssertionError(f"{unanswered} of {len(self.latency)} requests were never answered")
        if (self.allowed & self.failed).any():
            raise AssertionError("a request was both admitted and failed")
        if not len(self.trace) == len(self.allowed) == len(self.failed) == len(self.sequence) == len(self.node):
            raise AssertionError(f"{len(self.trace)} requests were asked, and something else was answered")

    @property
    def fail_open(self) -> NDArray[np.bool_]:
        """The requests that were admitted without a decision, because their store was unreachable."""
        undecided: NDArray[np.bool_] = self.sequence == 0
        return self.allowed & undecided

    def row(self) -> dict[str, Any]:
        """Return the run as one row of a results table; times in seconds, sizes in bytes.

        Returns
        -------
        dict[str, Any]
            Among others:

            - requests are admitted, denied or failed; in_flight come on top. fail_open: admitted requests without a
              decision, because the store was unreachable. errors: number of each kind, as text.
            - worst_key, worst_start: the window of worst_excess, as a time since the epoch.
            - jain_nodes, jain_keys: how even the shares are, of requests by node and of admitted cost by key.
            - utilization: of the store, over the time of the trace. utilization_max: of its busiest primary. primaries: how
              many there are. replicas: of each. standby: what an answer of PostgreSQL waits for at its standby.
            - moved, asked: redirects of a cluster whose slots move.
            - node_utilization and _max: of the nodes' processors, the mean and the busiest.
            - store_waiting: the mean number of batches that wait in the store. store_inside_max, node_inside_max: the most
              that waited or were served at once.
            - bytes_per_key: as measured for one. node_bytes (the mean) and _max, store_bytes: at the end.
            - view_age_*: seconds since the store was last heard of, at each decision; nan where nobody decides on a view.
            - asked_total: cost of all requests, as exact_total is the cost that an exact limiter admits.
            - faulty_*: of requests sent while a fault held, failed ones included; 0 where there were none.
            - stalled_*: of requests sent while the store was slow by its own work, a checkpoint or an autovacuum, see
              `stalls`.
        """
        requests = len(self.allowed)
        admitted = int(self.allowed.sum())
        failed = int(self.failed.sum())
        answered = self.latency[~self.failed]
        p50, p90, p99, longest = np.quantile(answered, [0.5, 0.9, 0.99, 1.0]) if len(answered) else [np.nan] * 4
        url = StorageURL.parse(self.candidate.storage)
        servers = self.scenario.servers(self.candidate)
        worst = self.accuracy.worst
        stores = [account.totals for name, account in self.stations.items() if name.startswith("store")]
        nodes = [account.totals for name, account in self.stations.items() if name.startswith("node")]
        busy = [node.served / max(self.trace.duration, 1e-9) for node in nodes]
        ages = self.ages()
        return {
            "candidate": self.candidate.name,
            "backend": url.backend if url.hybrid is None else "hybrid",
            "routing": self.candidate.routing or self.scenario.deployment.routing,
            "storage": self.candidate.storage,
            "algorithm": self.scenario.limit.algorithm,
            "seed": self.seed,
            "requests": requests,
            "admitted": admitted,
            "denied": requests - admitted - failed,
            "failed": failed,
            "in_flight": self.in_flight,
            "fail_open": int(self.fail_open.sum()),
            "errors": ", ".join(f"{kind} {count}" for kind, count in sorted(self.errors.items())),
            "asked_total": float(self.trace.cost.sum()),
            "exact_total": self.accuracy.exact_total,
            "over_admission": self.accuracy.over_admission,
            "false_denial": self.accuracy.false_denial,
            "net_over_admission": self.accuracy.net_over_admission,
            "worst_excess": self.accuracy.worst_excess,
            "worst_key": self.trace.keys[worst.key] if worst else None,
            "worst_start": worst.start if worst else np.nan,
            "jain_nodes": jain(self.by_node()["requests"].to_numpy(float)),
            "jain_keys": jain(self.by_key()["admitted"].to_numpy(float)),
            "latency_p50": float(p50),
            "latency_p90": float(p90),
            "latency_p99": float(p99),
            "latency_max": float(longest),
            "l2_operations_per_request": self.l2_operations / requests,
            "l2_busy_per_request": self.store_busy_seconds / requests,
            "utilization": self.store_busy_seconds / self.concurrency / max(self.trace.duration, 1e-9),
            "utilization_max": max((store.served for store in stores), default=0.0)
            / (self.concurrency / max(len(stores), 1))
            / max(self.trace.duration, 1e-9),
            "primaries": len(stores),
            "replicas": servers.replicas if url.backend != "memory" else 0,
            "standby": servers.standby,
            "moved": self.redirects[0],
            "asked": self.redirects[1],
            "store_waiting": float(sum((store.inside - store.served) / max(store.seconds, 1e-9) for store in stores)),
            "store_inside_max": max((store.peak for store in stores), default=0),
            "node_utilization": float(np.mean(busy)),
            "node_utilization_max": max(busy),
            "node_inside_max": max(node.peak for node in nodes),
            "bytes_to_store_per_request": self.bytes_to_store / requests,
            "bytes_from_store_per_request": self.bytes_from_store / requests,
            "bytes_per_key": self.bytes_per_key,
            "node_bytes": float(self.node_bytes.mean()),
            "node_bytes_max": int(self.node_bytes.max()),
            "store_bytes": self.store_bytes,
            "view_age_p50": ages.quantile(0.5) if ages else np.nan,
            "view_age_p99": ages.quantile(0.99) if ages else np.nan,
            "view_age_max": ages.quantile(1.0) if ages else np.nan,
            "simulated_seconds": self.trace.duration,
            **self._faulty(),
            **self._stalled(),
            "partial": self.partial,
        }

    def _faulty(self) -> dict[str, Any]:
        during = np.logical_or.reduce(self._during(), axis=0) if self.scenario.faults else np.zeros(len(self.trace), bool)
        requests = int(during.sum())
        return {
            "faulty_requests": requests,
            "faulty_failed": int((during & self.failed).sum()),
            "faulty_latency_p99": float(np.quantile(self.latency[during], 0.99)) if requests else 0.0,
        }

    def _stalled(self) -> dict[str, Any]:
        during = self._in_slow_phases().any(axis=0)
        requests = int(during.sum())
        return {
            "stalled_requests": requests,
            "stalled_latency_p99": float(np.quantile(self.latency[during], 0.99)) if requests else 0.0,
        }

    def _in_slow_phases(self) -> NDArray[np.bool_]:
        """Select, for each slow phase, the requests sent in it; shape (slow phases, requests)."""
        since = self.trace.time - self.start_time
        return np.array([phase.holds(since) for phase in self.slow_phases], bool).reshape(-1, len(since))

    def _during(self) -> list[NDArray[np.bool_]]:
        """Select, for each fault, the requests sent while it held; a crash is over when a replica has taken over."""
        since, faults = self.trace.time - self.start_time, self.scenario.effective_faults(self.candidate)
        return [(since >= each.start) & (since < each.start + each.duration) for each in faults]

    def decisions(self) -> pd.DataFrame:
        """Return one row for each request, enough to audit any other number.

        Returns
        -------
        pandas.DataFrame
            time, key, cost, session, node, decision, sequence, latency and view_age in seconds. decision is admitted, denied
            or failed; view_age is nan where no view was involved.
        """
        trace = self.trace
        outcome = np.where(self.failed, 2, np.where(self.allowed, 0, 1))
        age = np.full(len(outcome), np.nan, np.float32) if self.view_age is None else self.view_age
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
                "view_age": age,
            }
        )

    def histogram(self) -> Histogram:
        """Histogram of the latencies of decided requests, in seconds; those of several runs can be added."""
        return Histogram.of(self.latency[~self.failed])

    def ages(self) -> Histogram | None:
        """Histogram of the ages of the views that decisions were based on, in seconds; None where nobody decides on a view.

        The age counts from when the node heard of the store, so the store's time on the way is not in it. It is inf where
        the node never had.
        """
        if self.view_age is None:
            return None
        return Histogram.of(self.view_age[~np.isnan(self.view_age)])

    def queues(self) -> pd.DataFrame:
        """Return one row for each station, the store and the nodes' processors; see `StationStats.summary`."""
        return pd.DataFrame([{"station": name, **account.summary()} for name, account in self.stations.items()])

    def queue(self, station: str = "store") -> pd.DataFrame:
        """Return a station over time, in bins; see `StationStats.series`.

        Raises KeyError for a station that this run does not have.
        """
        return self.stations[station].series()

    def series(self, seconds: float) -> pd.DataFrame:
        """Return the run over time, in bins of so many seconds.

        Returns
        -------
        pandas.DataFrame
            begin (seconds after the first request, that of the warm-up), offered, admitted, denied, failed, latency_p50,
            latency_p99.
        """
        bins = np.floor((self.trace.time - self.start_time) / seconds).astype(np.int64)
        table = self.decisions().groupby(bins, observed=True)
        counted = table["decision"].value_counts().unstack(fill_value=0)
        found = pd.DataFrame({"begin": counted.index * seconds, "offered": counted.sum(axis=1)}, index=counted.index)
        for outcome in ("admitted", "denied", "failed"):
            found[outcome] = counted.get(outcome, 0)
        found["latency_p50"] = table["latency"].quantile(0.5)
        found["latency_p99"] = table["latency"].quantile(0.99)
        return found.reset_index(drop=True)

    def phases(self) -> pd.DataFrame:
        """Return the clients' experience without a fault, and during each fault; latencies in seconds.

        A request belongs to every fault that held when it was sent; a crash is over when a replica has taken over.
        """
        faults, during = self.scenario.faults, self._during()
        healthy = ~np.logical_or.reduce(during, axis=0) if during else np.ones(len(self.trace), bool)
        named = [f"{fault.kind} at {fault.start:g} s" for fault in faults]
        rows = []
        for phase, rows_of in [("healthy", healthy), *zip(named, during, strict=True)]:
            requests, admitted, failed, unasked = (
                int(each[rows_of].sum()) for each in (np.ones_like(healthy), self.allowed, self.failed, self.fail_open)
            )
            p50, p99 = np.quantile(self.latency[rows_of], [0.5, 0.99]) if requests else (np.nan, np.nan)
            counts = (phase, requests, admitted, requests - admitted - failed, failed, unasked)
            rows.append((*counts, float(p50), float(p99)))
        return pd.DataFrame(
            rows, columns=["phase", "requests", "admitted", "denied", "failed", "fail_open", "latency_p50", "latency_p99"]
        )

    def stalls(self) -> pd.DataFrame:
        """Return the clients' experience while the store was slow by its own work, and without that.

        Returns
        -------
        pandas.DataFrame
            cause (none, or what the profile calls it: checkpoint, autovacuum), seconds (for which it held while requests
            came), requests (sent in it; a request may be in several), latency_p50, latency_p99.
        """
        during = self._in_slow_phases()
        moments = np.linspace(0.0, self.trace.duration, 100_000) + float(self.trace.time[0]) - self.start_time
        held = np.array([phase.holds(moments) for phase in self.slow_phases], bool).reshape(-1, len(moments))
        rows = []
        causes = [("none", ~during.any(axis=0), ~held.any(axis=0))]
        causes += zip([phase.cause for phase in self.slow_phases], during, held, strict=True)
        for cause, rows_of, time in causes:
            requests = int(rows_of.sum())
            p50, p99 = np.quantile(self.latency[rows_of], [0.5, 0.99]) if requests else (np.nan, np.nan)
            rows.append((cause, float(time.mean() * self.trace.duration), requests, float(p50), float(p99)))
        return pd.DataFrame(rows, columns=["cause", "seconds", "requests", "latency_p50", "latency_p99"])

    def by_node(self) -> pd.DataFrame:
        """Return for each node: requests, admitted cost, the longest and the median latency."""
        return self._by(self.node, self.scenario.deployment.nodes)

    def by_key(self) -> pd.DataFrame:
        """Return the same for each key, by its index."""
        return self._by(self.trace.key, len(self.trace.keys))

    def by_shard(self) -> pd.DataFrame:
        """Return how a cluster shares the load: one row for each primary, by where keys belong before slots move.

        Returns
        -------
        pandas.DataFrame
            shard, keys, requests, utilization (of the primary, over the time of the trace), hottest_key, and hottest_share:
            the part of all requests that is for that key. A key lives on one primary, however many there are.
        """
        stores = [account.totals for name, account in self.stations.items() if name.startswith("store")]
        config = StorageURL.parse(self.candidate.storage).config
        requests = np.bincount(self.trace.key, minlength=len(self.trace.keys))
        owner = np.zeros(len(requests), np.int64)
        if len(stores) > 1:
            owner[:] = [shard_of(key, len(stores), config.key_prefix) for key in self.trace.keys]
        rows = []
        for shard, store in enumerate(stores):
            mine = np.flatnonzero((owner == shard) & (requests > 0))
            hottest = int(mine[requests[mine].argmax()]) if len(mine) else None
            name, share = (None, 0.0) if hottest is None else (self.trace.keys[hottest], requests[hottest] / len(self.trace))
            utilization = store.served / (self.concurrency / len(stores)) / max(self.trace.duration, 1e-9)
            rows.append((shard, len(mine), int(requests[mine].sum()), utilization, name, float(share)))
        columns = ["shard", "keys", "requests", "utilization", "hottest_key", "hottest_share"]
        return pd.DataFrame(rows, columns=columns)

    def _by(self, group: NDArray[np.integer[Any]], groups: int) -> pd.DataFrame:
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
        """Return the admitted requests of the window of `accuracy.worst_excess`; no rows if nothing was admitted."""
        worst = self.accuracy.worst
        rows = self.decisions()
        if worst is None:
            return rows.iloc[:0]
        time = self.trace.time
        within = (self.trace.key == worst.key) & (time >= worst.start) & (time < worst.end) & self.allowed
        return rows.iloc[np.flatnonzero(within)]


def jain(shares: NDArray[np.float64]) -> float:
    """Return Jain's fairness index, (sum x)^2 / (n * sum x^2).

    It is 1 if all shares are equal, 1/n if one has everything, and 1 for nothing (R. Jain, D. Chiu and W. Hawe, "A
    quantitative measure of fairness and discrimination", DEC-TR-301, 1984).
    """
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares > 0 else 1.0
