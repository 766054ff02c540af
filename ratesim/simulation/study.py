"""A study: every candidate of a scenario, in simulation over several seeds and live, with all that a report needs to say
where the numbers come from. Finished results are kept beside the report and used again when the question is the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from ratesim import servers
from ratesim.limit import Limit
from ratesim.simulation.calibrate import machine
from ratesim.simulation.deployment import backend_of
from ratesim.simulation.live import live_row
from ratesim.simulation.oracle import exact
from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from traffic import Origin, Trace

__all__ = ["Study", "catalogue", "study"]

Progress = Callable[[int, int, str], None]

BITES = (0.05, 0.30)  # share of requests that an exact limiter denies, for the limit to tell candidates apart
HARDLY = 0.005


@dataclass
class Study:
    """scenario and candidates: what was asked. results: one row for each candidate and seed. live: for each candidate that
    was replayed live. binding: whether the limit binds. environment: versions and machine."""

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    trace_summary: dict[str, float]
    origin: Origin
    results: pd.DataFrame
    live: pd.DataFrame
    profile: Profile
    binding: dict[str, Any]
    environment: dict[str, str]


def catalogue(scenario: Scenario) -> tuple[Candidate, ...]:
    """The candidates of a scenario: its own, or all that make sense for its deployment."""
    if scenario.candidates:
        return scenario.candidates
    single = scenario.deployment.nodes == 1
    found = [Candidate(name="memory", storage="memory://", routing="round_robin")]
    if not single:
        found.append(Candidate(name="memory, sticky", storage="memory://", routing="sticky"))
    found += [
        Candidate(name="redis", storage="redis://localhost"),
        Candidate(name="postgres", storage="postgresql://localhost"),
        Candidate(name="hybrid strong", storage="hybrid+redis://localhost?consistency=strong&write=write_through"),
    ]
    # A view lives as long as the interval: a key that comes back after a pause is read again, so no view is much older.
    for name, interval in (("10 ms", 0.01), ("100 ms", 0.1), ("1 s", 1.0), ("10 s", 10.0)):
        storage = (
            f"hybrid+redis://localhost?consistency=eventual&write=write_back&sync_interval={interval}&l1_ttl={interval}"
        )
        found.append(Candidate(name=f"hybrid eventual {name}", storage=storage))
    through = "hybrid+redis://localhost?consistency=eventual&write=write_through&l1_ttl=1.0"
    found.append(Candidate(name="hybrid write-through", storage=through))
    return tuple(found)


def study(
    scenario: Scenario,
    *,
    out: Path | None = None,
    profile: Profile | None = None,
    live: bool = True,
    progress: Progress | None = None,
) -> Study:
    """Run every candidate. out: directory in which finished results are looked for and kept. live: also replay on real
    servers. progress: called with (done, total, what is next)."""
    profile = profile or Profile.load()
    candidates = catalogue(scenario)
    question = _question(scenario, candidates, profile, live)
    if out is not None and (found := _kept(out, question, scenario, candidates, profile)) is not None:
        return found
    tell = progress or (lambda done, total, what: None)
    replayed = _live_candidates(candidates) if live else []
    total = 1 + len(candidates) * scenario.replications + len(replayed)
    tell(0, total, "reading the traffic")
    seeds = range(scenario.seed, scenario.seed + scenario.replications)
    traces = {seed: scenario.trace(seed) for seed in (seeds if scenario.workload.log is None else seeds[:1])}
    trace = traces[scenario.seed]
    binding = _binding(scenario, trace)
    done = 1
    rows = []
    for candidate in candidates:
        for seed in seeds:
            tell(done, total, f"simulating {candidate.name}")
            result = run(scenario, candidate, seed, profile=profile, trace=traces.get(seed, trace))
            rows.append({**result.row(), "exact_denied_share": binding["exact_denied_share"]})
            done += 1
    measured = []
    with ExitStack() as stack:
        running: dict[str, servers.Server] = {}
        for candidate in replayed:
            tell(done, total, f"replaying live: {candidate.name}")
            backend = StorageURL.parse(candidate.storage).backend
            if backend != "memory" and backend not in running:
                start = servers.valkey if backend == "redis" else servers.postgres
                running[backend] = stack.enter_context(start())
            measured.append(live_row(scenario, candidate, trace, running.get(backend)))
            done += 1
    tell(total, total, "done")
    finished = Study(
        scenario,
        candidates,
        trace.summary(),
        trace.origin,
        pd.DataFrame(rows),
        pd.DataFrame(measured),
        profile,
        binding,
        _environment(),
    )
    if out is not None:
        _keep(out, question, finished)
    return finished


def _live_candidates(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """The first candidate of every backend: live, a variant of the same backend would answer the same."""
    first: dict[tuple[str, bool], Candidate] = {}
    for candidate in candidates:
        url = StorageURL.parse(candidate.storage)
        near = url.hybrid is not None and url.hybrid.consistency != "strong"
        first.setdefault((backend_of(candidate), near), candidate)
    return list(first.values())


def _binding(scenario: Scenario, trace: Trace) -> dict[str, Any]:
    """Does the limit bind? Otherwise, which rate would."""
    limit = scenario.limit.limit()
    share = _denied(limit, trace)
    suggestion = None
    if not BITES[0] <= share <= BITES[1]:
        suggestion = _suggest(limit, trace)
    return {"exact_denied_share": share, "binds": share >= HARDLY, "suggestion": suggestion}


def _denied(limit: Limit, trace: Trace) -> float:
    return float(1.0 - exact(limit, trace.key, trace.time, trace.cost, len(trace.keys)).mean())


def _suggest(limit: Limit, trace: Trace) -> str | None:
    """A rate per the same period at which an exact limiter denies 5 to 30 %: the roundest found by bisection."""
    low, high = 1.0, max(float(trace.cost.sum()), 2.0)
    best: Limit | None = None
    for _ in range(40):
        rate = float(f"{(low * high) ** 0.5:.2g}")
        tried = Limit(rate, limit.period, limit.algorithm, None, limit.name, limit.options)
        share = _denied(tried, trace)
        if BITES[0] <= share <= BITES[1]:
            best = tried
            break
        if share > BITES[1]:
            low = (low * high) ** 0.5
        else:
            high = (low * high) ** 0.5
        if high / low < 1.05:
            break
    return str(best) if best else None


def _question(scenario: Scenario, candidates: tuple[Candidate, ...], profile: Profile, live: bool) -> str:
    """A hash of all that the results depend on: the question, the profile and the code."""
    digest = hashlib.sha256()
    digest.update(scenario.model_dump_json().encode())
    digest.update(json.dumps([candidate.model_dump() for candidate in candidates]).encode())
    digest.update(repr((profile.machine, profile.measured, profile.backends, live)).encode())
    if scenario.workload.log is not None:
        about = Path(scenario.workload.log)
        if about.is_file():
            digest.update(hashlib.sha256(about.read_bytes()).digest())
    for package in ("ratesim", "traffic"):
        root = Path(str(resources.files(package)))
        for file in sorted(root.rglob("*")):
            if file.suffix in (".py", ".lua", ".sql"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _keep(out: Path, question: str, finished: Study) -> None:
    out.mkdir(parents=True, exist_ok=True)
    finished.results.to_parquet(out / "results.parquet")
    finished.live.to_parquet(out / "live.parquet")
    about = {
        "question": question,
        "trace_summary": {key: float(value) for key, value in finished.trace_summary.items()},
        # Only the name: a report may travel, and where a log lay is nobody's business.
        "origin": asdict(finished.origin) | {"source": Path(finished.origin.source).name},
        "binding": finished.binding,
        "environment": finished.environment,
    }
    (out / "study.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _kept(out: Path, question: str, scenario: Scenario, candidates: tuple[Candidate, ...], profile: Profile) -> Study | None:
    about = out / "study.json"
    if not about.exists():
        return None
    kept = json.loads(about.read_text("utf-8"))
    if kept["question"] != question:
        return None
    origin = kept["origin"] | {key: tuple(kept["origin"][key]) for key in ("examples", "notes")}
    return Study(
        scenario,
        candidates,
        kept["trace_summary"],
        Origin(**origin),
        pd.read_parquet(out / "results.parquet"),
        pd.read_parquet(out / "live.parquet"),
        profile,
        kept["binding"],
        kept["environment"],
    )


def _environment() -> dict[str, str]:
    names = ("ratesim", "simpy", "numpy", "numba", "redis", "psycopg", "pandas")
    return {
        "machine": machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
