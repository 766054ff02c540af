"""Runs a simulation to its end in slices, so that progress can be shown and Ctrl-C takes effect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ratesim.progress import Progress, Throughput, no_progress, progress_bar

__all__ = ["SLICES", "run_until_done"]

SLICES = 200
LONGEST = 20_000  # requests in a slice: a fraction of a second, so that Ctrl-C need not wait


class Simulation(Protocol):
    """What runs in simulated time: a SimPy environment, or the compiled kernel."""

    @property
    def now(self) -> float:
        """Simulated seconds."""

    def peek(self) -> float:
        """Return when something happens next; inf if nothing does."""

    def run(self, until: float) -> Any:
        """Process what is due before a time."""


def run_until_done(
    env: Simulation,
    due: NDArray[np.float64],
    progress: Progress | bool | None,
    interruptible: bool = False,
    requests: Callable[[], int] | None = None,
    answered: Callable[[], float] = lambda: 0.0,
    grace: float = 60.0,
) -> bool:
    """Run a simulation to its end and show its progress.

    The run stops when the event queue is empty, or `grace` simulated seconds after the later of the last due time and the
    last answer. The cap is needed because a node that cannot reach its store retries forever. Slicing changes no number.

    Parameters
    ----------
    env
        The simulation.
    due
        Simulated times of the requests, in order, or other milestones of progress.
    progress
        As for `run`.
    interruptible
        Whether a first Ctrl-C stops the run between two events, after at most 20,000 due times. A second one raises as ever.
    requests
        Returns the requests so far, where that is not the number of due times that have passed.
    answered
        Returns the time of the last answer, or inf while a request is outstanding.
    grace
        Simulated seconds.

    Returns
    -------
    bool
        Whether the run was interrupted.
    """
    with progress_bar(progress) as tell, _noted(interruptible) as interrupts:
        if tell is not no_progress or interruptible:
            pace, total = Throughput(), len(due)
            for row in range(0, total, min(max(total // SLICES, 1), LONGEST)):
                if due[row] > env.now:
                    env.run(float(due[row]))
                try:
                    tell(row, total, pace.text(requests() if requests else row, env.now))
                except KeyboardInterrupt:
                    if not interruptible:
                        raise
                    return True
                if interrupts:
                    return True
        _finish(env, float(due[-1]) if len(due) else 0.0, answered, grace)
        if tell is not no_progress:
            tell(total, total, pace.text(requests() if requests else total, env.now))
        return bool(interrupts)


def _finish(env: Simulation, last: float, answered: Callable[[], float], grace: float) -> None:
    ends = inf
    while (soonest := env.peek()) < ends:
        env.run(min(soonest + grace / 2.0, ends))
        ends = max(answered(), last) + grace


@contextmanager
def _noted(wanted: bool) -> Iterator[list[int]]:
    """Yield a list that gets the first Ctrl-C as an entry, if that is wanted and this thread is the one that receives it."""
    interrupts: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not wanted or before is None or threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
