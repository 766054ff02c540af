"""Status codes of log lines as numbers; 0 for a line without one.

A log of a service that limits holds its answers 429 (https://www.rfc-editor.org/rfc/rfc6585#section-4). They are the trace
of the demand that was refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATUS_NAMES = ("status", "status_code", "code")
TOO_MANY = 429
# A log has a few dozen distinct codes; a column that is none, but is called so, may have millions of values.
VALUES_KEPT = 10_000


class Statuses(dict[Any, int]):
    """The code of each value: a number from 100 to 999, given as text or as a number, else 0."""

    __slots__ = ()

    def __missing__(self, value: Any) -> int:
        code = _code(value)
        if len(self) < VALUES_KEPT:
            self[value] = code
        return code

    def numbers(self, values: Iterable[Any], n: int) -> NDArray[np.uint16]:
        """Give the code of each of the n values."""
        return np.fromiter(map(self.__getitem__, values), np.uint16, n)


def status_field(selected: str | None, known: Sequence[str]) -> str | None:
    """Choose the field of the status: the selected one, or else the only one with a usual name of statuses, in any case."""
    if selected is not None:
        return selected
    lower = [name.lower() for name in known]
    return next((known[lower.index(name)] for name in STATUS_NAMES if lower.count(name) == 1), None)


def hashable(values: Sequence[Any]) -> list[Any]:
    """Replace lists and objects, which are never a status, by None."""
    return [None if isinstance(value, list | dict) else value for value in values]


def _code(value: Any) -> int:
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return 0
    return int(number) if 100 <= number <= 999 and number.is_integer() else 0
