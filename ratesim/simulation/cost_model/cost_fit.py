"""The costs of one served backend, measured through the production code, and split into parts.

The client's processor time, the way to the server, the server's service and its commit are each measured in a way that the
others do not enter:

- client: processor time of this process while requests queue for it, at several depths. The depth decides how many travel
  in a batch, so least squares over (batches, operations) give the share of each.
- way: a request without work (PING, an empty query), less processor time here and there.
- service: the server's own account of its processor time under the same loads, where it keeps one and nobody else is being
  served. Otherwise it is the wait of a batch less the way, with batches of several sizes instead of loads. PostgreSQL has a
  shorter way for a request alone, which has a cost of its own beside the line of batches.
- commit: the same decisions with and without waiting for the disk, in turns.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratesim.errors import require_all
from ratesim.limit import Limit
from ratesim.simulation.cost_model.profile import QUANTILES, BackendCosts, Cost
from ratesim.storage.base import Charge
from ratesim.storage.remote.operations import Acquire, Apply, Get, Operation, Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Poisson, Trace, Workload, Zipf, replay

__all__ = ["LIMIT", "Survey", "Target", "delete_keys", "fit", "fit_client", "fit_line", "mean_of", "raise_if_canceled"]
__all__ += ["measure", "spread", "survey", "warm_up"]

LIMIT = Limit(1e6, 60.0)
BATCHES = (1, 4, 16, 64)
KEYS = 1000
DEPTHS = (1, 4, 16, 64)  # requests in flight, as multiples of the pool
PACE = 250.0  # requests/s at which client and server sleep in between
LEAST = 1e-7  # seconds: no cost is taken for less


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
    account: Callable[[], Awaitable[float]] | None = None
    locks: bool = False
    speedup: dict[int, float] = field(default_factory=lambda: {1: 1.0})
    tags: tuple[str, ...] = ("",)


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


async def measure(target: Target, rounds: int = 5, effort: float = 1.0) -> BackendCosts:
    """Measure the costs of `target`.

    Other work on the machine only slows it. So of the rounds, spread over time, the one with the lowest median counts.

    Parameters
    ----------
    target : Target
        The server.
    rounds : int
        Number of rounds, each of about two seconds.
    effort : float
        Scales the length of a round.
    """
    await warm_up(target)
    return fit(target, [await survey(target, effort, turn) for turn in range(rounds)])


def fit(target: Target, each: Sequence[Survey]) -> BackendCosts:
    """Fit the costs to the surveys of a target, each to the quietest one."""
    ping = _best([one.ping for one in each])
    acquires = {size: _best([one.acquires[size] for one in each]) for size in BATCHES}
    # Reading and writing are the server's part of an empty request. On one machine the rest is nearly nothing, because the
    # kernel carries a packet in the sender's own processor time; a tenth of the wait is kept, to have a spread.
    waited = np.maximum(ping.wait, LEAST)
    middle = float(np.median(waited))
    hop = max(middle - (ping.busy or 0.0), 0.1 * middle)
    served = [_service(acquires[size], hop) for size in BATCHES]
    loads = min((one.loads for one in each), key=lambda load: float(load[:, 2].sum()))
    batch, request = fit_client(*loads[:, :3].T)
    single_served = None
    if target.locks:  # PostgreSQL has a function for a request alone, and batches begin with more work than it
        single_served = served[0]
        fixed, item = fit_line(BATCHES[1:], served[1:])
    else:
        fixed, item = fit_line(BATCHES, served) if ping.busy is None else fit_client(*loads[:, [0, 1, 3]].T)
    alone = acquires[1]
    factors = spread(np.maximum(alone.wait - hop, 0.1 * served[0]))
    if ping.busy is not None:  # an account knows the mean, so the factors around it have the mean 1
        factors = tuple(factor / mean_of(factors) for factor in factors)
    operations = {}
    for name in ("get", "apply"):
        at = [_service(_best([one.operations[name, size] for one in each]), hop) for size in (1, BATCHES[-1])]
        first, more = fit_line((1, BATCHES[-1]), at)
        operations[name] = Cost(fixed=first, item=more, factors=factors)
    commit = None
    single = _best([one.single for one in each])
    latency, spent = single.elapsed, float(np.median(single.cpu))
    parts = spent + hop + (fixed + item if single_served is None else single_served)
    if target.durable is not None:
        durable = _best([one.durable for one in each if one.durable is not None])
        flush = np.maximum(durable.elapsed - np.median(alone.elapsed), LEAST)
        commit = Cost(fixed=float(np.median(flush)), factors=spread(flush))
        latency = durable.elapsed + float(np.median(single.elapsed) - np.median(alone.elapsed))
        parts += commit.fixed
    p50, p99 = np.quantile(latency, [0.5, 0.99])
    return BackendCosts(
        client_cpu=spent,
        client=Cost(fixed=batch, item=request),
        round_trip=hop,
        round_trip_factors=spread(waited),
        fixed=fixed,
        item=item,
        factors=factors,
        alone=single_served,
        operations=operations,
        concurrency=max(1, round(max(target.speedup.values()))),
        speedup=target.speedup,
        commit=commit,
        locks=target.locks,
        latency_p50=float(p50),
        latency_p99=float(p99),
        residual=float(p50) - parts,
    )


def fit_line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit the line seconds = fixed + size * item by the least relative squared error.

    Returns
    -------
    tuple[float, float]
        (fixed, item), in seconds, neither below LEAST.
    """
    return _shares(np.ones(len(sizes)), np.asarray(sizes, float), np.asarray(seconds, float))


def fit_client(batches: ArrayLike, operations: ArrayLike, seconds: ArrayLike) -> tuple[float, float]:
    """Split the processor seconds of runs that differ in operations per batch into (of a batch, of an operation)."""
    return _shares(np.asarray(batches, float), np.asarray(operations, float), np.asarray(seconds, float))


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


def _service(samples: Samples, hop: float) -> float:
    if samples.busy is not None:
        return max(samples.busy, LEAST)
    return max(float(np.median(samples.wait)) - hop, LEAST)


def _best(rounds: Sequence[Samples]) -> Samples:
    return min(rounds, key=lambda one: float(np.median(one.elapsed)))


@dataclass
class Survey:
    """The measurements of one round."""

    ping: Samples
    acquires: dict[int, Samples]
    operations: dict[tuple[str, int], Samples]
    durable: Samples | None
    single: Samples
    loads: NDArray[np.float64]  # rows of (batches, operations, processor seconds here, and the server's), one for each depth
    paced: NDArray[np.float64]


async def survey(target: Target, effort: float = 1.0, turn: int = 0) -> Survey:
    """Take all measurements of one round, about two seconds; `effort` scales that. turn: the number of the round."""
    driver, tag = target.storage.client.driver, target.tags[turn % len(target.tags)]
    many = max(round(300 * effort), 20)
    acquires = {
        size: await _samples(target, _batches(driver.execute, "acquire", size, max(many // max(size // 4, 1), 10), tag))
        for size in BATCHES
    }
    operations = {
        (name, size): await _samples(target, _batches(driver.execute, name, size, max(many // size // 2, 10), tag))
        for name in ("get", "apply")
        for size in (1, BATCHES[-1])
    }
    durable = None
    if target.durable is not None:
        waiting = target.durable.client.driver
        durable = await _samples(target, _batches(waiting.execute, "acquire", 1, many, tag))
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda i=i: target.storage.acquire(_name(i, tag), LIMIT)  # type: ignore[misc]
        for i in range(many)
    ]
    single = await _samples(target, asks)
    pool = target.storage.client.config.pool_size
    loads = [await _load(target, pool * depth, max(round(1500 * effort), 4 * pool * depth), tag) for depth in DEPTHS]
    calm = Workload(Poisson(PACE), Zipf(KEYS), max(effort, 0.2) * 0.8).trace(np.random.default_rng(0))
    paced = await replay(calm, lambda i: target.storage.acquire(_name(i, tag), LIMIT))
    return Survey(
        await _samples(target, [target.ping] * many),
        acquires,
        operations,
        durable,
        single,
        np.array(loads),
        paced.latency,
    )


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


async def _load(target: Target, in_flight: int, requests: int, tag: str) -> tuple[int, int, float, float]:
    """Measure requests that are all due at once, `in_flight` of them at a time.

    Returns batches, operations, and processor seconds here and of the server (nan where it keeps no account).
    """
    storage, account = target.storage, target.account or _unknown
    client = storage.client
    trace = Trace(np.zeros(requests), np.zeros(requests, np.int64), ["everybody"])
    served = await account()
    batches, operations, used = client.batches, client.operations, time.process_time()
    result = await replay(trace, lambda i: storage.acquire(_name(i, tag), LIMIT), max_in_flight=in_flight)
    if result.errors:
        raise next(error for error in result.results if isinstance(error, Exception))
    spent = time.process_time() - used
    return client.batches - batches, client.operations - operations, spent, await account() - served


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


def _batches(
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
    for storage, tag in itertools.product((target.storage, target.durable), target.tags):
        if storage is not None:
            for name in ("acquire", "get", "apply"):
                for call in _batches(storage.client.driver.execute, name, 100, KEYS // 100, tag):
                    await call()
            await _load(Target(storage, target.ping), storage.client.config.pool_size, 200, tag)


async def delete_keys(storage: RemoteStorage, names: Iterable[str] = (), tags: Iterable[str] = ("",)) -> None:
    """Remove every key that the measurement wrote, and `names`."""
    written = (f"{tag}user:{i}" for tag in tags for i in range(KEYS))
    require_all(await storage.client.submit_all([Reset(name) for name in (*written, *names)]))
