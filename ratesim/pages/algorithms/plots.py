"""The figures of the algorithms notebook, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from ratesim.formatting import format_bytes, format_percent
from ratesim.pages.algorithms.analysis import times_the_memory
from ratesim.pages.style import INK, STYLE

if TYPE_CHECKING:
    from ratesim.limit import Limit
    from ratesim.simulation.analysis.algorithm_comparison import AlgorithmSummary
    from ratesim.simulation.analysis.two_window_error import TwoWindow

__all__ = [
    "ALGORITHM_COLORS",
    "after_a_pause",
    "around_an_edge",
    "footprint",
    "near_the_threshold",
    "sawtooth",
    "worst_windows",
]

# Okabe & Ito, Color Universal Design (2008); an algorithm that is registered by somebody else is drawn in ink.
ALGORITHM_COLORS = {
    "fixed_window": "#D55E00",
    "sliding_window": "#0072B2",
    "sliding_log": "#009E73",
    "token_bucket": "#E69F00",
    "leaky_bucket": "#56B4E9",
    "gcra": "#CC79A7",
    "adaptive": "#999999",
}

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def around_an_edge(curves: Mapping[str, Curve], edge: float, width: float) -> tuple[Figure, str]:
    """Cost admitted since `width` seconds before an edge, by algorithms that may share a curve (one name for all of them).

    curves: times of admission, seconds, ascending, and the cost admitted until each, as a multiple of the limit.
    """
    ends = {name: float(total[-1]) if len(total) else 0.0 for name, (_, total) in curves.items()}
    most = max(ends, key=lambda name: ends[name])
    title = f"{most} admits {ends[most]:.2f} times the limit within {2 * width:.2g} s across an edge"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(4.0)
        for name, (time, total) in curves.items():
            x, y = np.concatenate([[-width], time - edge, [width]]), np.concatenate([[0.0], total, [ends[name]]])
            axes.step(x, y, where="post", color=_color(name), linewidth=2.0)
        axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.text(0.0, 0.02, " edge of a window", fontsize=8.5, style="italic", transform=axes.get_xaxis_transform())
        top = 1.12 * max(ends.values())
        axes.set(xlim=(-width, width), ylim=(0.0, top))
        said = [name.replace(", ", ",\n") + f": {end:.2f}" for name, end in ends.items()]
        places = _apart(list(ends.values()), [(label.count("\n") + 1.3) * top / 19 for label in said])
        for label, place in zip(said, places, strict=True):
            axes.annotate(label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.set_xlabel("seconds from the edge of a window")
        axes.set_ylabel("cost admitted, multiples of the limit")
        axes.set_title(title, x=0.0)
    told = "; ".join(f"{name} {end:.2f}" for name, end in ends.items())
    return figure, f"{title}. Multiples of the limit admitted: {told}."


def after_a_pause(curves: Mapping[str, Curve], period: float, limit: float, burst: float) -> tuple[Figure, str]:
    """Cost admitted since a client came that had not asked before, over three periods.

    curves: as in `around_an_edge`, multiples of the page's limit. limit: the one that was tried, as a multiple of that.
    burst: of the bucket, as a multiple of the one that was tried.
    """
    ends = {name: float(total[-1]) if len(total) else 0.0 for name, (_, total) in curves.items()}
    first = {name: float(total[time < period].max(initial=0.0)) / limit for name, (time, total) in curves.items()}
    most = max(first, key=lambda name: first[name])
    title = f"In the first period, {most} admits {first[most]:.2f} times the limit"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.8)
        for name, (time, total) in curves.items():
            x, y = np.concatenate([[0.0], time, [3.0 * period]]), np.concatenate([[0.0], total, [ends[name]]])
            axes.step(x / period, y, where="post", color=_color(name), linewidth=2.0)
        axes.plot([0.0, 3.0], [0.0, 3.0 * limit], color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        top = 1.1 * max(*ends.values(), 3.0 * limit)
        axes.set(xlim=(0.0, 3.0), ylim=(0.0, top))
        places = _apart([*ends.values(), 3.0 * limit], [1.3 * top / 19] * (len(ends) + 1))
        said = [*(f"{name}: {end:.2f}" for name, end in ends.items()), "the limit's rate"]
        for label, place in zip(said, places, strict=True):
            axes.annotate(label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.set_xlabel("periods since the client's first request")
        axes.set_ylabel("cost admitted, multiples of this page's limit")
        axes.set_title(title, x=0.0, fontsize=10.5)
    told = "; ".join(f"{name} {end:.2f}" for name, end in ends.items())
    return figure, f"{title}. The burst is {burst:g} times the limit. Admitted in three periods: {told}."


def worst_windows(standings: Mapping[str, AlgorithmSummary], limit: Limit) -> tuple[Figure, str]:
    """Plot the most that each algorithm admitted one key in a tenth of a period and in a period, over the limit."""
    tenth = {name: each.worst_tenth for name, each in standings.items()}
    whole = {name: each.worst_period for name, each in standings.items()}
    kept = [name for name in whole if whole[name] <= 1.0 + 1e-9]
    title = f"Only {' and '.join(kept)} kept" if kept else "No algorithm kept"
    title += f" the limit in every {limit.period:g} s"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.6)
        _dumbbells(axes, tenth, whole, "{:.2f}".format)
        axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.text(1.0, 1.0, " the limit", fontsize=8.5, style="italic", va="bottom", transform=axes.get_xaxis_transform())
        axes.set_xlim(0.0, 1.12 * max(*tenth.values(), *whole.values(), 1.0))
        axes.set_xlabel(
            "largest amount admitted for one key, multiples of the limit:\n"
            f"in any {limit.period / 10:g} s (hollow), in any {limit.period:g} s (filled)"
        )
        axes.set_title(title, pad=16)
    told = "; ".join(f"{name} {tenth[name]:.2f} and {whole[name]:.2f}" for name in whole)
    return figure, f"{title}. Worst tenth of a period and worst period, multiples of the limit: {told}."


def footprint(standings: Mapping[str, AlgorithmSummary], beside: str) -> tuple[Figure, str]:
    """Bytes for each key, when it has asked once and when its limit is used up; the title sets the most `beside` another."""
    once = {name: each.bytes_once for name, each in standings.items()}
    full = {name: each.bytes_full for name, each in standings.items()}
    most = max(full, key=lambda name: full[name])
    title = (
        f"A key that uses up its limit takes {times_the_memory(standings[most], standings[beside])} in {most} as in {beside}"
    )
    if most == beside:
        title = f"A key that uses up its limit takes the most memory in {most}, {format_bytes(full[most])}"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.4)
        axes.set_xscale("log")
        _dumbbells(axes, once, full, "{:,.0f}".format)
        low, high = min(once.values()) / 1.5, max(2.0 * max(full.values()), 4.0 * min(once.values()))
        axes.set_xlim(low, high)
        axes.set_xticks([tick for k in range(1, 12) for tick in (10.0**k, 3 * 10.0**k) if low <= tick <= high])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bytes per key in memory (log scale):\nafter one request (hollow), with the limit used up (filled)")
        axes.set_title(title, fontsize=9.5, x=0.0)
    told = "; ".join(f"{name} {format_bytes(once[name])} and {format_bytes(full[name])}" for name in full)
    return figure, f"{title}. Memory per key, after one request and with the limit used up: {told}."


def near_the_threshold(found: Sequence[TwoWindow], published: float, period: float) -> tuple[Figure, str]:
    """Share of requests decided wrongly by the two-window counter, by threshold; `published` is the share to set beside."""
    shown = sorted(found, key=lambda each: each.threshold)
    first, last = shown[0], shown[-1]
    title = f"{format_percent(first.wrong)} wrong with {first.above:,} sources above the threshold"
    title += f", {format_percent(last.wrong)} with {last.above:,}"
    title = title[0].upper() + title[1:]
    least = min([published, *(each.wrong for each in shown if each.wrong > 0)])
    lane = least / 6  # where exactly 0 is drawn
    values = {each: each.wrong or lane for each in shown}
    color = ALGORITHM_COLORS["sliding_window"]
    with mpl.rc_context(STYLE):
        figure, axes = _figure(4.0)
        axes.set(xscale="log", yscale="log")
        axes.plot([each.threshold for each in shown], [value * 100 for value in values.values()], color=color, linewidth=1.6)
        for each, value in values.items():
            face = color if each.wrong else "white"
            axes.scatter([each.threshold], [value * 100], s=30, facecolor=face, edgecolor=color, zorder=3)
            axes.annotate(
                f"{each.above:,}",
                (each.threshold, value * 100),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.axhline(published * 100, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.text(
            0.005, published * 100, "published for Cloudflare", fontsize=8.5, style="italic", va="bottom",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        axes.set_ylim(lane * 100 / 2, max(published, *values.values()) * 400)
        axes.set_xlim(shown[0].threshold / 1.4, shown[-1].threshold * 1.8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        decades = range(math.ceil(math.log10(least * 100)), math.floor(math.log10(axes.get_ylim()[1])) + 1)
        axes.set_yticks([*([lane * 100] if not all(each.wrong for each in shown) else []), *(10.0**k for k in decades)])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "exactly 0" if y <= lane * 100 else f"{y:g} %"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"threshold, requests per {period:g} s (log scale); beside each point: sources that exceed it")
        axes.set_ylabel("requests wrongly allowed or limited")
        axes.set_title(title, fontsize=10, x=0.0)
    told = "; ".join(f"{each.threshold:,.0f}: {format_percent(each.wrong)}, {each.above} sources" for each in shown)
    return figure, f"{title}. Threshold, wrong share, sources above: {told}."


def sawtooth(windows: pd.DataFrame, period: float) -> tuple[Figure, str]:
    """Rows of `simulation.saturation.saturate`: the adaptive limit and what the backend could do, by window."""
    capacity, limit = windows["capacity"], windows["limit"]
    scarce = windows[capacity == capacity.min()]
    settled = scarce["limit"].iloc[len(scarce) // 3 :]  # after it has fallen to what the backend can do
    low, high = f"{settled.min():.0f}", f"{settled.max():.0f}"
    moves = f"stays at {low}" if low == high else f"oscillates between {low} and {high}"
    title = f"With a backend capacity of {capacity.min():.0f}, the adaptive limit {moves}"
    window = windows["time"] / period
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.8)
        axes.step(window, capacity, where="pre", color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.step(window, limit, where="pre", color=ALGORITHM_COLORS["adaptive"], linewidth=2.2)
        axes.annotate(
            "capacity of the backend",
            (window.iloc[0], capacity.iloc[0]),
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=9,
        )
        axes.annotate(
            "the limit",
            (window.iloc[-1], limit.iloc[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        axes.set_ylim(0.0, 1.15 * float(max(capacity.max(), limit.max())))
        axes.set_xlim(0.0, float(window.iloc[-1]))
        axes.set_xlabel(f"time, windows of {period:g} s")
        axes.set_ylabel("requests per window")
        axes.set_title(title, fontsize=10.5, x=0.0)
    late = format_percent(float(scarce["slow"].mean()))
    return figure, f"{title}. Of the answers at that capacity, too late: {late}."


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, figure.subplots()


def _color(name: str) -> str:
    return ALGORITHM_COLORS.get(name.split(",")[0], INK)


def _apart(values: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Place labels of these heights, each centered at its value or, if it would lie on one below it, above that."""
    placed = np.array(values, np.float64)
    top = -np.inf
    for i in np.argsort(placed, kind="stable"):
        placed[i] = max(placed[i], top + heights[i] / 2)
        top = placed[i] + heights[i] / 2
    return [float(value) for value in placed]


def _dumbbells(axes: Axes, hollow: Mapping[str, float], filled: Mapping[str, float], said: Callable[[float], str]) -> None:
    """One row for each name: a hollow point, a filled one, a line between, and the greater as a number."""
    for row, name in enumerate(hollow):
        low, high = hollow[name], filled[name]
        axes.plot([low, high], [row, row], color=_color(name), linewidth=1.6, zorder=2)
        axes.scatter([low], [row], s=46, facecolor="white", edgecolor=_color(name), linewidths=1.6, zorder=3)
        axes.scatter([high], [row], s=46, color=_color(name), zorder=4)
        axes.annotate(
            said(max(low, high)), (max(low, high), row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(hollow)), list(hollow))
    axes.set_ylim(len(hollow) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
