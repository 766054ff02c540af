"""The order of the candidates that pass: on the Pareto front by cost, and at equal cost the simpler first.

1. The front: no other candidate that passes is at least as good in p99, over-admission, cost, blast radius and moving parts,
   and better in one of them. Without moving parts among them, a simple candidate would lose to an intricate one of the same
   price, for a latency that is not required.
2. Cost of a month, to two significant digits: a smaller difference is noise.
3. Moving parts: memory (nothing to run), redis (one server), postgres (one server with tables to create, vacuum and keep in
   size), hybrid (a server, and a cache with a flush loop in every node). A cluster is one part more than a server. So are
   Sentinels, a standby that answers wait for, partitions, sticky routing, tokens that sessions return, and background work
   of a hybrid beyond its flush loop.
4. The 99th percentile of the latency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.storage import StorageURL

__all__ = ["best", "cost_of", "front", "parts", "rank"]

_STORE = {"memory": 0, "redis": 2, "postgres": 3}
_HYBRID = 4


def rank(each: Assessment) -> tuple[float, int, float, str]:
    """Return the sort key of an assessment; the least comes first."""
    return cost_of(each), parts(each), each.p99.mean, each.candidate


def cost_of(each: Assessment) -> float:
    """Return the cost to two significant digits; without a price, the shared store's seconds for one request."""
    return float(f"{each.l2_busy_per_request if math.isnan(each.cost) else each.cost:.2g}")


def parts(each: Assessment) -> int:
    """Return the number of moving parts: what can break, and has to be understood at night."""
    url = StorageURL.parse(each.storage)
    count = _STORE[url.backend] + (each.routing in ("sticky", "key_hash")) + (each.topology in ("cluster", "sentinel"))
    if url.backend == "postgres":
        count += bool(each.standby) + (url.config.partition_strategy is not None)
    if url.hybrid is not None:
        count += _HYBRID + (url.hybrid.consistency == "session")
        count += (url.hybrid.write == "write_behind") + (url.hybrid.read == "refresh_ahead")
    return count


def front(assessments: Iterable[Assessment]) -> tuple[Assessment, ...]:
    """Return the assessments that no other one dominates, in their order."""
    all_of_them = tuple(assessments)
    return tuple(each for each in all_of_them if not any(_dominates(other, each) for other in all_of_them))


def best(assessments: Sequence[Assessment]) -> Assessment | None:
    """Return the assessment to choose; None where none passes."""
    return min(front(each for each in assessments if each.passes), key=rank, default=None)


def _dominates(one: Assessment, other: Assessment) -> bool:
    pairs = tuple(zip(_measures(one), _measures(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _measures(each: Assessment) -> tuple[float, float, float, float, int]:
    p99 = each.p99.mean if math.isfinite(each.p99.mean) else math.inf
    return p99, each.over_admission.mean, cost_of(each), each.blast_radius or 0.0, parts(each)
