"""A job: one candidate, one scenario, one seed.

Its key is a hash of all that its numbers depend on, so that what was computed under the same key need not be computed again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ratesim.algorithms import get
from ratesim.progress import Progress
from ratesim.safe_text import shorten_repr
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.shared_trace import map_trace, write_trace
from ratesim.simulation.runner import Engine, NotCompiledError, checked_seed, run
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.grid import variants
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.scenario.temporary_files import temporary_path
from ratesim.simulation.scenario.workload import READ, WorkloadSpec
from ratesim.simulation.source_version import code_version
from traffic import Trace
from traffic.inputs.files import open_regular
from traffic.key_labels import key_label

__all__ = ["Job", "clear_traces", "code_version", "is_refused", "jobs_of", "share_log", "work"]

_ELSEWHERE = {"name", "replications", "requirements", "candidates", "workload", "seed"}  # in another place of a key, or none

SHARED = 100_000  # requests of a log from which on it is kept for other processes

_one_at_a_time = threading.Lock()
_traces: dict[str, Trace] = {}
_logs: dict[str, Trace] = {}
_shared: dict[str, str] = {}  # folders of traces, by `_reading`


@dataclass(frozen=True)
class Job:
    """One run that is to be made.

    Attributes
    ----------
    scenario, candidate, seed, profile
        The arguments of `run`.
    values
        Its point of the grid, for people and for the table.
    log
        A hash of the log that is replayed; None for a recipe.
    code
        The `code_version` for which the run is wanted.
    detail
        Whether the row has the run's `RunDetail` as well, as JSON, under `detail`.
    show_keys
        Whether the keys of a log are named in full in its row, and not by their `key_label`.
    engine
        As for `run`. Of a run that the compiled engine refuses there is only the reason, see `is_refused`.
    trace_folder
        A folder with the log as a trace (`share_log`), which need not be read; None where there is none.
    """

    scenario: Scenario
    candidate: Candidate
    seed: int
    profile: Profile
    values: dict[str, Any]
    log: str | None
    code: str
    detail: bool = False
    show_keys: bool = False
    engine: Engine = "auto"
    trace_folder: str | None = None

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits. Names and requirements are not in it: they change no number."""
        algorithm = get(self.candidate.algorithm or self.scenario.limit.algorithm).rule
        parts = {
            "workload": self.workload,
            "scenario": self.scenario.model_dump(mode="json", exclude=_ELSEWHERE),
            "candidate": self.candidate.model_dump(mode="json", exclude={"name"}),
            "seed": self.seed,
            "backends": msgspec.to_builtins(self.profile.backends),
            "hybrids": msgspec.to_builtins(self.profile.hybrids),
            "network": [self.profile.round_trip, self.profile.round_trip_factors, self._names_network],
            "code": self.code,
            "detail": self.detail,
            "show_keys": self.show_keys,
            "engine": self.engine,
            "algorithm": _digest(str(getattr(algorithm, "__file__", None))),  # it may come from outside of the package
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _names_network(self) -> bool:
        """Whether the scenario names its network, which then stands for the one that the profile has measured."""
        return "network" in self.scenario.deployment.model_fields_set

    def label(self, name: str) -> str:
        """Return what a key is called in a row. Keys of a recipe are nobody's, and hashes need no other name."""
        workload = self.scenario.workload
        return name if self.show_keys or self.log is None or workload.anonymize else key_label(name, workload.key)

    @cached_property
    def workload(self) -> str:
        """All that the trace depends on, as JSON."""
        spec = self.scenario.workload.model_dump(mode="json") | {"log": self.log}
        return json.dumps([self.seed if self.log is None else self.scenario.seed, spec], sort_keys=True)

    def __str__(self) -> str:
        place = "".join(f", {field} = {value}" for field, value in self.values.items())
        return f"{self.candidate.name}{place}, seed {self.seed}"


def jobs_of(
    scenario: Scenario,
    candidates: Sequence[Candidate] | None,
    seeds: Sequence[int] | None,
    grid: Mapping[str, Sequence[Any]] | None,
    profile: Profile,
    *,
    detail: bool = False,
    show_keys: bool = False,
    engine: Engine = "auto",
) -> list[Job]:
    """List every point of the grid with every candidate and every seed; the seeds vary fastest.

    Parameters
    ----------
    scenario
        The base of the grid.
    candidates
        The default candidates of each point's scenario unless given.
    seeds
        The scenario's replications unless given.
    grid
        Values by field.
    profile
        Measured costs.
    detail, show_keys
        Whether rows have details as well, and name the keys of a log in full.
    engine
        As for `run`.

    Raises
    ------
    ScenarioError
        If a point of the grid is invalid, or two candidates have one name.
    """
    code = code_version()
    jobs = []
    for variant in variants(scenario, grid):
        point = variant.scenario
        workload = point.workload.with_secret()
        log = None if workload.log is None else _log_digest(workload)
        chosen = tuple(candidates or default_candidates(point))
        names = [candidate.name for candidate in chosen]
        for name in names:
            if names.count(name) > 1:
                raise ScenarioError(f"candidates: {name!r} stands twice; a table tells them apart by their names")
        plain = point.model_copy(update={"candidates": (), "workload": workload})
        runs = range(point.seed, point.seed + point.replications) if seeds is None else _checked_seeds(seeds)
        shared = (profile, variant.values, log, code, detail, show_keys, engine, _shared.get(_reading(workload, log)))
        jobs += [Job(plain, each, seed, *shared) for each in chosen for seed in runs]
    return jobs


def _checked_seeds(seeds: object) -> list[int]:
    """Return seeds that can be run; raises ScenarioError."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise ScenarioError(f"seeds {shorten_repr(seeds)}: give a list of them, such as [1, 2, 3]")
    listed = [checked_seed(seed) for seed in seeds]
    if not listed:
        raise ScenarioError("seeds: the list is empty; leave it out for the scenario's replications")
    if len(set(listed)) < len(listed):
        raise ScenarioError(f"seeds {shorten_repr(listed)}: one stands twice, and would count as two replications")
    return listed


def work(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Execute a job and return the row of its `RunResult`, with its engine, the reason for it, and its events.

    Raises
    ------
    ScenarioError
        If code or log are not those for which the job was made.
    """
    if code_version() != job.code:
        raise ScenarioError("this worker runs another version of ratesim or of numpy, and might find other numbers")
    if job.log is not None and _log_digest(job.scenario.workload) != job.log:
        raise ScenarioError(f"{', '.join(job.scenario.workload.logs)}: this worker reads another log under that name")
    # A worker of a cluster may have threads. They would wait for the interpreter anyway, and each for memory.
    with _one_at_a_time:
        how: dict[str, Any] = {"profile": job.profile, "trace": _trace(job), "engine": job.engine, "progress": progress}
        try:
            result = run(job.scenario, job.candidate, job.seed, **how)
        except NotCompiledError as refusal:
            return {"requests": 0, "simulated_seconds": 0.0, "engine_reason": refusal.reason}
        row, label = result.row(), job.label
        row |= {"engine": result.engine, "engine_reason": result.engine_reason, "events": result.events}
        row["worst_key"] = None if row["worst_key"] is None else label(row["worst_key"])
        if job.detail:
            found = result.detail()
            found = msgspec.structs.replace(
                found, keys=tuple(msgspec.structs.replace(each, key=label(each.key)) for each in found.keys)
            )
            row["detail"] = msgspec.json.encode(found).decode()
        return row


def is_refused(row: Mapping[str, Any]) -> bool:
    """Tell whether the compiled engine refused a run: its row has the `engine_reason` and no figures."""
    return int(row["requests"]) == 0


def _trace(job: Job) -> Trace:
    """Return the trace of a job.

    It is made once in each process, while jobs need the same. A log is read once, however it is cut.
    """
    if job.workload not in _traces:
        _traces.clear()
        _traces[job.workload] = job.scenario.trace(job.seed, read=_read(job))
    return _traces[job.workload]


def _read(job: Job) -> Trace | None:
    if job.log is None:
        return None
    key = _reading(job.scenario.workload, job.log)
    if key not in _logs:
        _logs.clear()
        is_there = job.trace_folder is not None and Path(job.trace_folder).is_dir()  # not on another machine
        _logs[key] = map_trace(Path(str(job.trace_folder))) if is_there else job.scenario.workload.read()
    return _logs[key]


def _reading(workload: WorkloadSpec, log: str | None) -> str:
    """Return all that reading a log depends on, as JSON."""
    return json.dumps([log, workload.model_dump(mode="json", include=set(READ))], sort_keys=True)


def share_log(scenario: Scenario, log: Trace) -> Trace:
    """Keep a long log that was read for the jobs that are made from now on, and return it as they have it.

    Each process that works on jobs then maps it, and does not read the log itself. It is removed when this process ends.
    """
    if len(log) < SHARED:
        return log
    workload = scenario.workload.with_secret()
    reading = _reading(workload, _log_digest(workload))
    if reading not in _shared:
        folder = temporary_path(hashlib.sha256(reading.encode()).hexdigest())
        write_trace(log, folder)
        _shared[reading] = str(folder)
    return map_trace(Path(_shared[reading]))


def clear_traces() -> None:
    """Drop the traces that the next job might have used."""
    _traces.clear()
    _logs.clear()


def _log_digest(workload: WorkloadSpec) -> str:
    """Hash all files that a log is read from; one file has its own hash."""
    digests = []
    for log in workload.files:
        try:
            digests.append(_digest(log))
        except OSError as error:
            raise ScenarioError(f"workload.log {log}: cannot be read: {error.strerror}") from error
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _digest(path: str) -> str:
    about = Path(path).stat()
    return _digest_of(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _digest_of(path: str, modified: int, size: int) -> str:
    """Hash a file; a file that was not modified is not read again."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
