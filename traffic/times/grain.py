"""How coarse the stamps of a whole source really are, whatever their text pretends, and which lie years from all others.

An export writes "06:00:00" for what it only knows to the minute. Replayed as they are, a minute's requests would all arrive
in its first instant, so `traffic.trace` spreads requests over the grain that is found here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traffic.times.stamp_numbers import EARLIEST

Times = NDArray[np.float64]
Grains = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Grains that clocks and exports have, in seconds, and how near to a multiple a float64 of today's size is.
STEPS = ((86400.0, 1e-6), (3600.0, 1e-6), (60.0, 1e-6), (1.0, 1e-6), (0.1, 1e-5), (0.01, 1e-4))
QUARTER = 900.0  # days and hours begin on one, in every zone
BY_CHANCE = 1e-5  # that stamps so fine would all be so round
CROWD = 2  # stamps of a minute, an hour or a day, in the mean; fewer may be a job that runs then
FEWEST, SHARE = 100, 0.1  # stamps of a mixture, and the share of round ones beyond what chance allows
YEAR = 365 * 86400.0
STRAY = 0.01  # share of the stamps that a group has at least, years from the middle, to belong to the source
SAMPLE = 200_000  # stamps that decide
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """A grain of which stamps are multiples, but for `phase`."""

    seconds: float
    near: float
    phase: float

    def meets(self, times: Times) -> Mask:
        """Tell which times are multiples."""
        turns = (times - self.phase) / self.seconds
        met: Mask = np.abs(turns - np.rint(turns)) < self.near
        return met


def coarsen(seconds: Times, grain: Grains) -> Grains:
    """Give each stamp the grain that the stamps of its source show.

    If all are whole minutes (hours, days), and several share one, that is their grain: a job that runs once a minute keeps
    its seconds. If all are whole seconds (tenths, hundredths), or a tenth of 100 or more beyond what chance allows, those
    that are have that grain, and the others keep theirs. A share of whole minutes among other stamps proves nothing, since
    timers fire on the minute. Fractions that are shorter than the usual ones, and no more than if zeros at the end were left
    out, are as fine as those. Numbers of the log's own clock are exact unless all of them are whole.

    Parameters
    ----------
    seconds : NDArray[np.float64]
        Times of all requests of one source, in any order; nan where there is none. Shape (n,).
    grain : NDArray[np.float32]
        Seconds within which each lies by its text, shape (n,).

    Returns
    -------
    NDArray[np.float32]
        Seconds within which each lies, shape (n,).
    """
    chosen = _sample(seconds)
    times, text = seconds[chosen], grain[chosen]
    if not len(times):
        return grain
    if np.median(times) < EARLIEST and not text.all():
        return np.zeros(len(grain), np.float32)
    short, usual = _short_by_chance(text)
    text = np.where(np.isin(text, short), usual, text)
    steps = []
    for size, near in STEPS:
        step = Step(size, near, times[0] % size if size > 60 and times[0] % QUARTER == 0 else 0.0)
        if _is_shown(step, times, text):
            steps.append(step)
            text = _at_least(step, times, text)
    coarse = np.empty(len(grain), np.float32)
    for start in range(0, len(grain), CHUNK):  # so that a log of millions needs no room for as many intermediate results
        part = slice(start, start + CHUNK)
        coarse[part] = np.where(np.isin(grain[part], short), usual, grain[part])
        for step in steps:
            coarse[part] = _at_least(step, seconds[part], coarse[part])
    return coarse


def _sample(seconds: Times) -> NDArray[np.int64]:
    """Choose some of the stamps that are there, always the same."""
    if len(seconds) <= SAMPLE:
        return np.flatnonzero(np.isfinite(seconds))
    chosen = np.sort(np.random.default_rng(0).integers(0, len(seconds), SAMPLE))
    return chosen[np.isfinite(seconds[chosen])]


def _short_by_chance(text: Grains) -> tuple[Grains, np.float32]:
    """Tell which grains of shorter fractions are as rare as if zeros at the end were left out, and what is the usual one."""
    usual = np.quantile(text, 0.1, method="lower")
    levels, counts = np.unique(text, return_counts=True)
    expected = len(text) * usual / levels.clip(min=1e-12)
    short = (levels > usual) & (levels < 1.5) & (counts <= 2 * expected + 3 * np.sqrt(expected))
    return levels[short], usual


def _is_shown(step: Step, times: Times, text: Grains) -> bool:
    finer = text < step.seconds * 0.999
    if not finer.any():
        return False
    met = step.meets(times)
    chance = float(np.mean(text[finer])) / step.seconds
    if not met.all() and (step.seconds > 1 or np.count_nonzero(finer) < FEWEST or np.mean(met[finer]) < chance + SHARE):
        return False
    distinct = len(np.unique(times[met & finer]))
    crowded = step.seconds <= 1 or len(times) >= CROWD * distinct
    return crowded and max(chance, 1e-6) ** distinct <= BY_CHANCE


def _at_least(step: Step, times: Times, text: Grains) -> Grains:
    return np.where(step.meets(times), np.maximum(text, np.float32(step.seconds)), text)


def strays(seconds: Times) -> Mask:
    """Tell which stamps lie more than a year from the rest: a clock that had lost its battery, a digit too many.

    Parameters
    ----------
    seconds : NDArray[np.float64]
        Times of all requests of one source, in any order; nan where there is none. Shape (n,).

    Returns
    -------
    NDArray[np.bool_]
        True for those that are separated from the median by a gap of more than a year, if they are alone there or fewer than
        1 % of all. Of two stamps none is, since either may be wrong.
    """
    far = np.zeros(len(seconds), np.bool_)
    chosen = _sample(seconds)
    if len(chosen) < 3:
        return far
    middle = float(np.quantile(seconds[chosen], 0.5, method="lower"))
    if max(middle - np.nanmin(seconds), np.nanmax(seconds) - middle) <= YEAR:
        return far
    times = np.sort(seconds[np.isfinite(seconds)])
    starts = np.concatenate(([0], np.flatnonzero(np.diff(times) > YEAR) + 1, [len(times)]))
    for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        holds_middle = times[first] <= middle <= times[end - 1]
        if not holds_middle and end - first < max(2, STRAY * len(times)):
            far |= (seconds >= times[first]) & (seconds <= times[end - 1])
    return far
