"""A node's way to a server: `SimDriver`. Each step returns whether the task goes on at once."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.coldness import (
    COLD_AFTER,
    COLD_ANSWER,
    COLD_ASK,
    cold_between,
    cold_more,
    cold_pause,
    cold_place,
    cold_share,
)
from ratesim.simulation.kernel.draws import driver_draw
from ratesim.simulation.kernel.event_queue import task_sleep
from ratesim.simulation.kernel.layout import (
    ANSWER_LAST_TURN,
    ANSWER_NEXT_TURN,
    ANSWER_TURN,
    APPLY,
    ASK,
    COME_BACK,
    NONE,
    SERVE,
)
from ratesim.simulation.kernel.loop_cpu import (
    loop_begin_alone,
    loop_idle_since_question,
    loop_is_idle,
    loop_next_turn,
    loop_serve_alone,
    loop_work,
    loop_work_later,
)
from ratesim.simulation.kernel.server import server_execute, server_pass, server_take


def task_next_turn(w: Any, t: int, at: int) -> bool:
    """Let a task go on at a place in the turn of its loop after this one."""
    task = w.tasks[t]
    task.at = at
    loop_next_turn(w, w.nodes[task.node], t)
    return False


def driver_execute(w: Any, t: int) -> bool:
    """Draw the way and the service, and enter a turn of the loop: `SimDriver.execute`."""
    task = w.tasks[t]
    driver_draw(w, task)
    node = w.nodes[task.node]
    if node.turn_at != w.now:
        if not loop_is_idle(w, node):
            return task_next_turn(w, t, ASK)
        loop_begin_alone(w, node)
    return driver_ask(w, t)


def driver_ask(w: Any, t: int) -> bool:
    """Write the question, in a turn of the event loop: `SimDriver._ask`."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    driver = w.drivers[task.node * w.primaries + task.server]
    costs = w.batch_costs[task.count]
    ask = costs.ask
    task.answer = costs.answer
    task.after = costs.after
    if w.client_cold > 0:
        driver.pause = cold_pause(w.cold, 0, w.client_cold, loop_idle_since_question(node), driver.pause)
        if driver.pause > 0.0:
            place = cold_place(w.cold, 0, w.client_cold, driver.pause)
            share = cold_share(w.cold, 0, w.client_cold, place, driver.pause)
            ask += cold_between(w.cold, place, share, COLD_ASK)
            task.answer += cold_between(w.cold, place, share, COLD_ANSWER)
            task.after += cold_between(w.cold, place, share, COLD_AFTER)
    if w.hybrid:
        task.answer += driver_beside(w, task, driver.pause)
    return task_sleep(w, t, loop_work(w, node, ask) + task.out, SERVE)


def driver_beside(w: Any, task: Any, pause: float) -> float:
    """Return what a hybrid's node spends on a batch beside the client: `HybridCosts.beside`."""
    told = 0
    o = task.first
    while o != NONE:
        told += w.operations[o].kind == APPLY
        o = w.operations[o].next
    asked = task.count - told
    cold = 0.0
    if asked > 0:
        cold = cold_more(w.cold, w.hybrid_cold_first, w.hybrid_cold, pause, COLD_ANSWER)
    return asked * w.hybrid_ask + told * w.hybrid_tell + cold


def driver_serve(w: Any, t: int) -> bool:
    """Serve a batch that has come to a server, which decides and answers in the order in which batches come."""
    if not w.serves_plainly:
        return server_pass(w, t)
    task = w.tasks[t]
    task.back += server_take(w, w.servers[task.server], w.now, task.service) - w.now
    server_execute(w, t)
    return task_sleep(w, t, task.back, COME_BACK)


def driver_come_back(w: Any, t: int) -> bool:
    """Take in the answer, in one step where the loop has nothing else to do."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    if loop_serve_alone(w, node, min(task.count, 2), task.answer, task.after):
        task.at = w.answered_at
        return True
    if loop_is_idle(w, node):
        loop_begin_alone(w, node)
        return driver_answer_turn(w, t)
    return task_next_turn(w, t, ANSWER_TURN)


def driver_answer_turn(w: Any, t: int) -> bool:
    """Resume the task that waits for the answer in the next turn, and the callers of a batch in the one after that."""
    return task_next_turn(w, t, ANSWER_NEXT_TURN if w.tasks[t].count > 1 else ANSWER_LAST_TURN)


def driver_answer_next_turn(w: Any, t: int) -> bool:
    """Resume the callers of a batch."""
    return task_next_turn(w, t, ANSWER_LAST_TURN)


def driver_answer_last_turn(w: Any, t: int) -> bool:
    """Do the work of the answer."""
    task = w.tasks[t]
    node = w.nodes[task.node]
    loop_work(w, node, task.answer)
    loop_work_later(w, node, task.after)
    task.at = w.answered_at
    return True
