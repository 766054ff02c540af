"""Cuts lines of an unknown form into columns: at blanks, quotes, brackets and bars, or at tabs, bars or semicolons alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from traffic.formats.line_values import ADDRESS, CLOCK, DATE, METHOD, PATH, PROTOCOL, ZONE, is_stamp
from traffic.formats.template_parts import Variable

MAX_COLUMNS = 80
SEPARATORS = ("\t", " | ", "|", "; ", ";")
LAST_SEPARATORS = (", ", ",")  # which stand in lists, too
FEWEST_CELLS = 4

_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*+)"|\(([^()"\[\]]*+)\)(?=[\s|]|\Z)|((?:\[[^\]\s"]*+\](?=[:\w]))?+[^\s"\[\]|]++)|\[([^\]"]*+)\]'
)
# A cell's key, and its value in quotes, in brackets, or as it is.
_CELL = re.compile(r'([A-Za-z_][\w.-]*+(?:=|: ?)(?!//))?+(?:"((?:[^"\\]|\\.)*+)"|\[([^\]"]*+)\]|([^"]*+))')
_NUMBERS = re.compile(r"[0-9.-]+,?")

Token = tuple[str, str, str]
"""The kind (a quote, a bracket, a parenthesis, `w` for words, `r` for a request without quotes), the text, and the separator
before it."""


@dataclass
class Column:
    """What stands at one place of many lines."""

    kind: str
    before: str
    """The text before it."""
    values: list[str]
    rows: list[int]
    """Which lines these are."""
    name: str = ""
    literal: bool = False
    """Whether it is text that each line has."""
    key: str = ""
    """What the line itself calls it ("status="); a part of `before`."""
    parts: list[str | Variable] = field(default_factory=list)
    """What stands for it in a template, where that is more than one variable."""

    @property
    def is_free(self) -> bool:
        """Whether it has no name yet."""
        return not (self.name or self.literal or self.parts)

    def said(self) -> list[str]:
        """Return the values but "-" and nothing."""
        return [value for value in self.values if value not in ("-", "")]

    def all(self, plausible: Callable[[str], object]) -> bool:
        """Tell whether each value that is said is plausible, and one is said at all."""
        said = self.said()
        return bool(said) and all(map(plausible, said))

    def most(self, plausible: Callable[[str], object]) -> bool:
        """Tell whether four fifths of the values that are said are plausible."""
        said = self.said()
        return bool(said) and sum(map(bool, map(plausible, said))) >= 0.8 * len(said)


def columns_of_lines(lines: Sequence[str]) -> Iterator[list[Column]]:
    """Cut the lines in each way in which at least half of them are cut alike, the plainest way first."""
    for separator in (*SEPARATORS, "", *LAST_SEPARATORS):
        if not separator:
            yield from _alike([tokens(line) for line in lines])
        elif 2 * sum(line.count(separator) >= FEWEST_CELLS - 1 for line in lines) > len(lines):
            yield from _alike([_cells(line, separator) for line in lines])


def columns_of_tokens(lines: Sequence[str]) -> list[Column] | None:
    """Cut the lines at blanks, quotes, brackets and bars; None if less than half of them are cut alike."""
    return next(_alike([tokens(line) for line in lines]), None)


def _alike(cut: list[list[Token] | None]) -> Iterator[list[Column]]:
    shapes = [tuple((kind, re.sub(" +", " ", before)) for kind, _, before in line) if line else None for line in cut]
    counts = Counter(shape for shape in shapes if shape)
    if not counts:
        return
    shape, count = counts.most_common(1)[0]
    if 2 * count < len(cut) or len(shape) > MAX_COLUMNS:
        return
    columns = [Column(kind, before, [], []) for kind, before in shape]
    for row, line in enumerate(cut):
        if line and shapes[row] == shape:
            for column, (_, text, before) in zip(columns, line, strict=True):
                column.values.append(text)
                column.rows.append(row)
                if "  " in before:
                    column.before = re.sub(" +", "  ", before)
    _find_keys(columns)
    yield columns


def tokens(line: str) -> list[Token] | None:
    """Cut a line at blanks, quotes, brackets and bars; None where a quote or a bracket is not closed."""
    found: list[Token] = []
    place = 0
    for match in _TOKEN.finditer(line):
        before = line[place : match.start()]
        if before.strip(" \t|"):
            return None
        place = match.end()
        if match[1] is not None:
            found.append(('"', match[1], before))
        elif match[2] is not None:
            found.append(("(", match[2], before))
        elif match[4] is not None:
            found.append(("[", match[4], before))
        else:
            _add_word(found, match[3], before)
    return None if line[place:].strip(" \t|") else found


def _add_word(found: list[Token], word: str, before: str) -> None:
    """Add a word, or join it to the one before where both are one time, one list, or one request."""
    if found and before == " ":
        kind, last, before_last = found[-1]
        both = f"{last} {word}"
        if kind == "w" and (
            (CLOCK.fullmatch(word) and DATE.fullmatch(last))
            or (ZONE.fullmatch(word) and is_stamp(last))
            or (last.endswith(",") and (ADDRESS.fullmatch(word.rstrip(",")) or _NUMBERS.fullmatch(word)))
        ):
            found[-1] = ("w", both, before_last)
            return
        path = kind == "w" and METHOD.fullmatch(last) and PATH.fullmatch(word)
        if path or (kind == "r" and last.count(" ") == 1 and PROTOCOL.fullmatch(word)):
            found[-1] = ("r", both, before_last)
            return
    found.append(("w", word, before))


def _cells(line: str, separator: str) -> list[Token] | None:
    found: list[Token] = []
    cells = re.findall(rf'((?:"(?:[^"\\]|\\.)*+"|(?!{re.escape(separator)})[^"])*+)(?:{re.escape(separator)}|\Z)', line)
    if not line.endswith(separator):
        cells.pop()  # an empty one at the end
    if sum(map(len, cells)) + len(separator) * (len(cells) - 1) != len(line):
        return None  # a quote is not closed
    for cell in cells:
        match = _CELL.fullmatch(cell)
        if match is None:
            return None
        key, quoted, bracketed, plain = match.groups()
        kind = '"' if quoted is not None else "[" if bracketed is not None else "w"
        text = quoted or bracketed or plain or ""
        if key and kind == "w" and (is_stamp(cell) or ADDRESS.fullmatch(cell) or not text):
            key, text = "", cell  # "fe80:..."
        found.append((kind, text, (separator if found else "") + (key or "")))
    return found


_UNITS = frozenset({"ms", "msec", "s", "sec", "secs", "us", "usec", "B", "bytes", "byte"})
_SIGNS = frozenset({"->", "=>", ">", "<", "--", "/", ";", ",", ":"})
_KEY = re.compile(r"([A-Za-z_][\w.-]*[=:])(?!//)(.*)")
_BRACKET_KEY = re.compile(r"[A-Za-z_][\w-]*+:? (?=\S)")
_ENDS_WITH_KEY = re.compile(r"(?:.*[\s|;])?([A-Za-z_][\w.-]*(?:=|: ?))")


def _find_keys(columns: list[Column]) -> None:
    """Find what is text in each line: the key in "status=200" and "status: 200", arrows, units."""
    for column, after in pairwise([*columns, Column("", "", [], [])]):
        ends = _ENDS_WITH_KEY.fullmatch(column.before)
        if ends and not column.key:
            column.key = ends[1]
        if column.kind == "[" and after.kind:
            _find_key_in_brackets(column, after)
        if column.kind != "w":
            continue
        text = column.values[0]
        if len(set(column.values)) == 1:
            if after.kind and re.fullmatch(r"[A-Za-z_][\w.-]*[:=]", text):
                column.literal = True
                after.key = text
                continue
            if text in _UNITS or text in _SIGNS:
                column.literal = True
                continue
        if (
            after.kind
            and len(ends_with := {value[-1:] for value in column.values}) == 1
            and text[1:].endswith((":", ";", ","))
        ):
            column.values = [value[:-1] for value in column.values]
            after.before = ends_with.pop() + after.before
        while key := _key(column):
            column.key = key
            column.values = [value[len(key) :] for value in column.values]
            column.before += key


def _key(column: Column) -> str:
    """Return the text before an equals sign or a colon with which each word begins, unless it is a host before its port."""
    keys = {match[1] if (match := _KEY.fullmatch(value)) else "" for value in column.values}
    key = keys.pop()
    if keys or not key or column.all(ADDRESS.fullmatch) or key in column.values:
        return ""
    ports = "." in key and all(re.fullmatch(r"[0-9]{1,5}", value[len(key) :]) for value in column.values)
    return "" if ports else key


def _find_key_in_brackets(column: Column, after: Column) -> None:
    """Find the text in each line in "[Client 203.0.113.7]"."""
    keys = {match[0] if (match := _BRACKET_KEY.match(value)) else "" for value in column.values}
    key = keys.pop()
    if keys or not key or METHOD.match(key) or column.all(is_stamp):
        return
    column.kind = "w"
    column.key = key
    column.before += f"[{key}"
    column.values = [value[len(key) :] for value in column.values]
    after.before = f"]{after.before}"


def written(columns: Sequence[Column]) -> list[str | Variable]:
    """Return the template that the columns make."""
    parts: list[str | Variable] = []
    for column in columns:
        parts.append(column.before)
        if column.literal:
            parts.append(column.values[0])
        elif column.parts:
            parts += column.parts
        else:
            opening, closing = {'"': ('"', '"'), "[": ("[", "]"), "(": ("(", ")")}.get(column.kind, ("", ""))
            parts += [opening, Variable(column.name), closing]
    return parts
