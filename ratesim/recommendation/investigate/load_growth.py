"""Load growth: a scenario's traffic at a multiple of today's load, cut so that a run takes no longer for it.

Load grows in two ways, which a limiter feels differently. More clients of the same kind bring more keys, each requested as
often as before. Busier clients are as many as before, and each key is requested more often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ratesim.formatting import format_amount
from ratesim.recommendation.investigate.sampling import LASTING, busiest_window
from traffic.addresses import ALL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from traffic import Trace

__all__ = ["LoadGrowth", "load_growths"]

Way = Literal["more clients", "busier clients"]

# What a process makes in a second or two, and has room for.
MOST_MADE = 10_000_000  # requests, of a recipe that must be made whole before it is cut
MOST_NAMED = 4_000_000  # keys
MOST_USERS = 100_000
WARM = 0.2  # of what is covered, at most


@dataclass(frozen=True)
class LoadGrowth:
    """One way in which load grows.

    The excerpt of every load is of the same stretch of traffic, the busiest at today's load, so that k times the load is k
    times its requests per second. It is cut to its first `requests`, so that a larger load is simulated for a shorter time.
    Where arrivals have a rhythm (a crowd, a herd, bursts) it is cut to its busiest moments instead, so that they are in it.

    Attributes
    ----------
    way
        More clients or busier clients.
    scenario
        An excerpt of today's.
    requests
        Of one run, at most.
    window
        Seconds that the excerpt lasts.
    rate
        Requests per second in it.
    most
        The largest factor that can be tried.
    is_whole
        Whether the excerpt is all of the traffic.
    """

    way: Way
    scenario: Scenario
    requests: int
    window: float
    rate: float
    most: float
    is_whole: bool

    def covers(self, factor: float) -> float:
        """Return the seconds of traffic of a run at that load."""
        faster = factor if self.scenario.workload.is_replayed and self.way == "busier clients" else 1.0
        return min(self.requests / (self.rate * factor), self.window / faster)

    def at(self, factor: float) -> dict[str, Any]:
        """Return the fields of a grid that make that load."""
        workload = self.scenario.workload
        fields: dict[str, Any] = dict(self._fields(factor))
        covered = self.covers(factor)
        if workload.log is None and workload.requests_per_second is None:
            fields["workload.duration"] = min(workload.duration, covered)
        else:
            head = (workload.head or self.requests) * fields.get("workload.scale", workload.scale) / workload.scale
            fields["workload.head"] = min(math.ceil(head), self.requests)
        if "workload.requests_per_second" in fields:
            # Of arrivals with a rhythm the busiest is what counts.
            field = "duration" if workload.arrivals in LASTING else "busiest"
            longest = getattr(workload, field) or workload.duration
            fields[f"workload.{field}"] = min(longest, covered * workload.speed)
        if self.scenario.warmup:
            fields["warmup"] = min(self.scenario.warmup, WARM * covered)
        return fields

    def phrase(self, factor: float, up_to: str = "") -> str:
        """Return the load in words, after a verb. up_to: "up to " where smaller ones are meant, too."""
        if factor == 1.0:
            return "at today's load"
        times = f"{up_to}{format_amount(factor)} times"
        return f"with {times} as many clients" if self.way == "more clients" else f"with clients {times} as busy"

    def _fields(self, factor: float) -> Iterator[tuple[str, Any]]:
        workload, more = self.scenario.workload, self.way == "more clients"
        if workload.log is None and workload.requests_per_second is None:
            assert workload.clients is not None
            assert workload.clients.users is not None
            tenants = min(workload.keys, workload.clients.users)
            yield "workload.clients.users", round(factor * workload.clients.users)
            yield "workload.keys", round(factor * tenants) if more else tenants
        elif workload.is_replayed or (more and _is_superposed(self.scenario)):
            name = "scale" if more else "speed"
            yield f"workload.{name}", factor * getattr(workload, name)
        else:
            assert workload.requests_per_second is not None
            yield "workload.requests_per_second", factor * workload.requests_per_second
            if more:
                yield "workload.keys", round(factor * workload.keys)


def load_growths(
    scenario: Scenario, trace: Trace, requests: int, most: float, part: int | None = None
) -> tuple[LoadGrowth, ...]:
    """Return the ways in which the load of a scenario grows.

    Of a log, and of Poisson arrivals, more clients are copies under other keys (`scale`). Of a recipe whose arrivals have a
    rhythm, copies that are out of step would blur it. There requests and keys grow together, so that the busiest keys of a
    zipf or a hot key are requested more often, too. Of one limit for all requests together more clients are no more keys, so
    that there is one way.

    Parameters
    ----------
    scenario, trace
        The scenario and its traffic.
    requests
        Of one run, at most.
    most
        The largest multiple of today's load; less where so much cannot be made.
    part
        Requests of the excerpt at today's load, about; half of `requests` unless given.
    """
    excerpt = busiest_window(scenario, trace, max(1, requests // 2) if part is None else part)
    workload = excerpt.workload
    window = trace.duration if workload.busiest is None else min(trace.duration, workload.busiest / workload.speed)
    rate = (len(trace.busiest(window)) if window > 0 else len(trace)) / max(window, 1e-6)
    shared = list(trace.keys) == [ALL]
    ways: tuple[Way, ...] = ("busier clients",) if shared else ("more clients", "busier clients")
    growths = []
    for way in ways:
        one = LoadGrowth(way, excerpt, requests, window, rate, most, excerpt.workload == scenario.workload)
        highest = min([most, *(bound / max(value, 1e-9) for value, bound in _bounds(one, trace))])
        growths.append(replace(one, most=max(highest, 1.0)))
    return tuple(growths)


def _is_superposed(scenario: Scenario) -> bool:
    return scenario.workload.arrivals == "poisson"


def _bounds(growth: LoadGrowth, trace: Trace) -> Iterator[tuple[float, float]]:
    """Yield each quantity that grows with the load, at today's, and its bound."""
    workload = growth.scenario.workload
    for field, value in growth.at(1.0).items():
        match field:
            case "workload.scale":
                yield value, 10_000
            case "workload.speed":
                yield value, 1e6
            case "workload.clients.users":
                yield value, MOST_USERS
            case "workload.keys" if growth.way == "more clients":
                yield value, MOST_NAMED
            case "workload.requests_per_second":
                yield value, 1e6
                if workload.arrivals not in LASTING:
                    yield len(trace), MOST_MADE
