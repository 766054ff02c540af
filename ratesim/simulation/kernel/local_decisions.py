"""Decisions on the view of a node: `LocalDecider`, and `HybridStorage.acquire` on top of it."""

from __future__ import annotations

from math import inf
from typing import Any

from ratesim.simulation.kernel.event_queue import deadline_add, deadline_drop, task_free, task_new
from ratesim.simulation.kernel.layout import DELIVER, DELIVERY, FULL, NONE, READ_AGAIN, VIEW_DECIDE, VIEW_FRESH, VIEW_REQUEST
from ratesim.simulation.kernel.loop_cpu import loop_ahead
from ratesim.simulation.kernel.read_cache import (
    cache_fetched,
    cache_invalidate,
    cache_read,
    cache_refresh,
    cache_touch,
    flight_wait,
)
from ratesim.simulation.kernel.replica_state import replica_start, replica_unsent
from ratesim.simulation.kernel.session_token import token_admits, token_give, token_is_ahead, token_read
from ratesim.simulation.kernel.state_layout import DECIDE_CONSUMES
from ratesim.simulation.kernel.write_behind import flush_note, flush_one, flush_wake


def local_pair(w: Any, number: int, row: int) -> int:
    """Return the place of a node and the key of a request."""
    return number * w.keys + w.key[row] if w.least_outstanding else w.pair[row]


def local_decide(w: Any, r: Any, pair: int, row: int) -> bool:
    """Decide a request on the view; returns whether it is admitted."""
    allowed = w.rule_decide(w.view_table, pair, DECIDE_CONSUMES, w.cost[row], w.time[row])
    if allowed < 0:
        w.abort = FULL
    w.sequence += 1
    w.allowed[row] = allowed > 0
    w.sequences[row] = w.sequence
    w.view_age[row] = w.epoch + w.now - r.read_at
    if allowed > 0 or r.there:
        cache_touch(w, r, pair)
    return allowed > 0


def local_decide_nowait(w: Any, number: int, row: int) -> bool:
    """Decide at once on a fresh view, if the policies let the node do so: `HybridStorage.acquire_nowait`."""
    pair = local_pair(w, number, row)
    r = w.replicas[pair]
    if not w.decides_nowait or not r.exists or w.epoch + w.now >= r.fresh_until:
        return False
    cost = w.cost[row]
    if local_decide(w, r, pair, row) and cost != 0.0:
        now = w.time[row]
        if r.since <= now < r.until:
            r.cost += cost
            r.requests += 1
            r.time = max(r.time, now)
        else:
            flush_note(w, number, pair, now, cost)
    return True


def local_request(w: Any, number: int, row: int) -> int:
    """Begin a request that may have to wait; returns its task: `LocalDecider.acquire`."""
    pair = local_pair(w, number, row)
    t = task_new(w, VIEW_REQUEST, number)
    task = w.tasks[t]
    task.row = row
    task.pair = pair
    task.at = VIEW_FRESH
    r = w.replicas[pair]
    if not r.exists:
        replica_start(w, r, number, w.key[row])
    if w.sessions:
        token_read(w, task)
    return t


def local_freshen(w: Any, t: int) -> bool:
    """Make the view fit to decide on: `LocalDecider.fresh_records` and `ViewCache.ensure_fresh`."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    now = w.epoch + w.now
    r.asked_at = w.time[task.row]
    task.at = READ_AGAIN
    task.reads = 0
    if now < r.fresh_until:
        return True
    if w.read_ahead and now - r.read_at < w.view_ttl:
        cache_refresh(w, r, task.pair, now)
        return True
    return local_read(w, t)


def local_read(w: Any, t: int) -> bool:
    """Read the store, for so long: `ViewCache.read_with_timeout`."""
    task = w.tasks[t]
    task.wait_deadline = deadline_add(w, w.wait_class)
    task.begin = w.epoch + w.now
    return cache_read(w, t)


def local_read_again(w: Any, t: int) -> bool:
    """Read the store again, twice at most, while the session has seen a later version."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    if w.sessions and task.reads < 2 and token_is_ahead(task, r):
        task.reads += 1
        return local_read(w, t)
    task.at = VIEW_FRESH if w.writes_around and r.read_at == -inf else VIEW_DECIDE
    return True


def local_waited(w: Any, t: int) -> bool:
    """Go on behind a read or flush of another task."""
    task = w.tasks[t]
    if w.replicas[task.pair].read_at >= task.begin:
        return local_has_read(w, t)
    return cache_read(w, t)


def local_fetched(w: Any, t: int) -> bool:
    """Go on with the answer to a read."""
    cache_fetched(w, t)
    return local_has_read(w, t)


def local_has_read(w: Any, t: int) -> bool:
    """Decide on the view that was read, unless it was dropped meanwhile."""
    task = w.tasks[t]
    deadline_drop(w, task.wait_deadline)
    task.at = READ_AGAIN
    return True


def local_go_on(w: Any, t: int) -> bool:
    """Decide, and write the admitted cost as the write policy says."""
    task = w.tasks[t]
    row = task.row
    r = w.replicas[task.pair]
    cost = w.cost[row]
    if w.sessions and not token_admits(w, t, w.time[row], cost):
        w.sequence += 1
        w.sequences[row] = w.sequence
        w.view_age[row] = w.epoch + w.now - r.read_at
        return local_answer(w, t, 0.0)
    if not local_decide(w, r, task.pair, row) or cost == 0.0:
        return local_answer(w, t, 0.0)
    flush_note(w, task.node, task.pair, w.time[row], cost)
    if not w.writes_through:
        return local_answer(w, t, cost)
    task.kind = DELIVERY
    task.wait_deadline = deadline_add(w, w.wait_class)
    task.wanted = r.started + 1
    task.at = DELIVER
    return True


def local_deliver(w: Any, t: int) -> bool:
    """Wait until the store has taken in what was noted: `WriteBehindQueue.write_through`."""
    task = w.tasks[t]
    r = w.replicas[task.pair]
    if r.finished < task.wanted and (replica_unsent(r) or r.sending_first != NONE):
        if r.flight != NONE:
            return flight_wait(w, r.flight, t, DELIVER)
        return flush_one(w, t)
    deadline_drop(w, task.wait_deadline)
    flush_wake(w, task.node)
    return local_answer(w, t, w.cost[task.row])


def local_answer(w: Any, t: int, spent: float) -> bool:
    """Give the session its next token, and record the latency of a request: `Dispatcher._answered`."""
    task = w.tasks[t]
    if w.sessions:
        token_give(w, t, spent, w.time[task.row])
    if w.writes_around and spent != 0.0:
        cache_invalidate(w, w.replicas[task.pair], task.pair)
    local_answered(w, w.nodes[task.node], task.row)
    task_free(w, t)
    return False


def local_answered(w: Any, node: Any, row: int) -> None:
    """Record the latency of a request that has its decision."""
    w.latency[row] = w.now + loop_ahead(w, node) - w.sent[row]
    if w.least_outstanding:
        node.outstanding -= 1
