"""`inject_faults`: the faults that happen at a moment, as processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.faulty_links import ReplicatedBackend
from ratesim.simulation.engine.redis_cluster import SlotTable, slot_of
from ratesim.simulation.engine.remote_storage import ModelBackend
from ratesim.simulation.engine.store_server import StoreServer
from ratesim.simulation.scenario.faults import Fault

__all__ = ["inject_faults"]

# A slot moves as redis-cli moves it, 10 keys by one MIGRATE. Measured on valkey 9.1.2 (AMD EPYC, 2026-11-29): MIGRATE
# of 1, 10 and 100 states takes 85, 160 and 915 us on loopback, and the target spends 2 us on each. Seconds of a key:
AT_ONCE = 10
DUMPED, RESTORED = 6.5e-6, 2e-6
WAIT = 0.1  # seconds between two looks whether a server that is down is back


async def inject_faults(timeline: FaultTimeline, cluster: Cluster, runtime: SimRuntime, names: Sequence[str] = ()) -> None:
    """Take servers and nodes down, and move slots, when the timeline says so. names: identifiers that there may be.

    Faults that last (partitions, losses, slowness, clock skew) need no event: the parts that they concern look them up.
    """
    for server in cluster.servers:
        runtime.spawn(_fail_server(server, runtime))
    for fault in timeline.faults:
        if fault.kind == "reshard" and cluster.table is not None:
            runtime.spawn(_reshard(fault, cluster, cluster.table, runtime, names))
    for fault in timeline.faults:
        if fault.kind == "restart":
            await runtime.sleep(fault.start - runtime.env.now)
            for node in range(len(cluster.storages)) if fault.nodes is None else fault.nodes:
                cluster.restart(node)


async def _fail_server(server: StoreServer, runtime: SimRuntime) -> None:
    """Crash one server, or fail it over to its replica, at each of its outages."""
    outages = [fault for fault in server.timeline.faults if fault.kind in ("crash", "failover")]
    failovers = [fault for fault in outages if fault.kind == "failover"]
    if failovers and isinstance(server.meter.backend, ReplicatedBackend):
        server.meter.backend.set_lag(failovers[0].lag)
    for fault in outages:
        await runtime.sleep(fault.start - runtime.env.now)
        server.begin_anew(fault.start + fault.duration, fault.start)
        assert isinstance(server.meter.backend, ReplicatedBackend)
        if fault.kind == "failover":
            runtime.spawn(_take_over(fault, server, runtime))
            server.meter.backend.fail_over()
            failovers.pop(0)
            server.meter.backend.set_lag(failovers[0].lag if failovers else inf)
        elif not fault.keeps_memory:
            server.meter.backend.lose_memory()


async def _take_over(fault: Fault, server: StoreServer, runtime: SimRuntime) -> None:
    """Give the server another address when the replica begins to answer."""
    await runtime.sleep(fault.start + fault.duration - runtime.env.now)
    server.takeovers += 1
    server.host_lost = fault.host_lost


async def _reshard(fault: Fault, cluster: Cluster, table: SlotTable, runtime: SimRuntime, names: Sequence[str]) -> None:
    """Move slots from one primary to the next, one after the other, in `duration` seconds or as long as it takes."""
    env = runtime.env
    await runtime.sleep(fault.start - env.now)
    source = fault.shard or 0
    if source >= len(cluster.servers):
        return
    target = (source + 1) % len(cluster.servers)
    slots = [slot for slot in table.owned_by(source) if slot not in table.moving][: fault.slots]
    inside: dict[int, list[str]] = {slot: [] for slot in slots}
    for name in names:
        slot = slot_of(name, table.prefix)
        if slot in inside:
            inside[slot].append(name)
    for number, slot in enumerate(slots):
        begin, each = fault.start + number * fault.duration / len(slots), fault.duration / len(slots)
        await runtime.sleep(begin - env.now)
        table.moving[slot] = target
        there = [name for name in inside[slot] if _holds(cluster.servers[source], name)]
        for first in range(0, len(there), AT_ONCE):
            await runtime.sleep(begin + each * (first + 1) / (len(there) + 1) - env.now)
            await _migrate(there[first : first + AT_ONCE], cluster, table, source, target, runtime)
        await runtime.sleep(begin + each - env.now)
        table.settle(slot, inside[slot])


async def _migrate(
    names: Sequence[str], cluster: Cluster, table: SlotTable, source: int, target: int, runtime: SimRuntime
) -> None:
    """Move identifiers by one MIGRATE, which blocks the source for the way to the target and back."""
    env, servers = runtime.env, (cluster.servers[source], cluster.servers[target])
    while any(server.timeline.server_down(env.now) for server in servers):
        await runtime.sleep(WAIT)
    origin, goal = servers
    restored = len(names) * RESTORED
    freed = origin.take(env.now, len(names) * DUMPED + cluster.round_trip + restored)
    await runtime.sleep(freed - restored - cluster.round_trip / 2.0 - env.now)
    await runtime.sleep(max(goal.take(env.now, restored) + cluster.round_trip / 2.0, freed) - env.now)
    for name in names:
        if isinstance(origin.meter.backend, ReplicatedBackend) and isinstance(goal.meter.backend, ReplicatedBackend):
            origin.meter.backend.move(name, goal.meter.backend)
        table.gone.add(name)


def _holds(server: StoreServer, name: str) -> bool:
    backend = server.meter.backend
    return not isinstance(backend, ModelBackend) or bool(backend.memory.keys_of(name))
