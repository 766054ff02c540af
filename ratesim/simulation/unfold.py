"""`unfold`: the faults that are moments, as they come in a run."""

from __future__ import annotations

from math import inf

from ratesim.runtime import SimRuntime
from ratesim.simulation.deployment import Deployment
from ratesim.simulation.failing import ReplicatedBacking
from ratesim.simulation.faults import Timeline

__all__ = ["unfold"]


async def unfold(timeline: Timeline, deployment: Deployment, runtime: SimRuntime) -> None:
    """Let the faults happen that are moments: a server or a node that goes down. The others are looked up where they matter.

    What was on its way through a node that restarts is answered as if it had not.
    """
    backing, station = deployment.backing, deployment.station
    failovers = [fault for fault in timeline.faults if fault.kind == "failover"]
    if failovers and isinstance(backing, ReplicatedBacking):
        backing.lags(failovers[0].lag)
    for fault in timeline.faults:
        await runtime.sleep(fault.start - runtime.env.now)
        if fault.kind == "restart":
            for node in range(len(deployment.storages)) if fault.nodes is None else fault.nodes:
                deployment.restart(node)
        if fault.kind in ("crash", "failover") and station is not None:
            station.begin_anew(fault.start + fault.duration, fault.start)
            assert isinstance(backing, ReplicatedBacking)
            if fault.kind == "failover":
                backing.fail_over()
                failovers.pop(0)
                backing.lags(failovers[0].lag if failovers else inf)
            elif not fault.keeps_memory:
                backing.lose_memory()
