"""A node's way to the primaries of a Redis cluster: `ShardedDriver` and `ClusterDriver`, while no slot moves and none fails.

The operations of a batch that several primaries own travel in a task for each of them, side by side. `batch_next` keeps what
follows an operation in its batch.
"""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.driver import driver_execute
from ratesim.simulation.kernel.event_queue import deadline_add, deadline_drop, task_free, task_new, turn_call
from ratesim.simulation.kernel.layout import CLUSTER_JOIN, CLUSTER_ONLY, GO_ON, GROUP, NONE, SENT


def cluster_execute(w: Any, t: int) -> bool:
    """Send a batch to the primaries that own its keys: `ShardedDriver.execute`."""
    task = w.tasks[t]
    owner = w.key_owners[w.operations[task.first].key]
    alike = True
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        alike = alike and w.key_owners[operation.key] == owner
        w.batch_next[o] = operation.next
        o = operation.next
    if not alike:
        return cluster_scatter(w, t)
    task.server = owner
    return cluster_only(w, t)


def cluster_scatter(w: Any, t: int) -> bool:
    """Send each group of a batch in a task of its own, and wait for them: `ShardedDriver._scatter`."""
    task = w.tasks[t]
    last = NONE
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        operation.next = NONE
        owner = w.key_owners[operation.key]
        g = w.owner_groups[owner]
        if g == NONE:
            g = task_new(w, GROUP, task.node)
            w.owner_groups[owner] = g
            w.tasks[g].server = owner
            w.tasks[g].first = o
            w.tasks[g].at = CLUSTER_ONLY
            cluster_begin_group(w, t, g, last)
            last = g
        else:
            w.operations[w.tasks[g].last].next = o
        w.tasks[g].last = o
        w.tasks[g].count += 1
        o = w.batch_next[o]
    g = w.groups[t].next
    while g != NONE:
        w.owner_groups[w.tasks[g].server] = NONE
        g = w.groups[g].next
    task.at = CLUSTER_JOIN
    return cluster_join(w, t)


def cluster_begin_group(w: Any, t: int, g: int, last: int) -> None:
    """Start the task of a group, behind the last one of its batch."""
    group = w.groups[g]
    group.batch = t
    group.next = NONE
    group.done = 0
    group.awaited = 0
    w.groups[t if last == NONE else last].next = g
    turn_call(w, GO_ON, g)


def cluster_join(w: Any, t: int) -> bool:
    """Wait for the groups of a batch, one after the other, and put its operations in order again."""
    batch = w.groups[t]
    while batch.next != NONE:
        g = batch.next
        group = w.groups[g]
        if not group.done:
            group.awaited = 1
            return False
        batch.next = group.next
        task_free(w, g)
    task = w.tasks[t]
    o = task.first
    while o != NONE:
        w.operations[o].next = w.batch_next[o]
        o = w.batch_next[o]
    task.at = SENT
    return True


def cluster_only(w: Any, t: int) -> bool:
    """Send a batch, or a group of one, that belongs to one primary: `ClusterDriver._only`."""
    if w.cluster_class != NONE:
        w.groups[t].deadline = deadline_add(w, w.cluster_class)
    return driver_execute(w, t)


def cluster_answered(w: Any, t: int) -> bool:
    """Go on when a primary has answered: a group is done, and a batch has its answers."""
    task = w.tasks[t]
    group = w.groups[t]
    if w.cluster_class != NONE:
        deadline_drop(w, group.deadline)
    if task.kind != GROUP:
        task.at = SENT
        return True
    group.done = 1
    if group.awaited:
        turn_call(w, GO_ON, group.batch)
    return False
