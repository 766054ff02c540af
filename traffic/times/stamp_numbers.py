"""Numbers as times: which unit they count, and from when, by their size."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from traffic.times.stamp_layouts import NAIVE, NOTHING, NUMBER, STAMP, Raw, calendar_seconds

# Of the unit that is given, since 1970 by their size, seconds of the log's own clock, days of Excel, "20240510", no times.
Numbers = Literal["unit", "epoch", "own", "excel", "dates", "none"]

EARLIEST = float(calendar.timegm((1990, 1, 1, 0, 0, 0)))  # what lies outside is no time of a request
LATEST = float(calendar.timegm((2100, 1, 1, 0, 0, 0)))
COARSEST = 3600.0  # seconds; what "1.7E12" was rounded to may be more, and says nothing then
EXCEL_DAYS = (32_874, 73_051)
EXCEL_EPOCH = 25569  # days from Excel's zero, 1899-12-30, to 1970


@dataclass(frozen=True, slots=True)
class Scale:
    """What a number counts: `per` in a second, from `before` seconds before 1970 on."""

    name: str
    per: int
    before: int = 0

    @property
    def range(self) -> tuple[float, float]:
        """The numbers that are times of a request."""
        return (EARLIEST + self.before) * self.per, (LATEST + self.before) * self.per


SECONDS = Scale("seconds since 1970", 1)
# No two ranges overlap but the last two, in 1990: so small as nanoseconds none of today is.
SCALES = (
    SECONDS,
    Scale("milliseconds since 1970", 10**3),
    Scale("microseconds since 1970", 10**6),
    Scale("Windows FILETIME", 10**7, 11_644_473_600),
    Scale(".NET ticks", 10**7, 62_135_596_800),
    Scale("nanoseconds since 1970", 10**9),
)
UNITS = {"s": SCALES[0], "ms": SCALES[1], "us": SCALES[2], "ns": SCALES[5]}
# Year, month, day, hour, minute and second in one number, and with milliseconds.
DIGITS = ((19_900_101_000_000, 20_991_231_235_959, 1), (19_900_101_000_000_000, 20_991_231_235_959_999, 1000))
DATES = (19_900_101, 20_991_231)
# Of numbers since 1970, the upper quartile by the lower one: those of one log, and those of the same unit, 1990 to 2099.
APART, SAME_UNIT = 1.05, 7
DAYS_TOGETHER = 400  # an Excel sheet whose stamps are farther apart is a column of numbers
FEW = 30  # numbers, among which a clock must not go back at all


def sized(whole: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which numbers are times since the epoch, or spell date and time, by their size."""
    ranges = [scale.range for scale in SCALES] + [(first, last + 1) for first, last, _ in DIGITS]
    fits = np.zeros(len(whole), np.bool_)
    for low, high in ranges:
        fits |= (whole >= low) & (whole < high)
    return fits


def by_size(raw: Raw) -> list[Scale]:
    """Turn the numbers that are times since the epoch, by their size in one of the units, into stamps; say in which ones."""
    found = []
    size = raw.whole.astype(np.float64)
    left = raw.kind == NUMBER
    for scale in SCALES:
        low, high = scale.range
        chosen = np.flatnonzero(left & (size >= low) & (size < high))
        if len(chosen):
            in_scale(raw, chosen, scale)
            left[chosen] = False
            found.append(scale)
    by_digits(raw)
    return found


def in_scale(raw: Raw, chosen: NDArray[np.int64], scale: Scale) -> None:
    """Turn the chosen numbers into stamps in UTC, by their scale."""
    whole = raw.whole[chosen] // scale.per
    rest = raw.whole[chosen] - whole * scale.per
    raw.kind[chosen], raw.whole[chosen], raw.east[chosen] = STAMP, whole - scale.before, 0
    raw.fraction[chosen] = (rest + raw.fraction[chosen]) / scale.per
    raw.grain[chosen] /= scale.per
    raw.kind[chosen[raw.grain[chosen] > COARSEST]] = NOTHING


def calendar_digits(raw: Raw, chosen: NDArray[np.int64], per: int) -> None:
    """Turn the chosen numbers that spell year, month, day, hour, minute and second into stamps."""
    rest = raw.whole[chosen] % per
    digits = raw.whole[chosen] // per
    parts = []
    for _ in range(5):
        digits, part = np.divmod(digits, 100)
        parts.append(part)
    second, minute, hour, day, month = parts
    whole, good = calendar_seconds(digits, month, day, hour, minute, second)
    raw.kind[chosen] = np.where(good, STAMP, NOTHING)
    raw.whole[chosen], raw.east[chosen], raw.leap[chosen] = whole, NAIVE, good & (second == 60)
    raw.fraction[chosen] = (rest + raw.fraction[chosen]) / per
    raw.grain[chosen] /= per


def by_digits(raw: Raw) -> None:
    """Turn the numbers that spell date and time into stamps."""
    for first, last, per in DIGITS:
        calendar_digits(raw, np.flatnonzero((raw.kind == NUMBER) & (raw.whole >= first) & (raw.whole <= last)), per)


def as_dates(raw: Raw) -> None:
    """Turn the numbers that spell a date, or date and time, into stamps."""
    by_digits(raw)
    first, last = DATES
    chosen = np.flatnonzero((raw.kind == NUMBER) & (raw.whole >= first) & (raw.whole <= last))
    raw.whole[chosen] *= 1_000_000
    calendar_digits(raw, chosen, 1)
    raw.grain[chosen] = 86400.0


def as_excel(raw: Raw, chosen: NDArray[np.int64]) -> None:
    """Turn the chosen numbers, which count days since 1899-12-30, into stamps; Excel counts to the millisecond."""
    first, last = EXCEL_DAYS
    chosen = chosen[(raw.whole[chosen] >= first) & (raw.whole[chosen] < last)]
    milliseconds = np.rint(raw.fraction[chosen] * 86_400_000).astype(np.int64)
    raw.kind[chosen], raw.east[chosen] = STAMP, NAIVE
    raw.whole[chosen] = (raw.whole[chosen] - EXCEL_EPOCH) * 86400 + milliseconds // 1000
    raw.fraction[chosen] = milliseconds % 1000 / 1000
    raw.grain[chosen] *= 86400.0


def what_they_are(raw: Raw, chosen: NDArray[np.int64]) -> Numbers:
    """Find what the chosen numbers of a column are, by their sizes and their order."""
    whole, values = raw.whole[chosen], raw.whole[chosen] + raw.fraction[chosen]
    n = len(chosen)
    if np.count_nonzero(raw.kind == STAMP) >= n:
        return "epoch"
    fits = sized(whole)
    if 2 * np.count_nonzero(fits) >= n:
        low, high = np.quantile(whole[fits], (0.25, 0.75))
        return "none" if APART * low < high < SAME_UNIT * low and not _is_clock(values[fits]) else "epoch"
    first, last = DATES
    if 10 * np.count_nonzero((whole >= first) & (whole <= last) & (whole % 100 <= 31) & (whole // 100 % 100 <= 12)) >= 9 * n:
        return "dates"
    first, last = EXCEL_DAYS
    if (
        10 * np.count_nonzero((whole >= first) & (whole < last)) >= 9 * n
        and 2 * np.count_nonzero(raw.fraction[chosen]) >= n
        and np.ptp(values) < DAYS_TOGETHER
    ):
        return "excel"
    return "own" if _is_clock(values) else "none"


def _is_clock(values: NDArray[np.float64]) -> bool:
    """Whether small numbers go on like a clock: a few never back, many ahead in nine of ten pairs half of them apart."""
    if len(values) > 2 and values[0] and not np.ptp(values):
        return False
    step = 1 if len(values) < FEW else len(values) // 2
    ahead = values[step:] >= values[:-step]
    return bool(ahead.all() if step == 1 else ahead.mean() > 0.9)
