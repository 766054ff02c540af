"""What a server decides at the end of a service: `ModelBackend`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.layout import ACQUIRE, APPLY, FULL, GET, NONE, VIEWS
from ratesim.simulation.kernel.replica_state import replica_total
from ratesim.simulation.kernel.state_layout import (
    ANSWER_CONSUMED,
    ANSWER_REMAINING,
    ANSWER_RESET_AFTER,
    ANSWER_RETRY_AFTER,
    DECIDE_CONSUMES,
    DECIDE_TELLS,
)


def operation_execute(w: Any, operation: Any) -> None:
    """Execute an operation: `ModelBackend.execute`."""
    if operation.kind == ACQUIRE:
        operation_acquire(w, operation)
    elif w.kind == VIEWS:
        operation_tell(w, operation)
    elif operation.kind == APPLY:
        operation_apply(w, operation)


def operation_acquire(w: Any, operation: Any) -> None:
    """Decide a request."""
    now = w.epoch + w.now if w.server_clock else operation.time
    tells = DECIDE_TELLS if operation.wants_answer or w.follows_rows else 0
    allowed = w.rule_decide(w.store, operation.key, DECIDE_CONSUMES | tells, operation.cost, now)
    if allowed < 0:
        w.abort = FULL
    w.sequence += 1
    operation.sequence = w.sequence
    operation.allowed = allowed > 0
    if tells:
        operation.remaining = w.answer[ANSWER_REMAINING]
        operation.retry_after = w.answer[ANSWER_RETRY_AFTER]
        operation.reset_after = w.answer[ANSWER_RESET_AFTER]


def operation_apply(w: Any, operation: Any) -> None:
    """Apply a charge of one entry without a request, such as a lease that is given back."""
    moved = w.epoch + w.now - operation.sent if w.server_clock else 0.0
    time = operation.time + moved
    store, key, cost = w.store, operation.key, operation.cost
    w.rule_apply_begin(store, key, operation.node, operation.epoch, 0.0, cost, time)
    w.rule_apply(store, key, time, cost, 0)
    w.rule_apply_end(store, key, time)


def operation_tell(w: Any, operation: Any) -> None:
    """Read a state for a view, or merge a node's consumption into it and tell the result."""
    if operation.kind == GET:
        now = w.epoch + w.now if w.server_clock else operation.time
        operation.found = w.rule_get(w.store, operation.key, now, w.answer_table, operation.number)
        if not operation.found:
            return
    else:
        operation_merge(w, operation)
        w.rule_export(w.store, operation.key, w.answer_table, operation.number)
    if w.sessions:
        nodes = len(w.nodes)
        for number in range(nodes):
            known = w.rule_mark(w.store, operation.key, number) > 0
            w.answer_marks[operation.number * nodes + number] = w.answer[ANSWER_CONSUMED] if known else 0.0


def operation_merge(w: Any, operation: Any) -> None:
    """Apply what a replica sends: `RuleEvaluator.apply`."""
    r = w.replicas[operation.pair]
    moved = w.epoch + w.now - operation.sent if w.server_clock else 0.0
    store, key, d = w.store, operation.key, r.sending_first
    last = w.deltas[d].time + moved
    w.rule_apply_begin(store, key, operation.node, operation.epoch, r.acked, replica_total(w, r), last)
    while d != NONE:
        delta = w.deltas[d]
        last = delta.time + moved
        w.rule_apply(store, key, last, delta.cost, delta.requests)
        d = delta.next
    w.rule_apply_end(store, key, last)


def operation_is_denied(w: Any, operation: Any) -> bool:
    """Tell whether an operation is one that reads no more than that it is denied: `SimDriver._is_denied`."""
    if operation.kind != ACQUIRE or not w.denies_by_reading:
        return False
    now = w.epoch + w.now if w.server_clock else operation.time
    w.sequence += 1
    return w.rule_decide(w.store, operation.key, 0, operation.cost, now) == 0
