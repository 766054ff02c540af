"""The order of the candidates that pass: on the Pareto front, by what the scenario prefers (`requirements.prefer`).

1. The front: no other candidate that passes is at least as good in p99, over-admission, busiest window, cost, blast radius
   and moving parts, and better in one of them. Without moving parts among them, a simple candidate would lose to an
   intricate one of the same price, for a latency that is not required.
2. `cost`: the least cost of a month, then the fewest moving parts, then the lowest p99.
   `safety`: the smallest blast radius, then the least over-admission, the lowest busiest window, and from there as `cost`.
   `simplicity`: the fewest moving parts, then the least cost, then the lowest p99.

Cost is compared to two significant digits and not below 0.01, and what `safety` compares in steps (`STEPS`): a smaller
difference is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratesim.formatting import format_excess, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Preference

__all__ = [
    "ORDERS",
    "STEPS",
    "Criterion",
    "best",
    "cost_of",
    "first_difference",
    "front",
    "moving_parts",
    "parts",
    "rank",
    "window_of",
]

# A fault is tried with a thousand requests, of which a share is known to about 3 points (two standard errors); a share of
# the cost of tens of thousands to a tenth of a point. A window is one key's, and holds few requests.
STEPS = {"blast radius": 0.05, "over-admission": 0.001, "busiest window": 0.05}


@dataclass(frozen=True)
class Criterion:
    """One figure by which candidates are ordered; the least comes first.

    Attributes
    ----------
    name
        In words.
    value
        The figure, rounded so that noise does not decide.
    text
        The figure in words.
    worse
        What a candidate with a greater figure does, after "but".
    """

    name: str
    value: Callable[[Assessment], float]
    text: Callable[[Assessment], str]
    worse: str


def cost_of(each: Assessment) -> float:
    """Return the cost to two significant digits; without a price, the shared store's seconds for one request.

    Less than a hundredth of the currency is nothing: it reads the same for all, and nobody changes a deployment for it.
    """
    if math.isnan(each.cost):
        return float(f"{each.l2_busy_per_request:.2g}")
    return float(f"{each.cost:.2g}") if each.cost >= 0.01 else 0.0


def window_of(each: Assessment) -> float:
    """Return the most that is admitted in a window of the limit's period, over the limit."""
    return 1.0 + each.worst_excess.mean


def parts(each: Assessment) -> int:
    """Return the number of moving parts."""
    return len(moving_parts(each))


def moving_parts(each: Assessment) -> tuple[str, ...]:
    """Name what can break, and has to be understood at night."""
    url = StorageURL.parse(each.storage)
    found = {"memory": [], "redis": ["a Redis server"], "postgres": ["a PostgreSQL server"]}[url.backend]
    if url.backend != "memory":
        found.append("connections of each node to it")
    if url.backend == "postgres":
        found.append("vacuum of its tables")
        found += ["a standby that answers wait for"] * bool(each.standby)
        found += ["partitions to make and drop"] * (url.config.partition_strategy is not None)
    found += {"cluster": ["slots of a cluster"], "sentinel": ["Sentinels"]}.get(each.topology, [])
    found += {"sticky": ["sticky routing"], "key_hash": ["routing by key"]}.get(each.routing, [])
    if url.hybrid is not None:
        policy = url.hybrid
        found += ["a circuit breaker in each node", "a fallback in each node"]
        if policy.consistency == "lease":
            found.append("leases of quota")
        elif policy.consistency != "strong":
            found.append("views of the store in each node")
            found += {"write_back": ["a flush loop"], "write_behind": ["a queue of writes", "its flush loop"]}.get(
                policy.write, []
            )
            found += ["background reads"] * (policy.read == "refresh_ahead")
            found += ["tokens that clients return"] * (policy.consistency == "session")
    return tuple(found)


def _in_steps(value: float, name: str) -> float:
    return round(value / STEPS[name]) if math.isfinite(value) else math.inf


def _blast_radius(each: Assessment) -> float:
    """Return the blast radius; where no fault was tried nothing is known to be spared."""
    return math.inf if each.blast_radius is None else each.blast_radius


def _blast_text(each: Assessment) -> str:
    return "not tried" if each.blast_radius is None else format_percent(each.blast_radius)


_COST = Criterion("cost", cost_of, lambda each: f"{cost_of(each):g}", "costs more")
_PARTS = Criterion("moving parts", parts, lambda each: str(parts(each)), "has more moving parts")
_P99 = Criterion("p99", lambda each: each.p99.mean, lambda each: each.p99.figure(format_seconds), "is slower")
_BLAST = Criterion(
    "blast radius", lambda each: _in_steps(_blast_radius(each), "blast radius"), _blast_text, "has a larger blast radius"
)
_OVER = Criterion(
    "over-admission",
    lambda each: _in_steps(each.over_admission.mean, "over-admission"),
    lambda each: format_percent(each.over_admission.mean),
    "admits more",
)
_WINDOW = Criterion(
    "busiest window",
    lambda each: _in_steps(window_of(each), "busiest window"),
    lambda each: format_excess(each.worst_excess.mean),
    "has a fuller busiest window",
)
ORDERS: dict[Preference, tuple[Criterion, ...]] = {
    "cost": (_COST, _PARTS, _P99),
    "safety": (_BLAST, _OVER, _WINDOW, _COST, _PARTS, _P99),
    "simplicity": (_PARTS, _COST, _P99),
}


def rank(each: Assessment, prefer: Preference = "cost") -> tuple[tuple[float, ...], str]:
    """Return the sort key of an assessment; the least comes first."""
    return tuple(criterion.value(each) for criterion in ORDERS[prefer]), each.candidate


def first_difference(each: Assessment, other: Assessment, prefer: Preference = "cost") -> Criterion | None:
    """Return the first criterion of an order in which two assessments differ; None where they differ in none."""
    return next((one for one in ORDERS[prefer] if one.value(each) != one.value(other)), None)


def front(assessments: Iterable[Assessment]) -> tuple[Assessment, ...]:
    """Return the assessments that no other one dominates, in their order."""
    all_of_them = tuple(assessments)
    return tuple(each for each in all_of_them if not any(_dominates(other, each) for other in all_of_them))


def best(assessments: Sequence[Assessment], prefer: Preference = "cost") -> Assessment | None:
    """Return the assessment to choose; None where none passes."""
    passing = front(each for each in assessments if each.passes)
    return min(passing, key=lambda each: rank(each, prefer), default=None)


def _dominates(one: Assessment, other: Assessment) -> bool:
    pairs = tuple(zip(_measures(one), _measures(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _measures(each: Assessment) -> tuple[float, ...]:
    p99 = each.p99.mean if math.isfinite(each.p99.mean) else math.inf
    return p99, each.over_admission.mean, window_of(each), cost_of(each), each.blast_radius or 0.0, parts(each)
