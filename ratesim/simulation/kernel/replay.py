"""`replay`: plays a run whose requests ask a store, and gives the figures to its cluster as `engine.replay` does."""

from __future__ import annotations

from math import inf

import numpy as np

from ratesim.errors import KeyRefusedError
from ratesim.progress import Progress
from ratesim.simulation.cost_model.profile import Profile, cluster_costs
from ratesim.simulation.engine.cluster import build_cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.event_loop import run_until_done
from ratesim.simulation.engine.playback import Playback, playback_of
from ratesim.simulation.engine.replay import GRACE, ReplayResult, answered_part
from ratesim.simulation.kernel.assembly import PLACES, FullError, World
from ratesim.simulation.kernel.compilation import compiled_kernel, compiled_world
from ratesim.simulation.kernel.rule_functions import growth_reason
from ratesim.simulation.network.load_balancer import Router
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL
from ratesim.storage.base import check_identifier
from traffic import Trace

__all__ = ["replay", "replay_reason"]

GROWTH = 8  # times the room that was too small


def replay_reason(scenario: Scenario, candidate: Candidate, profile: Profile, trace: Trace) -> str | None:
    """Return why a run that asks a store has to be played by SimPy; None if it does not.

    Parameters
    ----------
    scenario, candidate, profile, trace
        As for `covers`.
    """
    backend, topology = StorageURL.parse(candidate.storage).backend, scenario.servers(candidate)
    costs = cluster_costs(profile) if topology.kind == "cluster" else profile.backends[backend]
    if topology.primaries > 1 and (costs.concurrency > 1 or len(costs.speedup) > 1):
        return "several primaries with several cores each are not compiled"
    if not all(map(_is_accepted, trace.keys)):
        return "a key is refused"
    return growth_reason(scenario.limit.limit())


def _is_accepted(identifier: str) -> bool:
    try:
        return identifier.isascii() or bool(check_identifier(identifier))
    except KeyRefusedError:
        return False


def replay(context: RunContext, progress: Progress | bool | None = None, interruptible: bool = False) -> Playback:
    """Play a run to its end.

    Parameters
    ----------
    context, progress, interruptible
        As for the `play` of the engine.

    Raises
    ------
    AbortError
        Something happens that only SimPy plays.
    """
    places = PLACES
    while True:
        try:
            return _play(context, progress, interruptible, places)
        except FullError:
            places *= GROWTH


def _play(context: RunContext, progress: Progress | bool | None, interruptible: bool, places: int) -> Playback:
    cluster, trace = build_cluster(context), context.trace
    router = Router(context.known, context.routing, context.scenario.deployment.nodes, context.seed)
    world = World(context, cluster, router, places, compiled_world, compiled_kernel())
    due = trace.time - context.runtime.epoch
    partial = run_until_done(world, due, progress, interruptible, None, world.last_answer, GRACE)
    events = world.close(world.now if partial else inf)
    result = ReplayResult(trace, world.outcome(), np.frombuffer(router.node, np.int16), {}, partial, in_flight=0)
    if partial:
        result = answered_part(result, context, world.now)
    return playback_of(cluster, result, world.bytes(), events + len(context.known))
