"""Stamps by the million: what the first stamp of a kind says where its digits are is applied to all that look like it.

A layout knows for each byte of a stamp whether it is a digit, and of what, or must be as in the first one. Thousands of
stamps of the same length lie in a matrix of bytes, and a handful of operations on its columns read them all. What fits no
layout is read one by one by `traffic.times.stamp_forms`.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.times import stamp_forms
from traffic.times.stamp_forms import DAY, FIRST_YEAR, LAST_YEAR, MAX_EAST, PRECISE, WIDEST, Order

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

NOTHING, STAMP, NUMBER = 0, 1, 2  # kinds of what was read
NAIVE = -(2**31)  # as seconds east: the stamp does not say; those of named zones count on from it
CHUNK = 1 << 13  # stamps at a time: their bytes, turned round, stay in the second cache
MOST_ZONES = 50  # of a block, whose names do not say what they mean
LAYOUTS = 48  # of a block; a column with more is not worth a layout each

# Days since the epoch of the first of each month, and its length, by (year - FIRST_YEAR) * 12 + month - 1.
_MONTHS = [(year, month) for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in range(1, 13)]
_FIRST_DAY = np.array([f"{year}-{month:02}-01" for year, month in _MONTHS], "datetime64[D]").astype(np.int32)
_LENGTH = np.array([calendar.monthrange(year, month)[1] for year, month in _MONTHS], np.uint8)
_MONTH_OF = np.zeros(1 << 15, np.uint8)  # by the lower five bits of three letters
for _number, _name in enumerate(stamp_forms.MONTHS, 1):
    _letters = [ord(letter) & 31 for letter in _name[:3]]
    _MONTH_OF[_letters[0] << 10 | _letters[1] << 5 | _letters[2]] = _number


@dataclass(frozen=True, slots=True)
class Raw:
    """What a column of stamps says, before it is known what its numbers count and where its clock stands.

    Attributes
    ----------
    kind : NDArray[np.uint8]
        NOTHING, STAMP or NUMBER, shape (n,).
    whole : NDArray[np.int64]
        Whole seconds since the epoch as if the clock were in UTC, or the whole part of a number.
    fraction : NDArray[np.float64]
        The rest of it.
    grain : NDArray[np.float32]
        Seconds, or units of the number, within which it lies.
    east : NDArray[np.int64]
        Seconds that the clock of a stamp is ahead of UTC; NAIVE if it does not say, NAIVE + 1 + i if it is in zones[i].
    leap : NDArray[np.bool_]
        Whether the second is the sixtieth.
    zones : list[str]
        Names of zones that do not say by themselves what they mean.
    forms : dict[str, int]
        How many have each form.
    undecided : NDArray[np.bool_]
        Stamps whose form leaves open which of two numbers is the day.
    """

    kind: NDArray[np.uint8]
    whole: NDArray[np.int64]
    fraction: NDArray[np.float64]
    grain: NDArray[np.float32]
    east: NDArray[np.int64]
    leap: Mask
    undecided: Mask
    zones: list[str] = field(default_factory=list)
    forms: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, indices: NDArray[np.int64]) -> Raw:
        """Repeat or leave out; an index of -1 is nothing."""
        there = indices >= 0
        columns = {name: getattr(self, name)[indices] for name in ("whole", "fraction", "grain", "east", "leap")}
        kind = np.where(there, self.kind[indices], NOTHING).astype(np.uint8)
        return Raw(kind, **columns, undecided=self.undecided[indices] & there, zones=self.zones, forms=self.forms)


def empty(n: int) -> Raw:
    """Make room for n, of which nothing is read."""
    whole, east = np.zeros(n, np.int64), np.zeros(n, np.int64)
    fraction, grain = np.zeros(n), np.zeros(n, np.float32)
    return Raw(np.zeros(n, np.uint8), whole, fraction, grain, east, np.zeros(n, np.bool_), np.zeros(n, np.bool_))


def calendar_seconds(
    year: NDArray[np.int64],
    month: NDArray[np.int64],
    day: NDArray[np.int64],
    hour: NDArray[np.int64],
    minute: NDArray[np.int64],
    second: NDArray[np.int64],
) -> tuple[NDArray[np.int64], Mask]:
    """Give seconds since the epoch, as if in UTC, and whether there are such a day from 1990 to 2099 and such a time."""
    good = (month >= 1) & (month <= 12) & (year >= FIRST_YEAR) & (year <= LAST_YEAR)
    place = np.where(good, (year - FIRST_YEAR) * 12 + month - 1, 0)
    good &= (day >= 1) & (day <= _LENGTH[place]) & (hour <= 23) & (minute <= 59) & (second <= 60)
    return (_FIRST_DAY[place] + day - 1) * 86400 + hour * 3600 + minute * 60 + second, good


def read_text(values: pa.StringArray, order: Order, fast: bool = True) -> Raw:
    """Read a column of text.

    Parameters
    ----------
    values : pa.StringArray
        Of n values, some of which may be null.
    order : {"mdy", "dmy", "ymd"}
        Which two-digit numbers of "10/05/24" are the month, the day and the year.
    fast : bool
        False reads each by itself, with the same results.

    Returns
    -------
    Raw
        Of length n.
    """
    raw = empty(len(values))
    if not len(values):
        return raw
    _, offset_buffer, data = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    octets = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    todo = (lengths > 0) & (lengths <= stamp_forms.LONGEST)
    if values.null_count:
        todo &= values.is_valid().to_numpy(zero_copy_only=False)
    for _ in range(LAYOUTS if fast else 0):
        first = int(todo.argmax())
        if not todo[first]:
            return raw
        width = int(lengths[first])
        text = octets[offsets[first] : offsets[first + 1]].tobytes()
        rows = np.flatnonzero(todo & (lengths == width))
        layout = Layout.of(text, order)
        if layout is None:
            same = (_matrix(octets, offsets, rows, width) == np.frombuffer(text, np.uint8)).all(axis=1)
            _read_singly(raw, octets, offsets, rows[same], order)
            todo[rows[same]] = False
            continue
        todo[rows[layout.read_into(raw, _matrix(octets, offsets, rows, width), rows)]] = False
    _read_singly(raw, octets, offsets, np.flatnonzero(todo), order)
    return raw


def _matrix(octets: Bytes, offsets: NDArray[np.int64], rows: NDArray[np.int64], width: int) -> Bytes:
    start = offsets[rows[0]]
    if offsets[rows[-1]] - start == (len(rows) - 1) * width:  # they lie one after the other
        return octets[start : start + len(rows) * width].reshape(len(rows), width)
    return np.lib.stride_tricks.sliding_window_view(octets, width)[offsets[rows]]


def _read_singly(raw: Raw, octets: Bytes, offsets: NDArray[np.int64], rows: NDArray[np.int64], order: Order) -> None:
    known: dict[bytes, tuple[str, bool, stamp_forms.Moment | tuple[int, float, int] | None]] = {}
    for row in rows.tolist():
        text = octets[offsets[row] : offsets[row + 1]].tobytes()
        if text not in known:
            known[text] = _read_one(text, order)
        form, undecided, value = known[text]
        raw.undecided[row] = undecided
        if isinstance(value, stamp_forms.Moment):
            raw.kind[row], raw.whole[row], raw.fraction[row], raw.grain[row] = (
                STAMP,
                value.whole,
                value.fraction,
                value.grain,
            )
            raw.east[row] = _named(raw, value.zone) if value.zone else NAIVE if value.east is None else value.east
            raw.leap[row] = value.leap
            if len(raw.zones) > MOST_ZONES:  # no log has so many
                raw.zones.pop()
                raw.kind[row] = NOTHING
        elif value is not None:
            raw.kind[row], raw.whole[row], raw.fraction[row], decimals = NUMBER, *value
            raw.grain[row] = 10.0**-decimals
        if value is not None:
            raw.forms[form] = raw.forms.get(form, 0) + 1


def _read_one(text: bytes, order: Order) -> tuple[str, bool, stamp_forms.Moment | tuple[int, float, int] | None]:
    found = stamp_forms.match(text)
    if found is None:
        return "", False, None
    form, parts = found
    if form is stamp_forms.NUMBER:
        return form.name, False, stamp_forms.number(parts)
    return form.name, form is stamp_forms.OPEN, stamp_forms.moment(parts, order)


def _named(raw: Raw, zone: str) -> int:
    if zone not in raw.zones:
        raw.zones.append(zone)
    return NAIVE + 1 + raw.zones.index(zone)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a stamp are, for all stamps of the same length that agree with it in every other byte.

    Attributes
    ----------
    form : stamp_forms.Form
        The form.
    least, above : NDArray[np.uint8]
        The least byte allowed at each place, and by how much it may be more, shape (width,).
    parts : dict[str, tuple[int, int]]
        Where the groups of the form's pattern begin and end.
    month : int or None
        Of all of them, where it is not in digits or three letters that differ.
    zone : str
        The name of their zone, unless it is known by itself.
    east : int
        What their zone is ahead of UTC, in seconds, where it is not in digits; NAIVE if they do not say.
    """

    form: stamp_forms.Form
    least: Bytes
    above: Bytes
    parts: dict[str, tuple[int, int]]
    month: int | None
    zone: str
    east: int

    @classmethod
    def of(cls, text: bytes, order: Order) -> Layout | None:
        """Learn where the parts of this stamp are; None if it has no form, or one that must be read singly."""
        found = stamp_forms.match(text)
        if found is None:
            return None
        form, groups = found
        if form is stamp_forms.YEARLESS or (
            form is stamp_forms.NUMBER and (groups["power"] or len(groups["whole"]) > WIDEST)
        ):
            return None
        parts = {name: groups.span(name) for name, value in groups.groupdict().items() if value is not None}
        least = np.frombuffer(text, np.uint8).copy()
        above = np.zeros_like(least)
        for name, (start, end) in parts.items():
            if name in ("zone", "joint", "minus") or (name == "name" and end - start != 3):
                continue
            least[start:end], above[start:end] = {
                "name": (0, 255), "sign": (ord("+"), 2), "half": (ord("A"), 255)
            }.get(name, (ord("0"), 9))  # fmt: skip
        month = None
        if "name" in parts and parts["name"][1] - parts["name"][0] != 3:
            month = stamp_forms.MONTH.get(groups["name"].decode().lower(), 0)
        zone, east = "", NAIVE
        if groups.groupdict().get("zone"):
            zone = groups["zone"].decode().upper()
            if zone in stamp_forms.ZONES:
                zone, east = "", stamp_forms.ZONES[zone] * 3600
        if form is stamp_forms.OPEN:
            pair = ("last", "first") if order == "mdy" else ("first", "last")
            parts["day"], parts["month"] = parts.pop(pair[0]), parts.pop(pair[1])
            if order == "ymd":
                parts["day"], parts["year"] = parts["year"], parts["day"]
                if len(groups["first"]) != 2 or len(groups["year"]) != 2:
                    parts["month"] = 0, 0  # none of them is a date
        return cls(form, least, above, parts, month, zone, east)

    def read_into(self, raw: Raw, matrix: Bytes, rows: NDArray[np.int64]) -> Mask:
        """Read the stamps in the rows of `matrix` that fit into `rows` of `raw`; tells which have been read or are no times.

        Those that differ in a byte are left to another layout.
        """
        fits = np.zeros(len(rows), np.bool_)
        count = 0
        for start in range(0, len(rows), CHUNK):
            chunk = slice(start, start + CHUNK)
            turned = np.ascontiguousarray(matrix[chunk].T)
            fits[chunk] = fit = self._fit(turned)
            at = rows[chunk]
            if not fit.all():
                turned, at = np.ascontiguousarray(turned[:, fit]), at[fit]
            good = self._numbers(raw, turned, at) if self.form is stamp_forms.NUMBER else self._stamps(raw, turned, at)
            count += int(np.count_nonzero(good))
            if self.form is stamp_forms.OPEN:
                raw.undecided[at] = True
        if count:
            raw.forms[self.form.name] = raw.forms.get(self.form.name, 0) + count
        return fits

    def _fit(self, turned: Bytes) -> Mask:
        wrong = np.zeros(turned.shape[1], np.bool_)
        for column, least, above in zip(turned, self.least, self.above, strict=True):
            if above == 0:
                wrong |= column != least
            elif above != 255:
                wrong |= (column - least) > above
        if "sign" in self.parts:
            wrong |= turned[self.parts["sign"][0]] == ord(",")
        if "half" in self.parts:
            letter = turned[self.parts["half"][0]] | 32
            wrong |= (letter != ord("a")) & (letter != ord("p"))
        if "name" in self.parts and self.month is None:
            for column in turned[slice(*self.parts["name"])]:
                wrong |= ((column | 32) - ord("a")) > 25
        return ~wrong

    def _integer(self, turned: Bytes, name: str, digits: int = WIDEST) -> NDArray[np.int64]:
        """Read the digits of a part; 0 where the layout has no such part."""
        if name not in self.parts:
            return np.zeros(turned.shape[1], np.int64)
        start, end = self.parts[name]
        total = np.zeros(turned.shape[1], np.int64)
        for column in turned[start : min(end, start + digits)]:
            total *= 10
            total += column
        return total - ord("0") * int("1" * min(end - start, digits) or "0")

    def _numbers(self, raw: Raw, turned: Bytes, at: NDArray[np.int64]) -> Mask:
        start, end = self.parts["whole"]
        digits = turned[start:end] - np.uint8(ord("0"))
        whole = np.zeros(turned.shape[1], np.uint64)
        for column in digits:
            whole = whole * np.uint64(10) + column
        good: Mask = whole < np.uint64(1 << 63)
        start, end = self.parts.get("decimals", (0, 0))
        kept = min(end - start, PRECISE)
        fraction = self._integer(turned, "decimals", digits=PRECISE) / 10.0**kept
        sign = -1 if "minus" in self.parts else 1
        raw.kind[at] = np.where(good, NUMBER, NOTHING)
        raw.whole[at] = np.where(good, whole, 0).astype(np.int64) * sign
        raw.fraction[at] = fraction * sign
        raw.grain[at] = 10.0 ** (start - end)
        return good

    def _stamps(self, raw: Raw, turned: Bytes, at: NDArray[np.int64]) -> Mask:
        month, year = self._month(turned), self._integer(turned, "year")
        if self.parts["year"][1] - self.parts["year"][0] == 2:
            year += np.where(year >= 90, 1900, 2000)
        day, hour = self._integer(turned, "day"), self._integer(turned, "hour")
        minute, second = self._integer(turned, "minute"), self._integer(turned, "second")
        halves = np.ones(len(at), np.bool_)
        if "half" in self.parts:
            halves = (hour >= 1) & (hour <= 12)
            hour = hour % 12 + 12 * ((turned[self.parts["half"][0]] | 32) == ord("p"))
        whole, good = calendar_seconds(year, month, day, hour, minute, second)
        good &= halves
        east = np.full(len(at), self.east, np.int64)
        if self.zone:
            east[:] = _named(raw, self.zone)
        elif "sign" in self.parts:
            minutes = self._integer(turned, "zone_minutes")
            east = self._integer(turned, "zone_hours") * 3600 + minutes * 60
            good &= (minutes < 60) & (east <= MAX_EAST)
            east *= 44 - turned[self.parts["sign"][0]].astype(np.int64)  # "+" is 43 and "-" is 45
        raw.kind[at] = np.where(good, STAMP, NOTHING)
        raw.whole[at], raw.east[at], raw.leap[at] = whole, east, good & (second == 60)
        start, end = self.parts.get("fraction", (0, 0))
        if end > start:
            kept = min(end - start, PRECISE)
            raw.fraction[at] = self._integer(turned, "fraction", digits=PRECISE) / 10.0**kept
        raw.grain[at] = 10.0 ** (start - end) if "second" in self.parts else 60.0 if "hour" in self.parts else DAY
        return good

    def _month(self, turned: Bytes) -> NDArray[np.int64]:
        if "name" not in self.parts:
            return self._integer(turned, "month")
        if self.month is not None:
            return np.full(turned.shape[1], self.month, np.int64)
        first, second, third = (turned[slice(*self.parts["name"])] & 31).astype(np.int64)
        numbers: NDArray[np.int64] = _MONTH_OF[first << 10 | second << 5 | third].astype(np.int64)
        return numbers
