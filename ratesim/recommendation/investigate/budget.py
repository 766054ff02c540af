"""The budget of an investigation: how many requests a run may have, in nominal seconds, which no clock measures.

A clock would cut the traffic elsewhere on each machine and in each hour. So the cost of a run is its simulated events times
a fixed cost of each, and the same question is decided on the same requests everywhere. The events are those of the
screening.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ratesim.safe_text import shorten_repr
from ratesim.simulation.experiments.adaptive import Row
from ratesim.simulation.scenario.scenario import ScenarioError
from ratesim.storage import StorageURL

__all__ = ["MOST", "OF_A_REQUEST", "SECONDS", "RunCost", "allot", "checked_seconds", "run_cost"]

SECONDS = 600.0  # of one core, nominal, for the runs of all contenders
MOST = 15_000_000  # requests of a run: its columns are some 250 bytes a request

# Nominal: measured on two cores of a shared virtual machine, 2026-11-30, and right within a factor of three.
OF_A_REQUEST = {"simpy": 5e-6, "compiled": 0.4e-6}
OF_AN_EVENT = {"simpy": 10e-6, "compiled": 0.2e-6}
OF_VIEWS = 3.0  # times the cost of an event, where nodes decide on their own views


class RunCost(NamedTuple):
    """The nominal cost of one request.

    Attributes
    ----------
    engine
        The engine that simulates the candidate.
    seconds
        Of a request, with that engine.
    by_simpy
        The same if SimPy has to do it.
    reason
        Why SimPy has to; "" where the engine is the compiled one.
    """

    engine: str
    seconds: float
    by_simpy: float
    reason: str = ""

    def in_simpy(self, reason: str) -> RunCost:
        """Return the cost where SimPy has to simulate the candidate, for that reason."""
        return RunCost("simpy", self.by_simpy, self.by_simpy, reason)


def checked_seconds(seconds: float | None) -> float:
    """Return a budget that can be spent, `SECONDS` for None; raises ScenarioError."""
    if seconds is None:
        return SECONDS
    if not 0.0 <= seconds < math.inf:
        raise ScenarioError(f"seconds {shorten_repr(seconds)}: must be a number of seconds, 0 or more")
    return float(seconds)


def run_cost(row: Row) -> RunCost:
    """Return what a request costs, by a run of the same candidate."""
    hybrid = StorageURL.parse(row["storage"]).hybrid
    views = OF_VIEWS if hybrid is not None and hybrid.consistency != "strong" else 1.0
    events = views * row["events"] / max(row["requests"], 1)
    seconds = {engine: OF_A_REQUEST[engine] + OF_AN_EVENT[engine] * events for engine in OF_A_REQUEST}
    return RunCost(row["engine"], seconds[row["engine"]], seconds["simpy"], row["engine_reason"])


def allot(costs: Mapping[str, float], seconds: float, least: int, most: int) -> dict[str, int]:
    """Share seconds among candidates in equal parts; those that need less leave the rest to the others.

    Parameters
    ----------
    costs
        Seconds of one request of each candidate, over all of its runs.
    seconds
        Seconds for all of them.
    least, most
        Bounds of the requests of a run, whatever they take.

    Returns
    -------
    dict[str, int]
        Requests of a run of each candidate.
    """
    requests = {}
    for others, name in zip(range(len(costs), 0, -1), sorted(costs, key=lambda name: costs[name]), strict=True):
        requests[name] = min(most, max(least, int(seconds / others / costs[name])))
        seconds = max(0.0, seconds - requests[name] * costs[name])
    return requests
