"""`DenialCounts`: which keys a node has denied most, in bounded memory."""

from __future__ import annotations

import heapq

__all__ = ["DenialCounts"]


class DenialCounts:
    """Counts denied requests by (identifier, name of the limit), and keeps the heaviest keys.

    When twice as many keys as are kept have been met, the lighter half is forgotten. So a count is never too high. It is too
    low by at most 1/kept of all denials for each time that the half was forgotten, which a key that is denied much survives.

    Parameters
    ----------
    kept
        Keys that are kept for sure.
    """

    def __init__(self, kept: int = 1000) -> None:
        self._kept = kept
        self._counts: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, identifier: str, name: str) -> None:
        """Count a denied request."""
        key = (identifier, name)
        self._counts[key] = self._counts.get(key, 0) + 1
        if len(self._counts) > 2 * self._kept:
            self._counts = self._heaviest()

    def take(self) -> dict[tuple[str, str], int]:
        """Return the heaviest keys with their counts, and begin anew."""
        taken = self._heaviest()
        self._counts = {}
        return taken

    def put_back(self, counts: dict[tuple[str, str], int]) -> None:
        """Add counts that were taken and could not be handed on."""
        for key, count in counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
        self._counts = self._heaviest()

    def clear(self) -> None:
        """Forget all counts, such as those of the process that this one was forked from."""
        self._counts = {}

    def _heaviest(self) -> dict[tuple[str, str], int]:
        if len(self._counts) <= self._kept:
            return self._counts
        return dict(heapq.nlargest(self._kept, self._counts.items(), key=lambda item: item[1]))
