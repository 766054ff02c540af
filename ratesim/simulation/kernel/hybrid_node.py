"""A node of a hybrid: a decision in its memory takes processor time. `Dispatcher._decide`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.coldness import COLD_ASK, COLD_WAKE, cold_more
from ratesim.simulation.kernel.loop_cpu import loop_is_idle, loop_slept, loop_wake, loop_work_between


def node_wake(w: Any, node: Any, row: int) -> None:
    """Begin a turn of a node that sleeps; the latency counts from there: `Dispatcher._wake`."""
    waking = 0.0
    if w.client_cold > 0:
        waking = cold_more(w.cold, 0, w.client_cold, loop_slept(w, node), COLD_WAKE)
    w.sent[row] = loop_wake(w, node, waking)


def node_decide(w: Any, node: Any, row: int) -> float:
    """Spend what a decision in a node's memory takes; returns its latency, in seconds."""
    if loop_is_idle(w, node):
        node_wake(w, node, row)
    else:
        w.sent[row] = max(w.now, node.woken_at)
    idle = node.idle - node.decided
    node.decided = node.idle
    seconds = w.decide_seconds
    if w.memory_cold > 0:
        seconds += cold_more(w.cold, w.memory_cold_first, w.memory_cold, idle, COLD_ASK)
    return w.now + loop_work_between(w, node, seconds) - w.sent[row]
