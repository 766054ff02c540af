"""`unfold`: the faults that are moments, as they come in a run."""

from __future__ import annotations

from math import inf

from ratesim.runtime import SimRuntime
from ratesim.simulation.engine.cluster import Deployment
from ratesim.simulation.engine.fault_timeline import Timeline
from ratesim.simulation.engine.faulty_links import ReplicatedBacking
from ratesim.simulation.engine.store_server import Server

__all__ = ["unfold"]


async def unfold(timeline: Timeline, deployment: Deployment, runtime: SimRuntime) -> None:
    """Let the faults happen that are moments: servers and nodes that go down. The others are looked up where they matter."""
    for server in deployment.servers:
        runtime.spawn(_befall(server, runtime))
    for fault in timeline.faults:
        if fault.kind == "restart":
            await runtime.sleep(fault.start - runtime.env.now)
            for node in range(len(deployment.storages)) if fault.nodes is None else fault.nodes:
                deployment.restart(node)


async def _befall(server: Server, runtime: SimRuntime) -> None:
    """What goes down of a server."""
    outages = [fault for fault in server.timeline.faults if fault.kind in ("crash", "failover")]
    failovers = [fault for fault in outages if fault.kind == "failover"]
    if failovers and isinstance(server.meter.backing, ReplicatedBacking):
        server.meter.backing.lags(failovers[0].lag)
    for fault in outages:
        await runtime.sleep(fault.start - runtime.env.now)
        server.begin_anew(fault.start + fault.duration, fault.start)
        assert isinstance(server.meter.backing, ReplicatedBacking)
        if fault.kind == "failover":
            server.meter.backing.fail_over()
            failovers.pop(0)
            server.meter.backing.lags(failovers[0].lag if failovers else inf)
        elif not fault.keeps_memory:
            server.meter.backing.lose_memory()
