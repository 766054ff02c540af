"""What the processors were used for, as Linux counts it: by those who take part in a measurement, and by others."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Account", "Meter"]

TICKS = 0.1  # share of the machine that may be noise where whole ticks are counted


class Account(NamedTuple):
    """Seconds so far, as Linux counts them.

    Attributes
    ----------
    work, stolen : float
        Of the whole machine, in whole ticks.
    tasks : dict[str, tuple[float, bool]]
        Of each task that there is, exactly, and whether it takes part.
    ended : float
        Of children of those that take part, that have ended, and that their parents have waited for.
    """

    work: float
    stolen: float
    tasks: dict[str, tuple[float, bool]]
    ended: float = 0.0

    def shares_since(self, before: Account, whole: float) -> tuple[float, float]:
        """Return the share that was stolen, and the share of tasks that take no part, of `whole` seconds of all cores.

        The account of tasks lacks those that have ended. Of children of those that take part, such as a PostgreSQL's
        backend behind a connection that was closed, the parents know the time. That of others is in the account of the whole
        machine, whose ticks are noisy. So it counts only where it is above its noise.
        """
        own = others = 0.0
        for task, (seconds, takes_part) in self.tasks.items():
            spent = seconds - before.tasks.get(task, (0.0, False))[0]
            own, others = (own + spent, others) if takes_part else (own, others + spent)
        gone = sum(seconds for task, (seconds, takes_part) in before.tasks.items() if takes_part and task not in self.tasks)
        own += max(self.ended - before.ended - gone, 0.0)
        unseen = self.work - before.work - own - TICKS * whole
        return (self.stolen - before.stolen) / whole, float(np.maximum(others, unseen)) / whole


class Meter:
    """Shares of the machine since it was made; nan where Linux does not count them.

    Parameters
    ----------
    pids : Sequence[int]
        The processes that take part beside this one; their children do too.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = {os.getpid(), *pids}
        self._began, self._seen = time.perf_counter(), self.look()

    def shares(self) -> tuple[float, float]:
        """Return the share that was stolen, and the share of programs that take no part."""
        whole = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        return self.look().shares_since(self._seen, whole)

    def look(self) -> Account:
        """Read the accounts."""
        if not Path("/proc/self/schedstat").exists():
            return Account(np.nan, np.nan, {})
        tick = os.sysconf("SC_CLK_TCK")
        all_cores = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, _, _, stolen, *_ = map(int, all_cores)
        tasks, ended = {}, 0
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended since
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                takes_part = int(process.name) in self._pids or int(stat[1]) in self._pids
                ended += takes_part * (int(stat[13]) + int(stat[14]))
                for task in (process / "task").iterdir():
                    tasks[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9, takes_part
        return Account((user + nice + system) / tick, stolen / tick, tasks, ended / tick)
