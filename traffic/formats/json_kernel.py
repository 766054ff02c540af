"""The loop over bytes that finds JSON objects in a text that is not one object per line.

The function is plain Python, and is compiled by numba for blocks that are worth it, as that of the templates is.
"""

from __future__ import annotations

from typing import Any

# What the scan knows between blocks: open brackets; which of them are square (one bit each); whether it looks for a line
# that begins a record, after one that was damaged.
DEPTH, SQUARE, LOST = 0, 1, 2


def find(data: Any, state: Any, level: int, indent: int, last: bool, starts: Any, stops: Any) -> tuple[int, int]:
    """Find the objects inside `level` brackets, the innermost of which is square.

    Parameters
    ----------
    data : bytes or NDArray[np.uint8]
        Text that begins outside of a record and of a string.
    state : list or NDArray[np.int64]
        DEPTH, SQUARE and LOST at the beginning; those where the next block begins, afterwards.
    level : int
        How many brackets are around a record; 0 for objects one after the other.
    indent : int
        A line that begins with so many blanks and an opening brace begins a record, whatever came before; -1 for none.
    last : bool
        Whether a record that is open at the end is lost; otherwise the next block goes on with it.
    starts, stops : list or NDArray[np.int64]
        Room for the places where records begin and end; those of one that is damaged are followed by where it was noticed,
        as a negative number.

    Returns
    -------
    tuple of int
        The number of records, and the place where the next block must begin.
    """
    n = len(data)
    depth, square, lost = state[0], state[1], state[2]
    count = 0
    start = -1
    inside = False  # of a string
    at = 0
    line = True  # at the beginning of a line
    while at < n:
        if line:
            line = False
            p = at
            while p < n and (data[p] == 32 or data[p] == 9):
                p += 1
            begins = p < n and data[p] == 123 and (p - at == indent or (lost == 1 and indent < 0))
            if begins and (start >= 0 or lost == 1 or depth < level):
                if start >= 0:
                    starts[count], stops[count] = start, -at
                    count += 1
                start = -1
                lost = 0
                depth = level
                square = 1 << (level - 1) if level > 0 else 0
                at = p
        byte = data[at]
        if byte == 10:
            line = True
            if inside:  # a string ends on its own line
                inside = False
                if start >= 0:
                    starts[count], stops[count] = start, -at
                    count += 1
                    start = -1
                    lost = 1
        elif lost == 1:
            pass
        elif inside:
            if byte == 92:
                at += 1
                if at < n and data[at] == 10:
                    continue
            elif byte == 34:
                inside = False
        elif byte == 34:
            inside = True
        elif byte == 123 or byte == 91:
            if byte == 123 and start < 0 and depth == level and (level == 0 or (square >> (level - 1)) & 1 == 1):
                start = at
            if depth < 62:
                square = (square | (1 << depth)) if byte == 91 else (square & ~(1 << depth))
            depth += 1
        elif byte == 125 or byte == 93:
            if depth > 0:
                depth -= 1
            if start >= 0 and depth <= level:
                starts[count], stops[count] = start, at + 1
                count += 1
                start = -1
        at += 1
    if start >= 0 and last:
        starts[count], stops[count] = start, -n
        count += 1
        start = -1
    if start >= 0:
        depth = level
        square = 1 << (level - 1) if level > 0 else 0
    state[0], state[1], state[2] = depth, square, lost
    return count, start if start >= 0 else n
