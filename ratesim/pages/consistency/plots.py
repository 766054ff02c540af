"""The figures of the consistency notebook, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.pages.consistency.analysis import Map, Trial
from ratesim.pages.style import INK, STYLE

__all__ = ["KINDS", "intervals", "latencies", "one_window", "skews", "trade_off"]

# Okabe & Ito, Color Universal Design (2008): who decides.
KINDS = {
    "memory": "#E69F00",
    "redis": "#D55E00",
    "strong": "#CC79A7",
    "lease": "#0072B2",
    "session": "#56B4E9",
    "eventual": "#009E73",
}
MARKS = ("o", "s", "^", "D")
NONE = 1e-4  # where "exactly 0" stands on an axis of shares; what is above it, but hardly, stands at twice that


def trade_off(found: Map) -> tuple[Figure, str]:
    """Over-admission against operations at Redis, one point for each policy."""
    rows = found.part("policies")
    exact = rows[(rows["over"] == 0.0) & (rows["kind"] != "memory")]
    best = exact.sort_values("operations").to_dict("records")[0]
    title = f"{best['policy']} is exact with the fewest operations ({_two(best['operations'])} per request)"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        axes = figure.subplots()
        placed: list[tuple[float, float]] = []
        for row in rows.sort_values("over", ascending=False).to_dict("records"):
            x, y = row["operations"], max(row["over"], NONE if row["over"] == 0.0 else 2 * NONE)
            axes.scatter(x, y, s=34, color=KINDS[row["kind"]], zorder=3)
            beside = sum(abs(x - a) < 0.35 and 0.6 < y / b < 1.7 for a, b in placed)
            axes.annotate(
                row["policy"], (x, y), xytext=(6, 4 - 11 * beside), textcoords="offset points", fontsize=8.5, zorder=4
            )
            placed.append((x, y))
        axes.set_yscale("log")
        axes.set_ylim(NONE / 1.6, 2.0)
        axes.set_xlim(-0.05, 1.25 * rows["operations"].max() + 0.1)
        _shares(axes)
        axes.set_xlabel("operations at Redis per request")
        axes.set_ylabel("over-admission, % of the cost\nthat an exact limiter admits (log scale)")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = "; ".join(
        f"{row['policy']} {format_percent(row['over'])} at {_two(row['operations'])}" for row in rows.to_dict("records")
    )
    return figure, f"{title}. Over-admission, at operations per request: {told}."


def latencies(found: Map) -> tuple[Figure, str]:
    """From the median to the 99th percentile of every policy."""
    rows = found.part("policies").sort_values(["p50", "p99"], ascending=False)
    near = int((rows["p50"] < 1e-4).sum())
    title = f"{near} of {len(rows)} policies answer most requests without the network"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows.to_dict("records")):
            color = KINDS[row["kind"]]
            axes.plot([row["p50"], row["p99"]], [y, y], color=color, linewidth=2.0)
            axes.scatter([row["p50"]], [y], s=34, color=color, zorder=3)
            axes.scatter([row["p99"]], [y], s=34, facecolor="white", edgecolor=color, zorder=3)
        axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), rows["policy"])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("latency: median (filled) and 99th percentile (open), log scale")
        axes.set_title(title, x=0.0)
    told = "; ".join(
        f"{row['policy']} {format_seconds(row['p50'])}, {format_seconds(row['p99'])}" for row in rows.to_dict("records")
    )
    return figure, f"{title}. Median and 99th percentile: {told}."


def intervals(found: Map) -> tuple[Figure, str]:
    """Over-admission and operations of eventual by the number of nodes, for each interval."""
    rows = found.part("nodes", "nodes")
    widest = rows[rows["nodes"] == rows["nodes"].max()]
    few, many = widest["over"].iloc[0], widest["over"].iloc[-1]
    nodes = int(widest["nodes"].iloc[0])
    change = f"from {format_percent(few)} to {format_percent(many)}"
    title = f"At {nodes} nodes, a 100-fold interval changes over-admission {change}"
    figure, told = _pair(rows, "nodes", list(rows["policy"].unique()), title, "nodes (log scale)", log=True)
    return figure, f"{title}. Over-admission, and operations per request, by number of nodes: {told}."


def skews(found: Map) -> tuple[Figure, str]:
    """Plot accuracy and load by the skew of the keys, eventual beside leases."""
    rows = found.part("skew", "skew")
    names = list(rows["policy"].unique())
    lease = rows[rows["policy"] == "lease"]
    first, last = lease["operations"].iloc[0], lease["operations"].iloc[-1]
    title = f"With more skew, leases go from {_two(first)} to {_two(last)} operations at Redis per request"
    figure, told = _pair(rows, "skew", names, title, "skew of the keys, Zipf's exponent", log=False)
    return figure, f"{title}. Over-admission, and operations per request, by skew: {told}."


def one_window(found: Trial) -> tuple[Figure, str]:
    """Plot the requests of the busiest key in one window, and how many are admitted, over its limit."""
    rate, nodes = found.traffic.limit.rate, found.traffic.nodes
    title = f"Sync interval {format_seconds(found.interval)} at {nodes} node{'s' if nodes > 1 else ''}: "
    title += f"the busiest key gets {found.times:.2f} times its limit"
    most = max(1.6 * found.times, 2.0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, times, color, width in (
            ("requested", found.asked, "#999999", 1.2),
            ("admitted", found.admitted, KINDS["eventual"], 2.4),
        ):
            ends = [0.0, *times, found.traffic.limit.period]
            counted = [*(count / rate for count in range(len(times) + 1)), len(times) / rate]
            axes.step(ends, counted, where="post", color=color, linewidth=width, label=name)
        axes.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), label="the limit")
        axes.set_xlim(0.0, found.traffic.limit.period)
        axes.set_ylim(0.0, most)
        axes.set_xlabel("seconds since the start of the window")
        axes.set_ylabel("multiples of the limit")
        axes.legend(loc="lower right", frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure, f"{title}. The requests for this key amount to {len(found.asked) / rate:.2f} times its limit."


def _pair(rows: pd.DataFrame, by: str, names: Sequence[str], title: str, label: str, log: bool) -> tuple[Figure, str]:
    """Over-admission at the left, operations at the right, a line for each policy."""
    told = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        for name, mark, style in zip(names, MARKS, ("-", "--", ":", "-."), strict=False):
            of = rows[rows["policy"] == name]
            color = KINDS[str(of["kind"].iloc[0])]
            for axes, values in (
                (left, of["over"].where(of["over"] == 0.0, of["over"].clip(lower=2 * NONE)).clip(lower=NONE)),
                (right, of["operations"]),
            ):
                axes.plot(of[by], values, color=color, marker=mark, markersize=5, linestyle=style, label=name)
            told.append(
                f"{name}: "
                + ", ".join(
                    f"{x:g} {format_percent(y)} {_two(z)}"
                    for x, y, z in zip(of[by], of["over"], of["operations"], strict=True)
                )
            )
        left.set_yscale("log")
        left.set_ylim(NONE / 1.6, 2.0)
        _shares(left)
        left.set_ylabel("over-admission, % (log scale)")
        right.set_ylabel("operations at Redis per request")
        right.set_ylim(0.0, 1.15 * max(rows["operations"].max(), 1.0))
        right.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        right.annotate(
            "one per request", (rows[by].max(), 1.0), xytext=(0, 3), textcoords="offset points", ha="right", fontsize=8
        )
        for axes in (left, right):
            if log:
                axes.set_xscale("log")
            axes.set_xticks(sorted(rows[by].unique()), [f"{x:g}" for x in sorted(rows[by].unique())])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure, "; ".join(told)


def _shares(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    ticks = [NONE, 1e-3, 1e-2, 1e-1, 1.0]
    axes.set_yticks(ticks, ["exactly 0", *(f"{100 * tick:g} %" for tick in ticks[1:])])


def _two(value: float) -> str:
    return format_amount(value, 2)
