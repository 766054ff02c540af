"""A server as all nodes see it: `StoreServer` with its `FifoStation`, and the way of a batch through it.

`server_pass` serves a batch that has to wait for locks, cores, a disk, or a partition that is dropped: `SimDriver._in_turn`,
`_served` and `_flushed`. Where it waits for none of them `driver_serve` knows its end as it comes.
"""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.coldness import COLD_SERVED, cold_more, cold_pause
from ratesim.simulation.kernel.commit import commit_flushed
from ratesim.simulation.kernel.cores import cores_spend
from ratesim.simulation.kernel.decision import operation_execute
from ratesim.simulation.kernel.event_queue import task_free, task_sleep
from ratesim.simulation.kernel.layout import (
    ACQUIRE,
    CLEANUP_SPENT,
    CLEANUP_START,
    COME_BACK,
    NONE,
    SERVE_FLUSHED,
    SERVE_LOCKED,
    SERVE_SPEND,
    SERVE_SPENT,
)
from ratesim.simulation.kernel.locks import locks_queue, locks_release, locks_wait
from ratesim.simulation.kernel.loop_cpu import PACE_HOLD, PACE_MANY
from ratesim.simulation.kernel.postgres_work import (
    work_drop_partitions,
    work_record,
    work_remove_rows,
    work_service,
    work_statement,
)
from ratesim.simulation.kernel.station import station_add
from ratesim.simulation.kernel.wire import wire_count, wire_note


def server_woken(w: Any, server: Any, arrival: float, service: float) -> float:
    """Return the service time of a batch that may find the processor idle, and so its caches cold."""
    if w.client_cold:
        idle = max(arrival - server.awake_until, 0.0)
        server.pause = cold_pause(w.cold, 0, w.client_cold, idle, server.pause)
        service += cold_more(w.cold, 0, w.client_cold, server.pause, COLD_SERVED)
    if w.server_paced:
        service *= w.server_paces[int(arrival / PACE_HOLD) % PACE_MANY * w.primaries + server.number]
    return service


def server_take(w: Any, server: Any, arrival: float, service: float) -> float:
    """Return when a batch that comes to the station leaves it."""
    service = server_woken(w, server, arrival, service)
    end = server_serve(w, server, arrival, service)
    server.awake_until = max(server.awake_until, end)
    return end


def server_serve(w: Any, server: Any, arrival: float, service: float) -> float:
    """Serve a customer of the station: `FifoStation.serve`."""
    free = w.places_free[0] if w.serves_many else server.free_at
    end = (free if free > arrival else arrival) + service
    if w.serves_many:
        server_replace(w.places_free, end)
    else:
        server.free_at = end
    station_add(w, server.number, arrival, service, end)
    return end


def server_replace(heap: Any, value: float) -> None:
    """Replace the first of a heap: `heapreplace`."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= len(heap):
            break
        if child + 1 < len(heap) and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


def server_spend(w: Any, t: int, service: float, at: int) -> bool:
    """Let a task go on at a place when the processor has served it: `StoreServer.spend`."""
    server = w.servers[w.tasks[t].server]
    if not w.shares_cores:
        return task_sleep(w, t, server_take(w, server, w.now, service) - w.now, at)
    return cores_spend(w, t, server_woken(w, server, w.now, service), at)


def server_spent(w: Any, server: Any) -> None:
    """Note that a customer of the cores leaves."""
    if w.shares_cores:
        server.awake_until = w.now


def server_execute(w: Any, t: int) -> None:
    """Decide a batch at the end of its service: `StoreServer.execute`."""
    task = w.tasks[t]
    sampled = wire_count(w, task)
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        operation_execute(w, operation)
        o = operation.next
    if sampled:
        if w.operations[task.first].kind == ACQUIRE:
            wire_note(w, task)
        else:
            w.samples_note(t)
    if w.follows_rows:
        work_record(w, task)


def server_pass(w: Any, t: int) -> bool:
    """Queue for the rows that a batch changes."""
    if w.locks_rows:
        locks_queue(w, t)
    w.tasks[t].at = SERVE_LOCKED
    return server_locked(w, t)


def server_locked(w: Any, t: int) -> bool:
    """Wait for these rows, and until no partition is dropped."""
    if w.locks_rows and not locks_wait(w, t):
        return False
    if w.works_beside and w.now < w.works[0].locked_until:
        return task_sleep(w, t, w.works[0].locked_until - w.now, SERVE_SPEND)
    return server_begin(w, t)


def server_begin(w: Any, t: int) -> bool:
    """Wait for the processor."""
    task = w.tasks[t]
    service = task.service
    if w.works_beside:
        service = work_service(w, task, service)
    if w.straight:
        task.back += server_take(w, w.servers[task.server], w.now, service) - w.now
        server_execute(w, t)
        return task_sleep(w, t, task.back, COME_BACK)
    return server_spend(w, t, service, SERVE_SPENT)


def server_decide(w: Any, t: int) -> bool:
    """Decide at the end of the service, and wait for the disk."""
    task = w.tasks[t]
    server_spent(w, w.servers[task.server])
    server_execute(w, t)
    return task_sleep(w, t, commit_flushed(w, task) - w.now, SERVE_FLUSHED)


def server_answer(w: Any, t: int) -> bool:
    """Free the rows, and send the answer."""
    if w.locks_rows:
        locks_release(w, t)
    return task_sleep(w, t, w.tasks[t].back, COME_BACK)


def server_cleanup_wait(w: Any, t: int) -> bool:
    """Wait for the next removal of expired rows, if there is one: `StoreServer.remove_expired`."""
    work = w.works[0]
    if work.cleanup_at >= work.cleanup_until:
        task_free(w, t)
        return False
    return task_sleep(w, t, work.cleanup_at - w.now, CLEANUP_START)


def server_cleanup(w: Any, t: int) -> bool:
    """Drop partitions, and look for expired rows."""
    work = w.works[0]
    if work.span > 0.0:
        work_drop_partitions(w, work)
    work_remove_rows(w, work)
    return server_cleanup_statement(w, t)


def server_cleanup_statement(w: Any, t: int) -> bool:
    """Spend the seconds of the next statement."""
    work = w.works[0]
    seconds = work_statement(work)
    if seconds >= 0.0:
        return server_spend(w, t, seconds, CLEANUP_SPENT)
    work.cleanup_at = max(work.cleanup_at + work.cleanup_interval, w.now)
    return server_cleanup_wait(w, t)


def server_cleanup_spent(w: Any, t: int) -> bool:
    """Go on with the next statement."""
    server_spent(w, w.servers[0])
    return server_cleanup_statement(w, t)
