"""Jobs of which one kills the process that carries it out. A module that is soon imported, since every worker does it."""

from __future__ import annotations

import os
import signal


def square_or_die(job: int, progress: object) -> int:
    """3 kills its process, 4 raises."""
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 4:
        raise ValueError("four\nis not a number")
    return job * job
