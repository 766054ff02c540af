"""The figure of a report: whatever the choice is called, its title is not cut off, and a bar may be open at the top."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ratesim.pages.recommendation.plots import latency_against_over_admission
from ratesim.recommendation.assess.assessment import Assessment, Interval
from ratesim.simulation.scenario.scenario import Requirements

LATENCY, NONE = Interval(1.783e-3, 1.33e-3, 2.23e-3, 3), Interval(0.0, 0.0, 0.0, 3)


def assessment(name, latency=LATENCY):
    return Assessment(
        candidate=name,
        backend="postgres",
        routing="round_robin",
        storage="postgresql://h",
        algorithm="gcra",
        persistence="durable",
        p50=latency,
        p99=latency,
        over_admission=NONE,
        false_denial=NONE,
        worst_excess=NONE,
        failed_share=0.0,
        l2_operations_per_request=1.0,
        l2_busy_per_request=1e-4,
        bytes_per_key=300.0,
        checks=(),
    )


@pytest.mark.parametrize(
    "name",
    [
        "redis",
        "postgres, synchronous standby",
        "hybrid over cluster session write-behind refresh-ahead 100 ms, sliding_window",
        "no formula: $x^{y$",
    ],
)
def test_a_title_has_room(name):
    recommendation = SimpleNamespace(assessments=(assessment(name),), choice=name)
    figure, _ = latency_against_over_admission(recommendation, Requirements(p99="30ms", max_over_admission=0))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    title = axes._left_title.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= figure.bbox.x1
    assert title.y1 <= figure.bbox.y1


def test_a_bar_has_the_model_s_error_and_a_lower_bound_is_open_at_the_top():
    widened, bound = LATENCY.with_model_error(0.25), LATENCY.with_model_error(0.25, True)
    both = (assessment("within", widened), assessment("above", bound))
    figure, told = latency_against_over_admission(SimpleNamespace(assessments=both, choice=None), Requirements())
    (axes,) = figure.axes
    bars = [bar.get_segments()[0][:, 0] for bar in axes.collections if hasattr(bar, "get_segments")]
    assert any(list(bar) == pytest.approx([widened.low, widened.high]) for bar in bars)
    (arrow,) = [line for line in axes.lines if line.get_marker() == ">"]
    (end,) = arrow.get_xdata()
    assert bound.mean < end < axes.get_xlim()[1]
    assert any(list(bar) == pytest.approx([bound.low, end]) for bar in bars)
    assert "within 1.78 ms and exactly 0; above at least 0.998 ms and exactly 0" in told
