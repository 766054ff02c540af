"""How quiet a machine was during a piece of a measurement.

Sampled are the pace of a fixed piece of work and the time that others took. A piece is kept or dropped by that, and
never by its result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PACE_BOUND", "TAKEN_BOUND", "Conditions", "Observer", "are_quiet", "noise"]

PACE_BOUND = 0.15  # relative difference from the machine's usual pace
TAKEN_BOUND = 0.08  # share of the time of a half of the cores; Linux counts it in steps of 10 ms
USUAL = 0.25  # the usual pace is this quantile: a neighbor only slows
WORK, TIMES = 4000, 7  # additions of a piece of work, about 0.15 ms; pieces of which the median counts


@dataclass(frozen=True)
class Conditions:
    """What a piece of a measurement was exposed to.

    Attributes
    ----------
    pace : tuple[float, ...]
        Seconds of the fixed piece of work on each half of the cores, the slower one of before and after.
    taken : float
        Share of the time of the half that lost more of it, taken by other programs or by the hypervisor; nan where it is not
        known.
    """

    pace: tuple[float, ...]
    taken: float


def are_quiet(
    pieces: Sequence[Conditions], pace_bound: float = PACE_BOUND, taken_bound: float = TAKEN_BOUND
) -> NDArray[np.bool_]:
    """Tell of each piece whether the machine was as fast as usual and its own.

    Parameters
    ----------
    pieces : Sequence[Conditions]
        All pieces of a measurement; the usual pace is that of its faster quarter.
    pace_bound : float
        Largest relative difference from the usual pace.
    taken_bound : float
        Largest share that others took.
    """
    if not pieces:
        return np.zeros(0, np.bool_)
    taken = np.nan_to_num([piece.taken for piece in pieces])
    return np.asarray((_slowness(pieces).max(axis=1) <= pace_bound) & (taken <= taken_bound), np.bool_)


def noise(pieces: Sequence[Conditions]) -> NDArray[np.float64]:
    """Return of each piece how much it was disturbed: the relative loss of pace and the share taken, added."""
    taken = np.nan_to_num([piece.taken for piece in pieces])
    return np.asarray(_slowness(pieces).max(axis=1) + taken, np.float64)


def _slowness(pieces: Sequence[Conditions]) -> NDArray[np.float64]:
    pace = np.array([piece.pace for piece in pieces])
    return np.asarray(np.abs(pace / np.quantile(pace, USUAL, axis=0) - 1.0), np.float64)


class Observer:
    """Samples the conditions of pieces that follow each other.

    Parameters
    ----------
    groups : Sequence[tuple[int, ...]]
        The cores of this process, and those of the server where it has cores of its own; see `load_process.halves`. Where
        they are not known it is one empty group.
    pids : Sequence[int]
        The processes of the server; what their children use is theirs, too. Without them the server's cores are not looked
        at, because its work cannot be told from that of others.
    """

    def __init__(self, groups: Sequence[tuple[int, ...]], pids: Sequence[int] = ()) -> None:
        self._groups = tuple(groups) if pids else tuple(groups[:1])
        self._pids = frozenset(pids)
        self.begin()

    def begin(self) -> None:
        """Begin a piece."""
        self._pace = self._paces()
        self._start()

    def end(self) -> Conditions:
        """End the piece, and begin the next one."""
        elapsed = max(time.perf_counter() - self._at, 1e-9)
        others = [now - before for now, before in zip(self._others(), self._before, strict=True)]
        taken = max((seconds / elapsed / max(len(group), 1) for seconds, group in zip(others, self._groups, strict=True)))
        before, self._pace = self._pace, self._paces()
        self._start()
        return Conditions(tuple(map(max, before, self._pace)), float(max(taken, 0.0)))

    def _start(self) -> None:
        self._at, self._before = time.perf_counter(), self._others()

    def _paces(self) -> tuple[float, ...]:
        home = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        paces = []
        try:
            for group in self._groups:
                if group:
                    os.sched_setaffinity(0, group)
                paces.append(_pace())
        finally:
            if home:
                os.sched_setaffinity(0, home)
        return tuple(paces)

    def _others(self) -> list[float]:
        """Return the seconds by group of cores that neither this process nor the server used so far; nan where not known."""
        stat = Path("/proc/stat")
        if not stat.exists() or not self._groups[0]:
            return [float("nan")] * len(self._groups)
        tick = os.sysconf("SC_CLK_TCK")
        busy = {}
        for line in stat.read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, _, _, irq, soft, steal, *_ = map(int, fields)
                busy[int(name[3:])] = (user + nice + system + irq + soft + steal) / tick
        own = (time.process_time(), _used(self._pids) if len(self._groups) > 1 else 0.0)
        return [sum(busy[core] for core in group) - used for group, used in zip(self._groups, own, strict=False)]


def _pace() -> float:
    took = []
    for _ in range(TIMES):
        start = time.perf_counter()
        sum(i * i for i in range(WORK))
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _used(pids: frozenset[int]) -> float:
    """Return the processor seconds of processes and of their children, as the scheduler of Linux counts them."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if int(path.name) in pids or parent in pids:
                total += sum(int((thread / "schedstat").read_text().split()[0]) for thread in (path / "task").iterdir())
        except (OSError, IndexError):  # it has ended since
            continue
    return total / 1e9
