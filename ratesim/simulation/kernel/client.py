"""The client of a node: `Client`, without what follows a failure; a run in which a batch fails is left to SimPy."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.driver import driver_execute
from ratesim.simulation.kernel.event_queue import (
    deadline_add,
    deadline_drop,
    operation_free,
    operation_new,
    task_free,
    task_new,
    turn_call,
)
from ratesim.simulation.kernel.layout import (
    ANSWERED,
    BATCH,
    GATHER,
    GATHER_END,
    GATHER_START,
    GO_ON,
    NONE,
    PLACE,
    QUEUE_FULL,
    SEND,
)
from ratesim.simulation.kernel.loop_cpu import loop_next_turn
from ratesim.simulation.kernel.redis_cluster import cluster_execute

CLIENT_SHARES = 3  # as SHARES of the client


def client_submit(w: Any, t: int) -> bool:
    """Send the operation of a task, or queue it: `Client.submit`."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    if node.free > w.reserve:
        node.free -= 1
        return client_send(w, t)
    taken = w.max_batch * (node.free + node.gathering)
    if node.waiting_count >= w.max_waiting + taken:
        w.abort = QUEUE_FULL
        return False
    task.at = ANSWERED
    client_wait(w, node, task.first)
    if node.free > 0 and not node.gathering:
        node.gathering = 1
        node.free -= 1
        gather = task_new(w, GATHER, task.node)
        w.tasks[gather].at = GATHER_START
        turn_call(w, GO_ON, gather)
    return False


def client_wait(w: Any, node: Any, o: int) -> None:
    """Put an operation behind those that wait for a connection."""
    w.operations[o].next = NONE
    if node.waiting_count == 0:
        node.waiting_first = o
    else:
        w.operations[node.waiting_last].next = o
    node.waiting_last = o
    node.waiting_count += 1


def client_submit_all(w: Any, t: int) -> bool:
    """Send the next of several batches: `Client._submit_all`.

    A task has the operations that are still to be sent from `rest` on, and those that have their answers from `done` on.
    Whoever goes on at ANSWERED calls `client_batch_done`, and this again until it returns False.
    """
    task = w.tasks[t]
    node = w.nodes[task.node]
    task.first = task.rest
    task.count = 1
    task.last = task.first
    while task.count < w.max_batch and w.operations[task.last].next != NONE:
        task.last = w.operations[task.last].next
        task.count += 1
    task.rest = w.operations[task.last].next
    w.operations[task.last].next = NONE
    if node.free > 0:
        node.free -= 1
        return client_send(w, t)
    task.at = SEND
    client_wait(w, node, operation_new(w, PLACE, t))
    return False


def client_batch_done(w: Any, t: int) -> bool:
    """Keep the operations of a batch that has its answers; returns whether there are more to be sent."""
    task = w.tasks[t]
    if task.done == NONE:
        task.done = task.first
    else:
        w.operations[task.done_last].next = task.first
    task.done_last = task.last
    task.first = NONE
    return task.rest != NONE


def client_gather_start(w: Any, t: int) -> bool:
    """Wait for the next turn of the loop, in which all that has come by now has been submitted."""
    task = w.tasks[t]
    task.at = GATHER_END
    loop_next_turn(w, w.nodes[task.node], t)
    return False


def client_gather_end(w: Any, t: int) -> bool:
    """Send what was gathered: `Client._send_gathered`."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    node.gathering = 0
    client_next_batch(w, node, task, 1)
    while node.free > 0 and node.waiting_count > 0:
        node.free -= 1
        client_release(w, node, 1)
    if task.count > 0:
        task.kind = BATCH
        return client_send(w, t)
    client_release(w, node, CLIENT_SHARES)
    task_free(w, t)
    return False


def client_release(w: Any, node: Any, shares: int) -> None:
    """Hand a connection that is free to the first that waits, or put it back: `Client._release`."""
    if node.waiting_count > 0 and not node.gathering:
        place = node.waiting_first
        first = w.operations[place]
        if first.kind == PLACE:
            node.waiting_first = first.next
            node.waiting_count -= 1
            turn_call(w, GO_ON, first.task)
            operation_free(w, place)
            return
        t = task_new(w, BATCH, node.number)
        task = w.tasks[t]
        task.at = SEND
        client_next_batch(w, node, task, min(w.pool_size, shares))
        turn_call(w, GO_ON, t)
        return
    node.free += 1


def client_next_batch(w: Any, node: Any, task: Any, shares: int) -> None:
    """Take one of so many shares of the operations at the front of the queue, up to the first place of another kind."""
    share = min(w.max_batch, -(-node.waiting_count // shares))
    while node.waiting_count > 0 and task.count < share:
        o = node.waiting_first
        operation = w.operations[o]
        if operation.kind == PLACE:
            break
        node.waiting_first = operation.next
        node.waiting_count -= 1
        operation.next = NONE
        if task.count == 0:
            task.first = o
        else:
            w.operations[task.last].next = o
        task.last = o
        task.count += 1


def client_send(w: Any, t: int) -> bool:
    """Send a batch on a connection that is taken: `Client._send`."""
    task = w.tasks[t]
    w.nodes[task.node].operations += task.count
    task.deadline = deadline_add(w, 0)
    return cluster_execute(w, t) if w.sharded else driver_execute(w, t)


def client_sent(w: Any, t: int) -> bool:
    """Give the connection back when a batch has its answers, and resume who waits; the task is at ANSWERED if it is that."""
    task = w.tasks[t]
    deadline_drop(w, task.deadline)
    client_release(w, w.nodes[task.node], CLIENT_SHARES)
    if task.kind != BATCH:
        task.at = ANSWERED
        return True
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        turn_call(w, GO_ON, operation.task)
        o = operation.next
    task_free(w, t)
    return False
