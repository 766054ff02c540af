"""Progress of a simulation while it runs: the callback, a bar, and the throughput.

It reads the clock to say how fast a simulation is, and decides nothing.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

__all__ = ["STATIC", "Progress", "Throughput", "no_progress", "progress_bar"]

Progress = Callable[[int, int, str], None]
"""Called with the amount done, the amount in all, and a line of text about it."""

STATIC = "RATESIM_STATIC"  # set in the environment of a notebook whose outputs nobody can answer: no bars, no widgets
OFTEN, SELDOM = 0.1, 1.0  # seconds between two lines of a bar, in a terminal and elsewhere, where every line stays


def no_progress(done: int, total: int, what: str) -> None:
    """Ignore progress."""


@contextmanager
def progress_bar(progress: Progress | bool | None) -> Iterator[Progress]:
    """Give the callback that shows progress.

    Parameters
    ----------
    progress : Progress, bool or None
        A callback is given back. True shows a bar (in a notebook a widget, if it has them). Anything else shows nothing. In
        a notebook that becomes a page no bar is shown.

    Yields
    ------
    Progress
        The callback.
    """
    if callable(progress):
        yield progress
        return
    if not progress or os.environ.get(STATIC):
        yield no_progress
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # a notebook without widgets gets a bar of text
        from tqdm.auto import tqdm
    with tqdm(
        total=1, file=sys.stderr, bar_format="{l_bar}{bar}| {n}/{total} {elapsed}<{remaining} {postfix}", leave=False
    ) as bar:
        often = OFTEN if sys.stderr.isatty() else SELDOM
        shown = -inf

        def tell(done: int, total: int, what: str) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < often and done < total:
                return
            shown = now
            if bar.total != total:
                bar.total = total
            bar.n = done
            bar.set_postfix_str(what, refresh=True)

        yield tell


class Throughput:
    """The average speed of a simulation since this object was made.

    Parameters
    ----------
    clock : Callable[[], float]
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    def text(self, requests: int, simulated: float) -> str:
        """Format the speed.

        Parameters
        ----------
        requests : int
            Requests simulated since the object was made.
        simulated : float
            Simulated seconds.
        """
        rate = requests / max(self._clock() - self._began, 1e-9)
        return f"{rate:,.0f} requests/s, {simulated:,.0f} s simulated"
