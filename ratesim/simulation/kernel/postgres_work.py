"""What a PostgreSQL does beside decisions, and the rows of its table: `PostgresWork`."""

from __future__ import annotations

from math import inf
from typing import Any

from ratesim.simulation.kernel.layout import APPLY, FULL, NONE
from ratesim.simulation.kernel.locks import operation_changes, operation_wrote

WORK_KEPT = 1.0  # seconds for which a row is kept after its state is as good as new
SPAN_LIVES, SPAN_IS_GONE = 1, 2


def work_service(w: Any, task: Any, seconds: float) -> float:
    """Return the service time of a batch that begins now."""
    work = w.works[0]
    if work.insert > 0.0:
        seconds += work.insert * work_new_rows(w, work, task)
    return seconds if w.now < work.calm_until else work_longer(w, work, seconds, w.now, 1)


def work_flush(w: Any, seconds: float, now: float) -> float:
    """Return the seconds of a flush of the log that begins now."""
    work = w.works[0]
    return seconds if now < work.calm_until else work_longer(w, work, seconds, now, 0)


def work_longer(w: Any, work: Any, seconds: float, now: float, serves: int) -> float:
    """Return how long a service, or a flush, takes in the slow phases of now."""
    calm_until = inf
    for i in range(len(w.stalls)):
        stall = w.stalls[i]
        since = (now - stall.phase) % stall.every
        if since < stall.lasts:
            seconds *= stall.service if serves else stall.commit
            calm_until = now
        else:
            calm_until = min(calm_until, now + stall.every - since)
    work.calm_until = calm_until
    return seconds


def work_new_rows(w: Any, work: Any, task: Any) -> int:
    """Return how many keys of a batch get a row by it."""
    work.batches += 1
    many = 0
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        row = w.rows[operation.key]
        if operation_changes(operation) and row.seen != work.batches:
            row.seen = work.batches
            if work_makes_row(w, work, row):
                many += 1
        o = operation.next
    return many


def work_makes_row(w: Any, work: Any, row: Any) -> bool:
    """Tell whether a write makes a row: a key has none, or one that is over and lies in a partition that has ended."""
    if not row.lives:
        return True
    now = w.epoch + w.now
    return work.span > 0.0 and row.expires < now and row.born < now // work.span


def work_record(w: Any, task: Any) -> None:
    """Note until when the rows live that a batch has written."""
    work = w.works[0]
    now = w.epoch + w.now
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        o = operation.next
        if not operation_wrote(operation):
            continue
        lasts = work.charged if operation.kind == APPLY else operation.reset_after
        row = w.rows[operation.key]
        if work.span > 0.0 and work_makes_row(w, work, row):
            row.born = int(now // work.span)
        row.lives = 1
        row.expires = now + lasts + WORK_KEPT


def work_drop_partitions(w: Any, work: Any) -> None:
    """Drop the partitions of time in which all has expired. Decisions wait meanwhile."""
    now = w.epoch + w.now
    present = int(now // work.span)
    spans = w.spans
    if present - work.first_span >= len(spans):
        w.abort = FULL
        return
    for i in range(len(spans)):
        spans[i] = 0
    for i in range(len(w.rows)):
        row = w.rows[i]
        if row.lives and row.expires >= now:
            spans[row.born - work.first_span] = SPAN_LIVES
    gone = 0
    for i in range(len(w.rows)):
        row = w.rows[i]
        if row.lives and row.born < present:
            place = row.born - work.first_span
            if spans[place] != SPAN_LIVES:
                gone += spans[place] == 0
                spans[place] = SPAN_IS_GONE
                row.lives = 0
    work.locked_until = w.now + work.dropping * gone


def work_remove_rows(w: Any, work: Any) -> None:
    """Note what an upkeep removes now, and what it reads for that; `work_statement` tells the seconds of each statement."""
    now = w.epoch + w.now
    work.found = 0
    work.read = 0
    present = int(now // work.span) if work.span > 0.0 else 0
    for i in range(len(w.rows)):
        row = w.rows[i]
        if not row.lives:
            continue
        if work.span > 0.0:
            if row.born < present - 1 and row.expires >= now:
                work.found += 1
                row.born = present
        elif row.expires < now:
            work.found += 1
            row.lives = 0
        else:
            work.read += 1


def work_statement(work: Any) -> float:
    """Return the processor seconds of the next statement of an upkeep; below 0 where there is none."""
    if work.read > 0:
        rows = min(work.most, work.read)
        work.read -= rows
        return work.reading * rows
    if work.found > 0:
        rows = min(work.most, work.found)
        work.found -= rows
        return work.removal * rows
    return -1.0
