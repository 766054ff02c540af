"""`ContenderDetail`: what the runs of a contender tell beyond one row for each: percentiles, the run over time, its keys."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from ratesim.simulation.results.run_detail import SHARES, RunDetail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratesim.simulation.experiments.adaptive import Row

__all__ = ["ContenderDetail", "contender_details"]


class ContenderDetail(msgspec.Struct, frozen=True):
    """The details of one contender.

    Attributes
    ----------
    seeds
        Number of its runs.
    requests
        With a decision, in all of them.
    latency
        Quantiles in seconds, at the first of `SHARES`: the mean over the seeds, as the percentiles of an assessment are. The
        last is the last that every run carries.
    first
        The run of the first seed.
    """

    seeds: int
    requests: int
    latency: tuple[float, ...]
    first: RunDetail

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the requests that `latency` is of."""
        return SHARES[: len(self.latency)]

    @property
    def beyond(self) -> tuple[int, ...]:
        """How many requests of all runs took longer than each quantile, about."""
        return tuple(round(self.requests * (1 - share)) for share in self.shares)


def contender_details(rows: Iterable[tuple[str, Row]]) -> dict[str, ContenderDetail]:
    """Read the details of each candidate from its rows, those of the first seed first."""
    runs: dict[str, list[RunDetail]] = {}
    for name, row in rows:
        runs.setdefault(name, []).append(msgspec.json.decode(row["detail"], type=RunDetail))
    return {name: _contender(found) for name, found in runs.items()}


def _contender(runs: list[RunDetail]) -> ContenderDetail:
    known = min(len(run.latency) for run in runs)
    return ContenderDetail(
        seeds=len(runs),
        requests=sum(run.requests for run in runs),
        latency=tuple(fmean(run.latency[place] for run in runs) for place in range(known)),
        first=runs[0],
    )
