"""The network of a simulated deployment: links with delay and loss, load balancing, and bytes on the wire.

It knows traces and storage operations, and nothing of simulated time. Use `links.PRESETS`, `load_balancer.Router`,
`wire_size.wire_protocol` and `counter_rng.draw`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.network.counter_rng import draw, draws, name_hash
    from ratesim.simulation.network.links import PRESETS, Link, preset_link
    from ratesim.simulation.network.load_balancer import Router, Routing, consistent_hash, route
    from ratesim.simulation.network.wire_size import MeteredBackend, Wire, wire_protocol

__all__ = [
    "PRESETS",
    "Link",
    "MeteredBackend",
    "Router",
    "Routing",
    "Wire",
    "consistent_hash",
    "draw",
    "draws",
    "name_hash",
    "preset_link",
    "route",
    "wire_protocol",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "draw": "ratesim.simulation.network.counter_rng",
        "draws": "ratesim.simulation.network.counter_rng",
        "name_hash": "ratesim.simulation.network.counter_rng",
        "PRESETS": "ratesim.simulation.network.links",
        "Link": "ratesim.simulation.network.links",
        "preset_link": "ratesim.simulation.network.links",
        "Router": "ratesim.simulation.network.load_balancer",
        "Routing": "ratesim.simulation.network.load_balancer",
        "consistent_hash": "ratesim.simulation.network.load_balancer",
        "route": "ratesim.simulation.network.load_balancer",
        "MeteredBackend": "ratesim.simulation.network.wire_size",
        "Wire": "ratesim.simulation.network.wire_size",
        "wire_protocol": "ratesim.simulation.network.wire_size",
    },
)
