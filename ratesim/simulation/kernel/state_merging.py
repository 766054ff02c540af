"""What is decided elsewhere and merged into a state of a table, and copies of states for other tables (`rule_functions`)."""

from __future__ import annotations

from math import floor, inf
from typing import TYPE_CHECKING, Any

from ratesim.simulation.kernel.state_access import (
    table_answer,
    table_marks,
    table_marks_first,
    table_row,
)
from ratesim.simulation.kernel.state_layout import (
    ANSWER_CONSUMED,
    ANSWER_EPOCH,
    ROW_ACCESSED_AT,
    ROW_CREATED_AT,
    ROW_EXPIRES_AT,
    ROW_LIVES,
    ROW_REQUESTS,
    TABLE_MARKS,
)

if TYPE_CHECKING:  # where they run they are those of the algorithm at hand; here they stand for any's
    from ratesim.simulation.kernel.fixed_states import (
        rule_begin,
        rule_charge,
        rule_time,
        state_copy,
        state_expire,
    )


def state_micro(seconds: float) -> float:
    """Return round(seconds, 6) for times from 0 on: the whole number of microseconds nearest to the exact product."""
    if seconds >= 8589934592.0:  # times are farther apart than a microsecond
        return seconds
    product = seconds * 1e6
    split = 134217729.0 * seconds
    high = split - (split - seconds)
    error = (high * 1e6 - product) + (seconds - high) * 1e6
    whole = float(floor(product))
    more = (product - whole) - 0.5
    if more > -error or (more == -error and whole % 2.0 == 1.0):
        whole = whole + 1.0
    elif more + 1.0 == -error and whole % 2.0 == 1.0:
        whole = whole - 1.0
    return whole / 1e6


def mark_place(t: Any, slot: int, node: int, adds: bool) -> int:
    """Return the place of the watermark of a node in a row; -1 if there is none and it is not added."""
    marks = table_marks(t)
    of = int(slot * t.marks_nodes + node + 1)
    mixed = (of * 2654435769) & 0xFFFFFFFF
    place = (mixed ^ (mixed >> 15)) & t.marks_mask
    while marks[place].of != of:
        if marks[place].of == 0:
            if not adds:
                return -1
            if 4 * (t.marks_used + 1) > 3 * (t.marks_mask + 1):
                t.exhausted |= TABLE_MARKS
                return -1
            first = table_marks_first(t)
            marks[place].of = of
            marks[place].life = 0.0
            marks[place].next = first[slot]
            first[slot] = place + 1
            t.marks_used += 1
            return place
        place = (place + 1) & t.marks_mask
    return place


def rule_apply_begin(t: Any, slot: int, node: int, epoch: int, before: float, total: float, first: float) -> None:
    """Begin to apply a charge: `RuleEvaluator.apply` with `undelivered_part`, entry by entry."""
    row = table_row(t, slot)
    if not row[ROW_EXPIRES_AT] > first:
        rule_begin(t, slot, first)
        row[ROW_EXPIRES_AT] = inf
    place = mark_place(t, slot, node, True)
    if place < 0:
        return
    mark = table_marks(t)[place]
    t.upto = before
    t.before = before
    t.delivered = 0
    if mark.life != row[ROW_LIVES] or mark.epoch < epoch:
        t.known = -inf
        t.part = 0
    elif mark.epoch > epoch or mark.consumed >= total:
        t.known = inf
        t.part = 0
        return
    else:
        t.known = mark.consumed
        t.part = 1
    mark.life = row[ROW_LIVES]
    mark.epoch = epoch
    mark.consumed = total


def rule_apply(t: Any, slot: int, time: float, cost: float, requests: int) -> None:
    """Apply the next entry of the charge, or the part of it that the state lacks."""
    part = cost
    if t.part and t.upto >= t.known:
        lost = 0.0 if t.delivered else t.before - t.known
        part = cost + max(lost, 0.0)
    elif t.part and t.upto + cost > t.known:
        part = t.upto + cost - t.known
    elif t.part or t.known == inf:
        t.upto += cost
        return
    t.upto += cost
    t.delivered = 1
    rule_charge(t, slot, time, part)
    table_row(t, slot)[ROW_REQUESTS] += requests


def rule_apply_end(t: Any, slot: int, last: float) -> None:
    """End to apply a charge whose last entry has that time."""
    at = max(last, rule_time(t, slot))
    table_row(t, slot)[ROW_ACCESSED_AT] = at
    state_expire(t, slot, at)


def rule_mark(t: Any, slot: int, node: int) -> int:
    """Put the watermark of a node in the answer; returns 0 if the state has none of it."""
    place = mark_place(t, slot, node, False)
    if place < 0 or table_marks(t)[place].life != table_row(t, slot)[ROW_LIVES]:
        return 0
    answer = table_answer(t)
    answer[ANSWER_EPOCH] = table_marks(t)[place].epoch
    answer[ANSWER_CONSUMED] = table_marks(t)[place].consumed
    return 1


def rule_export(t: Any, slot: int, to: Any, place: int) -> None:
    """Copy a state to another table: `MemoryStorage.set_state_nowait` of what `Entry.export` gives, to be settled."""
    row, other = table_row(t, slot), table_row(to, place)
    state_copy(t, slot, to, place)
    other[ROW_CREATED_AT] = state_micro(row[ROW_CREATED_AT])
    other[ROW_ACCESSED_AT] = state_micro(row[ROW_ACCESSED_AT])
    other[ROW_REQUESTS] = row[ROW_REQUESTS]
    other[ROW_EXPIRES_AT] = inf
    other[ROW_LIVES] += 1.0
    if t.marks_mask < 0 or to.marks_mask < 0:
        return
    marks = table_marks(t)
    next_one = table_marks_first(t)[slot]
    while next_one > 0:
        mark = marks[next_one - 1]
        next_one = mark.next
        if mark.life == row[ROW_LIVES]:
            copied = mark_place(to, place, (mark.of - 1) % t.marks_nodes, True)
            if copied < 0:
                return
            table_marks(to)[copied].life = other[ROW_LIVES]
            table_marks(to)[copied].epoch = mark.epoch
            table_marks(to)[copied].consumed = mark.consumed


def rule_get(t: Any, slot: int, now: float, to: Any, place: int) -> int:
    """Copy a state to another table if it lives: `MemoryStorage.live_entry`."""
    if not table_row(t, slot)[ROW_EXPIRES_AT] > now:
        return 0
    rule_export(t, slot, to, place)
    return 1


def rule_settle(t: Any, slot: int) -> None:
    """Let a state live until it is as good as new: the end of `ViewCache.store`."""
    state_expire(t, slot, rule_time(t, slot))
