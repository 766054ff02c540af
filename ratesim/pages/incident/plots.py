"""The figures of the incident notebook, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text. Points are simulated, thin lines are expected, dashed ones the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.algorithms.plots import ALGORITHM_COLORS
from ratesim.pages.incident.analysis import Replay
from ratesim.pages.incident.rule import expected, operations
from ratesim.pages.incident.sources import GATEWAY, KONG_FLOOR
from ratesim.pages.style import INK, STYLE

__all__ = ["ages", "debts", "loads", "offers", "overshoots"]

COLORS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00")  # Okabe & Ito, Color Universal Design (2008)
MARKS = ("o", "s", "^", "D")
DASHED = (0, (4, 3))
DOTTED = (0, (1, 2))


def overshoots(found: Replay) -> tuple[Figure, str]:
    """Overshoot against what the rule says, by replicas, both in % of the limit."""
    rows, limit = found.beside("replicas"), found.limit
    within = rows[rows["holds"]]
    off = float((within["overshoot"] / within["rule"] - 1.0).abs().max())
    title = f"Between its two bends the rule is off by at most {format_percent(off)}"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(4.6)
        edge = np.array([rows["rule"].min() / 2, rows["rule"].max() * 2]) * 100 / limit.rate
        axes.plot(edge, edge, color=INK, linewidth=1.0, linestyle=DASHED)
        handles = [Line2D([], [], color=INK, linewidth=1.0, linestyle=DASHED, label="the rule")]
        for (replicas, of), color, mark in zip(rows.groupby("replicas", sort=False), COLORS, MARKS, strict=True):
            n, asked = _int(replicas), float(of["offered"].iloc[0])
            fine = np.geomspace(of["interval"].min(), of["interval"].max(), 300)
            line = [expected(limit, n, asked, d, found.answers["same_zone"]) for d in fine]
            slope = float(of["slope"].iloc[0])
            axes.plot(fine * slope * 100 / limit.rate, np.array(line) * 100 / limit.rate, color=color, linewidth=1.1)
            _points(axes, of["rule"] * 100 / limit.rate, of["overshoot"] * 100 / limit.rate, color, mark)
            handles.append(_key(f"{n} replicas", color, mark))
        _log(axes, "%")
        axes.set_ylim(
            min(rows["overshoot"].min(), rows["expected"].min()) * 60 / limit.rate, rows["rule"].max() * 120 / limit.rate
        )
        axes.set_xlim(*edge)
        axes.set_xlabel("(replicas − 1) × rate of one replica × interval, % of the limit (log scale)")
        axes.set_ylabel("overshoot of a window, % of the limit (log scale)")
        axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9)
        axes.set_title(title)
    told = []
    for replicas, of in rows.groupby("replicas", sort=False):
        values = ", ".join(
            f"{format_percent(d)} {format_percent(o)}"
            for d, o in zip(of["rule"] / limit.rate, of["overshoot"] / limit.rate, strict=True)
        )
        told.append(f"{replicas} replicas: {values}")
    return figure, f"{title}. Overshoot by the rule's prediction, both as shares of the limit. {'; '.join(told)}."


def offers(found: Replay) -> tuple[Figure, str]:
    """Overshoot by interval for several loads, of which one is more than the replicas' limits together."""
    rows, limit = found.beside("offered"), found.limit
    replicas = int(rows["replicas"].iloc[0])
    most = rows.groupby("offered", sort=False)["overshoot"].max() / limit.rate
    title = f"The overshoot ends at the demand beyond the limit, or at {replicas - 1} more limits"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(4.4)
        for (offered, of), color, mark in zip(rows.groupby("offered", sort=False), COLORS, MARKS, strict=True):
            asked = float(str(offered))
            fine = np.geomspace(of["interval"].min(), of["interval"].max(), 300)
            line = [expected(limit, replicas, asked, d, found.answers["same_zone"]) for d in fine]
            axes.plot(fine, np.array(line) * 100 / limit.rate, color=color, linewidth=1.1)
            slope = float(of["slope"].iloc[0])
            axes.plot(fine, fine * slope * 100 / limit.rate, color=color, linewidth=0.9, linestyle=DASHED)
            _points(axes, of["interval"], of["overshoot"] * 100 / limit.rate, color, mark)
            times = asked * limit.period / limit.rate
            axes.annotate(
                f"{times:g} × the limit asked", (of["interval"].iloc[-1], 100 * most[offered]), xytext=(7, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        _log(axes, "%")
        _times(axes, rows["interval"])
        axes.set_xlim(rows["interval"].min() / 1.3, rows["interval"].max() * 6)
        top = 1.6 * float(most.max()) * 100
        axes.set_ylim(min(rows["overshoot"].min(), rows["expected"].min()) * 60 / limit.rate, top)
        axes.set_ylabel("overshoot of a window, % of the limit (log scale)")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = "; ".join(
        f"{float(str(offered)) * limit.period / limit.rate:g} times the limit asked: at most {format_percent(value)}"
        for offered, value in most.items()
    )
    return figure, f"{title}. {replicas} replicas; {told} of the limit."


def ages(found: Replay) -> tuple[Figure, str]:
    """How old the replicas' views turned out to be, by interval, spread and in phase, near Redis and far from it."""
    rows = found.beside("phases")
    near = rows[rows["network"] == "same_zone"]
    far = rows[rows["network"] != "same_zone"]
    near_age, far_age = (float((of["overshoot"] / of["slope"]).iloc[0]) for of in (near, far))
    away = found.answers[str(far["network"].iloc[0])]
    title = f"{format_seconds(away)} from Redis no view is younger than {format_seconds(far_age)}, whatever the interval"
    names = {
        (True, "same_zone"): "spread phases",
        (False, "same_zone"): "in phase",
        (True, "cross_region"): "far from Redis",
    }
    with mpl.rc_context(STYLE):
        figure, axes = _figure(4.4)
        fine = np.geomspace(rows["interval"].min(), rows["interval"].max(), 300)
        axes.plot(fine, fine, color=INK, linewidth=1.0, linestyle=DASHED)
        axes.plot(fine, 2 * fine, color=INK, linewidth=1.0, linestyle=DOTTED)
        handles = [
            Line2D([], [], color=INK, linewidth=1.0, linestyle=DASHED, label="the interval (the rule)"),
            Line2D([], [], color=INK, linewidth=1.0, linestyle=DOTTED, label="twice the interval"),
        ]
        groups = rows.groupby(["spread", "network"], sort=False)
        for (_, of), color, mark in zip(groups, COLORS[1:], MARKS[1:], strict=True):
            spread, network = bool(of["spread"].iloc[0]), str(of["network"].iloc[0])
            limit, n, asked = found.limit, int(of["replicas"].iloc[0]), float(of["offered"].iloc[0])
            slope, answer = float(of["slope"].iloc[0]), found.answers[network]
            if spread:
                line = [expected(limit, n, asked, d, answer) / slope for d in fine]
                axes.plot(fine, line, color=color, linewidth=1.1)
            axes.vlines(of["interval"], of["overshoot"] / slope, of["worst"] / slope, color=color, linewidth=1.0, zorder=2)
            _points(axes, of["interval"], of["overshoot"] / slope, color, mark)
            handles.append(_key(names[spread, network], color, mark))
        _log(axes, "s")
        _times(axes, rows["interval"])
        axes.set_ylim(near_age / 2, 2.2 * float(rows["worst"].max() / rows["slope"].max()))
        axes.set_ylabel("age of the views that admitted it:\novershoot over the demand at the others (log scale)")
        axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9)
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = []
    for _, of in groups:
        name = names[bool(of["spread"].iloc[0]), str(of["network"].iloc[0])]
        values = ", ".join(
            f"{format_seconds(d)}: {format_seconds(o / s)}"
            for d, o, s in zip(of["interval"], of["overshoot"], of["slope"], strict=True)
        )
        told.append(f"{name}: {values}")
    return figure, f"{title}. Age of the views by interval. {'; '.join(told)}."


def debts(found: Replay) -> tuple[Figure, str]:
    """Cost admitted beyond an exact limiter since the start, by window and algorithm."""
    rows = found.part("debt")
    table = (
        rows.pivot_table(index="window", columns="algorithm", values="excess", sort=False).cumsum() * 100 / found.limit.rate
    )
    ends = table.iloc[-1]
    most, least = str(ends.idxmax()), str(ends.idxmin())
    title = f"{least} pays its debt back, {most} never does"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.8)
        for name in table.columns:
            values = [0.0, *table[name]]
            axes.plot(range(len(values)), values, color=ALGORITHM_COLORS.get(str(name), INK), marker="o", markersize=4.5)
            axes.annotate(
                f"{name}: {ends[name]:.0f} %", (len(table), ends[name]), xytext=(8, 0), textcoords="offset points",
                va="center", fontsize=9,
            )  # fmt: skip
        axes.hlines(0.0, 0, len(table), color=INK, linewidth=0.6)
        axes.set_xlim(0, len(table) * 1.34)
        axes.set_xticks(range(0, len(table) + 1, max(1, len(table) // 6)))
        axes.set_xlabel(f"windows of {found.limit.period:g} s since the start")
        axes.set_ylabel("admitted beyond an exact limiter\nsince the start, % of the limit")
        axes.set_title(title)
    told = "; ".join(f"{name} {ends[name]:.0f} %" for name in table.columns)
    return figure, f"{title}. Admitted beyond an exact limiter in {len(table)} windows, of one window's limit: {told}."


def loads(found: Replay) -> tuple[Figure, str]:
    """Operations on Redis per request and how busy they keep it, by interval, for one key and for many."""
    rows = found.part("load")
    replicas, offered = int(rows["replicas"].iloc[0]), float(rows["offered"].iloc[0])
    always = rows[rows["interval"] == 0.0]
    each = rows[rows["interval"] > 0.0]
    keys = list(dict.fromkeys(each["keys"]))
    rates = {k: offered / replicas / k for k in keys}
    few, many = keys[0], keys[-1]
    title = "The load bends where a replica gets one request per key and interval:\n"
    title += (
        f"{format_seconds(1 / rates[few])} for {few} key, {format_seconds(1 / rates[many])} for {many} at the same traffic"
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        fine = np.geomspace(each["interval"].min(), each["interval"].max(), 200)
        handles = []
        for k, color, mark in zip(keys, COLORS[1:], MARKS[1:], strict=True):
            of = each[(each["keys"] == k) & ~each["reads"]]
            left.plot(fine, [operations(rates[k], d) for d in fine], color=color, linewidth=1.1)
            _points(left, of["interval"], of["operations"], color, mark)
            right.plot(of["interval"], 100 * of["utilization"], color=color, linewidth=1.1)
            _points(right, of["interval"], 100 * of["utilization"], color, mark)
            handles.append(_key(f"{k} key{'s' if k > 1 else ''}, {rates[k]:.3g}/s each at a replica", color, mark))
        reading = each[each["reads"]]
        k = _int(reading["keys"].iloc[0])
        color = COLORS[1:][keys.index(k)]
        for axes, value in ((left, reading["operations"]), (right, 100 * reading["utilization"])):
            axes.plot(reading["interval"], value, color=color, linewidth=1.0, linestyle=DASHED)
            axes.scatter(reading["interval"], value, s=20, facecolor="white", edgecolor=color, zorder=3)
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                linestyle=DASHED,
                marker="o",
                markerfacecolor="white",
                markersize=4.5,
                label=f"{k} keys, and reads of stale views",
            )
        )
        left.axhline(1.0, color=INK, linewidth=1.0, linestyle=DOTTED)
        right.axhline(100 * float(always["utilization"].mean()), color=INK, linewidth=1.0, linestyle=DOTTED)
        handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=DOTTED, label="Redis asked for every request"))
        for axes in (left, right):
            axes.set(xscale="log", yscale="log")
            for at in (GATEWAY, KONG_FLOOR):
                axes.axvline(at, color=INK, linewidth=0.6, alpha=0.5)
            axes.xaxis.set_major_formatter(FuncFormatter(_time))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("interval (log scale)")
        for at, name in ((GATEWAY, "gateway's default"), (KONG_FLOOR, "Kong's advice")):
            left.annotate(
                name, (at, 0.0), xycoords=("data", "axes fraction"), xytext=(-2, 3), textcoords="offset points",
                rotation=90, ha="right", va="bottom", fontsize=8, style="italic",
            )  # fmt: skip
        left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
        left.set_ylabel("operations on Redis per request (log scale)")
        right.set_ylabel("utilization of Redis (log scale)")
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    told = []
    for k in keys:
        of = each[(each["keys"] == k) & ~each["reads"]]
        told.append(
            f"{k} keys: "
            + ", ".join(f"{format_seconds(d)} {o:.2g}" for d, o in zip(of["interval"], of["operations"], strict=True))
        )
    return figure, f"{title}. Operations per request by interval: {'; '.join(told)}.".replace("\n", " ")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, figure.subplots()


def _points(axes: Axes, x: Any, y: Any, color: str, mark: str) -> None:
    axes.plot(x, y, color=color, marker=mark, markersize=5.5, markeredgewidth=0, linestyle="none", zorder=3)


def _key(label: str, color: str, mark: str) -> Line2D:
    return Line2D([], [], color=color, linewidth=1.1, marker=mark, markersize=6, markeredgewidth=0, label=label)


def _log(axes: Axes, unit: str) -> None:
    axes.set(xscale="log", yscale="log")
    said = FuncFormatter(_time) if unit == "s" else FuncFormatter(lambda value, _: f"{value:g} %")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter(said)
        axis.set_minor_formatter(NullFormatter())


def _times(axes: Axes, intervals: Iterable[float]) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(_time))
    axes.set_xlim(min(intervals) / 1.3, max(intervals) * 1.3)
    axes.set_xlabel("interval (log scale)")


def _time(value: float, _: object = None) -> str:
    return f"{value * 1e3:g} ms" if value < 0.9995 else f"{value:g} s"


def _int(value: Any) -> int:
    return int(value)
