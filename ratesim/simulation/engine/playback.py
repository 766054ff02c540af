"""`Playback`: what a simulated run leaves behind, whichever engine made it, and `play`, which makes it in SimPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.progress import Progress
from ratesim.simulation.engine.cluster import Cluster, build_cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.replay import ReplayResult, replay
from ratesim.simulation.network.wire_size import Backend
from ratesim.simulation.queueing.station_stats import StationStats
from ratesim.simulation.results.run_result import SlowPhase

__all__ = ["Playback", "play", "playback_of"]


class Playback(NamedTuple):
    """All that an engine says about a run. The oracle's figures, and those of the profile, are added by `run`.

    Attributes
    ----------
    replayed
        The requests and their answers, with the warm-up.
    stations
        The statistics of the stations by name, closed.
    operations, busy, concurrency
        Operations of the store and its busy seconds, after the warm-up, and the number that it serves at once.
    bytes_to_store, bytes_from_store
        Bytes on the wire after the warm-up.
    redirects
        Redirects that the nodes' clients followed, the warm-up included: MOVED, and ASK.
    slow_phases
        When the store was slow by its own work.
    node_bytes
        Bytes of each node's own entries at the end, shape (nodes,).
    events
        Simulated moments: arrivals of requests, and SimPy's events.
    """

    replayed: ReplayResult
    stations: dict[str, StationStats]
    operations: int
    busy: float
    concurrency: int
    bytes_to_store: int
    bytes_from_store: int
    redirects: tuple[int, int]
    slow_phases: tuple[SlowPhase, ...]
    node_bytes: NDArray[np.int64]
    events: int


def play(
    context: RunContext,
    backing: Backend | None = None,
    progress: Progress | bool | None = None,
    interruptible: bool = False,
) -> Playback:
    """Play a run in SimPy.

    Parameters
    ----------
    context
        The run, at simulated time 0.
    backing
        What decides behind the modeled network; the in-memory model unless given.
    progress, interruptible
        As for `run`.

    Raises
    ------
    ConfigurationError, ScenarioError
        If the storage URL or the network cannot be used.
    """
    cluster = build_cluster(context, backing)
    replayed = replay(context, cluster, progress, interruptible)
    node_bytes = cluster.memory()
    return playback_of(cluster, replayed, node_bytes, context.env.scheduled() + len(context.known))


def playback_of(cluster: Cluster, replayed: ReplayResult, node_bytes: NDArray[np.int64], events: int) -> Playback:
    """Return what a cluster says at the end of a run.

    Parameters
    ----------
    cluster, replayed
        The nodes and servers at the end, with their stations closed, and the answers.
    node_bytes, events
        As of `Playback`.
    """
    meters = [server.meter for server in cluster.servers]
    return Playback(
        replayed=replayed,
        stations={name: station.stats for name, station in cluster.stations.items()},
        operations=cluster.operations,
        busy=cluster.busy,
        concurrency=cluster.concurrency,
        bytes_to_store=sum(meter.bytes_to_store for meter in meters),
        bytes_from_store=sum(meter.bytes_from_store for meter in meters),
        redirects=cluster.redirects,
        slow_phases=tuple(phase for server in cluster.servers if server.work is not None for phase in server.work.phases),
        node_bytes=node_bytes,
        events=events,
    )
