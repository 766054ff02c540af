"""The random draws of a message by the time at which it is sent: `SimDriver._drawn`, `Link.transit_time` and `draw`."""

from __future__ import annotations

import math
from typing import Any

from ratesim.simulation.kernel.layout import NONE
from ratesim.simulation.network.draw_column import draw_mixed

DRAW_QUANTILES = 9  # as many as QUANTILES of the cost model
DRAW_OUT, DRAW_SERVICE, DRAW_BACK, DRAW_LOST_OUT, DRAW_LOST_BACK = 1, 2, 3, 4, 5  # purposes, as in the engine
DRAW_LONGEST, DRAW_RETRANSMISSIONS = 120.0, 15  # as RTO_MAX and RETRANSMISSIONS of the links
# Of the three approximations of AS241 to the normal quantile, by the distance from the center.
DRAW_CENTER_NUMERATOR = (
    2509.0809287301227,
    33430.57558358813,
    67265.7709270087,
    45921.95393154987,
    13731.69376550946,
    1971.5909503065513,
    133.14166789178438,
    3.3871328727963665,
)
DRAW_CENTER_DENOMINATOR = (
    5226.495278852854,
    28729.085735721943,
    39307.89580009271,
    21213.794301586597,
    5394.196021424751,
    687.1870074920579,
    42.31333070160091,
    1.0,
)
DRAW_SIDE_NUMERATOR = (
    0.0007745450142783414,
    0.022723844989269184,
    0.2417807251774506,
    1.2704582524523684,
    3.6478483247632045,
    5.769497221460691,
    4.630337846156546,
    1.4234371107496835,
)
DRAW_SIDE_DENOMINATOR = (
    1.0507500716444169e-09,
    0.0005475938084995345,
    0.015198666563616457,
    0.14810397642748008,
    0.6897673349851,
    1.6763848301838038,
    2.053191626637759,
    1.0,
)
DRAW_TAIL_NUMERATOR = (
    2.0103343992922881e-07,
    2.7115555687434876e-05,
    0.0012426609473880784,
    0.026532189526576124,
    0.29656057182850487,
    1.7848265399172913,
    5.463784911164114,
    6.657904643501103,
)
DRAW_TAIL_DENOMINATOR = (
    2.0442631033899397e-15,
    1.421511758316446e-07,
    1.8463183175100548e-05,
    0.0007868691311456133,
    0.014875361290850615,
    0.1369298809227358,
    0.599832206555888,
    1.0,
)


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
    while i + 2 < many and factors[i + 1] <= uniform:
        i += 1
    share = min((uniform - factors[i]) / (factors[i + 1] - factors[i]), 1.0)
    return factors[first + i] + (factors[first + i + 1] - factors[first + i]) * share


def draw_normal(p: float) -> float:
    """Return a quantile of the standard normal distribution: `NormalDist.inv_cdf`, which is Wichura's AS241."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return draw_polynomial(DRAW_CENTER_NUMERATOR, r) * q / draw_polynomial(DRAW_CENTER_DENOMINATOR, r)
    r = math.sqrt(-math.log(p if q <= 0.0 else 1.0 - p))
    if r <= 5.0:
        r = r - 1.6
        x = draw_polynomial(DRAW_SIDE_NUMERATOR, r) / draw_polynomial(DRAW_SIDE_DENOMINATOR, r)
    else:
        r = r - 5.0
        x = draw_polynomial(DRAW_TAIL_NUMERATOR, r) / draw_polynomial(DRAW_TAIL_DENOMINATOR, r)
    return -x if q < 0.0 else x


def draw_polynomial(coefficients: Any, r: float) -> float:
    """Return the value of a polynomial whose highest coefficient is the first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * r + coefficient
    return value
