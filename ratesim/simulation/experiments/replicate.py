"""`replicate`: as many runs as the question needs; `paired_differences`: how candidates differ, seed by seed.

Replications differ in their seed: in the draws of the network and the servers and, of a recipe, in the requests. A log stays
as it is. Every candidate meets the same requests and draws (common random numbers). Runs are added in rounds until the 95 %
interval of every metric that the requirements name is narrow enough, or the budget is spent. This is the sequential
procedure of Chow and Robbins, On the asymptotic theory of fixed-width sequential confidence intervals for the mean, Annals
of Mathematical Statistics 36 (1965). The first round is not too small, because a lucky one would end it at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ratesim.formatting import format_metric, format_percent, format_seconds
from ratesim.progress import Progress
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.experiments.sweep import JobResults, run_jobs
from ratesim.simulation.scenario.grid import is_field
from ratesim.simulation.scenario.names import CandidateLike, ScenarioLike, find_candidates, find_scenario
from ratesim.simulation.scenario.scenario import Requirements, ScenarioError
from ratesim.student_t import half_width
from ratesim.suggestion import unknown_name
from ratesim.views.html import card_html
from ratesim.views.plots import plot_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Precision", "ReplicationResult", "paired_differences", "replicate"]

METRICS = ("latency_p99", "over_admission")


@dataclass(frozen=True)
class Precision:
    """How precisely one metric of one candidate is known.

    Attributes
    ----------
    candidate
        Its name.
    values
        Its point of the grid.
    metric, threshold
        The metric, and what the requirements allow.
    replications
        How many runs there are.
    mean, half_width
        Over the replications: the mean and half of its 95 % interval by Student's t; nan for fewer than two.
    wanted
        The half-width that is small enough.
    enough
        Whether the half-width is small enough, or more runs would not help.
    """

    candidate: str
    values: dict[str, Any]
    metric: str
    threshold: float
    replications: int
    mean: float
    half_width: float
    wanted: float
    enough: bool

    def __str__(self) -> str:
        place = "".join(f", {field} = {value}" for field, value in self.values.items())
        known = f"{self.mean:.3g} ± {self.half_width:.2g}, wanted ± {self.wanted:.2g}"
        return f"{self.candidate}{place}: {self.metric} {known}, after {self.replications} replications"


@dataclass(frozen=True, eq=False)
class ReplicationResult:
    """The outcome of `replicate`.

    Attributes
    ----------
    results
        The table of all runs, as of `sweep`.
    precision
        One for each candidate and metric.
    partial
        Whether it was interrupted.
    """

    results: pd.DataFrame
    precision: tuple[Precision, ...]
    partial: bool

    def to_frame(self) -> pd.DataFrame:
        """Return the table of all runs, as of `sweep`; times in seconds."""
        return self.results

    def __repr__(self) -> str:
        return f"ReplicationResult({self.verdict})"

    def _repr_html_(self) -> str:
        head = ("candidate", "metric", "mean", "interval", "runs")
        rows = [
            (
                ", ".join([each.candidate, *(f"{field} = {value}" for field, value in each.values.items())]),
                each.metric,
                format_metric(each.metric, each.mean),
                f"± {format_metric(each.metric, each.half_width)}",
                each.replications,
            )
            for each in self.precision
        ]
        return card_html(self.verdict, head=head, rows=rows)

    def plot(self, metric: str = METRICS[0], ax: Axes | None = None) -> Axes:
        """Draw the mean of a metric that the requirements name, with its 95 % interval, for each candidate.

        Raises
        ------
        ScenarioError
            If the requirements do not name it.
        """
        own = [each for each in self.precision if each.metric == metric]
        if not own:
            raise ScenarioError(unknown_name("metric", metric, sorted({each.metric for each in self.precision})))
        unit = format_seconds if metric.startswith("latency") else format_percent
        names, means, halves = ([getattr(each, name) for each in own] for name in ("candidate", "mean", "half_width"))
        drawn = plot_intervals(names, means, halves, unit, ax)
        drawn.set_xlabel(f"{metric}, mean and 95 % interval")
        drawn.axvline(own[0].threshold, color="#555555", linewidth=0.8, linestyle="--")
        return drawn

    @property
    def missed(self) -> tuple[Precision, ...]:
        """The metrics that are not known well enough, because the budget was spent or the runs were interrupted."""
        return tuple(each for each in self.precision if not each.enough)

    @property
    def verdict(self) -> str:
        """One sentence: whether all is known well enough, or what is not."""
        runs = f"{len(self.results)} runs"
        if not self.missed:
            return f"Every interval is narrow enough after {runs}."
        why = "it was interrupted" if self.partial else "the budget is spent"
        return f"After {runs} {why}; not known well enough: {'; '.join(map(str, self.missed))}."


def replicate(
    scenario: ScenarioLike,
    candidates: Iterable[CandidateLike] | CandidateLike | None = None,
    *,
    share: float = 0.1,
    budget: int = 1000,
    least: int = 5,
    grid: Mapping[str, Sequence[Any]] | None = None,
    profile: Profile | None = None,
    processes: int | None = None,
    scheduler: str | None = None,
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> ReplicationResult:
    """Run every candidate until each metric that the requirements name is known to within `share` of its threshold.

    Which runs are made depends on results only, never on who makes them. Where the requirements allow no over-admission at
    all, a candidate that over-admits in one replication has failed, and more replications would not help. The same holds
    where no request got an answer.

    Parameters
    ----------
    scenario, candidates, grid, profile, processes, scheduler, out, progress
        As for `sweep`.
    share
        Half-width of the 95 % interval that is wanted, as a share of the threshold.
    budget
        Runs, of all candidates together.
    least
        Replications of each candidate before anything is judged, 2 or more.

    Raises
    ------
    ScenarioError
        If the requirements name no number, or the budget is too small. What `sweep` raises passes through.
    """
    if not (0 < share <= 1 and math.isfinite(share)) or least < 2:
        raise ScenarioError(f"replications: share {share:g} must be above 0 and at most 1, least {least} at least 2")
    scenario = find_scenario(scenario)
    chosen = find_candidates(scenario, candidates)
    first = jobs_of(scenario, chosen, [scenario.seed], grid, profile or Profile.load())
    groups = [_Group(job, share, least) for job in first]
    for group in groups:
        if not group.thresholds:
            raise ScenarioError("requirements: name p99 or max_over_admission, for how well a metric must be known")
    if budget < least * len(groups):
        raise ScenarioError(f"budget: {budget} runs are too few for {least} of each of {len(groups)} candidates")
    counts = [least] * len(groups)
    known: dict[str, dict[str, Any]] = {}
    while True:
        jobs = [job for group, count in zip(groups, counts, strict=True) for job in group.jobs(count)]
        finished = run_jobs(jobs, processes, scheduler, out, progress, known)
        known = finished.rows
        precision = [group.precision(finished) for group in groups]
        granted = [0] * len(groups)
        if not finished.partial and not finished.failed:
            more = [group.more(each) for group, each in zip(groups, precision, strict=True)]
            granted = _granted(more, budget - sum(counts))
        if not any(granted):
            return ReplicationResult(finished.table(), tuple(each for own in precision for each in own), finished.partial)
        counts = [count + extra for count, extra in zip(counts, granted, strict=True)]


class _Group:
    """The replications of one candidate at one point of the grid."""

    def __init__(self, first: Job, share: float, least: int) -> None:
        self._first = first
        self._share = share
        self._least = least
        self.thresholds = _thresholds(first.scenario.requirements)

    def jobs(self, count: int) -> list[Job]:
        """Return the first `count` replications."""
        return [replace(self._first, seed=self._first.seed + k) for k in range(count)]

    def precision(self, finished: JobResults) -> list[Precision]:
        """Judge each metric by the runs that are done."""
        rows = [finished.rows[job.key] for job in finished.jobs if self._owns(job) and job.key in finished.rows]
        return [self._judged(metric, [row[metric] for row in rows]) for metric in self.thresholds]

    def more(self, precision: list[Precision]) -> int:
        """Return how many more replications the least known metric needs, by its spread so far; at most doubles them."""
        extra = 0
        for each in precision:
            if not each.enough:
                n = each.replications
                needed = n * (each.half_width / each.wanted) ** 2 if each.wanted > 0 else math.inf
                extra = max(extra, min(max(math.ceil(min(needed, 2 * n)) - n, 1), n))
        return extra

    def _owns(self, job: Job) -> bool:
        return job.candidate == self._first.candidate and job.values == self._first.values

    def _judged(self, metric: str, values: list[float]) -> Precision:
        threshold = self.thresholds[metric]
        wanted = self._share * threshold
        half = half_width(values)
        # Nothing is decided by more runs where one has shown enough: an over-admission where none is allowed, no answer.
        settled = any(not math.isfinite(value) or (threshold == 0 and value > 0) for value in values)
        mean = float(np.mean(values)) if values else math.nan
        first = self._first
        enough = settled or (half <= wanted and len(values) >= self._least)
        return Precision(first.candidate.name, first.values, metric, threshold, len(values), mean, half, wanted, enough)


def _thresholds(requirements: Requirements) -> dict[str, float]:
    named = zip(METRICS, (requirements.p99, requirements.max_over_admission), strict=True)
    return {metric: threshold for metric, threshold in named if threshold is not None}


def _granted(wanted: list[int], left: int) -> list[int]:
    """Grant the replications that the budget still pays: one for each in turn."""
    granted = [0] * len(wanted)
    while left > 0 and granted != wanted:
        for i, count in enumerate(wanted):
            if granted[i] < count and left > 0:
                granted[i] += 1
                left -= 1
    return granted


def paired_differences(results: pd.DataFrame, reference: str, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Return by how much each candidate differs from a reference: metric - metric of the reference, by seed.

    Parameters
    ----------
    results
        Of `sweep` or `replicate`.
    reference
        Name of the reference candidate.
    metrics
        Columns of the results.

    Returns
    -------
    DataFrame
        One row for each point of the grid, candidate and metric: `difference`, the mean over the seeds that both have run;
        `low` and `high`, its 95 % interval by Student's t (nan for one seed); `seeds`; and `differs`, whether the interval
        leaves out 0. Since both met the same draws, it is narrower than the intervals of the two would suggest.

    Raises
    ------
    ValueError
        If there is no such reference.
    """
    if reference not in set(results["candidate"]):
        known = ", ".join(map(repr, results["candidate"].unique()))
        raise ValueError(f"reference {reference!r}: candidates here are {known}")
    fields = [str(column) for column in results.columns if is_field(str(column))]
    return pd.DataFrame(list(_differences(results, reference, metrics, fields)))


def _differences(
    results: pd.DataFrame, reference: str, metrics: Sequence[str], fields: list[str]
) -> Iterator[dict[str, Any]]:
    points = results.groupby(fields, sort=False, dropna=False) if fields else [((), results)]
    for place, rows in points:
        by_seed = {name: of_name.set_index("seed") for name, of_name in rows.groupby("candidate", sort=False)}
        if reference not in by_seed:
            continue
        for name, own in by_seed.items():
            if name == reference:
                continue
            for metric in metrics:
                apart = (own[metric] - by_seed[reference][metric]).dropna()
                mean, half = float(apart.mean()), half_width(list(apart))
                yield {
                    **dict(zip(fields, place, strict=True)),
                    "candidate": name,
                    "reference": reference,
                    "metric": metric,
                    "difference": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "seeds": len(apart),
                    "differs": abs(mean) > half,
                }
