"""Other limiters of Python over Redis, asked as asyncio asks; the extra `bench` installs them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import redis.asyncio

__all__ = ["Ask", "Peer", "open_peers"]

Ask = Callable[[str], Awaitable[object]]
PERIOD = 60.0  # seconds


class Peer(NamedTuple):
    """Another limiter.

    Attributes
    ----------
    name : str
        Its name.
    algorithm : str
        What it does, by our name of it.
    ask : Ask
        Sends one request of a user.
    """

    name: str
    algorithm: str
    ask: Ask


@asynccontextmanager
async def open_peers(url: str, rate: int, users: list[str]) -> AsyncIterator[list[Peer]]:
    """Open every peer at one server, each with `rate` requests a minute for each user.

    Each has connections for 64 requests at a time.
    """
    client = redis.asyncio.Redis.from_url(url, max_connections=100)
    try:
        yield [*_limits(url, rate), *_throttled(url, rate), *await _pyrate(client, rate, users)]
    finally:
        await client.aclose()


def _limits(url: str, rate: int) -> list[Peer]:
    from limits import RateLimitItemPerMinute
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

    item = RateLimitItemPerMinute(rate)
    strategies = {
        "fixed_window": FixedWindowRateLimiter,
        "sliding_window": SlidingWindowCounterRateLimiter,
        "sliding_log": MovingWindowRateLimiter,
    }

    def ask_of(strategy: Any) -> Ask:
        # A prefix each: its strategies use one key for values of different types.
        hit = strategy(RedisStorage(f"async+{url}", implementation="redispy", key_prefix=strategy.__name__)).hit
        return lambda user: hit(item, user)

    return [Peer("limits.aio", algorithm, ask_of(strategy)) for algorithm, strategy in strategies.items()]


def _throttled(url: str, rate: int) -> list[Peer]:
    from throttled.asyncio import RedisStore, Throttled, rate_limiter

    store = RedisStore(server=url, options={"MAX_CONNECTIONS": 100, "REUSE_CONNECTION": True})
    kinds = {
        "fixed_window": "fixed_window",
        "sliding_window": "sliding_window",
        "token_bucket": "token_bucket",
        "leaky_bucket": "leaking_bucket",
        "gcra": "gcra",
    }

    def ask_of(kind: str) -> Ask:
        limit = Throttled(using=kind, quota=rate_limiter.per_min(rate), store=store).limit
        return lambda user: limit(user)

    return [Peer("throttled-py", algorithm, ask_of(kind)) for algorithm, kind in kinds.items()]


async def _pyrate(client: redis.asyncio.Redis, rate: int, users: list[str]) -> list[Peer]:
    import pyrate_limiter as pyrate
    from pyrate_limiter.buckets.redis_state import RedisStateStore

    rates = [pyrate.Rate(rate, pyrate.Duration.MINUTE)]
    clock = pyrate.WallClock()
    serial = itertools.count()  # an item of a log needs a name of its own

    def item(user: str) -> Any:
        return pyrate.RateItem(f"{user}:{next(serial)}", clock.now(), 1)

    logs = {user: await pyrate.RedisBucket.init(rates, client, f"pyrate:log:{user}") for user in users}

    def state(user: str, algorithm: Any) -> Any:
        return pyrate.StateBucket(rates, algorithm, RedisStateStore(client, f"pyrate:{type(algorithm).__name__}:{user}"))

    buckets = {user: state(user, pyrate.TokenBucket()) for user in users}
    gcra = {user: state(user, pyrate.GCRA()) for user in users}

    def ask_of(by_user: dict[str, Any]) -> Ask:
        return lambda user: by_user[user].put(item(user))

    sources = {"sliding_log": logs, "token_bucket": buckets, "gcra": gcra}
    return [Peer("pyrate-limiter", algorithm, ask_of(by_user)) for algorithm, by_user in sources.items()]
