"""`RunDetail`: what the pictures of a report show of one run, small enough to be kept beside its row."""

from __future__ import annotations

import msgspec

__all__ = ["SERIES", "SHARES", "TOP_KEYS", "KeyExcess", "RunDetail", "bin_seconds", "carried"]

# From 50 % to 99.99 %, twelve to the decade of what lies beyond, and the round ones among them.
SHARES = tuple(sorted({*(round(1 - 0.5 * 10 ** (-k / 12), 9) for k in range(45)), 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999}))
SERIES = ("begin", "offered", "denied", "failed", "exact_denied", "over_admitted", "latency_p50", "latency_p99")
BINS = 60  # at most, of a run over time
TOP_KEYS = 12
STEPS = (1.0, 2.0, 5.0)  # of each decade below a minute
LONG = (60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 43200.0, 86400.0)


class KeyExcess(msgspec.Struct, frozen=True):
    """One key: its requests, the cost that the oracle admits to it, and the cost admitted beyond that."""

    key: str
    requests: int
    exact: float
    over_admitted: float


class RunDetail(msgspec.Struct, frozen=True):
    """The details of a run after its warm-up.

    Attributes
    ----------
    requests
        With a decision: those that latencies are of.
    latency
        Quantiles in seconds, at the first of `SHARES`: those that so many requests carry (`carried`).
    bin_seconds
        Length of a bin of `series`.
    series
        The columns `SERIES` of `RunResult.series`.
    keys_asked, keys_over
        Number of keys with a request, and of those with a cost admitted beyond the oracle's.
    keys
        The keys with most of that, at most `TOP_KEYS`, the most first.
    """

    requests: int
    latency: tuple[float, ...]
    bin_seconds: float
    series: dict[str, list[float]]
    keys_asked: int
    keys_over: int
    keys: tuple[KeyExcess, ...]


def carried(requests: int) -> tuple[float, ...]:
    """Return the quantiles that so many values carry: those beyond which at least one lies."""
    return tuple(share for share in SHARES if requests * (1 - share) >= 1 - 1e-9)


def bin_seconds(duration: float) -> float:
    """Return the shortest round length of which `BINS` cover a duration in seconds."""
    decade = 1e-6
    while decade < 60:
        for step in STEPS:
            if step * decade * BINS >= duration and step * decade < 60:
                return step * decade
        decade *= 10
    return next((length for length in LONG if length * BINS >= duration), LONG[-1] * -(-duration // (LONG[-1] * BINS)))
