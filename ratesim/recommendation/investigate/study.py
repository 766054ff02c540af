"""A study: an investigation of all candidates in simulated time, what was measured live, and all else that a report needs to
say where its numbers come from. It can be kept in a directory, and is found there again by what it depends on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ratesim import servers
from ratesim.progress import Progress, no_progress
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.investigate.fault_impact import FaultImpact
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.plan import Findings, Investigation, estimated_requests, investigate
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.simulation.analysis.limit_pressure import LimitPressure, limit_pressure
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.experiments.result_store import ResultStore, read_rows
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.simulation.validation.live_replay import live_row
from ratesim.storage import StorageURL
from traffic import Provenance, Trace

__all__ = ["FILES", "Study", "study"]

FILES = ("study.json", "results.parquet", "runs.parquet", "live.parquet")  # what a study keeps in a directory
LIVE = 30_000  # requests that could be simulated while one candidate is replayed live, about: for the progress
STAGES = {"screening": "screened", "in full": "results", "on all of it": "whole"}


@dataclass
class Study:
    """scenario and candidates: what was asked. summary: of the traffic, as `Trace.summary` has it. evidence: what the runs
    found. live: one row for each candidate that was replayed live. binding: whether the limit binds. environment:
    versions and machine."""

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    summary: dict[str, float]
    provenance: Provenance
    findings: Findings
    live: pd.DataFrame
    profile: Profile
    prices: Prices
    limit_pressure: LimitPressure
    environment: dict[str, str]


def study(
    scenario: Scenario,
    *,
    out: Path | None = None,
    runs: Path | None = None,
    profile: Profile | None = None,
    prices: Prices | None = None,
    live: bool = True,
    beyond: bool = True,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Study:
    """Investigate every candidate. out: directory to which the finished study is written, and in which one is looked for.
    runs: directory that keeps every run as soon as it is done, so that a study which was stopped goes on from there. live:
    also replay on real servers. beyond: also ask for more load and under other assumptions. processes: as many as cores; the
    numbers are the same. progress: called with (done, total, what is next).

    Raises RunFailedError, what reading the traffic raises, and KeyboardInterrupt.
    """
    profile, prices = profile or Profile.load(), prices or Prices.load()
    candidates = default_candidates(scenario)
    jobs = jobs_of(scenario, candidates, [scenario.seed], None, profile)
    question = _question(scenario, jobs, prices, beyond)
    tell = progress or no_progress
    kept = None if out is None else _kept(out, question)
    done = 0
    if kept is None:
        tell(0, 1, "reading the traffic")
        asked = replace(_asked(scenario, candidates, profile, prices), beyond=beyond)
        done = estimated_requests(asked)
        found = run_adaptive(
            investigate(asked),
            processes=processes,
            out=runs,
            known=read_rows(out / "runs.parquet") if out is not None else None,
            progress=tell,
            expected=done,
        )
        evidence, rows, trace = found.result, found.rows, asked.trace
        about = _about(asked)
    else:
        about, evidence = kept
        rows, trace = read_rows(out / "runs.parquet") if out is not None else {}, None
    contenders = set(evidence.results["candidate"])
    replayed = _live_jobs([job for job in jobs if job.candidate.name in contenders]) if live else []
    total = done + LIVE * len(replayed)

    def told(count: int, what: str) -> None:
        tell(done + LIVE * count, total, what)

    measured = _measured(replayed, lambda: scenario.trace() if trace is None else trace, scenario, out, runs, told)
    tell(total, total, "done")
    provenance = about["provenance"] | {key: tuple(about["provenance"][key]) for key in ("examples", "notes")}
    finished = Study(
        scenario,
        candidates,
        about["summary"],
        Provenance(**provenance),
        evidence,
        measured,
        profile,
        prices,
        LimitPressure(**about["limit_pressure"]),
        about["environment"],
    )
    if out is not None:
        _keep(out, question, about, finished, rows)
    return finished


def _question(scenario: Scenario, jobs: Sequence[Job], prices: Prices, beyond: bool) -> str:
    """A hash of all that a study depends on; of the code that runs are made with, their keys tell."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(file.read_bytes())
    digest.update(f"{scenario.model_dump_json()} {prices!r} {beyond}".encode())
    for job in jobs:
        digest.update(f"{job.key} {job.candidate.name}\n".encode())
    return digest.hexdigest()


def _asked(scenario: Scenario, candidates: tuple[Candidate, ...], profile: Profile, prices: Prices) -> Investigation:
    read = None if scenario.workload.log is None else scenario.workload.read()
    trace = scenario.trace(read=read)
    summary = {key: float(value) for key, value in trace.summary().items()}
    return Investigation(scenario, candidates, profile, prices, trace, summary, lambda cut: cut.trace(read=read))


def _about(asked: Investigation) -> dict[str, Any]:
    return {
        "summary": dict(asked.summary),
        "provenance": asdict(asked.trace.provenance),
        "limit_pressure": asdict(limit_pressure(asked.scenario.limit.limit(), asked.trace, asked.scenario.warmup)),
        "environment": _environment(),
    }


def _kept(out: Path, question: str) -> tuple[dict[str, Any], Findings] | None:
    """A finished study of the same question; None where there is none, or what there is was written by another version or
    half, and is made again."""
    try:
        about = json.loads((out / "study.json").read_text("utf-8"))
        if about["question"] != question:
            return None
        results = pd.read_parquet(out / "results.parquet")
        tables = {}
        for stage, name in STAGES.items():
            tables[name] = results[results["stage"] == stage].drop(columns="stage").reset_index(drop=True)
        told = about["findings"]
        evidence = Findings(
            **tables,
            fault_impacts=msgspec.convert(told["fault_impacts"], tuple[FaultImpact, ...]),
            headroom=msgspec.convert(told["headroom"], tuple[Headroom, ...]),
            flips=msgspec.convert(told["flips"], tuple[Flip, ...]),
            parts=told["parts"],
        )
    except (FileNotFoundError, KeyError, TypeError, ValueError, msgspec.ValidationError):  # pyarrow's are ValueErrors
        return None
    return (about, evidence) if {"summary", "provenance", "limit_pressure", "environment"} <= about.keys() else None


def _keep(out: Path, question: str, about: dict[str, Any], found: Study, rows: dict[str, dict[str, Any]]) -> None:
    evidence = found.findings
    tables = [getattr(evidence, name).assign(stage=stage) for stage, name in STAGES.items()]
    pd.concat([table for table in tables if len(table)], ignore_index=True).to_parquet(out / "results.parquet")
    pd.DataFrame([{"key": key, **row} for key, row in rows.items()]).to_parquet(out / "runs.parquet")
    found.live.to_parquet(out / "live.parquet")
    # Only the name: a report may travel, and where a log lay is nobody's business.
    provenance = about["provenance"] | {"source": Path(about["provenance"]["source"]).name}
    told = {name: msgspec.to_builtins(getattr(evidence, name)) for name in ("fault_impacts", "headroom", "flips", "parts")}
    whole = about | {"question": question, "provenance": provenance, "findings": told}
    (out / "study.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")


def _live_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Of the first candidate of every backend, the first: live, a variant of the same backend would answer the same."""
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
    out: Path | None,
    runs: Path | None,
    tell: Callable[[int, str], None],
) -> pd.DataFrame:
    """A live row for each of these jobs; those that were measured before as they were."""
    rows = {} if out is None else read_rows(out / "live.parquet")
    kept = None if runs is None else ResultStore(runs / "live")
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
            rows[job.key] = live_row(scenario, job.candidate, trace(), running.get(backend))
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
