"""Apache's and nginx's access logs: `common`, and `combined`, which adds referrer and user agent.

    client ident user [17/May/2015:10:05:03 +0000] "GET /a/b?c=d HTTP/1.1" 200 1234 "referrer" "user agent"

https://httpd.apache.org/docs/2.4/logs.html#accesslog. Fields that follow are ignored (response times are
often appended). A line that was cut, so that a quote is not closed, does not parse: what it asked may be
missing.
"""

from __future__ import annotations

import re
from datetime import date
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from traffic.formats.rows import OTHER, Names, Rows

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STAMP = re.compile(
    r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4})"
    r":([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60) ([+-])([0-9]{2})([0-5][0-9])"
)
EPOCH = date(1970, 1, 1).toordinal()
# One-second stamps repeat, but not for ever: a log of a month has millions.
STAMPS_KEPT = 100_000
STAMP_GROUP = 3


class Stamps(dict[str, float]):
    """Seconds since the epoch of each stamp; nan for no time at all ("30/Feb"). Leap seconds are the next."""

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
    """Reads common logs. A session is a client, an endpoint the method and the first segment of the path."""

    fields: tuple[str, ...] = ("client", "user", "endpoint")
    _rest = r'(?:\s[^"]*)?$'

    def __init__(self, key: str) -> None:
        self._key = key
        # Nearly no line has a quote inside a quoted field, and without one the cheaper pattern does.
        self._plain = re.compile(self._pattern(r'[^"]*+(?<!\\)')).match
        self._escaped = re.compile(self._pattern(r'[^"\\]*+(?:\\.[^"\\]*+)*+')).match
        self._stamps = Stamps()
        self._clients = Names()

    def recognises(self, line: str) -> bool:
        return self._escaped(line) is not None

    def read(self, lines: list[str], rows: Rows) -> None:
        plain, escaped = self._plain, self._escaped
        found = [plain(line) or escaped(line) for line in lines]
        fields = [match.groups() for match in found if match]
        time = self._times(fields)
        if len(fields) < len(lines) or np.isnan(time).any():
            for line, match in zip(lines, found, strict=True):
                if not match or isnan(self._stamps[match[STAMP_GROUP]]):
                    rows.skip(line)
            fields = [values for values, seconds in zip(fields, time, strict=True) if not isnan(seconds)]
            time = time[~np.isnan(time)]
        if fields:
            self._add(time, fields, rows)

    def _times(self, fields: list[tuple[str, ...]]) -> NDArray[np.float64]:
        if len(self._stamps) > STAMPS_KEPT:
            self._stamps.clear()
        stamps = (values[STAMP_GROUP - 1] for values in fields)
        return np.fromiter(map(self._stamps.__getitem__, stamps), np.float64, len(fields))

    def _add(self, time: NDArray[np.float64], fields: list[tuple[str, ...]], rows: Rows) -> None:
        clients, users, _, paths, endpoints, *agents = zip(*fields, strict=True)
        keys = {"client": clients, "user": users, "endpoint": (path or "-" for path in paths)}[self._key]
        session = self._sessions(self._clients.numbers(clients, len(time)), *agents)
        rows.add(time, keys, (endpoint or OTHER for endpoint in endpoints), session)

    def _sessions(self, client: NDArray[np.int64], *agents: tuple[str, ...]) -> NDArray[np.int64]:
        return client

    def _pattern(self, quoted: str) -> str:
        """One line, given the pattern of a quoted field's inside. Possessive, so it never backtracks."""
        path = r'(?=(?:[A-Z]++ ([^? "]++))?)' if self._key == "endpoint" else "()"
        request = path + r'((?:[A-Z]++ /[^/? "\\]*+)?+)'
        line = rf'([^ ]++) [^ ]++ ([^ ]++) \[([^]]{{26}})\] "{request}{quoted}" [0-9]{{3}} (?:[0-9]++|-)'
        return line + self._rest.replace("QUOTED", quoted)


class Combined(Common):
    """Reads combined logs. A session is a distinct pair of client and user agent.

    The pair stands in for a browser session, which logs do not have: it tells people behind one address
    apart if their browsers differ, and joins the visits of one person.
    """

    _rest = r' "QUOTED" "(QUOTED)"'

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self._agents = Names()

    def _sessions(self, client: NDArray[np.int64], *agents: tuple[str, ...]) -> NDArray[np.int64]:
        return client << 32 | self._agents.numbers(agents[0], len(client))
