"""Eviction policies: which entry a full memory storage forgets. Every operation is O(1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Protocol

__all__ = ["LRU", "POLICIES", "EvictionPolicy"]


class EvictionPolicy(Protocol):
    """Told of every entry that comes, is used or goes; asked for a victim when there is no room."""

    def insert(self, key: Hashable) -> None: ...
    def touch(self, key: Hashable) -> None: ...
    def remove(self, key: Hashable) -> None: ...
    def victim(self) -> Hashable: ...


class LRU:
    """Least recently used goes first."""

    def __init__(self) -> None:
        self._order: OrderedDict[Hashable, None] = OrderedDict()
        self.touch = self._order.move_to_end  # bound once: this runs on every decision

    def insert(self, key: Hashable) -> None:
        self._order[key] = None

    def remove(self, key: Hashable) -> None:
        del self._order[key]

    def victim(self) -> Hashable:
        return next(iter(self._order))


POLICIES: dict[str, type[EvictionPolicy]] = {"LRU": LRU}
