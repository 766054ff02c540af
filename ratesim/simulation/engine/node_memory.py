"""The bytes that a node's own entries take, as they would in a process that has decided the same.

They follow from the values of the states, so that every engine finds the same: equal numbers of an entry count once. Which
of them are one object depends on the interpreter; in a log, all requests of the usual cost share one.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import Algorithm, bind
from ratesim.limit import Limit
from ratesim.storage import HybridStorage, MemoryStorage, RateLimitStorage
from ratesim.storage.memory.entry import FEW, Counter, Entry, entry_class

__all__ = ["entry_bytes", "every", "growing_bytes", "node_bytes", "table_bytes", "tables_of"]

SAMPLE = 1000  # entries of a node whose bytes are counted, evenly spread in their order
FLOAT = sys.getsizeof(1.0)


def node_bytes(storage: RateLimitStorage) -> int:
    """Return the bytes of a node's own entries, 0 where it has none.

    Where they are limited, or an eviction policy has records of its own, they are what the storage itself counts.
    """
    memory = storage.l1 if isinstance(storage, HybridStorage) else storage
    if not isinstance(memory, MemoryStorage):
        return 0
    if memory.config.memory_limit is not None or memory.config.eviction_policy != "LRU":
        return memory.get_stats_nowait().bytes
    entries = memory.entries
    some = islice(entries.items(), None, None, every(len(entries)))
    return table_bytes(sys.getsizeof(entries), [_entry_bytes(key, entry) for key, entry in some], len(entries))


def every(entries: int) -> int:
    """Return the step from one entry that is counted to the next."""
    return max(entries // SAMPLE, 1)


def table_bytes(table: int, counted: Sequence[int], entries: int) -> int:
    """Return the bytes of a table of so many entries, of which these were counted."""
    return table + round(sum(counted) / max(len(counted), 1) * entries)


def _entry_bytes(key: Hashable, entry: Entry | Counter) -> int:
    size = sys.getsizeof(key) + sys.getsizeof(entry)
    numbers: list[object] = [entry.expires_at]
    if isinstance(key, tuple):
        size += sys.getsizeof(key[0])
    if isinstance(entry, Entry):
        s = entry.load()
        numbers += [entry.last_accessed, entry.origin, *_floats_of(entry.algorithm, s)]
        size += sys.getsizeof(s) if len(s) > FEW else 0
    return size + FLOAT * len({number for number in numbers if isinstance(number, float) and number != 0.0})


def _floats_of(algorithm: Algorithm, s: list[float]) -> list[float]:
    """Return the floats of a state: of a ring, all but its places and its count, which are whole numbers."""
    if algorithm.variable_size is None:
        return s
    return s[: len(algorithm.rule.FIELDS) - 1] + s[algorithm.variable_size.HEAD :]


def entry_bytes(limit: Limit, rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bytes of entries without their keys.

    Parameters
    ----------
    limit
        The limit, whose states do not grow.
    rows
        Of each entry when it expires, when it was written and made, and its state; shape (entries, 3 + size).
    """
    algorithm, _, size, _ = bind(limit)
    assert size is not None
    fixed = sys.getsizeof(entry_class(algorithm, size)(0.0)) + (sys.getsizeof([0.0] * size) if size > FEW else 0)
    ordered = np.sort(rows, axis=1)
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0.0)
    numbers: NDArray[np.int64] = np.count_nonzero(ordered, axis=1) - np.count_nonzero(again, axis=1)
    return fixed + FLOAT * numbers


def growing_bytes(limit: Limit, numbers: NDArray[np.float64], states: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Return the bytes of entries without their keys, of a limit whose states grow.

    Parameters
    ----------
    limit
        The limit.
    numbers
        Of each entry when it expires, when it was made and written, shape (entries, 3).
    states
        The state of each as it is worked on.
    """
    algorithm = bind(limit).algorithm
    lists, fixed = _list_bytes(limit, max(map(len, states), default=0)), sys.getsizeof(entry_class(algorithm, None)(0.0))
    found = []
    for beside, state in zip(numbers.tolist(), states, strict=True):
        values = {*beside, *_floats_of(algorithm, state.tolist())} - {0.0}
        found.append(fixed + lists[len(state)] + FLOAT * len(values))
    return np.array(found, np.int64)


def _list_bytes(limit: Limit, longest: int) -> dict[int, int]:
    """Return the bytes of the list of a state that has grown to a length, by length."""
    rule, p = bind(limit).algorithm.rule, bind(limit).params
    s = [0.0] * rule.size(p)
    rule.start(s, p, 0.0)
    sizes, now = {len(s): sys.getsizeof(s)}, 0.0
    while len(s) < longest:
        now += 1.0
        rule.charge(s, p, 1.0, now)
        sizes[len(s)] = sys.getsizeof(s)
    return sizes


def tables_of(keys: Sequence[str], entries: Sequence[int]) -> list[int]:
    """Return the bytes of the tables of so many entries each, whose keys are some of these."""
    table: OrderedDict[str, None] = OrderedDict()
    sizes, rest = {0: sys.getsizeof(table)}, iter(keys)
    for many in sorted(set(entries)):
        table.update(dict.fromkeys(islice(rest, many - len(table))))
        sizes[many] = sys.getsizeof(table)
    return [sizes[many] for many in entries]
