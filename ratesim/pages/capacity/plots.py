"""The figures of the page on capacity, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.formatting import escape_control_chars, format_amount, format_money
from ratesim.pages.capacity.analysis import Costed, cheapest, second_server
from ratesim.pages.style import COLORS, INK, STYLE
from ratesim.recommendation.assess.capacity import Capacity

__all__ = ["PARTS", "by_keys", "by_load", "parted"]

# A currency may be a dollar sign, which is no beginning of a formula here.
PLAIN: Any = {**STYLE, "text.parse_math": False}
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
POINTS = 120  # of a line, so that the steps of it look like steps
ROOM = 0.055  # of a figure's height for a label
LEAST = 0.01  # of the currency: where less stands on an axis of prices

# What a price is made of, as it is said, and how much ink it gets.
PARTS = {
    "store": ("servers", 1.0),
    "node_memory": ("memory of the nodes", 0.62),
    "node_processor": ("processors of the nodes", 0.38),
    "network": ("network", 0.22),
    "wrong_decisions": ("wrong decisions", 0.1),
}


def by_load(found: Costed) -> tuple[Figure, str]:
    """Plot the price of each candidate against the load."""
    peak = found.peak
    loads = found.load * np.geomspace(min(1.0, 10.0 / peak), max(10.0, 100_000.0 / peak), POINTS)
    points = [found.at(load=float(load)) for load in loads]
    prices, rates = _prices(points), loads * peak / found.load
    now, later = cheapest(found.at()), [cheapest(point) for point in points if _peak(point) >= peak]
    title = f"{now} costs least with shared state, from {format_amount(peak, 2)} to {_rate(rates[-1])}"
    if set(later) != {now}:
        title = f"{now} costs least at {_rate(peak)} and {later[-1]} at {format_amount(rates[-1], 2)}"
    figure = _lines(found, rates, prices, peak, escape_control_chars(title))
    figure.axes[0].set_xlabel("requests in the busiest second (log scale)")
    return figure, f"{escape_control_chars(title)}. {_told(found, rates, prices, _rate)}"


def by_keys(found: Costed) -> tuple[Figure, str]:
    """Plot the price of each candidate against the number of keys."""
    keys = np.unique(np.geomspace(1e3, 1e8, POINTS).astype(int))
    prices = _prices([found.at(keys=int(number)) for number in keys])
    name = cheapest(found.at())
    second = second_server(found, name)
    title = (
        f"From {second:,} keys on, {name} needs another server" if second else f"{name} costs least with {found.keys:,} keys"
    )
    figure = _lines(found, keys, prices, found.keys, escape_control_chars(title))
    figure.axes[0].set_xlabel("number of keys (log scale)")
    return figure, f"{escape_control_chars(title)}. {_told(found, keys, prices, lambda number: f'{number:,.0f} keys')}"


def parted(found: Costed, capacities: Mapping[str, Capacity]) -> tuple[Figure, str]:
    """Plot the parts of each price."""
    dear = max(capacities.values(), key=lambda each: each.price.per_month)
    most = max(PARTS, key=lambda part: float(getattr(dear.price, part)))
    share = float(getattr(dear.price, most)) / dear.price.per_month if dear.price.per_month else 0.0
    much = f"{100 * share:.0f} %" if share < 0.995 else "nearly all"
    title = escape_control_chars(f"{dear.candidate} costs most; {much} of its price is for {PARTS[most][0]}")
    told = []
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(7.2, 0.36 * len(capacities) + 1.7), layout="constrained")
        axes = figure.subplots()
        for y, (name, each) in enumerate(capacities.items()):
            left = 0.0
            for part, (_, ink) in PARTS.items():
                width = float(getattr(each.price, part))
                axes.barh(y, width, left=left, height=0.62, color=COLORS[found.backend(name)], alpha=ink, linewidth=0)
                left += width
            paid = escape_control_chars(format_money(each.price.per_month, each.price.currency))
            axes.annotate(paid, (left, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
            told.append(f"{escape_control_chars(name)} {paid}")
        for said, ink in PARTS.values():
            axes.barh(0, 0, color=INK, alpha=ink, label=said)
        axes.set_yticks(range(len(capacities)), [escape_control_chars(name) for name in capacities])
        axes.set_ylim(len(capacities) - 0.5, -0.5)
        axes.set_xlim(0.0, 1.16 * max(dear.price.per_month, LEAST))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.set_xlabel(_unit(found))
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        axes.set_title(title, fontsize=10.5, x=0.0)
    return figure, f"{title}. Price per month: {', '.join(told)}."


def _prices(points: Sequence[Mapping[str, Capacity]]) -> dict[str, list[float]]:
    return {name: [max(point[name].price.per_month, LEAST) for point in points] for name in points[0]}


def _lines(found: Costed, x: np.ndarray, prices: Mapping[str, Sequence[float]], now: float, title: str) -> Figure:
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        counted: dict[str, int] = {}
        for name, y in prices.items():
            backend = found.backend(name)
            number = counted[backend] = counted.get(backend, -1) + 1
            dash = DASHES[number % len(DASHES)]
            # Who costs the same lies on top of each other, and the lower line is seen at both sides of the upper one.
            depth = sum(counted.values()) + len(counted) - 1
            axes.plot(x, y, color=COLORS[backend], linestyle=dash, linewidth=1.4 + 0.4 * depth, zorder=3 - 0.1 * depth)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(float(x[0]), float(x[-1]))
        axes.axvline(now, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            "requested", (now, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -9), textcoords="offset points",
            fontsize=8,
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
        _labels(axes, found, {name: y[-1] for name, y in prices.items()})
        axes.set_ylabel(f"{_unit(found)} (log scale)")
        axes.set_title(title, fontsize=10, x=0.0)
    return figure


def _labels(axes: Axes, found: Costed, ends: Mapping[str, float]) -> None:
    """Beside the end of each line its name, and none upon another."""
    low, high = np.log10(axes.get_ylim())
    names = sorted(ends, key=lambda name: ends[name])
    heights = [float((np.log10(ends[name]) - low) / (high - low)) for name in names]
    places = heights.copy()
    for i in range(1, len(names)):
        places[i] = max(heights[i], places[i - 1] + ROOM)
    for i in reversed(range(len(names))):  # none above the figure
        places[i] = min(places[i], 1.0 - ROOM * (len(names) - 1 - i))
    for name, height, place in zip(names, heights, places, strict=True):
        axes.annotate(
            escape_control_chars(name), (1.01, place), xycoords="axes fraction", va="center", fontsize=8.5, color=INK
        )
        color = COLORS[found.backend(name)]
        axes.plot([1.0, 1.01], [height, place], transform=axes.transAxes, clip_on=False, color=color, linewidth=0.8)


def _told(found: Costed, x: np.ndarray, prices: Mapping[str, Sequence[float]], said: Any) -> str:
    """Describe both ends of every line for the alt text."""
    currency = found.prices.currency
    ends = [f"{name} {format_money(y[0], currency)} and {format_money(y[-1], currency)}" for name, y in prices.items()]
    return escape_control_chars(f"Price per month at {said(float(x[0]))} and at {said(float(x[-1]))}: {', '.join(ends)}.")


def _unit(found: Costed) -> str:
    return f"{escape_control_chars(found.prices.currency)} per month"


def _peak(point: Mapping[str, Capacity]) -> float:
    return next(iter(point.values())).load.peak


def _rate(value: float) -> str:
    return f"{format_amount(value, 2)} requests/s"
