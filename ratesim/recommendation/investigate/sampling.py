"""Excerpts: a scenario whose traffic is cut, so that a first look at many candidates, or at many loads, takes no time.

Two cuts serve two questions. `busiest_window` keeps the hardest stretch of time as it is, so a candidate meets there what it
would meet. `sample_keys` keeps all of the time and leaves out keys, so an event at some moment, such as a fault, is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from traffic import Trace

__all__ = ["busiest_window", "sample_keys"]

PERIODS = 2.0  # of the limit that an excerpt covers, if that takes no more than
AT_MOST = 4.0  # times the requests that were asked for
LASTING = ("poisson", "steady")  # arrivals of which any stretch is as busy as another


def busiest_window(
    scenario: Scenario, trace: Trace, requests: int, seconds: float = 0.0, at_most: float = AT_MOST
) -> Scenario:
    """Cut a scenario to its busiest `requests` requests, about.

    The cut covers `seconds`, and two periods of the limit, where that takes no more than `at_most` times as many requests.
    Nothing is cut where there are no more requests. A warm-up is cut to a fifth of the rest. Faults are left out, because
    their moments are. Of a scenario that has a `head` the beginning is kept, since the requests after the head were never
    made.

    Parameters
    ----------
    scenario, trace
        The scenario and its traffic.
    requests
        About how many are kept.
    seconds
        How long the cut lasts at least.
    at_most
        How many times the requests that may take.
    """
    plain = scenario.model_copy(update={"faults": ()})
    if len(trace) <= requests:
        return plain
    least = max(seconds, PERIODS * scenario.limit.limit().period)
    window = max(_lasting(trace, requests), min(least, _lasting(trace, int(at_most * requests))))
    if window >= trace.duration:
        return plain
    warmup = min(scenario.warmup, window / 5.0)
    workload = scenario.workload
    if workload.log is None and (workload.requests_per_second is None or workload.arrivals in LASTING):
        return _with(plain, {"duration": window * workload.speed}, warmup)
    if workload.head is not None:
        return _with(plain, {"head": max(1, int(workload.head * window / trace.duration))}, warmup)
    return _with(plain, {"busiest": window * workload.speed}, warmup)


def sample_keys(scenario: Scenario, trace: Trace, requests: int) -> Scenario:
    """Keep so few keys of a scenario that about `requests` requests are left; its faults stay."""
    if len(trace) <= requests:
        return scenario
    part = requests / len(trace)
    workload = scenario.workload
    if workload.log is None and workload.requests_per_second is None:  # a closed loop is as large as its users are many
        assert workload.clients is not None
        assert workload.clients.users is not None
        users = max(1, round(workload.clients.users * part))
        return _with(scenario, {"clients": workload.clients.model_copy(update={"users": users})}, scenario.warmup)
    fewer: dict[str, Any] = {"scale": workload.scale * part}
    if workload.head is not None:  # else the head would reach further, and hold as many requests again
        fewer["head"] = max(1, round(workload.head * part))
    return _with(scenario, fewer, scenario.warmup)


def _lasting(trace: Trace, requests: int) -> float:
    """Return the seconds of the shortest stretch with so many requests."""
    if requests >= len(trace):
        return trace.duration + 1e-6
    return float((trace.time[requests - 1 :] - trace.time[: len(trace) - requests + 1]).min()) + 1e-6


def _with(scenario: Scenario, workload: dict[str, Any], warmup: float) -> Scenario:
    changed = scenario.workload.model_copy(update=workload)
    # As if it had been written so: `model_fields_set` is what a written scenario, and a grid over it, go by.
    return scenario.model_copy(update={"workload": type(changed).model_validate(changed.model_dump()), "warmup": warmup})
