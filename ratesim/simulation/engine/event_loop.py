"""Runs a SimPy environment to its end in slices, so that progress is shown and Ctrl-C is heard."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType

import numpy as np
import simpy
from numpy.typing import NDArray

from ratesim.progress import Progress, Throughput, no_progress, progress_bar

__all__ = ["SLICES", "run_until_done"]

SLICES = 200
LONGEST = 20_000  # requests in a slice: a fraction of a second, so that Ctrl-C need not wait


def run_until_done(
    env: simpy.Environment,
    due: NDArray[np.float64],
    progress: Progress | bool | None,
    interruptible: bool = False,
    requests: Callable[[], int] | None = None,
    answered: Callable[[], float] = lambda: 0.0,
    grace: float = 60.0,
) -> bool:
    """Run a simulation to its end, and show how far it is; True when it was interrupted.

    It ends when nothing happens any more, or `grace` simulated seconds after the last request was due and `answered`, which
    says when that was, and inf while one has no answer: a node whose store never hears it would try for ever.

    due: simulated times at which it has come so and so far, in order: those at which requests are sent. requests: how many
    there were up to now, where that is not the number of these times that have passed. interruptible: a first Ctrl-C stops
    it between two events, after at most 20,000 of these times; a second one raises as ever. To stop and to go on changes no
    number.
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


def _finish(env: simpy.Environment, last: float, answered: Callable[[], float], grace: float) -> None:
    ends = inf
    while (soonest := env.peek()) < ends:
        env.run(min(soonest + grace / 2.0, ends))
        ends = max(answered(), last) + grace


@contextmanager
def _noted(wanted: bool) -> Iterator[list[int]]:
    """The first Ctrl-C as an entry of a list, if it is wanted so, and in the thread that gets it."""
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
