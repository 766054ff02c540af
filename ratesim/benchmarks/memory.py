"""The benchmark of MemoryStorage: decisions beside competitors, threads, bytes per key, many keys, evictions."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count, islice
from math import inf
from operator import truediv
from statistics import median
from typing import get_args

import numpy as np

from ratesim.algorithms import names
from ratesim.benchmarks.competitors import Ask, Competitor, competitors, is_installed
from ratesim.limit import Limit
from ratesim.storage import MemoryStorage, MemoryStorageConfig, Request
from ratesim.storage.config import Fsync
from traffic import Zipf

__all__ = ["section"]

DECISIONS, KEYS = 200_000, 10_000
MANY, FEW = 1_000_000, 1_000
ROUNDS = 5
THREADS = 4
PERSISTED_KEYS, PERSISTED_TASKS, PERSISTED_SECONDS = 100_000, (1, 64), 0.8

Work = Callable[[], object]


def section() -> list[str]:
    """Return the lines of the report."""
    return [*_rates(), "", *_threads(), "", *asyncio.run(_persistence()), "", *_bytes(), "", *_many_keys()]


def _bests(works: Mapping[str, Work]) -> dict[str, float]:
    """Measure the seconds of each work, the best of rounds in which they take turns, because noise only slows."""
    best = dict.fromkeys(works, inf)
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def _acquire_all(storage: MemoryStorage, limit: Limit, users: Sequence[str]) -> None:
    async def ask() -> None:
        acquire = storage.acquire
        for user in users:
            await acquire(user, limit)

    asyncio.run(ask())


def _ask_all(ask: Ask, users: Iterable[str]) -> None:
    for user in users:
        ask(user)


def _decide_all(storage: MemoryStorage, limit: Limit, users: Sequence[str]) -> None:
    decide = storage.acquire_nowait
    for user in users:
        decide(user, limit)


def _rates() -> list[str]:
    """Measure decisions with and without `await` beside the competitors, all in turn, each with the clock that it reads."""
    rng = np.random.default_rng(1)
    users = [f"user:{key}" for key in Zipf(KEYS, 1.0).draw(DECISIONS, rng).tolist()]
    others = competitors(KEYS) if is_installed() else {}
    lines = [
        f"MemoryStorage, {DECISIONS:,} decisions over {KEYS:,} zipf keys, 100/minute; ns of a processor per decision,",
        f"and how many times as long the fastest peer of a round takes: min, median and max of {ROUNDS} rounds in turn",
    ]
    for algorithm in names():
        limit = Limit(100, 60.0, algorithm)
        works: dict[str, Work] = {
            "acquire_nowait": partial(_decide_all, MemoryStorage(), limit, users),
            "await acquire": partial(_acquire_all, MemoryStorage(), limit, users),
        }
        for competitor in others.get(algorithm, ()):
            works[competitor.name] = partial(_ask_all, competitor.make(), users)
        took = _rounds(works)
        peers = [took[name] for name in list(works)[2:]]
        fastest = [min(each) for each in zip(*peers, strict=True)]
        cells = []
        for name in list(works)[:2]:
            cell = f"{name} {median(took[name]):>6,.0f}"
            if fastest:
                ratios = sorted(map(truediv, fastest, took[name]))
                cell += f"  x {ratios[0]:.1f} {median(ratios):.1f} {ratios[-1]:.1f}"
            cells.append(cell)
        cells += [f"{name} {median(took[name]):,.0f}" for name in list(works)[2:]]
        lines.append(f"  {algorithm:<15} {'   '.join(cells)}")
    if not others:
        lines.append('  peers: not installed; pip install "ratesim[bench]"')
    return lines


def _rounds(works: Mapping[str, Work]) -> dict[str, list[float]]:
    """Measure the processor's nanoseconds per decision of each work, in rounds in which they take turns."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            gc.collect()
            start = time.process_time()
            work()
            if number:  # the first round fills the stores
                took[name].append((time.process_time() - start) / DECISIONS * 1e9)
    return took


def _threads() -> list[str]:
    rng = np.random.default_rng(1)
    users = [f"user:{key}" for key in Zipf(KEYS, 1.0).draw(DECISIONS, rng).tolist()]
    limit = Limit(100, 60.0, "token_bucket")
    alone = MemoryStorageConfig(thread_safe=False)

    def in_threads() -> None:
        storage, part = MemoryStorage(), len(users) // THREADS
        parts = [users[number * part : (number + 1) * part] for number in range(THREADS)]
        threads = [threading.Thread(target=_acquire_all, args=(storage, limit, some)) for some in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    best = _bests(
        {
            "lock": lambda: _acquire_all(MemoryStorage(), limit, users),
            "no lock": lambda: _acquire_all(MemoryStorage(alone), limit, users),
            "threads": in_threads,
        }
    )
    return [
        "MemoryStorage, token_bucket: what safety for threads costs",
        f"  {'one thread':<34} {DECISIONS / best['lock']:>12,.0f} decisions/s",
        f"  {'one thread, thread_safe=False':<34} {DECISIONS / best['no lock']:>12,.0f}   "
        f"the lock is {1 - best['no lock'] / best['lock']:.0%} of a decision",
        f"  {f'{THREADS} threads, one storage':<34} {DECISIONS / best['threads']:>12,.0f}   "
        f"{best['lock'] / best['threads']:.2f} of one thread",
    ]


async def _persistence() -> list[str]:
    """Measure what `persist_to_disk` costs: memory without it and each fsync policy take turns."""
    rng = np.random.default_rng(1)
    users = [f"user:{key}" for key in Zipf(PERSISTED_KEYS, 1.0).draw(DECISIONS, rng).tolist()]
    limit = Limit(1e7, 1e9, "token_bucket")  # admits every request, so every decision is a write
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            storages = {"": await stack.enter_async_context(MemoryStorage())}
            for fsync in get_args(Fsync):
                config = MemoryStorageConfig(persist_to_disk=f"{directory}/{fsync}", fsync=fsync)
                storages[fsync] = await stack.enter_async_context(MemoryStorage(config))
            for storage in storages.values():
                for start in range(0, PERSISTED_KEYS, 1000):
                    await storage.acquire_many([Request(f"user:{key}", limit) for key in range(start, start + 1000)])
            for _ in range(ROUNDS):
                for tasks in PERSISTED_TASKS:
                    for name, storage in storages.items():
                        rates.setdefault((name, tasks), []).append(await _rate(storage, limit, users, tasks))
        size = os.stat(f"{directory}/never/entries.db").st_size / PERSISTED_KEYS
    lines = [
        f"MemoryStorage with persist_to_disk, token_bucket, {PERSISTED_KEYS:,} zipf keys; "
        f"decisions/s, medians of {ROUNDS} rounds"
    ]
    for name in storages:
        cells = [
            f"{median(rates[name, tasks]):>9,.0f} with {tasks:>2} task{'s' if tasks > 1 else ' '}"
            f" ({median(map(truediv, rates[name, tasks], rates['', tasks])):.3f})"
            for tasks in PERSISTED_TASKS
        ]
        lines.append(f"  {f'fsync={name}' if name else 'in memory only':<16} {'   '.join(cells)}")
    return [*lines, f"  {size:,.0f} bytes per key on disk"]


async def _rate(storage: MemoryStorage, limit: Limit, users: Sequence[str], tasks: int) -> float:
    """Measure decisions per second of so many tasks, each of which waits for its answer."""
    decided = 0
    start = time.perf_counter()
    end = start + PERSISTED_SECONDS

    async def ask(at: int) -> None:
        nonlocal decided
        while time.perf_counter() < end:
            await storage.acquire(users[at % len(users)], limit)
            decided += 1
            at += 1
            if tasks > 1 or decided % 10 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(ask(task * 997) for task in range(tasks)))
    return decided / (time.perf_counter() - start)


def _bytes() -> list[str]:
    lines = ["bytes per key, asked once, without the names (tracemalloc)"]
    for keys, algorithms in ((MANY, ("token_bucket",)), (MANY // 10, names())):
        users = [f"user:{key}" for key in range(keys)]
        others = competitors(keys) if is_installed() else {}
        lines.append(f"  {keys:,} keys")
        for algorithm in algorithms:
            limit = Limit(100, 60.0, algorithm)

            def make(limit: Limit = limit, keys: int = keys) -> Ask:
                decide = MemoryStorage(MemoryStorageConfig(max_entries=keys)).acquire_nowait
                clock = count()
                return lambda user: decide(user, limit, 1.0, 1.7e9 + next(clock) * 1e-4)

            sizes = {each.name: _size(each.make, users) for each in (Competitor("", make), *others.get(algorithm, ()))}
            ours = sizes.pop("")
            beside = ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items())
            lines.append(f"    {algorithm:<16} {ours:>8,.0f}   {beside}".rstrip())
    return lines


def _size(make: Callable[[], Ask], users: Sequence[str]) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ask = make()
    _ask_all(ask, users)
    gc.collect()
    size = (tracemalloc.get_traced_memory()[0] - before) / len(users)
    tracemalloc.stop()
    return size


def _many_keys() -> list[str]:
    """Measure the same decisions with a thousand keys held, and a million; and insertions that evict."""
    limit = Limit(100, 60.0, "token_bucket")
    users = {keys: [f"user:{key}" for key in range(keys)] for keys in (FEW, MANY)}
    storages = {keys: MemoryStorage(MemoryStorageConfig(max_entries=keys)) for keys in users}
    asking: dict[str, dict[int, Callable[[Sequence[str]], object]]] = {
        "ratesim": {keys: partial(_acquire_all, storage, limit) for keys, storage in storages.items()}
    }
    if is_installed():
        made = {
            keys: {competitor.name: competitor.make() for competitor in competitors(keys)["token_bucket"]} for keys in users
        }
        for name in made[FEW]:
            asking[name] = {keys: partial(_ask_all, made[keys][name]) for keys in users}
    for ask in asking.values():
        for keys in users:
            ask[keys](users[keys])
    rng = np.random.default_rng(1)
    lines = [f"token_bucket, ns per decision with {FEW:,} and with {MANY:,} keys held"]
    for law in ("zipf", "uniform"):
        drawn = {}
        for keys in users:
            places = Zipf(keys, 1.0).draw(DECISIONS, rng) if law == "zipf" else rng.integers(0, keys, DECISIONS)
            drawn[keys] = [users[keys][place] for place in places.tolist()]
        for name, ask in asking.items():
            best = _bests({str(keys): partial(ask[keys], drawn[keys]) for keys in users})
            few, many = (took / DECISIONS * 1e9 for took in best.values())
            lines.append(f"  {law:<8} {name:<16} {few:>8,.0f} {many:>8,.0f}   {many / few:.2f} times")
    new = _never_seen()
    for keys, storage in storages.items():
        best = _bests(
            {
                "hits": lambda storage=storage: _acquire_all(storage, limit, _last(storage)),  # type: ignore[misc]
                "evictions": lambda storage=storage: _acquire_all(storage, limit, next(new)),  # type: ignore[misc]
            }
        )
        rate, share = DECISIONS / best["evictions"], best["hits"] / best["evictions"]
        lines.append(f"  full store of {keys:>9,}: {rate:,.0f} evictions/s, {share:.2f} of the rate of hits")
    return lines


def _never_seen() -> Iterator[list[str]]:
    for turn in count():
        yield [f"new:{turn}:{number}" for number in range(DECISIONS)]


def _last(storage: MemoryStorage) -> list[str]:
    """Return the users that are held, as many as there are decisions."""
    held = [str(key) for key in islice(reversed(storage.entries), DECISIONS)]
    return (held * (DECISIONS // len(held) + 1))[:DECISIONS]
