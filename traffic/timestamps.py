"""Timestamps as seconds since the epoch: numbers in any usual unit, or ISO 8601 text.

The first timestamps decide by majority whether a column holds numbers, and of which unit. In one log the timestamps are
alike, and a single odd one must not change the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
Seconds = NDArray[np.float64]

PER_SECOND: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
# Where one unit is taken for the next finer one. As seconds 1e11 is in the year 5138; as milliseconds it is in
# March 1973, as are 1e14 microseconds and 1e17 nanoseconds.
FINER_FROM: tuple[tuple[float, TimeUnit], ...] = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (0.0, "s"))
LATEST = 1e11  # seconds from any zero; what lies beyond is no time of a request
NAMES: dict[TimeUnit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


class TimestampParser:
    """Reads one log's timestamps, block by block.

    `unit` is None until the first timestamp has decided it.
    """

    def __init__(self, unit: TimeUnit | None = None) -> None:
        self.unit = unit

    def seconds(self, values: Sequence[Any]) -> Seconds:
        """Convert timestamps to seconds since the epoch; nan where there is none, and for a number beyond 1e11 seconds.

        A fraction of a second is kept as finely as float64 can: 238 ns at today's epoch. Text without an offset is in UTC.
        As in POSIX there are no leap seconds: "23:59:60" is no time.

        Parameters
        ----------
        values : Sequence[Any]
            Text, int or float.

        Returns
        -------
        NDArray[np.float64]
            Seconds, of the same length.
        """
        if self.unit is None:
            numbers_ = numbers(values)
            self._decide(values, numbers_[np.isfinite(numbers_)])
            if self.unit is None:
                return numbers_
        if self.unit == "iso":
            return _iso(values)
        times = numbers(values) / PER_SECOND[self.unit]
        return np.where(np.abs(times) <= LATEST, times, np.nan)

    def _decide(self, values: Sequence[Any], found: Seconds) -> None:
        if len(found) and 2 * len(found) >= len(values):
            middle = float(np.median(np.minimum(np.abs(found), FINER_FROM[0][0])))  # of huge ones the mean overflows
            self.unit = next(unit for least, unit in FINER_FROM if middle >= least)
        elif np.isfinite(_iso(values)).any():
            self.unit = "iso"


def numbers(values: Sequence[Any]) -> Seconds:
    """Convert each value (text, int or float) to a float64; nan for text that is no number, and for "nan"."""
    n = len(values)
    try:
        return np.fromiter(map(float, values), np.float64, n)
    except (ValueError, TypeError, OverflowError):
        return np.fromiter(map(_number, values), np.float64, n)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return np.nan
    except OverflowError:  # an integer of more than 308 digits
        return np.inf


def _iso(values: Sequence[Any]) -> Seconds:
    import pandas as pd

    # Pandas would take "now" and "today", too, and ask the clock.
    text = [v if isinstance(v, str) and v.lstrip()[:1].isdecimal() else None for v in values]
    stamps = pd.to_datetime(pd.Series(text, dtype=object), format="ISO8601", utc=True, errors="coerce")
    times = stamps.dt.tz_localize(None).to_numpy()
    # In two parts, since nanoseconds since the epoch are more than float64 can count.
    whole = times.astype("datetime64[s]")
    seconds = whole.astype(np.int64) + (times - whole) / np.timedelta64(1, "s")
    return np.where(np.isnat(times), np.nan, seconds)
