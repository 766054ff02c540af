"""Csv files with a header, as in RFC 4180: columns with names, separated by commas (or semicolons or tabs).

Quoted fields may hold separators, doubled quotes and line breaks. The first line that is not blank is the header
and is not counted. A line with another number of fields than the header is no request. A quote that is never closed
costs its own line, not the rest of the file.
"""

from __future__ import annotations

import csv

import numpy as np

from traffic.formats.field_selection import FieldSelection
from traffic.formats.named_fields import FieldReader, time_field
from traffic.formats.rows import FormatMismatchError, Rows

SEPARATORS = ",;\t"
# A record with line breaks in it is looked for this far.
RECORD_CHARACTERS = 1 << 16


class CSV:
    """Reads csv files. Keys and costs are of any columns; a session is a key."""

    def __init__(self, selection: FieldSelection) -> None:
        self._selection = selection
        self._header: list[str] | None = None
        self._separator = ","
        self._foreign = False  # its first line is no header
        self._fields: FieldReader | None = None
        self._held: list[str] = []  # the lines of a record that the next block may end

    def recognizes(self, line: str) -> bool:
        """Tell whether the line fits the header, which is the first line that is not blank."""
        if not line.strip() or self._foreign:
            return False
        if self._header is None:
            header = self._read_header(line)
            self._foreign = time_field(self._selection, header) not in header
            return not self._foreign
        return self._parse(line.removesuffix("\r")) is not None

    def read(self, lines: list[str], rows: Rows) -> None:
        """Add a request for each record; a record that the next block may end is held back."""
        first = rows.line
        if self._fields is None:
            blank = next((i for i, line in enumerate(lines) if line.strip()), None)
            if blank is None:
                return
            self._begin(self._read_header(lines[blank]))
            first, lines = first + blank + 1, lines[blank + 1 :]
        self._take(lines, first, rows, last=False)

    def close(self, rows: Rows) -> None:
        """Add or report the records that were held back."""
        if self._fields is None:
            return
        self._take([], rows.line, rows, last=True)
        self._fields.close(rows)

    def _begin(self, header: list[str]) -> None:
        self._fields = FieldReader(self._selection, header)
        self._fields.check(header, self._fields.needed)
        for name in self._fields.needed:
            if header.count(name) > 1:
                raise FormatMismatchError(f"has {header.count(name)} columns called {name!r}; give them names of their own")

    def _read_header(self, line: str) -> list[str]:
        line = line.removesuffix("\r")
        self._separator = max(SEPARATORS, key=line.count)
        values = _split(line, self._separator) or line.split(self._separator)
        self._header = [name.strip() for name in values]
        return self._header

    def _take(self, lines: list[str], first: int, rows: Rows, last: bool) -> None:
        """Add or report the records in lines (the first is number `first`), after those that are held."""
        assert self._fields is not None
        assert self._header is not None
        first -= len(self._held)
        lines = self._held + [line.removesuffix("\r") for line in lines]
        self._held = []
        records: list[list[str]] = []
        texts: list[str] = []
        numbers: list[int] = []
        at = 0
        while at < len(lines):
            end, record = at + 1, self._parse(lines[at])
            if record is None and lines[at].count('"') % 2:
                end = _closing(lines, at)
                if end > len(lines) and not last:
                    self._held = lines[at:]
                    break
                record = self._parse("\n".join(lines[at:end])) if end <= len(lines) else None
            if record is None:
                rows.skip(lines[at])
                end = at + 1
            else:
                records.append(record)
                texts.append(lines[at])
                numbers.append(first + at)
            at = end
        if records:
            places = {name: self._header.index(name) for name in self._fields.needed}
            columns = {name: [record[place] for record in records] for name, place in places.items()}
            self._fields.add(columns, texts, np.array(numbers), rows)

    def _parse(self, text: str) -> list[str] | None:
        """Split a whole record into its fields; None if the header has another number of fields."""
        assert self._header is not None
        values = _split(text, self._separator)
        return values if values is not None and len(values) == len(self._header) else None


def _split(text: str, separator: str) -> list[str] | None:
    if '"' not in text:
        return text.split(separator)
    try:
        records = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None
    return records[0] if len(records) == 1 else None


def _closing(lines: list[str], at: int) -> int:
    """Where the lines end that have an even number of quotes together with line `at`, which has an odd one.

    One more than there are lines if that may be beyond them; `at` + 1 if it is farther than a record may be long.
    """
    size = len(lines[at])
    for end in range(at + 1, len(lines)):
        size += len(lines[end])
        if size > RECORD_CHARACTERS:
            return at + 1
        if lines[end].count('"') % 2:
            return end + 1
    return len(lines) + 1
