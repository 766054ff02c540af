"""Csv files with a header: columns with names, separated by commas, semicolons, tabs, pipes, carets, tildes, ^A or blanks.

The separator is the one that cuts the first lines into equally many columns. Excel's first line `sep=;`, comments (# and
--), the borders and row counts of psql and mysql are no requests. Quoted fields (RFC 4180; quotes inside are doubled, or
escaped by a backslash) may hold separators and line breaks. A line with another number of fields than the header is no
request, and a quote that is never closed costs its own line, not the rest of the file.

Blocks whose quotes are all in order are cut by pyarrow, the others line by line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.formats.base import EXCERPT_CHARACTERS, Block, Fields, Format, FormatMismatchError
from traffic.formats.delimited import read_delimited
from traffic.provenance import printable

SEPARATORS = ",;\t|^~\x01"
BLANK = " "
# The separator is judged by so many lines.
FIRST_LINES = 100
# Of which this part must have as many fields as the header.
FITTING = 0.5
# A table that is aligned by blanks must have so many of its lines in common.
ALIGNED = 0.9
# Lines above the header that are no comments.
TITLE_LINES = 5
# Lines without any separator are one column, which must be the time, if no separator fits better than this.
LONE = 0.6
# A record with line breaks in it is looked for this far.
RECORD_CHARACTERS = 1 << 16
# Nothing, as MySQL and PostgreSQL write it.
NULL = "\\N"

SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
COMMENT = re.compile(r"#|--|//")
# Directives of W3C extended logs and Zeek, which are no csv files.
W3C = re.compile(r"#(?:Fields:|separator )", re.IGNORECASE)
# The borders of tables, and the count below them.
BORDER = "-+|:= "
COUNT = re.compile(r"\([0-9]+ rows?\)|[0-9]+ rows? in set .*")
DATA = re.compile(
    r"[-+]?[0-9]++(?:[.,][0-9]++)?(?:e[-+]?[0-9]++)?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}.*"
    r"|[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{4}.*"
    r"|\[?[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}.*"
    r"|[0-9]++\.[0-9]++\.[0-9]++\.[0-9]++(?::[0-9]++)?",
    re.IGNORECASE | re.DOTALL,
)
NO_NAME = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]/[A-Z][a-z]{2}/[0-9]|[0-9]\.[0-9]++\.[0-9]++\.[0-9]|://|["=]')
NAME_CHARACTERS = 100
LONE_NAME = re.compile(r"[A-Za-z_@][A-Za-z0-9_@.-]*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a csv file is written."""

    separator: str
    escape: str | None = None
    """The character before a quote inside a quoted field; None if such quotes are doubled."""
    trim: bool = False
    """Whether blanks around the separators are no part of the fields."""

    def records(self, lines: Sequence[str], *, strict: bool = False) -> list[list[str]]:
        """Cut lines into records. Raises csv.Error if `strict` and a quote is out of order."""
        reader = csv.reader(
            [line + "\n" for line in lines],
            delimiter=self.separator,
            doublequote=self.escape is None,
            escapechar=self.escape,
            skipinitialspace=self.trim,
            strict=strict,
        )
        return [[field.strip() if self.trim else field for field in record] for record in reader]

    def record(self, text: str) -> list[str] | None:
        """Cut one whole record; None if its quotes are out of order."""
        if '"' not in text and self.escape is None:
            values = text.split(self.separator)
            return [value.strip() for value in values] if self.trim else values
        try:
            records = self.records(text.split("\n"), strict=True)
        except csv.Error:
            return None
        return records[0] if len(records) == 1 else None


class CSVColumns:
    """Splits the lines below a header."""

    def __init__(
        self, dialect: Dialect, header: Sequence[str], text: str, line: int, quotes: bool, commas: set[str]
    ) -> None:
        self._dialect = dialect
        self._header = list(header)
        self._header_text = text.encode()
        self._header_line = line
        self._commas = commas
        self.names = tuple(name for name in header if name)
        self.in_order = quotes
        self._held = b""
        self._next = 1

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the records of a block; one that the next block may end is held back."""
        data, first = block.data, block.line
        ignored = 0
        while first <= self._header_line and data:
            line, _, data = data.partition(b"\n")
            ignored += bool(line.strip())
            first += 1
        self._next = first + data.count(b"\n")
        data = self._held + data
        first -= self._held.count(b"\n")
        self._held = b""
        return self._split(data, first, ignored, needed, last=not self.in_order)

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return what was held back, as records or lost lines."""
        data, self._held = self._held, b""
        return self._split(data, self._next - data.count(b"\n"), 0, needed, last=True) if data else None

    def _split(self, data: bytes, first: int, ignored: int, needed: Collection[str], *, last: bool) -> Fields:
        if self._dialect.separator == BLANK:
            data = b"\n".join(b" ".join(line.split()) for line in data.split(b"\n"))
        places = {name: self._place(name) for name in needed}
        lost = _Lost()
        if _in_order(data, self._dialect):
            columns, line = self._fast(data, places, lost)
        else:
            columns, line = self._exact(data, places, lost, last=last)
        for name in self._commas & set(columns):
            columns[name] = _replaced(columns[name])
        return Fields(columns, line + first, lost.lines, ignored + lost.ignored)

    def _place(self, name: str) -> int | None:
        if self._header.count(name) > 1:
            count = self._header.count(name)
            raise FormatMismatchError(f"has {count} columns called {name!r}; give them names of their own")
        return self._header.index(name) if name in self._header else None

    def _fast(
        self, data: bytes, places: dict[str, int | None], lost: _Lost
    ) -> tuple[dict[str, pa.Array], NDArray[np.int64]]:
        data, line = self._cleaned(data, lost)
        columns, bad, texts = read_delimited(
            data, self._dialect.separator, len(self._header), places, [NULL], quoted=b'"' in data
        )
        for text in texts:
            lost.add(text)
        if self._dialect.trim:
            import pyarrow.compute as pc

            columns = {name: pc.utf8_trim_whitespace(column) for name, column in columns.items()}
        return columns, np.delete(line, bad) if bad else line

    def _cleaned(self, data: bytes, lost: _Lost) -> tuple[bytes, NDArray[np.int64]]:
        """Take out blank lines, repeated headers and borders; also return the places of the lines that stay."""
        framed = b"\n" + data
        borders = self._dialect.separator == "|" and b"--" in data
        if not borders and b"\n\n" not in framed and b"\n" + self._header_text + b"\n" not in framed:
            return data, np.arange(data.count(b"\n"))
        kept, places = [], []
        for place, line in enumerate(data.split(b"\n")):
            if line == self._header_text or (borders and _is_border(line.decode())):
                lost.ignored += 1
            elif line.strip(b" \t"):
                kept.append(line + b"\n")
                places.append(place)
        return b"".join(kept), np.array(places, np.int64)

    def _exact(
        self, data: bytes, places: dict[str, int | None], lost: _Lost, *, last: bool
    ) -> tuple[dict[str, pa.Array], NDArray[np.int64]]:
        lines, header = data.decode().split("\n")[:-1], self._header_text.decode()
        records: list[list[str]] = []
        numbers: list[int] = []
        at = 0
        while at < len(lines):
            if lines[at] == header:  # repeated, whatever number of fields it has
                lost.ignored += 1
                at += 1
                continue
            end, record = at + 1, self._record(lines[at])
            if record is None and lines[at].count('"') % 2:
                end = _closing(lines, at)
                if end > len(lines) and not last:
                    self._held = "".join(f"{line}\n" for line in lines[at:]).encode()
                    break
                record = self._record("\n".join(lines[at:end])) if end <= len(lines) else None
            if record is None:
                lost.add(lines[at])
                end = at + 1
            elif "\n".join(lines[at:end]) != header:
                records.append(record)
                numbers.append(at)
            else:
                lost.ignored += 1
            at = end
        columns = {}
        for name, place in places.items():
            values = [None] * len(records) if place is None else [record[place] for record in records]
            columns[name] = pa.array([None if value == NULL else value for value in values], pa.string())
        return columns, np.array(numbers, np.int64)

    def _record(self, text: str) -> list[str] | None:
        """Cut a whole record into its fields; None if the header has another number of fields."""
        values = self._dialect.record(text)
        return values if values is not None and len(values) == len(self._header) else None


class _Lost:
    """The lines that are no record: lost ones, and those that never were meant to be one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ignored = 0

    def add(self, line: str) -> None:
        if _aside(line):
            self.ignored += 1
        elif line.strip():
            self.lines.append(line[:EXCERPT_CHARACTERS])


def _aside(line: str) -> bool:
    """Tell whether a line is a comment, a border, or the count of the rows."""
    return COMMENT.match(line) is not None or _is_border(line) or COUNT.fullmatch(line.strip()) is not None


def _is_border(line: str) -> bool:
    return "-" in line and not line.strip(BORDER)


def _in_order(data: bytes, dialect: Dialect) -> bool:
    """Tell whether all quotes are around whole fields, and none of these fields holds a line break."""
    if b"\r" in data or (dialect.escape and dialect.escape.encode() in data):
        return False
    if b'"' not in data:
        return True
    if dialect.trim:
        return False
    text = np.frombuffer(b"\n" + data, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    ends = np.zeros(256, np.bool_)
    ends[[ord("\n"), ord(dialect.separator), ord('"')]] = True
    if not (ends[text[opening - 1]].all() and ends[text[closing + 1]].all()):
        return False
    # A quote that follows a quote is the second of a doubled one, or opens a field just after one was closed.
    breaks = np.flatnonzero(text == ord("\n"))
    return not (np.searchsorted(quotes, breaks) % 2).any()


def _replaced(column: pa.Array) -> pa.Array:
    """Write decimal commas as points."""
    import pyarrow.compute as pc

    return pc.replace_substring(column, ",", ".")


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


def _splitter(block: Block) -> CSVColumns | None:
    lines = block.data[: 1 << 20].decode("utf-8", "ignore").split("\n")
    if len(block.data) <= 1 << 20:
        lines.pop()
    at, separators = 0, SEPARATORS
    while at < len(lines) and (not lines[at].strip() or _aside(lines[at])):
        at += 1
    if at < len(lines) and (said := SEP.fullmatch(lines[at].strip(" "))):
        separators, at = said[1], at + 1
    places = [i for i in range(at, min(at + FIRST_LINES, len(lines))) if lines[i].strip() and not _aside(lines[i])]
    sample = [lines[i] for i in places]
    if not sample or any(W3C.match(line) for line in lines[: places[0]]):
        return None
    found = max((_judged(sample, separator) for separator in separators), key=lambda judged: _rank(judged, len(sample)))
    if found[1] <= 1 and found[3][1:]:
        aligned = _judged([_squeezed(line) for line in sample], BLANK)
        is_table = (
            aligned[0] >= ALIGNED
            and all(map(LONE_NAME.fullmatch, aligned[3][0]))
            and any(map(DATA.fullmatch, aligned[3][1]))
        )
        found = aligned if is_table else found
    fitting, width, dialect, rows = found
    if fitting < FITTING:
        return None
    header = [name.strip() for name in rows[0]]
    at = places[len(sample) - len(rows)] if not any('"' in line for line in sample) else places[0]
    text = lines[at]
    while text.count('"') % 2 and at + 1 < len(lines):  # a name with a line break in it
        at += 1
        text += "\n" + lines[at]
    if width == 1 and not (LONE_NAME.fullmatch(header[0]) and all(DATA.fullmatch(line.strip(' "')) for line in sample[1:])):
        return None
    if not all(len(name) <= NAME_CHARACTERS and not DATA.fullmatch(name) and not NO_NAME.search(name) for name in header):
        return _headed_by_comment(block, lines[: places[0]], dialect, rows)
    return _columns(dialect, header, text, block.line + at, rows[1:], block)


def _judged(sample: list[str], separator: str) -> tuple[float, int, Dialect, list[list[str]]]:
    """Return which part of the lines the separator cuts as it does the first, into how many fields, and how."""
    best: tuple[float, int, Dialect, list[list[str]]] | None = None
    for escape in (None, "\\") if any('\\"' in line for line in sample) else (None,):
        trim = f" {separator}" in sample[0] or f"{separator} " in sample[0]
        dialect = Dialect(separator, escape, trim)
        try:
            rows = dialect.records(sample)
        except csv.Error:  # a field of more than 128 KiB
            continue
        rows = _without_title(rows) if not any('"' in line for line in sample) else rows
        width = len(rows[0])
        fits = [sum(len(row) == fields for row in rows[1:]) for fields in (width, width + 1)]
        fitting = (1 + max(fits)) / len(rows) if width > 1 else LONE
        if best is None or fitting > best[0]:
            best = fitting, width, dialect, rows
    return best or (0.0, 0, Dialect(separator), [])


def _rank(judged: tuple[float, int, Dialect, list[list[str]]], lines: int) -> tuple[float, bool, int]:
    fitting, width, _, rows = judged
    return fitting, len(rows) == lines, width


def _without_title(rows: list[list[str]]) -> list[list[str]]:
    """Leave out the first lines if they have no separator and nearly all others have."""
    title = next((i for i, row in enumerate(rows) if len(row) > 1), 0)
    return rows[title:] if title <= TITLE_LINES and len(rows) - title > 1 else rows


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _columns(dialect: Dialect, header: list[str], text: str, line: int, rows: list[list[str]], block: Block) -> CSVColumns:
    longer = [row for row in rows if len(row) == len(header) + 1]
    if len(longer) > len(rows) / 2:
        # A separator at the end of every line, or names of rows, which R writes without a name of their own.
        header = [*header, ""] if not any(row[-1] for row in longer) else ["", *header]
    commas = {name for i, name in enumerate(header) if dialect.separator != "," and _decimal_commas(i, rows)}
    return CSVColumns(dialect, header, text, line, b'"' in block.data, commas)


def _decimal_commas(place: int, rows: list[list[str]]) -> bool:
    """Tell whether a column has numbers with decimal commas, which are surely not commas between thousands."""
    values = [row[place] for row in rows if place < len(row) and row[place]]
    if not all(re.fullmatch(r"[-+]?[0-9]+(?:,[0-9]+)?", value) for value in values):
        return False
    return any(re.fullmatch(r"[-+]?(?:0,[0-9]+|[0-9]+,(?:[0-9]{1,2}|[0-9]{4,}))", value) for value in values)


def _headed_by_comment(block: Block, above: list[str], dialect: Dialect, rows: list[list[str]]) -> CSVColumns | None:
    """Take the last comment above the lines for the header, if it has as many names."""
    comments = [text for text in above if text.startswith("#")]
    if not comments:
        return None
    header = [name.strip() for name in dialect.record(comments[-1].lstrip("# ")) or ()]
    if len(header) != len(rows[0]) or len(header) < 2 or any(DATA.fullmatch(name) for name in header):
        return None
    return _columns(dialect, header, comments[-1], block.line + len(above) - 1, rows, block)


def refuse_headless(block: Block) -> None:
    """Raise FormatMismatchError if a log that no format reads is csv without a header, for all that can be told."""
    first = next(
        (line for line in block.data.decode("utf-8", "ignore").split("\n") if line.strip() and not _aside(line)), ""
    )
    cells = max((first.split(separator) for separator in SEPARATORS), key=len)
    if sum(bool(DATA.fullmatch(cell.strip(' "'))) for cell in cells) >= 2:
        raise FormatMismatchError(
            f"has no header, its first line is {printable(first)}: write the columns' names in a line above it,"
            " or name them with --log-format '$time,$client,...'"
        )


CSV = Format(
    name="csv",
    title="columns with a header, separated by comma, semicolon, tab or pipe",
    example="timestamp,client,status\n2024-05-10 06:25:24.512 UTC,203.0.113.7,200",
    source="https://www.rfc-editor.org/rfc/rfc4180",
    splitter=_splitter,
)
