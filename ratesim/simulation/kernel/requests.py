"""Requests of a trace, on their way to their nodes and with their answers: `Dispatcher`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.client import client_submit
from ratesim.simulation.kernel.driver import (
    task_next_turn,
)
from ratesim.simulation.kernel.event_queue import (
    deadline_add,
    deadline_drop,
    operation_free,
    operation_new,
    task_free,
    task_new,
)
from ratesim.simulation.kernel.hybrid_node import node_decide, node_wake
from ratesim.simulation.kernel.layout import (
    ACQUIRE,
    FIRST_TURN,
    LEASES,
    NO_TURN,
    NONE,
    REQUEST,
    SECOND_TURN,
    VIEWS,
)
from ratesim.simulation.kernel.lease_manager import (
    lease_request,
)
from ratesim.simulation.kernel.local_decisions import (
    local_decide_nowait,
    local_request,
)
from ratesim.simulation.kernel.loop_cpu import (
    loop_ahead,
    loop_is_idle,
    loop_work,
)


def request_send(w: Any, row: int) -> int:
    """Send a request to its node: `Dispatcher._to_servers`, `_in_hybrids` and `_general`.

    Returns the task that goes on, NONE where only the turn does, and NO_TURN where nothing runs.
    """
    number = request_route(w, row)
    node = w.nodes[number]
    if w.kind == LEASES:
        node_decide(w, node, row)
        return lease_request(w, number, row)
    if w.kind == VIEWS:
        wait = node_decide(w, node, row)
        w.running = w.least_outstanding | w.sessions
        decided = local_decide_nowait(w, number, row)
        w.running = 1
        if not decided:
            return local_request(w, number, row)
        w.latency[row] = wait
        if w.least_outstanding:
            node.outstanding -= 1
            return NONE
        return NO_TURN
    t = task_new(w, REQUEST, number)
    o = operation_new(w, ACQUIRE, t)
    task = w.tasks[t]
    task.first = o
    task.last = o
    task.count = 1
    operation = w.operations[o]
    w.plan_request = row
    operation.row = row
    operation.key = w.key[row]
    operation.cost = w.cost[row]
    operation.time = w.time[row]
    if loop_is_idle(w, node):
        node_wake(w, node, row)
        return t if request_submit(w, t) else NONE
    w.sent[row] = max(w.now, node.woken_at)
    task_next_turn(w, t, FIRST_TURN)
    return NONE


def request_route(w: Any, row: int) -> int:
    """Return the node of a request: `Router.send`."""
    if not w.least_outstanding:
        return w.route[row]
    nodes = w.nodes
    least = nodes[0].outstanding
    for i in range(1, len(nodes)):
        least = min(least, nodes[i].outstanding)
    number = w.next_node
    while nodes[number].outstanding != least:
        number = number + 1 if number + 1 < len(nodes) else 0
    w.next_node = number + 1 if number + 1 < len(nodes) else 0
    nodes[number].outstanding += 1
    w.route[row] = number
    return number


def request_first_turn(w: Any, t: int) -> bool:
    """Take a request in; the next turn runs its task: `Dispatcher._acquire_later`."""
    loop_work(w, w.nodes[w.tasks[t].node], w.arrival_seconds)
    return task_next_turn(w, t, SECOND_TURN)


def request_submit(w: Any, t: int) -> bool:
    """Ask the store; a hybrid whose store decides waits for so long: `HybridStorage._answer_or_fall_back`."""
    if w.waits_for_store:
        w.tasks[t].wait_deadline = deadline_add(w, w.wait_class)
    return client_submit(w, t)


def request_answered(w: Any, t: int) -> bool:
    """Record the answer to a request: `Dispatcher._answered`."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    operation = w.operations[task.first]
    row = operation.row
    w.latency[row] = w.now + loop_ahead(w, node) - w.sent[row]
    w.allowed[row] = operation.allowed
    w.sequences[row] = operation.sequence
    if w.waits_for_store:
        deadline_drop(w, task.wait_deadline)
    if w.least_outstanding:
        node.outstanding -= 1
    operation_free(w, task.first)
    task_free(w, t)
    return False
