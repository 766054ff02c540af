"""States of fixed length in a table, and the functions of a rule on them (`rule_functions`).

They work on copies: what is not stored has not happened.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ratesim.algorithms import Params
from ratesim.simulation.kernel.state_access import (
    table_answer,
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
    ROW_EXPIRES_AT,
    ROW_HEADER,
    ROW_REQUESTS,
)
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.retry_after import FOREVER

if TYPE_CHECKING:  # where they run they are those of the algorithm at hand; here they stand for any's
    from ratesim.algorithms.token_bucket import (
        available,
        charge,
        refresh,
        reset_after,
        retry_after,
        rewind,
        start,
    )

_WIDTH = 0  # floats of a state; the right number where the functions run


def state_load(t: Any, slot: int, s: Any) -> None:
    """Copy the state of a row into s."""
    row = table_row(t, slot)
    for i in range(_WIDTH):
        s[i] = row[ROW_HEADER + i]


def state_store(t: Any, slot: int, s: Any) -> None:
    """Copy s into the state of a row."""
    row = table_row(t, slot)
    for i in range(_WIDTH):
        row[ROW_HEADER + i] = s[i]


def state_exact_retry(t: Any, slot: int, s: Any, p: Params, cost: float, now: float, seconds: float) -> float:
    """Return `exact_retry_after`."""
    if seconds >= FOREVER:
        return seconds
    micros = max(ceil(seconds * 1e6), 1)
    step = 1
    while micros < FOREVER * 1e6:
        state_load(t, slot, s)
        if s[0] - now > t.skew:  # of a peek: an acquire has stored it brought back
            rewind(s, p, now)
        at = max(now + micros / 1e6, s[0])
        refresh(s, p, at)
        if available(s, p, at) >= cost:
            return micros / 1e6
        seconds = retry_after(s, p, cost, at) + (at - now)
        if seconds >= FOREVER:
            return seconds
        micros = max(micros + step, ceil(seconds * 1e6))
        step = step * 2
    return inf


def rule_decide(t: Any, slot: int, flags: int, cost: float, now: float) -> int:
    """Decide: `RuleEvaluator.decide`."""
    p = table_parameters(t)
    s = table_floats(t)
    row = table_row(t, slot)
    consumes = flags & DECIDE_CONSUMES != 0
    lives = row[ROW_EXPIRES_AT] > now
    at = now
    if lives:
        state_load(t, slot, s)
        if s[0] - now > t.skew:
            rewind(s, p, now)
            if consumes:
                state_store(t, slot, s)
                row[ROW_ACCESSED_AT] = now
                row[ROW_EXPIRES_AT] = now + reset_after(s, p, now) + EXPIRY_MARGIN
        if s[0] > now:
            at = s[0]
        refresh(s, p, at)
    else:
        start(s, p, now)
    left = available(s, p, at)
    allowed = left >= cost
    if allowed and consumes:
        charge(s, p, cost, at)
        left = available(s, p, at)
    fresh = reset_after(s, p, at) + (at - now)
    if allowed and consumes:
        state_store(t, slot, s)
        if not lives:
            table_begin(t, slot, now)
        row[ROW_REQUESTS] += 1.0
        row[ROW_ACCESSED_AT] = at
        row[ROW_EXPIRES_AT] = now + fresh + EXPIRY_MARGIN
    if flags & DECIDE_TELLS:
        wait = 0.0
        if not allowed:
            wait = retry_after(s, p, cost, at) + (at - now)
            if lives:
                wait = state_exact_retry(t, slot, s, p, cost, now, wait)
        answer = table_answer(t)
        answer[ANSWER_REMAINING] = left if left > 0.0 else 0.0
        answer[ANSWER_RETRY_AFTER] = wait
        answer[ANSWER_RESET_AFTER] = fresh
    return 1 if allowed else 0


def rule_begin(t: Any, slot: int, now: float) -> None:
    """Begin a state."""
    s = table_floats(t)
    start(s, table_parameters(t), now)
    state_store(t, slot, s)
    table_begin(t, slot, now)
    table_row(t, slot)[ROW_ACCESSED_AT] = now


def rule_charge(t: Any, slot: int, time: float, cost: float) -> None:
    """Bring a state forward to a time, and charge it."""
    p = table_parameters(t)
    s = table_floats(t)
    state_load(t, slot, s)
    if time > s[0]:
        refresh(s, p, time)
    charge(s, p, cost, time)
    state_store(t, slot, s)


def rule_time(t: Any, slot: int) -> float:
    """Return the time of a state."""
    return table_row(t, slot)[ROW_HEADER]


def state_expire(t: Any, slot: int, at: float) -> None:
    """Let a state, written at a time, live until it is as good as new."""
    s = table_floats(t)
    state_load(t, slot, s)
    table_row(t, slot)[ROW_EXPIRES_AT] = at + reset_after(s, table_parameters(t), at) + EXPIRY_MARGIN


def state_copy(t: Any, slot: int, to: Any, place: int) -> None:
    """Copy a state into a row of another table."""
    row, other = table_row(t, slot), table_row(to, place)
    for i in range(_WIDTH):
        other[ROW_HEADER + i] = row[ROW_HEADER + i]
