"""Tables of states, one row for each key, or each node and key: what `MemoryStorage` holds as entries.

A row (`state_layout`) has a header and a state of fixed length, or where in the arena of the table a growing state lies. A
row of zeros holds nothing. `rule_functions` has the functions that read and write it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.simulation.kernel.state_layout import MARK, ROW_BEGIN, ROW_GROWING, ROW_HEADER, ROW_LENGTH, TABLE

__all__ = ["StateTable"]


class StateTable:
    """The memory of a table of states.

    Parameters
    ----------
    limit
        The limit of all its states.
    slots
        Rows.
    skew
        Seconds that a state may be ahead of a request; the period of the limit where that is less.
    arena
        Floats for growing states.
    nodes, marks
        Nodes that write to it by `apply`, and pairs of a row and a node for which there is room.

    Attributes
    ----------
    limit
        The limit of all its states.
    answer
        The numbers of the last answer that was asked for, shape (4,).
    rows
        The rows, shape (slots, floats of a row).
    """

    def __init__(self, limit: Limit, slots: int, skew: float, arena: int = 1 << 16, nodes: int = 0, marks: int = 0) -> None:
        bound = bind(limit)
        stride = ROW_GROWING if bound.size is None else ROW_HEADER + bound.size
        places = 1 << max(marks + marks // 2, 1).bit_length() if nodes else 0
        self.limit = limit
        self.rows = np.zeros((slots, stride))
        self.answer = np.zeros(4)
        self._p = np.array(bound.params)
        self._arena = np.zeros(arena if bound.size is None else 0)
        self._marks = np.zeros(places, MARK)
        self._marks_first = np.zeros(slots if nodes else 0, np.int64)
        self._record = np.zeros(1, TABLE)
        self._plain = SimpleNamespace(
            rows=self.rows.reshape(-1),
            stride=stride,
            width=bound.size if bound.head is None else bound.head,
            p=self._p,
            skew=min(skew, limit.period),
            answer=self.answer,
            arena=self._arena,
            used=0,
            capacity=len(self._arena),
            marks=self._marks.view(np.recarray),
            marks_first=self._marks_first,
            marks_mask=places - 1,
            marks_used=0,
            marks_nodes=nodes,
            exhausted=0,
            upto=0.0,
            before=0.0,
            known=0.0,
            part=0,
            delivered=0,
        )
        for name in TABLE.names or ():
            value = getattr(self._plain, name)
            self._record[name] = value.ctypes.data if isinstance(value, np.ndarray) else value

    @property
    def address(self) -> int:
        """The address of its record, for the compiled functions. It holds as long as this object lives."""
        return self._record.ctypes.data

    @property
    def plain(self) -> Any:
        """The same record for interpreted functions. A table is used by one or the other."""
        return self._plain

    @property
    def exhausted(self) -> int:
        """What was too small in the end: TABLE_ARENA, TABLE_MARKS or 0. The answers since mean nothing."""
        return int(self._record["exhausted"][0]) | int(self._plain.exhausted)

    def state(self, slot: int) -> NDArray[np.float64]:
        """Return the state in a row as it is worked on."""
        row = self.rows[slot]
        if not len(self._arena):
            return row[ROW_HEADER:]
        begin = int(row[ROW_BEGIN])
        return self._arena[begin : begin + int(row[ROW_LENGTH])]

    def marks(self, slot: int, life: float) -> list[tuple[int, int, float]]:
        """List node, epoch and consumption of the watermarks of a life of a row, in the order in which they came."""
        found, place, nodes = [], int(self._marks_first[slot]), int(self._plain.marks_nodes)
        while place > 0:
            mark = self._marks[place - 1]
            if mark["life"] == life:
                found.append((int(mark["of"] - 1) % nodes, int(mark["epoch"]), float(mark["consumed"])))
            place = int(mark["next"])
        return found[::-1]
