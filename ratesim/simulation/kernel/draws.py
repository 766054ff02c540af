"""The random draws of a message by the time at which it is sent: `SimDriver._drawn`, `Link.transit_time` and `draw`."""

from __future__ import annotations

import math
from typing import Any

from ratesim.simulation.kernel.layout import NONE
from ratesim.simulation.network.draw_column import draw_mixed, draw_normal

DRAW_QUANTILES = 9  # as many as QUANTILES of the cost model
DRAW_OUT, DRAW_SERVICE, DRAW_BACK, DRAW_LOST_OUT, DRAW_LOST_BACK = 1, 2, 3, 4, 5  # purposes, as in the engine
DRAW_LONGEST, DRAW_RETRANSMISSIONS = 120.0, 15  # as RTO_MAX and RETRANSMISSIONS of the links


def driver_draw(w: Any, task: Any) -> None:
    """Draw the way out, the service and the way back of a batch: `SimDriver._drawn`."""
    operation = w.operations[task.first]
    row = operation.row
    if row != NONE:
        task.out = w.plan_out[row]
        task.service = w.batch_costs[task.count].service * w.plan_service[row]
        task.back = w.plan_back[row]
        return
    key = operation.key
    now = w.epoch + w.now
    task.out = draw_transit(w, key, now, DRAW_OUT, DRAW_LOST_OUT)
    uniform = draw_uniform(w, key, now, DRAW_SERVICE)
    task.service = draw_seconds(w, task.count, operation.kind) * draw_factor(w.kind_factors, operation.kind, uniform)
    task.back = draw_transit(w, key, now, DRAW_BACK, DRAW_LOST_BACK)


def draw_uniform(w: Any, key: int, now: float, purpose: int) -> float:
    """Return a uniform number that belongs to a key, a time and a purpose: `draw`."""
    w.bits_float[0] = now
    return draw_mixed((w.name_products[key] + w.bits_whole[0]) ^ w.draw_salts[purpose])


def draw_transit(w: Any, key: int, now: float, way: int, lost: int) -> float:
    """Return how long a message is on its way, losses included: `Link.transit_time`."""
    uniform = draw_uniform(w, key, now, way)
    if w.link_measured:
        seconds = w.link_median * draw_factor(w.link_factors, 0, uniform)
    else:
        seconds = w.link_median * math.exp(w.link_sigma * draw_normal(uniform))
    if w.link_loss == 0.0:
        return seconds
    return seconds + draw_retransmission(w, draw_uniform(w, key, now, lost))


def draw_retransmission(w: Any, uniform: float) -> float:
    """Return the seconds that losses add: `Link.retransmission_delay`."""
    still = w.link_loss
    wait = w.link_rto
    seconds = 0.0
    for _ in range(DRAW_RETRANSMISSIONS):
        if uniform >= still:
            break
        seconds += wait
        still *= w.link_loss
        wait = min(2.0 * wait, DRAW_LONGEST)
    return seconds


def draw_seconds(w: Any, count: int, kind: int) -> float:
    """Return the service time of a batch at the factor 1, by the kind of its first operation: `BackendCosts.service`."""
    cost = w.kind_costs[kind]
    return cost.fixed + count * cost.each if cost.own else w.batch_costs[count].service


def draw_factor(factors: Any, kind: int, uniform: float) -> float:
    """Return the factor of a cost at a quantile. factors: quantiles, and behind them for each kind the factors at these."""
    many = DRAW_QUANTILES
    first = many * (kind + 1)
    i = 0
    for j in range(1, many - 1):
        i += factors[j] <= uniform
    share = min((uniform - factors[i]) / (factors[i + 1] - factors[i]), 1.0)
    return factors[first + i] + (factors[first + i + 1] - factors[first + i]) * share
