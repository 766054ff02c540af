"""What every part of one run needs to know, gathered once at its start."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ratesim.limit import Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.fault_timeline import FaultTimeline
from ratesim.simulation.engine.trace_environment import TraceEnvironment
from ratesim.simulation.network.load_balancer import Routing
from ratesim.simulation.scenario.scenario import EPOCH, Candidate, Scenario
from traffic import ReactiveClients, Trace

__all__ = ["PACES", "REACTIVE_CLIENTS", "STORE_CLIENTS", "STORE_WORK", "RunContext"]

# Streams of random numbers, each with its own generator, so that one more draw from the first moves no number of the second.
STORE_CLIENTS = 1  # jitter of the nodes' clients; stream 2 belongs to the load balancer
REACTIVE_CLIENTS = 3  # think times and retries
STORE_WORK = 4  # beginnings of a server's own work
PACES = 5  # how fast nodes and servers are at a moment


@dataclass(frozen=True)
class RunContext:
    """One candidate in one scenario with one seed, and the simulated world in which it runs.

    Attributes
    ----------
    scenario
        The scenario, with the candidate's algorithm in its limit.
    candidate
        The storage and routing under test.
    profile
        Measured costs of the backends.
    seed
        Seed of this replication.
    trace
        The scenario's requests. With reactive clients: what they would send if no request were denied.
    clients
        Clients that react to decisions; None when the trace is replayed as it is.
    env, runtime
        Simulated time, and the `Runtime` on top of it. The clock begins at the first request of the trace.
    sequence
        Numbers the decisions of the run, from 1.
    """

    scenario: Scenario
    candidate: Candidate
    profile: Profile
    seed: int
    trace: Trace
    clients: ReactiveClients | None
    env: TraceEnvironment
    runtime: SimRuntime
    sequence: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    @classmethod
    def of(cls, scenario: Scenario, candidate: Candidate, profile: Profile, seed: int, trace: Trace) -> RunContext:
        """Prepare a run at simulated time 0."""
        env = TraceEnvironment()
        epoch = float(trace.time[0]) if len(trace) else EPOCH
        return cls(scenario, candidate, profile, seed, trace, scenario.clients(trace), env, SimRuntime(env, epoch))

    @cached_property
    def limit(self) -> Limit:
        """The limit that every request meets."""
        return self.scenario.limit.limit()

    @cached_property
    def timeline(self) -> FaultTimeline | None:
        """The faults of the scenario; None without any."""
        return FaultTimeline(self.scenario.faults) if self.scenario.faults else None

    @cached_property
    def known(self) -> Trace:
        """The requests that are known before the run; none with reactive clients."""
        return self.trace.head(0) if self.clients else self.trace

    @property
    def duration(self) -> float:
        """Seconds in which requests come."""
        return self.trace.duration if self.clients is None else max(self.trace.duration, self.scenario.workload.duration)

    @property
    def routing(self) -> Routing:
        """The candidate's routing, or the deployment's where the candidate names none."""
        return self.candidate.routing or self.scenario.deployment.routing

    @property
    def warmup_end(self) -> float:
        """The end of the warm-up, in seconds since the Unix epoch."""
        return self.runtime.epoch + self.scenario.warmup

    def rng(self, stream: int) -> np.random.Generator:
        """Return the generator of one stream of random numbers."""
        return np.random.default_rng([self.seed, stream])
