"""A study: an investigation with its findings, live measurements, and all else that says where its numbers come from.

A study can be kept in a directory. It is found there again by a hash of all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd

from ratesim import servers
from ratesim.documents import DocumentError, parse_json, read_bytes
from ratesim.progress import FINISHED, Progress, progress_bar
from ratesim.recommendation.assess.assessor import Assessor
from ratesim.recommendation.assess.model_error import verdict_of
from ratesim.recommendation.assess.pareto import best
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.investigate.assumed import assumed
from ratesim.recommendation.investigate.budget import checked_seconds
from ratesim.recommendation.investigate.contender_detail import ContenderDetail
from ratesim.recommendation.investigate.fault_impact import FaultImpact, blast_radius
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.log_reading import EXACT, LogReading, StampGrain, log_reading, stamp_grain
from ratesim.recommendation.investigate.plan import (
    LEFT_OUT,
    Findings,
    Investigation,
    Traffic,
    estimated_requests,
    investigate,
)
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.simulation.analysis.alive_keys import AliveKeys, alive_keys
from ratesim.simulation.analysis.limit_pressure import LimitPressure, limit_pressure
from ratesim.simulation.cost_model.environment import environment
from ratesim.simulation.cost_model.load_process import started_ahead
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.backends import start_server
from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.experiments.executors import process_count
from ratesim.simulation.experiments.job import Job, is_refused, jobs_of
from ratesim.simulation.experiments.result_store import ResultStore, read_rows
from ratesim.simulation.kernel.readiness import compile_for
from ratesim.simulation.results.run_detail import RunDetail
from ratesim.simulation.scenario.names import CandidateLike, ScenarioLike, find_candidate, find_scenario, with_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.validation.live_measurement import measure
from ratesim.simulation.validation.live_replay import RecentCosts, failed_row, live_row
from ratesim.storage import StorageURL
from ratesim.suggestion import unknown_name
from ratesim.views.html import card_html
from ratesim.views.plots import plot_keys, plot_over_time, plot_percentiles
from traffic import Provenance, Trace
from traffic.key_labels import line_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FILES", "Study", "study"]

FILES = ("study.json", "details.json", "results.parquet", "runs.parquet", "live.parquet")  # of a study in a directory
LIVE = 30_000  # requests that could be simulated while one candidate is replayed live, about: for the progress
STAGES = {"screening": "screened", "in full": "results", "on all of it": "whole"}
FOLLOWING = ("fault_impacts", "headroom", "flips", "parts")  # findings that are written as JSON


@dataclass(eq=False)
class Study:
    """A finished investigation.

    Attributes
    ----------
    asked
        The scenario as it was asked. `report` writes it, so that the same is asked again.
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
    keys
        The keys of the traffic, from which `key_count` of the scenario comes; None where it was given.
    grain
        The coarse stamps of the log.
    """

    scenario: Scenario
    asked: Scenario
    candidates: tuple[Candidate, ...]
    profile: Profile
    prices: Prices
    summary: dict[str, float]
    provenance: Provenance
    findings: Findings
    live: pd.DataFrame
    limit_pressure: LimitPressure
    environment: dict[str, str]
    keys: AliveKeys | None = None
    grain: StampGrain = EXACT

    @property
    def log(self) -> LogReading | None:
        """What was read of the log; None of a recipe."""
        return log_reading(self.provenance, self.grain, self.scenario.workload.spread)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed because neither the scenario nor the log says it, one sentence each."""
        of_log = self.log.assumed if self.log else ()
        left_out = self.findings.parts.get(LEFT_OUT)
        rest = f"All of the traffic is as its busiest part: {left_out}."
        return (*of_log, *((rest,) if left_out else ()), *assumed(self.asked, self.keys))

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

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each full run of a contender; the columns are those of `RunResult.row`, times in seconds."""
        return self.findings.results.rows.copy()

    def __repr__(self) -> str:
        full = ", ".join(self.findings.details)
        return f"Study({self.scenario.name}: {len(self.candidates):,} candidates, in full {full})"

    def _repr_html_(self) -> str:
        summary = self.summary
        facts = (
            ("requests", f"{summary['requests']:,.0f}"),
            ("limit", self.scenario.limit.rate),
            ("candidates", f"{len(self.candidates):,}"),
            ("in full", ", ".join(self.findings.details)),
            ("next", "recommend(study) draws the conclusion; to_frame() has the runs"),
        )
        return card_html(f"Study of {self.scenario.name}", facts)

    def plot_latency(self, ax: Axes | None = None) -> Axes:
        """Draw the latency by percentile of every contender, the mean over its seeds."""
        details = self.findings.details
        curves = {name: (detail.shares, detail.latency) for name, detail in details.items()}
        backends = {each.candidate: each.backend for each in self.findings.results.assessments}
        return plot_percentiles(curves, backends, ax)

    def plot_over_time(self, candidate: str, axes: Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
        """Draw latency and outcomes over time in the first run of a contender. Raises ScenarioError for an unknown name."""
        series = pd.DataFrame(self._detail(candidate).series)
        return plot_over_time(series.assign(admitted=series["offered"] - series["denied"] - series["failed"]), axes)

    def plot_keys(self, candidate: str, ax: Axes | None = None) -> Axes:
        """Draw the keys that were admitted most too much in the first run of a contender."""
        keys = self._detail(candidate).keys
        return plot_keys(
            [each.key for each in keys], [each.over_admitted for each in keys], [each.exact for each in keys], ax
        )

    def _detail(self, candidate: str) -> RunDetail:
        details = self.findings.details
        if candidate not in details:
            raise ScenarioError(unknown_name("contender", candidate, details))
        return details[candidate].first

    @property
    def live_failures(self) -> dict[str, str]:
        """Why a candidate was not measured live, such as which server died and when."""
        return {str(row["candidate"]): str(row["failure"]) for row in self.live.to_dict("records") if row["failure"]}


def study(
    scenario: ScenarioLike,
    *,
    candidates: Iterable[CandidateLike] | CandidateLike | None = None,
    current: CandidateLike | None = None,
    out: str | Path | None = None,
    runs: str | Path | None = None,
    profile: Profile | None = None,
    prices: Prices | None = None,
    live: bool = True,
    retry_live: bool = False,
    beyond: bool = True,
    show_keys: bool = False,
    seconds: float | None = None,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Study:
    """Investigate every candidate of a scenario.

    Parameters
    ----------
    scenario
        The question; also the name of a scenario that ships, or a TOML file.
    candidates
        Only these compete, each as for `run`; those of the scenario unless given.
    current
        The configuration in force, which then competes: a `Candidate`, a name or a storage URL, as for `run`.
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
    show_keys
        Whether clients of a log are named in full; else an address is shown as its network, and lines as their shape.
    seconds
        The budget of the contenders' runs, in nominal seconds of one core, which no clock measures; 600 unless given. What
        it does not allow is named in `assumed`.
    processes
        As many as cores unless given; the numbers are the same.
    progress
        Called with (done, total, what is next). None shows a bar in a notebook or at a terminal, True elsewhere a line for
        each stage, False nothing.

    Raises
    ------
    RunFailedError
        If a run fails. Whatever reading the traffic raises, and KeyboardInterrupt, pass through.
    """
    scenario = with_candidates(find_scenario(scenario), candidates)
    in_force = None if current is None else find_candidate(scenario, current).model_copy(update={"name": CURRENT})
    process_count(processes)  # before the traffic is read
    folder, kept = (None if each is None else Path(each) for each in (out, runs))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with progress_bar(progress) as tell:
        named: dict[str, Any] = {"beyond": beyond, "show_keys": show_keys, "seconds": checked_seconds(seconds)}
        return _study(scenario, in_force, folder, kept, profile, prices, live, retry_live, named, processes, tell)


def _study(
    scenario: Scenario,
    current: Candidate | None,
    out: Path | None,
    runs: Path | None,
    profile: Profile | None,
    prices: Prices | None,
    live: bool,
    retry_live: bool,
    named: dict[str, Any],
    processes: int | None,
    tell: Progress,
) -> Study:
    traffic = None
    keys, about_traffic = None, _traffic_key(scenario)
    if scenario.requirements.key_count is None:
        keys = None if out is None else _load_keys(out, about_traffic)
        if keys is None:
            traffic = Traffic.of(scenario, tell)
            keys = alive_keys(scenario.limit.limit(), traffic.trace)
    question = Investigation.of(scenario, current=current, profile=profile, prices=prices, keys=keys, **named)
    asked = scenario if current is None else scenario.model_copy(update={"candidates": question.candidates})
    scenario = question.scenario
    jobs = jobs_of(scenario, question.candidates, [scenario.seed], None, question.profile)
    key = _key(question, jobs)
    stored = None if out is None else _load(out, key, question)
    done, stage = 0, ""

    def enter(name: str) -> None:
        nonlocal stage
        stage = name

    if stored is None:
        traffic = traffic or Traffic.of(scenario, tell)
        done = estimated_requests(question, traffic.trace)
        compile_for(done, lambda _, __, what: tell(0, done, what))
        outcome = run_adaptive(
            investigate(question, traffic, enter),
            processes=processes,
            out=runs,
            known=read_rows(out / "runs.parquet") if out is not None else None,
            progress=lambda done, total, what: tell(done, total, f"{stage}: {what}"),
            expected=done,
        )
        findings, rows, trace = outcome.result, outcome.rows, traffic.trace
        about = _about(question, traffic) | {"traffic": about_traffic, "keys": None if keys is None else asdict(keys)}
    else:
        about, findings = stored
        rows, trace = read_rows(out / "runs.parquet") if out is not None else {}, None
    contenders = set(findings.results.rows["candidate"])
    chosen = best(findings.results.assessments, scenario.requirements.prefer)
    competing = [job for job in jobs if job.candidate.name in contenders]
    replayed = _live_jobs(competing, chosen.candidate if chosen else "") if live else []
    total = done + LIVE * len(replayed)

    def show(count: int, what: str) -> None:
        tell(done + LIVE * count, total, what)

    known = {} if out is None else read_rows(out / "live.parquet")
    if retry_live:
        known = {key: row for key, row in known.items() if _is_whole(row)}
    measured = _measured(replayed, lambda: scenario.trace() if trace is None else trace, scenario, known, runs, show)
    tell(total, total, FINISHED)
    provenance: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in about["provenance"].items()
    }
    finished = Study(
        scenario=scenario,
        asked=asked,
        candidates=question.candidates,
        profile=question.profile,
        prices=question.prices,
        summary=about["summary"],
        provenance=Provenance(**provenance),
        findings=findings,
        live=measured,
        limit_pressure=LimitPressure(**about["limit_pressure"]),
        environment=about["environment"],
        keys=keys,
        grain=StampGrain(**about["grain"]),
    )
    if out is not None:
        _store(out, key, about, finished, rows)
    return finished


def _traffic_key(scenario: Scenario) -> str:
    """Hash all that the keys of the traffic depend on."""
    (job,) = jobs_of(scenario, [Candidate(name="any", storage="memory://")], [scenario.seed], None, Profile.load())
    return hashlib.sha256(f"{job.code} {job.workload} {scenario.limit.model_dump_json()}".encode()).hexdigest()


def _load_keys(out: Path, about_traffic: str) -> AliveKeys | None:
    """Load the keys of the same traffic from a study; None where there is none."""
    try:
        about = parse_json(read_bytes(out / "study.json"))
        return AliveKeys(**about["keys"]) if about["traffic"] == about_traffic else None
    except (DocumentError, KeyError, TypeError):
        return None


def _key(question: Investigation, jobs: Sequence[Job]) -> str:
    """Hash all that a study depends on. The keys of its jobs cover the code that runs are made with."""
    digest = hashlib.sha256()
    for file in [*sorted(Path(__file__).parents[1].rglob("*.py")), Path(__file__).parents[2] / "student_t.py"]:
        digest.update(file.read_bytes())
    shown = f"{question.beyond} {question.show_keys} {question.seconds!r}"
    asked = f"{question.scenario.model_dump_json()} {question.prices!r} {shown}"
    digest.update(asked.encode())
    digest.update(repr([verdict_of(question.profile, name) for name in question.profile.backends]).encode())
    for job in jobs:
        digest.update(f"{job.key} {job.candidate.name}\n".encode())
    return digest.hexdigest()


def _about(question: Investigation, traffic: Traffic) -> dict[str, Any]:
    scenario, origin = question.scenario, traffic.trace.provenance
    examples = origin.examples if question.show_keys else tuple(map(line_shape, origin.examples))
    return {
        "summary": dict(traffic.summary),
        "provenance": asdict(replace(origin, examples=examples)),
        "grain": asdict(EXACT if traffic.log is None else stamp_grain(traffic.log)),
        "limit_pressure": asdict(limit_pressure(scenario.limit.limit(), traffic.trace, scenario.warmup)),
        "environment": environment(),
    }


def _load(out: Path, key: str, question: Investigation) -> tuple[dict[str, Any], Findings] | None:
    """Load a finished study of the same question.

    None where there is none, or where another version wrote it or only half of it is there: it is then made again.
    """
    try:
        about = parse_json(read_bytes(out / "study.json"))
        if about["question"] != key or not {"provenance", "grain", "limit_pressure", "environment"} <= about.keys():
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
            details=msgspec.json.decode(read_bytes(out / "details.json"), type=dict[str, ContenderDetail]),
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, msgspec.DecodeError):  # or pyarrow's
        return None
    return about, findings


def _store(out: Path, key: str, about: dict[str, Any], finished: Study, rows: dict[str, dict[str, Any]]) -> None:
    findings = finished.findings
    tables = [getattr(findings, name).rows.assign(stage=stage) for stage, name in STAGES.items()]
    pd.concat([table for table in tables if len(table)], ignore_index=True).to_parquet(out / "results.parquet")
    made = [{"key": key, **row} for key, row in rows.items() if not is_refused(row)]
    pd.DataFrame(made).to_parquet(out / "runs.parquet")
    finished.live.to_parquet(out / "live.parquet")
    (out / "details.json").write_bytes(msgspec.json.encode(findings.details) + b"\n")
    # Only the name: a report may travel, and the folder of a log is private.
    provenance = about["provenance"] | {"source": Path(about["provenance"]["source"]).name}
    written = {name: msgspec.to_builtins(getattr(findings, name)) for name in FOLLOWING}
    whole = about | {"question": key, "provenance": provenance, "findings": written}
    (out / "study.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")


def _live_jobs(jobs: Sequence[Job], chosen: str) -> list[Job]:
    """Pick a job of every backend, and of every eventual hybrid: live, its variants would answer the same.

    It is the first one, and of its own kind that of the choice, whose figures stand in the verdict.
    """
    first: dict[tuple[str, bool], Job] = {}
    for job in sorted(jobs, key=lambda job: job.candidate.name != chosen):
        url = StorageURL.parse(job.candidate.storage)
        eventual = url.hybrid is not None and url.hybrid.consistency == "eventual"
        first.setdefault((backend_of(job.candidate), eventual), job)
    names = {job.candidate.name for job in first.values()}
    return [job for job in jobs if job.candidate.name in names]


def _measured(
    jobs: Sequence[Job],
    trace: Callable[[], Trace],
    scenario: Scenario,
    rows: dict[str, dict[str, Any]],
    runs: Path | None,
    tell: Callable[[int, str], None],
) -> pd.DataFrame:
    """Return a live row for each of these jobs. What was measured before, in `rows` or `runs`, is not measured again."""
    store, recent = None if runs is None else ResultStore(runs / "live"), RecentCosts()
    rows |= {job.key: store[job.key] for job in jobs if store is not None and job.key in store}
    missing = [job for job in jobs if job.key not in rows]
    with _LiveServers() as running, started_ahead(measure, len(missing)):
        for done, job in enumerate(missing, len(jobs) - len(missing)):
            tell(done, f"replaying live: {job.candidate.name}")
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
            rows[job.key] = row = live_row(scenario, job.candidate, trace(), server, recent=recent)
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
