"""`SizeEstimator`: the bytes that entries take, tracked as they come, grow and go, for `memory_limit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice

from ratesim.storage.memory.entry import FEW, Counter, Entry

__all__ = ["SizeEstimator", "estimate_bytes"]

SAMPLE = 128  # entries, of which the bytes are counted one by one
EVERY = 512  # changes, after which they are counted again
PER_FLOAT = 20  # bytes that a float in a list is first taken to need: its place, and an object for every other one


class SizeEstimator:
    """Tracks a size of every entry that is known at once, and measures a sample to learn how far that is off.

    The tracked size counts objects, names and the lengths of lists; the sample tells what the numbers in them take, of which
    some are shared. (A ratio estimate, which is exact as far as the two sizes are proportional: W. G. Cochran, "Sampling
    Techniques", 3rd ed., 1977, ch. 6. A plain mean of a sample would miss the few keys whose logs are long.) The sample is
    every k-th entry that came and is still there. The size of everything else, such as the order of a policy, is asked for
    as often, and taken to grow as the entries do.

    Parameters
    ----------
    entries
        The entries themselves.
    beside
        Returns the bytes of everything else that counts.
    """

    def __init__(self, entries: Mapping[Hashable, Entry | Counter], beside: Callable[[], int]) -> None:
        self._entries = entries
        self._beside = beside
        self._tracked = 0
        self._ratio = 1.0
        self._sample: dict[Hashable, None] = {}
        self._step = 1
        self._came = self._changed = 0

    @property
    def bytes(self) -> int:
        """Bytes of all entries with their keys and their places in the table, and of everything beside."""
        return sys.getsizeof(self._entries) + int(self._tracked * self._ratio)

    def added(self, key: Hashable, entry: Entry | Counter) -> None:
        """Count an entry that came. Its list counts as empty until `resized`."""
        self._change()
        self._tracked += _tracked(key, entry)
        self._came += 1
        if self._came % self._step == 0:
            self._sample[key] = None
            if len(self._sample) > SAMPLE:
                self._sample = dict.fromkeys(islice(self._sample, 1, None, 2))
                self._step *= 2

    def removed(self, key: Hashable, entry: Entry | Counter) -> None:
        """Stop counting an entry that is about to go, or just went."""
        self._tracked -= _tracked(key, entry)
        self._sample.pop(key, None)
        if len(self._sample) < SAMPLE // 4 and self._step > 1:
            self._step //= 2
        self._change()

    def resized(self, floats: int) -> None:
        """Count so many floats more in the list of an entry."""
        self._tracked += PER_FLOAT * floats
        self._change()

    def measure(self) -> None:
        """Measure the sample anew, which otherwise happens every 512 changes."""
        self._changed = 0
        tracked = counted = 0
        for key in self._sample:
            entry = self._entries.get(key)
            if entry is not None:
                tracked += _tracked(key, entry)
                counted += counted_bytes(key, entry)
        if tracked:
            self._ratio = counted / tracked + self._beside() / self._tracked

    def _change(self) -> None:
        self._changed += 1
        if self._changed >= EVERY or self._came <= SAMPLE:
            self.measure()


def estimate_bytes(entries: Mapping[Hashable, Entry | Counter]) -> int:
    """Estimate the bytes of untracked entries from 1000 of them, evenly spread in their order."""
    step = max(len(entries) // 1000, 1)
    counted = [counted_bytes(key, entry) for key, entry in islice(entries.items(), None, None, step)]
    return sys.getsizeof(entries) + round(sum(counted) / max(len(counted), 1) * len(entries))


def _tracked(key: Hashable, entry: Entry | Counter) -> int:
    size = sys.getsizeof(entry) + sys.getsizeof(key)
    return size + PER_FLOAT * entry.length


def counted_bytes(key: Hashable, entry: Entry | Counter) -> int:
    """Count the bytes of an entry without its place in the table: itself, its key, and the numbers that no other holds."""
    size = sys.getsizeof(key) + sys.getsizeof(entry)
    numbers: list[object] = [entry.expires_at]
    if isinstance(key, tuple):
        size += sys.getsizeof(key[0])
    if isinstance(entry, Entry):
        s = entry.load()
        numbers += [entry.last_accessed, entry.origin, *s]
        size += sys.getsizeof(s) if len(s) > FEW else 0
    return size + _float_bytes(numbers)


def _float_bytes(numbers: Iterable[object]) -> int:
    each = {id(number) for number in numbers if isinstance(number, float) and number != 0.0}  # zeros are all one
    return sys.getsizeof(1.0) * len(each)
