"""The figures of the notebook on a log, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text. No name that stands in a log is drawn. What is drawn is aggregated: at most
some hundred points, of however many requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ratesim.formatting import format_amount, format_count, format_length, format_limit, format_percent, format_period
from ratesim.pages.style import INK, STYLE
from ratesim.pages.your_log.arrivals import Arrivals
from ratesim.pages.your_log.skew import Skew
from ratesim.simulation.analysis.limit_suggestion import Effect, Suggestion

__all__ = ["over_time", "ranks", "rungs", "scales"]

# Okabe & Ito, Color Universal Design (2008).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PERIODS, MARKS = (GREEN, PURPLE, ORANGE), ("s", "^", "D")
MOST_POINTS = 200
UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"), (1e-3, "milliseconds"))
DATES = (1e8, 4.1e9)  # seconds since the epoch, 1973 to 2099: other times are no dates


def over_time(found: Arrivals) -> tuple[Figure, str]:
    """Plot requests per second in steps, and how many of them were answered 429."""
    line = found.timeline
    rate, refused = line.requests / line.width, line.refused / line.width
    span = len(rate) * line.width
    unit, name = next(((unit, name) for unit, name in UNITS if span >= 3 * unit), UNITS[-1])
    edges = np.arange(len(rate) + 1) * line.width / unit
    peak, mean = float(rate.max()), float(rate.mean())
    step = format_length(line.width)
    title = f"The busiest step of {step}: {line.requests.max():,} requests, {format_amount(peak / mean)} times the mean"
    if len(rate) == 1:
        title = f"All requests lie within {step}: {format_count(int(line.requests[0]), 'request')}"
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.4)
        axes.stairs(rate, edges, color=BLUE, fill=True, alpha=0.75)
        if refused.any():
            axes.stairs(refused, edges, color=ORANGE, fill=True)
            axes.annotate(
                "answered 429", (1.0, 1.0), xycoords="axes fraction", ha="right", va="bottom", color=ORANGE, fontsize=9
            )
        axes.set_xlim(0.0, float(edges[-1]))
        axes.set_ylim(0.0, 1.1 * peak)
        axes.set_xlabel(f"{name} since {_since(line.start)}, in steps of {step}")
        axes.set_ylabel("requests per second, mean over a step")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = f"{title}. Over {format_amount(span / unit)} {name} the mean is {format_amount(mean)} requests per second"
    told += f", and the maximum is {format_amount(peak)}"
    return figure, f"{told}{f'; {line.refused.sum():,} were answered 429' if refused.any() else ''}."


def scales(found: Arrivals) -> tuple[Figure, str]:
    """Plot the index of dispersion at each length of window, beside the range of a Poisson process."""
    rows = found.scales
    most = max(rows, key=lambda each: each.index)
    title = (
        f"In windows of {format_length(most.seconds)}, counts vary {format_amount(most.index)} times as much as Poisson's"
    )
    if all(each.low <= each.index <= each.high for each in rows):
        title = "At every length of window, counts vary as Poisson's do"
    x, y = [each.seconds for each in rows], [max(each.index, 1e-3) for each in rows]
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.4)
        axes.fill_between(x, [each.low for each in rows], [each.high for each in rows], color=INK, alpha=0.15, linewidth=0)
        axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.plot(x, y, color=BLUE, marker="o", markersize=5, linewidth=1.6)
        for each, height in zip(rows, y, strict=True):
            axes.annotate(
                format_amount(each.index),
                (each.seconds, height),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axes.annotate(
            "Poisson, and 95 % of its draws", (0.01, 1.0), xycoords=("axes fraction", "data"), xytext=(0, -11),
            textcoords="offset points", ha="left", fontsize=8.5, style="italic",
        )  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(min(x) / 2.0, max(x) * 2.0)
        axes.set_ylim(min(*y, 0.5) / 1.5, max(*y, 2.0) * 2.0)
        axes.set_xticks(x, [format_length(each) for each in x])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _plain(axes)
        axes.set_xlabel("length of a window (log scale)")
        axes.set_ylabel("index of dispersion,\nvariance over mean of the counts (log scale)")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = "; ".join(f"{format_length(each.seconds)} {each.index:.3g}" for each in rows)
    return figure, f"{title}. Index of dispersion by length of window, 1 for Poisson: {told}."


def ranks(found: Skew) -> tuple[Figure, str]:
    """Plot requests by rank, and Zipf's law where it was fitted."""
    n = found.clients
    title = (
        f"The busiest {-(-n // 100):,} of {format_count(n, 'client')} make {format_percent(found.percent)} of the requests"
    )
    chosen = np.unique(np.geomspace(1, n, MOST_POINTS).round().astype(np.int64))
    counts = found.counts[chosen - 1]
    fit = found.exponent
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.6)
        axes.plot(chosen, counts, color=BLUE, marker="o", markersize=3, linewidth=0)
        if fit is not None:
            x = np.array([1.0, fit.clients])
            weights = np.arange(1, fit.clients + 1) ** -fit.value
            scale = found.counts[: fit.clients].sum() / weights.sum()
            axes.plot(x, scale * x**-fit.value, color=ORANGE, linewidth=1.6)
            axes.annotate(
                f"Zipf's exponent {fit.value:.2f}\n({fit.low:.2f} to {fit.high:.2f}), of {fit.clients:,}",
                (1.0, 1.0), xycoords="axes fraction", ha="right", va="top", color=ORANGE, fontsize=9,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(0.8, max(1.3 * n, 10.0))
        axes.set_ylim(0.7, 2.0 * float(counts[0]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("rank of the client by its requests (log scale)")
        axes.set_ylabel("requests (log scale)")
        axes.set_title(title, fontsize=10.5, x=0.0)
    told = "; ".join(f"rank {rank:,}: {count:,}" for rank, count in zip(chosen[::40], counts[::40], strict=True))
    return figure, f"{title}. Requests by rank: {told}."


def rungs(ladders: Mapping[float, tuple[Effect, ...]], chosen: Suggestion, cost: str) -> tuple[Figure, str]:
    """Plot the shares of clients touched and of requests denied by rate, a line for each period, the suggestion marked."""
    effect = chosen.effect
    title = f"{format_limit(effect.limit)} would touch {effect.touched:,} of {format_count(effect.clients, 'client')}"
    told, own = [], effect.limit.period
    others, marks = iter(PERIODS), iter(MARKS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        for period, rows in ladders.items():
            color, mark = (BLUE, "o") if period == own else (next(others), next(marks))
            rows = rows if period != own else tuple(sorted({*rows, effect}, key=lambda each: each.limit.rate))
            x = [each.limit.rate for each in rows]
            for axes, y in ((left, [e.touched_share for e in rows]), (right, [e.denied_share for e in rows])):
                axes.plot(
                    x, np.array(y) * 100, color=color, marker=mark, markersize=4, linewidth=2.4 if period == own else 1.2,
                    label=f"per {format_period(period)}",
                )  # fmt: skip
            shares = ", ".join(
                f"{format_amount(e.limit.rate)} {format_percent(e.touched_share)} {format_percent(e.denied_share)}"
                for e in rows
            )
            told.append(f"per {format_period(period)}: {shares}")
        for axes, value in ((left, effect.touched_share), (right, effect.denied_share)):
            axes.axvline(effect.limit.rate, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(
                format_limit(effect.limit), (effect.limit.rate, 0.98), xycoords=("data", "axes fraction"), xytext=(4, 0),
                textcoords="offset points", va="top", fontsize=8.5, style="italic",
            )  # fmt: skip
            axes.scatter([effect.limit.rate], [value * 100], s=46, color=BLUE, zorder=4)
            # Where little is denied is what is to be seen: linear to 0.1 %, logarithmic above.
            axes.set_yscale("symlog", linthresh=0.1)
            axes.set_ylim(0.0, 130.0)
            axes.set_yticks([0.0, 0.1, 1.0, 10.0, 100.0], ["0", "0.1 %", "1 %", "10 %", "100 %"])
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(f"rate, {cost} in a period (log)")
        left.set_ylabel("clients denied at least once")
        right.set_ylabel("requests denied")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure, f"{title}. Rate, clients touched, requests denied, {'; '.join(told)}."


def _since(start: float) -> str:
    if not DATES[0] <= start <= DATES[1]:
        return "the first request"
    return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, figure.subplots()
