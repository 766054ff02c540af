"""The forms of a stamp as text, and the exact reading of a single one; `traffic.times.stamp_layouts` is its fast twin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

Order = Literal["mdy", "dmy", "ymd"]

FIRST_YEAR, LAST_YEAR = 1990, 2099  # what lies outside is no time of a request
LONGEST = 100  # bytes of a stamp
PRECISE = 15  # digits of a fraction that count: a float64 holds them exactly
WIDEST = 19  # digits of a number that count
MAX_EAST = 14 * 3600  # seconds; no zone is farther from Greenwich
DAY = 86400.0
# RFC 2822. Every other name means several zones (IST, BST), or changes with the country's summer time.
ZONES = {
    "Z": 0, "UT": 0, "UTC": 0, "GMT": 0,
    "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7, "PST": -8,
}  # fmt: skip
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTH = {name[:letters]: number for number, name in enumerate(MONTHS, 1) for letters in (3, len(name))} | {"sept": 9}

_BLANK = rb"(?:[ \t]|\xc2\xa0|\xe2\x80\xaf)"  # also the two that do not break: newer versions of ICU write them before AM
_WEEKDAY = rb"(?:(?:(?i:mon|tue|wed|thu|fri|sat|sun))[a-z]{0,6},?" + _BLANK + rb")"
_NAME = rb"(?P<name>[A-Za-z]{3,9})\.?"
_HOURS = rb"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,:](?P<fraction>\d{1,40}))?)?"
_HALF = rb"(?:" + _BLANK + rb"?(?P<half>[AaPp])\.?[Mm]\.?)?"
_OFFSET = (
    rb"(?:UTC|GMT)?(?P<sign>[+-])(?P<zone_hours>\d\d)(?::?(?P<zone_minutes>\d\d))?"
    rb"(?:\[[\w/+-]{1,40}\])?(?: \(?[A-Za-z][A-Za-z ]{0,40}\)?)?(?: m=[+-][\d.]{1,30})?"
)
_ZONE = rb"(?:" + _BLANK + rb"?(?:" + _OFFSET + rb"|(?P<zone>[A-Za-z]{1,5})))?"
_TIME = _HOURS + _HALF + _ZONE


@dataclass(frozen=True, slots=True)
class Form:
    """A form of stamps.

    Attributes
    ----------
    name : str
        As sentences call it.
    example : str
        One of them.
    pattern : re.Pattern[bytes]
        Matches all of a stamp. Its groups are year, month, day, name (of the month), first and second (day and month in an
        order that must be known), hour, minute, second, fraction, half (of the day), sign, zone_hours, zone_minutes, zone.
    """

    name: str
    example: str
    pattern: re.Pattern[bytes]


def _form(name: str, example: str, *parts: bytes) -> Form:
    return Form(name, example, re.compile(rb"[\s\[\"']*" + b"".join(parts) + rb"[\s\]\"']*"))


_Y, _M, _D = rb"(?P<year>\d{4})", rb"(?P<month>\d\d)", rb"(?P<day>\d\d)"
_M1, _D1 = rb"(?P<month>\d{1,2})", rb"(?P<day>\d{1,2})"
_DATE = rb"(?P<first>\d{1,2})(?P<joint>[/-])(?P<last>\d{1,2})(?P=joint)(?P<year>\d{4}|\d\d)"
_YEAR = rb"(?P<year>\d{4}|\d\d)"
_CLOSE_HOURS = rb"(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,40}))?)?"
FORMS: tuple[Form, ...] = (
    _form("access log", "10/May/2024:06:25:24 +0200", _D1, rb"/", _NAME, rb"/", _Y, rb":", _TIME),
    _form("ISO 8601", "2024-05-10T06:25:24.512Z", _Y, rb"-", _M1, rb"-", _D1,
          rb"(?:(?:[Tt]|", _BLANK, rb"{1,2})", _TIME, rb")?"),
    _form("ISO 8601", "20240510T062524Z", _Y, _M, _D, rb"[Tt \-]", _CLOSE_HOURS, _ZONE),
    _form("year/month/day", "2024/05/10 06:25:24", _Y, rb"/", _M1, rb"/", _D1, rb"(?:[ T]", _TIME, rb")?"),
    _form("RFC 2822", "Fri, 10 May 2024 06:25:24 GMT", _WEEKDAY, rb"?", _D1, rb"(?:", _BLANK, rb"|[/-])", _NAME,
          rb"(?:", _BLANK, rb"|[/-])", _YEAR, rb",?(?:", _BLANK, rb"|:)", _TIME),
    _form("asctime", "Fri May 10 06:25:24 2024", _WEEKDAY, rb"?", _NAME, rb" {1,2}", _D1, rb" ", _TIME, rb" ", _Y),
    _form("month day, year", "May 10, 2024 @ 06:25:24.512", _WEEKDAY, rb"?", _NAME, rb" {1,2}", _D1, rb",? ", _Y,
          rb"(?:,? (?:@ |at )?", _TIME, rb")?"),
    _form("syslog without a year", "May 10 06:25:24", _NAME, rb" {1,2}", _D1, rb" ", _TIME),
    _form("day.month.year", "10.05.2024 06:25:24", _D1, rb"\.", _M1, rb"\.", _YEAR, rb"(?:,?", _BLANK, _TIME, rb")?"),
    _form("month/day/year or day/month/year", "5/10/2024 6:25:24 AM", _DATE, rb"(?:,?", _BLANK, rb"{1,2}", _TIME, rb")?"),
)  # fmt: skip
YEARLESS = FORMS[7]
OPEN = FORMS[9]
_WHOLE = rb"(?:(?P<minus>-)|\+)?(?P<whole>\d{1,40})"
NUMBER = _form("number", "1715322324.512", _WHOLE, rb"(?:[.,](?P<decimals>\d{0,40}))?(?P<power>[eE][+-]?\d{1,3})?")


def match(text: bytes) -> tuple[Form, re.Match[bytes]] | None:
    """Find the form of a stamp; None if it has none."""
    if len(text) > LONGEST:
        return None
    return next(((form, found) for form in (*FORMS, NUMBER) if (found := form.pattern.fullmatch(text))), None)


@dataclass(frozen=True, slots=True)
class Moment:
    """A stamp as it is written.

    Attributes
    ----------
    whole : int
        Whole seconds since the epoch, as if its clock were in UTC.
    fraction : float
        The rest of the second.
    grain : float
        Seconds within which the stamp lies.
    east : int or None
        Seconds that its clock is ahead of UTC; None where the stamp does not say.
    zone : str
        The name of a zone that says it, if it is none of ZONES; else empty.
    leap : bool
        Whether its second is the sixtieth.
    """

    whole: int
    fraction: float
    grain: float
    east: int | None
    zone: str
    leap: bool


def moment(found: re.Match[bytes], order: Order) -> Moment | None:
    """Read a matched stamp; None if it has no year, its calendar no such day, or its clock no such time.

    Parameters
    ----------
    found : re.Match[bytes]
        By the pattern of a form other than NUMBER.
    order : {"mdy", "dmy", "ymd"}
        Whether "10/05/24" is the fifth of October 2024, the tenth of May 2024, or the 24th of May 2010; "10/05/2024" is no
        date in the last order.
    """
    part = {name: value.decode() for name, value in found.groupdict().items() if value is not None}
    if "first" in part and order == "ymd":
        if len(part["first"]) != 2 or len(part["year"]) != 2:
            return None
        part["year"], part["first"] = part["first"], part["year"]
    day, month = _day_and_month(part, order)
    hour, minute, second = (int(part.get(name, 0)) for name in ("hour", "minute", "second"))
    if "half" in part:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (part["half"] in "Pp")
    leap = second == 60
    year = _full_year(part.get("year", "0000"))
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return None
    try:
        clock = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    whole = (clock - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) + leap
    digits = part.get("fraction", "")
    kept = digits[:PRECISE]
    fraction = int(kept) / 10 ** len(kept) if kept else 0.0
    grain = 10.0 ** -len(digits) if "second" in part else 60.0 if "hour" in part else DAY
    east, name = _zone(part)
    if east is not None and abs(east) > MAX_EAST:
        return None
    return Moment(whole, fraction, grain, east, name, leap)


def _day_and_month(part: dict[str, str], order: Order) -> tuple[int, int]:
    if "first" in part:
        parts = int(part["first"]), int(part["last"])
        return parts[::-1] if order == "mdy" else parts
    return int(part["day"]), MONTH.get(part["name"].lower(), 0) if "name" in part else int(part["month"])


def _full_year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) == 4 else year + (1900 if year >= 90 else 2000)


def _zone(part: dict[str, str]) -> tuple[int | None, str]:
    if "sign" in part:
        minutes = int(part.get("zone_minutes", 0))
        seconds = int(part["zone_hours"]) * 3600 + minutes * 60 if minutes < 60 else 2 * MAX_EAST
        return (-seconds if part["sign"] == "-" else seconds), ""
    if "zone" in part:
        name = part["zone"].upper()
        return (ZONES[name] * 3600, "") if name in ZONES else (None, name)
    return None, ""


def number(found: re.Match[bytes]) -> tuple[int, float, int] | None:
    """Read a matched number as its whole part, the rest, and how many decimals it has.

    Of "1.7E12" there are -11: as many zeros are no digits. None if its whole part does not fit an int64.
    """
    decimals = found["decimals"] or b""
    value = Decimal((found["whole"] + b"." + decimals + (found["power"] or b"")).decode())
    if value.adjusted() >= WIDEST or (whole := int(value)) >= 1 << 63:
        return None
    sign = -1 if found["minus"] else 1
    kept = decimals[:PRECISE]
    rest = float(value - whole) if found["power"] else int(kept or b"0") / 10 ** len(kept)
    return sign * whole, sign * rest, -int(value.as_tuple().exponent)


def known_forms() -> Iterator[str]:
    """List the forms that a person may be offered, as examples."""
    yield from (form.example for form in FORMS if form is not YEARLESS)
    yield from ("1715322324.512", "1715322324512", "45422.26764 (Excel)")
