"""Queueing theory beside the stations of the simulation: how long customers wait that come at random.

Names are Kendall's: M/M/c has c servers and services of exponential length, M/D/1 one server and services of equal length.
Waits are in mean services.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.student_t import half_width

__all__ = ["QUEUES", "UTILIZATIONS", "WaitComparison", "compare_wait", "erlang_c", "markdown", "mean_wait", "simulated_wait"]

QUEUES = {"M/M/1": (1, False), "M/D/1": (1, True), "M/M/4": (4, False)}  # servers, and whether services are equal
UTILIZATIONS = (0.3, 0.7, 0.9)
REPLICATIONS = 20
CUSTOMERS = 20_000  # in each, and three times as many where waits are long


@dataclass(frozen=True)
class WaitComparison:
    """The mean wait of a queue at a utilization, simulated and by theory, in mean services.

    Attributes
    ----------
    queue : str
        Kendall's name.
    utilization : float
        Share of time that a server is busy.
    simulated, half_width : float
        Mean over replications, and half of its 99 % interval.
    theory : float
        Mean by theory.
    """

    queue: str
    utilization: float
    simulated: float
    half_width: float
    theory: float

    @property
    def agrees(self) -> bool:
        """Whether theory is within the interval."""
        return abs(self.simulated - self.theory) <= self.half_width


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a customer of M/M/c waits (Kleinrock, Queueing Systems 1, 3.5).

    `load` is the number of arrivals in a mean service. The terms load**k / k! are summed as ratios to the last, so that
    nothing overflows.
    """
    term = total = 1.0
    for k in range(servers, 0, -1):
        term *= k / load
        total += term
    return 1.0 / (1.0 + (1.0 - load / servers) * (total - 1.0))


def mean_wait(servers: int, utilization: float, constant: bool) -> float:
    """Return the mean wait by Erlang; half of it for equal services, which for one server is Pollaczek's and Khinchine's."""
    wait = erlang_c(servers, utilization * servers) / (servers * (1.0 - utilization))
    return wait / 2.0 if constant else wait


def simulated_wait(servers: int, utilization: float, constant: bool, customers: int, rng: np.random.Generator) -> float:
    """Simulate the mean wait at one station, once it has warmed up."""
    station = FifoStation(servers)
    arrivals = np.cumsum(rng.exponential(1.0 / (utilization * servers), customers))
    services = np.ones(customers) if constant else rng.exponential(1.0, customers)
    ends = [station.serve(at, service) for at, service in zip(arrivals.tolist(), services.tolist(), strict=True)]
    station.close(float("inf"))
    return float((np.array(ends) - arrivals - services)[customers // 10 :].mean())


def compare_wait(queue: str, utilization: float, seed: int = 7) -> WaitComparison:
    """Compare simulation and theory for one of QUEUES."""
    servers, constant = QUEUES[queue]
    rng = np.random.default_rng(seed)
    customers = CUSTOMERS if utilization < 0.9 else 3 * CUSTOMERS
    means = [simulated_wait(servers, utilization, constant, customers, rng) for _ in range(REPLICATIONS)]
    half = half_width(means, confidence=0.99)
    return WaitComparison(queue, utilization, float(np.mean(means)), half, mean_wait(servers, utilization, constant))


def markdown() -> str:
    """Write the table of all QUEUES at all UTILIZATIONS; it takes some seconds."""
    lines = [
        "| queue | utilization | mean wait simulated, 99 % interval | by theory |",
        "|---|---|---:|---:|",
    ]
    for queue in QUEUES:
        for utilization in UTILIZATIONS:
            wait = compare_wait(queue, utilization)
            lines.append(f"| {queue} | {utilization:g} | {wait.simulated:.4f} ± {wait.half_width:.4f} | {wait.theory:.4f} |")
    return "\n".join(lines) + "\n"
