"""Figures of results on matplotlib axes, with units on every axis.

Each function draws on the axes that it is given, or on those of a new figure of pyplot, and returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ratesim.formatting import format_percent, format_seconds
from ratesim.safe_text import shorten_text
from ratesim.views.style import COLORS, STYLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_intervals", "plot_keys", "plot_over_time", "plot_percentiles", "plot_trade_off"]

SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)  # of requests, on the axis of percentiles
OTHER = "#555555"  # a line that is of no backend
LONGEST = 40  # characters of a label
MOST_KEYS = 12


def plot_percentiles(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], colors: Mapping[str, str], ax: Axes | None = None
) -> Axes:
    """Draw the latency by percentile, both axes logarithmic: the tail is as wide as the rest.

    Parameters
    ----------
    curves
        Shares of the requests, ascending and below 1, and the latency in seconds that so many stay within, by name.
    colors
        The backend of each name.
    """
    ax = _axes(ax)
    most = 0.5
    for name, (shares, seconds) in curves.items():
        share, value = np.asarray(shares, float), np.asarray(seconds, float)
        if not len(share):
            continue
        most = max(most, float(share[-1]))
        (line,) = ax.plot(1 / (1 - share), value, color=COLORS.get(colors.get(name, ""), OTHER))
        ax.annotate(
            _label(name), (1 / (1 - share[-1]), value[-1]), xytext=(4, 0), textcoords="offset points", color=line.get_color()
        )
    ax.set(xscale="log", yscale="log", xlabel="percentile of the requests (log scale)", ylabel="latency of a decision (log)")
    shown = [share for share in SHARES if share <= most]
    ax.set_xticks([1 / (1 - share) for share in shown], [f"{share * 100:.10g} %" for share in shown])
    ax.minorticks_off()
    _format(ax, "y", format_seconds)
    return ax


def plot_over_time(series: pd.DataFrame, axes: Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw latency percentiles, and below them admitted, denied and failed requests, over time.

    Parameters
    ----------
    series
        begin (seconds since the first request), latency_p50, latency_p99 (seconds), admitted, denied, failed (requests of a
        bin), as of `RunResult.series`.
    axes
        Two.
    """
    if axes is None:
        upper, lower = _new_axes(2, 4.6)
    else:
        upper, lower = axes
    begin = series["begin"].to_numpy(float)
    for column, text, width in (("latency_p50", "median", 1.0), ("latency_p99", "99 %", 1.8)):
        upper.plot(begin, series[column], color=COLORS["postgres"], linewidth=width, label=text)
    upper.set(yscale="log", ylabel="latency of a decision (log)")
    _format(upper, "y", format_seconds)
    upper.legend(frameon=False)
    outcomes = {"admitted": COLORS["hybrid"], "denied": COLORS["memory"], "failed": COLORS["redis"]}
    for column, color in outcomes.items():
        lower.plot(begin, series[column], color=color, label=column)
    lower.set(xlabel="seconds since the first request", ylabel="requests in a bin")
    lower.legend(frameon=False)
    return upper, lower


def plot_keys(keys: Sequence[str], over_admitted: ArrayLike, exact: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the keys with the most cost admitted beyond an exact limiter's, as a share of what that admits.

    Parameters
    ----------
    keys
        Their names.
    over_admitted, exact
        Cost of each that was admitted beyond the exact limiter's, and the exact limiter's.
    """
    ax = _axes(ax)
    over, base = np.asarray(over_admitted, float), np.asarray(exact, float)
    order = np.argsort(-over, kind="stable")[:MOST_KEYS]
    order = order[over[order] > 0]
    share = over[order] / np.maximum(base[order], 1e-300)
    ax.barh(range(len(order)), share, color=COLORS["redis"])
    ax.set_yticks(range(len(order)), [_label(keys[place]) for place in order])
    ax.invert_yaxis()
    ax.set(xlabel="over-admission, of what an exact limiter admits to the key", ylabel="key")
    ax.set_title(f"{int((over > 0).sum()):,} of {len(over):,} keys were admitted more than exactly", loc="left")
    _format(ax, "x", format_percent)
    return ax


def plot_trade_off(
    points: pd.DataFrame, ax: Axes | None = None, *, p99: float | None = None, over: float | None = None
) -> Axes:
    """Draw the 99th percentile of the latency against over-admission, a point for each candidate.

    Parameters
    ----------
    points
        candidate, backend, latency_p99 (seconds) and over_admission (share) of each.
    p99, over
        What the requirements allow, as dashed lines.
    """
    ax = _axes(ax)
    known = points[np.isfinite(points["latency_p99"]) & np.isfinite(points["over_admission"])]
    for row in known.to_dict("records"):
        color = COLORS.get(str(row["backend"]), OTHER)
        ax.scatter(row["latency_p99"], row["over_admission"], color=color)
        ax.annotate(
            _label(str(row["candidate"])),
            (row["latency_p99"], row["over_admission"]),
            xytext=(4, 4),
            textcoords="offset points",
            color=color,
            fontsize=8,
        )
    positive = known["over_admission"][known["over_admission"] > 0]
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=float(positive.min()) if len(positive) else 1e-3)
    for value, draw in ((p99, ax.axvline), (over, ax.axhline)):
        if value is not None:
            draw(value, color=OTHER, linewidth=0.8, linestyle="--")
    ax.set(
        xlabel="99th percentile of the latency of a decision (log)", ylabel="over-admission, of what an exact limiter admits"
    )
    _format(ax, "x", format_seconds)
    _format(ax, "y", format_percent)
    return ax


def plot_intervals(
    names: Sequence[str], mean: ArrayLike, half_width: ArrayLike, unit: Callable[[float], str], ax: Axes | None = None
) -> Axes:
    """Draw a mean and its interval for each name; unit formats a value of the axis."""
    ax = _axes(ax)
    ax.errorbar(
        np.asarray(mean, float), range(len(names)), xerr=np.asarray(half_width, float), fmt="o", color=COLORS["postgres"]
    )
    ax.set_yticks(range(len(names)), [_label(name) for name in names])
    ax.invert_yaxis()
    _format(ax, "x", unit)
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    (own,) = _new_axes(1, 4.2)
    return own


def _new_axes(count: int, height: float) -> list[Axes]:
    """Return axes below each other in a new figure, in the house style."""
    from matplotlib import pyplot, rc_context

    # The first figure loads the backend, and a notebook's makes pyplot interactive. A context would undo that at its end,
    # and no further figure would be shown: so only the axes are made in it.
    figure = pyplot.figure(figsize=(7.2, height), layout="constrained")
    with rc_context(STYLE):
        return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def _format(ax: Axes, which: str, unit: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis: Any = getattr(ax, f"{which}axis")
    axis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
    axis.set_minor_formatter(NullFormatter())


def _label(name: str) -> str:
    """Shorten a name; a dollar sign begins no formula."""
    return shorten_text(name, LONGEST).replace("$", r"\$")
