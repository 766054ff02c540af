"""A deployment: N API nodes with a storage each, and what they share. Built from a candidate's storage URL."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.runtime import SimRuntime
from ratesim.simulation.failing import FailingDriver, ReplicatedBacking
from ratesim.simulation.faults import Timeline
from ratesim.simulation.network import PRESETS
from ratesim.simulation.profile import Backend, Profile
from ratesim.simulation.remote import Backing, ModelBacking, Plan, RemoteStorage, SimDriver
from ratesim.simulation.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.station import Station
from ratesim.simulation.wire import Metered, wire_of
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL
from traffic import Trace

__all__ = ["Deployment", "backend_of", "build"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store forgets nothing that a decision could need


@dataclass
class Deployment:
    """storages: one for each node, made by `make`. station, backing: the server's, or None. processors: the nodes'. remotes:
    the nodes' ways to it, also of nodes that are gone. plan: what requests meet on them. meter: what counts their bytes."""

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    costs: Backend
    station: Station | None
    processors: list[Station]
    backing: Backing | None
    remotes: list[RemoteStorage]
    plan: Plan | None
    meter: Metered | None = None

    @property
    def stations(self) -> dict[str, Station]:
        """By name: "store", if there is one, and "node 0" and so on, their processors."""
        store = {} if self.station is None else {"store": self.station}
        return store | {f"node {i}": processor for i, processor in enumerate(self.processors)}

    @property
    def views(self) -> bool:
        """Whether nodes decide on views of the store."""
        first = self.storages[0]
        return isinstance(first, HybridStorage) and first.config.consistency == "eventual"

    def memory(self, runtime: SimRuntime) -> NDArray[np.int64]:
        """Bytes that each node's own entries take now, shape (nodes,)."""
        found: list[int] = []

        async def ask() -> None:
            for storage in self.storages:
                found.append((await storage.get_stats()).bytes)

        runtime.begin(ask())  # nothing in it waits
        return np.array(found, np.int64)

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
    backing: Callable[[StorageURL, Callable[[], int]], Backing] | None = None,
) -> Deployment:
    """The nodes and servers of a candidate, at the start of a run.

    trace: what will be asked, where that is known. backing: makes what decides behind the network; the fast model unless
    given. Raises Config or ScenarioError.
    """
    url = StorageURL.parse(candidate.storage)
    network = scenario.deployment.network
    if network not in PRESETS:
        raise ScenarioError(f"deployment.network {network!r}: known are {', '.join(PRESETS)}")
    sequence = itertools.count(1).__next__
    nodes = range(scenario.deployment.nodes)
    processors = [Station() for _ in nodes]
    if url.backend == "memory":

        def memory(node: int) -> RateLimitStorage:
            return MemoryStorage(url.config, runtime, sequence)

        storages = [memory(node) for node in nodes]
        return Deployment(storages, memory, profile.backends["memory"], None, processors, None, [], None)
    costs = profile.backends[url.backend]
    station, link, remotes = Station(costs.concurrency), PRESETS[network], list[RemoteStorage]()
    plan = None if trace is None else Plan(seed, trace, link, costs)
    timeline = Timeline(scenario.faults)
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    if outages and backing is not None:
        raise ScenarioError("faults: a crash or failover of the server needs the fidelity `model`")
    shared: Backing
    if outages:
        shared = ReplicatedBacking(
            lambda numbered: MemoryStorage(UNBOUNDED, runtime, sequence if numbered else None), lambda: runtime.env.now
        )
    else:
        shared = (backing or _model(runtime))(url, sequence)
    meter = Metered(shared, wire_of(url))
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))

    def remote(node: int) -> RateLimitStorage:
        driver = SimDriver(meter, link, station, costs, runtime, seed, plan)
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
    return Deployment([remote(node) for node in nodes], remote, near, station, processors, shared, remotes, plan, meter)


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"


def _model(runtime: SimRuntime) -> Callable[[StorageURL, Callable[[], int]], Backing]:
    return lambda url, sequence: ModelBacking(MemoryStorage(UNBOUNDED, runtime, sequence))
