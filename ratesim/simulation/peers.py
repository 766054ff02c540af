"""Other limiters of Python, doing what MemoryStorage is measured at: the extra `bench` installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["installed", "peers"]


def installed() -> bool:
    """Whether the peers are here."""
    return all(importlib.util.find_spec(name) for name in ("limits", "throttled"))


def peers(users: Sequence[str]) -> dict[str, dict[str, Callable[[], object]]]:
    """By our algorithm's name, the peers that have it: work that asks 100/minute for each of `users` in turn."""
    import limits
    import limits.storage
    import limits.strategies
    import throttled

    item = limits.RateLimitItemPerMinute(100)

    def of_limits(strategy: Any) -> Callable[[], object]:
        def work() -> None:
            hit = strategy(limits.storage.MemoryStorage()).hit
            for user in users:
                hit(item, user)

        return work

    def of_throttled(kind: str) -> Callable[[], object]:
        def work() -> None:
            store = throttled.store.MemoryStore(options={"MAX_SIZE": len(users)})
            limit = throttled.Throttled(using=kind, quota=throttled.rate_limiter.per_min(100), store=store).limit
            for user in users:
                limit(user)

        return work

    strategies = limits.strategies
    return {
        "fixed_window": {
            "limits": of_limits(strategies.FixedWindowRateLimiter),
            "throttled-py": of_throttled("fixed_window"),
        },
        "sliding_window": {
            "limits": of_limits(strategies.SlidingWindowCounterRateLimiter),
            "throttled-py": of_throttled("sliding_window"),
        },
        "sliding_log": {"limits": of_limits(strategies.MovingWindowRateLimiter)},
        "token_bucket": {"throttled-py": of_throttled("token_bucket")},
        "leaky_bucket": {"throttled-py": of_throttled("leaking_bucket")},
        "gcra": {"throttled-py": of_throttled("gcra")},
    }
