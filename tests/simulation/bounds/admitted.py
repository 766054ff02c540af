"""What a run admitted, in the terms of docs/bounds.md: heaviest windows, what is above the refill, who was overtaken.

Used by the tests of the bounds; times are those at which requests were sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ratesim import Limit, Scenario, run
from ratesim.algorithms import bind
from ratesim.simulation.cost_model import profile
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.remote_storage import SimulatedStorage
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import EPOCH, Candidate
from traffic import Trace

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]

BUCKETS = ("token_bucket", "leaky_bucket", "gcra")
ALGORITHMS = (*BUCKETS, "fixed_window", "sliding_log", "sliding_window")
PERIOD = 8.0  # seconds, and EPOCH is a multiple of it
GRAIN = PERIOD / 512  # generated times are multiples of it, so that windows are exact to the bit
ROUNDING = 1e-9
SHIPPED = Profile.load(Path(profile.__file__).parent / "profiles" / "shipped.json")
DOCS = Path(__file__).parents[3] / "docs" / "bounds.md"

generated = settings(max_examples=examples(20))


def play(
    trace: Trace,
    storage: str,
    limit: Limit,
    nodes: int = 1,
    *faults: dict[str, Any],
    routing: str = "round_robin",
    network: str = "same_zone",
    seed: int = 1,
) -> RunResult:
    """A trace through a deployment, with the costs that ship with the package."""
    spec = {"rate": f"{limit.rate:g} per {limit.period:g} seconds", "algorithm": limit.algorithm, "burst": limit.burst}
    data = {
        "workload": {"requests_per_second": 1.0},
        "limit": {**spec, "options": dict(limit.options)},
        "deployment": {"nodes": nodes, "routing": routing, "network": network},
        "faults": list(faults),
    }
    # In SimPy, of whose storages `trips` hears.
    return run(Scenario.of(data), Candidate(name="c", storage=storage), seed, engine="simpy", trace=trace, profile=SHIPPED)


# -- what was admitted ------------------------------------------------------------------------------------------------


def by_key(result: RunResult) -> Iterator[tuple[Rows, Floats, Floats]]:
    """Of each key that has been admitted something: its admitted rows, their times and costs, in the order of time."""
    for key in np.unique(result.trace.key[result.allowed]):
        rows = np.flatnonzero(result.allowed & (result.trace.key == key))
        yield rows, result.trace.time[rows], result.trace.cost[rows]


def heaviest(time: Floats, cost: Floats, seconds: float) -> float:
    """The most cost in any half-open window of so many seconds; time in order."""
    if seconds <= 0 or not len(time):
        return 0.0
    total = np.concatenate([[0.0], np.cumsum(cost)])
    end = np.searchsorted(time - time[0], time - time[0] + seconds, side="left")
    return float((total[end] - total[:-1]).max())


def above_refill(time: Floats, cost: Floats, per_second: float) -> float:
    """The most that was admitted between two requests, both included, beyond a refill of so much a second."""
    worst = running = 0.0
    before = float(time[0]) if len(time) else 0.0
    for at, spent in zip(time.tolist(), cost.tolist(), strict=True):
        running = max(running - per_second * (at - before), 0.0) + spent
        worst, before = max(worst, running), at
    return worst


def against_its_bound(
    limit: Limit, time: Floats, cost: Floats, late: float = 0.0, limiters: int = 1
) -> list[tuple[float, float]]:
    """What one key was admitted, and what its algorithm may admit, in every way in which that is bounded.

    late: seconds that a decision may be taken after the time that it is counted at here. limiters: how many, each of which
    counts for itself.
    """
    rate, period = limit.rate * limiters, limit.period
    if limit.algorithm in BUCKETS:
        burst = rate if limit.burst is None else limit.burst * limiters
        return [(above_refill(time, cost, rate / period), burst + rate * late / period)]
    if limit.algorithm == "sliding_log":
        return [(heaviest(time, cost, period - late), rate)]
    found = [(heaviest(time, cost, period - late), 2 * rate)]
    if limit.algorithm == "sliding_window":
        k = bind(limit).params[2]
        found.append((heaviest(time, cost, period * (1 - 1 / k) - late), rate))
    return found


def own_limits_are_kept(result: RunResult) -> None:
    """Every node keeps the limit on what itself admits, so that N of them never admit more than N times the limit."""
    limit, late = result.scenario.limit.limit(), float(result.latency.max())
    for rows, time, cost in by_key(result):
        for node in np.unique(result.node[rows]):
            mine = result.node[rows] == node
            for admitted, bound in against_its_bound(limit, time[mine], cost[mine], late):
                assert admitted <= bound * (1 + ROUNDING)


def overtaken(result: RunResult) -> float:
    """The most seconds by which a request was sent before another of its key that was decided before it."""
    rows = np.flatnonzero(result.sequence > 0)
    rows = rows[np.argsort(result.sequence[rows])]
    most = 0.0
    for key in np.unique(result.trace.key[rows]):
        time = result.trace.time[rows[result.trace.key[rows] == key]]
        most = max(most, float((np.maximum.accumulate(time) - time).max()))
    return most


@contextmanager
def trips() -> Iterator[list[float]]:
    """The seconds that each read and each flush of a hybrid's L2 takes, there and back and in its queue."""
    taken: list[float] = []

    def timed(name: str) -> Any:
        original = getattr(SimulatedStorage, name)

        async def method(self: SimulatedStorage, *arguments: Any, **options: Any) -> Any:
            start = self.runtime.time()
            answer = await original(self, *arguments, **options)
            taken.append(self.runtime.time() - start)
            return answer

        return method

    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_state", "charge_many"):
            patch.setattr(SimulatedStorage, name, timed(name))
        yield taken


# -- what is asked ----------------------------------------------------------------------------------------------------


def asked(time: Any, key: Any = 0, cost: Any = 1.0, session: Any = None) -> Trace:
    """Requests at these seconds after EPOCH."""
    time = np.asarray(time, np.float64)
    key = np.broadcast_to(np.asarray(key, np.int64), time.shape)
    return Trace(EPOCH + time, key, [f"key-{i}" for i in range(int(key.max(initial=0)) + 1)], cost=cost, session=session)


@st.composite
def traffic(draw: st.DrawFn, costs: bool = False, periods: float = 3.0) -> Trace:
    """A few keys that ask in bursts, often right before or after an edge of a window, for some periods."""
    keys = draw(st.integers(1, 3))
    gaps = st.sampled_from([0, 1, 1, 2, 8, 511, 512, 513]) | st.integers(0, 300)
    bursts = draw(st.lists(st.tuples(gaps, st.integers(1, 16), st.integers(0, keys - 1)), min_size=2, max_size=30))
    now = draw(st.integers(0, 512))
    time, key = [now], [0]
    for gap, requests, whose in bursts:
        now += gap
        apart = 1 if gap % 3 else 0  # else all at once
        time += [now + i * apart for i in range(requests)]
        key += [whose] * requests
        now = time[-1]
        if now > periods * 512:
            break
    cost = (
        draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0]), min_size=len(time), max_size=len(time))) if costs else 1.0
    )
    return asked(np.array(time) * GRAIN, key, cost)


@st.composite
def limits(draw: st.DrawFn, algorithm: str) -> Limit:
    options = {"buckets": float(draw(st.sampled_from([1, 2, 4, 8])))} if algorithm == "sliding_window" else {}
    burst = draw(st.none() | st.sampled_from([1.0, 4.0, 20.0])) if algorithm in BUCKETS else None
    return Limit(float(draw(st.integers(1, 12))), PERIOD, algorithm, burst, options=options)


networks = st.sampled_from(["loopback", "same_zone", "cross_region", "mobile_edge"])
routings = st.sampled_from(["round_robin", "random", "least_outstanding"])


@st.composite
def eventual(draw: st.DrawFn, algorithm: str, *faults: dict[str, object], **options: str) -> tuple[RunResult, float]:
    """A run of a hybrid, and the longest trip to its L2 and back."""
    interval = draw(st.sampled_from([0.05, 0.25, 1.0]))
    given = {
        "sync_interval": interval,
        "l1_ttl": interval * draw(st.sampled_from([0.02, 0.5, 1.0, 1.0, 1.5, 4.0])),
        "sync_jitter": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "write": draw(st.sampled_from(["write_back", "write_back", "write_through"])),
        **options,
    }
    storage = "hybrid+redis://h?" + "&".join(f"{name}={value}" for name, value in given.items())
    how = {"routing": draw(routings), "network": draw(networks), "seed": draw(st.integers(0, 99))}
    nodes, limit = draw(st.integers(1, 6)), draw(limits(algorithm))
    with trips() as taken:
        result = play(draw(traffic()), storage, limit, nodes, *faults, **how)
    return result, max(taken, default=0.0)


# -- how near --------------------------------------------------------------------------------------------------------


def comes_near(bound: str, reached: float, of: float) -> None:
    """A workload made for it reaches at least 80 % of a bound, not more than all, and what the docs say it does."""
    share = reached / of
    assert 0.8 <= share <= 1 + ROUNDING, f"{bound}: {reached:g} of {of:g}"
    rows = re.findall(rf"^\| {re.escape(bound)} \|.*\| (\d+) % \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 1, f"docs/bounds.md has no row, or several, of the bound {bound!r}"
    assert abs(100 * share - float(rows[0])) < 1, f"{bound}: the docs say {rows[0]} %, not {share:.1%}"
