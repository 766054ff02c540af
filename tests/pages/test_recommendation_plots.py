"""The figure of a report: whatever the choice is called, its title is not cut off."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ratesim.pages.recommendation.plots import latency_against_over_admission
from ratesim.recommendation.assess.assessment import Assessment, Interval
from ratesim.simulation.scenario.scenario import Requirements

LATENCY, NONE = Interval(1.783e-3, 1.33e-3, 2.23e-3, 3), Interval(0.0, 0.0, 0.0, 3)


@pytest.mark.parametrize(
    "name",
    [
        "redis",
        "postgres, synchronous standby",
        "hybrid over cluster session write-behind refresh-ahead 100 ms, sliding_window",
    ],
)
def test_a_title_has_room(name):
    chosen = Assessment(
        candidate=name,
        backend="postgres",
        routing="round_robin",
        storage="postgresql://h",
        algorithm="gcra",
        persistence="durable",
        p50=LATENCY,
        p99=LATENCY,
        over_admission=NONE,
        false_denial=NONE,
        worst_excess=0.0,
        failed_share=0.0,
        l2_operations_per_request=1.0,
        l2_busy_per_request=1e-4,
        bytes_per_key=300.0,
        checks=(),
    )
    recommendation = SimpleNamespace(assessments=(chosen,), choice=name)
    figure, _ = latency_against_over_admission(recommendation, Requirements(p99="30ms", max_over_admission=0))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    title = axes._left_title.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= figure.bbox.x1
    assert title.y1 <= figure.bbox.y1
