"""The figures of past reports over time, in the house style of `pages/style.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ratesim.formatting import (
    Format,
    escape_control_chars,
    format_amount,
    format_excess,
    format_percent,
    format_seconds,
    shorten,
)
from ratesim.pages.history.analysis import History, PastReport
from ratesim.pages.style import INK, STYLE

__all__ = ["FIGURES", "over_time"]

# Okabe & Ito, Color Universal Design (2008), and a shape each: a color is a scenario here, and no backend.
MARKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "*"))
OTHERS = (INK, ".")
PLAIN: Any = {**STYLE, "text.parse_math": False}  # names are from outside
MOST_DATES = 8
WIDEST = 18  # letters beside an axis

FIGURES: dict[str, tuple[str, Format]] = {
    "p99": ("p99 latency", format_seconds),
    "over_admission": ("over-admission", format_percent),
    "worst_excess": ("busiest window", format_excess),
    "cost": ("price of a month", format_amount),
}


def over_time(history: History) -> tuple[Figure, str]:
    """Draw the figures of the choice of each report with their 95 % intervals; return the figure and its alt text.

    A hollow point is a contender that was not chosen. A dotted line marks a report whose choice, or question, is another
    than that of the one before.
    """
    reports = history.reports
    scenarios = list(dict.fromkeys(each.scenario for each in reports))
    marks = {name: MARKS[i] if i < len(MARKS) else OTHERS for i, name in enumerate(scenarios)}
    title = _finding(reports)
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(7.2, 7.6), layout="constrained")
        for axes, (name, (label, unit)) in zip(figure.subplots(len(FIGURES), 1, sharex=True), FIGURES.items(), strict=True):
            for scenario, (color, mark) in marks.items():
                _series(axes, reports, scenario, name, color, mark)
            for at, each in enumerate(reports):
                if each.has_moved or each.is_asked_otherwise:
                    axes.axvline(at, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0.0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: _tick(value, unit)))
        step = math.ceil(len(reports) / MOST_DATES)
        axes.set_xticks(range(0, len(reports), step), [_plain(each.date) or "no date" for each in reports[::step]])
        axes.set_xlim(-0.5, len(reports) - 0.5)
        axes.set_xlabel("date of the report (in order, not to scale)")
        if len(scenarios) > 1:
            shown = [(_plain(name), *marks[name]) for name in scenarios[: len(MARKS)]]
            shown += [(f"{len(scenarios) - len(MARKS)} others", *OTHERS)] if len(scenarios) > len(MARKS) else []
            keys = [Line2D([], [], color=color, marker=mark, label=f" {name}") for name, color, mark in shown]
            figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    told = "; ".join(f"{_plain(each.date) or 'no date'} {_plain(each.scenario)}: {_told(each)}" for each in reports)
    return figure, f"{title}. {told}."


def _series(axes: Axes, reports: Sequence[PastReport], scenario: str, name: str, color: str, mark: str) -> None:
    """Draw one figure of the reports on one scenario."""
    points = [
        (at, each, found) for at, each in enumerate(reports) if each.scenario == scenario and (found := each.figure(name))
    ]
    axes.plot([at for at, _, _ in points], [found.mean for *_, found in points], color=color, linewidth=1.1, zorder=2)
    for at, each, found in points:
        high = found.high if math.isfinite(found.high) else found.mean
        axes.vlines(at, min(found.low, found.mean), max(high, found.mean), color=color, linewidth=1.6, zorder=2)
        face = color if each.choice else "white"
        axes.plot(at, found.mean, marker=mark, color=color, markerfacecolor=face, markersize=6, zorder=3)


def _tick(value: float, unit: Callable[[float], str]) -> str:
    """Write a number so that it leaves room for the figure, whatever a report holds."""
    said = unit(value)
    return said if len(said) < WIDEST else f"{value:.0e}"


def _finding(reports: Sequence[PastReport]) -> str:
    others = [each for each in reports if each.difference]
    changed = sum(each.has_moved for each in others)
    if not others:
        return "No report has an earlier one to be compared with"
    return f"The choice changed in {changed} of {len(others)} reports that have an earlier one"


def _told(each: PastReport) -> str:
    values = ((label, unit, each.figure(name)) for name, (label, unit) in FIGURES.items())
    return ", ".join(f"{label} {unit(found.mean)}" for label, unit, found in values if found)


def _plain(name: str) -> str:
    return escape_control_chars(shorten(name))
