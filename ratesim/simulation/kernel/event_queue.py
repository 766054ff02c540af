"""Events in order of time and number, the calls of a turn, and deadlines: `simpy.Environment` and `SimRuntime`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.layout import DEADLINE, DEADLINE_PASSED, FULL, GO_ON, NONE, NOTHING

TOLERANCE = 1e-9  # seconds; times that are this close are equal


def heap_push(heap: Any, place: int, time: float, number: int, what: int, argument: int) -> None:
    """Put an event into a heap of `place` events, which is ordered by time and number. Its number is above all others."""
    while place > 0:
        parent = (place - 1) >> 1
        above = heap[parent]
        if above.time <= time:
            break
        below = heap[place]
        below.time = above.time
        below.number = above.number
        below.what = above.what
        below.argument = above.argument
        place = parent
    event = heap[place]
    event.time = time
    event.number = number
    event.what = what
    event.argument = argument


def heap_pop(heap: Any, count: int) -> None:
    """Remove the first event of a heap, which has `count` events afterward."""
    last = heap[count]
    time = last.time
    number = last.number
    place = 0
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        below = heap[child]
        if child + 1 < count:
            other = heap[child + 1]
            if other.time < below.time or (other.time == below.time and other.number < below.number):
                child += 1
                below = other
        if not (below.time < time or (below.time == time and below.number < number)):
            break
        event = heap[place]
        event.time = below.time
        event.number = below.number
        event.what = below.what
        event.argument = below.argument
        place = child
    if place != count:
        event = heap[place]
        event.time = time
        event.number = number
        event.what = last.what
        event.argument = last.argument


def event_push(w: Any, time: float, what: int, argument: int) -> None:
    """Schedule an event; it takes the next number, as in `simpy.Environment.schedule`."""
    if w.events_count >= len(w.events):
        w.abort = FULL
        return
    heap_push(w.events, w.events_count, time, w.number, what, argument)
    w.number += 1
    w.events_count += 1


def event_pop(w: Any) -> None:
    """Remove the first event."""
    w.events_count -= 1
    heap_pop(w.events, w.events_count)


def event_peek(w: Any) -> float:
    """Return when something happens next: `TraceEnvironment.peek`."""
    if w.events_count == 0:
        return w.next_due
    soonest = w.events[0].time
    return soonest if soonest < w.next_due else w.next_due


def turn_call(w: Any, what: int, argument: int) -> None:
    """Call something in this turn, after the calls that were requested before: `SimRuntime.call_soon` within a turn."""
    turn = w.turn
    if w.turn_count >= len(turn):
        w.abort = FULL
        return
    if w.turn_count == 0:
        w.turn_first = 0
    place = w.turn_first + w.turn_count
    if place >= len(turn):
        place -= len(turn)
    call = turn[place]
    call.what = what
    call.argument = argument
    w.turn_count += 1


def task_spawn(w: Any, t: int) -> None:
    """Start a task in this turn; outside of a turn there is an event for it: `SimRuntime.spawn`."""
    turn_call(w, GO_ON, t)
    if not w.running:
        event_push(w, w.now, NOTHING, 0)


def deadline_add(w: Any, kind: int) -> int:
    """Begin a deadline of one length; returns its place, for `deadline_drop`."""
    deadlines = w.deadlines[kind]
    capacity = w.deadline_room
    deadlines_skip(w, deadlines, kind)
    if deadlines.count >= capacity:
        w.abort = FULL
        return NONE
    place = deadlines.first + deadlines.count
    if place >= capacity:
        place -= capacity
    deadlines.count += 1
    place += kind * capacity
    entry = w.deadline_entries[place]
    entry.at = w.now + deadlines.seconds
    entry.alive = 1
    if not deadlines.scheduled:
        deadlines.scheduled = 1
        event_push(w, w.now + deadlines.seconds, DEADLINE, kind)
    return place


def deadline_drop(w: Any, place: int) -> None:
    """End a deadline in time."""
    w.deadline_entries[place].alive = 0


def deadlines_pass(w: Any, kind: int) -> None:
    """Look for a deadline that has passed: `_Deadlines._pass`."""
    deadlines = w.deadlines[kind]
    deadlines.scheduled = 0
    deadlines_skip(w, deadlines, kind)
    if deadlines.count > 0:
        entry = w.deadline_entries[kind * w.deadline_room + deadlines.first]
        if entry.at > w.now + TOLERANCE:
            deadlines.scheduled = 1
            event_push(w, w.now + max(entry.at - w.now, 0.0), DEADLINE, kind)
        else:
            w.abort = DEADLINE_PASSED


def deadlines_skip(w: Any, deadlines: Any, kind: int) -> None:
    """Forget the deadlines at the front that have ended in time."""
    while deadlines.count > 0 and not w.deadline_entries[kind * w.deadline_room + deadlines.first].alive:
        deadlines.count -= 1
        deadlines.first += 1
        if deadlines.first == w.deadline_room:
            deadlines.first = 0


def task_new(w: Any, kind: int, node: int) -> int:
    """Return a task that is free."""
    t = w.tasks_free
    if t == NONE:
        w.abort = FULL
        return 0
    task = w.tasks[t]
    w.tasks_free = task.next
    task.kind = kind
    task.node = node
    task.server = 0
    task.first = NONE
    task.last = NONE
    task.count = 0
    task.rest = NONE
    task.done = NONE
    task.next = NONE
    return t


def task_free(w: Any, t: int) -> None:
    """Give a task back."""
    w.tasks[t].next = w.tasks_free
    w.tasks_free = t


def operation_new(w: Any, kind: int, task: int) -> int:
    """Return an operation that is free."""
    o = w.operations_free
    if o == NONE:
        w.abort = FULL
        return 0
    operation = w.operations[o]
    w.operations_free = operation.next
    operation.number = o
    operation.kind = kind
    operation.task = task
    operation.next = NONE
    operation.row = NONE
    operation.sequence = 0
    operation.wants_answer = 0
    return o


def operation_free(w: Any, o: int) -> None:
    """Give an operation back."""
    w.operations[o].next = w.operations_free
    w.operations_free = o


def task_sleep(w: Any, t: int, seconds: float, at: int) -> bool:
    """Let a task go on at a place after so many seconds; at once where there are none: `SimRuntime.sleep`."""
    w.tasks[t].at = at
    if seconds > 0.0:
        event_push(w, w.now + seconds, GO_ON, t)
        return False
    return True
