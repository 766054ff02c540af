"""A deployment: N API nodes with a storage each, and what they share. Built from a candidate's storage URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ratesim.runtime import SimRuntime
from ratesim.simulation.failing import FailingDriver, ReplicatedBacking
from ratesim.simulation.faults import Timeline
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
    """storages: one for each node, made by `make`. station, backing: the server's, or None. remotes: the nodes' ways to it,
    also of nodes that are gone. plan: what requests meet on them."""

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    costs: Backend
    station: Station | None
    backing: Backing | None
    remotes: list[RemoteStorage]
    plan: Plan | None

    @property
    def operations(self) -> int:
        """Operations sent to the shared store."""
        return sum(remote.client.operations for remote in self.remotes)

    def restart(self, node: int) -> None:
        """The process of a node ends at once, with what it had in memory, and another begins."""
        old = self.storages[node]
        if isinstance(old, HybridStorage):
            old.kill()
        self.storages[node] = self.make(node)


def build(
    scenario: Scenario,
    candidate: Candidate,
    profile: Profile,
    runtime: SimRuntime,
    trace: Trace | None,
    seed: int,
    sequence: Callable[[], int],
    backing: Backing | None = None,
) -> Deployment:
    """The nodes and servers of a candidate, at the start of a run.

    trace: what will be asked, where that is known. sequence: numbers the decisions. backing: what decides behind the
    network; the fast model unless given. Raises Config or ScenarioError.
    """
    url = StorageURL.parse(candidate.storage)
    network = scenario.deployment.network
    if network not in PRESETS:
        raise ScenarioError(f"deployment.network {network!r}: known are {', '.join(PRESETS)}")
    nodes = range(scenario.deployment.nodes)
    if url.backend == "memory":

        def memory(node: int) -> RateLimitStorage:
            return MemoryStorage(url.config, runtime, sequence)

        return Deployment([memory(node) for node in nodes], memory, profile.backends["memory"], None, None, [], None)
    costs = profile.backends[url.backend]
    station, link, remotes = Station(costs.concurrency), PRESETS[network], list[RemoteStorage]()
    plan = None if trace is None else Plan(seed, trace, link, costs)
    timeline = Timeline(scenario.faults)
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    shared = backing or ModelBacking(MemoryStorage(UNBOUNDED, runtime, sequence))
    if outages:  # at the fidelity `model`, which is the only one that can
        shared = ReplicatedBacking(
            lambda numbered: MemoryStorage(UNBOUNDED, runtime, sequence if numbered else None), lambda: runtime.env.now
        )
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))

    def remote(node: int) -> RateLimitStorage:
        driver = SimDriver(shared, link, station, costs, runtime, seed, plan)
        if scenario.faults:
            driver = FailingDriver(driver, node, timeline)
        remotes.append(RemoteStorage(driver, runtime, url.config, rngs[node], plan))
        if url.hybrid is None:
            return remotes[-1]
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}")
        return HybridStorage(remotes[-1], config, runtime, rngs[len(nodes) + node], sequence)

    near = costs
    if url.hybrid is not None and url.hybrid.consistency == "eventual":
        near = profile.backends["memory"]
    return Deployment([remote(node) for node in nodes], remote, near, station, shared, remotes, plan)


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"
