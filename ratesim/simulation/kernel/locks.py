"""Row locks that are held until a commit, granted in the order of the requests: `RowLocks`.

A task holds rows under a ticket, which no other ever has. It stands for the future of the engine: who wants a row notes the
task and the ticket of the last before it, and waits for as long as that task has that ticket.
"""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.decision import operation_is_denied
from ratesim.simulation.kernel.event_queue import turn_call
from ratesim.simulation.kernel.layout import ACQUIRE, APPLY, GO_ON, NONE


def operation_changes(operation: Any) -> bool:
    """Return whether an operation may write; a peek and a read do not: `changes`."""
    return operation.kind == ACQUIRE or operation.kind == APPLY


def operation_wrote(operation: Any) -> bool:
    """Return whether an operation wrote: a denied request changes nothing: `wrote`."""
    return operation.kind == APPLY or (operation.kind == ACQUIRE and operation.allowed != 0)


def locks_held(w: Any, task: Any) -> bool:
    """Tell whether somebody holds one of the rows that a batch changes: `RowLocks.held`."""
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        if operation_changes(operation) and w.row_holders[operation.key] != NONE:
            return True
        o = operation.next
    return False


def locks_queue(w: Any, t: int) -> None:
    """Queue for the rows that a batch changes, without those of requests that are denied by what they read."""
    task = w.tasks[t]
    holder = w.holders[t]
    held = locks_held(w, task)
    w.tickets += 1
    holder.ticket = w.tickets
    holder.first = NONE
    holder.last = NONE
    holder.waits = task.first
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        want = w.wants[o]
        want.behind = NONE
        want.takes = 0
        if operation_changes(operation) and not (held and operation_is_denied(w, operation)):
            before = w.row_holders[operation.key]
            if before != t:  # else another operation of the batch has queued for it
                want.takes = 1
                want.behind = before
                if before != NONE:
                    want.ticket = w.holders[before].ticket
                w.row_holders[operation.key] = t
        o = operation.next


def locks_wait(w: Any, t: int) -> bool:
    """Wait for the next row that another holds; returns whether there is none: `RowLocks.take`."""
    holder = w.holders[t]
    while holder.waits != NONE:
        want = w.wants[holder.waits]
        if want.behind != NONE:
            before = w.holders[want.behind]
            if before.ticket == want.ticket:
                holder.next = NONE
                if before.first == NONE:
                    before.first = t
                else:
                    w.holders[before.last].next = t
                before.last = t
                return False
        holder.waits = w.operations[holder.waits].next
    return True


def locks_release(w: Any, t: int) -> None:
    """Free the rows of a batch, and resume those that wait for it: `RowLocks.release`."""
    holder = w.holders[t]
    o = w.tasks[t].first
    while o != NONE:
        operation = w.operations[o]
        if w.wants[o].takes and w.row_holders[operation.key] == t:
            w.row_holders[operation.key] = NONE
        o = operation.next
    holder.ticket = 0
    each = holder.first
    while each != NONE:
        turn_call(w, GO_ON, each)
        each = w.holders[each].next
