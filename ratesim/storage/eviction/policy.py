"""What an eviction policy is: it keeps the order of the entries of a full memory storage, and names the one to forget."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, runtime_checkable

__all__ = ["ChargedPolicy", "EvictionPolicy"]


class EvictionPolicy(Protocol):
    """Told of every entry that comes, is used or goes; asked for a victim when there is no room.

    Every operation takes a time that does not depend on the number of entries (amortised where a policy says so).
    """

    def __init__(self, max_entries: int, seed: int = 0) -> None: ...

    def insert(self, key: Hashable) -> None:
        """An entry has come; it was not there."""

    def touch(self, key: Hashable) -> object:
        """An entry that is there was used, by an admitted request or a denied one. What it returns means nothing."""

    def remove(self, key: Hashable) -> None:
        """An entry is gone: the victim, or another that expired or was reset. KeyError when it was not there."""

    def victim(self, now: float) -> Hashable:
        """The entry to forget at `now`, seconds; it stays until `remove`. There must be one."""

    def bytes(self) -> int:
        """What the policy itself takes, within some percent: with the keys that it remembers, without those that are there.

        Seldom asked, so it may take a while."""


@runtime_checkable
class ChargedPolicy(Protocol):
    """A policy that wants to know what is in an entry."""

    def charged(self, key: Hashable, fresh_at: float, loss: float) -> None:
        """An entry that is there was charged, or written.

        fresh_at: seconds, the time at which its state is as good as a new one.
        loss: cost that would be available again if it were forgotten now.
        """
