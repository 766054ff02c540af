"""W3C extended logs of IIS and CloudFront: a directive `#Fields:` names the columns of the lines that follow.

    #Fields: date time c-ip cs-method cs-uri-stem sc-status cs(User-Agent)
    2022-05-16 13:17:29 203.0.113.7 GET /a 206 Mozilla/5.0+(X11)

https://www.w3.org/TR/WD-logfile.html. Columns are separated by blanks, or by tabs (CloudFront, Zeek). A server that is
restarted with other columns writes the directive again. "-" is nothing. Blanks inside user agents and lists of addresses are
written as plus signs by IIS, and as %20 (or %2520) by CloudFront; both are read as blanks. The other directives are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.formats.base import EXCERPT_CHARACTERS, Block, Fields, Format
from traffic.formats.delimited import read_delimited
from traffic.formats.text_columns import map_distinct

DIRECTIVE = re.compile(rb"#\s*Fields:?[ \t]+", re.IGNORECASE)
TRAILING = re.compile(rb"(?<! ) ++\n")
ABSENT = ["-", "(empty)"]
# What is text in which a plus sign or %20 stands for a blank. A path keeps its spelling.
SPELLED = re.compile(r"cs\(.*\)|.*forwarded.*|.*user-agent.*", re.IGNORECASE)


class W3C:
    """Splits lines by the directive above them."""

    in_order = True

    def __init__(self, fields: Sequence[str], names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._fields = list(fields)

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the records of a block. Columns that the directive in force does not name are null."""
        parts = [_Section(self._fields, block.data, np.arange(block.data.count(b"\n")))]
        ignored = 0
        framed = b"\n" + block.data
        if b"\n#" in framed or b"\n\n" in framed:
            parts, ignored = self._sections(block.data)
        skipped: list[str] = []
        cut = [part.cut(needed, skipped) for part in parts if len(part.line)]
        line = np.concatenate([places for _, places in cut]) if cut else np.zeros(0, np.int64)
        columns = {name: pa.concat_arrays([c[name] for c, _ in cut]) if cut else pa.nulls(0, pa.string()) for name in needed}
        return Fields(columns, line + block.line, skipped, ignored)

    def close(self, needed: Collection[str]) -> None:
        """Return None; nothing is held back."""

    def _sections(self, data: bytes) -> tuple[list[_Section], int]:
        """Cut a block where a directive names other columns. Also returns how many lines are directives or comments."""
        sections, ignored = [], 0
        lines: list[bytes] = []
        places: list[int] = []
        for place, line in enumerate(data.split(b"\n")):
            if line.startswith(b"#"):
                ignored += 1
                fields = _fields(line)
                if fields and fields != self._fields:
                    sections.append(_Section(self._fields, b"".join(lines), np.array(places, np.int64)))
                    lines, places, self._fields = [], [], fields
            elif line.strip():
                lines.append(line + b"\n")
                places.append(place)
        return [*sections, _Section(self._fields, b"".join(lines), np.array(places, np.int64))], ignored


@dataclass(frozen=True, slots=True)
class _Section:
    """Lines below one directive, and their places in the block."""

    fields: Sequence[str]
    data: bytes
    line: NDArray[np.int64]

    def cut(self, needed: Collection[str], skipped: list[str]) -> tuple[dict[str, pa.Array], NDArray[np.int64]]:
        """Return the columns and the places of the lines that have as many fields as the directive names."""
        data = TRAILING.sub(b"\n", self.data) if b" \n" in self.data else self.data
        first = data[: data.index(b"\n")]
        separator = "\t" if first.count(b"\t") >= first.count(b" ") else " "
        # IIS's Advanced Logging quotes what has blanks; all others write the quotes of a user agent as they came.
        quoted = len(first.split(separator.encode())) != len(self.fields) and b'"' in first
        places = {name: self.fields.index(name) if name in self.fields else None for name in needed}
        columns, bad, lost = read_delimited(data, separator, len(self.fields), places, ABSENT, quoted=quoted)
        skipped += [text.strip()[:EXCERPT_CHARACTERS] for text in lost]
        line = np.delete(self.line, bad) if bad else self.line
        for name in filter(SPELLED.fullmatch, columns):
            columns[name] = map_distinct(columns[name], _text, pa.string())
        return columns, line


def _fields(line: bytes) -> list[str]:
    found = DIRECTIVE.match(line)
    return line[found.end() :].decode().split() if found else []


def _text(value: str) -> str:
    if "%" in value:
        value = unquote(unquote(value), errors="backslashreplace")
    return value.replace("+", " ")


def _splitter(block: Block) -> W3C | None:
    directives = [_fields(line) for line in block.data.split(b"\n") if line.startswith(b"#")]
    named = [fields for fields in directives if fields]
    begins = block.data.lstrip().startswith(b"#")
    return W3C(named[0], [name for fields in named for name in fields]) if named and begins else None


LOG = Format(
    name="w3c",
    title="W3C extended: IIS, CloudFront; the columns are named by #Fields",
    example="#Fields: date time c-ip cs-method cs-uri-stem sc-status\n2022-05-16 13:17:29 203.0.113.7 GET /a 206",
    source="https://www.w3.org/TR/WD-logfile.html",
    splitter=_splitter,
    roles={"time": ("date", "time"), "client": ("c-ip",)},
)
