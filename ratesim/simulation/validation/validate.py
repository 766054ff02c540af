"""Validation: the same requests live and simulated, side by side, and a verdict on how far the simulation is to be believed.

Servers are started for it, one for each candidate, and all are up for the whole run. A process of its own measures rounds
(`rounds.py`). Every replay is simulated with the costs of all rounds, at the pace that its cores had during it, because a
machine changes its speed by the second. Covariates decide which replays count (`covariates.py`), never what they show.
Nothing is fitted to the replays.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim import servers
from ratesim.errors import ConfigurationError, RatesimError, ServerDiedError, ServerError
from ratesim.servers.supervisor import wait_for_end
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.load_process import in_process, run_in_process, server_cores, split_cores
from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, Profile, at_pace, on_cores, stored_path
from ratesim.simulation.cost_model.target_server import PATIENCE, POOL
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate as StorageCandidate
from ratesim.simulation.scenario.scenario import Scenario
from ratesim.simulation.validation.comparison import Figures, Observation, Validation
from ratesim.simulation.validation.covariates import read_samples
from ratesim.simulation.validation.hybrid_processes import compare_hybrids
from ratesim.simulation.validation.rounds import (
    RATE,
    Calibrated,
    Candidate,
    Entry,
    Failed,
    Plan,
    Replayed,
    disturbances,
    measure_rounds,
    paces,
    read_found,
    trace_of,
)
from ratesim.simulation.validation.segments import simulated_segments
from ratesim.simulation.validation.verdict import merge_errors
from traffic import Trace

__all__ = ["CANDIDATES", "HYBRID", "pool", "profile_to_store_in", "store_errors", "thin", "validate"]

NEAR = BackendCosts(client_cpu=1e-6)  # the cost of a decision in memory; no candidate here takes one
CANDIDATES = {
    "redis": "redis://server",
    "postgres durable": "postgresql://server",
    "postgres off": "postgresql://server?synchronous_commit=off",
}
HYBRID = "hybrid"  # the candidates of `hybrid_processes.py`, which need processes of their own
LIVE = 0.85  # of the budget; the rest is for the simulations
HYBRID_SHARE = 0.15  # of the budget, beside other candidates
MANY = 40  # simulations that are worth the start of processes
LOOK = 2.0  # seconds between two steps of the progress bar
Progress = Callable[[int, int, str], None]


def validate(
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    candidates: Sequence[str] = (*CANDIDATES, HYBRID),
    rounds: int = 20,
    budget: float = 600.0,
    effort: float = 1.0,
    heading: str = "",
) -> Validation:
    """Compare candidates live and simulated.

    At Ctrl-C the servers stop, the replays so far are written as partial, and the KeyboardInterrupt goes on. A candidate
    whose server dies or does not start is compared no longer; `failures` says why, and the others are.

    Parameters
    ----------
    out : Path, optional
        File of the tables and the verdict (Markdown).
    progress : Progress, optional
        Callback.
    candidates : Sequence[str]
        Names in CANDIDATES, and HYBRID.
    rounds : int
        Rounds to be kept of each candidate at each load.
    budget : float
        About so many seconds in all; fewer rounds are kept where it does not suffice.
    effort : float
        Scales the length of a replay and of the measurement of the costs.
    heading : str
        Text before the tables.

    Raises
    ------
    RatesimError
        If no candidate could be compared: what the first one raised.
    """
    tell = progress or (lambda done, total, what: None)
    found = Validation()
    began, served = time.monotonic(), [name for name in candidates if name != HYBRID]
    hybrids = 0.0 if HYBRID not in candidates else HYBRID_SHARE if served else LIVE
    with tempfile.TemporaryDirectory(prefix="ratesim-validate-") as folder:
        entries, samples = Path(folder) / "entries", Path(folder) / "samples"
        try:
            with ExitStack() as stack:
                plan = Plan((), rounds, began + (LIVE - hybrids) * budget, effort)
                first = _measure(stack, served, found, plan, entries, samples, tell)
            if hybrids:
                first = first or _compare_hybrids(found, rounds, time.monotonic() + hybrids * budget, tell)
        except BaseException:
            found.partial = True
            raise
        finally:
            found.observations = _compare(read_found(entries), read_samples(samples), tell)
            if out is not None and (found.observations or found.hybrids):
                out.write_text(heading + found.markdown(), "utf-8")
    if first is not None and not (found.observations or found.hybrids):
        raise first
    tell(1, 1, "done")
    return found


def profile_to_store_in() -> Profile:
    """Load the profile that `store_errors` changes.

    Raises
    ------
    ConfigurationError
        If there is none of this machine.
    """
    path = stored_path()
    if not path.exists():
        raise ConfigurationError(f"no profile is stored at {path}; run `ratesim calibrate` first")
    profile = Profile.load(path)
    if profile.machine != machine():
        raise ConfigurationError(
            f"the profile at {path} is of another machine ({profile.machine}; this is {machine()}); run `ratesim calibrate`"
        )
    return profile


def store_errors(found: Validation, profile: Profile) -> dict[str, str]:
    """Store the errors of the verdict in the profile, and save it. Returns what was done, by backend.

    A backend has errors only if all of its CANDIDATES have a verdict, and if its costs are of this machine. Another keeps
    those that it has.
    """
    verdicts = {each.candidate: each.errors for each in found.verdicts()}
    backends, done = dict(profile.backends), {}
    for backend in dict.fromkeys(map(_backend, verdicts)):
        errors = merge_errors([verdicts.get(name, ()) for name in CANDIDATES if _backend(name) == backend])
        costs = backends[backend]
        if costs.machine not in ("", machine()):
            done[backend] = f"not stored: its costs are of another machine ({costs.machine}); run `ratesim calibrate`"
        elif not errors:
            done[backend] = "not stored: there is no verdict on all of its configurations; the errors stay as they were"
        else:
            backends[backend] = msgspec.structs.replace(costs, errors=errors)
            done[backend] = f"errors stored up to {100 * errors[-1].utilization:.0f} % utilization"
    msgspec.structs.replace(profile, backends=backends).save(stored_path())
    return done


def _measure(
    stack: ExitStack,
    candidates: Sequence[str],
    found: Validation,
    plan: Plan,
    entries: Path,
    samples: Path,
    tell: Progress,
) -> Exception | None:
    """Start the servers, measure rounds, and name what failed. Returns the first failure."""
    first: Exception | None = None
    started: dict[str, servers.Server] = {}
    for name in candidates:
        tell(0, 1, f"starting {name}")
        start: Callable[[], AbstractContextManager[servers.Server]]
        start = servers.valkey if _backend(name) == "redis" else servers.postgres
        try:
            started[name] = stack.enter_context(start())
        except (RatesimError, OSError) as error:
            first = first or error
            found.failures[name] = " ".join(str(error).split())
    if not started:
        return first
    pids = tuple(pid for server in started.values() for pid in server.pids)
    everywhere = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    with split_cores(pids) as split, _told(plan, tell):
        cores = (everywhere[0], everywhere[-1]) if split else ()
        measured = tuple(
            Candidate(name, server.url, server.pids, "off" not in CANDIDATES[name]) for name, server in started.items()
        )
        try:
            in_process(measure_rounds, replace(plan, candidates=measured, cores=cores), entries, samples)
        finally:
            for each in read_found(entries):
                if isinstance(each, Failed):
                    server = started[each.candidate]
                    how = wait_for_end(server.how_ended) if server.embedded else None
                    lost = ServerDiedError(f"{server} {how}") if how else ServerError(f"{server}: {each.why}")
                    first = first or lost
                    found.failures.setdefault(each.candidate, str(lost))
    return first


def _compare_hybrids(found: Validation, rounds: int, ends: float, tell: Progress) -> Exception | None:
    """Compare hybrids over a Valkey of their own, at least once. Returns the failure, where there is one."""
    tell(0, 1, HYBRID)
    try:
        with servers.valkey() as server:
            found.hybrids = compare_hybrids(server, rounds=rounds, ends=ends)
    except (RatesimError, OSError) as error:
        found.failures[HYBRID] = " ".join(str(error).split())
        return error
    return None


@contextmanager
def _told(plan: Plan, tell: Progress) -> Iterator[None]:
    """Tell meanwhile how much of the time is over."""
    began, ended = time.monotonic(), threading.Event()

    def look() -> None:
        total = max(round(plan.ends - began), 1)
        while not ended.wait(LOOK):
            tell(min(round(time.monotonic() - began), total), total, "measuring, by seconds")

    thread = threading.Thread(target=look, name="ratesim-validate", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _compare(entries: Sequence[Entry], samples: NDArray[np.float64], tell: Progress) -> list[Observation]:
    """Simulate every replay with the costs of all rounds, at its own pace, and with those of the even rounds."""
    dropped = disturbances(entries, samples)
    cores = np.unique(samples[:, 0]).astype(int).tolist() if len(samples) else []
    pace = paces(entries, samples, (cores[0], cores[-1])) if cores else {}
    measured: dict[str, dict[int, BackendCosts]] = {}
    for place, each in enumerate(entries):
        if isinstance(each, Calibrated):
            measured.setdefault(each.candidate, {})[each.round] = at_pace(
                each.costs, *(1.0 / ratio for ratio in pace.get(place, (1.0, 1.0)))
            )
    pooled = {name: pool(list(rounds.values())) for name, rounds in measured.items()}
    halves = {
        name: thin(pool([costs for number, costs in rounds.items() if number % 2 == 0])) for name, rounds in measured.items()
    }
    # A pace is of the work, and not of the latencies that it is explained with.
    calibrated = [each for each in entries if isinstance(each, Calibrated)]
    unexplained = {
        name: float(np.median([each.costs.unexplained for each in calibrated if each.candidate == name]))
        for name in measured
    }
    replayed = {place: each for place, each in enumerate(entries) if isinstance(each, Replayed)}
    own, even = (
        {
            place: _Job(each.candidate, at_pace(costs[each.candidate], *pace.get(place, (1.0, 1.0))), each)
            for place, each in replayed.items()
        }
        for costs in (pooled, halves)
    )
    even = {place: job for place, job in even.items() if not dropped[place]}
    tell(0, 1, f"simulating {len(replayed)} replays")
    figures = iter(_simulate_all([*own.values(), *even.values()]))
    simulated = {place: next(figures) for place in own}
    foreseen = {place: next(figures) for place in even}
    return [
        Observation(
            each.candidate,
            each.load,
            each.round,
            _figures(each.latency, each.throughput, each.admitted),
            simulated[place],
            foreseen.get(place),
            dropped[place],
            each.swapped / max(each.admitted, 1),
            unexplained[each.candidate],
            each.segments,
            simulated_segments(own[place].costs, np.diff(own[place].trace.time), simulated[place].p50, each.batch),
        )
        for place, each in replayed.items()
    ]


class _Job(NamedTuple):
    """A replay to be simulated with costs."""

    candidate: str
    costs: BackendCosts
    replayed: Replayed

    @property
    def trace(self) -> Trace:
        """The traffic of the replay."""
        return trace_of(self.replayed.rate, self.replayed.seconds, self.replayed.seed)


def _simulate_all(jobs: Sequence[_Job]) -> list[Figures]:
    """Simulate in this process, or many on all cores."""
    cores = os.cpu_count() or 1
    if len(jobs) < MANY or cores == 1:
        return _simulate_some(jobs)

    async def simulate_parts() -> list[list[Figures]]:
        parts = (run_in_process(_simulate_some, jobs[first::cores], all_cores=True) for first in range(cores))
        return list(await asyncio.gather(*parts))

    found: list[Figures | None] = [None] * len(jobs)
    for first, part in enumerate(asyncio.run(simulate_parts())):
        found[first::cores] = part
    return [each for each in found if each is not None]


def _simulate_some(jobs: Sequence[_Job]) -> list[Figures]:
    return [_simulate(each.candidate, each.costs, each.trace) for each in jobs]


def pool(several: Sequence[BackendCosts]) -> BackendCosts:
    """Take the median of every number in the costs of several rounds.

    Coldness has other idle gaps in every round. It is looked up at those of the round that has most.
    """
    plain = [msgspec.to_builtins(msgspec.structs.replace(each, cold=None)) for each in several]
    merged: BackendCosts = msgspec.convert(_median(plain), BackendCosts)
    colds = [each.cold for each in several if each.cold is not None]
    if not colds:
        return merged
    idle = max(colds, key=lambda cold: len(cold.idle)).idle
    columns = {
        name: tuple(np.median([np.interp(idle, cold.idle, getattr(cold, name)) for cold in colds], axis=0).tolist())
        for name in Coldness.__struct_fields__
        if name != "idle"
    }
    return msgspec.structs.replace(merged, cold=Coldness(idle=idle, **columns))


def thin(costs: BackendCosts) -> BackendCosts:
    """Leave every other idle gap of the coldness out: the longest and the first stay."""
    cold = costs.cold
    if cold is None:
        return costs
    last = len(cold.idle) - 1
    places = sorted({0, *range(last, 0, -2)})
    columns = {name: tuple(getattr(cold, name)[i] for i in places) for name in Coldness.__struct_fields__}
    return msgspec.structs.replace(costs, cold=Coldness(**columns))


def _median(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {key: _median([each[key] for each in values]) for key in first}
    if isinstance(first, list | tuple):
        return [_median(each) for each in zip(*values, strict=True)]
    if isinstance(first, float):
        return float(np.median(values))
    if isinstance(first, int) and not isinstance(first, bool):
        return round(float(np.median(values)))
    return first


def _simulate(name: str, costs: BackendCosts, trace: Trace) -> Figures:
    """Simulate a replay: one node, and the server on the same machine."""
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 1.0},
            "limit": {"rate": f"{RATE}/second"},
            "deployment": {"type": "single_instance", "nodes": 1, "network": "loopback"},
        }
    )
    # What comes once in a minute is not in a replay of a second.
    costs = on_cores(msgspec.structs.replace(costs, stalls={}), server_cores())
    backends = {_backend(name): costs, "memory": NEAR}
    profile = Profile(machine=machine(), measured="now", versions={}, backends=backends)
    options = f"pool_size={POOL}&command_timeout={PATIENCE:g}"  # as the live storage has them
    url = CANDIDATES[name] + ("&" if "?" in CANDIDATES[name] else "?") + options
    result = run(scenario, StorageCandidate(name="validated", storage=url), 1, profile=profile, trace=trace, progress=False)
    lasted = float(np.max(trace.time - trace.time[0] + result.latency))
    row = result.row()
    busiest = max(row["utilization_max"], row["node_utilization_max"])
    return _figures(result.latency[~result.failed], len(trace) / lasted, int(result.allowed.sum()), busiest)


def _figures(latency: NDArray[np.float64], throughput: float, admitted: int, utilization: float = float("nan")) -> Figures:
    p50, p95, p99 = np.quantile(latency, [0.5, 0.95, 0.99])
    return Figures(float(p50), float(p95), float(p99), throughput, admitted, utilization)


def _backend(name: str) -> str:
    return name.split()[0]
