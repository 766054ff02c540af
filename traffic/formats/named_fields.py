"""Shared by logs with named fields (csv, JSON lines): columns of values become times, costs and keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traffic.expression import Expression
from traffic.formats.field_selection import FieldSelection, join_names
from traffic.formats.rows import FormatMismatchError, Rows, validate_cost
from traffic.formats.status import TOO_MANY, Statuses, hashable, status_field
from traffic.provenance import printable
from traffic.timestamps import NAMES, TimestampParser, numbers

ALL = "all"
NOBODY = "-"
TIME_NAMES = ("time", "timestamp", "@timestamp", "ts", "datetime")
SHOWN = 20


def time_field(selection: FieldSelection, known: Iterable[str]) -> str | None:
    """Choose the field of the time: the selected one, or else the first with a usual name of times, in any case."""
    if selection.time is not None:
        return selection.time
    lower = {name.lower(): name for name in known}
    return next((lower[name] for name in TIME_NAMES if name in lower), None)


class FieldReader:
    """Turns the selected fields of one log into requests.

    A line is no request, and is reported, if its time is unreadable or a field of its cost is empty or no number. A line
    that was answered 429 is a request even without a cost, because a log may tell only the cost that was taken. An empty
    field of the key is "-", as in an access log. Without a key field all requests have the key "all".

    Raises
    ------
    FormatMismatchError
        If no field can be the time.
    ExpressionError
        If the cost is no expression.
    """

    def __init__(self, selection: FieldSelection, known: Sequence[str]) -> None:
        time = time_field(selection, known)
        if time is None:
            raise FormatMismatchError(
                f"none of its fields is called as times are; name one with time=; {list_fields(known)}"
            )
        self.known = known
        self.time = time
        self.key = selection.key_fields(known)
        self.cost: Expression | None = None
        if selection.cost is not None:
            self.cost = Expression.column(selection.cost) if selection.cost in known else Expression.parse(selection.cost)
        self.status = status_field(selection.status, known)
        costs = self.cost.names if self.cost else ()
        self.selected = tuple(dict.fromkeys((time, *costs, *self.key, *filter(None, [selection.status]))))
        self.needed = tuple(dict.fromkeys((*self.selected, *filter(None, [self.status]))))
        self._statuses = Statuses()
        self._needs_status = selection.status is not None
        self._stamps = TimestampParser(selection.time_unit)
        self._guessed = selection.time_unit is None
        self._unseen = set(self.key)

    def check(self, present: Iterable[str], names: Iterable[str]) -> None:
        """Raise FormatMismatchError if one of `names` is not `present`; it names the field and the known ones."""
        there = set(present)
        for name in names:
            if name not in there:
                costs = self.cost is not None and name in self.cost.names
                use = "time" if name == self.time else "key" if name in self.key else "cost" if costs else "status"
                raise FormatMismatchError(f"has no field {name!r} for the {use}; {list_fields(self.known)}")

    def add(self, columns: Mapping[str, Sequence[Any]], lines: Sequence[str], line: NDArray[np.int64], rows: Rows) -> None:
        """Add a request for each row of the columns to `rows`, or report the row's line.

        Parameters
        ----------
        columns : Mapping[str, Sequence[Any]]
            One column for each name in `needed`, each of length n.
        lines : Sequence[str]
            The text of each row.
        line : NDArray[np.int64]
            The number of each row's line in the file, shape (n,).
        rows : Rows
            Collects the requests.
        """
        time = self._stamps.seconds(columns[self.time])
        good = np.isfinite(time)
        status = self._codes(columns, len(time))
        refused = status == TOO_MANY
        unsaid = np.zeros(len(time), np.bool_)  # refused, and without a cost
        terms = {}
        for name in self.cost.names if self.cost else ():
            terms[name] = numbers(columns[name])
            for row in np.flatnonzero(np.isnan(terms[name])).tolist():
                if not _says_nan(columns[name][row]):
                    unsaid[row] = refused[row]
                    good[row] &= refused[row]
        for text in compress(lines, ~good):
            rows.skip(text)
        n = int(np.count_nonzero(good))
        if not n:
            return
        cost = None
        if self.cost:
            said = good & ~unsaid
            known = {name: term[said] for name, term in terms.items()}
            cost = np.full(len(time), np.nan)
            cost[said] = validate_cost(self.cost(known, int(np.count_nonzero(said))), line[said])
            cost = cost[good]
        rows.add(time[good], self._keys(columns, good, n), cost=cost, status=status[good])

    def close(self, rows: Rows) -> None:
        """Note the guessed time unit.

        Raises FormatMismatchError if a field of the key was empty in every line, or the selected status field held no
        status.
        """
        if rows.parsed and self._unseen:
            missing = next(name for name in self.key if name in self._unseen)
            raise FormatMismatchError(
                f"has nothing in the field {missing!r} of the key in any line; {list_fields(self.known)}"
            )
        if rows.parsed and self._needs_status:
            raise FormatMismatchError(
                f"has no status (100 to 999) in the field {self.status!r} in any line; {list_fields(self.known)}"
            )
        if self._guessed and self._stamps.unit in ("ms", "us", "ns"):
            rows.notes.append(f"time taken for {NAMES[self._stamps.unit]} by its size")

    def _codes(self, columns: Mapping[str, Sequence[Any]], n: int) -> NDArray[np.uint16]:
        if self.status is None:
            return np.zeros(n, np.uint16)
        codes = self._statuses.numbers(hashable(columns[self.status]), n)
        self._needs_status &= not codes.any()
        return codes

    def _keys(self, columns: Mapping[str, Sequence[Any]], good: NDArray[np.bool_], n: int) -> Iterable[str]:
        if not self.key:
            return repeat(ALL, n)
        spelled = []
        for name in self.key:
            values = list(map(_spelled, compress(columns[name], good)))
            if name in self._unseen and any(value != NOBODY for value in values):
                self._unseen.discard(name)
            spelled.append(values)
        return join_names(spelled)


def list_fields(names: Sequence[str]) -> str:
    """List the names of the fields, at most the first 20, safe to print."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"its fields are {', '.join(map(printable, names[:SHOWN]))}{more}"


def _says_nan(value: Any) -> bool:
    """Whether this, which was read as nan, is meant to be: text that is no number is not."""
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _spelled(value: Any) -> str:
    """Spell a value as a name: text as it is, nothing as "-", numbers and the rest as in JSON."""
    if value is None or value == "":
        return NOBODY
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    # JSON can spell halves of a character, which no file could hold.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
