"""The loop of the kernel: the requests of a trace as they come, events, and the tasks that these resume."""

from __future__ import annotations

from math import inf
from typing import Any

from ratesim.simulation.kernel.cores import cores_go_to, cores_pass, cores_sole_leaves
from ratesim.simulation.kernel.event_queue import (
    deadlines_pass,
    event_pop,
    event_push,
)
from ratesim.simulation.kernel.layout import (
    CORES_PASS,
    DEADLINE,
    GO_ON,
    LOOP_FREE,
    NO_TURN,
    NONE,
    SOLE_LEAVES,
    SOUND,
    WARMUP_END,
    WARMUP_START,
)
from ratesim.simulation.kernel.loop_cpu import (
    loop_free,
    loop_goes_on,
    loop_settle,
)
from ratesim.simulation.kernel.requests import request_send
from ratesim.simulation.kernel.task_steps import task_step
from ratesim.simulation.kernel.wire import wire_end_warmup


def play_until(w: Any, end: float) -> None:
    """Process all requests and events before a time, or until a pause: `TraceEnvironment.run` and `SimRuntime.run`."""
    w.running = 1
    turn = w.turn
    while w.abort == SOUND and not w.pause:
        loop = NONE
        due = w.next_due
        soonest = w.events[0].time if w.events_count > 0 else inf
        if due <= soonest:
            if due >= end:
                break
            row = w.arrived
            w.now = due
            w.arrived = row + 1
            w.next_due = w.due[row + 1] if row + 1 < w.requests else inf
            t = request_send(w, row)
        elif soonest < end:
            event = w.events[0]
            what = event.what
            argument = event.argument
            w.now = event.time
            event_pop(w)
            if what == LOOP_FREE:
                loop = argument
                t = NONE if loop_free(w, w.nodes[loop]) else NO_TURN
            else:
                t = play_call(w, what, argument)
        else:
            break
        while t != NO_TURN:
            while t != NONE or w.turn_count > 0:
                if t == NONE:
                    call = turn[w.turn_first]
                    w.turn_first = w.turn_first + 1 if w.turn_first + 1 < len(turn) else 0
                    w.turn_count -= 1
                    t = max(play_call(w, call.what, call.argument), NONE)
                elif not task_step(w, t):
                    t = NONE
            if loop == NONE or not loop_goes_on(w, w.nodes[loop]):
                t = NO_TURN
    if end < inf and not w.pause:
        w.now = end


def play_call(w: Any, what: int, argument: int) -> int:
    """Make a call of an event or of a turn.

    Returns the task that goes on, NONE where only the turn does, and NO_TURN where the event has come to nothing.
    """
    if what == GO_ON:
        return argument
    if what == SOLE_LEAVES:
        t = cores_sole_leaves(w, argument)
        return t if t != NONE else NO_TURN
    if what == CORES_PASS:
        return NONE if cores_pass(w) else NO_TURN
    if what == DEADLINE:
        deadlines_pass(w, argument)
    elif what == WARMUP_START:
        event_push(w, w.now + w.warmup, WARMUP_END, 0)
    elif what == WARMUP_END:
        warmup_end(w)
    return NONE


def warmup_end(w: Any) -> None:
    """Pause, so that figures outside of the kernel count from now on: `Cluster.discount`."""
    play_settle(w)
    for i in range(len(w.nodes)):
        w.nodes[i].last_came = w.now
    wire_end_warmup(w)
    w.pause = 1


def play_settle(w: Any) -> None:
    """Account for all that has happened."""
    for i in range(len(w.nodes)):
        loop_settle(w, w.nodes[i])
    if w.shares_cores:
        cores_go_to(w, w.cores[0])
