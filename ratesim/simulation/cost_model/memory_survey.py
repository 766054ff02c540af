"""Measurements of decisions in a process's memory, back to back and after a pause, and the costs that follow from them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial

import msgspec
import numpy as np

from ratesim.simulation.cost_model.cost_fit import fit_cold, lone_of
from ratesim.simulation.cost_model.lone_requests import take_walk
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.simulation.cost_model.survey import GAPS, LIMIT, Key, Piece, Samples, Survey
from ratesim.storage import MemoryStorage

__all__ = ["fit_memory", "memory_pieces"]

DECISIONS, KEYS = 20_000, 2000


async def memory_pieces(effort: float = 1.0, without: Collection[Key] = ()) -> AsyncIterator[tuple[Key, Piece]]:
    """Take the measurements of a round, and yield each as soon as it is there.

    Parameters
    ----------
    effort : float
        Scales the length of the pieces.
    without : Collection[Key]
        Pieces that are left out.
    """
    storage = MemoryStorage()
    names = [f"user:{i % KEYS}" for i in range(max(round(DECISIONS * effort), KEYS))]

    async def back_to_back() -> Samples:
        spent = []
        for name in names:
            start = time.perf_counter()
            await storage.acquire(name, LIMIT, 1.0, 1.7e9)
            spent.append(time.perf_counter() - start)
        return Samples(np.array(spent), np.array(spent), None)

    await back_to_back()  # gives every key a state
    if Key("acquire") not in without:
        yield Key("acquire"), await back_to_back()
    for gap in GAPS:
        if Key("lone", gap) not in without:
            many = max(round(effort * min(max(0.5 / gap, 60), 300)), 20)
            walk = await take_walk([partial(storage.acquire, name, LIMIT, 1.0, 1.7e9) for name in names[:many]], gap)
            yield Key("lone", gap), walk.lone(walk.ended, walk.ended)  # there is no question: all of it is asking


def fit_memory(surveys: Sequence[Survey]) -> BackendCosts:
    """Fit the costs to rounds of `memory_pieces`, without the bytes of a key."""
    found = [one.elapsed for survey in surveys if isinstance(one := survey.get(Key("acquire")), Samples)]
    p50, p99 = (float(value) for value in np.quantile(np.concatenate(found), (0.5, 0.99)))
    costs = BackendCosts(client_cpu=p50, split=(1.0, 0.0, 0.0), latency_p50=p50, latency_p99=p99)
    return msgspec.structs.replace(costs, cold=fit_cold(costs, lone_of(surveys)))
