"""A job: one candidate, one scenario, one seed.

Its key is a hash of all that its numbers depend on, so that what was computed under the same key need not be computed again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ratesim.algorithms import get
from ratesim.progress import Progress
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.run import run
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.grid import variants
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.scenario.workload import READ
from traffic import Trace
from traffic.chunks import open_regular

__all__ = ["Job", "clear_traces", "code_version", "jobs_of", "work"]

# What a run is made of. The modules beside these packages ask for runs and show them.
_PACKAGES = ("algorithms", "runtime", "servers", "simulation", "storage")
_MODULES = tuple(
    f"{module}.py"
    for module in (
        *("__init__", "_lazy", "atomic_write", "documents", "durations", "errors", "limit", "progress", "safe_text"),
        *("server_url", "state"),
    )
)
_ELSEWHERE = {"name", "replications", "requirements", "candidates", "workload", "seed"}  # in another place of a key, or none
# Another release may round, draw or pack otherwise.
_LIBRARIES = ("numba", "numpy", "psycopg", "redis", "scipy", "simpy")

_one_at_a_time = threading.Lock()
_traces: dict[str, Trace] = {}
_logs: dict[str, Trace] = {}


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
    """

    scenario: Scenario
    candidate: Candidate
    seed: int
    profile: Profile
    values: dict[str, Any]
    log: str | None
    code: str

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
            "algorithm": _digest(str(getattr(algorithm, "__file__", None))),  # it may come from outside of the package
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _names_network(self) -> bool:
        """Whether the scenario names its network, which then stands for the one that the profile has measured."""
        return "network" in self.scenario.deployment.model_fields_set

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

    Raises
    ------
    ScenarioError
        If a point of the grid is invalid, or two candidates have one name.
    """
    code = code_version()
    jobs = []
    for variant in variants(scenario, grid):
        point = variant.scenario
        log = None if point.workload.log is None else _log_digest(point.workload.log)
        chosen = tuple(candidates or default_candidates(point))
        names = [candidate.name for candidate in chosen]
        for name in names:
            if names.count(name) > 1:
                raise ScenarioError(f"candidates: {name!r} stands twice; a table tells them apart by their names")
        plain = point.model_copy(update={"candidates": ()})
        runs = seeds or range(point.seed, point.seed + point.replications)
        jobs += [Job(plain, each, seed, profile, variant.values, log, code) for each in chosen for seed in runs]
    return jobs


def work(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Execute a job and return the row of its `RunResult`.

    Raises
    ------
    ScenarioError
        If code or log are not those for which the job was made.
    """
    if code_version() != job.code:
        raise ScenarioError("this worker runs another version of ratesim or of numpy, and might find other numbers")
    if job.log is not None and _log_digest(str(job.scenario.workload.log)) != job.log:
        raise ScenarioError(f"{job.scenario.workload.log}: this worker reads another log under that name")
    # A worker of a cluster may have threads. They would wait for the interpreter anyway, and each for memory.
    with _one_at_a_time:
        return run(job.scenario, job.candidate, job.seed, profile=job.profile, trace=_trace(job), progress=progress).row()


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
    key = json.dumps([job.log, job.scenario.workload.model_dump(mode="json", include=set(READ))], sort_keys=True)
    if key not in _logs:
        _logs.clear()
        _logs[key] = job.scenario.workload.read()
    return _logs[key]


def clear_traces() -> None:
    """Drop the traces that the next job might have used."""
    _traces.clear()
    _logs.clear()


@cache
def code_version() -> str:
    """Return a hash of the source that a run depends on, and of the versions of the libraries that it computes with."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for name, file in _sources():
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _sources() -> list[tuple[str, Path]]:
    """List files by their names within the packages, which may lie elsewhere on another machine."""
    ratesim, traffic = (Path(str(resources.files(package))) for package in ("ratesim", "traffic"))
    folders = [*(ratesim / package for package in _PACKAGES), traffic]
    inside = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".lua", ".sql")]
    root = {file: ratesim if file.is_relative_to(ratesim) else traffic for file in inside}
    root |= {ratesim / module: ratesim for module in _MODULES}
    return sorted((f"{root[file].name}/{file.relative_to(root[file]).as_posix()}", file) for file in root)


def _log_digest(log: str) -> str:
    try:
        return _digest(log)
    except OSError as error:
        raise ScenarioError(f"workload.log {log}: cannot be read: {error.strerror}") from error


def _digest(path: str) -> str:
    about = Path(path).stat()
    return _digest_of(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _digest_of(path: str, modified: int, size: int) -> str:
    """Hash a file; a file that was not modified is not read again."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
