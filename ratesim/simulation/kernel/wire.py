"""The batches whose bytes on the wire are measured afterward: `MeteredBackend`."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.layout import FULL, NONE, WIRE_KINDS
from ratesim.simulation.network.wire_sample import wire_is_sampled


def wire_count(w: Any, task: Any) -> bool:
    """Count a batch that a server executes; returns whether it is measured, which takes the numbers of its answers."""
    kind = w.operations[task.first].kind
    if not wire_is_sampled(w.wire_counts[task.server * WIRE_KINDS + kind], task.count):
        return False
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        operation.wants_answer = 1
        o = operation.next
    return True


def wire_note(w: Any, task: Any) -> None:
    """Note the operations of a batch and their answers."""
    w.sampled_batches += 1
    o = task.first
    while o != NONE:
        place = w.samples_count
        if place >= len(w.samples):
            w.abort = FULL
            return
        w.samples_count = place + 1
        operation = w.operations[o]
        sample = w.samples[place]
        sample.batch = w.sampled_batches
        sample.server = task.server
        sample.kind = operation.kind
        sample.row = operation.row
        sample.key = operation.key
        sample.cost = operation.cost
        sample.time = operation.time
        sample.allowed = operation.allowed
        sample.remaining = operation.remaining
        sample.retry_after = operation.retry_after
        sample.reset_after = operation.reset_after
        o = operation.next


def wire_end_warmup(w: Any) -> None:
    """Count from now on."""
    for i in range(len(w.wire_counts)):
        w.wire_counts[i].uncounted = w.wire_counts[i].operations
