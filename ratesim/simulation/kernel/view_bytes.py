"""The bytes of the nodes' views at the end of a run: `engine.node_memory`."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.simulation.engine.node_memory import entry_bytes, every, table_bytes, tables_of
from ratesim.simulation.kernel.state_layout import (
    ROW_ACCESSED_AT,
    ROW_CREATED_AT,
    ROW_EXPIRES_AT,
    ROW_HEADER,
    ROW_LIVES,
)
from ratesim.simulation.kernel.states import StateTable
from ratesim.state import AlgorithmData
from ratesim.storage.memory.entry import FEW

__all__ = ["view_bytes"]


def view_bytes(
    limit: Limit, keys: Sequence[str], nodes: int, views: StateTable, arrays: Mapping[str, NDArray[Any]], logged: int
) -> NDArray[np.int64]:
    """Return the bytes of each node's entries, shape (nodes,).

    Parameters
    ----------
    limit, keys, nodes
        The limit, the names of the keys, and the number of nodes.
    views, arrays
        The views, and the arrays of the world.
    logged
        How many entries of `there_log` are in use.
    """
    replicas, log = arrays["replicas"], arrays["there_log"][:logged]
    there = np.flatnonzero(replicas["there"])
    there = there[np.argsort(replicas["touched"][there])]  # in the order of their use
    mine = [there[replicas["node"][there] == number] for number in range(nodes)]
    if (log < 0).any():
        tables = [_table(keys, replicas, log[replicas["node"][np.abs(log) - 1] == number]) for number in range(nodes)]
    else:
        tables = tables_of(keys, [len(entries) for entries in mine])
    found, more = [], _more_bytes(limit)
    for table, entries in zip(tables, mine, strict=True):
        some = entries[:: every(len(entries))]
        rows = views.rows[some]
        numbers = rows[:, [ROW_EXPIRES_AT, ROW_CREATED_AT, ROW_ACCESSED_AT]]
        stored = rows[:, ROW_LIVES] == replicas["stored_life"][some]
        numbers[stored & (replicas["marked"][some] > 0), 1] = 0.0  # a view with watermarks has an object for it
        counted = entry_bytes(limit, np.hstack([numbers, rows[:, ROW_HEADER:]])) + more * stored
        counted += np.array([sys.getsizeof(keys[key]) for key in replicas["key"][some].tolist()], np.int64)
        found.append(table_bytes(table, counted.tolist(), len(entries)))
    return np.array(found, np.int64)


def _more_bytes(limit: Limit) -> int:
    """Return by how many bytes the list of a state that was stored is longer than that of a fresh one."""
    algorithm, _, size, _ = bind(limit)
    fresh = [0.0] * (size or 0)
    if len(fresh) <= FEW:
        return 0
    values = AlgorithmData.of(algorithm.name, algorithm.stored(fresh)).values()
    return sys.getsizeof(algorithm.working(values)) - sys.getsizeof(fresh)


def _table(keys: Sequence[str], replicas: NDArray[Any], log: NDArray[np.int64]) -> int:
    """Return the bytes of a table after these additions (a pair + 1) and removals (the same, negative)."""
    table: OrderedDict[str, None] = OrderedDict()
    names = [keys[key] for key in replicas["key"][np.abs(log) - 1].tolist()]
    for name, added in zip(names, (log > 0).tolist(), strict=True):
        if added:
            table[name] = None
        else:
            del table[name]
    return sys.getsizeof(table)
