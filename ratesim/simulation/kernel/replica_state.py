"""The unsent consumption of one key at a node, in deltas: `ReplicaState`."""

from __future__ import annotations

import math
from math import inf
from typing import Any

import numpy as np

from ratesim.simulation.kernel.layout import FULL, NONE

REPLICA_ROUNDING = 1e-15  # as ROUNDING of the replica's state


def replica_start(w: Any, r: Any, number: int, key: int) -> None:
    """Make a record of which nothing is known: `ViewCache.record`."""
    queue = w.queues[number]
    queue.epoch += 1
    r.epoch = queue.epoch
    r.node = number
    r.key = key
    r.exists = 1
    r.read_at = -inf
    r.fresh_until = -inf
    r.asked_at = -inf
    r.since = inf
    r.until = inf
    r.flight = NONE
    r.pending_first = NONE
    r.pending_last = NONE
    r.sending_first = NONE


def replica_note(w: Any, r: Any, now: float, cost: float) -> None:
    """Add an admitted cost; costs of one step of time travel as one delta."""
    if r.since <= now < r.until:
        r.cost += cost
        r.requests += 1
        r.time = max(r.time, now)
        return
    replica_close(w, r)
    r.cost = cost
    r.requests = 1
    r.time = now
    resolution = w.replica_resolution
    if math.isinf(resolution):
        r.since = -inf
        r.until = inf
    elif resolution != 0.0:
        edge = (math.floor(now / resolution) + 1.0) * resolution
        r.since = now
        r.until = edge - abs(edge) * REPLICA_ROUNDING
    else:
        r.since = now
        r.until = np.nextafter(now, inf)


def replica_close(w: Any, r: Any) -> None:
    """Close the open delta."""
    if r.requests == 0:
        return
    d = w.deltas_free
    if d == NONE:
        w.abort = FULL
        return
    delta = w.deltas[d]
    w.deltas_free = delta.next
    delta.time = r.time
    delta.cost = r.cost
    delta.requests = r.requests
    delta.next = NONE
    if r.pending_first == NONE:
        r.pending_first = d
    else:
        w.deltas[r.pending_last].next = d
    r.pending_last = d
    r.since = inf
    r.until = inf
    r.time = 0.0
    r.cost = 0.0
    r.requests = 0


def replica_unsent(r: Any) -> bool:
    """Tell whether any consumption is not being sent."""
    return r.requests > 0 or r.pending_first != NONE


def replica_take(w: Any, r: Any) -> None:
    """Move all unsent deltas to those that are sent."""
    replica_close(w, r)
    r.sending_first = r.pending_first
    r.pending_first = NONE
    r.pending_last = NONE
    r.started += 1


def replica_total(w: Any, r: Any) -> float:
    """Return the cost of the epoch after what is being sent: `total_consumed`."""
    total = 0.0
    d = r.sending_first
    while d != NONE:
        total += w.deltas[d].cost
        d = w.deltas[d].next
    return r.acked + total


def replica_settle(w: Any, r: Any) -> int:
    """Note that the store has taken in what was sent; returns its requests."""
    r.acked = replica_total(w, r)
    requests = 0
    d = r.sending_first
    while d != NONE:
        delta = w.deltas[d]
        requests += delta.requests
        following = delta.next
        delta.next = w.deltas_free
        w.deltas_free = d
        d = following
    r.sending_first = NONE
    r.finished = r.started
    return requests


def replica_first_time(w: Any, r: Any) -> float:
    """Return the time of the first delta that the store may not know; nan where there is none."""
    if r.sending_first != NONE:
        return w.deltas[r.sending_first].time
    if r.pending_first != NONE:
        return w.deltas[r.pending_first].time
    return r.time if r.requests > 0 else math.nan


def replica_position(w: Any, r: Any) -> float:
    """Return the cost admitted here in this epoch, summed in the store's order."""
    total = 0.0
    d = r.sending_first
    while d != NONE:
        total += w.deltas[d].cost
        d = w.deltas[d].next
    d = r.pending_first
    while d != NONE:
        total += w.deltas[d].cost
        d = w.deltas[d].next
    if r.requests > 0:
        total += r.cost
    return r.acked + total
