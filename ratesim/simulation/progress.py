"""Progress: what is shown of a simulation while it goes on. It reads the clock to say how fast, and decides nothing."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import simpy
from numpy.typing import NDArray

__all__ = ["Pace", "Progress", "carry_on", "shown"]

Progress = Callable[[int, int, str], None]
"""Told what is done, of how much in all, and a line about it."""

SLICES = 200


def silent(done: int, total: int, what: str) -> None:
    """Shows nothing."""


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """What to tell progress to: a function as it is, for True a bar (in a notebook a widget, if it has them), or nothing."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield silent
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # a notebook without widgets gets a bar of text
        from tqdm.auto import tqdm
    with tqdm(total=1, file=sys.stderr, bar_format="{l_bar}{bar}| {n}/{total} {elapsed} {postfix}", leave=False) as bar:

        def tell(done: int, total: int, what: str) -> None:
            if bar.total != total:
                bar.reset(total)
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


def carry_on(env: simpy.Environment, due: NDArray[np.float64], progress: Progress | bool | None) -> None:
    """Run a simulation to its end, and show how far it is.

    due: the simulated time at which each request is sent, in order. The environment is stopped at every 200th part of the
    requests; to be stopped and to go on changes no number.
    """
    with shown(progress) as tell:
        total = len(due)
        if tell is not silent:
            pace = Pace()
            for row in range(0, total, max(total // SLICES, 1)):
                if due[row] > env.now:
                    env.run(float(due[row]))
                tell(row, total, pace.text(row, env.now))
        env.run()
        if tell is not silent:
            tell(total, total, pace.text(total, env.now))
