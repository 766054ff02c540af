"""Progress of a simulation while it runs: the callback, a bar or a line for each stage, and the throughput.

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

from ratesim.safe_text import shorten_text

__all__ = ["FINISHED", "STATIC", "Progress", "Throughput", "in_stage", "is_watched", "no_progress", "progress_bar"]

Progress = Callable[[int, int, str], None]
"""Called with the amount done, the amount in all, and a line of text: the stage, and after ": " the step of it."""

STATIC = "RATESIM_STATIC"  # set in the environment of a notebook whose outputs nobody can answer: no bars, no widgets
OFTEN = 0.1  # seconds between two lines of a bar
FINISHED = "done"  # the text of the last call, which is no stage


def no_progress(done: int, total: int, what: str) -> None:
    """Ignore progress."""


def in_stage(tell: Progress, stage: str) -> Progress:
    """Return a callback that puts the stage before each text."""
    return tell if tell is no_progress else lambda done, total, what: tell(done, total, f"{stage}: {what}")


def is_watched() -> bool:
    """Tell whether somebody watches: in a notebook whose outputs are no page, or at a terminal."""
    if os.environ.get(STATIC):
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel") or sys.stderr.isatty()


@contextmanager
def progress_bar(progress: Progress | bool | None) -> Iterator[Progress]:
    """Give the callback that shows progress.

    Parameters
    ----------
    progress : Progress, bool or None
        A callback is given back. None shows a bar where somebody watches: in a notebook (a widget, if it has them) or at a
        terminal. True shows also elsewhere, as in the log of a pipeline, one line for each stage. False shows nothing. In a
        notebook that becomes a page nothing is shown.

    Yields
    ------
    Progress
        The callback.
    """
    if callable(progress):
        yield progress
    elif progress is False or os.environ.get(STATIC):
        yield no_progress
    elif is_watched():
        with _bar() as tell:
            yield tell
    elif progress:
        yield _line_per_stage()
    else:
        yield no_progress


@contextmanager
def _bar() -> Iterator[Progress]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # a notebook without widgets gets a bar of text
        from tqdm.auto import tqdm
    with tqdm(
        total=1, file=sys.stderr, bar_format="{l_bar}{bar}| {n}/{total} {elapsed}<{remaining} {postfix}", leave=False
    ) as bar:
        shown = -inf

        def tell(done: int, total: int, what: str) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < OFTEN and done < total:
                return
            shown = now
            if bar.total != total:
                bar.total = total
            bar.n = done
            bar.set_postfix_str(what, refresh=True)

        yield tell


def _line_per_stage() -> Progress:
    last = FINISHED

    def tell(done: int, total: int, what: str) -> None:
        nonlocal last
        stage = what.partition(": ")[0]
        if stage not in (last, FINISHED):
            last = stage
            print(shorten_text(stage), file=sys.stderr, flush=True)  # noqa: T201 - that is what it is for

    return tell


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
