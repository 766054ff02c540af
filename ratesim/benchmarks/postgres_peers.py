"""Another limiter of Python over PostgreSQL, asked from asyncio; the extra `bench` installs it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

__all__ = ["Ask", "open_pyrate"]

Ask = Callable[[str], Awaitable[object]]
THREADS = 64


@asynccontextmanager
async def open_pyrate(url: str, rate: int, users: list[str]) -> AsyncIterator[Ask]:
    """Open pyrate-limiter's PostgresBucket, one for each user, with `rate` requests a day.

    It blocks, so each request runs in a thread; it has a connection for each of 64. It answers False where another request
    of the same user holds the lock of the bucket.
    """
    import pyrate_limiter as pyrate
    from psycopg_pool import ConnectionPool
    from pyrate_limiter.buckets.postgres import PostgresBucket

    serial = itertools.count()
    options = {"autocommit": False, "options": "-c synchronous_commit=off"}
    with (
        ThreadPoolExecutor(THREADS) as threads,
        ConnectionPool(url, min_size=1, max_size=THREADS, kwargs=options, open=True) as pool,
    ):
        clock = pyrate.WallClock()
        rates = [pyrate.Rate(rate, pyrate.Duration.DAY)]
        loop = asyncio.get_running_loop()

        def make() -> dict[str, PostgresBucket]:
            return {user: PostgresBucket(pool, f"pyrate_{number}", rates) for number, user in enumerate(users)}

        buckets = await loop.run_in_executor(threads, make)

        def put(user: str) -> object:
            return buckets[user].put(pyrate.RateItem(f"{user}:{next(serial)}", clock.now(), 1))

        yield lambda user: loop.run_in_executor(threads, put, user)
