"""The processor time that a node of a hybrid takes beside its store's client: to decide, to ask the store, and to tell it.

A memory stands in the store's place. It answers after a while, which is left out. The loop sleeps meanwhile, so what follows
the answer is as cold as it is with a server. Lone requests at a fixed gap tell what they cost after a pause.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Iterator, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from ratesim.limit import Decision, Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.simulation.cost_model.profile import Coldness, HybridCosts
from ratesim.state import RateLimitState
from ratesim.storage import Charge, HybridStorage, HybridStorageConfig, MemoryStorage
from traffic import Trace, replay
from traffic.timer import Timer

__all__ = ["measure_hybrids"]

DISTANCE = 3e-4  # seconds until the store answers: a lone request to a server nearby
# Seconds from one lone request to the next. Requests that ask the store one after the other have the first one; behind the
# last one nothing gets colder.
GAPS = (DISTANCE, 0.001, 0.002, 0.004, 0.008)
LIMIT = Limit(1e6, 3600.0)
KEYS = 300
WARM = 3  # requests for each key after which it has a view, or a lease for many requests
HOT = 2000  # requests one after the other
TURNS = 4
FIRST = 5  # lone requests that are not counted, since the gap before them is another
LONG = 1e5  # seconds: nothing that is measured here ends, is flushed or is read again by itself
DECIDE = {
    "eventual": HybridStorageConfig(sync_interval=LONG, l1_ttl=LONG),
    "session": HybridStorageConfig(consistency="session", sync_interval=LONG, l1_ttl=LONG),
    "lease": HybridStorageConfig(consistency="lease", lease_ttl=LONG),
    "strong": HybridStorageConfig(sync_interval=LONG, l1_ttl=LONG),  # it decides nothing there
}
ASK = {
    "eventual": HybridStorageConfig(sync_interval=LONG, read="read_through"),
    "session": HybridStorageConfig(consistency="session", sync_interval=LONG, read="read_through"),
    "lease": HybridStorageConfig(consistency="lease", lease_ttl=LONG),
    "strong": HybridStorageConfig(consistency="strong", write="write_through"),
}

SPENT: ContextVar[list[float]] = ContextVar("SPENT")  # tasks that a request starts have its list
T = TypeVar("T")


async def measure_hybrids(effort: float = 1.0, consistencies: Sequence[str] = tuple(DECIDE)) -> dict[str, HybridCosts]:
    """Measure the costs of hybrids by their consistency, all in about ten seconds; `effort` scales that."""
    tell = await _tell(max(round(20 * effort), 3))
    found = {}
    for consistency in consistencies:
        decide = _Node(DECIDE[consistency], fresh_keys=False)
        ask = _Node(ASK[consistency], fresh_keys=consistency == "lease")
        found[consistency] = hybrid_costs(*await _medians(decide, ask, effort), tell)
    return found


def hybrid_costs(decide: Sequence[float], ask: Sequence[float], tell: float) -> HybridCosts:
    """Make the costs of what was measured.

    Parameters
    ----------
    decide, ask
        Seconds of a decision in the node's memory, and of one that asks the store, without a pause and at GAPS.
    tell
        Seconds of a key in a flush.
    """
    more = [max(asked - decided, 0.0) for decided, asked in zip(decide, ask, strict=True)]
    nothing = (0.0,) * len(decide)
    idle = (0.0, *(max(gap - spent, 0.5 * gap) for gap, spent in zip(GAPS, decide[1:], strict=True)))
    cold = Coldness(idle=idle, wake=nothing, ask=_beyond(decide), answer=_beyond(more), after=nothing, served=nothing)
    return HybridCosts(decide=decide[0], ask=more[0], tell=tell, cold=cold)


def _beyond(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(each - seconds[0], 0.0) for each in seconds)


class _DistantStorage(MemoryStorage):
    """A store that answers after `distance` seconds; `SPENT` has the seconds until then, by request."""

    distance = 0.0

    async def acquire(self, *arguments: Any, **options: Any) -> Decision:
        return await self._timed(super().acquire(*arguments, **options))

    async def get_state(self, *arguments: Any, **options: Any) -> RateLimitState | None:
        return await self._timed(super().get_state(*arguments, **options))

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        return await self._timed(super().charge_many(charges))

    async def _timed(self, answer: Awaitable[T]) -> T:
        """Let the loop sleep, as it does while a server works, and return the answer."""
        begin = perf_counter()
        if self.distance:
            arrived = asyncio.get_running_loop().create_future()
            timer = Timer(lambda: arrived.set_result(None))
            timer.arm(begin + self.distance)
            try:
                await arrived
            finally:
                timer.close()
        found = await answer
        SPENT.get().append(perf_counter() - begin)
        return found


class _Node:
    """A hybrid that is asked again and again. fresh_keys: each time for a key that it does not know."""

    def __init__(self, config: HybridStorageConfig, fresh_keys: bool) -> None:
        runtime = AsyncioRuntime()
        self.store = _DistantStorage(runtime=runtime)
        self.hybrid = HybridStorage(self.store, config, runtime)
        keys = map(str, itertools.count()) if fresh_keys else itertools.cycle([f"user:{i}" for i in range(KEYS)])
        self._keys: Iterator[str] = keys
        self._tokens: dict[str, str] = {}

    async def ask(self) -> float:
        """Ask for one decision; returns its seconds without the store's own."""
        key = next(self._keys)
        spent: list[float] = []
        SPENT.set(spent)
        token, begin = self._tokens.get(key), perf_counter()
        decision = await self.hybrid.acquire(key, LIMIT, session=token)
        took = perf_counter() - begin - sum(spent)
        if decision.session:
            self._tokens[key] = decision.session
        return took


async def _medians(decide: _Node, ask: _Node, effort: float) -> tuple[list[float], list[float]]:
    """Return the seconds of a request without a pause, and at each of GAPS, the medians of each node.

    The two take turns, so that both meet the same machine.
    """
    both = (decide, ask)
    medians: tuple[list[float], list[float]] = ([], [])
    try:
        for node in both:
            await _asked(node, 0.0, WARM * KEYS)
        for gap in (0.0, *GAPS):
            ask.store.distance = DISTANCE if gap else 0.0
            many = math.ceil(effort * (min(max(0.25 / gap, 40), 200) if gap else HOT) / TURNS)
            spent: tuple[list[float], list[float]] = ([], [])
            for _ in range(TURNS):
                spent[0].extend(await _asked(decide, gap, many))
                spent[1].extend(await _asked(ask, 0.0 if gap == DISTANCE else gap, many))
            for own, found in zip(spent, medians, strict=True):
                found.append(float(np.median(own)))
    finally:
        for node in both:
            node.hybrid.kill()
    return medians


async def _asked(node: _Node, gap: float, many: int) -> list[float]:
    """Return the seconds of so many requests at a gap."""
    if not gap:
        return [await node.ask() for _ in range(many)]
    rows = FIRST + many
    result = await replay(Trace(gap * np.arange(rows), np.zeros(rows, np.int64), ["everybody"]), lambda _: node.ask())
    if result.errors:
        raise next(each for each in result.results if isinstance(each, Exception))
    return result.results[FIRST:]


async def _tell(rounds: int) -> float:
    """Return the seconds that a key takes in a flush, the median of some."""
    node, seconds = _Node(DECIDE["eventual"], fresh_keys=False), []
    try:
        for _ in range(rounds):
            for _ in range(KEYS):
                await node.ask()
            spent: list[float] = []
            SPENT.set(spent)
            begin = perf_counter()
            await node.hybrid.flush()
            seconds.append((perf_counter() - begin - sum(spent)) / KEYS)
    finally:
        node.hybrid.kill()
    return float(np.median(seconds))
