"""Progress: what is shown of a simulation while it goes on. It reads the clock to say how fast, and decides nothing."""

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
"""Told what is done, of how much in all, and a line about it."""

STATIC = "RATESIM_STATIC"  # set in the environment of a notebook whose outputs nobody can answer: no bars, no widgets
OFTEN, SELDOM = 0.1, 1.0  # seconds between two lines of a bar, in a terminal and elsewhere, where every line stays


def no_progress(done: int, total: int, what: str) -> None:
    """Shows nothing."""


@contextmanager
def progress_bar(progress: Progress | bool | None) -> Iterator[Progress]:
    """What to tell progress to: a function as it is, for True a bar (in a notebook a widget, if it has them), or nothing.
    In a notebook that becomes a page no bar is shown."""
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


class Throughput:
    """How fast requests are simulated, on the average since it was made. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    def text(self, requests: int, simulated: float) -> str:
        """requests: since it was made. simulated: seconds."""
        rate = requests / max(self._clock() - self._began, 1e-9)
        return f"{rate:,.0f} requests/s, {simulated:,.0f} s simulated"
