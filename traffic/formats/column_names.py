"""Names the columns of an unknown log by their values: `name_columns`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from traffic.formats import line_values as values
from traffic.formats.line_columns import Column
from traffic.formats.template import is_number
from traffic.formats.template_parts import Variable
from traffic.times.timestamps import TimeReader

DAY = 86400.0
SPAN = 400 * DAY  # seconds; numbers that lie farther apart are no times of one log
ZONES = 3600.0  # seconds that a second clock of the same moment may be off
PER_DIGITS = {10: ("msec", 1.0), 13: ("time_msec", 1e3), 16: ("time_usec", 1e6), 19: ("time_nsec", 1e9)}
KEYS = {
    "client": "remote_addr", "client_ip": "remote_addr", "ip": "remote_addr", "src": "remote_addr", "user": "remote_user",
    "ua": "http_user_agent", "agent": "http_user_agent", "referer": "http_referer", "referrer": "http_referer",
    "ref": "http_referer", "xff": "http_x_forwarded_for", "rt": "request_time", "reqtime": "request_time",
    "urt": "upstream_response_time", "uct": "upstream_connect_time", "uht": "upstream_header_time", "req": "request",
    "size": "body_bytes_sent", "bytes": "body_bytes_sent",
}  # fmt: skip
# Names that only values give.
BY_VALUES = frozenset({"status", "remote_addr", "request", "msec", "time_local", "time_iso8601"})


def name_columns(columns: list[Column], known: Mapping[str, Sequence[str]]) -> bool:
    """Name each column.

    Parameters
    ----------
    columns : list[Column]
        Those of the lines, or of what stands behind a known form in them.
    known : Mapping[str, Sequence[str]]
        The fields of that form, with a value for each line.

    Returns
    -------
    bool
        Whether they are a log of requests: they have a time, and a request, or its path with a method or a status, or a
        status and an address.
    """
    naming = _Naming(columns, known)
    naming.times()
    naming.requests()
    naming.addresses()
    naming.status()
    naming.by_place()
    naming.by_key()
    naming.the_rest(len(known))
    taken = naming.taken
    timed = any(name.startswith(("time_", "msec")) for name in taken) or {"date", "time"} <= taken
    path = "request_uri" in taken and not taken.isdisjoint({"request_method", "status"})  # a file has a path, too
    return timed and ("request" in taken or path or {"status", "remote_addr"} <= taken)


class _Naming:
    def __init__(self, columns: list[Column], known: Mapping[str, Sequence[str]]) -> None:
        self.columns = columns
        self.known = known
        self.taken = set(known)

    def _free(self) -> list[Column]:
        return [column for column in self.columns if column.is_free]

    def _give(self, column: Column, name: str) -> None:
        number = 2
        unique = name
        while unique in self.taken:
            unique = f"{name}_{number}"
            number += 1
        column.name = unique
        self.taken.add(unique)

    def times(self) -> None:
        for column in self._free():
            if column.kind != "r" and column.all(values.is_stamp):
                self._give(column, "time_iso8601" if column.all(values.ISO.fullmatch) else "time_local")
        for column in self._free():
            if column.kind != "r" and column.all(values.EPOCH.fullmatch) and self._is_clock(column):
                self._give(column, PER_DIGITS[_digits(column)][0])
        stamped = any(name.startswith(("time_", "msec")) for name in self.taken)
        dates = [column for column in self._free() if column.all(values.DATE.fullmatch)]
        clocks = [column for column in self._free() if column.all(values.CLOCK.fullmatch)]
        if not stamped and dates and clocks:
            self._give(dates[0], "date")
            self._give(clocks[0], "time")

    def _is_clock(self, column: Column) -> bool:
        """Whether these numbers are the time: that of the stamps beside them, or, without stamps, one that goes on."""
        seconds = np.array([float(text) if text not in ("-", "") else np.nan for text in column.values])
        if len({len(text.partition(".")[0]) for text in column.said()}) > 1:
            return False
        seconds /= PER_DIGITS[_digits(column)][1]
        stamps = self._stamps(column)
        if stamps is None:
            seen = seconds[np.isfinite(seconds)]
            return bool(np.ptp(seen) < SPAN and 2 * np.count_nonzero(np.diff(seen) >= 0) >= len(seen) - 1)
        gap = np.abs(seconds - stamps)
        return bool((gap[np.isfinite(gap)] <= ZONES).all())

    def _stamps(self, column: Column) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        texts = next((self.known[name] for name in ("time_local", "time_iso8601") if name in self.known), None)
        if texts is not None:
            texts = [texts[row] for row in column.rows]
        else:
            texts = next((other.values for other in self.columns if other.name.startswith("time_")), None)
        return None if texts is None else TimeReader().read(pa.array(texts, pa.string())).seconds

    def requests(self) -> None:
        for column in self._free():
            if column.kind == "r" or (column.kind in 'w"[' and column.most(values.REQUEST.fullmatch)):
                if "request" not in self.taken:
                    self._give(column, "request")
            elif column.all(values.METHOD.fullmatch):
                self._give(column, "request_method")
            elif column.all(values.PROTOCOL.fullmatch):
                self._give(column, "server_protocol")

    def addresses(self) -> None:
        for column in self._free():
            if column.all(values.ADDRESS.fullmatch):
                self._give(column, self._address(column))
            elif column.kind == "w" and column.all(values.HOST_PORT.fullmatch):
                column.parts = [Variable("server_name"), ":", Variable("server_port")]
            elif column.kind == "w" and column.all(values.CACHE_STATUS.fullmatch):
                column.parts = [Variable("cache_status"), "/", Variable("status")]
                self.taken.add("status")

    def _address(self, column: Column) -> str:
        """Name a column of addresses: the first one is the client, unless it is the server's own."""
        place = self.columns.index(column)
        several = any("," in text for text in column.values)
        if "remote_addr" not in self.taken:
            others = [
                other for other in self.columns[place + 1 :] if other.kind == "w" and other.all(values.ADDRESS.fullmatch)
            ]
            server = column.all(values.SERVER.fullmatch) and not several
            return "server_addr" if server and others and not others[0].all(values.SERVER.fullmatch) else "remote_addr"
        before = self.columns[place - 1] if place else None
        if (before and before.literal and before.values[0] in ("->", "=>")) or column.all(values.HAS_PORT.fullmatch):
            return "upstream_addr"
        if several or column.kind in '"(':
            return "http_x_forwarded_for"
        clients = self.known.get("remote_addr") or next(
            other.values for other in self.columns if other.name == "remote_addr"
        )
        behind = all(map(values.PRIVATE.match, clients)) and not any(map(values.PRIVATE.match, column.values))
        return "http_x_forwarded_for" if behind else "address"

    def status(self) -> None:
        """Name the column that has nothing but status codes: the one that is called so, or the next one to the request."""
        if "status" in self.taken:
            return
        found = [column for column in self._free() if _is_status(column)]
        called = [column for column in found if re.fullmatch(r"(?i)(?:http_?)?(?:status|code)[\w.]*[=:] ?", column.key)]
        places = [
            i for i, column in enumerate(self.columns) if column.name in ("request", "server_protocol", "request_method")
        ]

        def rank(column: Column) -> tuple[int, int, bool, int]:
            place = self.columns.index(column) - places[-1]
            unusual = sum(text not in values.USUAL for text in column.values)
            return unusual, column.values.count("-"), place < 0, abs(place)

        if called:
            self._give(called[0], "status")
        elif found and places:
            self._give(min(found, key=rank), "status")
        elif places and places[-1] + 1 < len(self.columns):
            after = self.columns[places[-1] + 1]
            if after.is_free and after.kind == "w" and after.all(values.STATUS_AND_TIMES.fullmatch):
                after.parts = [Variable("status"), "/", Variable("timings")]
                self.taken |= {"status", "timings"}

    def by_place(self) -> None:
        """Name by the neighbors: user names, sizes, referrers and user agents."""
        columns = self.columns
        for i, column in enumerate(columns):
            after = columns[i + 1] if i + 1 < len(columns) else None
            if column.name == "status" and after and after.is_free and after.all(values.INTEGER.fullmatch):
                self._give(after, "body_bytes_sent")
            if column.name.startswith(("time_", "date")):
                words: list[Column] = []
                while i - len(words) - 1 >= 0 and (word := columns[i - len(words) - 1]).is_free and not word.key:
                    words.insert(0, word)
                client = i - len(words) - 1
                addressed = client >= 0 and columns[client].name in ("remote_addr", "address", "http_x_forwarded_for")
                if addressed and len(words) in (1, 2) and words[-1].kind in 'w"':
                    if len(words) == 2:
                        self._give(words[0], "remote_logname")
                    self._give(words[-1], "remote_user")
        for column in self._free():
            if column.kind == "[":
                continue
            if column.kind == '"' and column.all(values.URL.fullmatch) and "http_referer" not in self.taken:
                self._give(column, "http_referer")
            elif self._is_agent(column) and "http_user_agent" not in self.taken:
                self._give(column, "http_user_agent")
        for column, after in pairwise(columns):
            nothing = column.is_free and column.kind == '"' and not column.said()
            if nothing and after.name == "http_user_agent" and "http_referer" not in self.taken:
                self._give(column, "http_referer")

    def _is_agent(self, column: Column) -> bool:
        plausible = values.AGENT.fullmatch
        return column.most(plausible) if column.kind == '"' else column.most(lambda text: text.startswith("Mozilla/"))

    def by_key(self) -> None:
        for column in self._free():
            called = column.key.rstrip("=: ").lower()
            name = KEYS.get(called, re.sub(r"\W", "_", called, flags=re.ASCII))
            if is_number(name) and not all(values.NUMBER.fullmatch(text) for text in column.values):
                name += "_text"  # it has a unit
            if name and name not in self.taken and name not in BY_VALUES:
                self._give(column, name)
            elif column.kind != '"' and column.all(values.HOST.fullmatch) and "." in "".join(column.values):
                self._give(column, "host")
            elif column.all(values.IDENTITY.fullmatch):
                self._give(column, "request_id")
            elif column.all(values.SCHEME.fullmatch):
                self._give(column, "scheme")
            elif "request" not in self.taken and column.all(values.PATH.fullmatch):
                self._give(column, "request_uri")

    def the_rest(self, before: int) -> None:
        for i, column in enumerate(self.columns):
            if column.is_free:
                self._give(column, f"field_{before + i + 1}")


def _digits(column: Column) -> int:
    return len(column.said()[0].partition(".")[0])


def _is_status(column: Column) -> bool:
    codes = [text for text in column.values if re.fullmatch("[1-9][0-9]{2}", text)]
    return column.kind in 'w"[(' and bool(codes) and all(map(values.STATUSES.__contains__, column.values))
