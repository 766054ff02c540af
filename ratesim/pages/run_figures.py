"""Figures of runs, of plain numbers: latency by percentile, a run over time, and the keys that were admitted too much.

Every function returns a figure. What its numbers show is the title, which the caller words.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from ratesim.formatting import format_amount, format_percent, format_seconds, shorten
from ratesim.pages.style import COLORS, INK, STYLE, figure_text

__all__ = ["Curve", "KeyBar", "Panel", "excess_by_key", "groups", "over_time", "percentile_curves"]

WIDTH = 7.2  # inches
TITLE = 60  # letters in a line of a title
SAME = 0.04  # relative difference below which curves coincide
FEW = 10  # requests beyond a quantile, below which it is drawn thin
LABEL = 27  # letters in a line of a label beside the axes
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)))
EXACT = "#999999"  # of the exact limiter
TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class Curve:
    """Latencies in seconds at these shares of the requests, and how many requests took longer than each.

    `backend` gives the color; the emphasized one is drawn on top.
    """

    name: str
    backend: str
    shares: Sequence[float]
    latency: Sequence[float]
    beyond: Sequence[int]
    is_emphasized: bool = False


@dataclass(frozen=True)
class Panel:
    """One run over time: the columns of `RunResult.series`, by name."""

    name: str
    backend: str
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class KeyBar:
    """A key of a run: the cost that an exact limiter admits to it, and what was admitted beyond that."""

    key: str
    exact: float
    over_admitted: float

    @property
    def text(self) -> str:
        """The surplus, and its share of what an exact limiter admits."""
        share = f" ({format_percent(self.over_admitted / self.exact)})" if self.exact else ""
        return f"{format_amount(self.over_admitted)}{share}"


def percentile_curves(curves: Sequence[Curve], title: str, allowed: float | None = None) -> Figure:
    """Draw latency by percentile on two log axes: how much of the traffic is slower lies evenly, so that the tail is seen.

    Parameters
    ----------
    curves
        At least one with a latency. Those that coincide share one label.
    title
        What they show.
    allowed
        The p99 that is required, in seconds.
    """
    drawn = [each for each in curves if each.latency]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6))
        lines = textwrap.wrap(figure_text(title), TITLE)
        axes = figure.add_axes((0.085, 0.115, 0.585, 0.865 - 0.05 * len(lines)))
        axes.set(xscale="log", yscale="log")
        values = [value for each in drawn for value in each.latency if value > 0] + ([allowed] if allowed else [])
        low, high = min(values), max(values)
        axes.set_ylim(low / 1.25, max(high, 3 * low) * 1.25)
        right = max(1 / (1 - each.shares[-1]) for each in drawn)
        axes.set_xlim(1 / (1 - 0.5) / 1.05, max(right, 10.0))
        dashes: dict[str, int] = {}
        for each in sorted(drawn, key=lambda each: each.is_emphasized):
            number = dashes[each.backend] = dashes.get(each.backend, -1) + 1
            _curve(axes, each, "-" if each.is_emphasized else DASHES[number % len(DASHES)])
        if allowed:
            axes.axhline(allowed, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.plot([100], [allowed], marker="v", color=INK, markersize=6, clip_on=False)
        _percentile_axis(axes)
        _milliseconds(axes)
        axes.set_xlabel("share of the requests that are answered at least as fast")
        axes.set_ylabel("latency of one decision, ms, simulated (log scale)")
        axes.set_title("\n".join(lines), x=-0.11)
        _beside(axes, figure, drawn, allowed)
    return figure


def groups(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Put curves together that coincide: nowhere further apart than `SAME` of the first of their group."""
    found: list[list[Curve]] = []
    for each in curves:
        for group in found:
            if _coincide(group[0], each):
                group.append(each)
                break
        else:
            found.append([each])
    return found


def over_time(panels: Sequence[Panel], bin_seconds: float, title: str, allowed: float | None = None) -> Figure:
    """Draw latency above, denied requests below, a column for each run, all on the same axes.

    Parameters
    ----------
    panels
        The runs, of the same traffic.
    bin_seconds
        Length of a bin of their series.
    title
        What they show.
    allowed
        The p99 that is required, in seconds.
    """
    unit, name = _time_unit(max(each.series["begin"][-1] for each in panels) + bin_seconds)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
        for column, each in enumerate(panels):
            latency, denials = grid[0, column], grid[1, column]
            time, gaps = _bins(each.series["begin"], bin_seconds)
            color = COLORS[each.backend]
            for quantile, width in (("latency_p99", 1.8), ("latency_p50", 1.0)):
                values = np.insert(np.asarray(each.series[quantile], float), gaps, np.nan)
                mark = "" if len(time) > 1 else "."  # a line needs two points
                latency.plot(time / unit, values, color=color, linewidth=width, drawstyle="steps-mid", marker=mark)
            exact = np.insert(np.asarray(each.series["exact_denied"], float), gaps, 0.0) / bin_seconds
            denied = np.insert(np.asarray(each.series["denied"], float), gaps, 0.0) / bin_seconds
            denials.fill_between(time / unit, 0, exact, color=EXACT, alpha=0.45, linewidth=0, step="mid")
            denials.plot(time / unit, denied, color=color, linewidth=1.6, drawstyle="steps-mid")
            if any(each.series["failed"]):
                failed = np.insert(np.asarray(each.series["failed"], float), gaps, 0.0) / bin_seconds
                denials.plot(time / unit, failed, color=INK, linewidth=1.4, linestyle=":", drawstyle="steps-mid")
            latency.set_title(figure_text(textwrap.shorten(each.name, 40, placeholder=" …")), fontsize=10)
            if allowed:
                latency.axhline(allowed, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            denials.set_xlabel(f"{name} since the first request")
        grid[0, 0].set(yscale="log", ylabel="latency, ms (log)")
        grid[1, 0].set(ylabel="requests/s denied")
        last = panels[-1].series
        for quantile, label in (("latency_p99", "p99"), ("latency_p50", "p50")):
            grid[0, -1].annotate(
                label, (1.0, last[quantile][-1]), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", va="center", fontsize=8.5, annotation_clip=False,
            )  # fmt: skip
        low, high = grid[0, 0].get_ylim()
        grid[0, 0].set_ylim(low / 1.1, high * 1.35)
        _milliseconds(grid[0, 0])
        grid[1, 0].set_ylim(0, max(grid[1, 0].get_ylim()[1], 1e-9) * 1.18)
        if allowed:
            grid[0, 0].annotate(
                f"p99 of {format_seconds(allowed)} allowed", (0.02, allowed), xycoords=("axes fraction", "data"),
                xytext=(0, 3), textcoords="offset points", fontsize=8.5, style="italic",
            )  # fmt: skip
        grid[1, 0].annotate(
            "gray: denied by an exact limiter", (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=8.5
        )
        figure.suptitle(
            "\n".join(textwrap.wrap(figure_text(title), TITLE)), x=0.01, ha="left", fontsize=11.5, fontweight="bold"
        )
    return figure


def excess_by_key(panels: Mapping[str, tuple[str, Sequence[KeyBar]]], title: str, most: int = 8) -> Figure:
    """Draw the keys that were admitted most beyond an exact limiter, by rank, a part for each run, on one axis.

    Parameters
    ----------
    panels
        By the name of a run: its backend, and its keys, the most first.
    title
        What they show.
    most
        How many keys of each are shown.
    """
    shown = {name: (backend, list(keys[:most])) for name, (backend, keys) in panels.items()}
    heights = [max(len(keys), 1) + 0.9 for _, keys in shown.values()]
    highest = max((key.over_admitted for _, keys in shown.values() for key in keys), default=1.0)
    with mpl.rc_context(STYLE):
        lines = textwrap.wrap(figure_text(title), TITLE)
        figure = Figure(figsize=(WIDTH, 0.9 + 0.2 * len(lines) + 0.27 * sum(heights)), layout="constrained")
        parts = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, (backend, keys)) in zip(parts, shown.items(), strict=True):
            rows = range(len(keys))
            axes.barh(rows, [key.over_admitted for key in keys], color=COLORS[backend], height=0.62)
            for row, key in zip(rows, keys, strict=True):
                axes.annotate(
                    key.text, (key.over_admitted, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
                )
            axes.set_yticks(
                rows, [f"{row + 1}. {figure_text(shorten(key.key))}" for row, key in zip(rows, keys, strict=True)]
            )
            axes.set_ylim(max(len(keys), 1) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0)
            axes.set_title(figure_text(name), fontsize=10)
            if not keys:
                axes.annotate("exactly 0 for every key", (0.01, 0.5), xycoords="axes fraction", va="center", style="italic")
        parts[0].set_xlim(0, highest * 1.4)
        parts[-1].xaxis.set_major_locator(MaxNLocator(4))
        parts[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_amount(x)))
        parts[-1].set_xlabel("cost admitted beyond an exact limiter, and its share of what that admits to the key")
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _curve(axes: Axes, each: Curve, dash: Any) -> None:
    """Draw a curve; thin from where fewer than `FEW` requests lie beyond."""
    x = 1 / (1 - np.asarray(each.shares))
    firm = sum(count >= FEW for count in each.beyond)
    width, z = (3.0, 5) if each.is_emphasized else (1.5, 3)
    style: dict[str, Any] = {"color": COLORS[each.backend], "linestyle": dash, "zorder": z}
    axes.plot(x[:firm], each.latency[:firm], linewidth=width, **style)
    axes.plot(x[max(firm - 1, 0) :], each.latency[max(firm - 1, 0) :], linewidth=0.45 * width, alpha=0.7, **style)


def _coincide(a: Curve, b: Curve) -> bool:
    both = min(len(a.latency), len(b.latency))
    pairs = zip(a.latency[:both], b.latency[:both], strict=True)
    return all(x == y or (min(x, y) > 0 and abs(math.log(x / y)) <= SAME) for x, y in pairs)


def _percentile_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(FixedLocator([1 / (1 - share) for share in TICKS]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{(1 - 1 / x) * 100:.6g} %"))
    axes.xaxis.set_minor_locator(NullLocator())


def _milliseconds(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y * 1e3:g}"))
    low, high = axes.get_ylim()
    if high / low < 30:  # so that there are at least three numbers
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y * 1e3:g}" if _leading(y) in (2, 3, 5) else ""))
        axes.tick_params(axis="y", which="minor", labelsize="medium")
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())


def _leading(value: float) -> int:
    return round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))


@dataclass(frozen=True)
class _Label:
    """A text beside the axes, and the end of the line that it names, in the units of the axes."""

    text: str
    x: float
    y: float
    color: str
    weight: str = "normal"
    style: str = "normal"


def _beside(axes: Axes, figure: Figure, curves: Sequence[Curve], allowed: float | None) -> None:
    """Write the names of the curves to the right of the axes, in the order of their ends, and a thin line to each end."""
    bottom, top = map(math.log, axes.get_ylim())
    left, right = axes.get_xlim()
    ends = []
    for group in groups(curves):
        names = textwrap.wrap(", ".join(shorten(each.name) for each in group), LABEL)
        weight = "bold" if any(each.is_emphasized for each in group) else "normal"
        last = 1 / (1 - group[0].shares[-1])
        ends.append(_Label("\n".join(names), last, group[0].latency[-1], COLORS[group[0].backend], weight))
    if allowed:
        ends.append(_Label(f"{format_seconds(allowed)} allowed at 99 %", right, allowed, INK, style="italic"))
    ends.sort(key=lambda each: each.y)
    lines = [each.text.count("\n") + 1 for each in ends]
    room = axes.get_position().height * figure.get_figheight() * 72  # points
    size = min(8.5, room / (1.45 * sum(lines)))
    heights = [1.25 * size / room * (count + 0.25) for count in lines]
    starts = [(math.log(each.y) - bottom) / (top - bottom) for each in ends]
    for each, start, place in zip(ends, starts, _apart(starts, heights), strict=True):
        text = "\n".join(map(figure_text, each.text.split("\n")))
        looks: dict[str, Any] = {"fontsize": size, "fontweight": each.weight, "fontstyle": each.style, "linespacing": 1.2}
        where: dict[str, Any] = {"xytext": (1.06, place), "textcoords": "axes fraction", "va": "center"}
        axes.annotate(text, (each.x, each.y), annotation_clip=False, **where, **looks)
        begin = math.log(each.x / left) / math.log(right / left)
        axes.plot([begin, 1.05], [start, place], transform=axes.transAxes, color=each.color, linewidth=0.7, clip_on=False)


def _apart(values: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Place labels of these heights, ascending, at their values or as near as none lies on another, between 0 and 1."""
    placed: list[float] = []
    top = 0.0
    for value, height in zip(values, heights, strict=True):
        placed.append(max(value, top + height / 2))
        top = placed[-1] + height / 2
    top = 1.0
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], top - heights[number] / 2)
        top = placed[number] - heights[number] / 2
    return placed


def _bins(begin: Sequence[float], seconds: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the middles of the bins, with two empty ones in each pause, and before which of `begin` those lie."""
    starts = np.asarray(begin, float)
    after = np.flatnonzero(np.diff(starts) > 1.5 * seconds) + 1
    places, ends = np.repeat(after, 2), np.column_stack([starts[after - 1] + seconds, starts[after] - seconds])
    return np.insert(starts, places, ends.ravel()) + seconds / 2, places


def _time_unit(seconds: float) -> tuple[float, str]:
    units = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
    return next((each for each in units if seconds >= 3 * each[0]), units[-1])
