"""The figures of a report, in the house style of `pages/style.py`."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.style import COLORS, INK, STYLE, figure_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratesim.recommendation.assess.assessment import Assessment
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.simulation.scenario.scenario import Requirements

__all__ = ["latency_against_over_admission"]

OPEN = 0.8  # how far an arrow reaches beyond its point, as a share of it
TITLE = 58  # letters in a line, which has room in a figure of this width


def latency_against_over_admission(recommendation: Recommendation, requirements: Requirements) -> tuple[Figure, str]:
    """p99 (log) against over-admission (log, above a lane for exactly 0), one point for each candidate; and its alt text.

    Bars are 95 % intervals, open at the top where the latency is a lower bound. The shaded corner is what the requirements
    allow.
    """
    points = [
        each
        for each in recommendation.assessments
        if math.isfinite(each.p99.mean) and math.isfinite(each.over_admission.mean)
    ]
    positive = [each.over_admission.mean for each in points if each.over_admission.mean > 0]
    allowed = requirements.max_over_admission
    smallest = min([*positive, *([allowed] if allowed else [])], default=1e-3)
    largest = max([*positive, *([allowed] if allowed else [])], default=1e-2)
    edge = 10.0 ** math.floor(math.log10(smallest) - 0.05)  # below it lies the lane
    lane = edge / 10**0.5
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log")
        axes.set_ylim(edge / 10, max(largest * 3, edge * 10))
        _limits(axes, points, requirements.p99)
        _allowed(axes, requirements, edge)
        for each in points:
            _point(axes, each, lane, each.candidate == recommendation.choice)
        axes.axhline(edge, color=INK, linewidth=0.6, linestyle=(0, (2, 3)))
        decades = range(round(math.log10(edge)) + 1, math.floor(math.log10(axes.get_ylim()[1])) + 1)
        axes.set_yticks([lane, *(10.0**k for k in decades)])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "exactly 0" if y <= edge else f"{y * 100:g} %"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", which="minor", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * 1e3:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("99th percentile of the latency of one decision, ms, simulated (log scale)")
        axes.set_ylabel("over-admission, % of what an exact limiter admits")
        axes.set_title(textwrap.fill(figure_text(_finding(recommendation)), TITLE))
        _labels(axes, figure, points, lane, recommendation.choice)
    told = "; ".join(
        f"{each.candidate} {each.p99.figure(format_seconds)} and {format_percent(each.over_admission.mean)}"
        for each in points
    )
    return figure, f"{_finding(recommendation)}. p99 latency and over-admission of each candidate: {told}."


def _finding(recommendation: Recommendation) -> str:
    for each in recommendation.assessments:
        if each.candidate == recommendation.choice:
            over = each.over_admission.mean
            admits = "adds no over-admission" if over == 0 else f"over-admits {format_percent(over)}"
            return f"{each.candidate} answers 99 % within {each.p99.figure(format_seconds)} and {admits}"
    return "No candidate meets all requirements for sure"


def _limits(axes: Axes, points: Sequence[Assessment], allowed: float | None) -> None:
    values = [each.p99.mean for each in points] + ([allowed] if allowed else [])
    axes.set_xlim(min(values, default=1e-3) / 2.2, max(values, default=1e-3) * 4)


def _allowed(axes: Axes, requirements: Requirements, edge: float) -> None:
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    over = requirements.max_over_admission
    width = requirements.p99 or right
    height = top if over is None else over if over > 0 else edge
    if requirements.p99 is None and over is None:
        return
    axes.fill_between([left, width], bottom, height, color="#56B4E9", alpha=0.16, linewidth=0)
    axes.text(left * 1.06, height * 0.93, "what the requirements allow", fontsize=8.5, va="top", style="italic")


def _point(axes: Axes, each: Assessment, lane: float, chosen: bool) -> None:
    y = each.over_admission.mean or lane
    upward = OPEN * each.p99.mean if each.p99.is_lower_bound else each.p99.high - each.p99.mean
    x_error = [[each.p99.mean - each.p99.low], [upward]]
    y_error = None
    if each.over_admission.mean > 0:
        low = max(each.over_admission.low, lane * 10**0.5)  # not into the lane, which is for exactly 0
        y_error = [[max(y - low, 0.0)], [each.over_admission.high - y]]
    color = COLORS[each.backend]
    axes.errorbar(each.p99.mean, y, xerr=x_error, yerr=y_error, color=color, linewidth=1.2, zorder=3)
    if each.p99.is_lower_bound:
        axes.plot([each.p99.mean + upward], [y], marker=">", markersize=5, color=color, zorder=3)
    marker, size = ("*", 190.0) if chosen else ("s" if each.routing == "sticky" else "o", 46.0)
    axes.scatter(
        [each.p99.mean], [y], s=size, marker=marker, color=color, edgecolors=INK, linewidths=0.6, zorder=6 if chosen else 4
    )


def _labels(axes: Axes, figure: Figure, points: Sequence[Assessment], lane: float, choice: str | None) -> None:
    """Each point's name beside it, at the first place that no other name or point has; a thin line where that is far."""
    figure.canvas.draw()
    taken: list[tuple[float, float, float, float]] = []
    centers = []
    for each in points:
        x, y = axes.transData.transform((each.p99.mean, each.over_admission.mean or lane))
        centers.append((float(x), float(y)))
        taken.append((x - 6, y - 6, x + 6, y + 6))
    scale = 72 / figure.dpi
    frame = axes.get_window_extent()
    for each, (x, y) in zip(points, centers, strict=True):
        wide, high = 6.1 * len(each.candidate) / scale * 0.8, 11 / scale
        dx, dy = _place(x, y, wide, high, taken, (frame.x0, frame.y0, frame.x1, frame.y1), scale)
        box = (x + dx, y + dy, x + dx + wide, y + dy + high)
        taken.append(box)
        far = abs(dy + high / 2) > 10 / scale
        axes.annotate(
            figure_text(each.candidate),
            (each.p99.mean, each.over_admission.mean or lane),
            xytext=(dx * scale, dy * scale),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold" if each.candidate == choice else "normal",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": INK, "shrinkB": 3} if far else None,
            zorder=5,
        )


def _place(
    x: float,
    y: float,
    wide: float,
    high: float,
    taken: Sequence[tuple[float, float, float, float]],
    frame: tuple[float, float, float, float],
    scale: float,
) -> tuple[float, float]:
    gap = 8 / scale
    for step in range(9):
        for up in (1, -1) if step else (1,):
            for left in (gap, -gap - wide, -wide / 2):
                if left == -wide / 2 and step == 0:
                    continue
                dx, dy = left, -high / 2 + up * step * high * 0.95
                box = (x + dx, y + dy, x + dx + wide, y + dy + high)
                inside = box[0] >= frame[0] and box[1] >= frame[1] and box[3] <= frame[3]
                if inside and not any(_overlap(box, other) for other in taken):
                    return dx, dy
    return gap, -high / 2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
