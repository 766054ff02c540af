"""Cores that an operating system shares equally among processes: `MultiCoreCPU`."""

from __future__ import annotations

from math import inf
from typing import Any

from ratesim.simulation.kernel.event_queue import event_push, heap_pop, heap_push, turn_call
from ratesim.simulation.kernel.layout import CORES_PASS, FULL, GO_ON, NONE, SOLE_LEAVES
from ratesim.simulation.kernel.station import station_come, station_go

CORES_CLOSE = 1e-9  # seconds: a departure so soon happens now, because virtual time is rounded


def cores_pace(w: Any, many: int) -> float:
    """Return the virtual time per second with so many customers inside."""
    shares = w.core_shares
    if many < len(shares):
        return shares[many]
    return shares[len(shares) - 1] * (len(shares) - 1) / many


def cores_spend(w: Any, t: int, seconds: float, at: int) -> bool:
    """Let a task go on at a place when so many seconds of a core's time were given: `MultiCoreCPU.spend`."""
    cores = w.cores[0]
    w.tasks[t].at = at
    if cores.alone or cores.inside > 0:
        cores_go_to(w, cores)
    station_come(w)
    cores.busy += seconds
    if not cores.alone and cores.inside == 0:  # most customers come to an empty processor and leave before the next
        left = w.now + seconds / cores_pace(w, 1)
        cores.alone = 1
        cores.alone_left = left
        cores.alone_came = w.now
        cores.alone_seconds = seconds
        cores.alone_sole = NONE
        cores.at = w.now
        if not left - w.now > 0.0:
            return True
        cores.alone_sole = cores_sole(w, t)
        event_push(w, w.now + (left - w.now), SOLE_LEAVES, cores.alone_sole)
        return False
    if cores.alone:
        cores.alone = 0
        sole = w.soles[cores.alone_sole]
        cores_push(w, cores, cores.alone_seconds, cores.alone_came, cores.alone_seconds, sole.task)
        sole.task = NONE  # its event wakes nobody
    cores_push(w, cores, cores.virtual + seconds, w.now, seconds, t)
    cores_set(w, cores)
    return False


def cores_sole(w: Any, t: int) -> int:
    """Return a place for the only customer inside."""
    place = w.soles_free
    if place == NONE:
        w.abort = FULL
        return 0
    sole = w.soles[place]
    w.soles_free = sole.next
    sole.task = t
    return place


def cores_sole_leaves(w: Any, place: int) -> int:
    """Return the task that goes on when the only customer leaves; none where another came meanwhile."""
    sole = w.soles[place]
    sole.next = w.soles_free
    w.soles_free = place
    return sole.task


def cores_push(w: Any, cores: Any, leaves: float, came: float, seconds: float, t: int) -> None:
    """Put a customer into the heap of those inside, by the virtual time at which it leaves."""
    place = cores.inside
    if place >= len(w.departures):
        w.abort = FULL
        return
    cores.inside = place + 1
    cores.count += 1
    customer = w.customers[t]
    customer.came = came
    customer.seconds = seconds
    heap_push(w.departures, place, leaves, cores.count, GO_ON, t)


def cores_go_to(w: Any, cores: Any) -> None:
    """Bring virtual time forward to now."""
    if cores.alone:
        if w.now >= cores.alone_left:
            cores.alone = 0
            cores_gone(w, cores.alone_came, cores.alone_seconds, cores.alone_left)
            cores.virtual = 0.0
        else:
            cores.virtual += (w.now - cores.at) * cores_pace(w, 1)
    elif cores.inside > 0:
        cores.virtual += (w.now - cores.at) * cores_pace(w, cores.inside)
    cores.at = w.now


def cores_gone(w: Any, came: float, seconds: float, left: float) -> None:
    """Account for a customer that has left."""
    station_go(w, left, left - came, seconds)


def cores_set(w: Any, cores: Any) -> None:
    """Schedule an event for the next departure; an event that is too early schedules another."""
    at = w.now + max((w.departures[0].time - cores.virtual) / cores_pace(w, cores.inside), 0.0)
    if at < cores.wakes:
        cores.wakes = at
        event_push(w, w.now + (at - w.now), CORES_PASS, 0)


def cores_pass(w: Any) -> bool:
    """Resume those that leave now; False where an earlier event was set since, and has looked."""
    cores = w.cores[0]
    if w.now < cores.wakes:
        return False
    cores.wakes = inf
    cores_go_to(w, cores)
    while cores.inside > 0:
        if w.departures[0].time - cores.virtual > CORES_CLOSE * cores_pace(w, cores.inside):
            break
        t = w.departures[0].argument
        cores_gone(w, w.customers[t].came, w.customers[t].seconds, w.now)
        cores.inside -= 1
        heap_pop(w.departures, cores.inside)
        turn_call(w, GO_ON, t)
    if cores.inside > 0:
        cores_set(w, cores)
    else:
        cores.virtual = 0.0
    return True
