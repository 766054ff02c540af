"""Queues in simulated time: a FIFO station, shared processors, and the statistics that prove that they are queues.

The package knows nothing of rate limiting. Use `fifo_station.FifoStation`, `event_loop_cpu.EventLoopCPU`,
`processor_sharing.MultiCoreCPU` and `station_stats.StationStats`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.queueing.event_loop_cpu import EventLoopCPU
    from ratesim.simulation.queueing.fifo_station import FifoStation, lindley_waits, record_batch
    from ratesim.simulation.queueing.processor_sharing import MultiCoreCPU
    from ratesim.simulation.queueing.station_stats import SharedStationStats, StationStats

__all__ = [
    "EventLoopCPU",
    "FifoStation",
    "MultiCoreCPU",
    "SharedStationStats",
    "StationStats",
    "lindley_waits",
    "record_batch",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "FifoStation": "ratesim.simulation.queueing.fifo_station",
        "lindley_waits": "ratesim.simulation.queueing.fifo_station",
        "record_batch": "ratesim.simulation.queueing.fifo_station",
        "EventLoopCPU": "ratesim.simulation.queueing.event_loop_cpu",
        "MultiCoreCPU": "ratesim.simulation.queueing.processor_sharing",
        "SharedStationStats": "ratesim.simulation.queueing.station_stats",
        "StationStats": "ratesim.simulation.queueing.station_stats",
    },
)
