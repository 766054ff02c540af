"""The evidence for one candidate: its figures over the seeds with their intervals, and each requirement's verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

from ratesim.formatting import format_percent, format_range, format_seconds
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

    from ratesim.simulation.scenario.scenario import Requirements

__all__ = ["Assessment", "Check", "Interval", "allowance", "assess", "persistence", "student_interval", "uses"]

Verdict = Literal["passes", "fails", "too close to call"]
Persistence = Literal["none", "session", "durable"]

KINDS = {"memory": "memory", "redis": "Redis", "postgres": "PostgreSQL", "hybrid": "a hybrid"}  # as they are said
LEVELS: tuple[Persistence, ...] = ("none", "session", "durable")
NEARLY_NONE = 1e-3  # an over-admission where none is allowed is weighed against this share, having no relative size

# Student's t, 97.5 %, for 1 to 10 degrees of freedom: Abramowitz & Stegun, Handbook of Mathematical Functions, table 26.10.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Interval:
    """The mean over seeds, and the 95 % t-interval around it; of one seed only the mean is known."""

    mean: float
    low: float
    high: float
    seeds: int

    def text(self, unit: Callable[[float], str]) -> str:
        """The mean, and the interval where it has a width."""
        if self.low == self.high:
            return unit(self.mean)
        return f"{unit(self.mean)} [{format_range(self.low, self.high, unit)}]"


@dataclass(frozen=True)
class Check:
    """One requirement against one candidate.

    measured, evidence: the figure, without and with its interval. violation: by what share the requirement is missed, 0
    where it is met, inf where it is no matter of degree. margin: allowed / measured; inf for a zero, None without a number.
    """

    requirement: str
    label: str
    verdict: Verdict
    measured: str
    evidence: str
    required: str
    violation: float = 0.0
    margin: float | None = None

    @property
    def distance(self) -> str:
        """How far from the threshold, in words."""
        if self.margin is None or self.margin == math.inf:
            return f"as required ({self.required})"
        word = "comfortably" if self.margin >= 2 else "clearly" if self.margin >= 1.2 else "narrowly"
        return f"{word} within the threshold ({self.required})"


@dataclass(frozen=True)
class Assessment:
    """One candidate: mean figures over the seeds, times in seconds, and its checks.

    worst_excess: the most admitted in any window of the limit's period, wherever it begins, over the rate, minus 1.
    cost: of a month, in the currency of the prices; nan where none was worked out. blast: of the faults that were tried, in
    the worst the requests that were harmed by it over those that came meanwhile (see harm.py); None where none was tried.
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
    worst_excess: float
    failed_share: float
    l2_operations_per_request: float
    l2_busy_per_request: float
    bytes_per_key: float
    checks: tuple[Check, ...]
    cost: float = math.nan
    blast_radius: float | None = None

    @property
    def missed(self) -> tuple[Check, ...]:
        """What it fails, or is not shown to meet."""
        return tuple(check for check in self.checks if check.verdict != "passes")

    @property
    def passes(self) -> bool:
        return not self.missed

    @property
    def fails(self) -> bool:
        """Whether something is failed for sure."""
        return any(check.verdict == "fails" for check in self.checks)

    @property
    def violation(self) -> float:
        """What it misses in all: the sum over its checks."""
        return sum(check.violation for check in self.checks)


def student_interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % interval by Student's t; not below 0, as what is measured here cannot be. Of values that are not all
    finite there is none: after one run without any answer, or without bound, no mean is known."""
    known = [float(value) for value in values]
    n = len(known)
    if not all(map(math.isfinite, known)):
        mean = math.inf if math.inf in known else math.nan
        return Interval(mean, mean, mean, n)
    mean = fmean(known)
    if n == 1 or min(known) == max(known):
        return Interval(known[0], known[0], known[0], n)
    half = _t(n - 1) * stdev(known) / math.sqrt(n)
    return Interval(mean, max(mean - half, 0.0), mean + half, n)


def _t(freedom: int) -> float:
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = NormalDist().inv_cdf(0.975)  # the expansion of Abramowitz & Stegun 26.7.5, good to three digits from here on
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def persistence(storage: str) -> Persistence:
    """What survives. session: the state outlives the API node that wrote it, as in Redis and in a hybrid over it (an
    eventual one loses at most what was not flushed); durable: it outlives the store too. Of PostgreSQL an unlogged table or
    `synchronous_commit=off` is not durable, nor is what an eventual hybrid has not flushed."""
    scheme, options = urlsplit(storage).scheme, dict(parse_qsl(urlsplit(storage).query))
    if scheme == "memory":
        return "none"
    if not scheme.removeprefix("hybrid+").startswith("postgres"):
        return "session"
    weak = options.get("unlogged", "false").lower() in ("true", "1", "yes") or options.get("synchronous_commit") == "off"
    # What is out on lease counts as spent in L2, so a lease loses nothing that was admitted.
    behind = scheme.startswith("hybrid+") and options.get("consistency", "eventual") in ("eventual", "session")
    return "session" if weak or behind else "durable"


def uses(storage: str) -> tuple[str, ...]:
    """The backends that a storage URL needs: one of memory, redis and postgres, and "hybrid" for a memory before it."""
    url = StorageURL.parse(storage)
    return (url.backend,) if url.hybrid is None else ("hybrid", url.backend)


def assess(
    results: pd.DataFrame, requirements: Requirements, nodes: int, costs: Mapping[str, float] | None = None
) -> tuple[Assessment, ...]:
    """One assessment for each candidate of a study's results, in their order. costs: of a month, by candidate."""
    found = (_assess(rows, requirements, nodes) for _, rows in results.groupby("candidate", sort=False))
    return tuple(replace(each, cost=(costs or {}).get(each.candidate, math.nan)) for each in found)


def _assess(rows: pd.DataFrame, requirements: Requirements, nodes: int) -> Assessment:
    first = rows.iloc[0]
    p99, over = student_interval(rows["latency_p99"]), student_interval(rows["over_admission"])
    failed = float(rows["failed"].sum() / rows["requests"].sum())
    storage, routing = str(first["storage"]), str(first["routing"])
    kept = persistence(storage)
    checks = [
        _latency(p99, requirements.p99, failed),
        _wrong(over, requirements.max_over_admission, "max_over_admission", "over-admission"),
    ]
    denial = student_interval(rows["false_denial"])
    if requirements.max_false_denial is not None:
        checks.append(_wrong(denial, requirements.max_false_denial, "max_false_denial", "false denial"))
    checks.append(_persistence(kept, requirements.persistence))
    checks.append(allowance(storage, requirements.allowed))
    per_key = float(rows["bytes_per_key"].mean())
    checks.append(_keys(storage, requirements.key_count, nodes if routing in ("sticky", "key_hash") else 1, per_key))
    return Assessment(
        candidate=str(first["candidate"]),
        backend=str(first["backend"]),
        routing=routing,
        storage=storage,
        algorithm=str(first["algorithm"]),
        persistence=kept,
        p50=student_interval(rows["latency_p50"]),
        p99=p99,
        over_admission=over,
        false_denial=denial,
        worst_excess=float(rows["worst_excess"].mean()),
        failed_share=failed,
        l2_operations_per_request=float(rows["l2_operations_per_request"].mean()),
        l2_busy_per_request=float(rows["l2_busy_per_request"].mean()),
        bytes_per_key=per_key,
        checks=tuple(check for check in checks if check is not None),
    )


def _straddles(value: Interval, allowed: float) -> Verdict:
    if value.high <= allowed:
        return "passes"
    return "fails" if value.low > allowed else "too close to call"


def _latency(p99: Interval, allowed: float | None, failed: float) -> Check | None:
    measured = f"p99 {format_seconds(p99.mean)}"
    evidence = f"p99 {p99.text(format_seconds)}"
    if failed >= 0.01 or not math.isfinite(p99.mean):  # then the 99th percentile of all requests has no answer in it
        said = f"{format_percent(failed)} of the requests get no decision"
        return Check(
            "p99", "p99", "fails", said, said, f"{format_seconds(allowed)} allowed" if allowed else "99 % must", math.inf
        )
    if allowed is None:
        return Check("p99", "p99", "passes", measured, evidence, "")
    return Check(
        "p99",
        "p99",
        _straddles(p99, allowed),
        measured,
        evidence,
        f"{format_seconds(allowed)} allowed",
        max(p99.mean / allowed - 1, 0.0),
        allowed / p99.mean if p99.mean else math.inf,
    )


def _wrong(value: Interval, allowed: float | None, requirement: str, label: str) -> Check:
    """Of what an exact limiter admits, the share that is admitted beyond it, or denied without need."""
    measured, evidence = f"{label} {format_percent(value.mean)}", f"{label} {value.text(format_percent)}"
    if allowed is None:
        return Check(requirement, label, "passes", measured, evidence, "")
    if allowed == 0:  # exactly none, in every seed
        verdict: Verdict = "passes" if value.mean == 0 else "fails"
        margin = math.inf if value.mean == 0 else 0.0
        return Check(requirement, label, verdict, measured, evidence, "none allowed", value.mean / NEARLY_NONE, margin)
    violation, margin = max(value.mean / allowed - 1, 0.0), allowed / value.mean if value.mean else math.inf
    verdict = _straddles(value, allowed)
    return Check(requirement, label, verdict, measured, evidence, f"{format_percent(allowed)} allowed", violation, margin)


def _persistence(kept: Persistence, required: Persistence) -> Check | None:
    if required == "none":
        return None
    enough = LEVELS.index(kept) >= LEVELS.index(required)
    said = f"{kept} persistence" if kept != "none" else "no persistence"
    wanted = "" if kept == required else f"{required} required"
    return Check(
        "persistence", "persistence", "passes" if enough else "fails", said, said, wanted, 0.0 if enough else math.inf
    )


def allowance(storage: str, allowed: Sequence[str]) -> Check | None:
    """Whether it may be used at all, which no run has to tell; None where everything may."""
    barred = [kind for kind in KINDS if kind not in allowed]
    if not barred:
        return None
    needed = [KINDS[kind] for kind in uses(storage) if kind in barred]
    without = f"without {' and '.join(KINDS[kind] for kind in barred)}"
    if not needed:
        return Check("allowed", "allowed backends", "passes", without, without, "")
    said = f"needs {' and '.join(needed)}"
    return Check("allowed", "allowed backends", "fails", said, said, f"{without}, as required", math.inf)


def _keys(storage: str, required: int, share_of: int, bytes_per_key: float) -> Check | None:
    """Only memory can be too small to hold a key: it then evicts live ones, and forgets what they counted."""
    if urlsplit(storage).scheme != "memory":
        return None
    config = StorageURL.parse(storage).config
    held = config.max_entries
    if config.memory_limit is not None and bytes_per_key > 0:  # nan is not
        held = min(held, int(config.memory_limit / bytes_per_key))
    room = held * share_of
    if room >= required:
        return None
    said = f"room for {room:,} keys"
    return Check("key_count", "key count", "fails", said, said, f"{required:,} required", required / max(room, 1) - 1)
