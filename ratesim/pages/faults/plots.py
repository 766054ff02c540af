"""The figures of the page on faults, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from ratesim.formatting import format_percent
from ratesim.pages.faults.analysis import FaultRun
from ratesim.pages.style import COLORS, INK, STYLE
from ratesim.simulation.scenario.faults import Fault

__all__ = ["OUTCOMES", "before_and_with", "timeline"]

# Okabe & Ito, Color Universal Design (2008): what became of a request.
OUTCOMES = {"admitted": "#56B4E9", "denied": "#999999", "failed": "#D55E00"}
NONE = 1e-4  # where "exactly 0" stands on an axis of shares


def timeline(candidates: Sequence[FaultRun], faults: Sequence[Fault]) -> tuple[Figure, str]:
    """Plot the outcome of the requests of each second, one strip for each candidate, with the faults shaded."""
    worst = max(candidates, key=lambda each: each.failed)
    none = [each.name for each in candidates if not each.faulty["failed"]]
    if worst.failed:
        title = f"{worst.name} leaves {format_percent(worst.failed)} of the requests during the faults without a decision"
        title += f"; {len(none)} of {len(candidates)} leave none" if none else ""
    else:
        title = f"Each of the {len(candidates)} candidates answers every request during the faults"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.95 * len(candidates) + 1.6), layout="constrained")
        strips = figure.subplots(len(candidates), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, each in zip(strips, candidates, strict=True):
            _strip(axes, each, faults)
        for fault in faults:
            middle = fault.start + fault.duration / 2
            strips[0].annotate(
                fault.kind.replace("_", " "), (middle, 1.02), xycoords=("data", "axes fraction"), ha="center",
                fontsize=8.5, style="italic",
            )  # fmt: skip
        strips[-1].set_xlabel("seconds")
        strips[len(strips) // 2].set_ylabel("requests per second")
        handles = [Patch(color=color, label=name) for name, color in OUTCOMES.items()]
        handles.append(Patch(facecolor="none", edgecolor=INK, label="admitted by an exact limiter"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    told = "; ".join(
        f"{each.name} {int(each.during['admitted'].sum())} admitted, {int(each.during['denied'].sum())} denied, "
        f"{int(each.during['failed'].sum())} failed ({format_percent(each.failed)})"
        for each in candidates
    )
    short = "; ".join(f"{each.name} {format_percent(each.short)}" for each in candidates)
    when = ", ".join(f"{fault.kind} from {fault.start:g} to {fault.start + fault.duration:g} s" for fault in faults)
    return figure, (
        f"{title}. Faults: {when}. Outcomes during the faults: {told}. Not admitted, of the requests that an exact limiter "
        f"admits during the faults: {short}."
    )


def _strip(axes: Axes, each: FaultRun, faults: Sequence[Fault]) -> None:
    rows = each.series
    edges = [*rows["begin"], rows["begin"].iloc[-1] + 1.0]
    axes.stackplot(
        edges, *([*rows[name], rows[name].iloc[-1]] for name in OUTCOMES), colors=OUTCOMES.values(), step="post", linewidth=0
    )
    axes.step(edges, [*rows["due"], rows["due"].iloc[-1]], where="post", color=INK, linewidth=0.9)
    for fault in faults:
        axes.axvspan(fault.start, fault.start + fault.duration, color=INK, alpha=0.12, linewidth=0, zorder=0)
        for edge in (fault.start, fault.start + fault.duration):
            axes.axvline(edge, color=INK, linewidth=0.6, linestyle=(0, (2, 2)))
    axes.set_xlim(0.0, edges[-1])
    axes.set_title(each.name, fontsize=9, fontweight="normal", loc="right", pad=2)
    axes.tick_params(labelsize=8)


def before_and_with(candidates: Sequence[FaultRun]) -> tuple[Figure, str]:
    """Over-admission of each candidate, without faults and with them."""
    most = max(candidates, key=lambda each: each.over[1] - each.over[0])
    before, after = most.over
    if after > before:
        title = f"{most.name} suffers most: over-admission {format_percent(after)} with faults, "
        title += f"{format_percent(before)} without"
    else:
        title = "No candidate admits more with faults than without"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.34 * len(candidates) + 1.4), layout="constrained")
        axes = figure.subplots()
        for y, each in enumerate(candidates):
            low, high = (max(value, NONE) for value in each.over)
            color = COLORS[each.backend]
            axes.plot([low, high], [y, y], color=color, linewidth=1.6, zorder=2)
            axes.scatter([low], [y], s=62, facecolor="none", edgecolor=color, zorder=3)
            axes.scatter([high], [y], s=36, color=color, zorder=3)
        axes.set_xscale("log")
        axes.set_xlim(NONE / 1.8, max(2.0 * max(max(each.over) for each in candidates), 1.0))
        ticks = [NONE, 1e-3, 1e-2, 1e-1, 1.0]
        axes.set_xticks(ticks, ["exactly 0", *(f"{100 * tick:g} %" for tick in ticks[1:])])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(candidates)), [each.name for each in candidates])
        axes.set_ylim(len(candidates) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(
            "over-admission without faults (open) and with faults (filled),\n"
            "% of the cost that an exact limiter admits, log scale"
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    told = "; ".join(f"{each.name} {format_percent(each.over[0])} and {format_percent(each.over[1])}" for each in candidates)
    return figure, f"{title}. Over-admission without and with faults: {told}."
