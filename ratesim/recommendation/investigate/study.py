"""A study: an investigation with its findings, live measurements, and all else that says where its numbers come from.

A study can be kept in a directory. It is found there again by a hash of all that it depends on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ratesim import servers
from ratesim.documents import parse_json, read_bytes
from ratesim.progress import Progress, no_progress
from ratesim.recommendation.assess.assessor import Assessor
from ratesim.recommendation.assess.model_error import verdict_of
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.investigate.fault_impact import FaultImpact, blast_radius
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.plan import Findings, Investigation, Traffic, estimated_requests, investigate
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.simulation.analysis.limit_pressure import LimitPressure, limit_pressure
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.backends import start_server
from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.experiments.result_store import ResultStore, read_rows
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.simulation.validation.live_replay import failed_row, live_row
from ratesim.storage import StorageURL
from traffic import Provenance, Trace

__all__ = ["FILES", "Study", "study"]

FILES = ("study.json", "results.parquet", "runs.parquet", "live.parquet")  # of a study in a directory
LIVE = 30_000  # requests that could be simulated while one candidate is replayed live, about: for the progress
STAGES = {"screening": "screened", "in full": "results", "on all of it": "whole"}
FOLLOWING = ("fault_impacts", "headroom", "flips", "parts")  # findings that are written as JSON


@dataclass
class Study:
    """A finished investigation.

    Attributes
    ----------
    scenario, candidates, profile, prices
        The question; see `Investigation`.
    summary
        Rates and key counts of the traffic (`Trace.summary`).
    provenance
        Where the traffic comes from.
    findings
        What the runs show.
    live
        One row for each candidate that was to be replayed on a real server; `failure` says why one has no figures, and
        `disturbed` what disturbed the machine.
    limit_pressure
        Whether the limit binds.
    environment
        Versions, machine and date.
    """

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    profile: Profile
    prices: Prices
    summary: dict[str, float]
    provenance: Provenance
    findings: Findings
    live: pd.DataFrame
    limit_pressure: LimitPressure
    environment: dict[str, str]

    @property
    def live_rows(self) -> list[dict[str, Any]]:
        """The rows of `live` that have figures; a replay that its server did not outlive has none.

        Figures of a machine that was `disturbed` are not the storage's.
        """
        return [
            {"disturbed": "", **{str(name): value for name, value in row.items()}}
            for row in self.live.to_dict("records")
            if not row["failure"]
        ]

    @property
    def live_failures(self) -> dict[str, str]:
        """Why a candidate was not measured live, such as which server died and when."""
        return {str(row["candidate"]): str(row["failure"]) for row in self.live.to_dict("records") if row["failure"]}


def study(
    scenario: Scenario,
    *,
    current: Candidate | None = None,
    out: Path | None = None,
    runs: Path | None = None,
    profile: Profile | None = None,
    prices: Prices | None = None,
    live: bool = True,
    retry_live: bool = False,
    beyond: bool = True,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Study:
    """Investigate every candidate of a scenario.

    Parameters
    ----------
    scenario
        The question.
    current
        The configuration in force, which then competes.
    out
        Directory in which a finished study is looked for, and to which this one is written.
    runs
        Directory that keeps every run as soon as it is done, so that a study that was stopped goes on from there.
    profile, prices
        Measured costs and unit prices; the shipped ones unless given.
    live
        Whether candidates are also replayed on real servers. A server that dies is named in the row of its candidate, and
        the others are measured all the same.
    retry_live
        Whether live replays that `out` holds as failed, or as disturbed, are made again.
    beyond
        Whether more load and other assumptions are tried as well.
    processes
        As many as cores unless given; the numbers are the same.
    progress
        Called with (done, total, what is next).

    Raises
    ------
    RunFailedError
        If a run fails. Whatever reading the traffic raises, and KeyboardInterrupt, pass through.
    """
    question = Investigation.of(scenario, current=current, profile=profile, prices=prices, beyond=beyond)
    scenario, tell = question.scenario, progress or no_progress
    jobs = jobs_of(scenario, question.candidates, [scenario.seed], None, question.profile)
    key = _key(question, jobs)
    stored = None if out is None else _load(out, key, question)
    done = 0
    if stored is None:
        tell(0, 1, "reading the traffic")
        traffic = Traffic.of(scenario)
        done = estimated_requests(question, len(traffic.trace))
        outcome = run_adaptive(
            investigate(question, traffic),
            processes=processes,
            out=runs,
            known=read_rows(out / "runs.parquet") if out is not None else None,
            progress=tell,
            expected=done,
        )
        findings, rows, trace = outcome.result, outcome.rows, traffic.trace
        about = _about(scenario, traffic)
    else:
        about, findings = stored
        rows, trace = read_rows(out / "runs.parquet") if out is not None else {}, None
    contenders = set(findings.results.rows["candidate"])
    replayed = _live_jobs([job for job in jobs if job.candidate.name in contenders]) if live else []
    total = done + LIVE * len(replayed)

    def show(count: int, what: str) -> None:
        tell(done + LIVE * count, total, what)

    known = {} if out is None else read_rows(out / "live.parquet")
    if retry_live:
        known = {key: row for key, row in known.items() if _is_whole(row)}
    measured = _measured(replayed, lambda: scenario.trace() if trace is None else trace, scenario, known, runs, show)
    tell(total, total, "done")
    provenance = about["provenance"] | {key: tuple(about["provenance"][key]) for key in ("examples", "notes")}
    finished = Study(
        scenario=scenario,
        candidates=question.candidates,
        profile=question.profile,
        prices=question.prices,
        summary=about["summary"],
        provenance=Provenance(**provenance),
        findings=findings,
        live=measured,
        limit_pressure=LimitPressure(**about["limit_pressure"]),
        environment=about["environment"],
    )
    if out is not None:
        _store(out, key, about, finished, rows)
    return finished


def _key(question: Investigation, jobs: Sequence[Job]) -> str:
    """Hash all that a study depends on. The keys of its jobs cover the code that runs are made with."""
    digest = hashlib.sha256()
    for file in [*sorted(Path(__file__).parents[1].rglob("*.py")), Path(__file__).parents[2] / "student_t.py"]:
        digest.update(file.read_bytes())
    digest.update(f"{question.scenario.model_dump_json()} {question.prices!r} {question.beyond}".encode())
    digest.update(repr([verdict_of(question.profile, name) for name in question.profile.backends]).encode())
    for job in jobs:
        digest.update(f"{job.key} {job.candidate.name}\n".encode())
    return digest.hexdigest()


def _about(scenario: Scenario, traffic: Traffic) -> dict[str, Any]:
    return {
        "summary": dict(traffic.summary),
        "provenance": asdict(traffic.trace.provenance),
        "limit_pressure": asdict(limit_pressure(scenario.limit.limit(), traffic.trace, scenario.warmup)),
        "environment": _environment(),
    }


def _load(out: Path, key: str, question: Investigation) -> tuple[dict[str, Any], Findings] | None:
    """Load a finished study of the same question.

    None where there is none, or where another version wrote it or only half of it is there: it is then made again.
    """
    try:
        about = parse_json(read_bytes(out / "study.json"))
        if about["question"] != key or not {"provenance", "limit_pressure", "environment"} <= about.keys():
            return None
        results, written = pd.read_parquet(out / "results.parquet"), about["findings"]
        impacts = msgspec.convert(written["fault_impacts"], tuple[FaultImpact, ...])
        assessor = Assessor(question.scenario, question.profile, question.prices, about["summary"])
        runs = {
            name: assessor.assess(
                results[results["stage"] == stage].drop(columns="stage").reset_index(drop=True),
                blast_radius(impacts) if name == "results" else None,
            )
            for stage, name in STAGES.items()
        }
        findings = Findings(
            **runs,
            fault_impacts=impacts,
            headroom=msgspec.convert(written["headroom"], tuple[Headroom, ...]),
            flips=msgspec.convert(written["flips"], tuple[Flip, ...]),
            parts=written["parts"],
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, msgspec.ValidationError):  # or pyarrow's
        return None
    return about, findings


def _store(out: Path, key: str, about: dict[str, Any], finished: Study, rows: dict[str, dict[str, Any]]) -> None:
    findings = finished.findings
    tables = [getattr(findings, name).rows.assign(stage=stage) for stage, name in STAGES.items()]
    pd.concat([table for table in tables if len(table)], ignore_index=True).to_parquet(out / "results.parquet")
    pd.DataFrame([{"key": key, **row} for key, row in rows.items()]).to_parquet(out / "runs.parquet")
    finished.live.to_parquet(out / "live.parquet")
    # Only the name: a report may travel, and the folder of a log is private.
    provenance = about["provenance"] | {"source": Path(about["provenance"]["source"]).name}
    written = {name: msgspec.to_builtins(getattr(findings, name)) for name in FOLLOWING}
    whole = about | {"question": key, "provenance": provenance, "findings": written}
    (out / "study.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")


def _live_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Pick the first job of every backend, and of every eventual hybrid: live, its variants would answer the same."""
    first: dict[tuple[str, bool], Job] = {}
    for job in jobs:
        url = StorageURL.parse(job.candidate.storage)
        eventual = url.hybrid is not None and url.hybrid.consistency == "eventual"
        first.setdefault((backend_of(job.candidate), eventual), job)
    return list(first.values())


def _measured(
    jobs: Sequence[Job],
    trace: Callable[[], Trace],
    scenario: Scenario,
    rows: dict[str, dict[str, Any]],
    runs: Path | None,
    tell: Callable[[int, str], None],
) -> pd.DataFrame:
    """Return a live row for each of these jobs. What was measured before, in `rows` or `runs`, is not measured again."""
    store = None if runs is None else ResultStore(runs / "live")
    with _LiveServers() as running:
        for done, job in enumerate(jobs):
            tell(done, f"replaying live: {job.candidate.name}")
            if store is not None and job.key in store:
                rows[job.key] = store[job.key]
            if job.key in rows:
                continue
            kind, topology = StorageURL.parse(job.candidate.storage).backend, job.scenario.servers(job.candidate)
            start = partial(start_server, kind, topology)
            if topology.kind != "standalone":
                kind = f"{topology.kind} of {topology.primaries}"
            elif topology.standby:
                kind += " with synchronous standbys"
            try:
                server = running.get(kind, start)
            except (servers.ServerError, OSError) as error:
                rows[job.key] = failed_row(job.candidate, " ".join(str(error).split()))
                continue
            rows[job.key] = row = live_row(scenario, job.candidate, trace(), server)
            if row.get("failure"):
                running.stop(kind)
            elif store is not None and _is_whole(row):
                store.add(job.key, row)
    said = {"disturbed": "", "failure": ""}
    return pd.DataFrame([{**said, **rows[job.key], "candidate": job.candidate.name, "key": job.key} for job in jobs])


def _is_whole(row: dict[str, Any]) -> bool:
    """Tell whether a live row has figures of the storage."""
    return not row.get("failure") and not row.get("disturbed")


class _LiveServers:
    """The servers of live replays, started when they are first needed; one that has failed gives way to a fresh one."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[servers.Server, ExitStack]] = {}
        self._refused: dict[str, servers.ServerError | OSError] = {}

    def __enter__(self) -> _LiveServers:
        return self

    def __exit__(self, *_: object) -> None:
        for kind in list(self._running):
            self.stop(kind)

    def get(self, kind: str, start: Callable[[], AbstractContextManager[servers.Server]]) -> servers.Server | None:
        """Return the server of a kind. Raises what starting it raised, also later: a start may take a minute to fail."""
        if kind == "memory":
            return None
        if kind in self._refused:
            raise self._refused[kind]
        if kind not in self._running:
            with ExitStack() as stack:
                try:
                    server = stack.enter_context(start())
                except (servers.ServerError, OSError) as error:
                    self._refused[kind] = error
                    raise
                self._running[kind] = (server, stack.pop_all())
        return self._running[kind][0]

    def stop(self, kind: str) -> None:
        """Stop the server of a kind, if it runs. What could not be removed is a warning, and takes no report away."""
        _, stack = self._running.pop(kind, (None, ExitStack()))
        try:
            stack.close()
        except servers.ServerError as error:
            warnings.warn(str(error), stacklevel=2)


def _environment() -> dict[str, str]:
    names = ("ratesim", "simpy", "numpy", "numba", "redis", "hiredis", "psycopg", "pandas")
    return {
        "machine": machine(),
        "date": date.today().isoformat(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
