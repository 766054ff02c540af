"""`sweep`: candidates times seeds, on the processes of this machine, as one tidy DataFrame."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pandas as pd

from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.study import catalogue

__all__ = ["sweep"]

Progress = Callable[[int, int, str], None]


def sweep(
    scenario: Scenario,
    candidates: Sequence[Candidate] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    profile: Profile | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row for each candidate and seed, in that order, whichever process ran it.

    candidates: the scenario's catalogue unless given. seeds: its replications. processes: as many as cores; 1 runs here.
    """
    profile = profile or Profile.load()
    candidates = tuple(candidates or catalogue(scenario))
    seeds = tuple(seeds or range(scenario.seed, scenario.seed + scenario.replications))
    jobs = [(scenario, candidate, seed, profile) for candidate in candidates for seed in seeds]
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    tell = progress or (lambda done, total, what: None)
    rows = []
    if processes == 1:
        for done, job in enumerate(jobs):
            tell(done, len(jobs), job[1].name)
            rows.append(_row(job))
    else:
        # A fresh interpreter for each worker: forking a process that runs threads may deadlock.
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            for done, row in enumerate(pool.map(_row, jobs)):
                tell(done, len(jobs), row["candidate"])
                rows.append(row)
    tell(len(jobs), len(jobs), "done")
    return pd.DataFrame(rows)


def _row(job: tuple[Scenario, Candidate, int, Profile]) -> dict[str, Any]:
    scenario, candidate, seed, profile = job
    return run(scenario, candidate, seed, profile=profile).row()
