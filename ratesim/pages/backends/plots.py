"""The figures of the page on backends, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.backends.analysis import BackendResult
from ratesim.pages.style import COLORS, INK, STYLE

__all__ = ["admissions", "latencies", "times"]

SHARES = (0.5, 0.99, 0.9999)
MARKS = ("o", "o", "|")
NONE = 1e-5  # where "exactly 0" stands on an axis of shares


def latencies(seen: Sequence[BackendResult]) -> tuple[Figure, str]:
    """Plot the latencies at the 50th, 99th and 99.99th percentiles."""
    slow, fast = max(seen, key=lambda each: each.p99), min(seen, key=lambda each: each.p99)
    title = f"The 99th percentile is {fast.p99_text} for {fast.name} "
    title += f"and {slow.p99_text} for {slow.name}"
    told = []
    with mpl.rc_context(STYLE):
        figure, axes = _rows(seen, title)
        for y, each in enumerate(seen):
            points = [each.latencies.quantile(part) for part in SHARES]
            color = COLORS[each.backend]
            axes.plot([points[0], points[-1]], [y, y], color=color, linewidth=1.8, zorder=2)
            for point, mark, fill in zip(points, MARKS, ("full", "none", "full"), strict=True):
                axes.plot([point], [y], color=color, marker=mark, markersize=6, fillstyle=fill, zorder=3)
            if each.error.p99_is_lower_bound:  # the tail may be longer
                axes.plot([1.6 * points[-1]], [y], color=color, marker=">", markersize=5, zorder=3)
                axes.plot([points[-1], 1.6 * points[-1]], [y, y], color=color, linewidth=0.8, linestyle=":", zorder=2)
            bound = "at least " * each.error.p99_is_lower_bound
            told.append(f"{each.name} {bound}{', '.join(map(format_seconds, points))}")
        _keys(
            figure,
            {f"{100 * part:g}th percentile": mark for part, mark in zip(SHARES, MARKS, strict=True)},
            hollow="99th percentile",
        )
        axes.set_xscale("log")
        _seconds(axes)
        axes.set_xlabel("latency (log scale)")
    return figure, f"{title}. Latency at the 50th, 99th and 99.99th percentiles: {'; '.join(told)}."


def admissions(seen: Sequence[BackendResult]) -> tuple[Figure, str]:
    """Plot the over-admission and the false denials of each candidate."""
    worst = max(seen, key=lambda each: each.over)
    exact = sum(each.over == 0.0 for each in seen)
    title = f"{exact} of {len(seen)} candidates {'has' if exact == 1 else 'have'} no over-admission"
    if worst.over:
        title += f"; {worst.name} has {format_percent(worst.over)}"
    with mpl.rc_context(STYLE):
        figure, axes = _rows(seen, title)
        for y, each in enumerate(seen):
            denied = float(each.row["false_denial"])
            color = COLORS[each.backend]
            axes.scatter([max(each.over, NONE)], [y], s=42, color=color, zorder=3)
            axes.scatter([max(denied, NONE)], [y], s=62, facecolor="none", edgecolor=color, zorder=2)
        axes.set_xscale("log")
        axes.set_xlim(NONE / 1.8, max(2.0 * worst.over, 1.0))
        ticks = [NONE, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        axes.set_xticks(ticks, ["exactly 0", *(f"{100 * tick:g} %" for tick in ticks[1:])])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _keys(figure, {"over-admission": "o", "false denial": "o"}, hollow="false denial")
        axes.set_xlabel("share of the cost that an exact limiter admits (log scale)")
    told = "; ".join(
        f"{each.name} {format_percent(each.over)} and {format_percent(float(each.row['false_denial']))}" for each in seen
    )
    return figure, f"{title}. Over-admission and false denial: {told}."


def times(seen: Sequence[BackendResult]) -> tuple[Figure, str]:
    """Plot the time that one request takes of its client, of a node's processor and of the store."""
    waits = {each: each.latencies.mean for each in seen}
    asked = [each for each in seen if each.backend in ("redis", "postgres")]  # who does nothing in the background
    away = max(asked or seen, key=lambda each: waits[each] - each.node - each.store)
    rest = max(1.0 - (away.node + away.store) / waits[away], 0.0)
    title = f"A request with {away.name} takes {format_seconds(waits[away])}; "
    title += f"{format_percent(rest)} of it is network and queueing"
    marks = {"latency": "o", "processor time at the node": "s", "service time at the store": "^"}
    told = []
    with mpl.rc_context(STYLE):
        figure, axes = _rows(seen, title)
        for y, each in enumerate(seen):
            values = (waits[each], each.node, each.store)
            for value, mark in zip(values, marks.values(), strict=True):
                if value > 0.0:
                    axes.scatter([value], [y], s=36, marker=mark, color=COLORS[each.backend], zorder=3)
            told.append(f"{each.name} {', '.join(format_seconds(value) for value in values)}")
        _keys(figure, marks, hollow="")
        axes.set_xscale("log")
        _seconds(axes)
        axes.set_xlabel("mean per request (log scale)")
    return figure, f"{title}. Mean latency, processor time at the node, service time at the store: {'; '.join(told)}."


def _rows(seen: Sequence[BackendResult], title: str) -> tuple[Figure, Axes]:
    """Make a figure with a row for each candidate."""
    figure = Figure(figsize=(7.2, 0.34 * len(seen) + 1.8), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(seen)), [each.name for each in seen])
    axes.set_ylim(len(seen) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=INK, alpha=0.12)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure, axes


def _keys(figure: Figure, marks: Mapping[str, str], hollow: str) -> None:
    """Explain the marks. Those in `hollow` are drawn empty."""
    handles = [
        Line2D([], [], color=INK, marker=mark, linestyle="none", label=name, fillstyle="none" if name == hollow else "full")
        for name, mark in marks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)


def _seconds(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
