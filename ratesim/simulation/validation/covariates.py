"""Covariates: how the machine was during a measurement. They alone decide which measurements are kept, never an outcome.

Three are taken. The *pace* of each core is the processor time of a fixed piece of work, sampled before, during and after a
measurement (`pace_sampler.py`). *Steal* is the share of the machine that its hypervisor gave to others. *Others* is the
share that programs used which take no part. A replay is simulated with costs that were measured shortly before it. So it is
kept if the cores were as fast during the replay as during the measurement of the costs, and nobody else was at work.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.machine_account import Account, Meter

__all__ = ["Account", "Covariates", "Meter", "causes", "covariates_of", "read_samples", "sampled"]

BESIDE = 0.2  # seconds before and after a measurement that count with it
PACE = 0.25  # relative difference of the pace from that of the costs, during a measurement
PACE_BESIDE = 0.5  # the same before and after it, where fewer samples are
OTHERS = 0.06  # share of the machine
STEAL = 0.02
SAMPLER = Path(__file__).with_name("pace_sampler.py")


@dataclass(frozen=True)
class Covariates:
    """The machine during one measurement.

    Attributes
    ----------
    pace : dict[int, tuple[float, float, float]]
        Mean seconds of the piece of work by core: before, during and after; nan where it was not sampled.
    steal, others : float
        Shares of the machine; nan where it is not known.
    """

    pace: dict[int, tuple[float, float, float]]
    steal: float = 0.0
    others: float = 0.0


def causes(seen: Covariates, reference: Covariates) -> tuple[str, ...]:
    """Say what was wrong with the machine during a measurement; nothing, and it is kept.

    Parameters
    ----------
    seen, reference : Covariates
        Of the measurement, and of the measurement of the costs that it is compared with. A reference is compared with
        itself.
    """
    found = []
    sampled_here, sampled_there = (
        {core for core, (_, during, _) in each.pace.items() if during > 0} for each in (seen, reference)
    )
    if not sampled_here or sampled_here != sampled_there:
        found.append("pace not known")
    for core in sorted(sampled_here & sampled_there):
        (before, during, after), usual = seen.pace[core], reference.pace[core][1]
        limits = ((before, PACE_BESIDE), (during, PACE), (after, PACE_BESIDE))
        if any(abs(pace / usual - 1.0) > limit for pace, limit in limits):
            found.append("pace")
            break
    if seen.steal > STEAL:
        found.append("steal")
    if seen.others > OTHERS:
        found.append("other programs")
    return tuple(found)


def covariates_of(
    samples: NDArray[np.float64], began: float, ended: float, steal: float = 0.0, others: float = 0.0
) -> Covariates:
    """Take the pace of a measurement from the samples, rows of (core, perf_counter, seconds)."""
    pace = {}
    for core in np.unique(samples[:, 0]):
        at, seconds = samples[samples[:, 0] == core, 1:].T
        spans = ((began - BESIDE, began), (began, ended), (ended, ended + BESIDE))
        pace[int(core)] = tuple(_mean(seconds[(at >= first) & (at < last)]) for first, last in spans)
    return Covariates(pace, steal, others)  # type: ignore[arg-type]


def read_samples(path: Path) -> NDArray[np.float64]:
    """Read the lines of the sampler that are complete."""
    text = path.read_text("ascii") if path.exists() else ""
    rows = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
    return np.array(rows, np.float64).reshape(-1, 3)


@contextmanager
def sampled(path: Path, cores: Sequence[int]) -> Iterator[int]:
    """Sample the cores into the file meanwhile. Yields the sampler's process id."""
    command = [sys.executable, "-I", "-S", str(SAMPLER), str(path), *map(str, cores or (-1,))]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603 (our own interpreter); leaving ends its input
        yield process.pid


def _mean(seconds: NDArray[np.float64]) -> float:
    """Return the mean, with what an interrupt made longer than twice the median counted as that."""
    return float(np.minimum(seconds, 2.0 * np.median(seconds)).mean()) if len(seconds) else float("nan")
