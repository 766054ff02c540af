"""A recipe learned from a trace: `fit` finds the `Tenants` whose requests a limiter cannot tell from those of the trace.

What a limiter does depends on how many requests of a key fall into a window. So the requests of a key are cut into sessions
where it pauses, and of sessions, pauses and costs the quantiles are kept. How long a pause is, and how fine the rate over
time, is chosen by trial. A sample of each recipe is held against the trace, and the simplest one whose distance is hardly
above the smallest is taken (estimation by minimum distance: J. Wolfowitz, The minimum distance method, Annals of
Mathematical Statistics 28, 1957; with simulated samples: D. McFadden, Econometrica 57, 1989).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from traffic.bursts import burst_values, burst_windows, sorted_distance
from traffic.provenance import TraceError
from traffic.quantiles import normal_scores, quantile_mean, quantiles
from traffic.tenants import Profile, TenantGroup, Tenants
from traffic.trace import Trace

__all__ = ["NOT_CARRIED", "fit"]

NOT_CARRIED = (
    "A recipe does not carry names, endpoints and statuses, nor the order in which costs came, nor keys that act together "
    "beyond the common rate, nor what one key did at a certain time."
)

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]

PAUSES = (
    0.0,
    0.1,
    1.0,
    10.0,
    60.0,
    600.0,
    3600.0,
    14400.0,
)  # seconds from which a gap ends a session; with 0 each request is one
PARTS = (1, 6, 24, 96)  # of a rate over the whole trace
CYCLES = ((86400.0, 24, 2), (3600.0, 60, 3), (60.0, 60, 10))  # seconds, parts, and how many a trace must hold
TRIED = 20_000  # requests with which recipes are tried
SAMPLES = (2, 8)  # of each recipe that is tried: at least and at most
TOLERANCE = (1.05, 0.002)  # of the smallest distance, for a simpler recipe: a factor and what is added
FEWEST = 8  # pairs of values from which a correlation is worth keeping
T = TypeVar("T")
GROWTH = 3  # how many times as many keys the next group has


def fit(trace: Trace, rng: np.random.Generator | None = None) -> Tenants:
    """Learn a recipe from a trace.

    The recipe has as many keys and requests as the trace, and its duration. It holds quantiles: no name, no address, no row.
    Keys are grouped by their rank, 1, 2 to 4, 5 to 13 and so on, and those of a group are alike.

    Parameters
    ----------
    trace : Trace
        The requests. Coarse stamps are spread first.
    rng : numpy.random.Generator, optional
        Draws the places of coarse stamps and the samples of the recipes that are tried; one of seed 1 by default.

    Returns
    -------
    Tenants
        The recipe.

    Raises
    ------
    TraceError
        If the trace has no two requests at different times.
    """
    rng = np.random.default_rng(1) if rng is None else rng
    if not trace.duration:
        raise TraceError(f"fit: {len(trace)} requests at one time have no rate; give a longer trace")
    trace = trace.spread(rng)
    tried, seed = _tried(trace, rng), int(rng.integers(2**63))
    length = _length(tried)
    profiles = list(_profiles(tried, length))
    profile = profiles[min(2, len(profiles) - 1)]

    samples = int(np.clip(20_000 / len(tried), *SAMPLES))
    windows = burst_windows(tried.duration)
    wanted = burst_values(tried, windows)

    @cache
    def distance(profile: Profile, pause: float, stretch: bool) -> float:
        recipe = _recipe(tried, profile, pause, stretch, length)
        draws = np.random.default_rng(seed).spawn(samples)  # the same for every recipe
        drawn = [burst_values(recipe.trace(each), windows) for each in draws]
        return float(np.mean([sorted_distance(*pair) for each in drawn for pair in zip(wanted, each, strict=True)]))

    sessions = [
        (each, stretch) for each in PAUSES if each <= length / 4 for stretch in ((False, True) if each else (False,))
    ]
    for _ in range(2):
        pause, stretch = _simplest([distance(profile, *each) for each in sessions], sessions)
        profile = _simplest([distance(each, pause, stretch) for each in profiles], profiles)
    whole = _length(trace)
    period = whole if profile.period == length else profile.period
    return _recipe(trace, _rates(trace, len(profile.rates), period), pause, stretch, whole)


def _simplest(distances: list[float], among: list[T]) -> T:
    """Return the first whose distance is hardly above the smallest."""
    bound = min(distances) * TOLERANCE[0] + TOLERANCE[1]
    return next(each for each, apart in zip(among, distances, strict=True) if apart <= bound)


def _tried(trace: Trace, rng: np.random.Generator) -> Trace:
    """Take some keys of a trace with many requests, or its beginning if those have nearly all."""
    if len(trace) <= TRIED:
        return trace
    counts = np.bincount(trace.key, minlength=len(trace.keys))
    order = rng.permutation(len(counts))
    kept = order[np.cumsum(counts[order]) <= TRIED]
    if counts[kept].sum() < TRIED / 5:
        return trace.head(TRIED)
    wanted = np.zeros(len(counts), bool)
    wanted[kept] = True
    return trace.select(wanted[trace.key], "some of its keys")


def _length(trace: Trace) -> float:
    """Return the duration with the gap that would follow the last request, so that the rate is n / duration."""
    return float(f"{trace.duration * (1.0 + 1.0 / (len(trace) - 1)):.7g}")


def _profiles(trace: Trace, length: float) -> Iterator[Profile]:
    """List rates over time, the simple ones first: over the whole trace, and those of a day, an hour, a minute."""
    for parts in PARTS:
        if parts <= max(len(trace) / 4, 1):
            yield _rates(trace, parts, length)
    for period, parts, times in CYCLES:
        if length >= times * period:
            yield _rates(trace, parts, period)


def _rates(trace: Trace, parts: int, period: float) -> Profile:
    """Measure the rate in equal parts of a period, from the first request on."""
    since = trace.time - trace.time[0]
    width = period / parts
    part = np.minimum(since % period / width, parts - 1).astype(np.int64)
    there = np.bincount(np.arange(int(np.ceil(_length(trace) / width))) % parts, minlength=parts)  # how often each was seen
    rates = np.bincount(part, minlength=parts) / np.maximum(there, 1)
    return Profile(tuple(float(f"{each:.4g}") for each in rates / rates.mean()), period)


def _recipe(trace: Trace, profile: Profile, pause: float, stretch: bool, length: float) -> Tenants:
    order = np.lexsort((trace.time, trace.key))
    key, time, cost = trace.key[order], trace.time[order] - trace.time[0], trace.cost[order]
    user = trace.session[order]
    rank, keys = _ranks(key)
    group = np.floor(np.log1p((GROWTH - 1) * rank) / np.log(GROWTH) + 1e-9).astype(np.int64)  # ranks 0, 1 to 3, 4 to 12, ...
    curve = profile.curve(length)
    if stretch:
        time, curve = np.interp(time, *curve) * length, Profile((1.0,), length).curve(length)
    groups = []
    for each in range(int(group.max()) + 1):
        of = group == each
        groups.append(_group(key[of], time[of], cost[of], user[of], pause, curve, keys, len(key)))
    return Tenants(len(key) / length, keys, length, tuple(groups), profile, stretch)


def _ranks(key: Ints) -> tuple[Ints, int]:
    """Return the rank of each row's key, 0 for the most frequent one, and how many keys there are."""
    counts = np.bincount(key)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank[key], int(np.count_nonzero(counts))


def _group(
    key: Ints, time: Reals, cost: Reals, user: Ints, pause: float, curve: tuple[Reals, Reals], keys: int, requests: int
) -> TenantGroup:
    """Describe keys that are alike; the rows are in order of key and time."""
    gap = np.diff(time, prepend=time[0])
    begins = (np.diff(key, prepend=-1) != 0) | (gap > pause) if pause else np.ones(len(key), bool)
    first = np.flatnonzero(begins)
    session = np.cumsum(begins) - 1
    size = np.diff(first, append=len(key))
    last = first + size - 1
    mean_gap = (time[last] - time[first]) / np.maximum(size - 1, 1)
    owner = key[first]
    rest = _pauses(owner, np.interp(time[first], *curve), np.interp(time[last], *curve))
    inner, many = ~begins, size > 1
    shaped = inner & ((size > 2) & (mean_gap > 0))[session]
    relative = gap[shaped] / mean_gap[session[shaped]]
    costs = quantiles(cost)
    return TenantGroup(
        keys=_share(int(np.count_nonzero(np.diff(key, prepend=-1))), keys),
        requests=_share(len(key), requests),
        key_ratio=_ratio(key),
        session_requests=quantiles(size),
        session_gap=quantiles(mean_gap[many]) if many.any() else (0.0,),
        gaps=quantiles(relative) if len(relative) else (1.0,),
        pauses=quantiles(rest),
        size_and_gap=_correlation(size[many], mean_gap[many]),
        gap_memory=_memory(gap[inner], session[inner]),
        pause_memory=_memory(rest, owner),
        cost_memory=_memory(cost, key),
        costs=tuple(float(f"{each * (cost.mean() / (quantile_mean(costs) or 1.0)):.5g}") for each in costs),
        **_users(key, user),
    )


def _users(key: Ints, user: Ints) -> dict[str, Any]:
    """Describe how the requests of a key are dealt out to its users."""
    pair, requests = np.unique(np.stack((key, user)), axis=1, return_counts=True)
    keys, first, many = np.unique(pair[0], return_index=True, return_counts=True)
    if len(pair[0]) == len(keys):
        return {}
    total = np.add.reduceat(requests, first)
    same_key = key[1:] == key[:-1]
    repeated = np.mean(user[1:][same_key] == user[:-1][same_key])
    chance = np.sum(np.add.reduceat(requests**2, first) / total) / total.sum()  # of two requests of one key
    return {
        "users": float(f"{many.mean():.4g}"),
        "user_requests": quantiles(requests / np.repeat(total / many, many)),
        "user_memory": round(float(np.clip((repeated - chance) / max(1.0 - chance, 1e-9), 0.0, 0.99)), 3),
    }


def _pauses(owner: Ints, start: Reals, end: Reals) -> Reals:
    """Return the pauses behind sessions over the mean of their key; behind a key's last one it leads around to the first."""
    opens = np.flatnonzero(np.diff(owner, prepend=-1))
    many = np.diff(opens, append=len(owner))
    following = np.roll(start, -1)
    following[opens + many - 1] = start[opens] + 1.0
    rest = np.maximum(following - end, 0.0)
    relative: Reals = rest / np.repeat(np.maximum(np.add.reduceat(rest, opens) / many, 1e-300), many)
    return relative


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the correlation of normal scores, or 0 where too little is known."""
    if len(one) < FEWEST or np.all(one == one[0]) or np.all(other == other[0]):
        return 0.0
    found = np.corrcoef(normal_scores(one), normal_scores(other))[0, 1]
    return round(float(np.clip(found, -0.95, 0.95)), 3)


def _memory(values: Reals, owner: Ints) -> float:
    """Return the correlation of a value and the next one of its owner."""
    same = owner[1:] == owner[:-1]
    return _correlation(values[1:][same], values[:-1][same])


def _ratio(key: Ints) -> float:
    """Return how many times as many requests the busiest keys have as the rarest, of the first and last tenth of them."""
    counts = np.sort(np.unique(key, return_counts=True)[1])
    tenth = max(1, len(counts) // 10)
    return float(f"{(counts[-tenth:].mean() / counts[:tenth].mean()) ** (len(counts) / max(len(counts) - tenth, 1)):.4g}")


def _share(part: int, whole: int) -> float:
    return float(f"{part / whole:.8g}")
