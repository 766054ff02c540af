"""Executors of independent jobs: this process, other processes of this machine, or a Dask cluster.

Each yields (job, result) as results come, in any order, and `JobFailure` for a job without a result. A worker that dies
takes no result with it: its job is done again.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from numbers import Integral
from typing import Any, TypeAlias, TypeVar

from ratesim.errors import RatesimError
from ratesim.progress import Progress
from ratesim.safe_text import shorten_repr

__all__ = ["ClusterError", "JobFailure", "Work", "process_count", "run_in_processes", "run_inline", "run_on_dask"]

J = TypeVar("J")
R = TypeVar("R")

Work = Callable[[J, Progress], R]
"""Carries out a job, and tells how many of its requests are done. A function of a module, so that workers can import it."""

Beat = Callable[[int], None]
"""Told how many more requests have been simulated."""

ALONE = 2  # times that a job is tried with no other job near, after a worker died that may have been its own
BEAT = 0.5  # seconds between two looks at how far the workers are
CONNECT = 10.0  # seconds that a scheduler has to answer


class ClusterError(RatesimError):
    """No worker could be had: one line with the remedy."""


def process_count(processes: int | None) -> int:
    """Return how many processes are asked for, as many as cores for None. Raises ClusterError for no such number."""
    if processes is None:
        return os.cpu_count() or 1
    if isinstance(processes, bool) or not isinstance(processes, Integral) or processes < 1:
        shown = shorten_repr(processes)
        raise ClusterError(f"processes {shown}: must be a whole number, 1 or more; leave it out for as many as cores")
    return int(processes)


@dataclass(frozen=True)
class JobFailure:
    """A job without a result.

    Attributes
    ----------
    reason
        One line.
    traceback
        The traceback, where there is one.
    """

    reason: str
    traceback: str = ""


Results: TypeAlias = Generator[tuple[J, "R | JobFailure"], None, None]


def run_inline(work: Work[J, R], jobs: Sequence[J], beat: Beat) -> Results[J, R]:
    """Execute jobs one after the other in this process. A deque of jobs may grow meanwhile, and is left empty."""
    waiting = jobs if isinstance(jobs, deque) else deque(jobs)
    while waiting:
        job = waiting.popleft()
        yield job, _attempt(work, job, beat)


def run_in_processes(work: Work[J, R], jobs: Sequence[J], processes: int, beat: Beat) -> Results[J, R]:
    """Execute jobs on processes of this machine, which end with this one, also when it is killed.

    A deque of jobs may grow while results are taken, and is left empty; the processes stay until no job is left. When a
    process dies, every job that was near it is suspected and tried again by itself. A job whose process dies twice more has
    failed.

    Raises
    ------
    ClusterError
        If no process can even begin.
    """
    waiting = jobs if isinstance(jobs, deque) else deque(jobs)
    while waiting:
        suspects = deque((yield from _together(work, waiting, processes, beat, ahead=1)))
        last: J | None = None
        deaths = 0
        while suspects:
            for job in (yield from _together(work, suspects, 1, beat, ahead=0)):  # one, or none
                deaths = deaths + 1 if job is last else 1
                last = job
                if deaths < ALONE:
                    suspects.appendleft(job)
                else:
                    yield (
                        job,
                        JobFailure(f"its process died each of {1 + ALONE} times, the last {ALONE} with no other job near"),
                    )


def _together(
    work: Work[J, R], waiting: deque[J], processes: int, beat: Beat, ahead: int
) -> Generator[tuple[J, R | JobFailure], None, list[J]]:
    """Execute jobs from the left of `waiting` until none is left or a process dies; return those that were under way.

    ahead: jobs that are handed out before a process is free for them, so that no process waits for this one.
    """
    context = multiprocessing.get_context("spawn")  # forking a process that runs threads may deadlock
    running: dict[Future[R | JobFailure], J] = {}
    with _pool(context, processes) as (pool, counts):
        known = 0
        while waiting or running:
            whole = True
            while whole and waiting and len(running) < processes + ahead:
                try:
                    with _undisturbed():
                        running[pool.submit(_elsewhere, work, waiting[0])] = waiting[0]
                    waiting.popleft()
                except BrokenProcessPool:
                    whole = False
            done, _ = wait(running, timeout=BEAT, return_when=FIRST_COMPLETED)
            if not all(_came_back(future) for future in done):
                whole = False
            if not whole:
                done, _ = wait(running)
            for future in [future for future in running if future in done and _came_back(future)]:
                error = future.exception()
                yield running.pop(future), JobFailure(_line(error)) if error else future.result()
            now = sum(counts[1:])
            beat(now - known)
            known = now
            if not whole:
                if not counts[_BEGUN]:
                    raise ClusterError(
                        "no process could begin: a script that sweeps on several needs `if __name__ == '__main__':` around "
                        "what it does; processes=1 needs none"
                    )
                return list(running.values())
    return []


def _came_back(future: Future[Any]) -> bool:
    return not isinstance(future.exception(), BrokenProcessPool)


_BEGUN = 0  # of the counts: how many workers have begun; the requests of each follow


@contextmanager
def _pool(context: SpawnContext, processes: int) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Start processes and the counts that they share.

    The processes live as long as the pipe's other end, which only this process holds: until it closes it, or dies.
    """
    reader, writer = context.Pipe(duplex=False)
    counts = context.RawArray("q", 1 + processes)
    # Held at a worker's start only: each then counts in a slot of its own. Who waits for one that was killed is ended, too.
    claim = context.Lock()
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(reader, counts, claim))
    try:
        yield pool, counts
        pool.shutdown(wait=True)
    finally:
        writer.close()
        pool.shutdown(wait=True, cancel_futures=True)
        reader.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C. Processes that start meanwhile never see one, because stopping them is this process's task.

    Those processes inherit that the signal is blocked. Another thread may receive it all the same, and then Python
    interrupts this one: so it is also noted, and raised afterward.
    """
    before = signal.getsignal(signal.SIGINT)
    if not hasattr(signal, "pthread_sigmask") or before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if noted:
        signal.raise_signal(signal.SIGINT)


_counts: Any = None  # in a worker: what it and the others count
_slot = 0  # in a worker: where it counts


def _begin(reader: Connection, counts: Any, claim: Any) -> None:
    """Initialize a worker."""
    global _counts, _slot
    _counts = counts
    with claim:
        _counts[_BEGUN] += 1
        _slot = _counts[_BEGUN]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(reader,), name="ratesim-end", daemon=True).start()


def _end_with(reader: Connection) -> None:
    try:
        reader.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _elsewhere(work: Work[J, R], job: J) -> R | JobFailure:
    def beat(requests: int) -> None:
        _counts[_slot] += requests

    return _attempt(work, job, beat)


def _attempt(work: Work[J, R], job: J, beat: Beat) -> R | JobFailure:
    counted = 0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal counted
        more = max(done - counted, 0)  # a job that begins again counts what it had done once
        counted += more
        beat(more)

    try:
        return work(job, progress)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on, and it is reported by name
        return JobFailure(_line(error), traceback.format_exc())


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def run_on_dask(work: Work[J, R], jobs: Sequence[J], address: str) -> Results[J, R]:
    """Execute jobs on the workers of an existing Dask cluster, which must have the same ratesim installed.

    The cluster itself gives the job of a dead worker to another, as often as its `allowed-failures` says.

    Parameters
    ----------
    work
        Executes a job.
    jobs
        The jobs.
    address
        Of the scheduler.

    Raises
    ------
    ClusterError
        If no scheduler answers there.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as missing:
        raise ClusterError("a sweep on a Dask cluster needs the extra: pip install 'ratesim[distributed]'") from missing
    if re.fullmatch(r"([a-z]+://)?.+:\d+", address) is None:  # a client of what is no address takes 20 s to give up
        raise ClusterError(f"scheduler {address}: is no address; write one such as tcp://host:8786")
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"scheduler {address}: no Dask scheduler answers there: {error}") from error
    with client:
        running = {client.submit(_quietly, work, job, pure=False): job for job in jobs}
        try:
            for future in as_completed(list(running), loop=client.loop):
                job = running.pop(future)
                if future.status == "finished":
                    yield job, future.result()
                elif future.status == "error":
                    yield job, JobFailure(_line(future.exception()))
                else:
                    yield job, JobFailure(f"the cluster gave it up: {future.status}")
                future.release()
        finally:
            client.cancel(list(running))


def _quietly(work: Work[J, R], job: J) -> R | JobFailure:
    return _attempt(work, job, lambda requests: None)
