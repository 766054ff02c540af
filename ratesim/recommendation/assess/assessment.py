"""The assessment of one candidate: its figures over the seeds with their intervals, and a verdict on each requirement."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ratesim.formatting import (
    Format,
    format_count,
    format_excess,
    format_percent,
    format_range,
    format_seconds,
    format_within,
)
from ratesim.recommendation.assess.candidate_runs import runs_by_candidate
from ratesim.recommendation.assess.model_error import LatencyError, latency_error
from ratesim.recommendation.assess.persistence import LEVELS, Persistence, persistence
from ratesim.recommendation.assess.topology import Topology
from ratesim.storage import StorageURL
from ratesim.student_t import half_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Requirements

__all__ = ["Assessment", "Check", "Interval", "Undecided", "allowance", "assess", "student_interval", "uses"]

Verdict = Literal["passes", "fails", "too close to call"]
Undecided = Literal["", "seeds", "model error", "load"]

KINDS = {"memory": "memory", "redis": "Redis", "postgres": "PostgreSQL", "hybrid": "a hybrid"}
NEARLY_NONE = 1e-3  # an over-admission where none is allowed is weighed against this share, having no relative size


@dataclass(frozen=True)
class Interval:
    """The mean over seeds, and the 95 % t-interval around it; of a latency with the model's error at both ends.

    Attributes
    ----------
    mean
        The mean over the seeds.
    low, high
        Ends of the interval; the mean itself where there is one seed only and no model's error. `high` is inf for a lower
        bound.
    seeds
        How many values there are.
    spread
        Half the width of the interval of the seeds alone.
    is_lower_bound
        Whether it is a lower bound: the model was not validated at this load.
    """

    mean: float
    low: float
    high: float
    seeds: int
    spread: float = 0.0
    is_lower_bound: bool = False

    def with_model_error(self, error: float, is_lower_bound: bool = False) -> Interval:
        """Return the interval that has a relative error of the model as well, or is open at the top."""
        if not math.isfinite(self.mean):
            return self
        high = math.inf if is_lower_bound else self.high * (1.0 + error)
        return replace(self, low=self.low * max(1.0 - error, 0.0), high=high, is_lower_bound=is_lower_bound)

    def figure(self, unit: Format) -> str:
        """Return the mean in a unit; of a lower bound "at least" and the low end."""
        return f"at least {unit(self.low)}" if self.is_lower_bound else unit(self.mean)

    def text(self, unit: Format) -> str:
        """Return the figure, and the interval where it has a width; beside a lower bound what was simulated."""
        if self.is_lower_bound:
            return f"{self.figure(unit)} [{unit(self.mean)} simulated]"
        if self.low == self.high:
            return unit(self.mean)
        mean = format_within(self.mean, self.low, self.high, unit)
        return f"{mean} [{format_range(self.low, self.high, unit)}]"


@dataclass(frozen=True)
class Check:
    """One requirement against one candidate.

    Attributes
    ----------
    requirement, label
        The requirement as a field of `Requirements`, and in words.
    verdict
        Whether it is met.
    measured, evidence
        The figure, without and with its interval.
    required
        The threshold in words; "" without one.
    violation
        By what share the requirement is missed: 0 where it is met, inf where it is no matter of degree.
    margin
        Allowed / measured, of a latency allowed / the high end of its interval; inf for a measured zero, None without a
        number.
    undecided_by
        What leaves it too close to call: the seeds, the model's error, or a load at which the model was not validated; ""
        for nothing.
    """

    requirement: str
    label: str
    verdict: Verdict
    measured: str
    evidence: str
    required: str
    violation: float = 0.0
    margin: float | None = None
    undecided_by: Undecided = ""

    @property
    def distance(self) -> str:
        """The distance from the threshold, in words."""
        if self.margin is None or self.margin == math.inf:
            return f"as required ({self.required})"
        word = "comfortably" if self.margin >= 2 else "clearly" if self.margin >= 1.2 else "narrowly"
        return f"{word} within the threshold ({self.required})"


@dataclass(frozen=True)
class Assessment:
    """The figures of one candidate, means over the seeds, and its checks. Times are in seconds.

    Attributes
    ----------
    candidate, backend, routing, storage, algorithm
        The candidate.
    persistence
        What survives a failure.
    p50, p99
        Percentiles of the latency of a decision.
    over_admission, false_denial
        Share of the cost that an exact limiter would not have admitted, or not have denied.
    worst_excess
        The busiest window: the most admitted in any window of the limit's period, wherever it begins, over the limit, - 1.
    failed_share
        Share of the requests that got no decision.
    l2_operations_per_request, l2_busy_per_request
        Operations of the shared store, and seconds of its processor.
    bytes_per_key
        In the store and on the one node that knows the key.
    checks
        One for each requirement that applies.
    cost
        Of a month, in the currency of the prices; nan where none was worked out.
    blast_radius
        The largest affected share of the faults that were tried (see `FaultImpact`); None where none was tried.
    topology
        Of the shared store, as it was sized for the busiest second (see `Capacity`).
    servers
        Of the shared store, without replicas: the primaries of a cluster.
    replicas
        Of each server.
    standby
        What an answer of PostgreSQL waits for at its standby, as `synchronous_commit` names it; "" for nothing.
    model_error
        The model's error that is in the intervals of p50 and p99; None where the intervals are of the seeds alone.
    """

    candidate: str
    backend: str
    routing: str
    storage: str
    algorithm: str
    persistence: Persistence
    p50: Interval
    p99: Interval
    over_admission: Interval
    false_denial: Interval
    worst_excess: Interval
    failed_share: float
    l2_operations_per_request: float
    l2_busy_per_request: float
    bytes_per_key: float
    checks: tuple[Check, ...]
    cost: float = math.nan
    blast_radius: float | None = None
    topology: Topology = "none"
    servers: int = 0
    replicas: int = 0
    standby: str = ""
    model_error: LatencyError | None = None

    @property
    def missed(self) -> tuple[Check, ...]:
        """The requirements that it fails or is not shown to meet."""
        return tuple(check for check in self.checks if check.verdict != "passes")

    @property
    def passes(self) -> bool:
        """Whether every requirement is met for sure."""
        return not self.missed

    @property
    def fails(self) -> bool:
        """Whether a requirement is failed for sure."""
        return any(check.verdict == "fails" for check in self.checks)

    @property
    def undecided_by(self) -> frozenset[Undecided]:
        """What leaves requirements too close to call."""
        return frozenset(check.undecided_by for check in self.checks) - {""}

    @property
    def violation(self) -> float:
        """The sum of the violations of its checks."""
        return sum(check.violation for check in self.checks)


def student_interval(values: Iterable[float], least: float = 0.0) -> Interval:
    """Return the mean and its 95 % interval by Student's t.

    The interval does not reach below `least`, because what is measured does not. Values that are not all finite have no
    interval: after one run without an answer, or without bound, no mean is known.
    """
    known = [float(value) for value in values]
    n = len(known)
    if not all(map(math.isfinite, known)):
        mean = math.inf if math.inf in known else math.nan
        return Interval(mean, mean, mean, n)
    if n == 1 or min(known) == max(known):
        return Interval(known[0], known[0], known[0], n)
    mean, half = fmean(known), half_width(known)
    return Interval(mean, max(mean - half, least), mean + half, n, half)


def uses(storage: str) -> tuple[str, ...]:
    """Return the backends that a storage URL needs: memory, redis or postgres, with "hybrid" before it for a hybrid."""
    url = StorageURL.parse(storage)
    return (url.backend,) if url.hybrid is None else ("hybrid", url.backend)


def assess(
    results: pd.DataFrame,
    requirements: Requirements,
    nodes: int,
    costs: Mapping[str, float] | None = None,
    profile: Profile | None = None,
) -> tuple[Assessment, ...]:
    """Assess each candidate of a table of runs, in their order.

    Parameters
    ----------
    results
        One row for each candidate and seed.
    requirements
        The thresholds.
    nodes
        API nodes of the deployment.
    costs
        Of a month, by candidate.
    profile
        The profile of the runs, whose model's error then widens the intervals of latencies.
    """
    assessed = (_assess(rows, requirements, nodes, profile) for rows in runs_by_candidate(results).values())
    return tuple(replace(each, cost=(costs or {}).get(each.candidate, math.nan)) for each in assessed)


def _assess(
    rows: Sequence[Mapping[str, Any]], requirements: Requirements, nodes: int, profile: Profile | None
) -> Assessment:
    def values(name: str) -> list[float]:
        return [float(row[name]) for row in rows]

    first = rows[0]
    over = student_interval(values("over_admission"))
    p50, p99 = student_interval(values("latency_p50")), student_interval(values("latency_p99"))
    error = None if profile is None else latency_error(rows, profile)
    undecided: Undecided = "seeds"
    if error is not None:
        undecided = _undecided(p99, requirements.p99, error)
        p50 = p50.with_model_error(error.p50, error.p50_is_lower_bound)
        p99 = p99.with_model_error(error.p99, error.p99_is_lower_bound)
    failed = sum(values("failed")) / sum(values("requests"))
    storage, routing = str(first["storage"]), str(first["routing"])
    level = persistence(storage)
    checks = [
        _latency(p99, requirements.p99, failed, undecided),
        _misdecided(over, requirements.max_over_admission, "max_over_admission", "over-admission"),
    ]
    denial = student_interval(values("false_denial"))
    if requirements.max_false_denial is not None:
        checks.append(_misdecided(denial, requirements.max_false_denial, "max_false_denial", "false denial"))
    worst = student_interval(values("worst_excess"), least=-1.0)  # where nothing is admitted
    if requirements.max_worst_excess is not None:
        checks.append(_busiest(worst, requirements.max_worst_excess))
    checks.append(_persistence(level, requirements.persistence))
    checks.append(allowance(storage, requirements.allowed))
    per_key = fmean(values("bytes_per_key"))
    checks.append(_keys(storage, requirements.key_count, nodes if routing in ("sticky", "key_hash") else 1, per_key))
    return Assessment(
        candidate=str(first["candidate"]),
        backend=str(first["backend"]),
        routing=routing,
        storage=storage,
        algorithm=str(first["algorithm"]),
        persistence=level,
        p50=p50,
        p99=p99,
        over_admission=over,
        false_denial=denial,
        worst_excess=worst,
        failed_share=failed,
        l2_operations_per_request=fmean(values("l2_operations_per_request")),
        l2_busy_per_request=fmean(values("l2_busy_per_request")),
        bytes_per_key=per_key,
        checks=tuple(check for check in checks if check is not None),
        model_error=error,
    )


def _straddles(value: Interval, allowed: float) -> Verdict:
    if value.high <= allowed:
        return "passes"
    return "fails" if value.low > allowed else "too close to call"


def _finer(unit: Format, value: Interval, allowed: float) -> Format:
    """Return the unit with as many digits as tell a figure from what is allowed: "3.004 ms (3 ms allowed)"."""
    shown = value.low if value.is_lower_bound else value.mean
    if shown == allowed or unit(shown) != unit(allowed):
        return unit
    return next((finer for digits in range(3, 7) if (finer := partial(unit, digits=digits))(shown) != finer(allowed)), unit)


def _undecided(seeds: Interval, allowed: float | None, error: LatencyError) -> Undecided:
    """Return what leaves a p99 open that is too close to call: whether it would be with any number of seeds."""
    if error.p99_is_lower_bound:
        return "load"
    settled = Interval(seeds.mean, seeds.mean, seeds.mean, seeds.seeds).with_model_error(error.p99)
    return "model error" if allowed is not None and settled.low <= allowed < settled.high else "seeds"


def _latency(p99: Interval, allowed: float | None, failed: float, undecided: Undecided) -> Check | None:
    unit = format_seconds if allowed is None else _finer(format_seconds, p99, allowed)
    measured, evidence = f"p99 {p99.figure(unit)}", f"p99 {p99.text(unit)}"
    if failed >= 0.01 or not math.isfinite(p99.mean):  # then the 99th percentile of all requests has no answer in it
        text = f"{format_percent(failed)} of the requests get no decision"
        return Check(
            "p99", "p99", "fails", text, text, f"{format_seconds(allowed)} allowed" if allowed else "99 % must", math.inf
        )
    if allowed is None:
        return Check("p99", "p99", "passes", measured, evidence, "")
    verdict = _straddles(p99, allowed)
    return Check(
        "p99",
        "p99",
        verdict,
        measured,
        evidence,
        f"{format_seconds(allowed)} allowed",
        max(p99.mean / allowed - 1, 0.0),
        allowed / p99.high if p99.high else math.inf,
        undecided if verdict == "too close to call" else "",
    )


def _misdecided(value: Interval, allowed: float | None, requirement: str, label: str) -> Check:
    """Check the share of the exact cost that is admitted beyond it, or denied without need."""
    unit = format_percent if allowed is None else _finer(format_percent, value, allowed)
    measured, evidence = f"{label} {unit(value.mean)}", f"{label} {value.text(unit)}"
    if allowed is None:
        return Check(requirement, label, "passes", measured, evidence, "")
    if allowed == 0:  # exactly none, in every seed
        verdict: Verdict = "passes" if value.mean == 0 else "fails"
        margin = math.inf if value.mean == 0 else 0.0
        return Check(requirement, label, verdict, measured, evidence, "none allowed", value.mean / NEARLY_NONE, margin)
    violation, margin = max(value.mean / allowed - 1, 0.0), allowed / value.mean if value.mean else math.inf
    verdict = _straddles(value, allowed)
    required = f"{format_percent(allowed)} allowed"
    undecided: Undecided = "seeds" if verdict == "too close to call" else ""
    return Check(requirement, label, verdict, measured, evidence, required, violation, margin, undecided)


def _busiest(value: Interval, allowed: float) -> Check:
    """Check the busiest window of the limit's period, whether the storage or the algorithm lets it be so busy."""
    verdict, unit = _straddles(value, allowed), _finer(format_excess, value, allowed)
    return Check(
        "max_worst_excess",
        "busiest window",
        verdict,
        f"busiest window {value.figure(unit)}",
        f"busiest window {value.text(unit)}",
        f"{format_excess(allowed)} allowed",
        max((1.0 + value.mean) / (1.0 + allowed) - 1.0, 0.0),
        allowed / value.mean if value.mean > 0 else math.inf,
        "seeds" if verdict == "too close to call" else "",
    )


def _persistence(level: Persistence, required: Persistence) -> Check | None:
    if required == "none":
        return None
    enough = LEVELS.index(level) >= LEVELS.index(required)
    text = f"{level} persistence" if level != "none" else "no persistence"
    threshold = "" if level == required else f"{required} required"
    return Check(
        "persistence", "persistence", "passes" if enough else "fails", text, text, threshold, 0.0 if enough else math.inf
    )


def allowance(storage: str, allowed: Sequence[str]) -> Check | None:
    """Check whether the backends that a storage needs may be used; None where all may. No run is needed for that."""
    barred = [kind for kind in KINDS if kind not in allowed]
    if not barred:
        return None
    needed = [KINDS[kind] for kind in uses(storage) if kind in barred]
    without = f"without {' and '.join(KINDS[kind] for kind in barred)}"
    if not needed:
        return Check("allowed", "allowed backends", "passes", without, without, "")
    text = f"needs {' and '.join(needed)}"
    return Check("allowed", "allowed backends", "fails", text, text, f"{without}, as required", math.inf)


def _keys(storage: str, required: int | None, share_of: int, bytes_per_key: float) -> Check | None:
    """Only memory can be too small: it then evicts live keys and forgets their counts."""
    if required is None or urlsplit(storage).scheme != "memory":
        return None
    config = StorageURL.parse(storage).config
    held = config.max_entries
    if config.memory_limit is not None and bytes_per_key > 0:  # nan is not
        held = min(held, int(config.memory_limit / bytes_per_key))
    room = held * share_of
    if room >= required:
        return None
    text = f"room for {format_count(room, 'key')}"
    return Check("key_count", "key count", "fails", text, text, f"{required:,} required", required / max(room, 1) - 1)
