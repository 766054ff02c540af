"""Access to a table of states where its functions are interpreted; compiled they have addresses (`rule_functions`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ratesim.algorithms import Params
from ratesim.simulation.kernel.state_layout import ROW_CREATED_AT, ROW_LIVES, ROW_REQUESTS


def table_row(t: Any, slot: int) -> Any:
    """Return a row."""
    return t.rows[slot * t.stride : (slot + 1) * t.stride]


def table_arena(t: Any) -> Any:
    """Return the floats of growing states."""
    return t.arena


def table_answer(t: Any) -> Any:
    """Return where the numbers of an answer are put."""
    return t.answer


def table_marks(t: Any) -> Any:
    """Return the watermarks."""
    return t.marks


def table_marks_first(t: Any) -> Any:
    """Return the first watermark of each row."""
    return t.marks_first


def table_parameters(t: Any) -> Params:
    """Return the parameters of the limit."""
    return tuple(t.p.tolist())


def table_floats(t: Any) -> Any:
    """Return floats to work on."""
    return np.empty(t.width)


def table_begin(t: Any, slot: int, now: float) -> None:
    """Note that a state begins in a row."""
    row = table_row(t, slot)
    row[ROW_CREATED_AT] = now
    row[ROW_REQUESTS] = 0.0
    row[ROW_LIVES] += 1.0
