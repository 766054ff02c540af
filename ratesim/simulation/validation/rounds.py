"""The live side of a validation: rounds of short replays, in a process of its own.

A round measures the costs of every candidate, finds the rate at which it saturates, and replays Poisson arrivals at shares
of that rate. Candidates and loads are interleaved in a random order, so that a slow minute of the machine meets all of them.
What is found is appended to a file at once. So nothing is lost if the process ends early.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import RatesimError, require_all
from ratesim.limit import Limit
from ratesim.simulation.cost_model.cost_fit import fit
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.simulation.cost_model.stamps import stamped
from ratesim.simulation.cost_model.survey import Target, survey, warm_up
from ratesim.simulation.cost_model.target_server import open_target
from ratesim.simulation.validation.comparison import SATURATION
from ratesim.simulation.validation.covariates import Covariates, Meter, causes, covariates_of, read_samples, sampled
from ratesim.simulation.validation.segments import live_segments
from ratesim.storage.remote.operations import Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Poisson, Trace, Workload, Zipf, replay
from traffic.live_replay import LiveResult

__all__ = ["LOADS", "RATE", "Calibrated", "Candidate", "Entry", "Failed", "Plan", "Replayed"]
__all__ += ["disturbances", "kept_rounds", "measure_rounds", "paces", "read_found", "trace_of"]

SECONDS = {0.1: 1.0, 0.3: 0.7, 0.6: 0.5, 0.85: 0.5}  # of a replay, by its share of the saturation throughput
LOADS = tuple(SECONDS)
RATE = 500  # requests/s that the limit admits of a key: the busiest keys are denied now and then
KEYS = Zipf(1000, 1.0)
LAST = 5  # saturations, the fastest of which is overloaded next
OVERLOAD = 1.7  # of its throughput; with all requests at once batches would be larger than ever under load
OVERLOAD_REQUESTS = 5000
AT_ONCE = 1e6  # requests/s, more than any of them serves
EFFORT = 0.3  # of the measurement of the costs
PATIENCE = 60.0  # seconds that one measurement of a candidate may take


@dataclass(frozen=True)
class Candidate:
    """A server that is measured, and whether its answers wait for the disk."""

    name: str
    url: str = field(repr=False)
    pids: tuple[int, ...]
    durable: bool


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    candidates : tuple[Candidate, ...]
        The candidates.
    rounds : int
        Rounds to be kept of each candidate and load.
    ends : float
        The time.monotonic() at which no round begins any more.
    effort : float
        Scales the length of everything.
    seed : int
        Of the order and of the traffic.
    cores : tuple[int, ...]
        Cores whose pace is sampled; none where they are not known.
    """

    candidates: tuple[Candidate, ...]
    rounds: int
    ends: float
    effort: float = 1.0
    seed: int = 6
    cores: tuple[int, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """The costs of a candidate in a round; times by perf_counter."""

    candidate: str
    round: int
    costs: BackendCosts
    began: float
    ended: float
    steal: float
    others: float


@dataclass(frozen=True)
class Replayed:
    """One live replay.

    Attributes
    ----------
    candidate, round, load : str, int, float
        Which; the load is a share of the saturation throughput, SATURATION for all at once.
    rate, seconds, seed : float, float, int
        Of the trace, see `trace_of`.
    latency : NDArray[np.float64]
        Seconds.
    throughput : float
        Requests/s.
    admitted, swapped : int
        Admitted requests, and requests that may have changed places.
    segments : dict[str, float]
        Medians of the segments of a request, see `segments.SEGMENTS`.
    batch : float
        Mean requests of a batch.
    began, ended, steal, others : float
        When, by perf_counter, and the covariates of the whole machine.
    """

    candidate: str
    round: int
    load: float
    rate: float
    seconds: float
    seed: int
    latency: NDArray[np.float64]
    throughput: float
    admitted: int
    swapped: int
    segments: dict[str, float]
    batch: float
    began: float
    ended: float
    steal: float
    others: float


@dataclass(frozen=True)
class Failed:
    """A candidate that is measured no longer, and why."""

    candidate: str
    why: str


Entry = Calibrated | Replayed | Failed
E = TypeVar("E", Calibrated, Replayed, Failed)


def trace_of(rate: float, seconds: float, seed: int) -> Trace:
    """Make the traffic of a replay: Poisson arrivals on zipf keys."""
    return Workload(Poisson(rate), KEYS, seconds, start=1.7e9).trace(np.random.default_rng(seed))


async def measure_rounds(plan: Plan, found: Path, samples: Path) -> None:
    """Measure rounds until enough of each load are kept, or the time is over, or no candidate is left.

    Parameters
    ----------
    plan : Plan
        What.
    found : Path
        File that `Calibrated`, `Replayed` and `Failed` are appended to, see `read_found`.
    samples : Path
        File of the sampler, see `covariates.read_samples`.
    """
    with sampled(samples, plan.cores) as sampler:
        await _Rounds(plan, found, samples, sampler).run()


def read_found(path: Path) -> list[Entry]:
    """Read what `measure_rounds` has appended; an entry that is not complete is left out."""
    entries = []
    if path.exists():
        with path.open("rb") as file:
            while True:
                try:
                    entries.append(pickle.load(file))  # noqa: S301 - our own process wrote it
                except (EOFError, pickle.UnpicklingError):
                    break
    return entries


def disturbances(
    entries: Sequence[Calibrated | Replayed | Failed], samples: NDArray[np.float64]
) -> dict[int, tuple[str, ...]]:
    """Say of each replay, by its place in `entries`, what was wrong with the machine.

    A replay whose costs were measured on a disturbed machine is named with them. Only covariates are looked at.
    """
    costs: dict[tuple[str, int], Covariates] = {}
    found = {}
    for place, each in enumerate(entries):
        if isinstance(each, Failed):
            continue
        seen = covariates_of(samples, each.began, each.ended, each.steal, each.others)
        if isinstance(each, Calibrated):
            costs[each.candidate, each.round] = seen
        else:
            reference = costs[each.candidate, each.round]
            at_costs = [f"{cause} while the costs were measured" for cause in causes(reference, reference)]
            found[place] = (*causes(seen, reference), *at_costs)
    return found


def paces(
    entries: Sequence[Calibrated | Replayed | Failed], samples: NDArray[np.float64], cores: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """Return how much longer than usual work took on each of these cores, by the place of the entry.

    Usual is the median while the costs were measured. A pace that is not known counts as usual.
    """
    seen = {
        place: covariates_of(samples, each.began, each.ended).pace
        for place, each in enumerate(entries)
        if not isinstance(each, Failed)
    }
    found: dict[int, tuple[float, ...]] = {}
    at_costs = [pace for place, pace in seen.items() if isinstance(entries[place], Calibrated)]
    usual = {core: np.nanmedian([pace[core][1] for pace in at_costs if core in pace] or [np.nan]) for core in cores}
    for place, pace in seen.items():
        ratios = [pace.get(core, (np.nan,) * 3)[1] / usual[core] for core in cores]
        found[place] = tuple(float(ratio) if np.isfinite(ratio) else 1.0 for ratio in ratios)
    return found


@dataclass
class _Open:
    """A candidate under measurement."""

    candidate: Candidate
    stack: AsyncExitStack
    target: Target
    storage: RemoteStorage
    capacities: deque[float]  # requests/s at which it saturated last


class _Rounds:
    def __init__(self, plan: Plan, found: Path, samples: Path, sampler: int) -> None:
        self._plan, self._found, self._samples = plan, found, samples
        self._pids = [sampler, *(pid for each in plan.candidates for pid in each.pids)]
        self._open: dict[str, _Open] = {}
        self._entries: list[Entry] = []
        self._rng = np.random.default_rng(plan.seed)

    async def run(self) -> None:
        try:
            for candidate in self._plan.candidates:
                await self._attempt(candidate, self._start(candidate))
            number, took = 0, 0.0
            while missing := self._missing():
                if number and time.monotonic() + took > self._plan.ends:
                    break
                began = time.monotonic()
                for name in self._rng.permutation(list(missing)).tolist():
                    await self._attempt(self._open[name].candidate, self._measure(self._open[name], number, missing[name]))
                number, took = number + 1, time.monotonic() - began
        finally:
            for each in list(self._open.values()):
                await self._attempt(each.candidate, each.stack.aclose())

    async def _measure(self, opened: _Open, number: int, loads: Sequence[float]) -> None:
        """Measure the costs of a candidate, the rate at which it saturates, and replays at some loads in a random order."""
        await self._calibrate(opened, number)
        effort = self._plan.effort
        rate = OVERLOAD * max(opened.capacities)
        saturated = await self._replay(opened, number, SATURATION, rate, effort * OVERLOAD_REQUESTS / rate)
        opened.capacities.append(saturated.throughput)
        for load in self._rng.permutation([load for load in loads if load != SATURATION]).tolist():
            await self._replay(opened, number, load, load * saturated.throughput, effort * SECONDS[load])

    async def _start(self, candidate: Candidate) -> None:
        async with AsyncExitStack() as stack:
            whole = (await stack.enter_async_context(open_target(candidate.url))).target
            target = replace(whole, durable=whole.durable if candidate.durable else None, unlogged=None)
            storage = whole.durable if candidate.durable and whole.durable else whole.storage
            await warm_up(target)
            trace = trace_of(AT_ONCE, self._plan.effort * OVERLOAD_REQUESTS / AT_ONCE, 0)
            for _ in range(2):  # the first time is slow
                result, _, _ = await _run(storage, trace)
                await _forget(storage, trace)
            capacities = deque([len(trace) / float(result.finished.max())], LAST)
            self._open[candidate.name] = _Open(candidate, stack.pop_all(), target, storage, capacities)

    async def _calibrate(self, opened: _Open, number: int) -> None:
        name = opened.candidate.name
        meter, began = Meter(self._pids), time.perf_counter()
        costs = fit(opened.target, [await survey(opened.target, EFFORT * self._plan.effort, number)])
        self._keep(Calibrated(name, number, costs, began, time.perf_counter(), *meter.shares()))

    async def _replay(self, opened: _Open, number: int, load: float, rate: float, seconds: float) -> Replayed:
        seed = int(self._rng.integers(1 << 31))
        trace = trace_of(rate, seconds, seed)
        meter, began = Meter(self._pids), time.perf_counter()
        result, segments, batch = await _run(opened.storage, trace)
        ended, shares = time.perf_counter(), meter.shares()
        await _forget(opened.storage, trace)
        return self._keep(
            Replayed(
                opened.candidate.name,
                number,
                load,
                rate,
                seconds,
                seed,
                result.latency,
                len(trace) / float(result.finished.max()),
                sum(decision.allowed for decision in result.results),
                _count_overtaken(trace, result),
                segments,
                batch,
                began,
                ended,
                *shares,
            )
        )

    async def _attempt(self, candidate: Candidate, work: Any) -> None:
        """Do a piece of work for a candidate; one that fails is measured no longer, and the others are."""
        try:
            async with asyncio.timeout(PATIENCE):
                await work
        except (RatesimError, OSError) as error:  # a TimeoutError is an OSError
            why = " ".join(str(error).split()) or f"it gave no answer for {PATIENCE:g} s"
            self._keep(Failed(candidate.name, why))
            if opened := self._open.pop(candidate.name, None):
                await self._attempt(candidate, opened.stack.aclose())

    def _keep(self, entry: E) -> E:
        self._entries.append(entry)
        with self._found.open("ab") as file:
            pickle.dump(entry, file)
        return entry

    def _missing(self) -> dict[str, list[float]]:
        """List the loads by candidate of which not enough rounds are kept yet."""
        kept = kept_rounds(self._entries, read_samples(self._samples))
        missing = {
            name: [load for load in (SATURATION, *LOADS) if kept[name, load] < self._plan.rounds] for name in self._open
        }
        return {name: loads for name, loads in missing.items() if loads}


def kept_rounds(entries: Sequence[Entry], samples: NDArray[np.float64]) -> Counter[tuple[str, float]]:
    """Count the kept replays by candidate and load."""
    kept: Counter[tuple[str, float]] = Counter()
    for place, wrong in disturbances(entries, samples).items():
        each = entries[place]
        if isinstance(each, Replayed) and not wrong:
            kept[each.candidate, each.load] += 1
    return kept


async def _run(storage: RemoteStorage, trace: Trace) -> tuple[LiveResult, dict[str, float], float]:
    """Replay a trace; return what came, the segments of a request, and the mean requests of a batch."""
    limit = Limit.parse(f"{RATE}/second")
    names = [trace.keys[key] for key in trace.key.tolist()]
    costs, times = trace.cost.tolist(), trace.time.tolist()
    zero = 0.0

    def send(i: int) -> Any:
        nonlocal zero
        if i == 0:
            zero = time.perf_counter()
        return storage.acquire(names[i], limit, costs[i], times[i])

    with stamped(storage) as stamps:
        before = storage.client.batches
        result = await replay(trace, send)
    if result.errors:
        raise next(error for error in result.results if isinstance(error, Exception))
    since = float(result.started[0]) - zero  # from perf_counter to the replay's own time
    segments = live_segments(result, stamps.written + since, stamps.read + since)
    return result, segments, len(trace) / max(storage.client.batches - before, 1)


async def _forget(storage: RemoteStorage, trace: Trace) -> None:
    """Remove the states of a trace: every replay begins with none."""
    require_all(await storage.client.submit_all([Reset(name) for name in trace.keys]))


def _count_overtaken(trace: Trace, result: LiveResult) -> int:
    """Count requests that were answered before an earlier one of the same key."""
    order = np.lexsort((np.arange(len(trace)), trace.key))
    same = trace.key[order][1:] == trace.key[order][:-1]
    return int(np.count_nonzero(same & (np.diff(result.finished[order]) < 0)))
