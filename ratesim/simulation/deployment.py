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
from ratesim.simulation.network import PRESETS, Way
from ratesim.simulation.profile import Backend, Profile
from ratesim.simulation.remote import ModelBacking, Plan, RemoteStorage, SimDriver
from ratesim.simulation.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.server import Backing, Server
from ratesim.simulation.sharing import EventLoop
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL
from traffic import Trace

__all__ = ["Deployment", "backend_of", "build"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store forgets nothing that a decision could need


@dataclass
class Deployment:
    """storages: one for each node, made by `make`. processors: the nodes' own, where there is a server. cpu: seconds of them
    that a request takes beside its way to the server. server: what the nodes share, or None. remotes: the nodes' ways to it,
    also of nodes that are gone. plan: what requests meet on them."""

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    processors: list[EventLoop]
    cpu: float
    server: Server | None
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
    backing: Callable[[StorageURL, Callable[[], int]], Backing] | None = None,
) -> Deployment:
    """The nodes and servers of a candidate, at the start of a run.

    trace: what will be asked, where that is known. backing: makes what decides behind the network; the fast model unless
    given. Raises Config or ScenarioError.
    """
    url = StorageURL.parse(candidate.storage)
    sequence = itertools.count(1).__next__
    nodes = range(scenario.deployment.nodes)
    near = profile.backends["memory"].client_cpu
    if url.backend == "memory":

        def memory(node: int) -> RateLimitStorage:
            return MemoryStorage(url.config, runtime, sequence)

        return Deployment([memory(node) for node in nodes], memory, [], near, None, [], None)
    costs, remotes = profile.backends[url.backend], list[RemoteStorage]()
    way = _way(scenario, profile, costs)
    plan = None if trace is None else Plan(seed, trace, way, costs)
    processors = [EventLoop(runtime, max(costs.client_cpu - costs.cpu(1), 0.0)) for _ in nodes]
    timeline = Timeline(scenario.faults)
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    if outages and backing is not None:
        raise ScenarioError("faults: a crash or failover of the server needs the fidelity `model`")
    decides: Backing
    if outages:
        decides = ReplicatedBacking(
            lambda numbered: MemoryStorage(UNBOUNDED, runtime, sequence if numbered else None), lambda: runtime.env.now
        )
    else:
        decides = (backing or _model(runtime))(url, sequence)
    server = Server(decides, costs, runtime)
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))

    def remote(node: int) -> RateLimitStorage:
        driver = SimDriver(server, way, processors[node], runtime, seed, plan)
        if scenario.faults:
            driver = FailingDriver(driver, node, timeline)
        remotes.append(RemoteStorage(driver, runtime, url.config, rngs[node], plan))
        if url.hybrid is None:
            return remotes[-1]
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}")
        return HybridStorage(remotes[-1], config, runtime, rngs[len(nodes) + node], sequence)

    decided_near = url.hybrid is not None and url.hybrid.consistency == "eventual"
    return Deployment(
        [remote(node) for node in nodes], remote, processors, near if decided_near else 0.0, server, remotes, plan
    )


def _way(scenario: Scenario, profile: Profile, costs: Backend) -> Way:
    """The network that the scenario names; without a name the user's own where it was measured. `loopback` is what was
    measured with the servers."""
    network = scenario.deployment.network
    if network not in PRESETS:
        raise ScenarioError(f"deployment.network {network!r}: known are {', '.join(PRESETS)}")
    if profile.way is not None and "network" not in scenario.deployment.model_fields_set:
        return profile.way
    return costs.way if network == "loopback" and costs.round_trip > 0.0 else PRESETS[network]


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"


def _model(runtime: SimRuntime) -> Callable[[StorageURL, Callable[[], int]], Backing]:
    return lambda url, sequence: ModelBacking(MemoryStorage(UNBOUNDED, runtime, sequence))
