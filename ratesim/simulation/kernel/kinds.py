"""The kinds of candidates that the kernel plays: `covers` says whether it can play a run, and `play` plays it."""

from __future__ import annotations

from ratesim.limit import LARGEST, LATEST, SMALLEST
from ratesim.progress import Progress
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.playback import Playback
from ratesim.simulation.kernel.assembly import AbortError
from ratesim.simulation.kernel.hybrid_assembly import hybrid_reason
from ratesim.simulation.kernel.memory import memory_reason, play_memory
from ratesim.simulation.kernel.replay import replay, replay_reason
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from traffic import Trace

__all__ = ["AbortError", "covers", "play"]


def covers(scenario: Scenario, candidate: Candidate, profile: Profile, trace: Trace) -> str | None:
    """Return None where the kernel can play a run, or one line with the reason why only SimPy can.

    Parameters
    ----------
    scenario, candidate, profile, trace
        The run; the scenario has the candidate's algorithm.
    """
    if scenario.faults:
        return "the scenario has faults"
    if scenario.clients(trace) is not None:
        return "clients react to decisions"
    if len(trace) and not (trace.time[0] >= 0.0 and trace.time[-1] <= LATEST):
        return "a time is out of bounds"
    if not ((trace.cost == 0.0) | ((trace.cost >= SMALLEST) & (trace.cost <= LARGEST))).all():
        return "a cost is out of bounds"
    kind, config = backend_of(candidate), StorageURL.parse(candidate.storage).config
    if kind in ("redis", "postgres"):
        return replay_reason(scenario, candidate, profile, trace)
    if kind == "memory":
        return memory_reason(config, scenario.limit.limit(), trace)
    return hybrid_reason(scenario, candidate, trace) or replay_reason(scenario, candidate, profile, trace)


def play(context: RunContext, progress: Progress | bool | None = None, interruptible: bool = False) -> Playback:
    """Play a run that is covered.

    Parameters
    ----------
    context, progress, interruptible
        As for the `play` of the engine.

    Raises
    ------
    AbortError
        Something happens that only SimPy can decide, which has to play the run from its start, with another context.
    """
    if backend_of(context.candidate) == "memory":
        return play_memory(context, progress, interruptible)
    return replay(context, progress, interruptible)
