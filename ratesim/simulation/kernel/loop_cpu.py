"""The event loop of a node: `EventLoopCPU`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.event_queue import event_peek, event_push, turn_call
from ratesim.simulation.kernel.layout import FULL, GO_ON, LOOP_ACCOUNT, LOOP_FREE, NONE
from ratesim.simulation.kernel.station import station_add

LOOP_CLOSE = 1e-6  # seconds: a turn is rounded
PACE_HOLD = 0.002  # seconds for which a factor holds
PACE_MANY = 4096


def loop_pace(w: Any, node: Any) -> float:
    """Return how much longer than usual work takes now: `Pace.at`."""
    return w.client_paces[int(w.now / PACE_HOLD) % PACE_MANY * len(w.nodes) + node.number]


def loop_ahead(w: Any, node: Any) -> float:
    """Return the seconds until the loop has done what it has begun."""
    ahead = node.until - w.now
    return ahead if ahead > 0.0 else 0.0


def loop_is_idle(w: Any, node: Any) -> bool:
    """Tell whether whoever comes now need not wait."""
    return node.ready_count == 0 and node.until + node.later <= w.now


def loop_slept(w: Any, node: Any) -> float:
    """Return the seconds since the last work; 0 while there is some."""
    slept = w.now - node.until - node.later
    return slept if slept > 0.0 else 0.0


def loop_work(w: Any, node: Any, seconds: float) -> float:
    """Work in this step; returns the seconds until that is done."""
    if w.client_paced:
        seconds *= loop_pace(w, node)
    node.until += seconds
    node.worked += seconds
    return node.until - w.now


def loop_work_later(w: Any, node: Any, seconds: float) -> None:
    """Work at the end of this turn."""
    if w.client_paced:
        seconds *= loop_pace(w, node)
    node.later += seconds


def loop_serve(w: Any, node: Any, arrival: float, service: float) -> float:
    """Account for a step as a customer; returns when it leaves."""
    free = node.free_at
    end = (free if free > arrival else arrival) + service
    node.free_at = end
    station_add(w, w.primaries + node.number, arrival, service, end)
    return end


def loop_settle(w: Any, node: Any) -> None:
    """Account for the turn that is over: its steps share its work equally."""
    node.until += node.later
    node.worked += node.later
    if node.came_count > 0:
        share = node.worked / node.came_count
        end = 0.0
        last = node.last_came
        place = node.came_first
        while place != NONE:
            came = w.came[place]
            last = max(last, came.at)
            end = loop_serve(w, node, last, share)
            following = came.next
            came.next = w.came_free
            w.came_free = place
            place = following
        node.last_came = last
        if abs(node.until - end) > LOOP_CLOSE:
            w.abort = LOOP_ACCOUNT
        node.came_first = NONE
        node.came_last = NONE
        node.came_count = 0
        node.worked = 0.0
    node.later = 0.0


def loop_step_came(w: Any, node: Any, at: float) -> None:
    """Note since when a step of the turn was ready."""
    place = w.came_free
    if place == NONE:
        w.abort = FULL
        return
    came = w.came[place]
    w.came_free = came.next
    came.at = at
    came.next = NONE
    if node.came_count == 0:
        node.came_first = place
    else:
        w.came[node.came_last].next = place
    node.came_last = place
    node.came_count += 1


def loop_begin(w: Any, node: Any) -> None:
    """Begin a turn; its steps are noted by `loop_step_came`."""
    loop_settle(w, node)
    if w.now > node.until:
        node.idle += w.now - node.until
        node.until = w.now
    node.turn_at = w.now


def loop_begin_alone(w: Any, node: Any) -> None:
    """Begin a turn with one step, which comes now."""
    loop_begin(w, node)
    loop_step_came(w, node, w.now)


def loop_wake(w: Any, node: Any, seconds: float) -> float:
    """Begin a turn of an idle loop, which works until it runs a handler; returns when that is."""
    loop_begin_alone(w, node)
    node.woken_at = w.now + loop_work(w, node, seconds)
    return node.woken_at


def loop_serve_alone(w: Any, node: Any, turns: int, seconds: float, later: float) -> bool:
    """Work for one who comes now, in so many turns more, if nobody else takes part in them."""
    if node.ready_count > 0 or node.until + node.later > w.now or event_peek(w) <= w.now + turns * w.turn_seconds:
        return False
    loop_begin_alone(w, node)
    seconds += turns * w.turn_seconds
    if w.client_paced:
        factor = loop_pace(w, node)
        seconds = seconds * factor
        later = later * factor
    node.until += seconds
    node.worked += seconds
    node.later = later
    return True


def loop_next_turn(w: Any, node: Any, t: int) -> None:
    """Let a task wait for a place in the turn after this one."""
    task = w.tasks[t]
    task.came = w.now
    task.next = NONE
    if node.ready_count == 0:
        node.ready_first = t
    else:
        w.tasks[node.ready_last].next = t
    node.ready_last = t
    node.ready_count += 1
    if not node.scheduled:
        loop_schedule(w, node)


def loop_schedule(w: Any, node: Any) -> None:
    """Look again when the loop is free."""
    node.scheduled = 1
    event_push(w, w.now + max(node.until + node.later - w.now, 0.0), LOOP_FREE, node.number)


def loop_idle_since_question(node: Any) -> float:
    """Return the idle seconds since the last call."""
    idle = node.idle - node.asked_at
    node.asked_at = node.idle
    return idle


def loop_work_between(w: Any, node: Any, seconds: float) -> float:
    """Work for one who comes now and waits for what has begun, and for nobody else; returns the seconds until then."""
    loop_settle(w, node)
    loop_step_came(w, node, w.now)
    return loop_work(w, node, seconds)


def loop_free(w: Any, node: Any) -> bool:
    """Begin a turn of a loop that may be free; returns whether it has begun: `EventLoopCPU._on_free`."""
    if node.until + node.later > w.now:
        loop_schedule(w, node)  # it has been given more to do since
        return False
    if node.ready_count == 0:
        node.scheduled = 0
        return False
    loop_serve_ready(w, node)
    return True


def loop_goes_on(w: Any, node: Any) -> bool:
    """Begin the next turn at once, if there is one and nothing happens before; returns whether it has begun."""
    if node.ready_count > 0 and event_peek(w) > node.until + node.later:
        loop_serve_ready(w, node)
        return True
    node.scheduled = 0
    if node.ready_count > 0:
        loop_schedule(w, node)
    return False


def loop_serve_ready(w: Any, node: Any) -> None:
    """Begin a turn with all that are ready."""
    t = node.ready_first
    node.ready_first = NONE
    node.ready_last = NONE
    node.ready_count = 0
    loop_begin(w, node)
    while t != NONE:
        task = w.tasks[t]
        loop_step_came(w, node, task.came)
        turn_call(w, GO_ON, t)
        t = task.next
    loop_work(w, node, w.turn_seconds)
