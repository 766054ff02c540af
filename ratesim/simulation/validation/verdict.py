"""The verdict of a validation: how far the model is to be believed, by load.

Of each round the ratio of the simulated to the measured figure counts. The median over the rounds has a bootstrap interval
of 90 % (percentiles of the medians of 2000 resamples, with a generator of fixed seed). The error is stated for the end of
that interval that is further from 1, and for the worse direction: max(r - 1, 1 / r - 1) over both ends r. So a measured
figure lies within simulated * (1 - error) to simulated * (1 + error). A load is not judged ("cannot tell") where fewer than
LEAST_ROUNDS rounds were kept, or where the interval of a figure is wider than twice its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

import numpy as np
from numpy.typing import ArrayLike

from ratesim.formatting import format_count
from ratesim.simulation.cost_model.profile import ModelError

__all__ = ["LATENCIES", "TOLERANCES", "Estimate", "LoadVerdict", "Verdict", "estimate", "judge", "merge_errors"]

LATENCIES = ("p50", "p95", "p99")
TOLERANCES = {"p50": 0.15, "p95": 0.15, "p99": 0.25, "throughput": 0.08}
LEAST_ROUNDS = 6
CONFIDENCE = 0.9
RESAMPLES = 2000
FULL = 0.98  # utilization
BELIEVED = 0.5  # an error above it is no statement about a figure any more


@dataclass(frozen=True)
class Estimate:
    """The ratio of simulated to measured of one figure, the median of rounds.

    Attributes
    ----------
    ratio, low, high : float
        The median, and its interval; nan without a round.
    rounds : int
        Number of rounds.
    tolerance : float
        The error that is accepted.
    """

    ratio: float
    low: float
    high: float
    rounds: int
    tolerance: float

    @property
    def error(self) -> float:
        """The relative error that the interval does not exclude."""
        return max(max(r - 1.0, 1.0 / r - 1.0) for r in (self.low, self.high))

    @property
    def is_known(self) -> bool:
        """Whether enough rounds agree."""
        return self.rounds >= LEAST_ROUNDS and self.high - self.low <= 2.0 * self.tolerance * self.ratio

    @property
    def is_within(self) -> bool:
        """Whether it is known to be within the tolerance."""
        return self.is_known and self.error <= self.tolerance


def estimate(ratios: ArrayLike, tolerance: float, seed: int = 0) -> Estimate:
    """Estimate the median of the ratios of rounds."""
    values = np.asarray(ratios, float)
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"), 0, tolerance)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Estimate(float(np.median(values)), float(low), float(high), len(values), tolerance)


@dataclass(frozen=True)
class LoadVerdict:
    """The figures at one load.

    Attributes
    ----------
    load : float
        Share of the saturation throughput.
    utilization : float
        Share of the time for which the busiest part was busy in the simulation of that load.
    figures : dict[str, Estimate]
        By name: p50, p95, p99.
    """

    load: float
    utilization: float
    figures: dict[str, Estimate]

    @property
    def is_known(self) -> bool:
        """Whether every figure is known."""
        return all(each.is_known for each in self.figures.values())

    @property
    def is_within(self) -> bool:
        """Whether every figure is within its tolerance."""
        return all(each.is_within for each in self.figures.values())

    @property
    def rounds(self) -> int:
        """Rounds of the figure that has fewest."""
        return min(each.rounds for each in self.figures.values())

    def describe(self) -> str:
        """Say what is outside its tolerance, or why nobody can tell."""
        return _describe(self.figures)


@dataclass(frozen=True)
class Verdict:
    """What the rounds of a candidate say.

    Attributes
    ----------
    candidate : str
        Its name.
    loads : tuple[LoadVerdict, ...]
        Ascending.
    throughput : Estimate
        At saturation. Below it an open loop has the rate of its requests.
    """

    candidate: str
    loads: tuple[LoadVerdict, ...]
    throughput: Estimate

    @property
    def errors(self) -> tuple[ModelError, ...]:
        """The errors for a profile, never smaller at a higher load.

        They end before the first load that cannot be told, or at which an error is above BELIEVED; without enough rounds of
        the throughput there are none. Requests share batches under load, so a part is busy nearly all the time long before
        it is saturated. Above FULL the utilization does not tell one load from another any more, and nothing is said.
        """
        found: list[ModelError] = []
        worst = dict.fromkeys(LATENCIES, 0.0)
        if self.throughput.rounds < LEAST_ROUNDS:
            return ()
        for each in takewhile(lambda each: each.is_known, self.loads):
            worst = {name: max(worst[name], each.figures[name].error) for name in worst}
            if max(worst.values()) > BELIEVED:
                break
            utilization = min(each.utilization, FULL)
            if utilization > (found[-1].utilization if found else 0.0):
                error = ModelError(utilization=utilization, **worst, throughput=self.throughput.error, rounds=each.rounds)
                found.append(error)
        return tuple(found)

    def describe(self) -> str:
        """Say it in a sentence: within so much up to such a load, and what is beyond."""
        within = list(takewhile(lambda each: each.is_within, self.loads))
        said = []
        if within:
            worst = {name: max(each.figures[name].error for each in within) for name in LATENCIES}
            figures = ", ".join(f"{name} within {_percent(error)}" for name, error in worst.items())
            said.append(f"{figures}, up to {_percent(within[-1].load)} of capacity")
        for what, each in groupby(self.loads[len(within) :], LoadVerdict.describe):
            said.append(f"at {', '.join(_percent(one.load) for one in each)}: {what}")
        if self.throughput.is_within:
            said.append(f"throughput within {_percent(self.throughput.error)} at saturation")
        else:
            said.append(f"at saturation: {_describe({'throughput': self.throughput})}")
        return f"{self.candidate}: {'; '.join(said)}"


def judge(
    candidate: str,
    ratios: Mapping[float, Mapping[str, Sequence[float]]],
    throughput: Sequence[float],
    utilizations: Mapping[float, float],
    seed: int = 0,
) -> Verdict:
    """Judge a candidate by its rounds.

    Parameters
    ----------
    candidate : str
        Its name.
    ratios : Mapping
        Simulated / measured by load and latency, one for each round.
    throughput : Sequence[float]
        The same of the throughput at saturation.
    utilizations : Mapping[float, float]
        Of the busiest part in the simulation, by load.
    seed : int
        Of the resamples.
    """
    loads = []
    for load in sorted(ratios):
        figures = {name: estimate(ratios[load][name], TOLERANCES[name], seed) for name in LATENCIES}
        loads.append(LoadVerdict(load, utilizations[load], figures))
    return Verdict(candidate, tuple(loads), estimate(throughput, TOLERANCES["throughput"], seed))


def merge_errors(several: Sequence[tuple[ModelError, ...]]) -> tuple[ModelError, ...]:
    """Give the errors of one backend that was validated in several configurations: the largest, up to where all have one."""
    if not all(several):
        return ()
    last = min(errors[-1].utilization for errors in several)
    merged = []
    for utilization in sorted({each.utilization for errors in several for each in errors if each.utilization <= last}):
        row = [next(each for each in errors if each.utilization >= utilization) for errors in several]
        worst = {name: max(getattr(each, name) for each in row) for name in TOLERANCES}
        merged.append(ModelError(utilization=utilization, **worst, rounds=min(each.rounds for each in row)))
    return tuple(merged)


def _describe(figures: Mapping[str, Estimate]) -> str:
    rounds = min(each.rounds for each in figures.values())
    if rounds < LEAST_ROUNDS:
        return f"cannot tell, {format_count(rounds, 'round')} kept where {LEAST_ROUNDS} are needed"
    if unknown := _listed(figures, lambda each: not each.is_known):
        return f"cannot tell, the rounds are too far apart ({unknown})"
    missed = _listed(figures, lambda each: not each.is_within)
    return f"simulated over measured {missed}" if missed else "every figure within its tolerance"


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _listed(figures: Mapping[str, Estimate], chosen: Callable[[Estimate], bool]) -> str:
    """List ratios with their intervals and directions."""
    return ", ".join(
        f"{name} {each.ratio:.2f} ({each.low:.2f} to {each.high:.2f}{_direction(each)})"
        for name, each in figures.items()
        if chosen(each)
    )


def _direction(figure: Estimate) -> str:
    if figure.low > 1.0:
        return ", too high"
    return ", too low" if figure.high < 1.0 else ""
