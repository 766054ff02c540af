"""An adaptive limit before a backend that saturates: how far the limit falls, oscillates and recovers.

Requests come in an open loop. Admitted requests queue at one server. An answer within `patience` scores 1, a slower one 0,
and the score is observed when the answer comes. The storage is a real MemoryStorage on simulated time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import simpy

from ratesim.algorithms import bind
from ratesim.limit import InvalidLimitError, Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.storage.memory.storage import MemoryStorage
from traffic import Poisson, Trace
from traffic.clients import open_loop

__all__ = ["saturate"]

WHO = "everybody"  # one limit protects the backend from all of its callers


def saturate(
    limit: Limit,
    offered: float,
    capacity: Sequence[tuple[float, float]],
    duration: float,
    rng: np.random.Generator,
    patience: float = 0.5,
) -> pd.DataFrame:
    """Simulate an adaptive limit before a backend.

    Parameters
    ----------
    limit : Limit
        An adaptive limit.
    offered : float
        Poisson arrivals in requests/s.
    capacity : Sequence[tuple[float, float]]
        (from when in seconds, requests/s) of the backend, in order, the first from 0 on. Service times are exponential.
    duration : float
        Seconds.
    rng : numpy.random.Generator
        The source of all draws.
    patience : float
        Seconds.

    Returns
    -------
    pandas.DataFrame
        One row for each window of `limit.period`: time (seconds, the end of the window), limit and capacity (requests per
        period), admitted (requests in the window), score (the mean that the limit follows) and slow (share of the answers in
        it that came too late).

    Raises
    ------
    InvalidLimitError
        For a limit that is not adaptive.
    ValueError
        For times out of order.
    """
    if bind(limit).algorithm.feedback is None:
        raise InvalidLimitError(f"{limit.algorithm}: does not learn from scores; adaptive does")
    begins = [begin for begin, _ in capacity]
    if not begins or begins[0] != 0 or begins != sorted(begins):
        raise ValueError("capacity: pairs of (from when, requests/s), the first from 0 on, in order of time")
    rates = np.array([rate for _, rate in capacity])

    env = simpy.Environment()
    runtime = SimRuntime(env)
    storage = MemoryStorage(runtime=runtime)
    station = FifoStation()
    times = Poisson(offered).times(duration, rng)
    work = rng.exponential(1.0, len(times))  # in units of the mean service
    trace = Trace(times, np.zeros(len(times), np.int64), (WHO,))
    admitted = answers = slow = 0

    def able(now: float) -> float:
        return float(rates[np.searchsorted(begins, now, side="right") - 1])

    async def send(row: int) -> None:
        nonlocal admitted, answers, slow
        if not (await storage.acquire(WHO, limit)).allowed:
            return
        admitted += 1
        came = env.now
        await runtime.sleep(station.serve(came, work[row] / able(came)) - came)
        late = env.now - came > patience
        answers += 1
        slow += late
        await storage.observe(WHO, limit, 0.0 if late else 1.0)

    rows = []

    async def watch() -> None:
        nonlocal admitted, answers, slow
        for window in range(1, int(duration / limit.period) + 1):
            end = window * limit.period
            await runtime.sleep(end - env.now)
            state = await storage.get_state(WHO)
            fields = (
                {"current_limit": limit.rate, "performance_score": 1.0} if state is None else state.algorithm_data.fields
            )
            rows.append(
                {
                    "time": end,
                    "limit": fields["current_limit"],
                    "capacity": able(end - limit.period) * limit.period,
                    "admitted": admitted,
                    "score": fields["performance_score"],
                    "slow": slow / answers if answers else 0.0,
                }
            )
            admitted = answers = slow = 0

    async def load() -> None:
        await runtime.sleep(float(trace.time[0]) if len(trace) else 0.0)
        await open_loop(trace, send, runtime)

    runtime.spawn(watch())
    runtime.spawn(load())
    env.run(until=duration + limit.period / 2)
    return pd.DataFrame(rows)
