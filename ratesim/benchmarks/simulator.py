"""The benchmark of the simulator: requests per second of one core, beside the parts that they are made of.

It also measures the effect of workers and of nodes, and the memory. Speeds are by processor time, the best of some rounds
that take turns, because other work on the machine only slows.
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
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.sweep import sweep
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import MemoryStorage
from traffic import Trace

__all__ = ["bare_hops", "poisson_scenario", "section"]

HYBRID = "hybrid+redis://localhost?consistency=eventual&write=write_back"
CANDIDATES = (
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://localhost"),
    Candidate(name="postgres", storage="postgresql://localhost"),
    Candidate(name="hybrid eventual 1 s", storage=f"{HYBRID}&sync_interval=1&l1_ttl=1"),
)
ROUNDS = 3
PER_SECOND = 10_000.0  # requests/s, simulated
CROWD = 100_000.0  # where a node is asked for the same key many times between two syncs; more than a store serves alone

_ALONE = """
import resource, sys, time
from ratesim.benchmarks.simulator import CANDIDATES, scenario_of
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.runner import run
scenario = scenario_of({requests}, {nodes}, {rate})
trace, profile = scenario.trace(), Profile.load()
run(scenario, CANDIDATES[{candidate}], profile=profile, trace=trace.head(1000), progress=False)
start = time.process_time()
run(scenario, CANDIDATES[{candidate}], profile=profile, trace=trace, progress=False).row()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((time.process_time() - start) / len(trace), peak / (2**30 if sys.platform == "darwin" else 2**20))
"""


def poisson_scenario(requests: int, nodes: int, rate: float) -> Scenario:
    """Make a scenario of Poisson arrivals at `rate` requests/s on 1000 zipf keys, of which a limit denies some."""
    return Scenario.of(
        {
            "workload": {"requests_per_second": rate, "keys": 1000, "duration": requests / rate},
            "limit": {"rate": "600/minute", "algorithm": "token_bucket"},
            "deployment": {"nodes": nodes},
        }
    )


def section() -> list[str]:
    """Return the lines of the report.

    It takes some twenty minutes, most of it for runs of ten million requests.
    """
    return [*_speed(), "", *_workers(), "", *_size()]


def _speed() -> list[str]:
    profile = Profile.load()
    best: dict[str, float] = {}
    events: dict[str, float] = {}
    played = {rate: _played(rate) for rate in (PER_SECOND, CROWD)}
    rows = [(candidate.name, candidate, PER_SECOND) for candidate in CANDIDATES]
    rows.append((f"{CANDIDATES[-1].name}, {CROWD:,.0f}/s", CANDIDATES[-1], CROWD))
    scenario, trace = played[PER_SECOND]
    requests = len(trace)

    def took(name: str, work: Callable[[], object], count: int = requests) -> None:
        start = time.process_time()
        work()
        best[name] = min(best.get(name, 1e9), (time.process_time() - start) / count)

    def simulate(name: str, candidate: Candidate, rate: float) -> None:
        asked, wanted = played[rate]
        events[name] = run(asked, candidate, profile=profile, trace=wanted, progress=False).events / len(wanted)

    run(scenario, CANDIDATES[0], profile=profile, trace=trace.head(1000), progress=False)  # compiles it all before
    for _ in range(ROUNDS):
        took("hops", lambda: bare_hops(requests))
        took("event", lambda: _bare_events(requests))
        took("acquire", lambda: _bare_acquires(scenario, trace))
        for name, candidate, rate in rows:
            took(name, lambda each=(name, candidate, rate): simulate(*each), len(played[rate][1]))  # type: ignore[misc]
    event, acquire, hops = best["event"] * 1e6, best["acquire"] * 1e6, best["hops"]
    lines = [
        f"simulator, {requests:,} requests on 8 nodes, {len(trace.keys):,} zipf keys; requests/s of a core, scored",
        f"  the parts: a SimPy event takes {event:.2f} us, MemoryStorage.acquire {acquire:.2f} us",
        f"  {'a SimPy process, two hops':<32} {1.0 / hops:>9,.0f}   what a request is at its simplest",
    ]
    for name, _, _ in rows:
        parts = best["acquire"] + events[name] * best["event"]
        mine = best[name]
        lines.append(
            f"  {name:<32} {1.0 / mine:>9,.0f}   {hops / mine:.2f} of that; {events[name]:.2f} events a request; "
            f"{parts / mine:.2f} of the speed of its parts ({1.0 / parts:,.0f})"
        )
    return lines


def _played(rate: float) -> tuple[Scenario, Trace]:
    scenario = poisson_scenario(1_000_000, 8, rate)
    return scenario, scenario.trace()


def bare_hops(count: int) -> None:
    """Let so many processes of bare SimPy wait twice each."""
    env = simpy.Environment()

    def hop() -> object:
        yield env.timeout(1.0)
        yield env.timeout(1.0)

    for _ in range(count):
        env.process(hop())  # type: ignore[arg-type]
    env.run()


def _bare_events(count: int) -> None:
    env = simpy.Environment()

    def wait() -> object:
        for _ in range(count):
            yield env.timeout(1.0)

    env.process(wait())  # type: ignore[arg-type]
    env.run()


def _bare_acquires(scenario: Scenario, trace: Trace) -> None:
    """Decide a trace on one storage, as fast as it goes."""
    storage = MemoryStorage(runtime=SimRuntime(simpy.Environment()), sequence=itertools.count(1).__next__)
    limit = scenario.limit.limit()

    async def ask() -> None:
        for key, cost, now in zip(memoryview(trace.key), memoryview(trace.cost), memoryview(trace.time), strict=True):  # type: ignore[arg-type]
            await storage.acquire(trace.keys[key], limit, cost, now)

    asyncio.run(ask())


def _workers() -> list[str]:
    scenario = poisson_scenario(200_000, 8, PER_SECOND)
    ratios, seeds = [], range(8)
    for _ in range(ROUNDS):
        took = []
        for processes in (1, 2):
            start = time.perf_counter()
            sweep(scenario, CANDIDATES[1:2], seeds, processes=processes, progress=False)
            took.append(time.perf_counter() - start)
        ratios.append(took[0] / took[1])
    said = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return [f"sweep, 8 runs of {200_000:,} requests, redis: two workers are {said} times as fast as one (start-up included)"]


def _size() -> list[str]:
    lines = [f"simulator, in a process of its own, {PER_SECOND:,.0f} requests/s"]
    # A hybrid of 1000 nodes asks its store for nearly every request: at a tenth of the size that is shown as well.
    for place, requests in enumerate((10_000_000, 10_000_000, 1_000_000, 1_000_000)):
        few, _ = _alone(1_000_000, 8, place)
        many, peak = _alone(requests, 1000, place)
        lines.append(
            f"  {CANDIDATES[place].name:<24} {requests:,} requests on 1000 nodes: {1.0 / many:>9,.0f}/s, {many / few:.2f} "
            f"times the cost of 1,000,000 on 8 nodes; peak {peak:.2f} GiB"
        )
    return lines


def _alone(requests: int, nodes: int, candidate: int) -> tuple[float, float]:
    """Measure the processor seconds of each request, and the peak memory in GiB, in a process of its own."""
    program = _ALONE.format(requests=requests, nodes=nodes, rate=PER_SECOND, candidate=candidate)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)
