"""The leases of a node: `LeaseManager`, and `HybridStorage.acquire` on top of it."""

from __future__ import annotations

import math
from typing import Any

from ratesim.simulation.kernel.client import client_batch_done, client_submit_all
from ratesim.simulation.kernel.event_queue import (
    deadline_add,
    deadline_drop,
    heap_pop,
    heap_push,
    operation_free,
    operation_new,
    task_free,
    task_new,
    task_sleep,
    turn_call,
)
from ratesim.simulation.kernel.layout import (
    ACQUIRE,
    APPLY,
    GO_ON,
    LEASE_ACQUIRE,
    LEASE_RENEW,
    LEASE_RENEWAL,
    LEASE_RETURN,
    LEASE_ROUND,
    LEASE_WAITED,
    NONE,
    SUBMIT,
)
from ratesim.simulation.kernel.lease import (
    lease_can_spend,
    lease_on_grant,
    lease_refill_amount,
    lease_reserve,
    lease_start,
)
from ratesim.simulation.kernel.loop_cpu import loop_ahead

LEASE_SOONEST = 0.005  # as SOONEST of the manager


def lease_request(w: Any, number: int, row: int) -> int:
    """Decide a request on the lease of its node; returns the task that asks the store else: `HybridStorage._spend_lease`."""
    pair = number * w.keys + w.key[row] if w.least_outstanding else w.pair[row]
    begin = w.epoch + w.now
    w.plan_request = row
    if w.leases[pair].exists:
        verdict = lease_spend(w, number, pair, w.cost[row], w.time[row], begin)
        if verdict != NONE:
            lease_decided(w, w.nodes[number], row, verdict, w.sequence)
            return NONE
    t = task_new(w, LEASE_ACQUIRE, number)
    task = w.tasks[t]
    task.row = row
    task.pair = pair
    task.begin = begin
    task.wait_deadline = deadline_add(w, w.wait_class)
    lease = w.leases[pair]
    if not lease.exists:
        lease_start(lease, begin)
        lease.key = w.key[row]
    if lease.flying and not lease_can_spend(lease, w.cost[row], w.time[row], begin):
        lease_wait(w, lease, t)
        return NONE
    task.at = LEASE_WAITED
    return t


def lease_wait(w: Any, lease: Any, t: int) -> None:
    """Wait for the borrowing that is under way."""
    task = w.tasks[t]
    task.at = LEASE_WAITED
    task.next = NONE
    if lease.waiting_first == NONE:
        lease.waiting_first = t
    else:
        w.tasks[lease.waiting_last].next = t
    lease.waiting_last = t


def lease_decided(w: Any, node: Any, row: int, allowed: int, sequence: int) -> None:
    """Record the decision of a request."""
    w.latency[row] = w.now + loop_ahead(w, node) - w.sent[row]
    w.allowed[row] = allowed
    w.sequences[row] = sequence
    if w.least_outstanding:
        node.outstanding -= 1


def lease_spend(w: Any, number: int, pair: int, cost: float, now: float, begin: float) -> int:
    """Decide without the store: 1 for admitted, 0 for denied, NONE where only the store can decide."""
    lease = w.leases[pair]
    monotonic = w.epoch + w.now
    if lease_can_spend(lease, cost, max(now, monotonic), monotonic):
        lease.left -= cost
        lease.spent += cost
        if lease.left < 2.0 * lease.rate * lease.round_trip and not lease.flying and monotonic >= lease.denied_until:
            renewal = task_new(w, LEASE_RENEWAL, number)
            w.tasks[renewal].pair = pair
            w.tasks[renewal].at = LEASE_RENEW
            turn_call(w, GO_ON, renewal)
        w.sequence += 1
        return 1
    if begin < lease.denied_until and cost >= lease.denied:
        w.sequence += 1
        return 0
    return NONE


def lease_waited(w: Any, t: int) -> bool:
    """Decide on what the lease has now, or borrow: `LeaseManager.acquire`."""
    task = w.tasks[t]
    row = task.row
    verdict = lease_spend(w, task.node, task.pair, w.cost[row], w.time[row], task.begin)
    if verdict != NONE:
        lease_acquired(w, t, verdict, w.sequence)
        return False
    lease = w.leases[task.pair]
    task.own_flight = not lease.flying
    if not lease.flying:
        lease_fly(lease)
    task.begin_ask = w.epoch + w.now
    task.more = 0.0
    if task.own_flight and w.cost[row] > 0.0:
        task.more = lease_slice_size(w, lease, w.time[row])
    lease_ask(w, t, w.cost[row] + task.more, w.time[row])
    return True


def lease_ask(w: Any, t: int, cost: float, time: float) -> None:
    """Ask the store for a cost."""
    task = w.tasks[t]
    o = operation_new(w, ACQUIRE, t)
    operation = w.operations[o]
    operation.row = w.plan_request
    operation.key = w.leases[task.pair].key
    operation.cost = cost
    operation.time = time
    operation.wants_answer = 1
    task.first = o
    task.last = o
    task.count = 1
    task.at = SUBMIT


def lease_acquired(w: Any, t: int, allowed: int, sequence: int) -> None:
    """End the task of a request."""
    task = w.tasks[t]
    deadline_drop(w, task.wait_deadline)
    lease_decided(w, w.nodes[task.node], task.row, allowed, sequence)
    task_free(w, t)


def lease_answered(w: Any, t: int) -> bool:
    """Take the store's answer to a request: `LeaseManager._ask_l2` and `_borrow`."""
    task = w.tasks[t]
    row = task.row
    lease = w.leases[task.pair]
    operation = w.operations[task.first]
    allowed = operation.allowed
    if not allowed and task.more > 0.0:
        task.more = 0.0
        operation_free(w, task.first)
        lease_ask(w, t, w.cost[row], w.time[row])
        return True
    end = w.epoch + w.now
    lease.round_trip = end - task.begin_ask
    lease.remaining = operation.remaining
    retry_after = operation.retry_after
    sequence = operation.sequence
    operation_free(w, task.first)
    if task.own_flight:
        lease_land(w, lease)
    lease_on_grant(lease, allowed, w.cost[row], task.begin, retry_after, w.lease_ttl)
    if allowed:
        lease.spent += w.cost[row]
        lease_keep(w, task.node, task.pair, task.more, w.time[row])
    lease_acquired(w, t, allowed, sequence)
    return False


def lease_fly(lease: Any) -> None:
    """Begin a borrowing."""
    lease.flying = 1
    lease.waiting_first = NONE


def lease_land(w: Any, lease: Any) -> None:
    """End a borrowing, and resume who waits for it."""
    lease.flying = 0
    t = lease.waiting_first
    lease.waiting_first = NONE
    while t != NONE:
        turn_call(w, GO_ON, t)
        t = w.tasks[t].next


def lease_slice_size(w: Any, lease: Any, now: float) -> float:
    """Return the cost to borrow on top of a request."""
    time = w.epoch + w.now
    if w.lease_lifetime <= 0.0 or lease_ends(w, now) <= max(now, time):
        return 0.0
    if now - time > w.lease_skew:
        return 0.0
    return lease_refill_amount(lease, time, min(w.lease_ttl, w.lease_lifetime), w.lease_nodes)


def lease_ends(w: Any, now: float) -> float:
    """Return the time until which quota borrowed at `now` may be spent."""
    if w.lease_resolution != 0.0:
        return (math.floor(now / w.lease_resolution) + 1.0) * w.lease_resolution - w.lease_tolerance
    return now + w.lease_lifetime


def lease_keep(w: Any, number: int, pair: int, more: float, now: float) -> None:
    """Add what was borrowed to a lease."""
    if more > 0.0:
        lease_reserve(w.leases[pair], more, now, lease_ends(w, now), w.lease_resolution > 0.0, w.epoch + w.now)
        lease_watch(w, number, pair)


def lease_renew(w: Any, t: int) -> bool:
    """Borrow the next slice before the last one is spent: `LeaseManager._renew`."""
    task = w.tasks[t]
    lease = w.leases[task.pair]
    now = w.epoch + w.now
    more = 0.0 if lease.flying else lease_slice_size(w, lease, now)
    if more < 1.0:
        task_free(w, t)
        return False
    task.begin = now
    task.more = more
    lease_fly(lease)
    lease_ask(w, t, more, now)
    return True


def lease_renewed(w: Any, t: int) -> bool:
    """Take the store's answer to a renewal."""
    task = w.tasks[t]
    lease = w.leases[task.pair]
    operation = w.operations[task.first]
    lease.round_trip = w.epoch + w.now - task.begin
    lease.remaining = operation.remaining
    if operation.allowed:
        lease_keep(w, task.node, task.pair, task.more, task.begin)
    operation_free(w, task.first)
    lease_land(w, lease)
    task_free(w, t)
    return False


# -- giving back -----------------------------------------------------------------------------------------------------------


def lease_return_time(w: Any, lease: Any) -> float:
    """Return when a lease ends, spent or not."""
    return min(lease.expires, lease.borrowed_at + w.lease_ttl)


def lease_watch(w: Any, number: int, pair: int) -> None:
    """See that a lease is ended in time."""
    lease = w.leases[pair]
    manager = w.lease_managers[number]
    if not lease.watched:
        lease.watched = 1
        lease_due_push(w, manager, pair)
    if not manager.ends:
        manager.ends = 1
        t = task_new(w, LEASE_RETURN, number)
        w.tasks[t].at = LEASE_ROUND
        turn_call(w, GO_ON, t)


def lease_due_push(w: Any, manager: Any, pair: int) -> None:
    """Queue a lease for being ended."""
    due = w.leases_due[manager.first :]
    heap_push(due, manager.due_count, lease_return_time(w, w.leases[pair]), manager.pushed, 0, pair)
    manager.due_count += 1
    manager.pushed += 1


def lease_round(w: Any, t: int) -> bool:
    """End the leases that are due: `LeaseManager._return_due` and `give_back`."""
    task = w.tasks[t]
    manager = w.lease_managers[task.node]
    due = w.leases_due[manager.first :]
    now = w.epoch + w.now
    task.first = NONE
    task.rest = NONE
    task.done = NONE
    last = NONE
    while manager.due_count > 0 and due[0].time <= now:
        pair = due[0].argument
        manager.due_count -= 1
        heap_pop(due, manager.due_count)
        lease = w.leases[pair]
        if lease.left > 0.0 and lease_return_time(w, lease) > now:
            lease_due_push(w, manager, pair)
            continue
        lease.watched = 0
        left = lease.left
        lease.left = 0.0
        over = now >= lease.ends or now >= lease.expires
        if left <= 0.0 or (over and w.lease_resolution != 0.0):
            continue
        manager.returns += 1
        o = operation_new(w, APPLY, t)
        operation = w.operations[o]
        operation.key = lease.key
        operation.cost = -left
        operation.time = lease.first_at
        operation.sent = max(now, lease.first_at)
        operation.epoch = manager.returns
        operation.node = task.node
        if last == NONE:
            task.rest = o
        else:
            w.operations[last].next = o
        last = o
    if task.rest != NONE:
        return client_submit_all(w, t)
    return lease_round_done(w, t)


def lease_returned(w: Any, t: int) -> bool:
    """Go on when a batch of returns has its answers."""
    if client_batch_done(w, t):
        return client_submit_all(w, t)
    o = w.tasks[t].done
    while o != NONE:
        following = w.operations[o].next
        operation_free(w, o)
        o = following
    return lease_round_done(w, t)


def lease_round_done(w: Any, t: int) -> bool:
    """Sleep until the next lease ends: `LeaseManager._end_leases`."""
    task = w.tasks[t]
    manager = w.lease_managers[task.node]
    if manager.due_count == 0:
        manager.ends = 0
        task_free(w, t)
        return False
    seconds = max(w.leases_due[manager.first].time - (w.epoch + w.now), LEASE_SOONEST)
    return task_sleep(w, t, seconds, LEASE_ROUND)
