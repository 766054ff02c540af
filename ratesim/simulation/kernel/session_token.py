"""What a session has seen and consumed, which it brings along: `SessionToken` of one limit."""

from __future__ import annotations

import math
from math import inf
from typing import Any

from ratesim.simulation.kernel.layout import FULL, NONE, TOKEN_FULL
from ratesim.simulation.kernel.replica_state import replica_position
from ratesim.simulation.kernel.state_layout import ROW_EXPIRES_AT

TOKEN_OWN = 64  # as MAX_OWN of the token
TOKEN_ROUNDING = 1e-9  # as ROUNDING of the token


def token_read(w: Any, task: Any) -> None:
    """Copy the token of a request's session and key: `LocalDecider._read_token`."""
    token = w.tokens[w.token[task.row]]
    task.seen_at = token.seen_at
    task.seen_requests = token.seen_requests
    task.own_first = NONE
    last = NONE
    each = token.own_first
    while each != NONE:
        known = w.owns[each]
        o = own_new(w, known.node, known.cost, known.upto, known.time)
        if last == NONE:
            task.own_first = o
        else:
            w.owns[last].next = o
        last = o
        each = known.next


def own_new(w: Any, node: int, cost: float, upto: float, time: float) -> int:
    """Return a record of own consumption: `OwnConsumption`."""
    o = w.owns_free
    if o == NONE:
        w.abort = FULL
        return 0
    own = w.owns[o]
    w.owns_free = own.next
    own.node = node
    own.cost = cost
    own.upto = upto
    own.time = time
    own.next = NONE
    return o


def own_free(w: Any, o: int) -> None:
    """Give a record of own consumption back."""
    w.owns[o].next = w.owns_free
    w.owns_free = o


def token_is_ahead(task: Any, r: Any) -> bool:
    """Tell whether a session has seen a later version than that of the view."""
    return task.seen_at > r.seen_at or (task.seen_at == r.seen_at and task.seen_requests > r.seen_requests)


def own_above(w: Any, own: Any, pair: int) -> float:
    """Return the cost that is above the watermark of its node: `_above_watermark`."""
    mark = w.seen_marks[pair * len(w.nodes) + own.node]
    if mark == 0.0:
        return own.cost
    return min(own.cost, max(own.upto - mark, 0.0))


def own_is_settled(w: Any, own: Any, r: Any, pair: int, now: float) -> bool:
    """Tell whether every node that has seen this version knows it, or it is too old to matter: `_settled`."""
    if own.node == r.node:
        return own.upto <= r.acked * (1 + TOKEN_ROUNDING)
    return now - own.time > w.session_horizon or own_above(w, own, pair) <= own.upto * TOKEN_ROUNDING


def token_admits(w: Any, t: int, now: float, cost: float) -> bool:
    """Tell whether a copy of the view that has the session's own consumption, too, admits a cost: `decide_with_extra`."""
    task = w.tasks[t]
    pair = task.pair
    r = w.replicas[pair]
    count = 0
    first = now
    o = task.own_first
    while o != NONE:
        own = w.owns[o]
        own.missing = 0.0
        if own.node != r.node and not own_is_settled(w, own, r, pair, now):
            own.missing = own_above(w, own, pair)
            if own.missing > 0.0:
                count += 1
                first = min(first, own.time)
        o = own.next
    if count == 0:
        return True
    copy = len(w.operations)
    if not w.rule_get(w.view_table, pair, now, w.answer_table, copy):
        w.rule_begin(w.answer_table, copy, first)
        w.answer_rows[copy * w.state_stride + ROW_EXPIRES_AT] = inf
    for _ in range(count):
        token_charge_next(w, task, copy)
    return w.rule_decide(w.answer_table, copy, 0, cost, now) > 0


def token_charge_next(w: Any, task: Any, copy: int) -> None:
    """Charge the missing consumption that is first by time and cost."""
    least = NONE
    o = task.own_first
    while o != NONE:
        own = w.owns[o]
        if own.missing > 0.0 and (
            least == NONE
            or own.time < w.owns[least].time
            or (own.time == w.owns[least].time and own.missing < w.owns[least].missing)
        ):
            least = o
        o = own.next
    w.rule_charge(w.answer_table, copy, w.owns[least].time, w.owns[least].missing)
    w.owns[least].missing = 0.0


def token_give(w: Any, t: int, cost: float, now: float) -> None:
    """Give the session its next token: `LocalDecider._next_token` and `SeenVersion.after_decision`."""
    task = w.tasks[t]
    pair = task.pair
    r = w.replicas[pair]
    mine_cost = cost
    mine_time = now
    merged = cost == 0.0
    first = NONE
    last = NONE
    count = 0
    o = task.own_first
    while o != NONE:
        own = w.owns[o]
        following = own.next
        if own_is_settled(w, own, r, pair, now):
            own_free(w, o)
        elif not merged and own.node == r.node and token_same_step(own.time, now, w.replica_resolution):
            mine_cost = own.cost + cost
            mine_time = max(own.time, now)
            merged = True
            own_free(w, o)
        else:
            own.next = NONE
            if last == NONE:
                first = o
            else:
                w.owns[last].next = o
            last = o
            count += 1
        o = following
    if cost != 0.0:
        o = own_new(w, r.node, mine_cost, replica_position(w, r), mine_time)
        if last == NONE:
            first = o
        else:
            w.owns[last].next = o
        count += 1
    if count > TOKEN_OWN:
        w.abort = TOKEN_FULL
    token = w.tokens[w.token[task.row]]
    o = token.own_first
    while o != NONE:
        following = w.owns[o].next
        own_free(w, o)
        o = following
    token.own_first = first
    token.seen_at = r.seen_at
    token.seen_requests = r.seen_requests


def token_same_step(a: float, b: float, resolution: float) -> bool:
    """Tell whether two times are of one step of time: `_same_step`."""
    return math.isinf(resolution) or resolution == 0.0 or math.floor(a / resolution) == math.floor(b / resolution)
