"""Other limiters of Python, doing the work that MemoryStorage is measured at; the extra `bench` installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Ask", "Competitor", "competitors", "is_installed"]

Ask = Callable[[str], object]


class Competitor(NamedTuple):
    """Another limiter.

    Attributes
    ----------
    name : str
        Name and version.
    make : Callable[[], Ask]
        Makes a new limiter of 100 a minute in memory, as a function that sends one request of a user.
    """

    name: str
    make: Callable[[], Ask]


def is_installed() -> bool:
    """Tell whether the competitors are installed."""
    return all(importlib.util.find_spec(name) for name in ("limits", "throttled", "pyrate_limiter"))


def competitors(keys: int) -> dict[str, list[Competitor]]:
    """Return the competitors that have each algorithm, by our name of it, each with room for `keys` users."""
    found: dict[str, list[Competitor]] = {}
    for source in (_limits, _throttled, _pyrate):
        for algorithm, competitor in source(keys):
            found.setdefault(algorithm, []).append(competitor)
    return found


def _limits(keys: int) -> list[tuple[str, Competitor]]:
    import limits
    import limits.storage
    import limits.strategies

    item = limits.RateLimitItemPerMinute(100)

    def make(strategy: Any) -> Ask:
        hit = strategy(limits.storage.MemoryStorage()).hit
        return lambda user: hit(item, user)

    strategies = limits.strategies
    return [
        (algorithm, Competitor("limits", lambda strategy=strategy: make(strategy)))  # type: ignore[misc]
        for algorithm, strategy in (
            ("fixed_window", strategies.FixedWindowRateLimiter),
            ("sliding_window", strategies.SlidingWindowCounterRateLimiter),
            ("sliding_log", strategies.MovingWindowRateLimiter),
        )
    ]


def _throttled(keys: int) -> list[tuple[str, Competitor]]:
    import throttled

    def make(kind: str) -> Ask:
        store = throttled.store.MemoryStore(options={"MAX_SIZE": keys})
        limit: Ask = throttled.Throttled(using=kind, quota=throttled.rate_limiter.per_min(100), store=store).limit
        return limit

    return [
        (algorithm, Competitor("throttled-py", lambda kind=kind: make(kind)))  # type: ignore[misc]
        for algorithm, kind in (
            ("fixed_window", "fixed_window"),
            ("sliding_window", "sliding_window"),
            ("token_bucket", "token_bucket"),
            ("leaky_bucket", "leaking_bucket"),
            ("gcra", "gcra"),
        )
    ]


def _pyrate(keys: int) -> list[tuple[str, Competitor]]:
    import pyrate_limiter as pyrate

    rates = [pyrate.Rate(100, pyrate.Duration.MINUTE)]
    clock = pyrate.WallClock()

    class PerUser(pyrate.BucketFactory):  # type: ignore[misc]
        """A bucket for each user, as its documentation has it; the base class knows none of them by name."""

        def __init__(self, bucket: Callable[[], Any]) -> None:
            self._bucket = bucket
            self._buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return pyrate.RateItem(name, clock.now(), weight)

        def get(self, item: Any) -> Any:
            bucket = self._buckets.get(item.name)
            if bucket is None:
                bucket = self._buckets[item.name] = self._bucket()
            return bucket

    def make(bucket: Callable[[], Any]) -> Ask:
        ask = pyrate.Limiter(PerUser(bucket)).try_acquire
        return lambda user: ask(user, blocking=False)

    buckets: dict[str, Callable[[], Any]] = {
        "sliding_log": lambda: pyrate.InMemoryBucket(rates),
        "gcra": lambda: pyrate.StateBucket(rates, pyrate.GCRA()),
        "token_bucket": lambda: pyrate.StateBucket(rates, pyrate.TokenBucket()),
    }
    return [
        (algorithm, Competitor("pyrate-limiter", lambda bucket=bucket: make(bucket)))  # type: ignore[misc]
        for algorithm, bucket in buckets.items()
    ]
