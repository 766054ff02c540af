"""`RunResult`: the result of one run, request by request, and the views of it that a report or a doubt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratesim.safe_text import shorten_repr
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.queueing.station_stats import StationStats
from ratesim.simulation.results.accuracy import Accuracy
from ratesim.simulation.results.histogram import Histogram
from ratesim.simulation.results.run_detail import SERIES, TOP_KEYS, KeyExcess, RunDetail, bin_seconds, carried
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from ratesim.storage.config import ClientConfig
from traffic import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AROUND", "FaultAnswers", "RunResult", "SlowPhase", "aftermath", "jain"]

AROUND = "around a fault"  # the phase of requests that no fault struck, and that one may still have harmed


def aftermath(candidate: Candidate) -> float:
    """Return the seconds after a fault in which it may still harm: an answer is lost, and the store is left alone.

    That is `command_timeout` and then `breaker_reset`; of a candidate without a store those of any other, so that all
    candidates have the same phases.
    """
    config = StorageURL.parse(candidate.storage).config
    client = config if isinstance(config, ClientConfig) else ClientConfig()
    return client.command_timeout + client.breaker_reset


class SlowPhase(NamedTuple):
    """Times at which a server is slow, again and again: `lasts` seconds from `first` on, and so every `every` seconds."""

    cause: str
    first: float
    every: float
    lasts: float

    def holds(self, since: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Select the times, ascending in seconds since the first request, that lie in such a phase."""
        held = np.zeros(len(since), bool)
        if len(since):
            turns = np.arange(*((since[[0, -1]] - self.first) // self.every + (0, 1)))
            begins = self.first + turns * self.every
            for first, last in np.searchsorted(since, (begins, begins + self.lasts)).T.tolist():
                held[first:last] = True
        return held


class FaultAnswers(NamedTuple):
    """The requests without a decision, answered by the API itself, from the first fault's beginning to the last one's end.

    Attributes
    ----------
    open_over_admission
        Over-admission of that time if the API lets them through, as a share of what an exact limiter admits in it.
    closed_false_denial
        False denials of that time if it refuses them, as the same share.
    """

    open_over_admission: float
    closed_false_denial: float


@dataclass(frozen=True, kw_only=True, eq=False)
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
        Position in the order of decisions; 0 without a decision, also where a hybrid answered by `on_store_failure`.
    view_age : NDArray[np.float32] or None
        See `Decision`; None where nobody decides on a view.
    node : NDArray[np.int16]
        The node that served each.
    accuracy : Accuracy
        The admissions compared with the oracle's.
    granted : NDArray[np.bool_]
        Whether the oracle admitted each; false without a decision.
    excess : NDArray[np.float64] or None
        What each adds to the cost admitted beyond the oracle's (see `Comparison`); None if nothing was.
    partial : bool
        Whether the run was interrupted; then the rows are only the answered requests.
    in_flight : int
        Requests that had been sent and not answered.
    fault_answers : FaultAnswers or None
        What would be admitted and denied if the API answered requests without a decision itself; None without faults.
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
    engine, engine_reason : str
        What simulated, `simpy` or `compiled`, and why it was not the compiled one. No other attribute depends on it.
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
    granted: NDArray[np.bool_]
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
    excess: NDArray[np.float64] | None = None
    view_age: NDArray[np.float32] | None = None
    redirects: tuple[int, int] = (0, 0)
    slow_phases: tuple[SlowPhase, ...] = ()
    partial: bool = False
    in_flight: int = 0
    fault_answers: FaultAnswers | None = None
    events: int = 0
    fidelity: str = "model"
    server: str = ""
    engine: str = "simpy"
    engine_reason: str = ""

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
    def undecided(self) -> NDArray[np.bool_]:
        """The requests without a decision: an error, or what a hybrid answered by `on_store_failure`."""
        undecided: NDArray[np.bool_] = self.sequence == 0
        return undecided | self.failed

    @property
    def fail_open(self) -> NDArray[np.bool_]:
        """The requests that were admitted without a decision, because their store was unreachable."""
        return self.allowed & self.undecided

    @property
    def _admitted(self) -> NDArray[np.float64]:
        """The cost that was admitted, by request."""
        return self.trace.cost * self.allowed

    def row(self) -> dict[str, Any]:
        """Return the run as one row of a results table; times in seconds, sizes in bytes.

        Returns
        -------
        dict[str, Any]
            These columns:

            - candidate, backend, routing, storage, algorithm, seed: what was run. simulated_seconds: from the first
              request to the last. partial: whether the run was interrupted.
            - requests are admitted, denied or failed; in_flight come on top. fail_open: admitted requests without a
              decision, because the store was unreachable. errors: number of each kind, as text.
            - over_admission, false_denial, net_over_admission: shares of exact_total, see `Accuracy`. worst_excess: the
              busiest window over the limit, less 1. worst_key, worst_start: that window, as a time since the epoch.
            - jain_nodes, jain_keys: how even the shares are, of requests by node and of admitted cost by key.
            - latency_p50, latency_p90, latency_p99, latency_max: of requests with an answer; nan where there was none.
            - l2_operations_per_request, l2_busy_per_request: operations of the store, and its busy seconds.
              bytes_to_store_per_request, bytes_from_store_per_request: on the wire.
            - utilization: of the store, over the time of the trace. utilization_max: of its busiest primary. primaries: how
              many there are. replicas: of each. standby: what an answer of PostgreSQL waits for at its standby.
            - moved, asked: redirects of a cluster whose slots move.
            - node_utilization, node_utilization_max: of the nodes' processors, the mean and the busiest.
            - store_waiting: the mean number of batches that wait in the store. store_inside_max, node_inside_max: the most
              that waited or were served at once.
            - bytes_per_key: as measured for one. node_bytes (the mean), node_bytes_max, store_bytes: at the end.
            - view_age_*: seconds since the store was last heard of, at each decision; nan where nobody decides on a view.
            - asked_total: cost of all requests, as exact_total is the cost that an exact limiter admits.
            - faulty_*: of requests sent while a fault held; 0 where there were none. undecided: failed, or answered by
              `on_store_failure`. latency_p99: of the decided ones, nan where there were none. answer_p99: of all, until the
              decision, the other answer or the error. open_over_admission, closed_false_denial: see `FaultAnswers`.
            - stalled_*: of requests sent while the store was slow by its own work, a checkpoint or an autovacuum, see
              `stalls`.

            A table of runs has also engine, engine_reason: what simulated the run, and why it was SimPy. events: simulated
            ones.
        """
        requests = len(self.allowed)
        admitted = int(self.allowed.sum())
        failed = int(self.failed.sum())
        answered = self.latency[~self.failed]
        shares = [0.5, 0.9, 0.99, 1.0]
        p50, p90, p99, longest = np.quantile(answered, shares, overwrite_input=True) if len(answered) else [np.nan] * 4
        url = StorageURL.parse(self.candidate.storage)
        servers = self.scenario.servers(self.candidate)
        worst = self.accuracy.worst
        stores = [account.totals for name, account in self.stations.items() if name.startswith("store")]
        nodes = [account.totals for name, account in self.stations.items() if name.startswith("node")]
        busy = [node.served / max(self.trace.duration, 1e-9) for node in nodes]
        ages = self.ages()
        return {
            "candidate": self.candidate.name,
            "backend": self._backend(),
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
            "jain_nodes": jain(np.bincount(self.node, minlength=self.scenario.deployment.nodes).astype(np.float64)),
            "jain_keys": jain(np.bincount(self.trace.key, self._admitted, len(self.trace.keys)).astype(np.float64)),
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
        decided = self.latency[during & ~self.undecided]
        answers = self.fault_answers
        return {
            "faulty_requests": requests,
            "faulty_failed": int((during & self.failed).sum()),
            "faulty_undecided": int((during & self.undecided).sum()),
            "faulty_latency_p99": _quantile(decided, 0.99) if requests else 0.0,
            "faulty_answer_p99": _quantile(self.latency[during], 0.99) if requests else 0.0,
            "faulty_open_over_admission": 0.0 if answers is None else answers.open_over_admission,
            "faulty_closed_false_denial": 0.0 if answers is None else answers.closed_false_denial,
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

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each request, see `decisions`; times and latencies are in seconds."""
        return self.decisions()

    def __repr__(self) -> str:
        part = " (interrupted)" if self.partial else ""
        counts = f"{len(self.trace):,} requests, {self.allowed.sum():,} admitted, {self.failed.sum():,} failed"
        return f"RunResult({self.candidate.name} on {self.scenario.name}, seed {self.seed}{part}: {counts})"

    def _repr_html_(self) -> str:
        from ratesim.formatting import format_excess, format_metric
        from ratesim.views.html import card_html

        row = self.row()
        names = ("requests", "admitted", "denied", "failed", "latency_p50", "latency_p99", "over_admission", "false_denial")
        facts = [(name.replace("_", " "), format_metric(name, row[name])) for name in names]
        facts.append(("busiest window", format_excess(self.accuracy.worst_excess)))
        facts += [("storage", self.candidate.storage), ("decided by", self.server or self.fidelity)]
        note = "Interrupted: only the requests that had their answer." if self.partial else ""
        return card_html(f"{self.candidate.name} on {self.scenario.name}, seed {self.seed}", facts, note=note)

    def plot_latency(self, ax: Axes | None = None) -> Axes:
        """Draw the latency of decided requests by percentile."""
        from ratesim.views.plots import plot_percentiles

        answered = np.sort(self.latency[~self.failed])
        shares = carried(len(answered))
        seconds = np.quantile(answered, shares) if len(answered) else np.empty(0)
        name = self.candidate.name
        return plot_percentiles({name: (shares, seconds)}, {name: self._backend()}, ax)

    def plot_over_time(self, axes: Sequence[Axes] | None = None, seconds: float | None = None) -> tuple[Axes, Axes]:
        """Draw latency, and admitted, denied and failed requests, over time; in bins of so many seconds."""
        from ratesim.views.plots import plot_over_time

        return plot_over_time(self.series(seconds or bin_seconds(self.trace.duration)), axes)

    def plot_keys(self, ax: Axes | None = None) -> Axes:
        """Draw the keys that were admitted most beyond what an exact limiter admits to them."""
        from ratesim.views.plots import plot_keys

        keys = self.by_key()
        keys = keys[keys["requests"] > 0]
        return plot_keys([self.trace.keys[int(key)] for key in keys.index], keys["over_admitted"], keys["exact"], ax)

    def _backend(self) -> str:
        url = StorageURL.parse(self.candidate.storage)
        return url.backend if url.hybrid is None else "hybrid"

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
            latency_p99, exact_denied (decided requests that the oracle denies), over_admitted (cost beyond the oracle's).
        """
        if not isinstance(seconds, Real) or not seconds > 0:
            raise ValueError(f"seconds {shorten_repr(seconds)}: must be a number above 0")
        bins = np.floor((self.trace.time - self.start_time) / seconds).astype(np.int64)
        first = int(bins[0]) if len(bins) else 0
        bins -= first
        offered = np.bincount(bins)
        some = np.flatnonzero(offered)
        counts = {"admitted": self.allowed, "denied": ~self.allowed & ~self.failed, "failed": self.failed}
        latency = pd.Series(self.latency).groupby(bins).quantile([0.5, 0.99]).to_numpy().reshape(-1, 2)
        return pd.DataFrame(
            {
                "begin": (some + first) * seconds,
                "offered": offered[some],
                **{name: np.bincount(bins, rows)[some].astype(np.int64) for name, rows in counts.items()},
                "latency_p50": latency[:, 0],
                "latency_p99": latency[:, 1],
                "exact_denied": np.bincount(bins, ~self.granted & ~self.failed)[some].astype(np.int64),
                "over_admitted": 0.0 if self.excess is None else np.bincount(bins, self.excess)[some],
            }
        )

    def phases(self) -> pd.DataFrame:
        """Return the clients' experience without a fault, during each fault, and around faults.

        A request belongs to every fault that held when it was sent; a crash is over when a replica has taken over. Around a
        fault are those that were still under way when it began, and those that came within its `aftermath`.

        Returns
        -------
        pandas.DataFrame
            phase, requests, admitted, denied, failed, fail_open, latency_p50 and latency_p99 in seconds, of the decided
            requests; nan where none was decided.
        """
        faults, during = self.scenario.faults, self._during()
        named = [f"{fault.kind} at {fault.start:g} s" for fault in faults]
        everything = np.ones(len(self.trace), bool)
        none_holds = ~np.logical_or.reduce(during, axis=0) if during else everything
        around = none_holds & self._near_a_fault()
        parts = [("healthy", none_holds & ~around), *zip(named, during, strict=True)]
        parts += [(AROUND, around)] if faults else []
        rows = []
        for phase, rows_of in parts:
            requests, admitted, failed, unasked = (
                int(each[rows_of].sum()) for each in (everything, self.allowed, self.failed, self.fail_open)
            )
            decided = self.latency[rows_of & ~self.undecided]
            counts = (phase, requests, admitted, requests - admitted - failed, failed, unasked)
            rows.append((*counts, _quantile(decided, 0.5), _quantile(decided, 0.99)))
        return pd.DataFrame(
            rows, columns=["phase", "requests", "admitted", "denied", "failed", "fail_open", "latency_p50", "latency_p99"]
        )

    def _near_a_fault(self) -> NDArray[np.bool_]:
        """Select the requests that were under way when a fault began, and those that came soon after its end."""
        since = self.trace.time - self.start_time
        answered = since + np.nan_to_num(self.latency, nan=np.inf)
        near, after = np.zeros(len(self.trace), bool), aftermath(self.candidate)
        for each in self.scenario.effective_faults(self.candidate):
            end = each.start + each.duration
            near |= (since < each.start) & (answered >= each.start)
            near |= (since >= end) & (since < end + after)
        return near

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
        """Return for each node: requests, admitted (cost), latency_p50, latency_max (seconds, of decided requests)."""
        return self._by(self.node, self.scenario.deployment.nodes)

    def by_key(self) -> pd.DataFrame:
        """Return the columns of `by_node` for each key, by its place in `trace.keys`, and two more.

        They are exact (the oracle's cost) and over_admitted (the cost beyond it).
        """
        key, keys = self.trace.key, len(self.trace.keys)
        return self._by(key, keys).assign(
            exact=np.bincount(key, np.where(self.granted, self.trace.cost, 0.0), keys),
            over_admitted=0.0 if self.excess is None else np.bincount(key, self.excess, keys),
        )

    def detail(self) -> RunDetail:
        """Return what the pictures of a report show: latencies, the run over time, and the keys that got too much."""
        answered = np.sort(self.latency[~self.failed])
        key, keys = self.trace.key, len(self.trace.keys)
        requests = np.bincount(key, minlength=keys)
        exact = np.bincount(key, np.where(self.granted, self.trace.cost, 0.0), keys)
        over = np.zeros(keys) if self.excess is None else np.bincount(key, self.excess, keys)
        most = np.flatnonzero(over > 0)
        top = most[np.argsort(-over[most], kind="stable")][:TOP_KEYS].tolist()
        series = self.series(bin_seconds(self.trace.duration))
        return RunDetail(
            requests=len(answered),
            latency=tuple(np.quantile(answered, carried(len(answered))).tolist()) if len(answered) else (),
            bin_seconds=bin_seconds(self.trace.duration),
            series={name: series[name].tolist() for name in SERIES},
            keys_asked=int(np.count_nonzero(requests)),
            keys_over=len(most),
            keys=tuple(KeyExcess(self.trace.keys[i], int(requests[i]), float(exact[i]), float(over[i])) for i in top),
        )

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
                "admitted": np.bincount(group, self._admitted, groups),
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


def _quantile(latency: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(latency, share)) if len(latency) else np.nan


def jain(shares: NDArray[np.float64]) -> float:
    """Return Jain's fairness index, (sum x)^2 / (n * sum x^2).

    It is 1 if all shares are equal, 1/n if one has everything, and 1 for nothing (R. Jain, D. Chiu and W. Hawe, "A
    quantitative measure of fairness and discrimination", DEC-TR-301, 1984).
    """
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares > 0 else 1.0
