"""Requests: traces, read from logs or made from recipes, and the clients that send them.

The package knows nothing of rate limiting. A `Trace` is a batch of requests as columns; clients send it in simulated or in
real time.
"""

import logging

from traffic.anonymize import AnonymizeError, Anonymizer
from traffic.arrivals import MMPP, EdgeHerd, OnOff, Poisson, Steady
from traffic.clients import open_loop
from traffic.closed_loop import ClosedLoopClients, Constant, Exponential, ReactiveClients, RetryingClients
from traffic.clusters import Hawkes
from traffic.compare import Comparison, compare
from traffic.costs import Lognormal
from traffic.inputs.files import LogError
from traffic.keys import Churning, HotKey, InTurn, Uniform, Zipf
from traffic.live_replay import replay
from traffic.logs import read_log
from traffic.nonstationary import Diurnal, FlashCrowd
from traffic.provenance import Provenance, TraceError, TrafficError
from traffic.recorder import RequestLog
from traffic.retry import ExponentialBackoff, ImmediateRetry, RespectRetryAfter
from traffic.tenants import Profile, TenantGroup, Tenants
from traffic.trace import Trace
from traffic.workload import PerKey, Workload

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # a batch of requests
    "Trace",
    "Provenance",
    "TraceError",
    "TrafficError",
    # read from a log
    "read_log",
    "LogError",
    "Anonymizer",
    "AnonymizeError",
    # made from a recipe
    "Workload",
    "PerKey",
    "Tenants",
    "TenantGroup",
    "Profile",
    # held against a trace
    "compare",
    "Comparison",
    "Poisson",
    "Steady",
    "OnOff",
    "MMPP",
    "Hawkes",
    "Diurnal",
    "FlashCrowd",
    "EdgeHerd",
    "Zipf",
    "Uniform",
    "HotKey",
    "InTurn",
    "Churning",
    "Lognormal",
    # sent, in simulated time and in real time
    "open_loop",
    "replay",
    # by clients that react to their answers
    "ReactiveClients",
    "RequestLog",
    "ClosedLoopClients",
    "Exponential",
    "Constant",
    "RetryingClients",
    "ImmediateRetry",
    "ExponentialBackoff",
    "RespectRetryAfter",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the application configures logging
