"""How quiet a machine was during a piece of a measurement.

Sampled are the pace of a fixed piece of work and the time that others took. A piece is kept or dropped by that, and
never by its result.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.machine_account import Meter

__all__ = ["Conditions", "Observer", "are_quiet", "noise"]

PACE = 0.3  # relative difference from the machine's usual pace; virtual machines vary by a fifth by themselves
STEAL, OTHERS = 0.02, 0.06  # shares of the machine
USUAL = 0.5  # the usual pace is this quantile; what a neighbor takes is known beside it
WORK, TIMES = 4000, 7  # additions of a piece of work, about 0.15 ms; pieces of which the median counts


@dataclass(frozen=True)
class Conditions:
    """What a piece of a measurement was exposed to.

    Attributes
    ----------
    pace : tuple[float, ...]
        Seconds of the fixed piece of work on each half of the cores, the slower one of before and after.
    steal, others : float
        Shares of the machine that its hypervisor, and other programs, took; nan where they are not known.
    """

    pace: tuple[float, ...]
    steal: float = 0.0
    others: float = 0.0


def are_quiet(pieces: Sequence[Conditions]) -> NDArray[np.bool_]:
    """Tell of each piece whether the machine was as fast as usual, and nobody else's.

    Parameters
    ----------
    pieces : Sequence[Conditions]
        All pieces of a measurement; the usual pace is their median.
    """
    if not pieces:
        return np.zeros(0, np.bool_)
    taken = np.nan_to_num([(piece.steal, piece.others) for piece in pieces])
    return np.asarray((_slowness(pieces) <= PACE) & (taken <= (STEAL, OTHERS)).all(axis=1), np.bool_)


def noise(pieces: Sequence[Conditions]) -> NDArray[np.float64]:
    """Return of each piece how much it was disturbed: the relative difference of the pace, and the shares taken, added."""
    taken = np.nan_to_num([(piece.steal, piece.others) for piece in pieces])
    return np.asarray(_slowness(pieces) + taken.sum(axis=1), np.float64)


def _slowness(pieces: Sequence[Conditions]) -> NDArray[np.float64]:
    pace = np.array([piece.pace for piece in pieces])
    return np.asarray(np.abs(pace / np.quantile(pace, USUAL, axis=0) - 1.0).max(axis=1), np.float64)


class Observer:
    """Samples the conditions of pieces that follow each other.

    Parameters
    ----------
    groups : Sequence[tuple[int, ...]]
        The cores whose pace is sampled, see `load_process.halves`; without any, that of this process is.
    pids : Sequence[int] or None
        The processes of the server. With None they are not known, and so neither is what others take.
    """

    def __init__(self, groups: Sequence[tuple[int, ...]] | None, pids: Sequence[int] | None = ()) -> None:
        self._groups = groups or ()
        self._pids = pids
        self.begin()

    def begin(self) -> None:
        """Begin a piece."""
        self._pace = self._paces()
        self._meter = Meter(self._pids or ())

    def end(self) -> Conditions:
        """End the piece, and begin the next one."""
        steal, others = self._meter.shares()
        before = self._pace
        self.begin()
        return Conditions(tuple(map(max, before, self._pace)), steal, math.nan if self._pids is None else others)

    def _paces(self) -> tuple[float, ...]:
        if not self._groups:
            return (_pace(),)
        home, paces = os.sched_getaffinity(0), []
        try:
            for group in self._groups:
                os.sched_setaffinity(0, group)
                paces.append(_pace())
        finally:
            os.sched_setaffinity(0, home)
        return tuple(paces)


def _pace() -> float:
    took = []
    for _ in range(TIMES):
        start = time.perf_counter()
        sum(i * i for i in range(WORK))
        took.append(time.perf_counter() - start)
    return float(np.median(took))
