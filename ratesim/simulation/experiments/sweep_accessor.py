"""`results.ratesim`: what the table of a sweep can do beyond any other DataFrame (a pandas accessor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ratesim.formatting import format_percent, format_seconds
from ratesim.simulation.scenario.grid import is_field
from ratesim.student_t import half_width
from ratesim.suggestion import unknown_name
from ratesim.views.plots import plot_intervals, plot_trade_off

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SweepAccessor"]

METRICS = ("latency_p50", "latency_p99", "over_admission", "worst_excess", "false_denial", "utilization")


@pd.api.extensions.register_dataframe_accessor("ratesim")
class SweepAccessor:
    """Views of the table of `sweep`: `results.ratesim.to_frame()`, `results.ratesim.plot()`.

    Raises AttributeError for a frame that is none: one without the columns candidate, backend and seed.
    """

    def __init__(self, results: pd.DataFrame) -> None:
        missing = {"candidate", "backend", "seed"} - set(results.columns)
        if missing:
            raise AttributeError(f"no table of a sweep: it has no {', '.join(sorted(missing))}")
        self._results = results

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each point of the grid and candidate, over its seeds.

        Returns
        -------
        pandas.DataFrame
            The fields of the grid, candidate, backend, seeds (how many), and each of latency_p50, latency_p99 (seconds),
            over_admission, worst_excess, false_denial and utilization (shares): its mean, and with _half_width half of its
            95 % interval by Student's t (nan for one seed).
        """
        fields = [str(column) for column in self._results.columns if is_field(str(column))]
        groups = self._results.groupby([*fields, "candidate", "backend"], sort=False, observed=True, dropna=False)
        found = groups["seed"].nunique().rename("seeds").to_frame()
        for metric in METRICS:
            found[metric] = groups[metric].mean()
            found[f"{metric}_half_width"] = groups[metric].agg(lambda values: half_width(list(values)))
        return found.reset_index()

    def _repr_html_(self) -> str | None:
        html: str | None = self.to_frame()._repr_html_()  # type: ignore[operator]
        return html

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the 99th percentile of the latency against over-admission, means over the seeds."""
        return plot_trade_off(self.to_frame(), ax)

    def plot_metric(self, metric: str = "latency_p99", ax: Axes | None = None) -> Axes:
        """Draw the mean of a metric and its 95 % interval for each candidate. Raises ValueError for an unknown metric."""
        if metric not in METRICS:
            raise ValueError(unknown_name("metric", metric, METRICS))
        frame = self.to_frame()
        fields = [column for column in frame.columns if is_field(column)]
        names = [", ".join([row["candidate"], *(f"{each} = {row[each]}" for each in fields)]) for _, row in frame.iterrows()]
        unit = format_seconds if metric.startswith("latency") else format_percent
        drawn = plot_intervals(names, frame[metric], frame[f"{metric}_half_width"], unit, ax)
        drawn.set_xlabel(f"{metric.replace('_', ' ')}, mean and 95 % interval")
        return drawn
