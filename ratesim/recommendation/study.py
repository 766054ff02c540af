"""A study: every candidate of a scenario, in simulation over several seeds and live, with all that a report needs to say
where the numbers come from. Runs are made and kept as those of a sweep are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ratesim import servers
from ratesim.simulation.binding import binding
from ratesim.simulation.calibrate import machine
from ratesim.simulation.catalogue import catalogue
from ratesim.simulation.deployment import backend_of
from ratesim.simulation.job import Job, jobs_of
from ratesim.simulation.kept import Kept, rows_of
from ratesim.simulation.live import live_row
from ratesim.simulation.profile import Profile
from ratesim.simulation.progress import Progress, silent
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.sweep import carry_out
from ratesim.storage import StorageURL
from traffic import Origin, Trace

__all__ = ["Study", "catalogue", "study"]


@dataclass
class Study:
    """scenario and candidates: what was asked. results: one row for each candidate and seed. live: for each candidate that
    was replayed live. binding: whether the limit binds. environment: versions and machine. In both tables `key` is a hash of
    all that the row depends on."""

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    trace_summary: dict[str, float]
    origin: Origin
    results: pd.DataFrame
    live: pd.DataFrame
    profile: Profile
    binding: dict[str, Any]
    environment: dict[str, str]


def study(
    scenario: Scenario,
    *,
    out: Path | None = None,
    runs: Path | None = None,
    profile: Profile | None = None,
    live: bool = True,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Study:
    """Run every candidate. out: directory to which the finished study is written, and in which one is looked for. runs:
    directory that keeps every run as soon as it is done, so that a study which was stopped goes on from there. live: also
    replay on real servers. processes: as many as cores; the numbers are the same. progress: called with (done, total, what
    is next).

    Raises what `sweep` raises, and KeyboardInterrupt.
    """
    profile = profile or Profile.load()
    candidates = catalogue(scenario)
    jobs = jobs_of(scenario, candidates, None, None, profile)
    replayed = _live_jobs(jobs) if live else []
    tell = progress or silent
    total = 1 + len(jobs) + len(replayed)
    tell(0, total, "reading the traffic")
    asked = _Asked(scenario, jobs[0], out)
    known = {} if out is None else rows_of(out / "results.parquet")
    finished = carry_out(
        jobs, processes, None, runs, lambda done, _, what: tell(1 + done, total, f"simulating: {what}"), known
    )
    if finished.partial:
        raise KeyboardInterrupt
    results = finished.table()
    results["exact_denied_share"] = asked.about["binding"]["exact_denied_share"]
    results["key"] = [job.key for job in jobs]
    measured = _measured(replayed, asked, out, runs, lambda done, what: tell(1 + len(jobs) + done, total, what))
    tell(total, total, "done")
    found = asked.study(candidates, results, measured, profile)
    if out is not None:
        found.results.to_parquet(out / "results.parquet")
        found.live.to_parquet(out / "live.parquet")
        asked.keep(out)
    return found


class _Asked:
    """What was asked, and what is known of it without a run. It is read again only when another question was kept."""

    def __init__(self, scenario: Scenario, first: Job, out: Path | None) -> None:
        self.scenario = scenario
        self._trace: Trace | None = None
        depends_on = (first.workload, scenario.limit.model_dump_json(), first.code, scenario.seed, scenario.warmup)
        question = hashlib.sha256(repr(depends_on).encode()).hexdigest()
        file = None if out is None else out / "study.json"
        kept = json.loads(file.read_text("utf-8")) if file is not None and file.exists() else {}
        self.about: dict[str, Any] = kept if kept.get("question") == question else self._read(question)

    @property
    def trace(self) -> Trace:
        """The requests of the first replication."""
        if self._trace is None:
            self._trace = self.scenario.trace()
        return self._trace

    def _read(self, question: str) -> dict[str, Any]:
        origin = self.trace.origin
        return {
            "question": question,
            "trace_summary": {key: float(value) for key, value in self.trace.summary().items()},
            "origin": asdict(origin),
            "binding": binding(self.scenario.limit.limit(), self.trace, self.scenario.warmup),
            "environment": _environment(),
        }

    def study(self, candidates: tuple[Candidate, ...], results: pd.DataFrame, live: pd.DataFrame, profile: Profile) -> Study:
        about = self.about
        origin = about["origin"] | {key: tuple(about["origin"][key]) for key in ("examples", "notes")}
        return Study(
            self.scenario,
            candidates,
            about["trace_summary"],
            Origin(**origin),
            results,
            live,
            profile,
            about["binding"],
            about["environment"],
        )

    def keep(self, out: Path) -> None:
        # Only the name: a report may travel, and where a log lay is nobody's business.
        origin = self.about["origin"] | {"source": Path(self.about["origin"]["source"]).name}
        (out / "study.json").write_text(json.dumps(self.about | {"origin": origin}, indent=2) + "\n", "utf-8")


def _live_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Of the first candidate of every backend, the first: live, a variant of the same backend would answer the same."""
    first: dict[tuple[str, bool], Job] = {}
    for job in jobs:
        url = StorageURL.parse(job.candidate.storage)
        eventual = url.hybrid is not None and url.hybrid.consistency == "eventual"
        first.setdefault((backend_of(job.candidate), eventual), job)
    return list(first.values())


def _measured(
    jobs: Sequence[Job], asked: _Asked, out: Path | None, runs: Path | None, tell: Callable[[int, str], None]
) -> pd.DataFrame:
    """A live row for each of these jobs; those that were measured before as they were."""
    rows = {} if out is None else rows_of(out / "live.parquet")
    kept = None if runs is None else Kept(runs / "live")
    with ExitStack() as stack:
        running: dict[str, servers.Server] = {}
        for done, job in enumerate(jobs):
            tell(done, f"replaying live: {job.candidate.name}")
            if kept is not None and job.key in kept:
                rows[job.key] = kept[job.key]
            if job.key in rows:
                continue
            backend = StorageURL.parse(job.candidate.storage).backend
            if backend != "memory" and backend not in running:
                start = servers.valkey if backend == "redis" else servers.postgres
                running[backend] = stack.enter_context(start())
            rows[job.key] = live_row(asked.scenario, job.candidate, asked.trace, running.get(backend))
            if kept is not None:
                kept.add(job.key, rows[job.key])
    return pd.DataFrame([{**rows[job.key], "candidate": job.candidate.name, "key": job.key} for job in jobs])


def _environment() -> dict[str, str]:
    names = ("ratesim", "simpy", "numpy", "numba", "redis", "psycopg", "pandas")
    return {
        "machine": machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
