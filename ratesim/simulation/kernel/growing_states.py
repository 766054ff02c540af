"""Growing states in the arena of a table, and the functions of a rule on them (`rule_functions`).

They are worked on where they lie, and put back where a request is denied. A state that begins, and one that a peek brings
back, is tried in the free end of the arena. Where that is too small the table is exhausted, and its answers mean nothing.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ratesim.algorithms import Params
from ratesim.simulation.kernel.state_access import (
    table_answer,
    table_arena,
    table_begin,
    table_floats,
    table_parameters,
    table_row,
)
from ratesim.simulation.kernel.state_layout import (
    ANSWER_REMAINING,
    ANSWER_RESET_AFTER,
    ANSWER_RETRY_AFTER,
    DECIDE_CONSUMES,
    DECIDE_TELLS,
    ROW_ACCESSED_AT,
    ROW_BEGIN,
    ROW_EXPIRES_AT,
    ROW_LENGTH,
    ROW_REQUESTS,
    TABLE_ARENA,
)
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.retry_after import FOREVER

if TYPE_CHECKING:  # where they run they are those of the algorithm at hand; here they stand for any's
    from ratesim.algorithms.sliding_log import (
        available,
        charge,
        is_full,
        move,
        refresh,
        reset_after,
        retry_after,
        rewind,
        start,
    )

_WIDTH, _SIZE = 0, 0  # floats that `refresh` may write, and floats of a fresh state; the right numbers where they run


def state_of(t: Any, slot: int) -> Any:
    """Return the state of a row."""
    row = table_row(t, slot)
    begin = int(row[ROW_BEGIN])
    return table_arena(t)[begin : begin + int(row[ROW_LENGTH])]


def state_allot(t: Any, slot: int, length: int) -> bool:
    """Give a row other floats of the arena than before; returns whether there are enough."""
    if t.used + length > t.capacity:
        t.exhausted |= TABLE_ARENA
        return False
    row = table_row(t, slot)
    row[ROW_BEGIN] = t.used
    row[ROW_LENGTH] = length
    t.used += length
    return True


def state_exact_retry(s: Any, before: Any, p: Params, cost: float, now: float, seconds: float) -> float:
    """Return `exact_retry_after`."""
    if seconds >= FOREVER:
        return seconds
    micros = max(ceil(seconds * 1e6), 1)
    step = 1
    while micros < FOREVER * 1e6:
        at = max(now + micros / 1e6, s[0])
        refresh(s, p, at)
        enough = available(s, p, at) >= cost
        seconds = 0.0 if enough else retry_after(s, p, cost, at) + (at - now)
        for i in range(_WIDTH):
            s[i] = before[i]
        if enough:
            return micros / 1e6
        if seconds >= FOREVER:
            return seconds
        micros = max(micros + step, ceil(seconds * 1e6))
        step = step * 2
    return inf


def state_charge(t: Any, slot: int, p: Params, cost: float, time: float) -> None:
    """Charge a state, and make room for it."""
    s = state_of(t, slot)
    if is_full(s, p, cost, time):
        if not state_allot(t, slot, 2 * len(s) - _WIDTH):  # twice the entries behind the same head, as `grow` makes it
            return
        move(s, state_of(t, slot))
    charge(state_of(t, slot), p, cost, time)


def rule_begin(t: Any, slot: int, now: float) -> None:
    """Begin a state."""
    row = table_row(t, slot)
    if row[ROW_LENGTH] == 0.0 and not state_allot(t, slot, _SIZE):
        return
    start(state_of(t, slot), table_parameters(t), now)
    table_begin(t, slot, now)
    row[ROW_ACCESSED_AT] = now


def rule_decide(t: Any, slot: int, flags: int, cost: float, now: float) -> int:
    """Decide: `RuleEvaluator.decide`."""
    p = table_parameters(t)
    before = table_floats(t)
    row = table_row(t, slot)
    consumes = flags & DECIDE_CONSUMES != 0
    lives = row[ROW_EXPIRES_AT] > now
    at = now
    free = t.used
    if free + max(_SIZE, int(row[ROW_LENGTH])) > t.capacity:
        t.exhausted |= TABLE_ARENA
    if t.exhausted:
        return -1
    if lives:
        s = state_of(t, slot)
        if s[0] - now > t.skew:
            if not consumes:
                there = s
                s = table_arena(t)[free : free + len(there)]
                for i in range(len(there)):
                    s[i] = there[i]
            rewind(s, p, now)
            if consumes:
                row[ROW_ACCESSED_AT] = now
                row[ROW_EXPIRES_AT] = now + reset_after(s, p, now) + EXPIRY_MARGIN
        for i in range(_WIDTH):
            before[i] = s[i]
        if s[0] > now:
            at = s[0]
        refresh(s, p, at)
    else:
        s = table_arena(t)[free : free + _SIZE]
        start(s, p, now)
        for i in range(_WIDTH):
            before[i] = s[i]
    left = available(s, p, at)
    allowed = left >= cost
    if allowed and consumes:
        if not lives:
            rule_begin(t, slot, now)
        state_charge(t, slot, p, cost, at)
        if t.exhausted:
            return -1
        s = state_of(t, slot)
        left = available(s, p, at)
    fresh = reset_after(s, p, at) + (at - now)
    wait = 0.0
    if not allowed and flags & DECIDE_TELLS:
        wait = retry_after(s, p, cost, at) + (at - now)
    if allowed and consumes:
        row[ROW_REQUESTS] += 1.0
        row[ROW_ACCESSED_AT] = at
        row[ROW_EXPIRES_AT] = now + fresh + EXPIRY_MARGIN
    else:
        for i in range(_WIDTH):
            s[i] = before[i]
    if flags & DECIDE_TELLS:
        if not allowed and lives:
            wait = state_exact_retry(s, before, p, cost, now, wait)
        answer = table_answer(t)
        answer[ANSWER_REMAINING] = left if left > 0.0 else 0.0
        answer[ANSWER_RETRY_AFTER] = wait
        answer[ANSWER_RESET_AFTER] = fresh
    return 1 if allowed else 0


def rule_charge(t: Any, slot: int, time: float, cost: float) -> None:
    """Bring a state forward to a time, and charge it."""
    if t.exhausted:
        return
    p = table_parameters(t)
    s = state_of(t, slot)
    if time > s[0]:
        refresh(s, p, time)
    state_charge(t, slot, p, cost, time)


def rule_time(t: Any, slot: int) -> float:
    """Return the time of a state."""
    return state_of(t, slot)[0]


def state_expire(t: Any, slot: int, at: float) -> None:
    """Let a state, written at a time, live until it is as good as new."""
    if not t.exhausted:
        table_row(t, slot)[ROW_EXPIRES_AT] = at + reset_after(state_of(t, slot), table_parameters(t), at) + EXPIRY_MARGIN


def state_copy(t: Any, slot: int, to: Any, place: int) -> None:
    """Copy a state into a row of another table."""
    s = state_of(t, slot)
    if table_row(to, place)[ROW_LENGTH] < len(s):
        state_allot(to, place, len(s))
    if not t.exhausted and not to.exhausted:
        move(s, state_of(to, place))
