"""Columns that follow from a trace, made once and kept for the next run on it: candidates share a trace, seeds and links."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sized
from typing import Any, NamedTuple, TypeVar
from weakref import ref

from traffic import Trace

__all__ = ["trace_column"]

MOST = 1 << 28  # bytes that are kept, 256 MB: the draws of eleven million requests

Column = TypeVar("Column", bound=Sized)


class _Kept(NamedTuple):
    trace: ref[Trace]
    subject: Hashable
    column: Any
    size: int


_kept: list[_Kept] = []  # the one that was used last is the last


def trace_column(trace: Trace, subject: Hashable, make: Callable[[], Column]) -> Column:
    """Return what `make` returns for this trace and this subject, or returned before.

    Parameters
    ----------
    trace
        The object itself counts, whatever it is equal to. With it goes what was kept for it.
    subject
        All that the column follows from beside the trace.
    make
        Makes the column: 8 bytes for each element. Nobody may write to it.
    """
    for place, each in enumerate(_kept):
        if each.trace() is trace and each.subject == subject:
            _kept.append(_kept.pop(place))
            column: Column = each.column
            return column
    made = make()
    _kept.append(_Kept(ref(trace, _forget), subject, made, 8 * len(made)))
    while sum(each.size for each in _kept) > MOST:
        del _kept[0]
    return made


def _forget(gone: ref[Trace]) -> None:
    _kept[:] = [each for each in _kept if each.trace is not gone]
