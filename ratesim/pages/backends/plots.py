"""The figures of the page on backends, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.pages.backends.compared import Seen
from ratesim.pages.style import COLOURS, INK, STYLE
from ratesim.wording import seconds, share

__all__ = ["admissions", "latencies", "times"]

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
NONE = 1e-5  # where "exactly 0" stands on an axis of shares


def latencies(seen: Sequence[Seen]) -> tuple[Figure, str]:
    """The time within which a share of the requests was answered, by that share."""
    slow, fast = max(seen, key=lambda each: each.p99), min(seen, key=lambda each: each.p99)
    title = f"99 % of the answers: {seconds(fast.p99)} from {fast.name}, {seconds(slow.p99)} from {slow.name}"
    x = np.arange(len(SHARES))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        drawn = {}
        for each, dash in zip(seen, _dashes(seen), strict=True):
            y = [each.latencies.quantile(part) for part in SHARES]
            axes.plot(x, y, color=COLOURS[each.backend], linestyle=dash, linewidth=1.8)
            drawn[each] = y
        axes.set_yscale("log")
        _seconds(axes.yaxis)
        axes.set_xticks(x, [f"{100 * part:g} %" for part in SHARES])
        axes.set_xlim(0, len(SHARES) - 1)
        _labels(axes, {each: y[-1] for each, y in drawn.items()})
        axes.set_xlabel("of the requests")
        axes.set_ylabel("were answered within (log scale)")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = "; ".join(f"{each.name} {seconds(y[0])}, {seconds(y[2])} and {seconds(y[3])}" for each, y in drawn.items())
    return figure, f"{title}. Median, 99 % and 99.9 %: {told}."


def admissions(seen: Sequence[Seen]) -> tuple[Figure, str]:
    """What each admits too much, and falsely denies."""
    worst = max(seen, key=lambda each: each.over)
    exact = sum(each.over == 0.0 for each in seen)
    title = f"{exact} of {len(seen)} admit nothing too much"
    if worst.over:
        title += f"; {worst.name} admits {share(worst.over)} too much"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.34 * len(seen) + 1.4), layout="constrained")
        axes = figure.subplots()
        for y, each in enumerate(seen):
            denied = float(each.row["false_denial"])
            colour = COLOURS[each.backend]
            axes.scatter([max(each.over, NONE)], [y], s=42, color=colour, zorder=3)
            axes.scatter([max(denied, NONE)], [y], s=62, facecolor="none", edgecolor=colour, zorder=2)
        axes.set_xscale("log")
        axes.set_xlim(NONE / 1.8, max(2.0 * worst.over, 1.0))
        ticks = [NONE, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        axes.set_xticks(ticks, ["exactly 0", *(f"{100 * tick:g} %" for tick in ticks[1:])])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _rows(axes, seen)
        axes.set_xlabel("admitted too much (filled) and falsely denied (open), of what an exact limiter admits, log scale")
        axes.set_title(title, x=0.0)
    told = "; ".join(f"{each.name} {share(each.over)} and {share(float(each.row['false_denial']))}" for each in seen)
    return figure, f"{title}. Admitted too much, and falsely denied: {told}."


def times(seen: Sequence[Seen]) -> tuple[Figure, str]:
    """What one request takes of everybody's time: of its client's, of a node's processor, of the store."""
    waits = {each: each.latencies.mean for each in seen}
    shared = [each for each in seen if each.store > 0.0]
    away = max(shared or seen, key=lambda each: waits[each] - each.node - each.store)
    rest = max(1.0 - (away.node + away.store) / waits[away], 0.0)
    title = f"Of {seconds(waits[away])} for {away.name}, {share(rest)} is the way there and waiting"
    marks = {"the request waits": "o", "the node's processor works": "s", "the store works": "^"}
    told = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.34 * len(seen) + 1.8), layout="constrained")
        axes = figure.subplots()
        for y, each in enumerate(seen):
            values = (waits[each], each.node, each.store)
            for value, mark in zip(values, marks.values(), strict=True):
                if value > 0.0:
                    axes.scatter([value], [y], s=36, marker=mark, color=COLOURS[each.backend], zorder=3)
            told.append(f"{each.name} {', '.join(seconds(value) for value in values)}")
        for name, mark in marks.items():
            axes.scatter([], [], s=36, marker=mark, color=INK, label=name)
        axes.set_xscale("log")
        _seconds(axes.xaxis)
        _rows(axes, seen)
        axes.set_xlabel("for one request, in the mean (log scale)")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        axes.set_title(title, fontsize=10.5, x=0.0)
    return figure, f"{title}. The request waits, its node's processor works, the store works: {'; '.join(told)}."


def _dashes(seen: Sequence[Seen]) -> list[object]:
    """Those of one backend have one colour, and a line of their own each."""
    counted: dict[str, int] = {}
    found = []
    for each in seen:
        number = counted[each.backend] = counted.get(each.backend, -1) + 1
        found.append(DASHES[number % len(DASHES)])
    return found


def _labels(axes: Axes, ends: dict[Seen, float]) -> None:
    """Beside the end of each line its name, and none upon another."""
    low, high = np.log10(axes.get_ylim())
    room, at = 0.055, -1.0
    for each, end in sorted(ends.items(), key=lambda item: item[1]):
        at = max((np.log10(end) - low) / (high - low), at + room)
        axes.annotate(each.name, (1.01, at), xycoords="axes fraction", va="center", fontsize=8.5, color=INK)
        axes.plot(
            [1.0, 1.01], [(np.log10(end) - low) / (high - low), at], transform=axes.transAxes, clip_on=False,
            color=COLOURS[each.backend], linewidth=0.8,
        )  # fmt: skip


def _rows(axes: Axes, seen: Sequence[Seen]) -> None:
    axes.set_yticks(range(len(seen)), [each.name for each in seen])
    axes.set_ylim(len(seen) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=INK, alpha=0.12)


def _seconds(axis: object) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]
