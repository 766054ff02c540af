"""The cluster of a run: API nodes with a storage each, and the servers that they share.

It is built from a candidate's storage URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.postgres_factors import STALLS, insert_cost, postgres_costs, standby_cost
from ratesim.simulation.cost_model.profile import QUANTILES, BackendCosts, Coldness, Profile, cluster_costs, measured_link
from ratesim.simulation.engine.context import PACES, STORE_CLIENTS, STORE_WORK, RunContext
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.faulty_links import FaultyDriver, ReplicatedBackend, RestartingNode
from ratesim.simulation.engine.node_memory import node_bytes
from ratesim.simulation.engine.postgres_work import PostgresWork
from ratesim.simulation.engine.redis_cluster import ClusterDriver, ShardBackend, ShardedDriver, SlotTable
from ratesim.simulation.engine.remote_storage import ModelBackend, RandomPlan, SimDriver, SimulatedStorage
from ratesim.simulation.engine.store_server import Standby, StoreServer
from ratesim.simulation.network.links import Link, preset_link
from ratesim.simulation.network.wire_size import Backend, MeteredBackend, wire_protocol
from ratesim.simulation.queueing.event_loop_cpu import EventLoopCPU
from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.simulation.queueing.pace import Pace
from ratesim.simulation.queueing.processor_sharing import MultiCoreCPU
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import HybridStorage, MemoryStorage, MemoryStorageConfig, RateLimitStorage, StorageURL

__all__ = ["Cluster", "backend_of", "build_cluster", "round_trip"]

UNBOUNDED = MemoryStorageConfig(max_entries=2**62)  # a shared store evicts nothing that a decision could need


@dataclass
class Cluster:
    """The nodes and servers of a candidate.

    Attributes
    ----------
    storages
        One for each node.
    make
        Makes the storage of a node, at the start and after a restart.
    loops
        The nodes' event loops.
    memory_costs
        Of a decision in a node's memory.
    decides_locally
        Whether nodes decide in their memory, at least at times.
    servers
        The shards of the shared store.
    remotes
        The nodes' storages on those servers, those of nodes that are gone included.
    plan
        Random draws for the requests on their way to the servers; None without servers or a known trace.
    table
        The owners of the slots, where they change.
    round_trip
        Median seconds from one server to another and back.
    processes
        The nodes as processes that may restart; empty where none does.
    """

    storages: list[RateLimitStorage]
    make: Callable[[int], RateLimitStorage]
    loops: list[EventLoopCPU]
    memory_costs: BackendCosts
    decides_locally: bool
    servers: list[StoreServer]
    remotes: list[SimulatedStorage]
    plan: RandomPlan | None
    table: SlotTable | None = None
    round_trip: float = 0.0
    processes: list[RestartingNode] = field(default_factory=list)
    _discounted: tuple[float, int] = (0.0, 0)  # processor seconds and operations of the warm-up

    @property
    def nodes(self) -> Sequence[RestartingNode | RateLimitStorage]:
        """What answers the requests of each node; a restart changes an element in place."""
        return self.processes or self.storages

    @property
    def stations(self) -> dict[str, FifoStation | EventLoopCPU | MultiCoreCPU]:
        """The queues by name: `store`, or `store 0` and so on where there are several, and `node 0` and so on."""
        stations: dict[str, FifoStation | EventLoopCPU | MultiCoreCPU] = {}
        for i, server in enumerate(self.servers):
            stations["store" if len(self.servers) == 1 else f"store {i}"] = server.processor
        for i, loop in enumerate(self.loops):
            stations[f"node {i}"] = loop
        return stations

    @property
    def cold(self) -> Coldness | None:
        """What a request costs more after a pause, on its way to the servers; None without servers."""
        return self.servers[0].costs.cold if self.servers else None

    @property
    def arrival(self) -> float:
        """Processor seconds with which a busy node takes a request in, on its way to the servers."""
        return self.servers[0].costs.arrival if self.servers else 0.0

    def decision(self, idle: float) -> float:
        """Return the processor seconds of a decision in a node's memory, after so many idle ones."""
        costs = self.memory_costs
        return costs.client_cpu if costs.cold is None else costs.client_cpu + costs.cold.client(idle)[0]

    @property
    def views(self) -> bool:
        """Whether nodes decide on views of the store."""
        first = self.storages[0]
        return isinstance(first, HybridStorage) and first.config.consistency in ("eventual", "session")

    @property
    def sessions(self) -> bool:
        """Whether sessions are given tokens, which they bring along with their next request."""
        first = self.storages[0]
        return isinstance(first, HybridStorage) and first.config.consistency == "session"

    def memory(self) -> NDArray[np.int64]:
        """Return the bytes that each node's own entries take now, shape (nodes,)."""
        return np.array([node_bytes(storage) for storage in self.storages], np.int64)

    @property
    def busy(self) -> float:
        """Processor seconds of the shared store after the warm-up."""
        return sum(server.busy for server in self.servers) - self._discounted[0]

    @property
    def concurrency(self) -> int:
        """How many batches the shared store serves at once."""
        return sum(server.costs.concurrency for server in self.servers) or 1

    @property
    def operations(self) -> int:
        """Operations sent to the shared store after the warm-up."""
        return sum(remote.client.operations for remote in self.remotes) - self._discounted[1]

    @property
    def redirects(self) -> tuple[int, int]:
        """Redirects that the nodes' clients have followed, the warm-up included: MOVED, and ASK."""
        routed = [each.client.driver for each in self.remotes if isinstance(each.client.driver, ShardedDriver)]
        return sum(each.moved for each in routed), sum(each.asked for each in routed)

    def discount(self, now: float) -> None:
        """End the warm-up: figures count from `now` on, in simulated seconds."""
        seconds, operations = self._discounted
        self._discounted = seconds + self.busy, operations + self.operations
        for station in self.stations.values():
            station.end_warmup(now)
        for server in self.servers:
            server.meter.end_warmup()

    def restart(self, node: int) -> None:
        """End the process of a node at once, with all that it has in memory and under way, and begin another."""
        old = self.storages[node]
        if isinstance(old, HybridStorage):
            old.kill()
        remote = old.l2 if isinstance(old, HybridStorage) else old
        if isinstance(remote, SimulatedStorage):
            remote.client.kill()
        self.processes[node].go_down()
        self.storages[node] = self.make(node)


def build_cluster(context: RunContext, backing: Backend | None = None) -> Cluster:
    """Build the nodes and servers of a candidate, as they are at the start of a run.

    Parameters
    ----------
    context
        The run.
    backing
        What decides behind the modeled network; the in-memory model unless given.

    Raises
    ------
    ConfigurationError, ScenarioError
        If the storage URL or the network cannot be used.
    """
    url = StorageURL.parse(context.candidate.storage)
    return _memory_cluster(context, url) if url.backend == "memory" else _store_cluster(context, url, backing)


def _memory_cluster(context: RunContext, url: StorageURL) -> Cluster:
    def node_storage(node: int) -> RateLimitStorage:
        return MemoryStorage(url.config, context.runtime, context.sequence)

    nodes = range(context.scenario.deployment.nodes)
    storages = [node_storage(node) for node in nodes]
    loops = [EventLoopCPU(context.runtime) for _ in nodes]
    costs = context.profile.backends["memory"]
    return Cluster(storages, node_storage, loops, costs, True, [], [], None, processes=_restarting(context, storages))


def _store_cluster(context: RunContext, url: StorageURL, backing: Backend | None) -> Cluster:
    scenario, runtime, seed = context.scenario, context.runtime, context.seed
    nodes, costs = scenario.deployment.nodes, context.profile.backends[url.backend]
    topology = scenario.servers(context.candidate)
    if topology.kind == "cluster":
        costs = cluster_costs(context.profile)
    if url.backend == "postgres":
        costs = postgres_costs(costs, url.config, 2.0 * context.limit.period)
    link = _link(scenario, context.profile, costs)
    plan = None if context.clients else RandomPlan(seed, context.trace, link, costs)
    paces = _paces(context, costs.client_pace, costs.server_pace)
    loops = [EventLoopCPU(runtime, costs.turn, next(paces[0])) for _ in range(nodes)]
    moves = topology.primaries > 1 and any(fault.kind == "reshard" for fault in scenario.faults)
    table = SlotTable(topology.primaries, url.config.key_prefix) if moves else None
    servers = _servers(context, url, costs, backing, table, 2.0 * link.median, paces[1])
    beside = None if url.hybrid is None else context.profile.hybrids.get(url.hybrid.consistency)
    rngs = context.rng(STORE_CLIENTS).spawn(2 * nodes)
    remotes: list[SimulatedStorage] = []

    def driver_to(server: StoreServer, node: int) -> SimDriver:
        driver = SimDriver(server, link, loops[node], runtime, seed, plan, beside)
        return FaultyDriver(driver, node, topology.kind == "sentinel") if server.timeline.faults else driver

    def driver_of(node: int) -> SimDriver | ShardedDriver:
        drivers = [driver_to(server, node) for server in servers]
        if topology.kind == "cluster":
            return ClusterDriver(drivers, runtime, url.config, table, servers, 2.0 * link.median)
        return drivers[0] if len(drivers) == 1 else ShardedDriver(drivers, runtime, url.config.key_prefix, table)

    def node_storage(node: int) -> RateLimitStorage:
        remotes.append(SimulatedStorage(driver_of(node), runtime, url.config, rngs[node], plan))
        if url.hybrid is None:
            return remotes[-1]
        sharing = url.hybrid.nodes if url.hybrid.nodes > 1 else nodes
        config = msgspec.structs.replace(url.hybrid, node=f"node-{node}", nodes=sharing)
        return HybridStorage(remotes[-1], config, runtime, rngs[nodes + node], context.sequence)

    locally = url.hybrid is not None and url.hybrid.consistency != "strong"
    memory = context.profile.backends["memory"]
    if beside is not None:
        memory = msgspec.structs.replace(memory, client_cpu=beside.decide, cold=beside.cold)
    storages = [node_storage(node) for node in range(nodes)]
    processes, between = _restarting(context, storages), 2.0 * link.median
    return Cluster(storages, node_storage, loops, memory, locally, servers, remotes, plan, table, between, processes)


def _servers(
    context: RunContext,
    url: StorageURL,
    costs: BackendCosts,
    backing: Backend | None,
    table: SlotTable | None,
    between: float,
    paces: Iterator[Pace | None],
) -> list[StoreServer]:
    """Build the shards of the store, each with the faults that concern it."""
    scenario, runtime, sequence = context.scenario, context.runtime, context.sequence
    # Without outages one memory is as good as one per shard: no key is in two of them. Outages exist only for the model.
    outages = any(fault.kind in ("crash", "failover") for fault in scenario.faults)
    memory = msgspec.structs.replace(UNBOUNDED, max_clock_skew=url.config.max_clock_skew)
    clock = runtime.time if url.config.clock == "server" else None
    shared = None if outages else backing or ModelBackend(MemoryStorage(memory, runtime, sequence), clock)

    def replicated() -> Backend:
        return ReplicatedBackend(
            lambda numbered: MemoryStorage(memory, runtime, sequence if numbered else None), lambda: runtime.env.now, clock
        )

    wire = wire_protocol(url)
    faults = [fault for fault in scenario.effective_faults(context.candidate) if fault.kind != "reshard"]
    topology = scenario.servers(context.candidate)
    work = _work(context, url, costs)
    servers = []
    for shard in range(topology.primaries):
        backend = shared or replicated()
        meter = MeteredBackend(backend, wire) if table is None else ShardBackend(backend, wire, shard, table)
        standby = Standby(between, standby_cost(costs, topology.standby)) if topology.standby else None
        servers.append(StoreServer(meter, costs, runtime, FaultTimeline(faults, shard), standby, work, next(paces)))
    return servers


def _paces(context: RunContext, *distributions: tuple[float, ...]) -> list[Iterator[Pace | None]]:
    """Make the paces of processors, those of each distribution one by one."""

    def draw(factors: tuple[float, ...], rng: np.random.Generator) -> Iterator[Pace | None]:
        varies = any(factor != 1.0 for factor in factors)
        while True:
            yield Pace(QUANTILES, factors, rng) if varies else None

    rngs = context.rng(PACES).spawn(len(distributions))
    return [draw(factors, rng) for factors, rng in zip(distributions, rngs, strict=True)]


def _work(context: RunContext, url: StorageURL, costs: BackendCosts) -> PostgresWork | None:
    """Return what a PostgreSQL does beside decisions, if it does anything in this run."""
    if url.backend != "postgres":
        return None
    config = url.config
    removes = 0.0 < config.cleanup_interval < context.duration
    insert = insert_cost(config.partition_strategy)
    stalls = STALLS if costs.stalls is None else costs.stalls
    if not (stalls or removes or insert):
        return None
    return PostgresWork(config, stalls, insert, context.rng(STORE_WORK), context.runtime, removes)


def _restarting(context: RunContext, storages: list[RateLimitStorage]) -> list[RestartingNode]:
    """Wrap nodes as processes that may restart; return none where the scenario has no restart."""
    if not any(fault.kind == "restart" for fault in context.scenario.faults):
        return []
    return [RestartingNode(storages, node, context.runtime) for node in range(len(storages))]


def _link(scenario: Scenario, profile: Profile, costs: BackendCosts) -> Link:
    """Choose the network: the one that the scenario names, else the measured one.

    The preset `loopback` stands for the round trip that was measured together with the servers.
    """
    deployment = scenario.deployment
    link = preset_link(deployment.network, deployment.rtt, deployment.loss)
    if deployment.rtt is not None:
        return link
    if profile.round_trip is not None and "network" not in deployment.model_fields_set:
        return measured_link(profile.round_trip, profile.round_trip_factors, link.loss)
    if deployment.network == "loopback" and costs.round_trip > 0.0:
        return measured_link(costs.round_trip, costs.round_trip_factors, link.loss)
    return link


def round_trip(scenario: Scenario, profile: Profile, backend: str) -> float:
    """Return the median round trip to a server of that backend, in seconds.

    Raises
    ------
    ScenarioError
        If the scenario names an unknown network.
    """
    return 2.0 * _link(scenario, profile, profile.backends[backend]).median


def backend_of(candidate: Candidate) -> str:
    """Return `memory`, `redis`, `postgres` or `hybrid`."""
    url = StorageURL.parse(candidate.storage)
    return url.backend if url.hybrid is None else "hybrid"
