"""`inject_faults`: the faults that happen at a moment, as processes of a run."""

from __future__ import annotations

from math import inf

from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.faulty_links import ReplicatedBackend
from ratesim.simulation.engine.store_server import StoreServer

__all__ = ["inject_faults"]


async def inject_faults(timeline: FaultTimeline, cluster: Cluster, runtime: SimRuntime) -> None:
    """Take servers and nodes down when the timeline says so.

    Faults that last (partitions, losses, slowness, clock skew) need no event: the parts that they concern look them up.
    """
    for server in cluster.servers:
        runtime.spawn(_fail_server(server, runtime))
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
            server.meter.backend.fail_over()
            failovers.pop(0)
            server.meter.backend.set_lag(failovers[0].lag if failovers else inf)
        elif not fault.keeps_memory:
            server.meter.backend.lose_memory()
