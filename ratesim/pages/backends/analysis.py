"""Every storage, and a hybrid of each consistency, under the same traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ratesim.formatting import format_seconds
from ratesim.pages.scenario_parameters import scenario_from_parameters
from ratesim.recommendation.assess.assessment import Interval
from ratesim.recommendation.assess.model_error import LatencyError, latency_error
from ratesim.simulation.analysis.limit_pressure import LimitPressure, limit_pressure
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.results.histogram import Histogram
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.names import named_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["NAMES", "BackendResult", "Comparison", "compared", "named", "seen"]

STICKY = "memory, sticky"  # which needs several nodes
NAMES = (
    "memory",
    STICKY,
    "redis",
    "postgres",
    "hybrid strong",
    "hybrid lease 1 s",
    "hybrid session 100 ms",
    "hybrid eventual 100 ms",
    "hybrid eventual 1 s",
)


@dataclass(frozen=True, eq=False)
class BackendResult:
    """The results of one candidate.

    Attributes
    ----------
    backend
        memory, redis, postgres or hybrid.
    row
        The row of `RunResult.row`.
    latencies
        Seconds, one for each request.
    node, store
        Mean seconds for which one request occupies its node's processor, and the store.
    error
        The model's error of its latencies.
    """

    name: str
    backend: str
    row: dict[str, Any]
    latencies: Histogram
    node: float
    store: float
    error: LatencyError

    @property
    def p50_text(self) -> str:
        """The median of the latency in words; "at least" where it is a lower bound."""
        return _figure(float(self.row["latency_p50"]), self.error.p50, self.error.p50_is_lower_bound)

    @property
    def p99_text(self) -> str:
        """The 99th percentile in words, likewise."""
        return _figure(self.p99, self.error.p99, self.error.p99_is_lower_bound)

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return float(self.row["latency_p99"])

    @property
    def over(self) -> float:
        """The over-admission, as a share."""
        return float(self.row["over_admission"])

    @property
    def operations(self) -> float:
        """Operations at the store, per request."""
        return float(self.row["l2_operations_per_request"])


@dataclass(frozen=True)
class Comparison:
    """given: the parameters, for reproducing. binding: of `simulation.binding`."""

    scenario: Scenario
    given: dict[str, Any]
    seed: int
    requests: int
    keys: int
    source: str
    skipped: int
    limit_pressure: LimitPressure
    seen: tuple[BackendResult, ...]


def _figure(seconds: float, error: float, is_lower_bound: bool) -> str:
    return Interval(seconds, seconds, seconds, 1).with_model_error(error, is_lower_bound).figure(format_seconds)


def compared(seed: int = 0, **given: Any) -> Comparison:
    """All that the notebook shows. seed: the scenario's unless given. given: see `scenario_from_parameters`."""
    scenario = scenario_from_parameters(**given)
    parameters, seed = {**given, "seed": seed}, seed or scenario.seed
    trace = scenario.trace(seed)
    return Comparison(
        scenario=scenario,
        given=parameters,
        seed=seed,
        requests=len(trace),
        keys=len(trace.keys),
        source=trace.provenance.source,
        skipped=trace.provenance.skipped,
        limit_pressure=limit_pressure(scenario.limit.limit(), trace, scenario.warmup),
        seen=seen(scenario, scenario.candidates or named(scenario, NAMES), seed, trace),
    )


def named(scenario: Scenario, names: Sequence[str]) -> tuple[Candidate, ...]:
    """Those of the catalogue with these names."""
    known = named_candidates(scenario.model_copy(update={"candidates": ()}))
    return tuple(known[name] for name in names if name != STICKY or scenario.deployment.nodes > 1)


def seen(
    scenario: Scenario, candidates: Sequence[Candidate], seed: int, trace: Trace | None = None
) -> tuple[BackendResult, ...]:
    """Each of them once, under the same requests."""
    trace, profile = scenario.trace(seed) if trace is None else trace, Profile.load()
    return tuple(_seen(scenario, candidate, seed, trace, profile) for candidate in candidates)


def _seen(scenario: Scenario, candidate: Candidate, seed: int, trace: Trace, profile: Profile) -> BackendResult:
    result = run(scenario, candidate, seed, profile=profile, trace=trace, progress=False)
    row, url = result.row(), StorageURL.parse(candidate.storage)
    nodes = [account.totals.served for name, account in result.stations.items() if name.startswith("node")]
    return BackendResult(
        name=candidate.name,
        backend=url.backend if url.hybrid is None else "hybrid",
        row=row,
        latencies=result.histogram(),
        node=sum(nodes) / row["requests"],
        store=float(row["l2_busy_per_request"]),
        error=latency_error([row], profile),
    )
