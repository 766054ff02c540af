"""`Entry`: what MemoryStorage keeps of one limit of one identifier.

A small state of fixed size lies in slots of its own, s0, s1, ...; a larger or growing one in a list. There is one class for
each algorithm and size, so an entry need not say whose it is.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

from ratesim.algorithms import Algorithm, bind
from ratesim.algorithms.codegen.inline import Layout
from ratesim.algorithms.codegen.template import render
from ratesim.limit import Limit
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import EXPIRY_MARGIN

__all__ = ["FEW", "Counter", "Entry", "ListEntry", "entry_class"]

FEW = 6  # floats in slots of their own; longer states are lists


class EntryDetails:
    """What few entries have: who has been merged into them, and what a person attached."""

    __slots__ = ("created_at", "metadata", "watermarks")

    def __init__(self, created_at: float) -> None:
        self.created_at = created_at
        self.metadata: dict[str, str] = {}
        self.watermarks: dict[str, Watermark] = {}


class Entry:
    """expires_at, last_accessed: seconds since the epoch. origin: the time it was created at, or an `Origin`. limit: the one
    that last wrote it; None where a state was put there. Who makes an entry writes it at once: only two of these are set.
    """

    __slots__ = ("expires_at", "last_accessed", "limit", "origin", "request_count")

    algorithm: Algorithm
    expires_at: float
    last_accessed: float
    limit: Limit | None
    length = 0

    def __init__(self, created_at: float) -> None:
        self.origin: float | EntryDetails = created_at
        self.request_count = 0

    def load(self) -> list[float]:
        """The working state: the list itself where it is one, else a copy."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def store(self, s: list[float]) -> None:
        """Keep a working state."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def details(self) -> EntryDetails:
        """The origin, for something to be noted in it."""
        if not isinstance(self.origin, EntryDetails):
            self.origin = EntryDetails(self.origin)
        return self.origin

    def loss_if_evicted(self, now: float) -> float:
        """The cost that would be available again if this were forgotten at `now`; 0 when that changes no decision."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def export(self) -> RateLimitState:
        """The entry as it travels."""
        origin = self.origin if isinstance(self.origin, EntryDetails) else EntryDetails(self.origin)
        return RateLimitState(
            AlgorithmData.of(self.algorithm.name, self.algorithm.stored(self.load())),
            micro(origin.created_at),
            micro(self.last_accessed),
            self.request_count,
            dict(origin.metadata),
            dict(origin.watermarks),
        )


class ListEntry(Entry):
    """An entry whose state is a list. length: floats in it, as the storage last took note."""

    __slots__ = ("length", "state")

    def __init__(self, created_at: float) -> None:
        super().__init__(created_at)
        self.length = 0
        self.state: list[float] = []

    def load(self) -> list[float]:
        return self.state

    def store(self, s: list[float]) -> None:
        self.state = s

    def loss_if_evicted(self, now: float) -> float:
        if self.limit is None or self.expires_at - EXPIRY_MARGIN <= now:
            return 0.0
        _, p, _, _ = bind(self.limit)
        rule = self.algorithm.rule
        s, fresh = list(self.load()), [0.0] * rule.size(p)
        at = max(now, s[0])
        rule.refresh(s, p, at)
        rule.start(fresh, p, at)
        return max(rule.available(fresh, p, at) - rule.available(s, p, at), 0.0)


class Counter:
    """One plain counter of `increment`."""

    __slots__ = ("count", "expires_at")

    length = 0
    limit: Limit | None = None

    def __init__(self, expires_at: float) -> None:
        self.count = 0
        self.expires_at = expires_at

    def loss_if_evicted(self, now: float) -> float:
        """A counter belongs to no limit, so nobody knows what forgetting it admits."""
        return 0.0


_IN_SLOTS = """
class {name}(Entry):
    __slots__ = ({slots})

    def load(self):
        return [{values}]

    def store(self, s):
        {values}, = s

    def loss_if_evicted(self, now):
        if self.limit is None or self.expires_at - EXPIRY_MARGIN <= now:
            return 0.0
        p = bind(self.limit).params
        {parameters}
        {load}
        at = now if now > s0 else s0
        <refresh None now=at>
        <available left now=at>
        <start None now=at>
        <available full now=at>
        return full - left if full > left else 0.0
"""


@lru_cache(maxsize=1024)
def entry_class(algorithm: Algorithm, size: int | None) -> type[Entry]:
    """The class of the algorithm's entries whose state has `size` floats; None: a state that grows."""
    name = f"{algorithm.name}_{size}"
    if size is None or size > FEW:
        return type(name, (ListEntry,), {"__slots__": (), "algorithm": algorithm})
    texts = {
        "name": name,
        "slots": "".join(f'"s{i}", ' for i in range(size)),
        "values": ", ".join(f"self.s{i}" for i in range(size)),
        "load": "; ".join(f"s{i} = self.s{i}" for i in range(size)),
    }
    source = render(_IN_SLOTS, algorithm.rule, Layout(size), texts)
    used = sorted(set(re.findall(r"\bp(\d+)\b", source)))
    source = source.replace("{parameters}", "; ".join(f"p{i} = p[{i}]" for i in used))
    beside = {"Entry": Entry, "EXPIRY_MARGIN": EXPIRY_MARGIN, "bind": bind, "rule": algorithm.rule, "__name__": __name__}
    namespace: dict[str, Any] = {**vars(math), **beside}
    exec(source, namespace)  # noqa: S102 - the package's own source
    made: type[Entry] = namespace[name]
    made.algorithm = algorithm
    return made
