"""A deployment: N API nodes with a storage each, and what they share. Built from a candidate's storage URL."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ratesim.runtime import SimRuntime
from ratesim.simulation.failing import FailingDriver, ReplicatedBacking
from ratesim.simulation.faults import Timeline
from ratesim.simulation.network import PRESETS, link_of
from ratesim.simulation.profile import Backend, Profile
from ratesim.simulation.remote import Backing, ModelBacking, Plan, RemoteStorage, SimDriver
from ratesim.simulation.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.sharded import Primary, ShardedDriver
from ratesim.simulation.station import Station
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL
from traffic import Trace

__all__ = ["Deployment", "backend_of", "build"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store forgets nothing that a decision could need


@dataclass
class Deployment:
    """storages: one for each node, made by `make`. primaries: the servers that they share. concurrency: how many batches
    these serve at once. remotes: the nodes' ways to them, also of nodes that are gone. plan: what requests meet on them."""

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    costs: Backend
    primaries: list[Primary]
    concurrency: int
    remotes: list[RemoteStorage]
    plan: Plan | None

    @property
    def busy(self) -> float:
        """Server-seconds of the shared store."""
        return sum(primary.station.busy for primary in self.primaries)

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
    if url.backend == "memory":

        def memory(node: int) -> RateLimitStorage:
            return MemoryStorage(url.config, runtime, sequence)

        return Deployment([memory(node) for node in nodes], memory, profile.backends["memory"], [], 1, [], None)
    costs = profile.backends[url.backend]
    link = link_of(network, scenario.deployment.rtt, scenario.deployment.loss)
    shards = scenario.deployment.shards if url.backend == "redis" else 1
    remotes = list[RemoteStorage]()
    plan = None if trace is None else Plan(seed, trace, link, costs)
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    if outages and backing is not None:
        raise ScenarioError("faults: a crash or failover of the server needs the fidelity `model`")
    # Where no server forgets by itself, one memory is as good as many: no key is in two of them.
    shared = None if outages else (backing or _model(runtime))(url, sequence)

    def replicated() -> Backing:
        return ReplicatedBacking(
            lambda numbered: MemoryStorage(UNBOUNDED, runtime, sequence if numbered else None), lambda: runtime.env.now
        )

    primaries = [
        Primary(Station(costs.concurrency), shared or replicated(), Timeline(scenario.faults, shard))
        for shard in range(shards)
    ]
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))

    def way(node: int, primary: Primary) -> SimDriver:
        driver = SimDriver(primary.backing, link, primary.station, costs, runtime, seed, plan)
        return FailingDriver(driver, node, primary.timeline) if primary.timeline.faults else driver

    def remote(node: int) -> RateLimitStorage:
        ways = [way(node, primary) for primary in primaries]
        driver = ways[0] if shards == 1 else ShardedDriver(ways, runtime, url.config.key_prefix)
        remotes.append(RemoteStorage(driver, runtime, url.config, rngs[node], plan))
        if url.hybrid is None:
            return remotes[-1]
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}")
        return HybridStorage(remotes[-1], config, runtime, rngs[len(nodes) + node], sequence)

    near = costs
    if url.hybrid is not None and url.hybrid.consistency == "eventual":
        near = profile.backends["memory"]
    return Deployment([remote(node) for node in nodes], remote, near, primaries, costs.concurrency * shards, remotes, plan)


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"


def _model(runtime: SimRuntime) -> Callable[[StorageURL, Callable[[], int]], Backing]:
    return lambda url, sequence: ModelBacking(MemoryStorage(UNBOUNDED, runtime, sequence))
