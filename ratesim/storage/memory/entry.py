"""`Entry`: the state of one limit of one identifier in a MemoryStorage.

A small state of fixed size lies in slots of its own, s0, s1, ...; a larger or growing one lies in a list. There is one class
for each algorithm and size, so an entry does not store its algorithm.
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
    """The details that few entries have: watermarks of merged nodes, and metadata that a person attached."""

    __slots__ = ("created_at", "metadata", "watermarks")

    def __init__(self, created_at: float) -> None:
        self.created_at = created_at
        self.metadata: dict[str, str] = {}
        self.watermarks: dict[str, Watermark] = {}


class Entry:
    """The state of one limit of one identifier. Its maker writes it at once, so the constructor sets two attributes only.

    Attributes
    ----------
    expires_at, last_accessed
        Seconds since the epoch.
    origin
        The time of creation, seconds since the epoch, or an `EntryDetails`.
    limit
        The limit that last wrote the entry; None for a state that was put there.
    request_count
        Requests admitted or merged since the state began.
    length
        Floats in a list, as the storage last took note; 0 for a state in slots.
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
        """Return the working state: the list itself of a state in a list, else a copy."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def store(self, s: list[float]) -> None:
        """Store a working state."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def details(self) -> EntryDetails:
        """Return the details, made when they are first asked for."""
        if not isinstance(self.origin, EntryDetails):
            self.origin = EntryDetails(self.origin)
        return self.origin

    def loss_if_evicted(self, now: float) -> float:
        """Return the cost that would be available again if this were forgotten at `now`; 0 if that changes no decision."""
        raise TypeError("an entry belongs to an algorithm: entry_class makes its class")

    def export(self) -> RateLimitState:
        """Return the portable state."""
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
    """An entry whose state is a list."""

    __slots__ = ("length", "state")

    def __init__(self, created_at: float) -> None:
        super().__init__(created_at)
        self.length = 0
        self.state: list[float] = []

    def load(self) -> list[float]:
        """Return the list itself."""
        return self.state

    def store(self, s: list[float]) -> None:
        """Store a working state."""
        self.state = s

    def loss_if_evicted(self, now: float) -> float:
        """Return the cost that would be available again if this were forgotten at `now`."""
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
    """One plain counter of `increment`. It expires at `expires_at`, seconds since the epoch."""

    __slots__ = ("count", "expires_at")

    length = 0
    limit: Limit | None = None

    def __init__(self, expires_at: float) -> None:
        self.count = 0
        self.expires_at = expires_at

    def loss_if_evicted(self, now: float) -> float:
        """Return 0: a counter belongs to no limit, so the cost of forgetting it is unknown."""
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


# An entry of another class is given up, so there is one class of a kind, also when threads make it at the same time.
_classes: dict[tuple[Algorithm, int | None], type[Entry]] = {}


@lru_cache(maxsize=1024)
def entry_class(algorithm: Algorithm, size: int | None) -> type[Entry]:
    """Return the class of the algorithm's entries whose state has `size` floats; None stands for a state that grows."""
    return _classes.get((algorithm, size)) or _classes.setdefault((algorithm, size), _make_class(algorithm, size))


def _make_class(algorithm: Algorithm, size: int | None) -> type[Entry]:
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
