"""The simulation's prediction of the latencies that one node would see of a server with given costs, client on loopback."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.load_process import server_cores
from ratesim.simulation.cost_model.profile import CLUSTER, BackendCosts, Profile, on_cores
from ratesim.simulation.cost_model.survey import LIMIT
from ratesim.simulation.cost_model.target_server import POOL
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

__all__ = ["predict"]

URLS = {"redis": "redis://server", CLUSTER: "redis+cluster://server", "postgres": "postgresql://server"}


def predict(kind: str, costs: BackendCosts, trace: Trace) -> NDArray[np.float64]:
    """Simulate a trace that was replayed live against a server.

    Parameters
    ----------
    kind : str
        The backend in a profile.
    costs : BackendCosts
        Its costs. Slow phases, which come once in a minute, are left out.
    trace : Trace
        The requests; the limit denies none of them.

    Returns
    -------
    NDArray[np.float64]
        Latencies in seconds.
    """
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 1.0},
            "limit": {"rate": f"{LIMIT.rate:.0f}/minute"},
            "deployment": {"type": "single_instance", "nodes": 1, "network": "loopback"},
        }
    )
    memory = BackendCosts(client_cpu=1e-6)  # no candidate here decides in memory
    costs = on_cores(msgspec.structs.replace(costs, stalls={}), server_cores())
    backends = {kind: costs, "memory": memory}
    profile = Profile(machine="", measured="", versions={}, backends={"redis": costs, **backends})
    result = run(
        scenario,
        Candidate(name=kind, storage=f"{URLS[kind]}?pool_size={POOL}"),
        1,
        profile=profile,
        trace=trace,
        progress=False,
    )
    return result.latency[~result.failed]
