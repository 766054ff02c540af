"""Assessments of made figures, one field changed at a time."""

from __future__ import annotations

from dataclasses import replace

from ratesim.recommendation.assess.assessment import Assessment, Interval

SURE = Interval(1e-3, 1e-3, 1e-3, 3)
NONE = Interval(0.0, 0.0, 0.0, 3)


def an_assessment(name: str = "redis", storage: str = "redis://h", p99: float = 1e-3, **changes) -> Assessment:
    found = Assessment(
        candidate=name,
        backend="redis",
        routing="round_robin",
        storage=storage,
        algorithm="sliding_window",
        persistence="session",
        p50=SURE,
        p99=Interval(p99, p99, p99, 3),
        over_admission=NONE,
        false_denial=NONE,
        worst_excess=NONE,
        failed_share=0.0,
        l2_operations_per_request=1.0,
        l2_busy_per_request=1e-5,
        bytes_per_key=300.0,
        checks=(),
        cost=44.0,
        topology="standalone",
        servers=1,
    )
    return replace(found, **changes)
