"""Calibration: measures the costs of the backends on this machine, and stores them as a profile for the simulation.

It uses servers started for it, or the user's own (`target_server.py` leaves those as they were). Each backend is measured in
a process of its own, and a server that was started for it has the other half of the cores. What is measured is in
`survey.py`, what follows from it in `cost_fit.py`. Last, the costs are held against loads that they were not fitted to.
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim import algorithms, servers
from ratesim.errors import ConfigurationError
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.servers.valkey_process import valkey_program
from ratesim.simulation.cost_model.cost_fit import fit, replayed_of
from ratesim.simulation.cost_model.hybrid_costs import measure_hybrids
from ratesim.simulation.cost_model.load_process import halves, in_process, split_cores
from ratesim.simulation.cost_model.memory_survey import fit_memory, memory_pieces
from ratesim.simulation.cost_model.profile import CLUSTER, BackendCosts, Check, Profile, stored_path
from ratesim.simulation.cost_model.quiet_rounds import quiet_surveys
from ratesim.simulation.cost_model.quietness import Observer
from ratesim.simulation.cost_model.survey import (
    LOADS,
    Replayed,
    pieces,
    poisson_trace,
    raise_if_canceled,
    saturation,
    warm_up,
)
from ratesim.simulation.cost_model.target_server import SIZED_KEYS, OpenTarget, open_target
from ratesim.storage import MemoryStorage, StorageURL
from ratesim.storage.remote.operations import Acquire
from traffic import Trace

__all__ = ["ROUNDS", "Predict", "calibrate", "machine"]

Progress = Callable[[int, int, str], None]
Predict = Callable[[str, BackendCosts, Trace], NDArray[np.float64]]
"""Simulates a trace against a backend with these costs, and returns the latencies in seconds."""

ROUNDS = 5
ROUND_SECONDS = 10.0  # by round: the most that a backend may take beyond its start, disturbed pieces included
PATIENCE = 300.0  # seconds beyond that after which a server has stopped to answer


class _Measured(NamedTuple):
    costs: BackendCosts
    rate: float  # at saturation
    loads: dict[float, Replayed]


def calibrate(
    out: Path | None = None,
    progress: Progress | None = None,
    url: str | None = None,
    rtt: float | None = None,
    *,
    rounds: int = ROUNDS,
    effort: float = 1.0,
    force: bool = False,
    predict: Predict | None = None,
) -> Profile:
    """Measure memory, hybrids, Redis alone and as a cluster, and PostgreSQL on this machine, and write the profile.

    It takes at most a minute for each of them.

    Parameters
    ----------
    out : Path, optional
        File of the profile; by default the one that the simulation looks for.
    progress : Progress, optional
        Callback.
    url : str, optional
        Measure this Redis or PostgreSQL instead of servers started for it. The servers of RATESIM_REDIS_URL and
        RATESIM_POSTGRES_URL count as such. The other backend stays as the profile in use has it.
    rtt : float, optional
        Round trip to the user's server in seconds, instead of the measured one of `url`.
    rounds : int
        How often each piece is measured on a quiet machine.
    effort : float
        Scales the length of the pieces.
    force : bool
        Whether a machine that is busy with other work is measured all the same; the profile says so.
    predict : Predict, optional
        Simulates the loads that the costs are held against; without it they are not.

    Returns
    -------
    Profile
        The new profile.

    Raises
    ------
    ConfigurationError, StorageConnectionError
        If the server cannot be measured; without passwords.
    NoisyMachineError
        If other work disturbed more than half of the measurement.
    ServerError
        If a server does not start, or dies or freezes meanwhile. The profile then stays as it was.
    """
    path = out or stored_path()
    tell = progress or (lambda done, total, what: None)
    base = Profile.load() if url else None
    backends = dict(base.backends) if base else {}
    kinds = ["redis", CLUSTER, "postgres"]
    if os.environ.get("RATESIM_REDIS_URL") or valkey_program() is None:
        kinds.remove(CLUSTER)  # one that starts here would be of another kind than the server that is measured
    if url:
        kinds = [StorageURL.parse(url).backend]
        if kinds == ["memory"]:
            raise ConfigurationError("--url memory://: memory is measured without one; give a redis:// or postgresql:// URL")
        if kinds == ["redis"]:  # that of another server says nothing of this one
            backends.pop(CLUSTER, None)
    where, today = machine(), datetime.datetime.now(datetime.UTC).date().isoformat()
    for done, kind in enumerate(kinds):
        tell(done, 1 + len(kinds), f"{kind}, at most a minute")
        with _server(kind, url) as server, split_cores(server.pids):
            limit = ROUND_SECONDS * rounds + PATIENCE
            measured = in_process(_served, server.url, server.pids, rounds, effort, force, timeout=limit, server=server)
        backends[kind] = _checked(kind, measured, effort, predict)
    tell(len(kinds), 1 + len(kinds), "memory")
    backends = {"memory": in_process(_memory, rounds, effort, force)} | {
        kind: costs for kind, costs in backends.items() if kind != "memory"
    }
    hybrids = in_process(measure_hybrids, effort)
    tell(1 + len(kinds), 1 + len(kinds), "done")
    if base:  # an older measurement keeps its machine and date
        for kind in set(backends) - {"memory", *kinds}:
            old = backends[kind]
            backends[kind] = msgspec.structs.replace(
                old, machine=old.machine or base.machine, measured=old.measured or base.measured
            )
    profile = Profile(
        machine=where,
        measured=today,
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("ratesim", "redis", "psycopg")},
            **{f"{kind} server": backends[kind].server for kind in kinds if kind in backends},
        },
        backends=backends,
        hybrids=hybrids,
        round_trip=rtt,
    )
    if url and rtt is None:
        own = backends[kinds[0]]
        factors = own.round_trip_factors
        profile = msgspec.structs.replace(profile, round_trip=own.round_trip, round_trip_factors=factors)
    profile.save(path)
    return Profile.load(path)


def _server(kind: str, url: str | None) -> AbstractContextManager[Server]:
    if url:
        return nullcontext(Server(url, kind, "at --url", embedded=False))
    if kind == "redis":
        return servers.valkey()
    return servers.valkey_cluster() if kind == CLUSTER else servers.postgres()


def _checked(kind: str, measured: _Measured, effort: float, predict: Predict | None) -> BackendCosts:
    """Hold the costs against the Poisson loads."""
    if predict is None:
        return measured.costs
    checks = []
    for load, live in measured.loads.items():
        latency = predict(kind, measured.costs, poisson_trace(load * measured.rate, effort))
        p50, p95 = (float(value) for value in np.quantile(latency, (0.5, 0.95)))
        checks.append(Check(load=load, rate=load * measured.rate, live=(live.p50, live.p95), simulated=(p50, p95)))
    return msgspec.structs.replace(measured.costs, checks=tuple(checks))


def machine() -> str:
    """Describe the processor and its cores, without a name that would identify the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


# In the load process --------------------------------------------------------------------------------------------------


async def _memory(rounds: int, effort: float, force: bool) -> BackendCosts:
    found = await quiet_surveys(
        "memory",
        lambda _, without: memory_pieces(effort, without),
        Observer(halves()),
        rounds=rounds,
        seconds=ROUND_SECONDS * rounds * effort,
        force=force,
    )
    return msgspec.structs.replace(
        fit_memory(found.surveys),
        bytes_per_key={name: _memory_bytes(name, max(round(20_000 * effort), 2000)) for name in algorithms.names()},
        server=f"Python {platform.python_version()}",
        pieces=found.pieces,
        disturbed=found.disturbed,
    )


def _memory_bytes(algorithm: str, keys: int) -> float:
    """Measure the bytes of memory that a key takes, its name included, as tracemalloc sees it."""
    limit = Limit(1e6, 60.0, algorithm)
    storage = MemoryStorage()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(keys):
            storage.acquire_nowait(f"user:{i}", limit, 1.0, 1.7e9)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / keys


async def _served(url: str, pids: Sequence[int], rounds: int, effort: float, force: bool) -> _Measured:
    async with open_target(url) as opened:
        target = opened.target
        await warm_up(target)
        sizes = {name: await _bytes(opened, name) for name in algorithms.names()}
        rate = await saturation(target)
        take = partial(pieces, target, effort, rate)
        groups = halves()
        # The processes of a user's server are not known, nor is where they run.
        observer = Observer(groups, pids) if pids else Observer(groups and groups[:1], None)
        seconds = ROUND_SECONDS * rounds * effort
        found = await quiet_surveys(opened.server, take, observer, rounds=rounds, seconds=seconds, force=force)
        costs = fit(target, found.surveys)
    costs = msgspec.structs.replace(
        costs, bytes_per_key=sizes, server=opened.server, pieces=found.pieces, disturbed=found.disturbed
    )
    loads = {load: replayed_of(found.surveys, load) for load in LOADS}
    return _Measured(costs, rate, loads)


async def _bytes(opened: OpenTarget, algorithm: str) -> float:
    """Measure the bytes that the server keeps of one key, its name included."""
    storage, limit = opened.target.storage, Limit(1e6, 60.0, algorithm)
    names = [f"{algorithm}:{i}" for i in range(SIZED_KEYS)]
    before = await opened.size([])
    for first in range(0, SIZED_KEYS, 100):
        raise_if_canceled()
        batch = [Acquire(name, (limit,), 1.0, time.time(), True) for name in names[first : first + 100]]
        await storage.client.driver.execute(batch)
    return (await opened.size(names) - before) / SIZED_KEYS
