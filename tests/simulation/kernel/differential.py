"""Two engines, one run: questions at random for each kind of candidate, and the first places where two results differ.

`python tests/simulation/kernel/differential.py 5_000_000 redis lease --longer 40` compares so many requests, of these kinds
or of all, in traces of 40 times the usual lengths.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import urlencode

import msgspec
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim import algorithms
from ratesim.simulation import runner
from ratesim.simulation.cost_model.profile import EVEN, BackendCosts, Cost, Profile, Stall
from ratesim.simulation.engine import node_memory
from ratesim.simulation.kernel.kinds import covers
from ratesim.simulation.kernel.readiness import compile_for
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.runner import Engine, NotCompiledError, run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

KINDS = ("memory", "redis", "redis cluster", "postgres", "strong", "eventual", "session", "lease")
NODES = (1, 2, 3, 8, 16)
ROUTINGS = ("round_robin", "random", "sticky", "key_hash", "least_outstanding")
NETWORKS = ("loopback", "same_zone", "cross_zone", "cross_region")
SIZES = (1, 7, 100, 300, 600, 1500)  # of a trace
GRID = 0.125  # seconds, which sums keep exactly
NODE_SECONDS = 600.0  # simulated of all nodes, which sync every 10 ms with nothing to do: 60,000 events of SimPy
MADE_BY = ("engine", "engine_reason")  # all that two engines may say differently

SHIPPED = Profile.shipped()


class Question(NamedTuple):
    """A run that either engine can make."""

    scenario: Scenario
    candidate: Candidate
    profile: Profile
    trace: Trace

    def answer(self, engine: Engine) -> RunResult:
        """Return the result of the run by an engine."""
        return run(self.scenario, self.candidate, engine=engine, profile=self.profile, trace=self.trace, progress=False)


# -- questions -------------------------------------------------------------------------------------------------------


def questions(kind: str, longer: int = 1) -> st.SearchStrategy[Question]:
    """Draw a run of a candidate of a kind. A seed decides all of it: drawn one by one, most choices would be the first."""
    return st.integers(0, 2**63 - 1).map(lambda seed: question(kind, seed, longer))


def question(kind: str, seed: int, longer: int = 1) -> Question:
    """Make a run of a candidate of a kind; with a trace of so many times the usual length, also what is rare."""
    rng = np.random.default_rng(seed)
    trace, rare = _trace(rng, longer), longer > 1
    nodes = _one(rng, *((*NODES, 60) if rare else NODES))
    if rare:
        trace = trace.head(int(np.searchsorted(trace.time, trace.time[0] + NODE_SECONDS / nodes, "right")))
    deployment: dict[str, Any] = {"nodes": nodes, "routing": _one(rng, *ROUTINGS)}
    if rng.random() < 0.5:
        deployment["network"] = _one(rng, *NETWORKS)
        deployment["loss"] = _one(rng, 0.0, 0.001, 0.05)
    scenario = Scenario.of(
        {
            "seed": int(rng.integers(100)),
            "warmup": _one(rng, 0.0, 0.0, 0.25, 0.5) * trace.duration,
            "workload": {"requests_per_second": 100.0, "keys": 10, "duration": 1.0},  # the trace stands in its place
            "limit": _limit(rng),
            "deployment": deployment,
        }
    )
    return Question(scenario, _candidate(rng, kind, RARE if rare else {}), _profile(rng), trace)


def _one(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _trace(rng: np.random.Generator, longer: int) -> Trace:
    """Make requests: rare or dense, in bursts of one time, stamped in seconds or exactly, of few keys or many."""
    n = longer * _one(rng, *SIZES)
    rate = _one(rng, 1.0, 50.0, 500.0, 5_000.0, 50_000.0, 500_000.0)
    burst = _one(rng, 1, 1, 3, 40)  # requests of one time, in the mean
    time = np.cumsum(rng.exponential(burst / rate, n) * (rng.random(n) < 1.0 / burst))
    grain = _one(rng, 0.0, 0.0, 0.001, 1.0, GRID)
    time = np.floor(time / grain) * grain if grain else time
    keys = _one(rng, 1, 2, 10, 100, 1000)
    key = (keys * rng.random(n) ** _one(rng, 1, 3)).astype(np.int64)
    cost = rng.choice(_one(rng, (1.0,), (1.0, 2.0), (0.0, 1.0, 0.5), (0.1, 7.3, 1e6, 0.0)), n)
    sessions = _one(rng, None, 1, 5, 1000)
    session = None if sessions is None else rng.integers(0, sessions, n)
    begin = _one(rng, 1.7e9, 1.7e9 + 0.123, 0.0, 59.5)
    return Trace(begin + time, key, [f"user:{i}" for i in range(keys)], cost=cost, session=session)


def _limit(rng: np.random.Generator) -> dict[str, Any]:
    """Make a limit by any algorithm."""
    algorithm, rate = _one(rng, *algorithms.names()), _one(rng, 1, 3, 20, 0.7, 1_000_000)
    limit = {"rate": f"{rate} per {_one(rng, 0.01, 0.5, 1, 10, 60)} seconds", "algorithm": algorithm}
    if algorithms.get(algorithm).rule.BURST:
        limit["burst"] = _one(rng, None, 0.5 * rate, rate, 4.0 * rate)
    if algorithm == "sliding_window":
        limit["options"] = {"buckets": _one(rng, 1, 2, 10)}
    return limit


SKEW = {"max_clock_skew": (0.001, 5.0)}
CLIENT = {**SKEW, "pool_size": (1, 2, 3, 10, 50), "max_batch": (1, 4, 128), "clock": ("client", "server")}
RARE = {**CLIENT, "command_timeout": (0.002, 0.05, 5.0)}  # of those that ask a store; a deadline that is reached is SimPy's
POSTGRES = {
    **CLIENT,
    "unlogged": ("true", "false"),
    "synchronous_commit": ("on", "off", "remote_apply"),
    "cleanup_interval": (0, 0.1, 60.0),
    "cleanup_batch_size": (1, 10, 1000),
    "partition": ("none", "hash:4", "time:1m", "time:1d"),
}
VIEWS = {
    "write": ("write_through", "write_back", "write_behind", "write_around"),
    "read": ("cache_aside", "read_through", "refresh_ahead"),
    "sync": ("deltas", "state"),
    "sync_interval": (0.01, 0.1, 1.0),
    "sync_jitter": (0.0, 1.0),
    "flush_batch": (2, 512),
    "linger": (0.001, 0.005),
    "l1_ttl": (0.05, 300.0),
    "refresh_after": (0.02, 60.0),
}
HYBRIDS = {"strong": {}, "eventual": VIEWS, "session": VIEWS, "lease": {"lease_ttl": (0.05, 1.0, 5.0)}}
STORES = ("redis://localhost", "redis+cluster://localhost", "postgresql://localhost")


def _candidate(rng: np.random.Generator, kind: str, rare: Mapping[str, Sequence[Any]]) -> Candidate:
    """Make a candidate of a kind, with some of the options that change what a run is, and of those that are rare."""
    if kind == "memory":
        return _with_options(rng, "memory://", SKEW)
    if kind == "redis":
        return _with_options(rng, "redis://localhost", {**CLIENT, **rare})
    if kind == "redis cluster":
        return _with_options(rng, "redis+cluster://localhost", {**CLIENT, **rare}, primaries=_one(rng, 1, 3, 4))
    if kind == "postgres":
        return _with_options(rng, "postgresql://localhost", {**POSTGRES, **rare}, replicas=_one(rng, None, 0, 1))
    return _with_options(rng, f"hybrid+{_one(rng, *STORES)}?consistency={kind}", {**HYBRIDS[kind], **rare})


def _with_options(
    rng: np.random.Generator, base: str, options: Mapping[str, Sequence[Any]], share: float = 0.5, **fields: Any
) -> Candidate:
    """Name a share of the options; the others keep their defaults."""
    query = urlencode({name: _one(rng, *values) for name, values in options.items() if rng.random() < share})
    return Candidate(name="c", storage=base + ("&" if "?" in base else "?") * bool(query) + query, **fields)


FREE: dict[str, Any] = {
    **dict.fromkeys(("client_cpu", "fixed", "item", "arrival", "turn"), 0.0),
    **dict.fromkeys(("alone", "cold", "commit")),
    "client": Cost(),
    "operations": {},
    "stalls": {},
    "speedup": {},
    "concurrency": 1,
    "client_pace": EVEN,
    "server_pace": EVEN,
}


def _profile(rng: np.random.Generator) -> Profile:
    """Make the profile that ships, or one in which parts of the model are off, or are of other sizes."""
    if rng.random() < 0.5:
        return SHIPPED
    if rng.random() < 0.3:  # nothing but the way takes time: requests of one grain meet at one moment, again and again
        return _free()
    off = {name: rng.random() < 0.5 for name in ("cold", "commit", "locks", "pace", "turn", "cores", "stalls", "client")}
    scale = _one(rng, 1.0, 0.0, 10.0)
    backends = {name: _changed(costs, off, scale) for name, costs in SHIPPED.backends.items()}
    if not off["cores"]:  # of the one server that has several
        speedup, concurrency = _one(rng, *CORES)
        backends["postgres"] = msgspec.structs.replace(backends["postgres"], speedup=speedup, concurrency=concurrency)
    return msgspec.structs.replace(SHIPPED, backends=backends, hybrids=_one(rng, SHIPPED.hybrids, {}))


def _free() -> Profile:
    """Make a profile in which nothing but the way takes time."""
    backends = {name: msgspec.structs.replace(costs, **FREE) for name, costs in SHIPPED.backends.items()}
    return msgspec.structs.replace(SHIPPED, backends=backends, hybrids={}, round_trip=2.0 * GRID)


# Cores that are shared, and places of a station.
CORES = [({1: 1.0, 2: 2.0}, 2), ({1: 1.0, 2: 1.3}, 1), ({1: 1.0, 2: 1.9, 4: 3.3, 8: 5.0}, 5), ({}, 3)]


def _changed(costs: BackendCosts, off: Mapping[str, bool], scale: float) -> BackendCosts:
    """Change the costs of a backend; a standby, which the profile that ships has not measured, is added."""
    changes: dict[str, Any] = {"fixed": scale * costs.fixed, "item": scale * costs.item}
    changes["standby"] = {name: Cost(fixed=2e-4, item=1e-5) for name in ("remote_write", "on", "remote_apply")}
    changes["stalls"] = {} if off["stalls"] else {"checkpoint": Stall(every=0.3, lasts=0.05, commit=3.0, service=2.0)}
    if off["cold"]:
        changes["cold"] = None
    if off["commit"]:
        changes["commit"] = None
    if off["locks"]:
        changes["locks"] = False
    if off["pace"]:
        changes |= {"client_pace": EVEN, "server_pace": EVEN}
    if off["turn"]:
        changes |= {"turn": 0.0, "arrival": 0.0}
    if off["cores"]:
        changes |= {"speedup": {}, "concurrency": 1}
    if off["client"]:
        changes["client"] = None
    return msgspec.structs.replace(costs, **changes)


# -- busy questions --------------------------------------------------------------------------------------------------

BUSY = 60  # requests, about
BUSY_VIEWS = {
    "sync_interval": (0.01, GRID),
    "sync_jitter": (0.0, 1.0),
    "flush_batch": (1, 2, 512),
    "linger": (0.001, GRID),
    "l1_ttl": (0.02, 2.0 * GRID, 300.0),
    "refresh_after": (0.01, GRID),
}
BUSY_SESSIONS = {
    **BUSY_VIEWS,
    "sync_interval": (GRID, 1.0),
    "linger": (0.03, 4.0 * GRID),
}  # they meet what is not flushed yet
BUSY_CLIENT = {"pool_size": (1, 2, 10), "max_batch": (1, 2, 128), "clock": ("client", "server")}
RATES = {"strong": (5, 20), "eventual": (5, 20), "session": (3, 8), "lease": (100, 400)}
BUSY_LEASES = {"lease_ttl": (2.0 * GRID, 1.0), "clock_tolerance": (0.0, 0.01)}


def busy_questions(kind: str) -> st.SearchStrategy[Question]:
    """Draw a busy run of a hybrid."""
    return st.integers(0, 2**63 - 1).map(lambda seed: busy_question(kind, seed))


def busy_question(kind: str, seed: int) -> Question:
    """Make a short run of a hybrid in which much happens at once: few keys and nodes, limits that are met, small options.

    Policies take turns: 24 seeds have all of them, with a profile in which nothing but the way takes time, and without.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    turn, place = divmod(seed, len(VIEWS["write"]))
    free = (turn + place) % 2 == 1
    trace = _busy_trace(rng, free)
    deployment: dict[str, Any] = {"nodes": _one(rng, 1, 2, 3), "routing": _one(rng, *ROUTINGS)}
    if kind == "session":
        deployment = {"nodes": _one(rng, 2, 3), "routing": _one(rng, "round_robin", "random", "least_outstanding")}
    if not free and rng.random() < 0.5:
        deployment["network"] = _one(rng, *NETWORKS)
    scenario = Scenario.of(
        {
            "seed": int(rng.integers(100)),
            "warmup": _one(rng, 0.0, 0.25) * trace.duration,
            "workload": {"requests_per_second": 100.0, "keys": 10, "duration": 1.0},  # the trace stands in its place
            "limit": _busy_limit(rng, kind),
            "deployment": deployment,
        }
    )
    options = {"strong": {}, "lease": BUSY_LEASES, "eventual": BUSY_VIEWS, "session": BUSY_SESSIONS}[kind]
    base = f"hybrid+{_one(rng, *STORES)}?consistency={kind}"
    if kind in ("eventual", "session"):
        base += f"&write={VIEWS['write'][place]}&read={VIEWS['read'][turn % len(VIEWS['read'])]}"
    candidate = _with_options(rng, base, {**options, **BUSY_CLIENT}, share=0.8)
    return Question(scenario, candidate, _free() if free else _profile(rng), trace)


def seldom_question() -> Question:
    """Make requests that come when nothing is left to flush: one as its view gets stale, and one that wakes the flushing up.

    Nothing but the way takes time: of 0.25 s, with flushes every 0.125 s.
    """
    trace = Trace(1.7e9 + np.array([0.0, 1.0, 1.75, 3.0]), np.zeros(4, np.int64), ["user:0"])
    scenario = Scenario.of(
        {
            "seed": 1,
            "workload": {"requests_per_second": 100.0, "keys": 10, "duration": 1.0},  # the trace stands in its place
            "limit": {"rate": "100 per 10 seconds", "algorithm": "token_bucket"},
            "deployment": {"nodes": 1},
        }
    )
    policies = f"write=write_back&sync_interval={GRID}&sync_jitter=0&l1_ttl={3.0 * GRID}"
    candidate = Candidate(name="c", storage=f"hybrid+redis://localhost?consistency=eventual&{policies}")
    return Question(scenario, candidate, _free(), trace)


def _busy_trace(rng: np.random.Generator, free: bool) -> Trace:
    """Make requests of few keys and sessions, as close as answers take; where nothing takes time on the grid of the way."""
    n = BUSY
    rate = _one(rng, 8.0, 40.0, 200.0) if free else _one(rng, 100.0, 1000.0, 10_000.0)
    time = np.cumsum(rng.exponential(1.0 / rate, n))
    time = np.floor(time / GRID) * GRID if free else time
    keys = _one(rng, 1, 2, 5)
    key = rng.integers(0, keys, n)
    cost = rng.choice(_one(rng, (1.0,), (1.0, 2.0), (0.1, 7.3, 0.7), (0.0, 1.0, 30.0)), n)
    session = rng.integers(0, _one(rng, 1, 4), n)
    return Trace(1.7e9 + time, key, [f"user:{i}" for i in range(keys)], cost=cost, session=session)


def _busy_limit(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """Make a limit that is met within the run; of views by algorithms whose states are of a fixed size."""
    names = [name for name in algorithms.names() if kind == "lease" or algorithms.get(name).variable_size is None]
    algorithm, rate = _one(rng, *names), _one(rng, *RATES[kind])
    limit = {"rate": f"{rate} per {_one(rng, 2.0 * GRID, 1, 10)} seconds", "algorithm": algorithm}
    if algorithms.get(algorithm).rule.BURST:
        limit["burst"] = _one(rng, None, 4.0 * rate)
    return limit


# -- comparison ------------------------------------------------------------------------------------------------------


def differences(reference: RunResult, other: RunResult) -> Iterator[str]:
    """Name each column, figure and station in which two runs differ, with the first place."""
    for field in dataclasses.fields(RunResult):
        name = field.name
        if name == "stations":
            yield from _station_differences(reference, other)
        elif name == "trace":
            if getattr(reference, name) != getattr(other, name):
                yield "trace: other requests"
        elif name not in MADE_BY:
            yield from _difference(name, getattr(reference, name), getattr(other, name))
    yield from _difference("row", reference.row(), other.row())


def _station_differences(reference: RunResult, other: RunResult) -> Iterator[str]:
    yield from _difference("stations", list(reference.stations), list(other.stations))
    for name in reference.stations.keys() & other.stations.keys():
        one, two = reference.stations[name], other.stations[name]
        for what in ("concurrency", "arrivals", "lost", "stays", "services", "until", "totals"):
            yield from _difference(f"stations[{name!r}].{what}", getattr(one, what), getattr(two, what))
        for what, mine, its in zip(one.bins._fields, one.bins, two.bins, strict=True):
            yield from _difference(f"stations[{name!r}].bins.{what}", mine, its)
        yield from _difference(f"stations[{name!r}].summary", one.summary(), two.summary())
        yield from _frame_differences(f"stations[{name!r}].series", one.series(), two.series())


def _frame_differences(name: str, one: pd.DataFrame, two: pd.DataFrame) -> Iterator[str]:
    yield from _difference(f"{name}.columns", list(one.columns), list(two.columns))
    for column in one.columns.intersection(two.columns):
        yield from _difference(f"{name}.{column}", one[column].to_numpy(), two[column].to_numpy())


def _difference(name: str, one: Any, two: Any) -> Iterator[str]:
    """Compare two values of one name by ==, and types too; nan equals nan."""
    if type(one) is not type(two):
        yield f"{name}: {one!r} is {type(one).__name__}, and {two!r} is {type(two).__name__}"
    elif isinstance(one, np.ndarray):
        if one.dtype != two.dtype or one.shape != two.shape:
            yield f"{name}: {one.dtype} {one.shape}, and {two.dtype} {two.shape}"
            return
        unequal = (one != two) & ~((one != one) & (two != two))  # nan is itself here
        if unequal.any():
            first = int(np.flatnonzero(unequal)[0])
            yield f"{name}[{first}]: {one[first]!r}, and {two[first]!r}; {int(unequal.sum())} of {len(one)} differ"
    elif isinstance(one, dict):
        if list(one) != list(two):
            yield f"{name}: {list(one)}, and {list(two)}"
        for key in one.keys() & two.keys():
            yield from _difference(f"{name}[{key!r}]", one[key], two[key])
    elif one != two and not (one != one and two != two):
        yield f"{name}: {one!r}, and {two!r}"


# -- many questions --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Played:
    """How many runs of a kind were compared, with their requests, and why others were not."""

    runs: int = 0
    requests: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    given_up: Counter[str] = dataclasses.field(default_factory=Counter)


def shortened(question: Question) -> Question:
    """Return the same with fewer requests, as long as the engines differ."""
    half = question._replace(trace=question.trace.head(len(question.trace) // 2))
    if len(half.trace) and next(differences(half.answer("simpy"), half.answer("auto")), None):
        return shortened(half)
    return question


def compared(kind: str, scope: settings, longer: int = 1, busy: bool = False) -> Played:
    """Compare both engines on questions of a kind, or on busy ones. Raises AssertionError with the first differences."""
    compile_for(inf)
    played = Played()

    @patch.object(runner, "disagreement", lambda *_: None)  # it would hide a difference behind SimPy
    @patch.object(node_memory, "SAMPLE", 10)
    @scope
    @given(busy_questions(kind) if busy else questions(kind, longer))
    def compare(question: Question) -> None:
        reason = covers(*question)
        if reason is not None:
            played.refused[reason] += 1
            return
        try:
            other = question.answer("compiled")
        except NotCompiledError as error:
            played.given_up[error.reason] += 1
            return
        found = list(differences(question.answer("simpy"), other))
        assert not found, f"{shortened(question)!r}\n" + "\n".join(found)
        played.runs += 1
        played.requests += len(question.trace)

    compare()
    return played


def main() -> None:
    """Compare so many requests, the same number of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=int)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"some of {', '.join(KINDS)}; all unless given")
    parser.add_argument("--longer", type=int, default=1, help="times the usual lengths of traces")
    asked = parser.parse_args()
    runs = max(asked.requests * len(SIZES) // (asked.longer * sum(SIZES)) // len(asked.kinds), 1)
    total = 0
    for kind in asked.kinds:
        scope = settings(max_examples=runs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        played = compared(kind, scope, asked.longer)
        total += played.requests
        print(f"{kind}: {played}", flush=True)
    print(f"{total:,} requests compared, 0 differences")


if __name__ == "__main__":
    main()
