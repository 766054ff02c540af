"""The views of a node, and how they are read from the store: `ViewCache`."""

from __future__ import annotations

import math
from math import inf
from typing import Any

from ratesim.simulation.kernel.event_queue import operation_free, operation_new, task_free, task_new, task_spawn, turn_call
from ratesim.simulation.kernel.layout import (
    FLUSH_SOON,
    FLUSH_START,
    FULL,
    GET,
    GO_ON,
    NONE,
    READ_WAITED,
    REFRESH,
    REFRESH_START,
    STATE_AHEAD,
    SUBMIT,
)
from ratesim.simulation.kernel.replica_state import replica_first_time
from ratesim.simulation.kernel.state_layout import ROW_CREATED_AT, ROW_EXPIRES_AT, ROW_LIVES, ROW_REQUESTS


def flight_wait(w: Any, flight: int, t: int, at: int) -> bool:
    """Let a task wait for the read or flush that another carries out: `Flight.wait`."""
    task = w.tasks[t]
    carrier = w.tasks[flight]
    task.at = at
    task.next = NONE
    if carrier.flight_first == NONE:
        carrier.flight_first = t
    else:
        w.tasks[carrier.flight_last].next = t
    carrier.flight_last = t
    return False


def flight_set(w: Any, t: int) -> None:
    """Resume the tasks that wait for the flight of a task, in their order."""
    task = w.tasks[t]
    waiting = task.flight_first
    task.flight_first = NONE
    while waiting != NONE:
        turn_call(w, GO_ON, waiting)
        waiting = w.tasks[waiting].next


def cache_read(w: Any, t: int) -> bool:
    """Read the store's state into the view, or wait for the read or flush that is under way: `ViewCache.read`."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    if r.flight != NONE:
        return flight_wait(w, r.flight, t, READ_WAITED)
    return cache_fetch(w, t)


def cache_fetch(w: Any, t: int) -> bool:
    """Ask for the store's state: `ViewCache._fetch`."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    r.flight = t
    task.flight_first = NONE
    o = operation_new(w, GET, t)
    operation = w.operations[o]
    operation.key = r.key
    operation.node = r.node
    operation.pair = task.pair
    operation.time = w.epoch + w.now
    task.first = o
    task.last = o
    task.count = 1
    task.at = SUBMIT
    return True


def cache_fetched(w: Any, t: int) -> None:
    """Take the store's state into the view."""
    task = w.tasks[t]
    pair = task.pair
    r = w.replicas[pair]
    cache_store(w, pair, w.operations[task.first].found, task.first)
    operation_free(w, task.first)
    r.flight = NONE
    flight_set(w, t)
    if r.overdue:
        r.overdue = 0
        soon = task_new(w, FLUSH_SOON, r.node)
        w.tasks[soon].pair = pair
        w.tasks[soon].at = FLUSH_START
        task_spawn(w, soon)


def cache_refresh(w: Any, r: Any, pair: int, now: float) -> None:
    """Go on with the view that there is, and read in the background: `ViewCache._refresh`."""
    r.fresh_until = min(r.read_at + w.view_ttl, now + w.max_wait)
    if r.flight == NONE:
        t = task_new(w, REFRESH, r.node)
        w.tasks[t].pair = pair
        w.tasks[t].at = REFRESH_START
        task_spawn(w, t)


def cache_refresh_start(w: Any, t: int) -> bool:
    """Read in the background, unless it is read or flushed now: `ViewCache._fetch_in_background`."""
    if w.replicas[w.tasks[t].pair].flight == NONE:
        return cache_fetch(w, t)
    task_free(w, t)
    return False


def cache_refreshed(w: Any, t: int) -> bool:
    """End a read in the background."""
    cache_fetched(w, t)
    task_free(w, t)
    return False


def cache_store(w: Any, pair: int, found: int, o: int) -> None:
    """Replace the view by the store's state and the consumption that the store may not know: `ViewCache.store`."""
    r = w.replicas[pair]
    now = w.epoch + w.now
    r.read_at = now
    r.fresh_until = now + w.view_fresh
    if w.sessions:
        cache_see(w, r, pair, found, o)
    if not found:
        first = replica_first_time(w, r)
        if math.isnan(first):
            cache_remove(w, r, pair)
            return
        w.rule_begin(w.view_table, pair, first)
    else:
        if w.rule_time(w.answer_table, o) - max(now, r.asked_at) > w.view_skew:
            w.abort = STATE_AHEAD
        w.rule_export(w.answer_table, o, w.view_table, pair)
    d = r.sending_first
    while d != NONE:
        w.rule_charge(w.view_table, pair, w.deltas[d].time, w.deltas[d].cost)
        d = w.deltas[d].next
    d = r.pending_first
    while d != NONE:
        w.rule_charge(w.view_table, pair, w.deltas[d].time, w.deltas[d].cost)
        d = w.deltas[d].next
    if r.requests > 0:
        w.rule_charge(w.view_table, pair, r.time, r.cost)
    w.rule_settle(w.view_table, pair)
    r.stored_life = w.view_rows[pair * w.state_stride + ROW_LIVES]
    r.marked = found
    cache_touch(w, r, pair)


def cache_see(w: Any, r: Any, pair: int, found: int, o: int) -> None:
    """Note the version of the store's state, and its watermarks."""
    nodes = len(w.nodes)
    r.seen_at = 0.0
    r.seen_requests = 0.0
    if found:
        r.seen_at = w.answer_rows[o * w.state_stride + ROW_CREATED_AT]
        r.seen_requests = w.answer_rows[o * w.state_stride + ROW_REQUESTS]
    for number in range(nodes):
        w.seen_marks[pair * nodes + number] = w.answer_marks[o * nodes + number] if found else 0.0


def cache_touch(w: Any, r: Any, pair: int) -> None:
    """Note that the view is there, and the last that was used."""
    if not r.there:
        r.there = 1
        cache_log(w, pair + 1)
    w.touches += 1
    r.touched = w.touches


def cache_log(w: Any, change: int) -> None:
    """Note that a view comes, or goes: what a table takes depends on both."""
    place = w.there_count
    if place >= len(w.there_log):
        w.abort = FULL
        return
    w.there_log[place] = change
    w.there_count = place + 1


def cache_remove(w: Any, r: Any, pair: int) -> None:
    """Drop the view: `MemoryStorage.remove_entry`."""
    if r.there:
        r.there = 0
        cache_log(w, -1 - pair)
        w.view_rows[pair * w.state_stride + ROW_EXPIRES_AT] = 0.0


def cache_invalidate(w: Any, r: Any, pair: int) -> None:
    """Drop the view: the next decision reads the store: `ViewCache.invalidate`."""
    r.read_at = -inf
    r.fresh_until = -inf
    cache_remove(w, r, pair)
