"""`sweep`: a grid over the fields of a scenario, times candidates, times seeds, as one tidy DataFrame.

The numbers are the same to the bit whether this process computes them, several do, or a Dask cluster does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pandas as pd

import ratesim.simulation.experiments.sweep_accessor  # noqa: F401 - it registers
from ratesim.errors import RatesimError
from ratesim.progress import FINISHED, Progress, Throughput, in_stage, progress_bar
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.executors import (
    Beat,
    JobFailure,
    Results,
    process_count,
    run_in_processes,
    run_inline,
    run_on_dask,
)
from ratesim.simulation.experiments.job import Job, clear_traces, jobs_of, work
from ratesim.simulation.experiments.result_store import ResultStore
from ratesim.simulation.scenario.names import CandidateLike, ScenarioLike, find_candidates, find_scenario

__all__ = ["JobResults", "SweepError", "run_jobs", "sweep", "table"]


class SweepError(RatesimError):
    """Some runs failed; the message names them.

    Attributes
    ----------
    results
        The table of the others.
    """

    exit_code = 1

    def __init__(self, message: str, results: pd.DataFrame) -> None:
        super().__init__(message)
        self.results = results


def sweep(
    scenario: ScenarioLike,
    candidates: Iterable[CandidateLike] | CandidateLike | None = None,
    seeds: Sequence[int] | None = None,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    profile: Profile | None = None,
    processes: int | None = None,
    scheduler: str | None = None,
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """Run every point of the grid with every candidate and seed.

    Ctrl-C ends the sweep with the rows that are done. Then the column `partial` is true in all of them, as is
    `attrs["partial"]`.

    Parameters
    ----------
    scenario
        The base of the grid; also the name of a scenario that ships, or a TOML file.
    candidates
        Each as for `run`. The scenario's candidates, or the default ones, unless given.
    seeds
        The scenario's replications unless given.
    grid
        Values by field, such as {"deployment.nodes": [1, 8, 64]}; each field is a column of the table.
    profile
        Measured costs.
    processes
        As many as cores unless given; 1 runs in this process.
    scheduler
        Address of a Dask scheduler whose workers run the jobs instead; a log must lie there under the same path.
    out
        A directory that keeps each row as soon as there is one and in which rows are looked up: a sweep that was stopped or
        killed goes on from there.
    progress
        As for `run`.

    Returns
    -------
    DataFrame
        One row for each point of the grid, candidate and seed, in that order. `results.ratesim` summarizes and draws it, see
        `SweepAccessor`.

    Raises
    ------
    ScenarioError, ClusterError, ResultStoreError
        If the jobs cannot be run.
    SweepError
        If a run failed; the others are then done.
    """
    scenario = find_scenario(scenario)
    chosen = find_candidates(scenario, candidates)
    jobs = jobs_of(scenario, chosen, seeds, grid, profile or Profile.load())
    return run_jobs(jobs, processes, scheduler, out, progress).table()


class JobResults:
    """The rows of jobs.

    Attributes
    ----------
    rows
        By key.
    failed
        Jobs without a row, unless the sweep was interrupted before their turn.
    partial
        Whether it was interrupted.
    """

    def __init__(self, jobs: Sequence[Job], store: ResultStore | None, known: Mapping[str, dict[str, Any]]) -> None:
        self.jobs = jobs
        self.rows = {job.key: known[job.key] for job in jobs if job.key in known}
        self.failed: list[tuple[Job, JobFailure]] = []
        self.partial = False
        self._store = store
        if store is not None:
            self.rows |= {job.key: store[job.key] for job in jobs if job.key in store}

    def add(self, job: Job, result: dict[str, Any] | JobFailure) -> None:
        """Add the row of a job, or its failure."""
        if isinstance(result, JobFailure):
            self.failed.append((job, result))
            return
        self.rows[job.key] = result
        if self._store is not None:
            self._store.add(job.key, result)

    def table(self) -> pd.DataFrame:
        """Return the tidy table, which is also written to the directory. Raises SweepError."""
        results = table(self.jobs, self.rows, self.partial)
        if self._store is not None:
            self._store.close(results)
        if self.failed:
            named = "; ".join(f"{job}: {failed.reason}" for job, failed in self.failed[:3])
            more = f" and {len(self.failed) - 3} more" if len(self.failed) > 3 else ""
            error = SweepError(f"{len(self.failed)} of {len(self.jobs)} runs failed: {named}{more}", results)
            if self.failed[0][1].traceback:
                error.add_note(self.failed[0][1].traceback)
            raise error
        return results


def run_jobs(
    jobs: Sequence[Job],
    processes: int | None,
    scheduler: str | None,
    out: str | Path | None,
    progress: Progress | bool | None,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> JobResults:
    """Run the jobs whose row is neither in `out` nor in `known`; see `sweep`."""
    cores = process_count(processes)
    finished = JobResults(jobs, None if out is None else ResultStore(Path(out)), known or {})
    todo = list({job.key: job for job in jobs if job.key not in finished.rows}.values())
    present = len(jobs) - len(todo)
    pace = Throughput()
    counted = {"requests": 0, "simulated": 0.0, "live": 0, "done": 0}

    with progress_bar(progress) as tell:
        tell = in_stage(tell, f"making {len(todo)} of {len(jobs)} runs")

        def show(what: str) -> None:
            requests = int(max(counted["live"], counted["requests"]))
            tell(present + int(counted["done"]), len(jobs), f"{what}; {pace.text(requests, counted['simulated'])}")

        def beat(requests: int) -> None:
            counted["live"] += requests
            if requests:
                show("running")

        try:
            if todo:
                tell(present, len(jobs), "starting")
            with closing(_workers(todo, cores, scheduler, beat)) as results:
                for job, result in results:
                    finished.add(job, result)
                    counted["done"] += 1
                    if not isinstance(result, JobFailure):
                        counted["requests"] += result["requests"]
                        counted["simulated"] += result["simulated_seconds"]
                    show(str(job))
            tell(len(jobs), len(jobs), FINISHED)
        except KeyboardInterrupt:
            finished.partial = True
        finally:
            clear_traces()
    return finished


def _workers(jobs: list[Job], cores: int, scheduler: str | None, beat: Beat) -> Results[Job, dict[str, Any]]:
    if scheduler is not None:
        return run_on_dask(work, jobs, scheduler)
    cores = min(cores, len(jobs))
    return run_inline(work, jobs, beat) if cores <= 1 else run_in_processes(work, jobs, cores, beat)


def table(jobs: Sequence[Job], rows: Mapping[str, Mapping[str, Any]], partial: bool) -> pd.DataFrame:
    """Return the rows of those jobs that have one, in the order of the jobs, each with its point of the grid."""
    named = {"partial": partial}
    listed = [{**job.values, **rows[job.key], "candidate": job.candidate.name, **named} for job in jobs if job.key in rows]
    results = pd.DataFrame(cast(Any, listed))
    results.attrs["partial"] = partial
    return results
