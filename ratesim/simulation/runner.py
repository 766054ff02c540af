"""`run`: one candidate through one scenario in simulated time."""

from __future__ import annotations

from math import inf
from numbers import Integral
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ratesim.progress import Progress, in_stage, progress_bar
from ratesim.safe_text import shorten_repr
from ratesim.servers import Server
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.backends import Fidelity, open_backend
from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.playback import play as play_in_simpy
from ratesim.simulation.engine.replay import ReplayResult
from ratesim.simulation.kernel.agreement import disagreement
from ratesim.simulation.kernel.kinds import AbortError, covers
from ratesim.simulation.kernel.kinds import play as play_compiled
from ratesim.simulation.kernel.readiness import WORTH, compile_for, is_compiled
from ratesim.simulation.results.accuracy import Accuracy, Comparison, compare_with_oracle, measure_accuracy
from ratesim.simulation.results.run_result import FaultAnswers, RunResult
from ratesim.simulation.scenario.names import CandidateLike, ScenarioLike, find_candidate, find_scenario
from ratesim.simulation.scenario.scenario import ScenarioError
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["Engine", "NotCompiledError", "RunResult", "checked_seed", "run"]

Engine = Literal["auto", "simpy", "compiled"]

TOO_SHORT = "compiling takes longer than so short a run; `ratesim compile` does it once for all"

T = TypeVar("T", bound=np.generic)


class NotCompiledError(ScenarioError):
    """The compiled engine was asked for and cannot play a run; `reason` says why."""

    def __init__(self, candidate: str, reason: str) -> None:
        super().__init__(f"engine `compiled` cannot run {candidate!r}: {reason}; use `auto` or `simpy`")
        self.reason = reason


def run(
    scenario: ScenarioLike,
    candidate: CandidateLike,
    seed: int | None = None,
    *,
    fidelity: Fidelity = "model",
    engine: Engine = "auto",
    profile: Profile | None = None,
    trace: Trace | None = None,
    server: Server | None = None,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> RunResult:
    """Replay the scenario's traffic against a candidate.

    Parameters
    ----------
    scenario
        Traffic, limit, deployment and faults; also the name of a scenario that ships, or a TOML file.
    candidate
        The storage and routing under test: a `Candidate`, its name in the scenario or the catalogue ("redis"), or a storage
        URL ("redis://localhost?pool_size=20").
    seed
        Seed of this replication; `scenario.seed` unless given.
    fidelity
        What decides behind the modeled network, in the same simulated time: the `model`, the real scripts on fakeredis
        (`fake`), or a real server (`live`); see `open_backend`.
    engine
        What simulates: SimPy (`simpy`), its compiled twin with the same numbers (`compiled`), or that one wherever it can
        (`auto`). Before the twin plays a kind of run, both have to agree on the first requests (`kernel.agreement`).
        `RunResult.engine` says which it was, and `engine_reason` why not the compiled one.
    profile
        Measured costs; this machine's or the shipped ones unless given.
    trace
        The scenario's trace for that seed, if it was made already.
    server
        The real server of the fidelity `live`; one is started for the run unless given.
    progress
        Called with the requests that are done, those in all, and a text. None shows a bar in a notebook or at a terminal,
        True elsewhere a line for each stage, False nothing.
    interruptible
        Whether Ctrl-C returns what was simulated so far, marked `partial`, instead of raising.

    Raises
    ------
    ConfigurationError, ScenarioError
        If the candidate or the scenario cannot be run, or not by the engine that is asked for.
    ServerError
        If the fidelity is `live` and the server fails.
    """
    scenario = find_scenario(scenario)
    candidate = find_candidate(scenario, candidate)
    scenario = scenario.with_algorithm(candidate.algorithm)
    seed = scenario.seed if seed is None else checked_seed(seed)
    trace = scenario.trace(seed) if trace is None else trace
    profile = profile or Profile.load()
    context = RunContext.of(scenario, candidate, profile, seed, trace)
    reason = _reason_for_simpy(context, engine, fidelity)
    with progress_bar(progress) as tell, open_backend(fidelity, scenario, candidate, context.sequence, server) as real:
        tell = in_stage(tell, f"simulating {candidate.name}")
        if reason is None:
            try:
                if backend_of(candidate) != "memory":
                    compile_for(inf, tell)
                reason = disagreement(context, play_compiled)
                if reason is None:
                    played = play_compiled(context, tell, interruptible)
            except AbortError as error:
                reason = str(error)
                context = RunContext.of(scenario, candidate, profile, seed, trace)
            if reason is not None and engine == "compiled":
                raise NotCompiledError(candidate.name, reason)
        if reason is not None:
            played = play_in_simpy(context, real, tell, interruptible)
    replayed = played.replayed
    compared = _compared(context, replayed)
    counted = _after_warmup(context, replayed) if scenario.warmup > 0.0 else replayed
    return RunResult(
        scenario=scenario,
        candidate=candidate,
        seed=seed,
        start_time=context.runtime.epoch,
        trace=counted.trace,
        **counted.outcome._asdict(),
        node=counted.node,
        accuracy=compared.accuracy,
        granted=_kept(compared.granted, counted),
        excess=None if compared.excess is None else _kept(compared.excess, counted),
        errors=replayed.errors,
        l2_operations=played.operations,
        store_busy_seconds=played.busy,
        concurrency=played.concurrency,
        bytes_per_key=_bytes_per_key(context),
        partial=replayed.partial,
        in_flight=replayed.in_flight,
        fault_answers=_fault_answers(context, replayed),
        stations=played.stations,
        bytes_to_store=played.bytes_to_store,
        bytes_from_store=played.bytes_from_store,
        redirects=played.redirects,
        slow_phases=played.slow_phases,
        node_bytes=played.node_bytes,
        store_bytes=_store_bytes(context, replayed.trace),
        events=played.events,
        fidelity=fidelity,
        server=real.server if real else "",
        engine="compiled" if reason is None else "simpy",
        engine_reason=reason or "",
    )


def _reason_for_simpy(context: RunContext, engine: Engine, fidelity: Fidelity) -> str | None:
    """Return why a run is played in SimPy; None where it is not. Raises ScenarioError."""
    if engine not in get_args(Engine):
        raise ScenarioError(f"engine {shorten_repr(engine)}: known are {', '.join(get_args(Engine))}")
    if engine == "simpy":
        return "SimPy was asked for"
    reason: str | None = f"fidelity `{fidelity}` decides outside of the model"
    if fidelity == "model":
        reason = covers(context.scenario, context.candidate, context.profile, context.trace)
    if engine == "compiled" and reason is not None:  # before a server is started
        raise NotCompiledError(context.candidate.name, reason)
    if reason is None and engine == "auto" and backend_of(context.candidate) != "memory":
        reason = None if len(context.trace) >= WORTH or is_compiled() else TOO_SHORT
    return reason


def checked_seed(seed: object) -> int:
    """Return a seed, also one of NumPy's integers; raises ScenarioError for anything else than a whole number from 0 on."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ScenarioError(f"seed {shorten_repr(seed)}: must be a whole number, 0 or more")
    return int(seed)


def _after_warmup(context: RunContext, replayed: ReplayResult) -> ReplayResult:
    """Keep the requests after the warm-up. Raises ScenarioError where there is none."""
    rows = replayed.trace.time >= context.warmup_end
    if not rows.any():
        if replayed.partial:
            raise KeyboardInterrupt
        seconds = replayed.trace.duration
        raise ScenarioError(f"warmup: it is not over before the last request, {seconds:g} s after the first")
    trace = replayed.trace.select(rows, "after a warm-up")
    return replayed._replace(trace=trace, outcome=replayed.outcome.only(rows), node=replayed.node[rows])


def _compared(context: RunContext, replayed: ReplayResult) -> Comparison:
    """Compare with the oracle, without failed requests."""
    trace, outcome = replayed.trace, replayed.outcome
    allowed, failed = outcome.allowed, outcome.failed
    columns = (trace.key, trace.time, trace.cost, allowed, _order(outcome.sequence))
    whole = not failed.any()
    if not whole:  # else nothing is copied: there may be ten million rows
        columns = tuple(each[~failed] for each in columns)  # type: ignore[assignment]
    skew = StorageURL.parse(context.candidate.storage).config.max_clock_skew
    found = compare_with_oracle(context.limit, *columns, since=context.warmup_end, max_clock_skew=skew)
    if whole:
        return found
    granted, excess = np.zeros(len(failed), bool), None
    granted[~failed] = found.granted
    if found.excess is not None:
        excess = np.zeros(len(failed))
        excess[~failed] = found.excess
    return Comparison(found.accuracy, granted, excess)


def _order(sequence: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place a request without a number, for which no store was asked, behind all that were decided before it came."""
    if (sequence > 0).all():
        return sequence
    return np.where(sequence > 0, sequence, np.maximum.accumulate(sequence))


def _fault_answers(context: RunContext, replayed: ReplayResult) -> FaultAnswers | None:
    """Let the requests without a decision through, and refuse them, while faults hold."""
    faults = context.scenario.effective_faults(context.candidate)
    if not faults:
        return None
    trace, outcome, epoch = replayed.trace, replayed.outcome, context.runtime.epoch
    rows = trace.time < epoch + max(each.start + each.duration for each in faults)
    since = max(epoch + min(each.start for each in faults), context.warmup_end)
    skew = StorageURL.parse(context.candidate.storage).config.max_clock_skew
    order = _order(outcome.sequence)

    def compared(admitted: NDArray[np.bool_]) -> Accuracy:
        columns = trace.key[rows], trace.time[rows], trace.cost[rows], admitted[rows], order[rows]
        return measure_accuracy(context.limit, *columns, since=since, max_clock_skew=skew)

    let_through = compared(outcome.allowed | outcome.failed)
    refused = compared(outcome.allowed & ~outcome.failed & (outcome.sequence > 0))
    return FaultAnswers(let_through.over_admission, refused.false_denial)


def _kept(column: NDArray[T], counted: ReplayResult) -> NDArray[T]:
    """Keep the last rows of a column, of the requests after the warm-up."""
    return column[len(column) - len(counted.trace) :]


def _bytes_per_key(context: RunContext) -> float:
    """Bytes that one key takes: in the store, and on the one node that knows it."""
    url, algorithm = StorageURL.parse(context.candidate.storage), context.limit.algorithm
    total = context.profile.backends[url.backend].bytes_per_key.get(algorithm, float("nan"))
    if url.hybrid is not None and url.hybrid.consistency != "strong":
        total += context.profile.backends["memory"].bytes_per_key.get(algorithm, float("nan"))
    return total


def _store_bytes(context: RunContext, trace: Trace) -> float:
    """Bytes of the shared store that holds every key of the trace; 0 without a store."""
    url = StorageURL.parse(context.candidate.storage)
    if url.backend == "memory":
        return 0.0
    backend = context.profile.backends[url.backend]
    return float(np.count_nonzero(np.bincount(trace.key))) * backend.bytes_per_key.get(context.limit.algorithm, float("nan"))
