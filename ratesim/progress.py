"""Progress: what is shown of a simulation while it goes on. It reads the clock to say how fast, and decides nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType

import numpy as np
import simpy
from numpy.typing import NDArray

__all__ = ["SLICES", "STATIC", "Pace", "Progress", "carry_on", "shown", "silent"]

Progress = Callable[[int, int, str], None]
"""Told what is done, of how much in all, and a line about it."""

STATIC = "RATESIM_STATIC"  # set in the environment of a notebook whose outputs nobody can answer: no bars, no widgets
SLICES = 200
OFTEN, SELDOM = 0.1, 1.0  # seconds between two lines of a bar, in a terminal and elsewhere, where every line stays
LONGEST = 20_000  # requests in a slice: a fraction of a second, so that Ctrl-C need not wait


def silent(done: int, total: int, what: str) -> None:
    """Shows nothing."""


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """What to tell progress to: a function as it is, for True a bar (in a notebook a widget, if it has them), or nothing.
    In a notebook that becomes a page no bar is shown."""
    if callable(progress):
        yield progress
        return
    if not progress or os.environ.get(STATIC):
        yield silent
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # a notebook without widgets gets a bar of text
        from tqdm.auto import tqdm
    with tqdm(
        total=1, file=sys.stderr, bar_format="{l_bar}{bar}| {n}/{total} {elapsed}<{remaining} {postfix}", leave=False
    ) as bar:
        often = OFTEN if sys.stderr.isatty() else SELDOM
        said = -inf

        def tell(done: int, total: int, what: str) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said < often and done < total:
                return
            said = now
            if bar.total != total:
                bar.total = total
            bar.n = done
            bar.set_postfix_str(what, refresh=True)

        yield tell


class Pace:
    """How fast requests are simulated, on the average since it was made. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    def text(self, requests: int, simulated: float) -> str:
        """requests: since it was made. simulated: seconds."""
        rate = requests / max(self._clock() - self._began, 1e-9)
        return f"{rate:,.0f} requests/s, {simulated:,.0f} s simulated"


def carry_on(
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
    with shown(progress) as tell, _noted(interruptible) as interrupts:
        if tell is not silent or interruptible:
            pace, total = Pace(), len(due)
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
        if tell is not silent:
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
