"""The segments of a request, live and simulated, so that a miss has a place.

In order: `late`, from the due time until a handler of the client begins (waking up; not in the latency); `wait`, until the
client's code begins with this request; `ask`, until the question is written; `served`, until the answer is read (the way
there and back, and the server); `answer`, until the caller has it. `total` is the latency: all but `late`.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.profile import BackendCosts
from traffic.live_replay import LiveResult

__all__ = ["SEGMENTS", "live_segments", "simulated_segments"]

SEGMENTS = ("late", "wait", "ask", "served", "answer", "total")
SINGLE = 1.5  # mean requests of a batch, below which a request is a batch of its own


def live_segments(result: LiveResult, written: NDArray[np.float64], read: NDArray[np.float64]) -> dict[str, float]:
    """Take the medians of the segments, in seconds; nan where nothing was stamped.

    Parameters
    ----------
    result : LiveResult
        The replay.
    written, read : NDArray[np.float64]
        When each batch was written, ascending, and its answer read, in seconds of the replay. A request belongs to the first
        batch that was written after it had started, unless that was read after it had ended.
    """
    medians = dict.fromkeys(SEGMENTS, float("nan"))
    medians["late"] = float(np.median(result.began - result.intended))
    medians["wait"] = float(np.median(result.started - result.began))
    medians["total"] = float(np.median(result.latency))
    place = np.searchsorted(written, result.started)
    inside = place < len(written)
    inside[inside] = read[place[inside]] <= result.finished[inside]
    if inside.any():
        asked, answered = written[place[inside]], read[place[inside]]
        medians["ask"] = float(np.median(asked - result.started[inside]))
        medians["served"] = float(np.median(answered - asked))
        medians["answer"] = float(np.median(result.finished[inside] - answered))
    return medians


def simulated_segments(costs: BackendCosts, gaps: NDArray[np.float64], total: float, batch: float) -> dict[str, float]:
    """Compute the medians of the segments from the parts of the model, for requests that travel alone.

    Where requests travel together (`batch`, the mean of a live batch, is SINGLE or more) the parts are shared, and only the
    total of the simulation is known. `wait` is what the parts do not explain of the total: the waiting in queues, wherever
    it is.

    Parameters
    ----------
    costs : BackendCosts
        The costs that were simulated.
    gaps : NDArray[np.float64]
        Seconds from one request to the next.
    total : float
        The median latency of the simulation.
    batch : float
        Mean requests of a batch.
    """
    medians = dict.fromkeys(SEGMENTS, float("nan"))
    medians["total"] = total
    if batch >= SINGLE:
        return medians
    client = costs.client.of(1) if costs.client else costs.client_cpu
    served = costs.round_trip + costs.seconds(1) + (costs.commit.fixed if costs.commit else 0.0)
    ask = answer = more = np.zeros(1)
    if cold := costs.cold:
        idle = np.maximum(gaps - client - served, 0.0).tolist()
        pauses = list(accumulate(idle, lambda before, pause: cold.pause(pause, before), initial=0.0))[1:]
        ask, answer, more = (np.interp(pauses, cold.idle, each) for each in (cold.ask, cold.answer, cold.served))
    medians["ask"] = costs.split[0] * client + float(np.median(ask))
    medians["served"] = served + float(np.median(more))
    medians["answer"] = costs.split[1] * client + float(np.median(answer))
    medians["wait"] = total - sum(medians[name] for name in ("ask", "served", "answer"))
    return medians
