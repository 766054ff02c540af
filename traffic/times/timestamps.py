"""Times of requests: `TimeReader` turns a column of stamps, in any form that logs have, into seconds since the epoch.

Each stamp is read by itself, so a column may mix forms, as two logs in one file do. What a single stamp leaves open is
decided once, by the first ones: whether "10/05/2024" is in May or in October, and whether small numbers are seconds of the
log's own clock, days of Excel, or durations, which are no times. Whatever was decided without evidence is said in `notes`.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.provenance import TrafficError, printable
from traffic.times import local_time, stamp_numbers
from traffic.times.grain import coarsen, strays
from traffic.times.stamp_columns import read_column
from traffic.times.stamp_forms import NUMBER as NUMBER_FORM
from traffic.times.stamp_forms import OPEN, YEARLESS, ZONES, Order, known_forms, match
from traffic.times.stamp_layouts import NAIVE, NUMBER, STAMP, Raw
from traffic.times.stamp_numbers import EARLIEST, LATEST, SECONDS, UNITS, Numbers, what_they_are

__all__ = ["TIME_UNITS", "Judgement", "Stamps", "TimeError", "TimeReader", "TimeUnit", "coarsen", "strays"]

TimeUnit = Literal["s", "ms", "us", "ns", "iso", "excel", "dmy", "mdy", "ymd"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
Seconds = NDArray[np.float64]
Mask = NDArray[np.bool_]

SAMPLE = 10_000  # values that decide
FIRST = 200  # of those, and if none of them can be read the field is no time
DAY = 86400
# In the order in which they are assumed where nothing tells. The last one is of years of two digits only.
ORDERS: dict[Order, str] = {"mdy": "month/day/year", "dmy": "day/month/year", "ymd": "year/month/day"}
GUESSED = {scale.name for scale in stamp_numbers.SCALES} - {SECONDS.name}
SHOWN = 60  # characters of a value


class TimeError(TrafficError):
    """Stamps contradict what was decided by the first ones. The message names a value and the remedy."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """Times of requests.

    Attributes
    ----------
    seconds : NDArray[np.float64]
        Seconds since the epoch, or since the zero of the log's own clock; nan where there is no time. Shape (n,).
    grain : NDArray[np.float32]
        Seconds within which each lies, as far as its text tells: 60 for "06:25", 0.001 for "06:25:24.512"; 0 for floats of a
        binary column. Shape (n,).
    """

    seconds: Seconds
    grain: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a field can be the time.

    Attributes
    ----------
    share : float
        Share of the values, from 0 to 1, that are times of requests.
    form : str
        The form that most of them have, as sentences call it ("ISO 8601 with fraction"); empty if none is a time.
    grain : float
        Seconds within which the finest tenth of them lie; inf if none is a time.
    own_clock : bool
        Whether they are seconds of a clock of the log's own, whose zero is unknown: small numbers that do not go back. A
        counter looks alike, so such a field is the time only if it is called so.
    """

    share: float
    form: str
    grain: float
    own_clock: bool


class TimeReader:
    """Reads the stamps of one field of one source.

    `learn` decides, by the first values, what they leave open; without it the first `read` does. After that `read` may be
    called by several threads, for blocks in any order. `judge` decides nothing, so that one reader can judge many fields.

    Parameters
    ----------
    unit : {"s", "ms", "us", "ns", "iso", "excel", "dmy", "mdy", "ymd"}, optional
        What numbers count: seconds, milli-, micro- or nanoseconds (since 1970, or from a zero of the log's own), or days of
        Excel. "iso": numbers only spell a date. "dmy", "mdy", "ymd": the order of the numbers in "10/05/24".
        None decides by the values.
    zone : tzinfo, optional
        Where the clock stood that wrote stamps without a zone. None is UTC, which `notes` then says.
    """

    def __init__(self, unit: TimeUnit | None = None, zone: tzinfo | None = None) -> None:
        self.unit = unit
        self.zone = zone
        self._numbers: Numbers | None = None
        if unit in UNITS:
            self._numbers = "unit"
        elif unit in ("iso", "excel"):
            self._numbers = "dates" if unit == "iso" else "excel"
        self._order: Order | None = unit if unit in ORDERS else None
        self._order_why = ""  # empty where the values, or the caller, leave no other
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()  # of what `notes` tells

    def judge(self, values: pa.Array) -> Judgement:
        """Tell whether these values, the first of a field, can be times of requests.

        Parameters
        ----------
        values : pa.Array
            Of any type; those that hold no times have a share of 0. The first 10,000 are looked at.

        Returns
        -------
        Judgement
            Share, form and grain. Nulls count as values that are no times.
        """
        reader = TimeReader(self.unit, self.zone)
        if not TimeReader(self.unit)._raw(values[:FIRST]).kind.any():  # text of another kind, which takes long to be sure of
            values = values[:FIRST]
        raw = reader._raw(values[:SAMPLE])
        reader._decide(raw)
        return reader._judge(raw)

    def learn(self, values: pa.Array) -> None:
        """Decide by these values, the first of the field, what is still open."""
        self._decide(self._raw(values))

    def _judge(self, raw: Raw) -> Judgement:
        forms = Counter(raw.forms)
        stamps, scales, free = self._resolve(raw)
        good = np.isfinite(stamps.seconds)
        if not good.any():
            return Judgement(0.0, "", float("inf"), False)
        grain = float(np.quantile(stamps.grain[good], 0.1, method="lower"))
        own = bool(2 * np.count_nonzero(free & (stamps.seconds < EARLIEST)) > np.count_nonzero(good))
        form = forms.most_common(1)[0][0]
        if form == NUMBER_FORM.name:
            form = self._number_form(scales, own)
        elif form == OPEN.name:
            form = ORDERS[self._order or "mdy"]
        if 0 < grain < 1 and NUMBER_FORM.name not in raw.forms:
            form += " with fraction"
        return Judgement(float(good.mean()), form, grain, own)

    def read(self, values: pa.Array) -> Stamps:
        """Read a column of stamps.

        A leap second, "23:59:60", is the second after it. What lies outside the years 1990 to 2099 is no time, except for
        numbers of the log's own clock or of a unit that was given.

        Parameters
        ----------
        values : pa.Array
            Text, integers, floats, decimals, timestamps or dates, or a dictionary of them. Nulls are no times.

        Returns
        -------
        Stamps
            Of the same length.

        Raises
        ------
        TimeError
            If a stamp has the day where nothing but an assumption says that the month is.
        """
        raw = self._raw(values)
        self._decide(raw)
        stamps, _, _ = self._resolve(raw, count=True)
        self._check_order(values, stamps)
        return stamps

    def settle(self, seconds: Seconds) -> Seconds:
        """Tell apart the times that exist twice, when a clock is set back, by the order of all lines of the source.

        Parameters
        ----------
        seconds : NDArray[np.float64]
            What `read` gave for all blocks of the source, in the order of its lines.

        Returns
        -------
        NDArray[np.float64]
            The same but for times that are now known to be the second ones. `notes` counts those that stay undecided.
        """
        if self.zone is None or not self._seen["naive"]:
            return seconds
        seconds, undecided = local_time.settle(seconds, self.zone)
        self._seen["twice"] += undecided
        return seconds

    def notes(self) -> tuple[str, ...]:
        """Say what was assumed of the stamps read so far, a sentence each, without the name of the field."""
        seen, zone = self._seen, printable(str(self.zone))
        said = []
        if self._order_why:
            said.append(
                f"day and month are read in the order {self._order}, {self._order_why}; --time-unit may say dmy, mdy or ymd"
            )
        if seen["own"]:
            said.append("numbers are small and do not go back: seconds of the log's own clock; --time-unit says what else")
        if seen["excel"] and self.unit is None:
            said.append("numbers are read as days of Excel, since 1899-12-30; --time-unit says what else")
        if seen["naive"] and self.zone is None:
            said.append(f"stamps without a zone are read as UTC ({seen['naive']}); --time-zone names another")
        said += [f"numbers are read as {name} by their size" for name in sorted(seen) if name in GUESSED]
        if seen["gap"]:
            said.append(f"stamps that the clock of {zone} left out, set forward, are read as if it were not ({seen['gap']})")
        if seen["twice"]:
            said.append(f"stamps that the clock of {zone} showed twice, set back, are read as the first ({seen['twice']})")
        return tuple(said)

    def unreadable(self, field: str, values: pa.Array) -> str:
        """Say in one sentence why values of a field are no times; it names the field, a value and the known forms."""
        stamps = self.read(values)
        bad = np.flatnonzero(np.isnan(stamps.seconds) & values.is_valid().to_numpy(zero_copy_only=False))
        known = f"the forms known are {', '.join(known_forms())}"
        if not len(bad):
            return f"field '{printable(field)}' has no values; {known}"
        value = str(values[int(bad[0])].as_py())
        return f"field '{printable(field)}' has no time in '{printable(value[:SHOWN])}': {self._reason(value)}; {known}"

    def _reason(self, value: str) -> str:
        found = match(value.encode("utf-8", "replace"))
        if found is None:
            dateless = match(b"2024-05-10 " + value.encode("utf-8", "replace"))
            return "it has no date; --time date+time joins two fields" if dateless else "its form is unknown"
        form, parts = found
        zone = (parts.groupdict().get("zone") or b"").decode().upper()
        if form is YEARLESS:
            return "it has no year, so put one before it"
        if zone and zone not in ZONES:
            return f"the zone {zone} has several meanings, so say where the clock stood with --time-zone Area/City"
        if form is NUMBER_FORM and self.unit in UNITS:
            return f"as {UNITS[str(self.unit)].name} it is beyond the year 2099; --time-unit may say another unit"
        if form is NUMBER_FORM:
            if self._numbers == "none":
                return "small numbers that go up and down are durations, unless --time-unit says what they count"
            return "the number is in none of the years 1990 to 2099 in any unit, or rounded to more than an hour"
        return "there is no such day or hour in the years 1990 to 2099"

    def _raw(self, values: pa.Array) -> Raw:
        """Read what the values say by themselves, in the order of day and month that is decided or, now, found."""
        order = self._order
        raw = read_column(values, order or "mdy")
        if order or not raw.undecided.any():
            return raw
        read: dict[Order, Raw] = {each: raw if each == "mdy" else read_column(values, each) for each in ORDERS}
        with self._lock:
            if self._order is None:
                self._decide_order(read)
            return read[self._order or "mdy"]

    def _decide_order(self, read: dict[Order, Raw]) -> None:
        """Choose the order in which most stamps have a calendar day, or else are in order, or else are close together."""
        dates = {order: int(np.count_nonzero(raw.kind == STAMP)) for order, raw in read.items()}
        left = [order for order in read if dates[order] == max(dates.values())]
        both = np.logical_and.reduce([read[order].undecided & (read[order].kind == STAMP) for order in left])
        whole = {order: read[order].whole[both] for order in left}
        back = {order: int(np.count_nonzero(np.diff(times) < 0)) for order, times in whole.items()}
        days = {order: int(np.ptp(times)) // DAY if len(times) else 0 for order, times in whole.items()}
        why = ""
        for reason, count in (
            ("in which the stamps go back less often", back),
            ("in which the days follow one another", days),
        ):
            best = [order for order in left if count[order] == min(count[each] for each in left)]
            if len(best) < len(left):
                left, why = best, reason
        self._order, self._order_why = left[0], "though no stamp says so" if len(left) > 1 else why

    def _check_order(self, values: pa.Array, stamps: Stamps) -> None:
        """Refuse stamps that fit only the other order, if nothing but order or closeness decided for this one."""
        if not self._order_why:
            return
        bad = np.flatnonzero(np.isnan(stamps.seconds))
        others = [read_column(values.take(pa.array(bad)), order) for order in ORDERS if order != self._order]
        against = bad[np.logical_or.reduce([other.undecided & (other.kind == STAMP) for other in others])]
        if len(against):
            value = printable(values[int(against[0])].as_py()[:SHOWN])
            contradiction = f"{value!r} contradicts the order {self._order}, which was assumed by the first stamps"
            raise TimeError(f"{contradiction}; give --time-unit dmy, mdy or ymd")

    def _decide(self, raw: Raw) -> None:
        """Find what numbers are, if there are any and it is not known."""
        numbers = raw.kind == NUMBER
        if self._numbers is not None or not numbers.any():
            return
        with self._lock:
            if self._numbers is None:
                self._numbers = what_they_are(raw, np.flatnonzero(numbers))

    def _resolve(self, raw: Raw, count: bool = False) -> tuple[Stamps, list[str], Mask]:
        """Turn what was read into times; tells also the scales of its numbers, and which are free to be of any year."""
        chosen = np.flatnonzero(raw.kind == NUMBER)
        free = np.zeros(len(raw), np.bool_)
        scales = []
        if len(chosen):
            if self._numbers in ("unit", "own"):
                stamp_numbers.in_scale(raw, chosen, UNITS.get(str(self.unit), SECONDS))
                free[chosen] = True
                if self._numbers == "own" and raw.fraction[chosen].any():
                    raw.grain[chosen] = 0.0  # "0.5" is as exact as the "0.123456" beside it
            elif self._numbers == "epoch":
                scales = [scale.name for scale in stamp_numbers.by_size(raw)]
            elif self._numbers == "excel":
                stamp_numbers.as_excel(raw, chosen)
            elif self._numbers == "dates":
                stamp_numbers.as_dates(raw)
        good = raw.kind == STAMP
        gap = 0
        naive = good & (raw.east < NAIVE + 1 + len(raw.zones))
        for east, name in enumerate(("", *raw.zones), NAIVE):
            rows = np.flatnonzero(good & (raw.east == east))
            if len(rows):
                raw.whole[rows], missing, known = local_time.to_utc(raw.whole[rows], self.zone or UTC, name)
                good[rows] = known
                gap += int(np.count_nonzero(missing))
        raw.whole[~naive] -= raw.east[~naive]
        good &= ~raw.leap | (raw.whole % DAY == 0)
        good &= (raw.whole < LATEST) & (raw.whole >= np.where(free, -LATEST, EARLIEST))
        if count:
            with self._lock:
                self._seen["naive"] += int(np.count_nonzero(naive & good))
                self._seen["gap"] += gap
                self._seen.update(dict.fromkeys(scales, 1))
                if len(chosen) and self._numbers in ("own", "excel"):
                    self._seen[self._numbers] += len(chosen)
        return Stamps(np.where(good, raw.whole + raw.fraction, np.nan), raw.grain), scales, free

    def _number_form(self, scales: list[str], own: bool) -> str:
        if own:
            return "seconds of the log's own clock" if self.unit is None else "the log's own clock"
        named = {"excel": "days of Excel", "dates": "digits of a date"}
        if self._numbers == "unit":
            return UNITS[str(self.unit)].name
        return named.get(str(self._numbers)) or (scales[0] if scales else "digits of date and time")
