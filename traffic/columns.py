"""The columns of a trace, checked: each function returns the column in its type, or raises a TraceError that names it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traffic.provenance import TraceError


class Columns(NamedTuple):
    """The columns of a `Trace`, in order of time, all of the same length."""

    time: NDArray[np.float64]
    key: NDArray[np.int64]
    cost: NDArray[np.float64]
    session: NDArray[np.int64]
    endpoint: NDArray[np.int32]
    status: NDArray[np.uint16] | None
    grain: NDArray[np.float32]
    keys: tuple[str, ...]

    @property
    def duration(self) -> float:
        """Seconds from the first request to the last."""
        return float(self.time[-1] - self.time[0]) if len(self.time) else 0.0


def _column(name: str, values: ArrayLike, n: int | None) -> NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise TraceError(f"{name}: must be one column, got {column.ndim} dimensions")
    if n is not None and len(column) != n:
        raise TraceError(f"{name}: has {len(column)} rows where time has {n}")
    if column.dtype.kind not in "iuf":
        raise TraceError(f"{name}: must be numbers, got {column.dtype}")
    return column


def reals(name: str, values: ArrayLike, n: int | None) -> NDArray[np.float64]:
    """Return finite numbers as float64, of length n if n is given."""
    column = _column(name, values, n).astype(np.float64, copy=False)
    if not np.isfinite(column).all():
        raise TraceError(f"{name}: row {int(np.argmin(np.isfinite(column)))} is not a finite number")
    return column


def integers(name: str, values: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return n whole numbers as int64."""
    column = _column(name, values, n)
    if n and column.dtype.kind == "f":
        raise TraceError(f"{name}: must be whole numbers, got {column.dtype}")
    return column.astype(np.int64, copy=False)


def indices(name: str, values: ArrayLike, n: int, names: int) -> NDArray[np.int64]:
    """Return n indices into `names` names as int64."""
    column = integers(name, values, n)
    if n and not 0 <= column.min() <= column.max() < names:
        raise TraceError(f"{name}: must be an index into {names} names, got {column.min()} to {column.max()}")
    return column


def codes(name: str, values: ArrayLike, n: int) -> NDArray[np.uint16]:
    """Return n status codes, from 100 to 999 or 0 for none, as uint16."""
    column = integers(name, values, n)
    bad = (column != 0) & ((column < 100) | (column > 999))
    if bad.any():
        raise TraceError(f"{name}: must be from 100 to 999, or 0 for none, got {column[np.argmax(bad)]}")
    return column.astype(np.uint16, copy=False)


def lengths(name: str, values: ArrayLike, n: int) -> NDArray[np.float32]:
    """Return n lengths >= 0 as float32; where all are alike it is one value, broadcast."""
    column = np.asarray(np.broadcast_to(values, n) if np.ndim(values) == 0 else reals(name, values, n), np.float32)
    if n and column.min() < 0:
        raise TraceError(f"{name}: must be >= 0, got {column.min():g}")
    return np.broadcast_to(column[0], n) if n and column.min() == column.max() else column


def default_grain(time: NDArray[np.float64]) -> float:
    """Return the grain of stamps of which nothing else is known: a second where all are whole seconds, else 0."""
    return 0.0 if np.any(time % 1.0) else float(len(time) > 0)


def check_names(column: str, names: tuple[str, ...]) -> None:
    """Raise TraceError unless the names are distinct texts."""
    if not all(issubclass(each, str) for each in set(map(type, names))):
        raise TraceError(f"{column}: names must be text")
    if len(set(names)) != len(names):
        raise TraceError(f"{column}: names must be distinct")
