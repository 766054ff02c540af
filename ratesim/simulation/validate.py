"""Validation: the same requests live and simulated, side by side.

Servers are started for it and measured; then one trace (open loop, Poisson arrivals, zipf keys) is replayed against them at
shares of the rate at which they saturate, in several rounds, and through `run` with the profile of the same minute. Rounds
follow each other closely, so that what drifts on the machine drifts for all of them; how far the live rounds are from each
other is stated beside how far the simulation is from them. Nothing is fitted to the replays.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratesim import servers
from ratesim.limit import Limit
from ratesim.simulation.calibrate import machine
from ratesim.simulation.comparison import Comparison, Validation
from ratesim.simulation.costs import Target, measure
from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.target import POOL, target
from ratesim.storage.operations import Reset
from ratesim.storage.served import ServedStorage
from traffic import Poisson, Trace, Workload, Zipf, replay
from traffic.live import LiveResult

__all__ = ["CANDIDATES", "compare", "validate"]

LOADS = (0.3, 0.6, 0.85)  # of the rate at which it saturates
SECONDS = 0.7  # that a replay lasts
RATE = 500  # requests/s that the limit admits of a key: the busiest keys are denied now and then
KEYS = Zipf(1000, 1.0)
OVERLOAD = 50_000.0  # requests/s, more than any of them serves
OVERLOAD_REQUESTS = 8000
BUSY = 0.02  # share of the machine that others may use during a replay that counts, if two or more are so calm
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
) -> Validation:
    """Compare `candidates` (of CANDIDATES) live and simulated, in at most `rounds` rounds and about `budget` seconds.

    Writes the table to `out` (Markdown). At Ctrl-C the servers stop, what was compared is written as partial, and the
    KeyboardInterrupt goes on. Raises ServerError where no server starts.
    """
    tell = progress or (lambda done, total, what: None)
    found = Validation([], {}, {})
    try:
        for done, name in enumerate(candidates):
            tell(done, len(candidates), name)
            start: Callable[[], AbstractContextManager[servers.Server]]
            start = servers.valkey if CANDIDATES[name].startswith("redis") else servers.postgres
            with start() as server:
                asyncio.run(_candidate(name, server, rounds, budget / len(candidates), seconds, found))
        tell(len(candidates), len(candidates), "done")
    except BaseException:
        found.partial = True
        raise
    finally:
        if out is not None and found.comparisons:
            out.write_text(found.markdown(), "utf-8")
    return found


@dataclass
class Seen:
    """One replay: latency in seconds, throughput in requests/s, requests admitted, and how many may have changed places.

    Live also: cores that client and server used, seconds that a fixed piece of work took just before, and the share of the
    machine that other programs used meanwhile (nan where it is not known).
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
    seen: list[tuple[Profile, list[Seen]]] = []
    with _apart(server.pids):
        async with target(server.url) as opened:
            whole, durable = opened.target, "off" not in CANDIDATES[name]
            storage = whole.durable if durable and whole.durable else whole.storage
            parts = whole if durable else Target(whole.storage, whole.ping, None, whole.account, whole.speedup)
            over = _trace(OVERLOAD, OVERLOAD_REQUESTS / OVERLOAD)
            # Others only slow, so the fastest of some is what it can do.
            capacity = max([(await _live(storage, over, server.pids)).throughput for _ in range(4)])
            traces = [over, *(_trace(load * capacity, seconds) for load in LOADS)]
            took = 0.0
            while len(seen) < rounds and (not seen or time.monotonic() + 1.2 * took < ends):
                began = time.monotonic()
                costs = {backend: await measure(parts, 1, 0.5)}
                profile = Profile(machine=machine(), measured="now", versions={}, backends=costs)
                seen.append((profile, [await _live(storage, trace, server.pids) for trace in traces]))
                took = time.monotonic() - began
    pairs: list[list[tuple[Seen, Seen]]] = []
    for place, trace in enumerate(traces):
        calm = [(profile, live[place]) for profile, live in seen if not live[place].others > BUSY]
        kept = calm if len(calm) >= 2 else [(profile, live[place]) for profile, live in seen]
        pairs.append([(live, _simulated(name, profile, trace)) for profile, live in kept])
    found.comparisons += compare(name, pairs)
    lives = [live for rows in pairs for live, _ in rows]
    found.rounds[name] = len(seen)
    found.others[name] = float(np.mean([each.others for each in lives]))
    found.own[name] = float(np.median([live.cores for live, _ in pairs[-1]]))
    found.pace[name] = max(each.pace for each in lives) / min(each.pace for each in lives)
    measured = [profile.backends[backend] for profile, _ in seen]
    found.residual[name] = float(np.median([each.residual / each.latency_p50 for each in measured]))


def compare(name: str, pairs: Sequence[Sequence[tuple[Seen, Seen]]]) -> list[Comparison]:
    """The figures of replays, each live with its simulation: those at saturation, and those at each of LOADS."""

    def figures(load: str, rows: Sequence[tuple[Seen, Seen]], figure: str, of: Callable[[Seen], float]) -> Comparison:
        live, simulated = (tuple(of(row[side]) for row in rows) for side in (0, 1))
        return Comparison(name, load, figure, live, simulated)

    found = [figures("saturation", pairs[0], "throughput", lambda seen: seen.throughput)]
    for load, rows in zip(LOADS, pairs[1:], strict=True):
        at = f"{load:.0%}"
        for q in (50, 95, 99):
            found.append(figures(at, rows, f"p{q}", lambda seen, q=q: float(np.percentile(seen.latency, q))))  # type: ignore[misc]
        # Decisions are taken at the trace's times, so only requests of one key that overtook each other decide differently.
        swapped = float(np.median([live.swapped / max(live.admitted, 1) for live, _ in rows]))
        found.append(replace(figures(at, rows, "admitted", lambda seen: seen.admitted), tolerance=swapped))
    return found


def _trace(rate: float, seconds: float) -> Trace:
    return Workload(Poisson(rate), KEYS, seconds, start=1.7e9).trace(np.random.default_rng(6))


def _simulated(name: str, profile: Profile, trace: Trace) -> Seen:
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
    return Seen(result.latency[~result.failed], len(trace) / lasted, int(result.allowed.sum()))


async def _live(storage: ServedStorage, trace: Trace, pids: Sequence[int]) -> Seen:
    limit = Limit.parse(f"{RATE}/second")
    names = [trace.keys[key] for key in trace.key.tolist()]
    costs, stamps = trace.cost.tolist(), trace.time.tolist()
    pace = _pace()
    meter = _Meter(pids)
    result = await replay(trace, lambda i: storage.acquire(names[i], limit, costs[i], stamps[i]))
    used, others = meter.own(), meter.others()
    if result.errors:
        raise next(error for error in result.results if isinstance(error, Exception))
    await storage.client.submit_all([Reset(name) for name in trace.keys])
    lasted = float(result.finished.max())
    admitted = sum(decision.allowed for decision in result.results)
    return Seen(result.latency, len(trace) / lasted, admitted, _overtaken(trace, result), used / lasted, pace, others)


@contextmanager
def _apart(pids: Sequence[int]) -> Iterator[bool]:
    """Give the server one half of the cores and this process the other, where there are two and Linux lets us.

    The load generator polls and so never leaves its core by itself: a server that is woken there waits milliseconds for the
    scheduler. What a server starts later keeps to its cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2 or not pids:
        yield False
        return
    half = len(cores) // 2
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores[half:])
    os.sched_setaffinity(0, cores[:half])
    try:
        yield True
    finally:
        os.sched_setaffinity(0, cores)


def _pace() -> float:
    """Seconds that a fixed piece of work takes, the median of some: how fast the machine is at the moment."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        sum(i * i for i in range(20_000))
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _overtaken(trace: Trace, result: LiveResult) -> int:
    """Requests that were answered before an earlier one of the same key."""
    order = np.lexsort((np.arange(len(trace)), trace.key))
    same = trace.key[order][1:] == trace.key[order][:-1]
    return int(np.count_nonzero(same & (np.diff(result.finished[order]) < 0)))


class _Meter:
    """Processor time since it was made, of this process and of others, as Linux counts it; nan elsewhere."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = set(pids)
        self._began, self._used, self._all = time.perf_counter(), time.process_time(), self._busy()

    def own(self) -> float:
        """Processor seconds of this process and the server's."""
        return time.process_time() - self._used + self._busy()[1] - self._all[1]

    def others(self) -> float:
        """The share of the machine that neither this process nor the server used."""
        elapsed = time.perf_counter() - self._began
        return max(self._busy()[0] - self._all[0] - self.own(), 0.0) / elapsed / (os.cpu_count() or 1)

    def _busy(self) -> tuple[float, float]:
        """Seconds that all cores were busy, and that the server's processes were."""
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
                # Of a parent also what its ended children had used.
                served += sum(map(int, fields[11:13])) + (sum(map(int, fields[13:15])) if pid in self._pids else 0)
        return (user + nice + system + irq + soft + steal) / tick, served / tick
