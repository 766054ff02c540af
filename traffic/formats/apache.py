"""Apache's and nginx's access logs: `common`, and `combined`, which adds referrer and user agent.

    client ident user [17/May/2015:10:05:03 +0000] "GET /a/b?c=d HTTP/1.1" 200 1234 "referrer" "user agent"

https://httpd.apache.org/docs/2.4/logs.html#accesslog. Further fields are ignored (response times are often appended). A line
that was cut, so that a quote is not closed, does not parse, because part of its request may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from traffic.expression import Expression
from traffic.formats.field_selection import FieldSelection, join_names
from traffic.formats.rows import OTHER, FormatMismatchError, Names, Rows, validate_cost
from traffic.formats.status import Statuses

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STAMP = re.compile(
    r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4})"
    r":([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60) ([+-])([0-9]{2})([0-5][0-9])"
)
EPOCH = date(1970, 1, 1).toordinal()
# One-second stamps repeat, but not for ever: a log of a month has millions.
STAMPS_KEPT = 100_000
ANONYMOUS = "-"
SIZE = "size"


class ApacheTimestamps(dict[str, float]):
    """Seconds since the epoch of each timestamp.

    A time that does not exist ("30/Feb") is nan. A leap second is the second after it.
    """

    __slots__ = ()

    def __missing__(self, stamp: str) -> float:
        seconds = self[stamp] = _seconds(stamp)
        return seconds


def _seconds(stamp: str) -> float:
    found = STAMP.fullmatch(stamp)
    if not found:
        return nan
    day, month, year, hour, minute, second, sign, east_hours, east_minutes = found.groups()
    try:
        days = date(int(year), MONTHS.index(month) + 1, int(day)).toordinal() - EPOCH
    except ValueError:  # no such month, or no such day in it
        return nan
    east = (int(east_hours) * 60 + int(east_minutes)) * (60 if sign == "+" else -60)
    return float(days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) - east)


class Common:
    """Reads common logs.

    A session is a client. An endpoint is the method and the first segment of the path; as a key, "endpoint" is the whole
    path without its query. A field that stands as "-" is the key "-". `size`, the bytes of the answer, may be the cost or
    part of it; a size of "-" is 0.
    """

    name = "common"
    fields: tuple[str, ...] = ("client", "user", "method", "endpoint", "status", "session")

    def __init__(self, selection: FieldSelection) -> None:
        self._selection = selection
        self._key = selection.key_fields(self.fields) or ("client",)
        self._cost: Expression | None = None
        # Nearly no line has a quote inside a quoted field, and without one the cheaper pattern does.
        self._plain = re.compile(self._pattern(r'[^"]*+(?<!\\)')).match
        self._escaped = re.compile(self._pattern(r'[^"\\]*+(?:\\.[^"\\]*+)*+')).match
        self._groups = tuple(re.compile(self._pattern("")).groupindex)
        self._stamps = ApacheTimestamps()
        self._statuses = Statuses()
        self._clients = Names()

    def recognizes(self, line: str) -> bool:
        """Tell whether the line matches the format's pattern."""
        return self._escaped(line) is not None

    def read(self, lines: list[str], rows: Rows) -> None:
        """Add a request for each line that matches and has an existing time."""
        self._check()
        plain, escaped = self._plain, self._escaped
        found = [plain(line) or escaped(line) for line in lines]
        fields = [match.groups("-") for match in found if match]
        time = self._times(fields)
        if len(fields) < len(lines) or np.isnan(time).any():
            for line, match in zip(lines, found, strict=True):
                if not match or isnan(self._stamps[match["stamp"]]):
                    rows.skip(line)
            fields = [values for values, seconds in zip(fields, time, strict=True) if not isnan(seconds)]
            time = time[~np.isnan(time)]
        if fields:
            columns = dict(zip(self._groups, zip(*fields, strict=True), strict=True))
            self._add(time, columns, self._costs(columns, found, rows), rows)

    def close(self, rows: Rows) -> None:
        """Raise FormatMismatchError if the key is the user and no line names one."""
        if self._key == ("user",) and list(rows.keys) == [ANONYMOUS]:
            raise FormatMismatchError("names no user in any line; use key='client'")

    def _check(self) -> None:
        """Raise FormatMismatchError if the selection is none that these logs can grant."""
        if self._selection.time is not None or self._selection.time_unit is not None:
            raise FormatMismatchError(f"is a {self.name} log, whose time is its stamp; leave time and time_unit out")
        if self._selection.status is not None:
            raise FormatMismatchError(f"is a {self.name} log, which has its own status; leave status out")
        for field in self._key:
            if field not in self.fields:
                known = " or ".join(self.fields)
                raise FormatMismatchError(
                    f"a {self.name} log has no field {field!r} to be the key; use {known}, or several joined by +"
                )
        if self._selection.cost is not None and self._cost is None:
            cost = Expression.parse(self._selection.cost)
            for field in cost.names:
                if field != SIZE:
                    raise FormatMismatchError(f"a {self.name} log has no number {field!r} to be the cost; use {SIZE}")
            self._cost = cost

    def _times(self, fields: list[tuple[str, ...]]) -> NDArray[np.float64]:
        if len(self._stamps) > STAMPS_KEPT:
            self._stamps.clear()
        place = self._groups.index("stamp")
        stamps = (values[place] for values in fields)
        return np.fromiter(map(self._stamps.__getitem__, stamps), np.float64, len(fields))

    def _costs(
        self, columns: dict[str, tuple[str, ...]], found: list[re.Match[str] | None], rows: Rows
    ) -> NDArray[np.float64] | None:
        if self._cost is None:
            return None
        size = np.array([0.0 if text == ANONYMOUS else float(text) for text in columns[SIZE]])
        read = [match is not None and not isnan(self._stamps[match["stamp"]]) for match in found]
        return validate_cost(self._cost({SIZE: size}, len(size)), np.flatnonzero(read) + rows.line)

    def _add(
        self, time: NDArray[np.float64], columns: dict[str, tuple[str, ...]], cost: NDArray[np.float64] | None, rows: Rows
    ) -> None:
        keys = join_names([self._column(field, columns) for field in self._key])
        endpoints = (place or OTHER for place in columns["place"])
        n = len(time)
        status = self._statuses.numbers(columns["status"], n)
        rows.add(time, keys, endpoints, self._sessions(columns, n), cost, status)

    def _column(self, field: str, columns: dict[str, tuple[str, ...]]) -> Sequence[str]:
        return columns["client" if field == "session" else field]

    def _sessions(self, columns: dict[str, tuple[str, ...]], n: int) -> NDArray[np.int64]:
        return self._clients.numbers(columns["client"], n)

    def _captured(self) -> set[str]:
        """Give the parts of a line that are needed."""
        return {"stamp", "client", "place", "status", *self._key, *((SIZE,) if self._selection.cost is not None else ())}

    def _pattern(self, quoted: str) -> str:
        """One line, given the pattern of a quoted field's inside. Possessive, so it never backtracks."""
        captured = self._captured()

        def part(name: str, pattern: str) -> str:
            return f"(?P<{name}>{pattern})" if name in captured else f"(?:{pattern})"

        request = r'(?P<place>(?:[A-Z]++ /[^/? "\\]*+)?+)'
        if {"method", "endpoint"} & captured:
            method, path = part("method", "[A-Z]++"), part("endpoint", r'[^? "]++')
            request = f"(?=(?:{method} {path})?)" + request
        client, user, stamp = part("client", "[^ ]++"), part("user", "[^ ]++"), part("stamp", "[^]]{26}")
        status, size = part("status", "[0-9]{3}"), part(SIZE, "[0-9]++|-")
        line = rf'{client} [^ ]++ {user} \[{stamp}\] "{request}{quoted}" {status} {size}'
        return line + self._rest(part, quoted)

    def _rest(self, part: Callable[[str, str], str], quoted: str) -> str:
        return r'(?:\s[^"]*)?$'


class Combined(Common):
    """Reads combined logs. A session is a distinct pair of client and user agent.

    The pair stands in for a browser session, which logs do not have. It tells people behind one address apart if their
    browsers differ, and joins the visits of one person.
    """

    name = "combined"
    fields = (*Common.fields, "referrer", "agent")

    def __init__(self, selection: FieldSelection) -> None:
        super().__init__(selection)
        self._agents = Names()

    def _column(self, field: str, columns: dict[str, tuple[str, ...]]) -> Sequence[str]:
        if field != "session":
            return columns[field]
        pairs = zip(columns["client"], columns["agent"], strict=True)
        return [f"{client} {agent}" for client, agent in pairs]  # a client has no blank

    def _sessions(self, columns: dict[str, tuple[str, ...]], n: int) -> NDArray[np.int64]:
        return super()._sessions(columns, n) << 32 | self._agents.numbers(columns["agent"], n)

    def _captured(self) -> set[str]:
        return super()._captured() | {"agent"}

    def _rest(self, part: Callable[[str, str], str], quoted: str) -> str:
        return f' "{part("referrer", quoted)}" "{part("agent", quoted)}"'
