"""The costs of a served backend, fitted to what `survey.py` has measured, and split into parts.

The client's processor time, the way to the server, the server's service and its commit are each measured in a way that the
others do not enter:

- client: processor time of this process while requests queue for it, at several depths. The depth decides how many travel
  in a batch, so least squares over (batches, operations) give the share of each. That is its cost while it is busy. What
  the turns of its event loop take, measured with empty ones, is not in it.
- coldness: what a lone request takes more than that, in each of its parts, by the time for which nothing was asked.
- way: a request without work (PING, an empty query), less processor time here and there.
- service: the server's own account of its processor time under the same loads, where it keeps one and nobody else is being
  served. Otherwise it is the wait of a batch less the way, with batches of several sizes instead of loads. PostgreSQL has a
  shorter way for a request alone, which has a cost of its own beside the line of batches.
- commit: the same decisions with and without waiting for the disk, in turns.

Of several rounds the medians count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratesim.simulation.cost_model.lone_requests import Lone
from ratesim.simulation.cost_model.profile import QUANTILES, BackendCosts, Coldness, Cost
from ratesim.simulation.cost_model.survey import (
    BATCHES,
    DEPTHS,
    GAPS,
    PACED,
    UNLOGGED,
    Key,
    Load,
    Replayed,
    Samples,
    Survey,
    Target,
    survey,
    warm_up,
)

__all__ = ["fit", "fit_client", "fit_cold", "fit_line", "fit_split", "lone_of", "mean_of", "measure"]
__all__ += ["replayed_of", "spread", "typical"]

LEAST = 1e-7  # seconds: no cost is taken for less
CUT = 1.25

Row = TypeVar("Row", Load, Lone, Replayed, Samples)


async def measure(target: Target, rounds: int = 5, effort: float = 1.0) -> BackendCosts:
    """Measure the costs of `target`, whatever else the machine does.

    Parameters
    ----------
    target : Target
        The server.
    rounds : int
        Number of rounds, each of about four seconds.
    effort : float
        Scales the length of a round.
    """
    await warm_up(target)
    return fit(target, [await survey(target, effort, turn) for turn in range(rounds)])


def fit(target: Target, surveys: Sequence[Survey]) -> BackendCosts:
    """Fit the costs to the surveys of a target; a piece may be missing in some of them."""
    ping = _pooled(surveys, Key("ping"))
    acquires = {size: _pooled(surveys, Key("acquire", size)) for size in BATCHES}
    # Reading and writing are the server's part of an empty request. On one machine the rest is nearly nothing, because the
    # kernel carries a packet in the sender's own processor time; a tenth of the wait is kept, to have a spread.
    waited = np.maximum(ping.wait, LEAST)
    middle = float(np.median(waited))
    hop = max(middle - (ping.busy or 0.0), 0.1 * middle)
    served = [_service(acquires[size], hop) for size in BATCHES]
    loads = [typical([load.by_operation() for load in _rows(surveys, Key("load", depth), Load)]) for depth in DEPTHS]
    batches, operations, _, busy, _, _ = np.array(loads).T
    turn = float(np.median(_pooled(surveys, Key("turn")).cpu))
    paced = [rows for share in PACED if (rows := _rows(surveys, Key("paced", share), Load))]
    batch, request, arrival = fit_client(loads, [typical([load.by_operation() for load in rows]) for rows in paced], turn)
    single_served = None
    if target.locks:  # PostgreSQL has a function for a request alone, and batches begin with more work than it
        single_served = served[0]
        fixed, item = fit_line(BATCHES[1:], served[1:])
    else:
        fixed, item = fit_line(BATCHES, served) if ping.busy is None else _shares(batches, operations, busy)
    alone = acquires[1]
    others = {}
    for name in ("get", "apply"):
        sizes = (1, BATCHES[-1])
        first, more = fit_line(sizes, [_service(_pooled(surveys, Key(name, size)), hop) for size in sizes])
        others[name] = Cost(fixed=first, item=more)
    single = _pooled(surveys, Key("single"))
    latency, commit = single.elapsed, None
    if target.durable is not None:
        durable = _pooled(surveys, Key("durable"))
        flush = np.maximum(durable.elapsed - np.median(alone.elapsed), LEAST)
        commit = Cost(fixed=float(np.median(flush)), factors=spread(flush))
        latency = durable.elapsed + float(np.median(single.elapsed) - np.median(alone.elapsed))
    p50, p99 = np.quantile(latency, [0.5, 0.99])
    costs = BackendCosts(
        client_cpu=float(np.median(single.cpu)),
        client=Cost(fixed=batch, item=request),
        turn=turn,
        arrival=arrival,
        round_trip=hop,
        round_trip_factors=spread(waited),
        fixed=fixed,
        item=item,
        alone=single_served,
        operations=others,
        concurrency=max(1, round(max(target.speedup.values()))),
        speedup=target.speedup,
        commit=commit,
        unlogged=_unlogged(surveys, hop),
        locks=target.locks,
        latency_p50=float(p50),
        latency_p99=float(p99),
    )
    return _with_lone(costs, surveys)


def _with_lone(costs: BackendCosts, surveys: Sequence[Survey]) -> BackendCosts:
    """Add the split and the coldness, where lone requests could be taken apart."""
    if hot := _rows(surveys, Key("lone", 0.0), Lone):
        costs = msgspec.structs.replace(costs, split=fit_split(typical(hot)))
    spreads = [piece for one in surveys for gap in GAPS for piece in _rows([one], Key("spread", gap), Samples)]
    if spreads:
        client, server = fit_pace([piece.cpu for piece in spreads]), fit_pace([piece.elapsed for piece in spreads])
        costs = msgspec.structs.replace(costs, client_pace=client, server_pace=server)
    apart = lone_of(surveys)
    return msgspec.structs.replace(costs, cold=fit_cold(costs, apart)) if apart else costs


def lone_of(surveys: Sequence[Survey]) -> list[Lone]:
    """Return the medians of lone requests by gap."""
    return [typical(rows) for gap in (0.0, *GAPS) if (rows := _rows(surveys, Key("lone", gap), Lone))]


def replayed_of(surveys: Sequence[Survey], load: float) -> Replayed:
    """Return the medians of a Poisson load at a share of saturation."""
    return typical(_rows(surveys, Key("poisson", load), Replayed))


def fit_split(lone: Lone) -> tuple[float, float, float]:
    """Return the shares of the client's processor time before the question, until the caller has the answer, and behind."""
    whole = lone.ask + lone.answer + lone.after
    return lone.ask / whole, lone.answer / whole, lone.after / whole


def fit_pace(several: Sequence[NDArray[np.float64]]) -> tuple[float, ...]:
    """Return how much longer than in the mean lone requests took, at QUANTILES: the medians of the quantiles of each walk.

    Beyond the quantile 0.99 there are stalls, which do not slow what else is under way; they are cut off at CUT times it.
    """
    quantiles = np.median([np.quantile(each, QUANTILES) for each in several], axis=0)
    quantiles = np.minimum(quantiles, CUT * quantiles[QUANTILES.index(0.99)])
    return tuple(float(factor) for factor in quantiles / mean_of(quantiles.tolist()))


def fit_cold(costs: BackendCosts, lone: Sequence[Lone]) -> Coldness:
    """Return what lone requests took beyond `costs`, by the idle time before them.

    Parameters
    ----------
    costs : BackendCosts
        Costs, split and way of a busy client and server.
    lone : Sequence[Lone]
        Lone requests at several gaps.
    """
    busy = costs.cpu(1)
    ask, answer, after = (share * busy for share in costs.split)
    # An answer is read in one turn, and its caller goes on in the next; that of the question was before it began.
    hot = Lone(0.0, 0.0, ask, costs.round_trip + costs.seconds(1), answer + costs.turn, after)
    # What was seen are medians, and costs are means.
    client, server = (1.0 / pace[QUANTILES.index(0.5)] for pace in (costs.client_pace, costs.server_pace))
    means = [
        one._replace(ask=client * one.ask, answer=client * one.answer, after=client * one.after, served=server * one.served)
        for one in lone
    ]
    rows = [hot._replace(idle=0.0), *sorted(one for one in means if one.idle > 0.0)]
    least = min((one.wake for one in lone if one.wake > 0.0), default=0.0)
    ascending = [rows[0], *(later for earlier, later in pairwise(rows) if later.idle > earlier.idle)]
    extra = np.maximum(np.array(ascending) - np.array(hot), 0.0)
    # However short a sleep is, a timer ends it; of requests one after the other, none did.
    extra[:, Lone._fields.index("wake")] = np.maximum.accumulate([max(one.wake, least) for one in ascending])
    return Coldness(**{name: tuple(column) for name, column in zip(Lone._fields, extra.T.tolist(), strict=True)})


def typical(rows: Sequence[Row]) -> Row:
    """Return the medians, column by column."""
    return type(rows[0])(*np.median(np.array(rows), axis=0).tolist())


def fit_line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit the line seconds = fixed + size * item by the least relative squared error.

    Returns
    -------
    tuple[float, float]
        (fixed, item), in seconds, neither below LEAST.
    """
    return _shares(np.ones(len(sizes)), np.asarray(sizes, float), np.asarray(seconds, float))


def fit_client(at_once: Sequence[Load], paced: Sequence[Load], turn: float) -> tuple[float, float, float]:
    """Fit the client's processor time by the least relative squared error.

    Parameters
    ----------
    at_once : Sequence[Load]
        Loads that differ in operations per batch.
    paced : Sequence[Load]
        Loads whose requests come one by one, each by itself.
    turn : float
        Seconds of a turn of the event loop.

    Returns
    -------
    tuple[float, float, float]
        Seconds of a batch, of an operation, and of the arrival of a request; none below 0.
    """
    from scipy.optimize import nnls  # here, because it takes half a second, and not every load process fits

    loads = [*at_once, *paced]
    spent = np.array([load.cpu for load in loads])
    known = np.array([load.turns for load in loads]) * turn
    arrivals = np.array([0.0] * len(at_once) + [load.operations for load in paced])
    parts = np.column_stack([[load.batches for load in loads], [load.operations for load in loads], arrivals])
    shares, _ = nnls(parts / spent[:, None], np.maximum(1.0 - known / spent, 0.0))
    batch, operation, arrival = (float(share) for share in shares)
    return max(batch, LEAST), max(operation, LEAST), arrival


def spread(samples: ArrayLike) -> tuple[float, ...]:
    """Return the samples' quantiles at QUANTILES as multiples of their median."""
    values = np.asarray(samples, float)
    return tuple(float(factor) for factor in np.quantile(values, QUANTILES) / np.median(values))


def mean_of(factors: Sequence[float]) -> float:
    """Return the mean of a cost's factor: the area under the straight lines between its quantiles."""
    heights, widths = np.array([*factors, factors[-1]]), np.diff([*QUANTILES, 1.0])
    return float(widths @ (heights[:-1] + heights[1:]) / 2)


def _shares(first: NDArray[np.float64], second: NDArray[np.float64], seconds: NDArray[np.float64]) -> tuple[float, float]:
    # Relative errors: a large batch takes a hundred times as long as a small one and is no better known.
    rows = np.column_stack([first, second]) / seconds[:, None]
    a, b = np.linalg.lstsq(rows, np.ones(len(seconds)), rcond=None)[0]
    if a < LEAST:  # the best without a share for the first
        a, b = LEAST, float((rows[:, 1] @ np.ones(len(seconds))) / (rows[:, 1] @ rows[:, 1]))
    elif b < LEAST:
        a, b = float((rows[:, 0] @ np.ones(len(seconds))) / (rows[:, 0] @ rows[:, 0])), LEAST
    return max(float(a), LEAST), max(float(b), LEAST)


def _unlogged(surveys: Sequence[Survey], hop: float) -> float:
    """Return the service with tables in no log over that with a log, the mean of batches of one and of some."""
    ratios = [
        _service(_pooled(surveys, Key("unlogged", size)), hop) / _service(_pooled(surveys, Key("acquire", size)), hop)
        for size in UNLOGGED
        if any(Key("unlogged", size) in one for one in surveys)
    ]
    return math.prod(ratios) ** (1.0 / len(ratios)) if ratios else 1.0


def _service(samples: Samples, hop: float) -> float:
    if samples.busy is not None:
        return max(samples.busy, LEAST)
    return max(float(np.median(samples.wait)) - hop, LEAST)


def _pooled(surveys: Sequence[Survey], key: Key) -> Samples:
    """Pool the batches of all rounds, each scaled to the median of their medians; of the account the median counts."""
    found = [piece for one in surveys if isinstance(piece := one.get(key), Samples)]
    medians = np.array([np.median(piece.elapsed) for piece in found])
    scales = np.median(medians) / medians
    accounts = [piece.busy for piece in found if piece.busy is not None]
    return Samples(
        np.concatenate([scale * piece.elapsed for scale, piece in zip(scales, found, strict=True)]),
        np.concatenate([scale * piece.cpu for scale, piece in zip(scales, found, strict=True)]),
        float(np.median(accounts)) if accounts else None,
    )


def _rows(surveys: Sequence[Survey], key: Key, kind: type[Row]) -> list[Row]:
    return [piece for one in surveys if isinstance(piece := one.get(key), kind)]
