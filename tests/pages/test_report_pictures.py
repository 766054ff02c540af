"""The pictures of a report: they say what the table says, their names do not overlap, and names are no formulas."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from audit import read, unfounded
from made_contenders import detail, made

from ratesim.formatting import format_seconds
from ratesim.pages.recommendation.pictures import (
    curves_of,
    keys_with_too_much,
    latency_by_percentile,
    leaders,
    over_the_run,
)
from ratesim.pages.run_figures import Curve, KeyBar, Panel, excess_by_key, groups, over_time, percentile_curves
from ratesim.pages.style import to_svg

LONG = "hybrid over cluster session write-behind refresh-ahead 100 ms, sliding_window"
HOSTILE = "<script>alert(1)</script>$x^{y$\x1b[2J"


def drawn(figure):
    figure.draw_without_rendering()
    return figure


def labels(axes):
    """The names beside the axes, with where they are."""
    right = axes.get_window_extent().x1
    return [(text.get_text(), text.get_window_extent()) for text in axes.texts if text.get_window_extent().x0 > right]


def test_the_curves_have_the_percentiles_of_the_table():
    study, recommendation = made()
    for curve, row in zip(curves_of(study, recommendation), recommendation.assessments, strict=True):
        known = dict(zip(curve.shares, curve.latency, strict=True))
        assert (curve.name, known[0.5], known[0.99]) == (row.candidate, row.p50.mean, row.p99.mean)
        assert curve.beyond[curve.shares.index(0.99)] == 30  # of 3,000
    _, alt = latency_by_percentile(study, recommendation)
    for row in recommendation.assessments:
        assert f"99 % within {format_seconds(row.p99.mean)}" in alt


def test_every_number_of_a_title_stands_in_what_the_picture_shows():
    study, recommendation = made()
    for draw in (latency_by_percentile, over_the_run, keys_with_too_much):
        assert list(unfounded(read([to_svg(*draw(study, recommendation))]))) == []


def test_names_stand_beside_their_curves_none_on_another_and_those_that_coincide_together():
    study, recommendation = made()
    figure, _ = latency_by_percentile(study, recommendation)
    (axes,) = drawn(figure).axes
    beside = labels(axes)
    assert [text.replace("\n", " ") for text, _ in beside] == [
        "memory, sticky", "memory", "2 ms allowed at 99 %", "redis, hybrid strong", "postgres",
    ]  # fmt: skip
    for (_, lower), (_, upper) in pairwise(beside):
        assert lower.y1 <= upper.y0
    assert all(box.x1 <= figure.bbox.x1 for _, box in beside)
    assert [text.get_fontweight() for text in axes.texts if text.get_text() == "memory, sticky"] == ["bold"]


@pytest.mark.parametrize("count", [1, 11, 24])
def test_any_number_of_names_has_room(count):
    shares, beyond = (0.5, 0.9, 0.99), (500, 100, 10)
    latency = [tuple(1e-3 * 1.06**each * tail for tail in (1, 2, 3)) for each in range(count)]
    curves = [Curve(f"{each} {LONG}", "hybrid", shares, latency[each], beyond) for each in range(count)]
    (axes,) = drawn(percentile_curves(curves, "Many", 2e-3)).axes
    boxes = [box for _, box in labels(axes)]
    assert len(boxes) == len(groups(curves)) + 1 == count + 1
    for lower, upper in pairwise(boxes):
        assert lower.y1 <= upper.y0 + 1.0  # pixel
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= axes.figure.bbox.y1
    assert all(box.x1 <= axes.figure.bbox.x1 for box in boxes)


def test_a_curve_is_thin_where_few_requests_lie_beyond():
    curve = Curve("redis", "redis", (0.5, 0.9, 0.99), (1e-3, 2e-3, 3e-3), (150, 30, 3), True)
    (axes,) = percentile_curves([curve], "One").axes
    bold, thin = (line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_zorder() == 5)
    assert list(bold.get_ydata()) == [1e-3, 2e-3]
    assert list(thin.get_ydata()) == [2e-3, 3e-3]
    assert thin.get_linewidth() < bold.get_linewidth()


def test_the_rival_is_the_best_of_another_backend():
    _, recommendation = made()
    first, rival = leaders(recommendation)
    assert (first.candidate, rival.candidate) == ("memory, sticky", "redis")
    recommendation.assessments = tuple(each for each in recommendation.assessments if each.backend == "memory")
    assert leaders(recommendation)[1].candidate == "memory"
    recommendation.assessments = recommendation.assessments[:1]
    assert leaders(recommendation)[1] is None


def test_the_run_over_time_stands_on_the_same_axes_beside_what_an_exact_limiter_denies():
    study, recommendation = made()
    figure, alt = over_the_run(study, recommendation)
    latency, other, denials, its = drawn(figure).axes
    assert latency.get_ylim() == other.get_ylim()
    assert denials.get_ylim() == its.get_ylim()
    assert latency.get_xlim() == its.get_xlim()
    assert "An exact limiter denies 20 % of the requests" in alt
    assert "200 of 1,000 requests denied (20 %), 200 (20 %) by an exact limiter" in alt


def test_a_pause_is_none_of_the_run():
    series = {name: [1.0, 1.0] for name in ("offered", "denied", "exact_denied", "latency_p50", "latency_p99")}
    panel = Panel("redis", "redis", {**series, "begin": [0.0, 10.0], "failed": [0.0, 0.0]})
    latency, denials = over_time([panel], 1.0, "Two bins").axes
    (p99, _) = latency.lines
    assert [str(value) for value in p99.get_ydata()] == ["1.0", "nan", "nan", "1.0"]
    (denied,) = denials.lines
    assert list(denied.get_xdata()) == [0.5, 1.5, 9.5, 10.5]
    assert list(denied.get_ydata()) == [1.0, 0.0, 0.0, 1.0]


def test_the_keys_with_too_much_are_named_with_how_much():
    study, recommendation = made()
    figure, alt = keys_with_too_much(study, recommendation)  # neither memory, sticky nor redis: memory did most
    assert alt.startswith("memory, sticky admits too much to no key; memory admits too much to 2 of 7 keys. ")
    assert alt.endswith("memory to 2 of 7 keys, tenant-7 40 (50 %), tenant-8 20 (25 %).")
    none, some = drawn(figure).axes
    assert [text.get_text() for text in none.texts] == ["exactly 0 for every key"]
    assert [bar.get_width() for bar in some.patches] == [40.0, 20.0]
    assert [tick.get_text() for tick in some.get_yticklabels()] == ["1. tenant-7", "2. tenant-8"]
    tokens = excess_by_key({"memory": ("memory", [KeyBar("all", 4.5e6, 13_726_442.0)])}, "tokens")
    written = [text.get_text() for text in drawn(tokens).axes[0].get_xticklabels()]
    assert "10,000,000" in written
    much = study.findings.details["memory"]
    alone = msgspec.structs.replace(much.first, keys_asked=1, keys_over=1, keys=much.first.keys[:1])
    study.findings.details["memory"] = msgspec.structs.replace(much, first=alone)
    assert keys_with_too_much(study, recommendation)[1].endswith("memory to the only key, tenant-7 40 (50 %).")
    study.findings.details["memory"] = detail(32e-6)
    assert keys_with_too_much(study, recommendation).startswith("No contender admitted more to any key")


def test_a_contender_without_an_answer_has_no_curve_and_nobody_has_none():
    study, recommendation = made()
    silent = replace_latency(study.findings.details["redis"])
    study.findings.details["redis"] = silent
    assert "redis" not in [each.name for each in curves_of(study, recommendation)]
    study.findings.details.update(dict.fromkeys(study.findings.details, silent))
    assert latency_by_percentile(study, recommendation) is None


def replace_latency(of):
    return type(of)(of.seeds, 0, (), of.first)


def test_a_lower_bound_is_called_one():
    study, recommendation = made()
    first = recommendation.assessments[0]
    first.p99 = replace(first.p99, is_lower_bound=True)
    _, alt = latency_by_percentile(study, recommendation)
    assert "in simulation, which is a lower bound here. " in alt


def test_names_are_drawn_as_they_are_and_are_no_formulas():
    study, recommendation = made(choice=HOSTILE, over="memory", key=HOSTILE)
    for draw in (latency_by_percentile, over_the_run, keys_with_too_much):
        figure, alt = draw(study, recommendation)
        drawn(figure)  # where a formula that is none would raise
        svg = to_svg(figure, alt)
        assert "<script" not in svg
        assert "\x1b" not in svg
