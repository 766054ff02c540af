"""The simulator as a benchmark: requests in a second of one core, beside the parts that they are made of; how that goes with
workers, with nodes, and in how much memory.

Speeds are by processor time, the best of some rounds that take turns, since other work on the machine only slows.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import simpy

from ratesim.runtime import SimRuntime
from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
from ratesim.simulation.scenario import Candidate, Scenario
from ratesim.simulation.sweep import sweep
from ratesim.storage import MemoryStorage
from traffic import Trace

__all__ = ["section"]

HYBRID = "hybrid+redis://localhost?consistency=eventual&write=write_back"
CANDIDATES = (
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://localhost"),
    Candidate(name="postgres", storage="postgresql://localhost"),
    Candidate(name="hybrid eventual 1 s", storage=f"{HYBRID}&sync_interval=1&l1_ttl=1"),
    Candidate(name="hybrid eventual 100 ms", storage=f"{HYBRID}&sync_interval=0.1&l1_ttl=0.1"),
)
ROUNDS = 3
PER_SECOND = 10_000.0  # requests/s, simulated

_ALONE = """
import resource, time
from ratesim.simulation.bench_simulator import CANDIDATES, scenario_of
from ratesim.simulation.profile import Profile
from ratesim.simulation.run import run
scenario = scenario_of({requests}, {nodes}, {rate})
trace, profile = scenario.trace(), Profile.load()
run(scenario, CANDIDATES[{candidate}], profile=profile, trace=trace.head(1000))
start = time.process_time()
run(scenario, CANDIDATES[{candidate}], profile=profile, trace=trace).row()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((time.process_time() - start) / len(trace), peak / (2**20 if __import__("sys").platform != "darwin" else 2**30))
"""


def scenario_of(requests: int, nodes: int, rate: float) -> Scenario:
    """Poisson arrivals of `rate` requests/s on 1000 zipf keys, of which a limit denies some."""
    return Scenario.of(
        {
            "workload": {"requests_per_second": rate, "keys": 1000, "duration": requests / rate},
            "limit": {"rate": "600/minute", "algorithm": "token_bucket"},
            "deployment": {"nodes": nodes},
        }
    )


def section() -> list[str]:
    """The lines of the report. Takes some twenty minutes, most of it for runs of ten million requests."""
    return [*_speed(), "", *_workers(), "", *_size()]


def _speed() -> list[str]:
    scenario = scenario_of(1_000_000, 8, PER_SECOND)
    trace, profile = scenario.trace(), Profile.load()
    best: dict[str, float] = {}
    events: dict[str, float] = {}

    def took(name: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        best[name] = min(best.get(name, 1e9), (time.process_time() - start) / len(trace))

    def simulate(candidate: Candidate) -> None:
        events[candidate.name] = run(scenario, candidate, profile=profile, trace=trace).events / len(trace)

    run(scenario, CANDIDATES[0], profile=profile, trace=trace.head(1000))  # what is compiled is there then
    for _ in range(ROUNDS):
        took("event", lambda: _bare_events(len(trace)))
        took("acquire", lambda: _bare_acquires(scenario, trace))
        for candidate in CANDIDATES:
            took(candidate.name, lambda candidate=candidate: simulate(candidate))  # type: ignore[misc]
    event, acquire = best["event"] * 1e6, best["acquire"] * 1e6
    lines = [
        f"simulator, {len(trace):,} requests on 8 nodes, {len(trace.keys):,} zipf keys; requests/s of a core, scored",
        f"  the parts: a SimPy event takes {event:.2f} us, MemoryStorage.acquire {acquire:.2f} us",
    ]
    for candidate in CANDIDATES:
        parts = best["acquire"] + events[candidate.name] * best["event"]
        mine = best[candidate.name]
        lines.append(
            f"  {candidate.name:<24} {1.0 / mine:>9,.0f}   {events[candidate.name]:.2f} events a request; "
            f"{parts / mine:.2f} of the speed of its parts ({1.0 / parts:,.0f})"
        )
    return lines


def _bare_events(count: int) -> None:
    env = simpy.Environment()

    def wait() -> object:
        for _ in range(count):
            yield env.timeout(1.0)

    env.process(wait())  # type: ignore[arg-type]
    env.run()


def _bare_acquires(scenario: Scenario, trace: Trace) -> None:
    """On one storage, as fast as it goes."""
    storage = MemoryStorage(runtime=SimRuntime(simpy.Environment()), sequence=itertools.count(1).__next__)
    limit = scenario.limit.limit()

    async def ask() -> None:
        for key, cost, now in zip(memoryview(trace.key), memoryview(trace.cost), memoryview(trace.time), strict=True):  # type: ignore[arg-type]
            await storage.acquire(trace.keys[key], limit, cost, now)

    asyncio.run(ask())


def _workers() -> list[str]:
    scenario = scenario_of(200_000, 8, PER_SECOND)
    ratios, seeds = [], range(8)
    for _ in range(ROUNDS):
        took = []
        for processes in (1, 2):
            start = time.perf_counter()
            sweep(scenario, CANDIDATES[1:2], seeds, processes=processes)
            took.append(time.perf_counter() - start)
        ratios.append(took[0] / took[1])
    said = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return [f"sweep, 8 runs of {200_000:,} requests, redis: two workers are {said} times as fast as one (start-up included)"]


def _size() -> list[str]:
    requests = 10_000_000
    lines = [f"simulator, {requests:,} requests in a process of their own, at {PER_SECOND:,.0f}/s"]
    for place, candidate in enumerate(CANDIDATES):
        if candidate.name not in ("memory", "redis", "hybrid eventual 1 s"):
            continue
        few, _ = _alone(requests // 10, 8, place)
        many, peak = _alone(requests, 1000, place)
        lines.append(
            f"  {candidate.name:<24} 1000 nodes {1.0 / many:>9,.0f}/s, {many / few:.2f} times the cost of 8 nodes, a tenth "
            f"of the requests; peak {peak:.2f} GiB"
        )
    return lines


def _alone(requests: int, nodes: int, candidate: int) -> tuple[float, float]:
    """Processor seconds for each request, and the peak of its memory in GiB, in a process of its own."""
    program = _ALONE.format(requests=requests, nodes=nodes, rate=PER_SECOND, candidate=candidate)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)
