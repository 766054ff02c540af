"""The benchmark of the two engines: requests per second of one core, compiled and in SimPy, beside bare SimPy.

Speeds are by processor time and scored, with the row of results. All take turns within one process, and the best of some
rounds counts, because other work on the machine only slows. Code is compiled before. Where a crowd is more than a store
serves, deadlines are reached, and SimPy plays the run.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ratesim.benchmarks.simulator import bare_hops, poisson_scenario
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.runner import Engine, NotCompiledError, run
from ratesim.simulation.scenario.names import find_scenario
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

__all__ = ["section"]

EVENTUAL = "hybrid+redis://localhost?consistency=eventual&write=write_back"
CANDIDATES = (
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://localhost"),
    Candidate(name="redis cluster", storage="redis://localhost?cluster_mode=true"),
    Candidate(name="postgres", storage="postgresql://localhost"),
    Candidate(name="hybrid strong", storage="hybrid+redis://localhost?consistency=strong&write=write_through"),
    Candidate(name="hybrid eventual 1 s", storage=f"{EVENTUAL}&sync_interval=1&l1_ttl=1"),
    Candidate(name="hybrid session", storage="hybrid+redis://localhost?consistency=session"),
    Candidate(name="hybrid lease", storage="hybrid+redis://localhost?consistency=lease"),
)
ENGINES: tuple[Engine, Engine] = ("compiled", "simpy")
ROUNDS = 3
REQUESTS = 1_000_000
SHARE = 20  # of the requests are played in SimPy: one in so many
CALM, CROWD = 10_000.0, 100_000.0  # requests/s, simulated


class Played(NamedTuple):
    """A trace in a scenario, by a name."""

    name: str
    scenario: Scenario
    trace: Trace


def section() -> list[str]:
    """Return the lines of the report. It takes some ten minutes."""
    profile = Profile.load()
    best: dict[tuple[str, str, Engine], float] = {}
    refused: dict[tuple[str, str], str] = {}
    traffics = [_poisson(CALM), _poisson(CROWD), _quickstart()]
    hops = 1e9
    for turn in range(ROUNDS + 1):  # the first compiles
        start = time.process_time()
        bare_hops(REQUESTS // SHARE)
        hops = min(hops, (time.process_time() - start) / (REQUESTS // SHARE))
        for played in traffics:
            for candidate in CANDIDATES:
                if (candidate.name, played.name) in refused:
                    continue
                try:
                    for engine in ENGINES:
                        key = candidate.name, played.name, engine
                        best[key] = min(best.get(key, 1e9), _took(played, candidate, engine, profile, turn))
                except NotCompiledError as error:
                    refused[candidate.name, played.name] = error.reason
    lines = [
        f"the two engines, {REQUESTS:,} requests on 8 nodes (SimPy: one in {SHARE} of them); requests/s of a core, scored",
        f"  {'bare SimPy: a process, two hops':<34} {1.0 / hops:>12,.0f}",
    ]
    for played in traffics:
        lines.append(f"  {played.name}")
        for candidate in CANDIDATES:
            if reason := refused.get((candidate.name, played.name)):
                lines.append(f"    {candidate.name:<32} {'SimPy plays it':>14}: {reason}")
                continue
            compiled, simpy = (best[candidate.name, played.name, engine] for engine in ENGINES)
            lines.append(
                f"    {candidate.name:<32} {1.0 / compiled:>12,.0f}   {simpy / compiled:.0f} times SimPy "
                f"({1.0 / simpy:,.0f}), {hops / compiled:.1f} times bare SimPy"
            )
    return lines


def _took(played: Played, candidate: Candidate, engine: Engine, profile: Profile, turn: int) -> float:
    """Return the processor seconds of a request; the first turn is a short one."""
    count = len(played.trace) // (1 if engine == "compiled" else SHARE)
    trace = played.trace.head(count if turn else min(count, 5000))
    start = time.process_time()
    run(played.scenario, candidate, engine=engine, profile=profile, trace=trace, progress=False).row()
    return (time.process_time() - start) / len(trace) if turn else 1e9


def _poisson(rate: float) -> Played:
    scenario = poisson_scenario(REQUESTS, 8, rate)
    return Played(f"Poisson, {rate:,.0f}/s, 1,000 zipf keys", scenario, scenario.trace())


def _quickstart() -> Played:
    """Repeat the quickstart's traffic."""
    scenario = find_scenario("quickstart")
    trace = scenario.trace()
    factor = REQUESTS / len(trace)
    workload = scenario.workload.model_copy(update={"duration": scenario.workload.duration * factor})
    deployment = scenario.deployment.model_copy(update={"nodes": 8})
    longer = scenario.model_copy(update={"workload": workload, "deployment": deployment})
    return Played("the quickstart's traffic, longer", longer, longer.trace())
