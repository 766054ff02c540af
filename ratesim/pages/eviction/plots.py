"""The figures of the eviction notebook, in the house style of `pages/style.py`, each titled with what its numbers show.

Every function returns a figure and its alt text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ratesim.formatting import format_bytes, format_percent
from ratesim.pages.eviction.analysis import CASE, standings
from ratesim.pages.style import INK, STYLE

if TYPE_CHECKING:
    from ratesim.simulation.analysis.eviction_cost import PolicyCost

__all__ = ["POLICY_MARKS", "fates", "hit_ratios", "pressure", "running_costs", "trade"]

# Okabe & Ito, Color Universal Design (2008), and a shape each; a policy that somebody else adds is a point in ink.
POLICY_MARKS = {
    "LRU": ("#888888", "o"),
    "LFU": ("#E69F00", "s"),
    "TTL": ("#56B4E9", "^"),
    "Random": ("#CC79A7", "v"),
    "AdaptiveLRU": ("#0072B2", "D"),
    "LimitAware": ("#D55E00", "*"),
}
ACROSS = 4  # small figures in a row


def pressure(rows: pd.DataFrame, across: str, how: str) -> tuple[Figure, str]:
    """Over-admission by share of the live keys, one line for each policy, one small figure for each workload and algorithm.

    rows: with the columns of CASE, policy and over_admission. across: what the share is of. how: begins the title.
    """
    table = rows.pivot_table(index=CASE, columns="policy", values="over_admission", sort=False)
    found = standings(rows)
    first = min(found, key=lambda policy: found[policy].mean)
    often = max(found, key=lambda policy: found[policy].least)
    title = f"{how}, {first} has the lowest mean over-admission"
    title += f"{' and' if often == first else f'; {often}'} is lowest most often ({found[often].least} of {len(table)})"
    if not found[first].mean and len({it.mean for it in found.values()}) == 1:
        title = f"{how}, no policy over-admits"
    with mpl.rc_context(STYLE):
        lane, decades = _lane(rows["over_admission"])
        figure, panels = _panels(rows, sharex=True)
        for axes, (_, of) in zip(panels, rows.groupby(CASE[:2], sort=False), strict=False):
            for policy, its in of.groupby("policy", sort=False):
                color, mark = _mark(str(policy))
                over = its["over_admission"].where(its["over_admission"] > 0.0, lane)
                axes.plot(
                    its["share"], over, color=color, marker=mark, markersize=_size(mark), linewidth=1.4, markeredgewidth=0,
                    zorder=4 if policy == first else 3,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["share"]))))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}"))
        _over_axis(panels, lane, decades, float(rows["over_admission"].max()))
        figure.supxlabel(f"{across}\n", fontsize=10, linespacing=1.7)  # its second line is where the legend goes
        _finish(figure, rows, title, "over-admission, % (log scale)")
    told = []
    for case, at in table.groupby(level=[0, 1], sort=False):
        values = (f"{policy} {' '.join(format_percent(value) for value in at[policy])}" for policy in table.columns)
        told.append(f"{_case_name(case, rows)}: {', '.join(values)}")
    shares = " ".join(f"{100 * part:g} %" for part in dict.fromkeys(rows["share"]))
    return figure, f"{title}. Over-admission at {shares}, by workload and policy. {'; '.join(told)}."


def fates(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Evictions by policy, harmless and harmful; the cost that they forgot, and how much of it was admitted too much.

    rows: with policy, requests, harmless, harmful, forgotten, exact and over_admission.
    """
    whole = rows.assign(over=rows["over_admission"] * rows["exact"]).groupby("policy", sort=False)
    sums = whole[["requests", "harmless", "harmful", "forgotten", "exact", "over"]].sum()
    harmless, harmful = (100 * sums[kind] / sums["requests"] for kind in ("harmless", "harmful"))
    forgotten, over = 100 * sums["forgotten"] / sums["exact"], 100 * sums["over"] / sums["exact"]
    taken = (over / forgotten).replace([np.inf, np.nan], 0.0)
    low, high = str(taken.idxmin()), str(taken.idxmax())
    least, most = (format_percent(taken[each]) for each in (low, high))
    title = f"Share of the forgotten cost that is admitted again: {least} ({low}) to {most} ({high})"
    if low == high:
        title = "No forgotten cost is admitted again"
    names = [str(name) for name in sums.index]
    at = np.arange(len(names))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for row, name in enumerate(names):
            color, _ = _mark(name)
            left.barh(row, harmful[name], color=color, height=0.6)
            left.barh(row, harmless[name], left=harmful[name], color="none", edgecolor=color, hatch="////", height=0.6)
            ends = harmful[name] + harmless[name]
            _beside(left, ends, row, f"{ends:.1f}, {harmless[name]:.1f} free")
            right.plot([over[name], forgotten[name]], [row, row], color=color, linewidth=1.6)
            right.scatter([forgotten[name]], [row], s=46, facecolor="white", edgecolor=color, linewidths=1.6, zorder=3)
            right.scatter([over[name]], [row], s=46, color=color, zorder=4)
            _beside(right, max(forgotten[name], over[name]), row, f"{over[name]:.2g} of {forgotten[name]:.3g}")
        left.set_yticks(at, names)
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_xlim(0.0, 1.75 * max(float((harmful + harmless).max()), 1e-9))
        left.set_xlabel("evictions per 100 requests:\nharmful (solid), harmless (hatched)")
        right.set_xlim(0.0, 1.55 * max(float(forgotten.max()), float(over.max()), 1e-9))
        right.set_xlabel("% of what an exact limiter admits:\nforgotten (hollow), over-admitted (solid)")
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
        _title(figure, title)
    told = "; ".join(
        f"{name} {harmful[name]:.1f} harmful and {harmless[name]:.1f} harmless, {forgotten[name]:.3g} % of the cost "
        f"forgotten, {over[name]:.2g} % over-admitted"
        for name in names
    )
    return figure, f"{title}. Evictions per 100 requests: {told}."


def hit_ratios(hits: pd.DataFrame) -> tuple[Figure, str]:
    """Hit ratios by trace and cache, one small figure for each size; those with a star as a bar from the worst to the best.

    hits: with trace, share (of the keys, that a cache holds), cache and hit_ratio.
    """
    traces, parts = list(dict.fromkeys(hits["trace"])), list(dict.fromkeys(hits["share"]))
    mine = hits[~hits["cache"].str.endswith("*")]
    table = mine.pivot_table(index=["trace", "share"], columns="cache", values="hit_ratio", sort=False)
    behind = 100 * table.rsub(table.max(axis=1), axis=0).max()
    first = str(behind.idxmin())
    rivals = ", ".join(f"{name} {behind[name]:.2g}" for name in behind.index if name != first)
    title = f"{first} is never more than {behind[first]:.2g} points behind the best ({rivals})"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        for column, (part, axes) in enumerate(zip(parts, figure.subplots(1, len(parts), sharey=True), strict=True)):
            for row, trace in enumerate(traces):
                here = hits[(hits["trace"] == trace) & (hits["share"] == part)]
                theirs = 100 * here.loc[here["cache"].str.endswith("*"), "hit_ratio"]
                if len(theirs):
                    axes.plot(
                        [theirs.min(), theirs.max()], [row, row], color=INK, alpha=0.28, linewidth=8, solid_capstyle="butt"
                    )
                ours = here[~here["cache"].str.endswith("*")]
                for cache, value in zip(ours["cache"], ours["hit_ratio"], strict=True):
                    color, mark = _mark(str(cache))
                    axes.plot(100 * value, row, color=color, marker=mark, markersize=7.5, markeredgewidth=0, zorder=3)
            axes.set_yticks(range(len(traces)), traces)
            axes.set_ylim(len(traces) - 0.5, -0.5)
            axes.set_xlim(0.0, 100.0)
            axes.set_xticks([0, 20, 40, 60, 80])
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="y", color=INK, alpha=0.12)
            axes.set_title(f"room for {100 * part:g} % of the keys", fontsize=10, fontweight="normal")
            axes.set_xlabel("hit ratio, %")
            axes.spines["left"].set_visible(column == 0)
        _title(figure, title)
        _legend(figure, [str(name) for name in table.columns], "outside lower center")
    told = []
    for (trace, part), of in hits.groupby(["trace", "share"], sort=False):
        values = (f"{cache} {100 * value:.1f}" for cache, value in zip(of["cache"], of["hit_ratio"], strict=True))
        told.append(f"{trace}, room for {100 * float(str(part)):g} %: {', '.join(values)}")
    return figure, f"{title}. Hit ratios in %; a star marks a cache of libCacheSim: {'; '.join(told)}."


def trade(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Hit ratio against over-admission, one small figure for each workload and algorithm.

    rows: of one share, with the columns of CASE, policy, hit_ratio and over_admission.
    """
    against = total = odd = 0
    told = []
    for case, of in rows.groupby(CASE[:2], sort=False):
        points = list(zip(of["policy"], of["hit_ratio"], of["over_admission"], strict=True))
        pairs = [(a, b) for a, b in combinations(points, 2) if a[1] != b[1] and a[2] != b[2]]
        against += sum((a[1] > b[1]) == (a[2] > b[2]) for a, b in pairs)
        total += len(pairs)
        odd += max(points, key=lambda point: point[1])[2] > min(point[2] for point in points)
        values = (f"{policy} {100 * hit:.1f} % and {format_percent(over)}" for policy, hit, over in points)
        told.append(f"{_case_name(case, rows)}: {', '.join(values)}")
    count = len(told)
    cases = "workloads" if rows["algorithm"].nunique() == 1 else "pairs of workload and algorithm"
    title = f"The best cache is not the best limiter in {odd} of {count} {cases};\n"
    title += f"in {against} of {total} pairs of policies the better cache over-admits more"
    with mpl.rc_context(STYLE):
        lane, decades = _lane(rows["over_admission"])
        figure, panels = _panels(rows, sharex=False)
        for axes, (_, of) in zip(panels, rows.groupby(CASE[:2], sort=False), strict=False):
            sorted_ = of.sort_values("hit_ratio")
            x = (100 * sorted_["hit_ratio"]).tolist()
            y = sorted_["over_admission"].where(sorted_["over_admission"] > 0.0, lane).tolist()
            for (x0, y0), (x1, y1) in pairwise(zip(x, y, strict=True)):
                rises = y1 > y0
                axes.plot([x0, x1], [y0, y1], color=INK, linewidth=2.0 if rises else 0.7, alpha=0.75 if rises else 0.4)
            for policy, hit, over in zip(sorted_["policy"], x, y, strict=True):
                color, mark = _mark(str(policy))
                axes.plot(hit, over, color=color, marker=mark, markersize=_size(mark) + 2.5, markeredgewidth=0, zorder=3)
            reach = max(max(x) - min(x), 1.0)
            axes.set_xlim(min(x) - 0.12 * reach, max(x) + 0.12 * reach)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True))
        _over_axis(panels, lane, decades, float(rows["over_admission"].max()))
        figure.supxlabel("hit ratio in the limiter, % of its requests\n", fontsize=10, linespacing=1.7)
        _finish(figure, rows, title, "over-admission, % (log scale)")
    return figure, f"{title}. Hit ratio and over-admission, by workload and policy. {'; '.join(told)}.".replace("\n", " ")


def running_costs(
    costs: Mapping[str, PolicyCost], size: Mapping[str, float], leanest: str, memory: float
) -> tuple[Figure, str]:
    """Plot times as multiples of the leanest policy's, and bytes per key with the number of keys in `memory` bytes."""
    base = costs[leanest]
    slow = max(costs, key=lambda policy: costs[policy].decision)
    large = max(size, key=lambda policy: size[policy])
    title = f"At most {costs[slow].decision / base.decision:.1f} times {leanest}'s time for a decision ({slow})"
    title += f",\n{size[large] / size[leanest]:.1f} times its memory ({large})"
    kinds = {"touch": ("o", False), "insertion": ("s", False), "decision": ("o", True)}  # the mark, and whether it is filled
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_xscale("log")
        for row, (policy, it) in enumerate(costs.items()):
            color, _ = _mark(policy)
            values = {kind: getattr(it, kind) / getattr(base, kind) for kind in kinds}
            left.plot([min(values.values()), max(values.values())], [row, row], color=color, linewidth=1.4)
            for kind, (mark, filled) in kinds.items():
                face = color if filled else "white"
                left.scatter(values[kind], row, s=44, marker=mark, facecolor=face, edgecolor=color, linewidths=1.5, zorder=3)
            right.barh(row, size[leanest], color=INK, alpha=0.28, height=0.6)
            right.barh(row, size[policy] - size[leanest], left=size[leanest], color=color, height=0.6)
            _beside(right, size[policy], row, f"{size[policy]:,.0f}, {memory / size[policy]:,.0f} keys")
        left.axvline(1.0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        left.xaxis.set_minor_locator(NullLocator())
        left.set_yticks(range(len(costs)), list(costs))
        left.set_ylim(len(costs) - 0.5, -0.5)
        left.set_xlabel(f"time, multiples of {leanest}'s (log scale):\ntouch (ring), insertion (square), decision (filled)")
        right.set_xlim(0.0, 1.75 * max(size.values()))
        right.set_xlabel(f"bytes per key, and keys in {format_bytes(memory)}\n(gray: bytes with {leanest})")
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
        _title(figure, title)
    told = "; ".join(
        f"{policy} touch {it.touch / base.touch:.1f}, insertion {it.insertion / base.insertion:.1f}, decision "
        f"{it.decision / base.decision:.1f}, {size[policy]:,.0f} bytes per key"
        for policy, it in costs.items()
    )
    return figure, f"{title}. Times as multiples of {leanest}'s: {told}.".replace("\n", " ")


def _mark(policy: str) -> tuple[str, str]:
    return POLICY_MARKS.get(policy, (INK, "o"))


def _size(mark: str) -> float:
    return 8.0 if mark == "*" else 4.5


def _panels(rows: pd.DataFrame, sharex: bool) -> tuple[Figure, list[Axes]]:
    """Make a small figure for each workload and algorithm, with its name, and remove those left over."""
    cases = [case for case, _ in rows.groupby(CASE[:2], sort=False)]
    down = math.ceil(len(cases) / ACROSS)
    figure = Figure(figsize=(7.2, 1.2 + 1.75 * down), layout="constrained")
    grid: Any = figure.subplots(down, ACROSS, sharex=sharex, sharey=True, squeeze=False)
    panels = list(grid.ravel())
    for axes in panels[len(cases) :]:
        axes.remove()
    for axes, case in zip(panels, cases, strict=False):
        axes.set_title(_case_name(case, rows), fontsize=9, fontweight="normal")
        axes.tick_params(labelsize=8)
    return figure, panels[: len(cases)]


def _case_name(case: Any, rows: pd.DataFrame) -> str:
    algorithm, workload = case
    return f"{workload}\n{algorithm}" if rows["algorithm"].nunique() > 1 else str(workload)


def _lane(over: pd.Series[float]) -> tuple[float, list[float]]:
    """Where exactly 0 is drawn, and the powers of ten above it that the axis names."""
    positive = over[over > 0.0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.01, 0.1)
    first = math.floor(math.log10(low))
    lane = 10.0 ** (first - 0.5) if (over == 0.0).any() else 10.0**first
    return lane, [10.0**k for k in range(first, max(math.floor(math.log10(high)), first) + 1)]


def _over_axis(panels: Sequence[Axes], lane: float, decades: Sequence[float], most: float) -> None:
    """Draw the shared axis of over-admission."""
    zero = lane < decades[0]
    for axes in panels:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([*([lane] if zero else []), *decades]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "0" if zero and y <= lane else f"{100 * y:g}"))
        axes.set_ylim(lane / 1.6, max(1.3 * decades[-1], 1.5 * most))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _finish(figure: Figure, rows: pd.DataFrame, title: str, label: str) -> None:
    figure.supylabel(label, fontsize=10)
    _title(figure, title)
    _legend(figure, list(dict.fromkeys(rows["policy"])))


def _title(figure: Figure, title: str) -> None:
    """As large as its longest line lets it be."""
    size = min(11.0, 11.0 * 76 / max(len(line) for line in title.splitlines()))
    figure.suptitle(title, x=0.01, ha="left", fontsize=size, fontweight="bold")


def _legend(figure: Figure, policies: Sequence[str], place: Any = "lower center") -> None:
    handles = []
    for policy in policies:
        color, mark = _mark(policy)
        handles.append(
            Line2D([], [], color=color, marker=mark, markersize=_size(mark) + 1.5, markeredgewidth=0, label=policy)
        )
    figure.legend(handles=handles, loc=place, ncols=len(handles), frameon=False, fontsize=9)


def _beside(axes: Axes, x: float, row: int, text: str) -> None:
    axes.annotate(text, (x, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8.5)
