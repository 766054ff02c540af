"""Tenants with users: keys in groups that are alike, each of which sends sessions of requests, by a rate over time.

The requests of a key are a cluster process: sessions come one after the other, and each has a number of requests and gaps
between them (the model of web servers' traffic in Z. Liu, N. Niclausse, C. Jalpa-Villanueva, Traffic model and performance
evaluation of Web servers, Performance Evaluation 46, 2001). Pauses are spread over a clock that runs as fast as the rate
over time (I. Gerhardt, B. L. Nelson, Transforming renewal processes for simulation of nonstationary arrival processes,
INFORMS Journal on Computing 21, 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traffic.provenance import Provenance
from traffic.quantiles import even_uniforms, quantile_mean, quantile_values
from traffic.trace import Trace

__all__ = ["Profile", "TenantGroup", "Tenants"]

MOST_PARTS = 1_000_000  # of a profile within a duration
BLOCK = 8  # sessions of a key, at least, that are spread over a part of the profile of their own

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Profile:
    """The rate over time: piecewise constant, and again from the beginning after a period.

    Attributes
    ----------
    rates : tuple[float, ...]
        Rates of equal parts of the period, relative to each other.
    period : float
        Seconds.
    """

    rates: tuple[float, ...] = (1.0,)
    period: float = 86400.0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) < 0 or not 0 < sum(self.rates) < math.inf:
            raise ValueError("Profile: rates must be at least one number >= 0, and one of them above 0")
        if not (math.isfinite(self.period) and self.period > 0):
            raise ValueError(f"Profile: period must be a positive finite number of seconds, got {self.period:g}")

    def curve(self, duration: float) -> tuple[Reals, Reals]:
        """Return times from 0 to `duration`, and the share of the requests that comes until each, from 0 to 1."""
        width = self.period / len(self.rates)
        if duration / width > MOST_PARTS:
            raise ValueError(f"Profile: {duration:g} s have more than {MOST_PARTS} parts of {width:g} s; make them longer")
        ends = np.minimum(np.arange(1, math.ceil(duration / width * (1.0 - 1e-12)) + 1) * width, duration)
        times = np.concatenate(([0.0], ends))
        rates = np.resize(np.asarray(self.rates, np.float64), len(ends))
        grown = np.concatenate(([0.0], np.cumsum(rates * np.diff(times))))
        if grown[-1] <= 0:
            raise ValueError(f"Profile: no request comes in the first {duration:g} s; make the duration longer")
        return times, grown / grown[-1]


@dataclass(frozen=True, slots=True)
class TenantGroup:
    """Keys that are alike. Each distribution is a tuple of quantiles (`traffic.quantiles`).

    Attributes
    ----------
    keys, requests : float
        Shares of the keys and of the requests, of those of all groups.
    key_ratio : float
        Sessions of the most frequent key over those of the least frequent one, at least 1.
    session_requests : tuple[float, ...]
        Requests of a session.
    session_gap : tuple[float, ...]
        Mean gap between the requests of a session, seconds.
    gaps : tuple[float, ...]
        Gaps in a session over their mean.
    pauses : tuple[float, ...]
        Time from the end of a session of a key to the beginning of its next one, over its mean.
    size_and_gap : float
        Correlation of the normal scores of a session's requests and mean gap, from -1 to 1.
    gap_memory, pause_memory, cost_memory : float
        Correlation of the normal scores of one value and the next one.
    costs : tuple[float, ...]
        Cost of a request.
    users : float
        Users of a key. Each is a session of the trace, which a sticky balancer keeps on its node.
    user_requests : tuple[float, ...]
        Requests of a user over the mean of those of its key.
    user_memory : float
        How likely a request is of the user of the one before, beyond chance, from 0 to below 1.
    """

    keys: float = 1.0
    requests: float = 1.0
    key_ratio: float = 1.0
    session_requests: tuple[float, ...] = (1.0,)
    session_gap: tuple[float, ...] = (0.0,)
    gaps: tuple[float, ...] = (1.0,)
    pauses: tuple[float, ...] = (1.0,)
    size_and_gap: float = 0.0
    gap_memory: float = 0.0
    pause_memory: float = 0.0
    cost_memory: float = 0.0
    costs: tuple[float, ...] = (1.0,)
    users: float = 1.0
    user_requests: tuple[float, ...] = (1.0,)
    user_memory: float = 0.0


@dataclass(frozen=True, slots=True)
class Tenants:
    """Requests of tenants with users.

    Attributes
    ----------
    rate : float
        Requests/s of all keys together, the mean over the duration.
    keys : int
        Number of keys.
    duration : float
        Seconds.
    groups : tuple[TenantGroup, ...]
        Keys that are alike.
    profile : Profile
        The rate over time.
    stretch : bool
        Whether the gaps in a session are longer where the rate is low, too; else only pauses are.
    start : float
        Seconds since the epoch, or any zero.
    """

    rate: float
    keys: int
    duration: float
    groups: tuple[TenantGroup, ...] = (TenantGroup(),)
    profile: Profile = Profile()
    stretch: bool = False
    start: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rate", "duration"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Tenants: {name} must be a positive finite number, got {value:g}")
        if self.keys < len(self.groups) or not self.groups:
            raise ValueError(f"Tenants: keys must be at least one for each of {len(self.groups)} groups, got {self.keys}")

    def trace(self, rng: np.random.Generator) -> Trace:
        """Draw one sample. Its beginning and end are like any moment: a session that passes the end goes on at the start."""
        times, keys, costs, users = [], [], [], []
        curve = self.profile.curve(self.duration)
        whole = sum(group.requests for group in self.groups)
        first = known = 0
        for group, n in zip(self.groups, self._group_sizes(), strict=True):
            wanted = self.rate * self.duration * group.requests / whole
            begin, key, offset, cost = _draw(group, n, wanted, self.duration, len(curve[0]) - 1, rng)
            times.append(self._on_clock(begin, offset, curve))
            users.append(_users(group, key, times[-1], rng) + known)
            keys.append(key + first)
            costs.append(cost)
            first += n
            known += n * _user_count(group)
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        return Trace(
            self.start + time[order],
            np.concatenate(keys)[order],
            tuple(f"key-{i}" for i in range(self.keys)),
            cost=np.concatenate(costs)[order],
            session=np.concatenate(users)[order],
            provenance=Provenance(source=f"Tenants({self.rate:g} requests/s, {self.keys} keys, {self.duration:g} s)"),
        )

    def _on_clock(self, begin: Reals, offset: Reals, curve: tuple[Reals, Reals]) -> Reals:
        """Return the time of requests whose session began at a share of the circle, and how long before."""
        if self.stretch:
            return np.interp((begin + offset / self.duration) % 1.0, curve[1], curve[0])
        return (np.interp(begin, curve[1], curve[0]) + offset) % self.duration

    def _group_sizes(self) -> list[int]:
        """Deal the keys out to the groups by their shares, at least one to each."""
        shares = np.array([group.keys for group in self.groups])
        sizes = np.diff(np.rint(np.cumsum(shares) / shares.sum() * self.keys).astype(int), prepend=0)
        while not sizes.all():
            sizes[np.argmax(sizes)] -= 1
            sizes[np.argmin(sizes)] += 1
        return [int(each) for each in sizes]


def _draw(
    group: TenantGroup, keys: int, wanted: float, duration: float, parts: int, rng: np.random.Generator
) -> tuple[Reals, Ints, Reals, Reals]:
    """Draw when the session of each request begins, its key, the seconds since then, and its cost, not in order of time."""
    n = math.floor(wanted / quantile_mean(group.session_requests) + rng.random())
    z = even_uniforms(n, rng)
    size = np.maximum(np.floor(quantile_values(group.session_requests, z) + rng.random(n)), 1).astype(np.int64)
    pace = quantile_values(group.session_gap, _alike(z, group.size_and_gap, rng))
    owner = _dealt(n, keys, group.key_ratio, rng)
    session = np.repeat(np.arange(n), size)
    offset = _offsets(group, size, pace, session, rng)
    length = offset[np.cumsum(size) - 1]
    begin = _starts(group, owner, length / duration, parts, rng)[session]
    cost = quantile_values(group.costs, even_uniforms(len(begin), rng, group.cost_memory))
    return begin, owner[session], offset, cost


def _alike(u: Reals, correlation: float, rng: np.random.Generator) -> Reals:
    """Draw uniforms whose normal scores correlate with those of `u`."""
    from scipy.special import ndtri

    score = correlation * ndtri(u) + math.sqrt(1.0 - correlation**2) * rng.standard_normal(len(u))
    alike: Reals = (np.argsort(np.argsort(score)) + rng.random(len(u))) / max(len(u), 1)
    return alike


def _dealt(n: int, keys: int, ratio: float, rng: np.random.Generator) -> Ints:
    """Deal n sessions out to the keys, whose shares fall geometrically, as evenly as they go, in ascending order of keys."""
    shares = ratio ** -(np.arange(1, keys + 1) / keys)
    ends = np.floor(np.cumsum(shares) / shares.sum() * n + rng.random()).astype(np.int64).clip(max=n)
    ends[-1] = n
    return np.repeat(np.arange(keys), np.diff(ends, prepend=0))


def _offsets(group: TenantGroup, size: Ints, pace: Reals, session: Ints, rng: np.random.Generator) -> Reals:
    """Return the seconds of each request since its session began."""
    total = len(session)
    if total == len(size):
        return np.zeros(total)
    first = np.cumsum(size) - size
    gap = quantile_values(group.gaps, even_uniforms(total, rng, group.gap_memory))
    gap[first] = 0.0
    sums = np.add.reduceat(gap, first)
    mean = np.divide(sums, size - 1, out=np.ones(len(size)), where=(size > 1) & (sums > 0))
    gap *= (pace / mean)[session]
    run = np.cumsum(gap)
    since: Reals = run - run[first][session]
    return since


def _starts(group: TenantGroup, owner: Ints, length: Reals, parts: int, rng: np.random.Generator) -> Reals:
    """Return when each session begins, on a circle of length 1: those of a key follow one another around it.

    Where a key has many sessions, equally many come in each part of the circle, because the rate over time is that of the
    profile: a sum of many pauses would stray from it.
    """
    n = len(owner)
    if not n:
        return np.zeros(0)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    many = np.diff(first, append=n)
    key = np.repeat(np.arange(len(first)), many)
    blocks = np.clip(many // BLOCK, 1, parts)
    block = (np.arange(n) - first[key]) * blocks[key] // many[key] + (np.cumsum(blocks) - blocks)[key]
    begins = np.flatnonzero(np.diff(block, prepend=-1))
    share = np.diff(begins, append=n) / many[key[begins]]
    pause = quantile_values(group.pauses, even_uniforms(n, rng, group.pause_memory)) + 1e-12
    busy = np.add.reduceat(length, begins)
    # Sessions that fill more than all of their part overlap.
    stretch = np.maximum(share - busy, 0.0) / np.add.reduceat(pause, begins)
    squeeze = np.minimum(1.0, share / np.maximum(busy, 1e-300))
    step = pause * stretch[block] + length * squeeze[block]
    run = np.cumsum(step) - step
    starts: Reals = (run - run[first][key] + rng.random(len(first))[key]) % 1.0
    return starts


def _user_count(group: TenantGroup) -> int:
    return max(1, round(group.users))


def _users(group: TenantGroup, key: Ints, time: Reals, rng: np.random.Generator) -> Ints:
    """Draw the user of each request, numbered through the keys of the group."""
    count = _user_count(group)
    if count == 1:
        return key
    weight = np.cumsum(quantile_values(group.user_requests, (np.arange(count) + 0.5) / count) + 1e-12)
    user = np.searchsorted(weight / weight[-1], rng.random(len(key)), side="right").clip(max=count - 1)
    order = np.lexsort((time, key))
    same = (rng.random(len(key)) < group.user_memory) & (np.diff(key[order], prepend=-1) == 0)
    latest = np.maximum.accumulate(np.where(same, 0, np.arange(len(key))))
    user[order] = user[order][latest]
    numbered: Ints = key * count + user
    return numbered
