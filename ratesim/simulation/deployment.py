"""A deployment: N API nodes with a storage each, and what they share. Built from a candidate's storage URL."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ratesim.runtime import SimRuntime
from ratesim.simulation.network import PRESETS
from ratesim.simulation.profile import Backend, Profile
from ratesim.simulation.remote import Backing, ModelBacking, Plan, RemoteStorage, SimDriver
from ratesim.simulation.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.station import Station
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL
from traffic import Trace

__all__ = ["Deployment", "backend_of", "build"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store forgets nothing that a decision could need


@dataclass
class Deployment:
    """storages: one for each node. station: the server's, or None. remotes: the nodes' ways to the server.
    plan: what their requests meet on it."""

    storages: list[RateLimitStorage]
    costs: Backend
    station: Station | None
    remotes: list[RemoteStorage]
    plan: Plan | None

    @property
    def operations(self) -> int:
        """Operations sent to the shared store."""
        return sum(remote.client.operations for remote in self.remotes)


def build(
    scenario: Scenario,
    candidate: Candidate,
    profile: Profile,
    runtime: SimRuntime,
    trace: Trace,
    seed: int,
    backing: Callable[[StorageURL, Callable[[], int]], Backing] | None = None,
) -> Deployment:
    """The nodes and servers of a candidate, at the start of a run.

    backing: makes what decides behind the network; the fast model unless given. Raises Config or ScenarioError.
    """
    url = StorageURL.parse(candidate.storage)
    network = scenario.deployment.network
    if network not in PRESETS:
        raise ScenarioError(f"deployment.network {network!r}: known are {', '.join(PRESETS)}")
    sequence = itertools.count(1).__next__
    nodes = range(scenario.deployment.nodes)
    if url.backend == "memory":
        memories: list[RateLimitStorage] = [MemoryStorage(url.config, runtime, sequence) for _ in nodes]
        return Deployment(memories, profile.backends["memory"], None, [], None)
    costs = profile.backends[url.backend]
    station = Station(costs.concurrency)
    make = backing or _model(runtime)
    shared = make(url, sequence)
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))
    link = PRESETS[network]
    plan = Plan(seed, trace, link, costs)
    remotes = [
        RemoteStorage(SimDriver(shared, link, station, costs, runtime, seed, plan), runtime, url.config, rngs[node], plan)
        for node in nodes
    ]
    if url.hybrid is None:
        return Deployment(list(remotes), costs, station, remotes, plan)
    hybrids: list[RateLimitStorage] = []
    for node, remote in zip(nodes, remotes, strict=True):
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}")
        hybrids.append(HybridStorage(remote, config, runtime, rngs[len(nodes) + node], sequence))
    near = profile.backends["memory" if url.hybrid.consistency == "eventual" else url.backend]
    return Deployment(hybrids, near, station, remotes, plan)


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"


def _model(runtime: SimRuntime) -> Callable[[StorageURL, Callable[[], int]], Backing]:
    return lambda url, sequence: ModelBacking(MemoryStorage(UNBOUNDED, runtime, sequence))
