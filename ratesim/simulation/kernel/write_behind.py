"""How consumption that was admitted at a node reaches the store: `WriteBehindQueue`, where nothing fails."""

from __future__ import annotations

import math
from typing import Any

from ratesim.simulation.kernel.client import client_batch_done, client_submit_all
from ratesim.simulation.kernel.event_queue import operation_free, operation_new, task_free, task_new, task_sleep, task_spawn
from ratesim.simulation.kernel.layout import (
    APPLY,
    DELIVER,
    FLUSH,
    FLUSH_DUE,
    FLUSH_NEXT,
    FLUSH_ROUND,
    FLUSH_SOON,
    NONE,
    ROOM_WANTED,
)
from ratesim.simulation.kernel.read_cache import cache_store, flight_set
from ratesim.simulation.kernel.replica_state import replica_note, replica_settle, replica_take, replica_unsent


def flush_note(w: Any, number: int, pair: int, now: float, cost: float) -> None:
    """Note an admitted cost; the write policy decides when it is sent: `WriteBehindQueue.note` and `enqueue`."""
    queue = w.queues[number]
    if w.flush_lingers:
        if queue.waiting >= w.queue_size:
            w.abort = ROOM_WANTED
        queue.waiting += 1
    r = w.replicas[pair]
    replica_note(w, r, now, cost)
    if not r.dirty:
        flush_mark_dirty(w, queue, r, pair)
        flush_wake(w, number)


def flush_mark_dirty(w: Any, queue: Any, r: Any, pair: int) -> None:
    """Put a record behind those that became dirty before."""
    r.dirty = 1
    r.dirty_before = queue.dirty_last
    r.dirty_after = NONE
    if queue.dirty_count == 0:
        queue.dirty_first = pair
        r.dirty_before = NONE
    else:
        w.replicas[queue.dirty_last].dirty_after = pair
    queue.dirty_last = pair
    queue.dirty_count += 1


def flush_mark_clean(w: Any, queue: Any, r: Any) -> None:
    """Take a record out of the dirty ones."""
    if not r.dirty:
        return
    r.dirty = 0
    if r.dirty_before == NONE:
        queue.dirty_first = r.dirty_after
    else:
        w.replicas[r.dirty_before].dirty_after = r.dirty_after
    if r.dirty_after == NONE:
        queue.dirty_last = r.dirty_before
    else:
        w.replicas[r.dirty_after].dirty_before = r.dirty_before
    queue.dirty_count -= 1


def flush_wake(w: Any, number: int) -> None:
    """Start the task that flushes dirty records, unless it runs: `WriteBehindQueue.wake`."""
    queue = w.queues[number]
    if not queue.worker and queue.dirty_count > 0:
        queue.worker = 1
        t = task_new(w, FLUSH, number)
        w.tasks[t].at = FLUSH_ROUND
        task_spawn(w, t)


def flush_round(w: Any, t: int) -> bool:
    """Wait for the next flush while a record is dirty: `_flush_at_ticks` and `_flush_in_batches`."""
    queue = w.queues[w.tasks[t].node]
    if queue.dirty_count == 0:
        queue.worker = 0
        task_free(w, t)
        return False
    if not w.flush_lingers:
        return task_sleep(w, t, flush_until_tick(w.epoch + w.now, w.sync_interval, queue.phase), FLUSH_DUE)
    if queue.dirty_count < w.flush_batch:
        return task_sleep(w, t, w.flush_linger, FLUSH_DUE)
    w.tasks[t].at = FLUSH_DUE
    return True


def flush_until_tick(now: float, interval: float, phase: float) -> float:
    """Return the seconds until the next tick: `until_tick`."""
    ticks = math.floor((now - phase) / interval + 1.0)
    tick = ticks * interval + phase
    if tick <= now:
        tick = (ticks + 1) * interval + phase
    return tick - now


def flush_due(w: Any, t: int) -> bool:
    """List the records that are flushed now: the first part of `_send_all`."""
    task = w.tasks[t]
    queue = w.queues[task.node]
    most = queue.dirty_count
    only_idle = False
    if w.flush_lingers:
        most = w.flush_batch
        only_idle = flush_all_fly(w, queue)
    task.ready = NONE
    last = NONE
    found = 0
    pair = queue.dirty_first
    while pair != NONE and found < most:
        r = w.replicas[pair]
        following = r.dirty_after
        if not (only_idle and r.flight != NONE):
            found += 1
            if flush_is_ready(w, queue, r):
                r.ready_next = NONE
                if last == NONE:
                    task.ready = pair
                else:
                    w.replicas[last].ready_next = pair
                last = pair
        pair = following
    if w.flush_lingers and found == 0:
        return task_sleep(w, t, w.flush_linger, FLUSH_ROUND)
    task.at = FLUSH_NEXT
    return True


def flush_all_fly(w: Any, queue: Any) -> bool:
    """Tell whether all records of the next batch are read or flushed now."""
    seen = 0
    pair = queue.dirty_first
    while pair != NONE and seen < w.flush_batch:
        r = w.replicas[pair]
        if r.flight == NONE:
            return False
        seen += 1
        pair = r.dirty_after
    return True


def flush_is_ready(w: Any, queue: Any, r: Any) -> bool:
    """Tell whether a record can be sent now; note where it is due and cannot."""
    if replica_unsent(r):
        if r.flight == NONE:
            return True
        r.overdue = r.sending_first == NONE
    elif r.sending_first == NONE:
        flush_mark_clean(w, queue, r)
    return False


def flush_next(w: Any, t: int) -> bool:
    """Send the next batch of the records that are ready: the second part of `_send_all`."""
    task = w.tasks[t]
    task.rest = NONE
    while task.ready != NONE and task.rest == NONE:
        taken = 0
        task.flight_first = NONE
        while task.ready != NONE and taken < w.flush_batch:
            pair = task.ready
            r = w.replicas[pair]
            task.ready = r.ready_next
            taken += 1
            if r.flight == NONE and replica_unsent(r):
                flush_take(w, t, pair)
    if task.rest != NONE:
        return client_submit_all(w, t)
    task.at = FLUSH_ROUND
    return True


def flush_take(w: Any, t: int, pair: int) -> None:
    """Make the charge of a record, behind those that the task sends: `WriteBehindQueue._send` and `ReplicaState.charge`."""
    task = w.tasks[t]
    r = w.replicas[pair]
    r.flight = t
    replica_take(w, r)
    flush_mark_clean(w, w.queues[r.node], r)
    sent = w.epoch + w.now
    d = r.sending_first
    while d != NONE:
        sent = max(sent, w.deltas[d].time)
        d = w.deltas[d].next
    r.asked_at = sent
    o = operation_new(w, APPLY, t)
    operation = w.operations[o]
    operation.key = r.key
    operation.node = r.node
    operation.pair = pair
    operation.time = w.deltas[r.sending_first].time
    operation.epoch = r.epoch
    operation.sent = sent
    if task.rest == NONE:
        task.rest = o
    else:
        w.operations[task.rest_last].next = o
    task.rest_last = o
    task.done = NONE


def flush_start(w: Any, t: int) -> bool:
    """Flush a record that was being read when its flush was due: `_flush_soon`."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    if flush_is_ready(w, w.queues[task.node], r):
        return flush_one(w, t)
    task_free(w, t)
    return False


def flush_one(w: Any, t: int) -> bool:
    """Send one record."""
    task = w.tasks[t]
    task.rest = NONE
    task.flight_first = NONE
    flush_take(w, t, task.pair)
    return client_submit_all(w, t)


def flush_answered(w: Any, t: int) -> bool:
    """Take note of the answers, and go on: the end of `WriteBehindQueue._send`."""
    if client_batch_done(w, t):
        return client_submit_all(w, t)
    task = w.tasks[t]
    queue = w.queues[task.node]
    o = task.done
    while o != NONE:
        operation = w.operations[o]
        requests = replica_settle(w, w.replicas[operation.pair])
        if w.flush_lingers:
            queue.waiting -= requests
        cache_store(w, operation.pair, 1, o)
        o = operation.next
    o = task.done
    while o != NONE:
        operation = w.operations[o]
        w.replicas[operation.pair].flight = NONE
        following = operation.next
        operation_free(w, o)
        o = following
    task.done = NONE
    flush_wake(w, task.node)
    flight_set(w, t)
    if task.kind == FLUSH_SOON:
        task_free(w, t)
        return False
    task.at = FLUSH_NEXT if task.kind == FLUSH else DELIVER
    return True
