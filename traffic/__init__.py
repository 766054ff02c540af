"""Where requests come from: traces, read from logs or made from recipes, and the clients that send them."""

from traffic.arrivals import Poisson, Steady
from traffic.blocks import LogError
from traffic.clients import open_loop
from traffic.keys import Uniform, Zipf
from traffic.live import replay
from traffic.logs import read_log
from traffic.origin import Origin, TraceError
from traffic.trace import Trace
from traffic.workload import Workload

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # a batch of requests
    "Trace",
    "Origin",
    "TraceError",
    # read from a log
    "read_log",
    "LogError",
    # made from a recipe
    "Workload",
    "Poisson",
    "Steady",
    "Zipf",
    "Uniform",
    # sent, in simulated time and in real time
    "open_loop",
    "replay",
]
