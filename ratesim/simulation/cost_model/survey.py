"""Measurements of one served backend through the production code: a round of pieces, each of which takes a part of a second.

A piece is a few hundred calls one after the other, a load that keeps the client busy, or lone requests at a fixed gap. What
follows from them is in `cost_fit.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.errors import require_all
from ratesim.limit import Limit
from ratesim.simulation.cost_model.lone_requests import FIRST, Lone, Walk, selector_or_none, take_walk
from ratesim.simulation.cost_model.stamps import stamped
from ratesim.storage.base import Charge
from ratesim.storage.remote.operations import Acquire, Apply, Get, Operation, Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Poisson, Trace, Workload, Zipf, replay
from traffic.live_replay import LiveResult

__all__ = ["BATCHES", "DEPTHS", "GAPS", "KEYS", "LIMIT", "LOADS", "PACED", "Key", "Load", "Piece", "Replayed"]
__all__ += [
    "Samples",
    "Survey",
    "Target",
    "delete_keys",
    "pieces",
    "poisson_trace",
    "raise_if_canceled",
    "saturation",
    "survey",
    "warm_up",
]

LIMIT = Limit(1e6, 60.0)
BATCHES = (1, 4, 16, 64)
KEYS = 1000
DEPTHS = (1, 4, 16, 64)  # requests in flight, as multiples of the pool
GAPS = (0.0004, 0.001, 0.002, 0.004, 0.008)  # seconds from one lone request to the next; beyond, nothing gets colder
PACED = (0.15, 0.25, 0.4, 0.6)  # of saturation, of the Poisson loads whose processor time is fitted
LOADS = (0.1, 0.4)  # of saturation, of the Poisson loads that no fit sees
UNLOGGED = (1, 16)  # batches at which tables in no log are held against others
SECONDS = 0.7  # that such a load lasts
MOST_IN_FLIGHT = 10_000


@dataclass
class Target:
    """A server to be measured.

    Attributes
    ----------
    storage : RemoteStorage
        The server without waiting for the disk, if it can do so.
    ping : Callable
        Sends a request without work.
    durable : RemoteStorage or None
        The same server with waiting for the disk.
    unlogged : RemoteStorage or None
        The same server with tables that are in no log.
    account : Callable or None
        Returns the processor seconds that the server has spent so far. None where it keeps no account, or others are being
        served too.
    locks : bool
        Whether it holds rows until a commit.
    speedup : dict[int, float]
        Throughput of so many connections over that of one.
    tags : tuple[str, ...]
        Beginnings of identifiers, one for each primary of a cluster, whose keys lie on that primary. A round measures one
        primary, so that its costs are those of a server that is alone.
    """

    storage: RemoteStorage
    ping: Callable[[], Awaitable[object]]
    durable: RemoteStorage | None = None
    unlogged: RemoteStorage | None = None
    account: Callable[[], Awaitable[float]] | None = None
    locks: bool = False
    speedup: dict[int, float] = field(default_factory=lambda: {1: 1.0})
    tags: tuple[str, ...] = ("",)

    @property
    def answering(self) -> RemoteStorage:
        """The server as its users ask it: it answers when the disk has what it says, where it can do so."""
        return self.durable or self.storage


class Key(NamedTuple):
    """Names a piece: its kind, and its batch, depth, gap or load."""

    kind: str
    size: float = 1


@dataclass
class Samples:
    """Measured batches.

    Attributes
    ----------
    elapsed : NDArray[np.float64]
        Seconds of each batch.
    cpu : NDArray[np.float64]
        The part that is processor time of this process, in seconds.
    busy : float or None
        The server's processor seconds per batch.
    """

    elapsed: NDArray[np.float64]
    cpu: NDArray[np.float64]
    busy: float | None

    @property
    def wait(self) -> NDArray[np.float64]:
        """Seconds of each batch that are not this process's processor time."""
        return self.elapsed - self.cpu


class Load(NamedTuple):
    """Requests that are due at once, or paced, and the seconds that they took together; `served` is nan without an account.

    `turns` are those of the event loop; 0 where nobody counts them.
    """

    batches: float
    operations: float
    cpu: float
    served: float
    elapsed: float
    turns: float

    def by_operation(self) -> Load:
        """Return the same for one operation."""
        return Load(*(value / self.operations for value in self))


class Replayed(NamedTuple):
    """Quantiles of the latency of a Poisson load, and its requests/s."""

    p50: float
    p95: float
    p99: float
    throughput: float


Piece = Samples | Load | Lone | Replayed
Survey = dict[Key, Piece]


async def survey(target: Target, effort: float = 1.0, turn: int = 0) -> Survey:
    """Take all measurements of one round, about four seconds; `effort` scales that. turn: the number of the round."""
    return {key: piece async for key, piece in pieces(target, effort, 0.0, turn)}


async def pieces(
    target: Target, effort: float, rate: float, turn: int, without: Collection[Key] = ()
) -> AsyncIterator[tuple[Key, Piece]]:
    """Take the measurements of a round, and yield each as soon as it is there.

    Parameters
    ----------
    target : Target
        The server.
    effort : float
        Scales the length of the pieces.
    rate : float
        Requests/s at saturation, of which the Poisson loads are shares; without it there are none.
    turn : int
        The number of the round.
    without : Collection[Key]
        Pieces that are left out.
    """
    for key, measure in _plan(target, effort, target.tags[turn % len(target.tags)], rate):
        if key not in without and (piece := await measure()) is not None:
            yield key, piece


def _plan(
    target: Target, effort: float, tag: str, rate: float
) -> Iterator[tuple[Key, Callable[[], Awaitable[Piece | None]]]]:
    storage, many = target.storage, max(round(300 * effort), 20)
    yield Key("ping"), partial(_samples, target, [target.ping] * many)
    for size in BATCHES:
        yield Key("acquire", size), partial(_batches, target, storage, "acquire", size, many, tag)
    for name, size in itertools.product(("get", "apply"), (1, BATCHES[-1])):
        yield Key(name, size), partial(_batches, target, storage, name, size, many // 2, tag)
    if target.durable is not None:
        yield Key("durable"), partial(_batches, target, target.durable, "acquire", 1, many, tag)
    if target.unlogged is not None:
        for size in UNLOGGED:
            yield Key("unlogged", size), partial(_batches, target, target.unlogged, "acquire", size, many, tag)
    yield Key("turn"), partial(_turns, many)
    pool, found = storage.client.config.pool_size, Found()
    for depth in DEPTHS:
        at_once = _at_once(max(round(1500 * effort), 4 * pool * depth))
        yield Key("load", depth), partial(_load, target, at_once, tag, pool * depth, found)
    for share in PACED:
        yield Key("paced", share), partial(_paced, target, share, effort, tag, found)
    yield Key("single"), partial(_samples, target, [partial(storage.acquire, _name(i, tag), LIMIT) for i in range(many)])
    for gap in (0.0, *GAPS):
        yield Key("lone", gap), partial(_lone, storage, gap, effort, tag, found)
        yield Key("spread", gap), partial(_spread, found)
    for share in LOADS if rate else ():
        yield Key("poisson", share), partial(_replayed, target.answering, poisson_trace(share * rate, effort))


async def _samples(target: Target, calls: Sequence[Callable[[], Awaitable[object]]]) -> Samples:
    """Time one call after the other."""
    elapsed, cpu = [], []
    before = await target.account() if target.account else 0.0
    for call in calls:
        raise_if_canceled()
        start, used = time.perf_counter(), time.process_time()
        await call()
        elapsed.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    busy = (await target.account() - before) / len(calls) if target.account else None
    return Samples(np.array(elapsed), np.array(cpu), busy)


async def _turns(many: int) -> Samples:
    """Measure turns of the event loop in which nothing happens but that the next one is asked for."""
    cpu = []
    for _ in range(many // 10):
        used = time.process_time()
        for _ in range(10):
            await asyncio.sleep(0)
        cpu.append((time.process_time() - used) / 10)
    return Samples(np.array(cpu), np.array(cpu), None)


async def _batches(target: Target, asked: RemoteStorage, name: str, size: int, many: int, tag: str) -> Samples:
    """Time batches of one operation, over the keys in turn: as many of a few, and fewer of more."""
    return await _samples(target, _calls(asked.client.driver.execute, name, size, max(many // max(size // 4, 1), 10), tag))


@dataclass
class Found:
    """What pieces of a round tell those behind them.

    Attributes
    ----------
    rate : float
        Requests/s at the greatest depth so far.
    spread : Samples or None
        See `_spread`.
    """

    rate: float = 0.0
    spread: Samples | None = None


def _at_once(requests: int) -> Trace:
    return Trace(np.zeros(requests), np.zeros(requests, np.int64), ["everybody"])


async def _load(target: Target, trace: Trace, tag: str, in_flight: int, found: Found | None = None) -> Load:
    """Measure requests of which `in_flight` may be under way at a time."""
    storage, account = target.storage, target.account or _unknown
    client = storage.client
    served, selector = await account(), selector_or_none()
    turns = 0 if selector is None else selector.turns
    batches, operations, used = client.batches, client.operations, time.process_time()
    result = await replay(trace, lambda i: storage.acquire(_name(i, tag), LIMIT), max_in_flight=in_flight)
    _raise_first(result)
    spent, took = time.process_time() - used, float(result.finished.max())
    turns = 0 if selector is None else selector.turns - turns
    if found is not None:
        found.rate = len(trace) / took
    return Load(client.batches - batches, client.operations - operations, spent, await account() - served, took, turns)


async def _paced(target: Target, share: float, effort: float, tag: str, found: Found) -> Load | None:
    """Measure requests that come at a share of the rate that was found; None where the piece that finds it was left out."""
    if not found.rate:
        return None
    trace = Workload(Poisson(share * found.rate), Zipf(KEYS), max(effort, 0.2) * SECONDS / 2).trace(np.random.default_rng(8))
    return await _load(target, trace, tag, MOST_IN_FLIGHT)


async def _lone(storage: RemoteStorage, gap: float, effort: float, tag: str, found: Found) -> Lone | None:
    """Measure lone requests, at a gap or one after the other; None where one was repeated, or where there is no wire."""
    requests = FIRST + round(effort * (300 if gap == 0.0 else min(max(0.5 / gap, 60), 300)))
    asks = [partial(storage.acquire, _name(i, tag), LIMIT) for i in range(requests)]
    with stamped(storage) as stamps:
        walk = await take_walk(asks, gap)
    written, read = stamps.written, stamps.read
    found.spread = None
    if len(read) != requests or np.isnan(read).any():
        return None
    found.spread = _paces(walk, written, read)
    return walk.lone(written, read)


def _paces(walk: Walk, written: NDArray[np.float64], read: NDArray[np.float64]) -> Samples | None:
    """Return what requests took at the server, and of the client, each as multiples of the median.

    Those that overlapped, on a busy machine, have each other's stamps, and may have taken less than nothing: they are out.
    """
    client, served = (written - walk.begun + walk.ended - read)[FIRST:], (read - written)[FIRST:]
    rows = (written >= walk.begun)[FIRST:] & (read <= walk.ended)[FIRST:]
    if not rows.any():
        return None
    client, served = client[rows], served[rows]
    return Samples(served / np.median(served), client / np.median(client), None)


async def _spread(found: Found) -> Samples | None:
    """Return what the lone requests before took at the server, and of the client, each as multiples of the median."""
    return found.spread


async def saturation(target: Target) -> float:
    """Measure the requests/s that the server answers its users where as many as they can are under way."""
    storage = target.answering
    many = DEPTHS[-1] * storage.client.config.pool_size
    loads = [await _load(Target(storage, target.ping), _at_once(4 * many), "", many) for _ in range(3)]
    return float(np.median([load.operations / load.elapsed for load in loads]))


def poisson_trace(rate: float, effort: float = 1.0) -> Trace:
    """Make the requests of a Poisson load, the same ones each time."""
    return Workload(Poisson(rate), Zipf(KEYS), max(effort, 0.2) * SECONDS, start=1.7e9).trace(np.random.default_rng(7))


async def _replayed(storage: RemoteStorage, trace: Trace) -> Replayed:
    names = [f"user:{key}" for key in trace.key.tolist()]
    result = await replay(trace, lambda i: storage.acquire(names[i], LIMIT))
    _raise_first(result)
    p50, p95, p99 = (float(value) for value in np.quantile(result.latency, (0.5, 0.95, 0.99)))
    return Replayed(p50, p95, p99, len(trace) / float(result.finished.max()))


def _raise_first(result: LiveResult) -> None:
    if result.errors:
        raise next(error for error in result.results if isinstance(error, Exception))


def raise_if_canceled() -> None:
    """Raise the CancelledError that may have been lost, so that Ctrl-C is not ignored.

    Before Python 3.12, asyncio.wait_for returns instead of raising when the awaited task ends in the same moment
    (python/cpython#86296), and redis-py sends through it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _unknown() -> float:
    return float("nan")


_epochs = itertools.count(time.time_ns())


def _calls(
    execute: Callable[[Sequence[Operation]], Awaitable[object]], name: str, size: int, times: int, tag: str
) -> list[Callable[[], Awaitable[object]]]:
    """Make calls that send a batch of one operation each, over the keys in turn."""
    return [lambda k=k: execute([_operation(name, k * size + j, tag) for j in range(size)]) for k in range(times)]  # type: ignore[misc]


def _operation(name: str, i: int, tag: str) -> Operation:
    if name == "get":
        return Get(_name(i, tag), "", time.time())
    if name == "apply":
        # Every charge is the first of an epoch of its own, so that each is new to the server and none a repetition.
        return Apply(Charge(_name(i, tag), LIMIT, "calibrate", next(_epochs), 0.0, ((time.time(), 1.0, 1),)))
    return Acquire(_name(i, tag), (LIMIT,), 1.0, time.time(), True)


# Keys are asked for as a service's are, a few often: batches repeat some, and rows that change often are slower to change.
_RANKS = Zipf(KEYS).draw(1 << 14, np.random.default_rng(0)).tolist()


def _name(i: int, tag: str) -> str:
    return f"{tag}user:{_RANKS[i % len(_RANKS)]}"


async def warm_up(target: Target) -> None:
    """Connect, load the server's scripts or functions, and give every key a state."""
    for storage, tag in itertools.product((target.storage, target.durable, target.unlogged), target.tags):
        if storage is not None:
            for name in ("acquire", "get", "apply"):
                for call in _calls(storage.client.driver.execute, name, 100, KEYS // 100, tag):
                    await call()
            await _load(Target(storage, target.ping), _at_once(200), tag, storage.client.config.pool_size)


async def delete_keys(storage: RemoteStorage, names: Iterable[str] = (), tags: Iterable[str] = ("",)) -> None:
    """Remove every key that the measurement wrote, and `names`."""
    written = (f"{tag}user:{i}" for tag in {"", *tags} for i in range(KEYS))
    require_all(await storage.client.submit_all([Reset(name) for name in (*written, *names)]))
