"""Jobs for several processes, in a module that is soon imported, since every worker does it."""

from __future__ import annotations

import os
import signal

from ratesim.progress import Progress

STEPS = 100_000


def square_or_die(job: int, progress: object) -> int:
    """3 kills its process, 4 raises."""
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 4:
        raise ValueError("four\nis not a number")
    return job * job


def square_in_steps(job: int, progress: Progress) -> int:
    """Tell of every step, and begin once more after the first half, as a run does that changes its engine."""
    for begun in (STEPS // 2, STEPS):
        for done in range(1, begun + 1):
            progress(done, STEPS, "")
    return job * job
