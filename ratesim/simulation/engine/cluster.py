"""A deployment: N API nodes with a storage each, and what they share. Built from a candidate's storage URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.profile import BackendCosts, Profile, measured_link
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.faulty_links import FaultyDriver, ReplicatedBackend, RestartingNode
from ratesim.simulation.engine.redis_cluster import ShardedDriver
from ratesim.simulation.engine.remote_storage import ModelBackend, RandomPlan, SimDriver, SimulatedStorage
from ratesim.simulation.engine.store_server import StoreServer
from ratesim.simulation.network.links import PRESETS, Link, preset_link
from ratesim.simulation.network.wire_size import Backend, MeteredBackend, wire_protocol
from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.simulation.queueing.processor_sharing import EventLoopCPU, MultiCoreCPU
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL
from traffic import Trace

__all__ = ["Cluster", "backend_of", "build_cluster", "round_trip"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store forgets nothing that a decision could need


@dataclass
class Cluster:
    """storages: one for each node, made by `make`. processors: the nodes' own, where there are no servers; where
    there are, they are event loops. cpu: seconds of either that a request takes beside its way to a server. servers: what
    the nodes share. remotes: the nodes' ways to them, also of nodes that are gone. plan: what requests meet on them.
    processes: the nodes as their callers see them, where some restart; else none."""

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    processors: list[FifoStation]
    loops: list[EventLoopCPU]
    cpu: float
    servers: list[StoreServer]
    remotes: list[SimulatedStorage]
    plan: RandomPlan | None
    processes: list[RestartingNode] = field(default_factory=list)
    _before: tuple[float, int] = (0.0, 0)  # processor seconds and operations that no figure counts

    @property
    def nodes(self) -> Sequence[RestartingNode | RateLimitStorage]:
        """Who is asked, node by node; a restart changes what is in it."""
        return self.processes or self.storages

    @property
    def stations(self) -> dict[str, FifoStation | EventLoopCPU | MultiCoreCPU]:
        """By name: "store", or "store 0" and so on where there are several, and "node 0" and so on, their processors."""
        found: dict[str, FifoStation | EventLoopCPU | MultiCoreCPU] = {}
        for i, server in enumerate(self.servers):
            found["store" if len(self.servers) == 1 else f"store {i}"] = server.processor
        for i, processor in enumerate(self.processors):
            found[f"node {i}"] = processor
        for i, loop in enumerate(self.loops):
            found[f"node {i}"] = loop
        return found

    @property
    def views(self) -> bool:
        """Whether nodes decide on views of the store."""
        first = self.storages[0]
        return isinstance(first, HybridStorage) and first.config.consistency in ("eventual", "session")

    @property
    def sessions(self) -> bool:
        """Whether sessions are given tokens, to bring along."""
        first = self.storages[0]
        return isinstance(first, HybridStorage) and first.config.consistency == "session"

    def memory(self, runtime: SimRuntime) -> NDArray[np.int64]:
        """Bytes that each node's own entries take now, shape (nodes,)."""
        found: list[int] = []

        async def ask() -> None:
            for storage in self.storages:
                found.append((await storage.get_stats()).bytes)

        runtime.begin(ask())  # nothing in it waits
        return np.array(found, np.int64)

    @property
    def busy(self) -> float:
        """Processor seconds of the shared store."""
        return sum(server.busy for server in self.servers) - self._before[0]

    @property
    def concurrency(self) -> int:
        """How many batches the shared store serves at once."""
        return sum(server.costs.concurrency for server in self.servers) or 1

    @property
    def operations(self) -> int:
        """Operations sent to the shared store."""
        return sum(remote.client.operations for remote in self.remotes) - self._before[1]

    def discount(self, at: float) -> None:
        """Figures count from now, `at`, on."""
        before = self._before
        self._before = before[0] + self.busy, before[1] + self.operations
        for station in self.stations.values():
            station.end_warmup(at)
        for server in self.servers:
            server.meter.end_warmup()

    def restart(self, node: int) -> None:
        """The process of a node ends at once, with what it had in memory and under way, and another begins."""
        old = self.storages[node]
        if isinstance(old, HybridStorage):
            old.kill()
        remote = old.l2 if isinstance(old, HybridStorage) else old
        if isinstance(remote, SimulatedStorage):
            remote.client.kill()
        self.processes[node].go_down()
        self.storages[node] = self.make(node)


def build_cluster(
    scenario: Scenario,
    candidate: Candidate,
    profile: Profile,
    runtime: SimRuntime,
    trace: Trace | None,
    seed: int,
    sequence: Callable[[], int],
    backing: Backend | None = None,
) -> Cluster:
    """The nodes and servers of a candidate, at the start of a run.

    trace: what will be asked, where that is known. sequence: numbers the decisions. backing: what decides behind the
    network; the fast model unless given. Raises ConfigurationError or ScenarioError.
    """
    url = StorageURL.parse(candidate.storage)
    nodes = range(scenario.deployment.nodes)
    near = profile.backends["memory"].client_cpu
    restarts = any(fault.kind == "restart" for fault in scenario.faults)

    def processes(storages: list[RateLimitStorage]) -> list[RestartingNode]:
        return [RestartingNode(storages, node, runtime) for node in nodes] if restarts else []

    if url.backend == "memory":

        def memory(node: int) -> RateLimitStorage:
            return MemoryStorage(url.config, runtime, sequence)

        stations = [FifoStation() for _ in nodes]
        storages = [memory(node) for node in nodes]
        return Cluster(storages, memory, stations, [], near, [], [], None, processes(storages))
    costs, remotes = profile.backends[url.backend], list[SimulatedStorage]()
    link = _link(scenario, profile, costs)
    shards = scenario.deployment.shards if url.backend == "redis" else 1
    plan = None if trace is None else RandomPlan(seed, trace, link, costs)
    loops = [EventLoopCPU(runtime, max(costs.client_cpu - costs.cpu(1), 0.0)) for _ in nodes]
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    # Where no server forgets by itself, one memory is as good as many: no key is in two of them. Outages are only for the
    # fidelity `model`.
    shared = None if outages else backing or ModelBackend(MemoryStorage(UNBOUNDED, runtime, sequence))

    def replicated() -> Backend:
        return ReplicatedBackend(
            lambda numbered: MemoryStorage(UNBOUNDED, runtime, sequence if numbered else None), lambda: runtime.env.now
        )

    wire = wire_protocol(url)
    timelines = [FaultTimeline(scenario.effective_faults, shard) for shard in range(shards)]
    servers = [StoreServer(MeteredBackend(shared or replicated(), wire), costs, runtime, timeline) for timeline in timelines]
    rngs = np.random.default_rng([seed, 1]).spawn(2 * len(nodes))

    def way(node: int, server: StoreServer) -> SimDriver:
        driver = SimDriver(server, link, loops[node], runtime, seed, plan)
        return FaultyDriver(driver, node) if server.timeline.faults else driver

    def remote(node: int) -> RateLimitStorage:
        ways = [way(node, server) for server in servers]
        driver = ways[0] if shards == 1 else ShardedDriver(ways, runtime, url.config.key_prefix)
        remotes.append(SimulatedStorage(driver, runtime, url.config, rngs[node], plan))
        if url.hybrid is None:
            return remotes[-1]
        sharing = url.hybrid.nodes if url.hybrid.nodes > 1 else len(nodes)
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}", nodes=sharing)
        return HybridStorage(remotes[-1], config, runtime, rngs[len(nodes) + node], sequence)

    decided_near = url.hybrid is not None and url.hybrid.consistency != "strong"
    storages = [remote(node) for node in nodes]
    cpu = near if decided_near else 0.0
    return Cluster(storages, remote, [], loops, cpu, servers, remotes, plan, processes(storages))


def _link(scenario: Scenario, profile: Profile, costs: BackendCosts) -> Link:
    """The network that the scenario names; without a name the user's own where it was measured. `loopback` is what was
    measured with the servers."""
    asked = scenario.deployment
    if asked.network not in PRESETS:
        raise ScenarioError(f"deployment.network {asked.network!r}: known are {', '.join(PRESETS)}")
    link = preset_link(asked.network, asked.rtt, asked.loss)
    if asked.rtt is not None:
        return link
    if profile.round_trip is not None and "network" not in asked.model_fields_set:
        return measured_link(profile.round_trip, profile.round_trip_factors, link.loss)
    if asked.network == "loopback" and costs.round_trip > 0.0:
        return measured_link(costs.round_trip, costs.round_trip_factors, link.loss)
    return link


def round_trip(scenario: Scenario, profile: Profile, backend: str) -> float:
    """Seconds to a server of that backend and back, the median. Raises ScenarioError."""
    return 2.0 * _link(scenario, profile, profile.backends[backend]).median


def backend_of(candidate: Candidate) -> str:
    """memory, redis, postgres or hybrid."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"
