"""`EvictionPolicy`: keeps the order of the entries of a full memory storage, and names the one to forget."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, runtime_checkable

__all__ = ["ChargedPolicy", "EvictionPolicy"]


class EvictionPolicy(Protocol):
    """Learns of every entry that comes, is used or goes, and names a victim when there is no room.

    Every operation takes a time that does not depend on the number of entries (amortized where a policy says so).

    Parameters
    ----------
    max_entries
        Entries that the storage holds at most.
    seed
        Of the random draws, where a policy draws.
    """

    def __init__(self, max_entries: int, seed: int = 0) -> None: ...

    def insert(self, key: Hashable) -> None:
        """Add an entry that was not there."""

    def touch(self, key: Hashable) -> object:
        """Take note that an entry was used, by an admitted or a denied request. The returned value means nothing."""

    def remove(self, key: Hashable) -> None:
        """Drop an entry: the victim, or another that expired or was reset. KeyError if it was not there."""

    def victim(self, now: float) -> Hashable:
        """Return the entry to forget at `now`, seconds; it stays until `remove`. There must be one."""

    def bytes(self) -> int:
        """Return the bytes of the policy itself, within some percent.

        Keys that only the policy remembers count, and keys of entries do not. It is seldom asked, so it may take a while.
        """


@runtime_checkable
class ChargedPolicy(Protocol):
    """A policy that uses the content of entries."""

    def charged(self, key: Hashable, fresh_at: float, loss: float) -> None:
        """Take note that an entry was charged, or written.

        Parameters
        ----------
        key
            The entry, which is there.
        fresh_at
            Time at which its state is as good as a new one, seconds.
        loss
            Cost that would be available again if it were forgotten now.
        """
