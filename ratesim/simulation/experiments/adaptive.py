"""Adaptive runs: questions whose next run depends on what the last one showed, such as a bisection.

An inquiry is a generator. It yields the jobs whose rows it needs, receives those rows in the same order, and returns its
result. Inquiries are composed with `yield from`; those that do not depend on each other with `gather`, so that no core
waits. `run_adaptive` executes one. It makes each run once, however many inquiries ask for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from ratesim.errors import RatesimError
from ratesim.progress import Progress, Throughput, progress_bar
from ratesim.simulation.experiments.executors import JobFailure, process_count, run_in_processes, run_inline
from ratesim.simulation.experiments.job import Job, clear_traces, work
from ratesim.simulation.experiments.result_store import ResultStore
from ratesim.simulation.scenario.scenario import ScenarioError

__all__ = ["AdaptiveResult", "AdaptiveRuns", "Row", "RunFailedError", "gather", "run_adaptive"]

T = TypeVar("T")

Row: TypeAlias = dict[str, Any]
"""What `RunResult.row` tells of a run."""

AdaptiveRuns: TypeAlias = Generator[Sequence[Job], list[Row], T]


class RunFailedError(RatesimError):
    """A run that was needed failed: one line that names it."""

    exit_code = 70


@dataclass(frozen=True)
class AdaptiveResult(Generic[T]):
    """The outcome of an inquiry.

    Attributes
    ----------
    result
        The value that the inquiry returned.
    rows
        The rows of all its runs, by the keys of their jobs.
    """

    result: T
    rows: dict[str, Row]


def gather(*inquiries: AdaptiveRuns[Any]) -> AdaptiveRuns[list[Any]]:
    """Execute several inquiries at the same time; return their results in order."""
    results: list[Any] = [None] * len(inquiries)
    pending: dict[int, Sequence[Job]] = {}

    def go_on(number: int, rows: list[Row] | None) -> None:
        pending.pop(number, None)
        try:
            pending[number] = next(inquiries[number]) if rows is None else inquiries[number].send(rows)
        except StopIteration as end:
            results[number] = end.value

    for number in range(len(inquiries)):
        go_on(number, None)
    while pending:
        numbers = list(pending)
        rows = yield [job for number in numbers for job in pending[number]]
        for number in numbers:
            own, rows = rows[: len(pending[number])], rows[len(pending[number]) :]
            go_on(number, own)
    return results


def run_adaptive(
    inquiry: AdaptiveRuns[T],
    *,
    processes: int | None = None,
    out: Path | None = None,
    known: Mapping[str, Row] | None = None,
    progress: Progress | bool | None = None,
    expected: int | None = None,
) -> AdaptiveResult[T]:
    """Execute an inquiry.

    Parameters
    ----------
    inquiry
        The generator.
    processes
        As many as cores unless given; the numbers are the same.
    out
        A directory that keeps every row as soon as there is one, and in which rows are looked up.
    known
        Rows that need not be made.
    progress
        Called with (done, total so far, what is next), in runs; in requests if `expected` is given.
    expected
        About how many requests will be simulated.

    Raises
    ------
    ScenarioError, RunFailedError, ResultStoreError, ClusterError
        If a run fails or cannot be made. What the inquiry raises, and KeyboardInterrupt, pass through.
    """
    cores = process_count(processes)
    store = None if out is None else ResultStore(out)
    rows: dict[str, Row] = {}
    todo: deque[Job] = deque()
    waited: set[str] = set()
    pace, counted = Throughput(), {"made": 0, "requests": 0, "live": 0, "simulated": 0.0}

    def find(batch: Sequence[Job]) -> None:
        """Look up the rows of a batch; queue the jobs without one."""
        for job in batch:
            if job.key in rows or job.key in waited:
                continue
            if known is not None and job.key in known:
                rows[job.key] = known[job.key]
            elif store is not None and job.key in store:
                rows[job.key] = store[job.key]
            else:
                waited.add(job.key)
                todo.append(job)

    with progress_bar(progress) as tell, closing(inquiry):

        def show(what: str) -> None:
            requests = int(max(counted["live"], counted["requests"]))
            text = f"{what}; {pace.text(requests, counted['simulated'])}"
            if expected is None:
                tell(len(rows), len(rows) + len(waited), text)
            else:
                tell(min(requests, expected - 1), expected, text)

        def beat(requests: int) -> None:
            counted["live"] += requests
            if requests:
                show("running")

        def add(job: Job, row: Row | JobFailure) -> None:
            if isinstance(row, JobFailure):
                kind, _, what = row.reason.partition(": ")
                if kind == ScenarioError.__name__:  # the scenario cannot be run
                    raise ScenarioError(what)
                error = RunFailedError(f"{job}: {row.reason}")
                if row.traceback:
                    error.add_note(row.traceback)
                raise error
            rows[job.key] = row
            waited.discard(job.key)
            counted["requests"] += row["requests"]
            counted["simulated"] += row["simulated_seconds"]
            if store is not None:
                store.add(job.key, row)
            show(str(job))

        workers = None
        try:
            batch = next(inquiry)
            while True:
                find(batch)
                if todo and workers is None:  # the queue grows as the inquiry goes on, and the workers stay
                    show("starting")
                    workers = run_inline(work, todo, beat) if cores == 1 else run_in_processes(work, todo, cores, beat)
                while waited:
                    assert workers is not None
                    finished = next(workers, None)
                    assert finished is not None, "workers go on while there are jobs"
                    add(*finished)
                batch = inquiry.send([rows[job.key] for job in batch])
        except StopIteration as end:
            return AdaptiveResult(end.value, rows)
        finally:
            if workers is not None:
                workers.close()
            clear_traces()
