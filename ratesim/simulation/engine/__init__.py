"""One run in simulated time: the nodes, the servers they share, and the requests on their way.

`playback.play` is the entry. It builds a `Cluster` of nodes and servers for a `RunContext`, and replays the traffic through
a `Dispatcher`; `backends.open_backend` puts a real server in the place of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.engine.backends import Fidelity, open_backend
    from ratesim.simulation.engine.cluster import Cluster, backend_of, build_cluster, round_trip
    from ratesim.simulation.engine.context import RunContext
    from ratesim.simulation.engine.dispatcher import Dispatcher
    from ratesim.simulation.engine.remote_storage import SimulatedStorage
    from ratesim.simulation.engine.trace_environment import TraceEnvironment

__all__ = [
    "Cluster",
    "Dispatcher",
    "Fidelity",
    "RunContext",
    "SimulatedStorage",
    "TraceEnvironment",
    "backend_of",
    "build_cluster",
    "open_backend",
    "round_trip",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Fidelity": "ratesim.simulation.engine.backends",
        "open_backend": "ratesim.simulation.engine.backends",
        "Cluster": "ratesim.simulation.engine.cluster",
        "backend_of": "ratesim.simulation.engine.cluster",
        "build_cluster": "ratesim.simulation.engine.cluster",
        "round_trip": "ratesim.simulation.engine.cluster",
        "RunContext": "ratesim.simulation.engine.context",
        "Dispatcher": "ratesim.simulation.engine.dispatcher",
        "SimulatedStorage": "ratesim.simulation.engine.remote_storage",
        "TraceEnvironment": "ratesim.simulation.engine.trace_environment",
    },
)
