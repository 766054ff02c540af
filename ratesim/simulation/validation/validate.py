"""Validation: the same requests live and simulated, side by side.

Servers are started for it. Every round measures them, finds the rate at which they saturate, and replays traces (open loop,
Poisson arrivals, zipf keys) at shares of that rate. Then it puts the same traces through `run` with the profile of that
round. A machine that others use as well changes its speed by the minute. So each round is compared with itself, and the
median of the rounds counts. The distance between the rounds is stated beside it. Nothing is fitted to the replays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim import servers
from ratesim.errors import RatesimError, require_all
from ratesim.limit import Limit
from ratesim.servers.watch import run_watched
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.cost_fit import fit, survey, warm_up
from ratesim.simulation.cost_model.profile import BackendCosts, Profile
from ratesim.simulation.cost_model.target_server import POOL, open_target
from ratesim.simulation.engine.run import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.simulation.validation.comparison import Comparison, Validation
from ratesim.simulation.validation.load_process import split_cores
from ratesim.storage.remote.operations import Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Poisson, Trace, Workload, Zipf, replay
from traffic.live_replay import LiveResult

__all__ = ["CANDIDATES", "compare", "validate"]

LOADS = (0.3, 0.6, 0.85)  # of the rate at which it saturates
SECONDS = 0.7  # that a replay lasts
RATE = 500  # requests/s that the limit admits of a key: the busiest keys are denied now and then
KEYS = Zipf(1000, 1.0)
OVERLOAD = 50_000.0  # requests/s, more than any of them serves
OVERLOAD_REQUESTS = 8000
NEAR = BackendCosts(client_cpu=1e-6)  # the cost of a decision in memory; no candidate here takes one
CANDIDATES = {
    "redis": "redis://server",
    "postgres, durable commits": "postgresql://server",
    "postgres, synchronous_commit off": "postgresql://server?synchronous_commit=off",
}
Progress = Callable[[int, int, str], None]


def validate(
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    candidates: Sequence[str] = tuple(CANDIDATES),
    rounds: int = 12,
    budget: float = 200.0,
    seconds: float = SECONDS,
    heading: str = "",
) -> Validation:
    """Compare candidates live and simulated.

    At Ctrl-C the servers stop, the comparisons so far are written as partial, and the KeyboardInterrupt goes on. A candidate
    whose server dies or does not start has no comparison; `failures` says why, and the others are compared.

    Parameters
    ----------
    out : Path, optional
        File of the table (Markdown).
    progress : Progress, optional
        Callback.
    candidates : Sequence[str]
        Names in CANDIDATES.
    rounds : int
        Most rounds.
    budget : float
        About so many seconds in all.
    seconds : float
        Length of a replay.
    heading : str
        Text before the table.

    Raises
    ------
    RatesimError
        If no candidate could be compared: what the first one raised.
    """
    tell = progress or (lambda done, total, what: None)
    found = Validation([], {}, {})
    first: Exception | None = None
    try:
        for done, name in enumerate(candidates):
            tell(done, len(candidates), name)
            start: Callable[[], AbstractContextManager[servers.Server]]
            start = servers.valkey if CANDIDATES[name].startswith("redis") else servers.postgres
            try:
                with start() as server:
                    run_watched(server, _candidate(name, server, rounds, budget / len(candidates), seconds, found))
            except (RatesimError, OSError) as error:
                first = first or error
                found.failures[name] = " ".join(str(error).split())
        if first is not None and not found.comparisons:
            raise first
        tell(len(candidates), len(candidates), "done")
    except BaseException:
        found.partial = True
        raise
    finally:
        if out is not None and found.comparisons:
            out.write_text(heading + found.markdown(), "utf-8")
    return found


@dataclass
class Observation:
    """One replay, live or simulated.

    Attributes
    ----------
    latency : NDArray[np.float64]
        Seconds.
    throughput : float
        Requests/s.
    admitted, swapped : int
        Admitted requests, and requests that may have changed places.
    cores : float
        Cores that client and server used (live only).
    pace : float
        Seconds of a fixed piece of work just before (live only).
    others : float
        Share of the machine that other programs used meanwhile; nan where it is not known (live only).
    """

    latency: NDArray[np.float64]
    throughput: float
    admitted: int
    swapped: int = 0
    cores: float = 0.0
    pace: float = 1.0
    others: float = 0.0


async def _candidate(
    name: str, server: servers.Server, rounds: int, budget: float, seconds: float, found: Validation
) -> None:
    ends = time.monotonic() + budget
    backend = name.split(",", maxsplit=1)[0]
    live: list[list[Observation]] = []
    simulated: list[list[Observation]] = []
    residuals = []
    with split_cores(server.pids):
        async with open_target(server.url) as opened:
            whole, durable = opened.target, "off" not in CANDIDATES[name]
            storage = whole.durable if durable and whole.durable else whole.storage
            parts = whole if durable else replace(whole, durable=None)
            over = _trace(OVERLOAD, OVERLOAD_REQUESTS / OVERLOAD)
            took = 0.0
            await warm_up(parts)
            await _live(storage, over, server.pids)  # the slow first time is not measured
            while len(live) < rounds and (not live or time.monotonic() + 1.2 * took < ends):
                began = time.monotonic()
                # What comes once in a minute is not in a replay of a second.
                costs = msgspec.structs.replace(fit(parts, [await survey(parts, 0.5)]), stalls={})
                saturated = await _live(storage, over, server.pids)
                traces = [over, *(_trace(load * saturated.throughput, seconds) for load in LOADS)]
                live.append([saturated, *[await _live(storage, trace, server.pids) for trace in traces[1:]]])
                profile = Profile(machine=machine(), measured="now", versions={}, backends={backend: costs, "memory": NEAR})
                simulated.append([_simulated(name, profile, trace) for trace in traces])
                residuals.append(costs.residual / costs.latency_p50)
                took = time.monotonic() - began
    found.comparisons += compare(
        name, [list(each) for each in zip(*live, strict=True)], [list(each) for each in zip(*simulated, strict=True)]
    )
    lives = [one for row in live for one in row]
    found.rounds[name] = len(live)
    found.others[name] = float(np.mean([each.others for each in lives]))
    found.own[name] = float(np.median([row[-1].cores for row in live]))
    found.pace[name] = max(each.pace for each in lives) / min(each.pace for each in lives)
    found.residual[name] = float(np.median(residuals))


def compare(
    name: str, live: Sequence[Sequence[Observation]], simulated: Sequence[Sequence[Observation]]
) -> list[Comparison]:
    """Compare the replays at saturation and at each of LOADS: the figures of each round, live and simulated."""
    found = [
        Comparison(
            name,
            "saturation",
            "throughput",
            tuple(one.throughput for one in live[0]),
            tuple(one.throughput for one in simulated[0]),
        )
    ]
    for load, rows, sims in zip(LOADS, live[1:], simulated[1:], strict=True):
        at = f"{load:.0%}"
        for q in (50, 95, 99):
            seen, said = (tuple(float(np.percentile(one.latency, q)) for one in each) for each in (rows, sims))
            found.append(Comparison(name, at, f"p{q}", seen, said))
        # Decisions are taken at the trace's times, so only requests of one key that overtook each other decide differently.
        swapped = float(np.median([one.swapped / max(one.admitted, 1) for one in rows]))
        seen, said = (tuple(float(one.admitted) for one in each) for each in (rows, sims))
        found.append(Comparison(name, at, "admitted", seen, said, swapped))
    return found


def _trace(rate: float, seconds: float) -> Trace:
    return Workload(Poisson(rate), KEYS, seconds, start=1.7e9).trace(np.random.default_rng(6))


def _simulated(name: str, profile: Profile, trace: Trace) -> Observation:
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 1.0},
            "limit": {"rate": f"{RATE}/second"},
            "deployment": {"type": "single_instance", "nodes": 1, "network": "loopback"},
        }
    )
    url = CANDIDATES[name] + ("&" if "?" in CANDIDATES[name] else "?") + f"pool_size={POOL}"
    result = run(scenario, Candidate(name="validated", storage=url), 1, profile=profile, trace=trace)
    lasted = float(np.max(trace.time - trace.time[0] + result.latency))
    return Observation(result.latency[~result.failed], len(trace) / lasted, int(result.allowed.sum()))


async def _live(storage: RemoteStorage, trace: Trace, pids: Sequence[int]) -> Observation:
    limit = Limit.parse(f"{RATE}/second")
    names = [trace.keys[key] for key in trace.key.tolist()]
    costs, stamps = trace.cost.tolist(), trace.time.tolist()
    pace = _pace()
    meter = _Meter(pids)
    result = await replay(trace, lambda i: storage.acquire(names[i], limit, costs[i], stamps[i]))
    used, others = meter.own(), meter.others()
    if result.errors:
        raise next(error for error in result.results if isinstance(error, Exception))
    require_all(await storage.client.submit_all([Reset(name) for name in trace.keys]))
    lasted = float(result.finished.max())
    admitted = sum(decision.allowed for decision in result.results)
    return Observation(
        result.latency, len(trace) / lasted, admitted, _count_overtaken(trace, result), used / lasted, pace, others
    )


def _pace() -> float:
    """Measure the seconds of a fixed piece of work, the median of some: how fast the machine is at the moment."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        sum(i * i for i in range(20_000))
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _count_overtaken(trace: Trace, result: LiveResult) -> int:
    """Count requests that were answered before an earlier one of the same key."""
    order = np.lexsort((np.arange(len(trace)), trace.key))
    same = trace.key[order][1:] == trace.key[order][:-1]
    return int(np.count_nonzero(same & (np.diff(result.finished[order]) < 0)))


class _Meter:
    """Processor time since it was made, of this process and of others, as Linux counts it; nan elsewhere."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = set(pids)
        self._began, self._used, self._all = time.perf_counter(), time.process_time(), self._busy()

    def own(self) -> float:
        """Return the processor seconds of this process and the server's."""
        return time.process_time() - self._used + self._busy()[1] - self._all[1]

    def others(self) -> float:
        """Return the share of the machine that neither this process nor the server used."""
        elapsed = time.perf_counter() - self._began
        return max(self._busy()[0] - self._all[0] - self.own(), 0.0) / elapsed / (os.cpu_count() or 1)

    def _busy(self) -> tuple[float, float]:
        """Return the seconds that all cores were busy, and that the server's processes were."""
        total = Path("/proc/stat")
        if not total.exists():
            return np.nan, np.nan
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, soft, steal, *_ = map(int, total.read_text().split("\n", 1)[0].split()[1:])
        served = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended since
                continue
            pid, parent = int(path.parent.name), int(fields[1])
            if pid in self._pids or parent in self._pids:
                # A parent's time includes that of its ended children.
                served += sum(map(int, fields[11:13])) + (sum(map(int, fields[13:15])) if pid in self._pids else 0)
        return (user + nice + system + irq + soft + steal) / tick, served / tick
