"""Lines of pairs in any order: logfmt (Heroku's router, Go's loggers), key=value of any separator, and LTSV.

    2024-05-10T06:25:24Z app: method=GET path="/a b" status=200 fwd=203.0.113.7
    time:2024-05-10T06:25:24Z<tab>host:203.0.113.7<tab>status:200

A value is quoted, or goes on to the next pair, so that a time with a blank in it is whole. A stamp before the first pair, or
in brackets between pairs, is the field `prefix`. A line of fewer than two pairs, or with a quote that is never closed, is no
request. Of a key that stands twice in a line the last value counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from traffic.formats import logfmt_kernel as kernel
from traffic.formats.base import Block, Fields, Format, excerpt
from traffic.formats.compiled import compiled_function
from traffic.formats.template_splitter import gathered
from traffic.formats.text_columns import map_distinct

PREFIX = "prefix"
EQUALS, COLON, BLANK = ord("="), ord(":"), ord(" ")
# Blanks last: of separators that find as many pairs another one tells values from each other better.
SIGNS = ((COLON, ord("\t")), *((EQUALS, ord(separator)) for separator in "|;,\t "))
FIRST_LINES = 200
FITTING = 0.5
MAX_NAMES = 1000
# Below this many bytes plain Python is sooner done than numba is imported.
SMALL = 1 << 17
# The stamp with which a line begins; RE2 reads it.
STAMP = (
    r"^\W*(?P<stamp>[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ][0-9:.,]+(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?"
    r"|[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:.]+(?: [+-][0-9]{4})?|[0-9]{10}(?:[0-9]{3})*(?:\.[0-9]+)?)(?:\W|$)"
)
ESCAPE = re.compile(r'\\(?:(["\'\\/])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([nrt]))')

# Pairs behind a request in quotes are the smaller part of a line.
REQUEST_FIRST = re.compile(rb'[^"=]*+"[A-Z]{3,9} [^" ]++(?: HTTP/[0-9.]++)?+"')

BLANKS = {"n": "\n", "r": "\r", "t": "\t"}


class Pairs:
    """Splits lines of pairs."""

    in_order = False

    def __init__(self, names: Sequence[str], assign: int, separator: int) -> None:
        self.names = (*names, PREFIX)
        self._signs = (assign, separator)

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the lines that have pairs; a key that a line has not got is null."""
        names = [name for name in needed if name != PREFIX]
        data = np.frombuffer(block.data, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.full((len(names) + 1, len(ends)), -1, np.int32)
        stops = np.full((len(names) + 1, len(ends)), -1, np.int32)
        fits = np.empty(len(ends), np.int32)
        keys = [name.encode() for name in names]
        bounds = np.concatenate(([0], np.cumsum([len(key) for key in keys]))).astype(np.int64)
        results = (starts, stops, fits)
        if len(block.data) < SMALL:
            kernel.cut(block.data, ends.tolist(), self._signs, b"".join(keys), bounds.tolist(), results)
        else:
            spelled = np.frombuffer(b"".join(keys) or b" ", np.uint8)
            compiled_function(kernel.cut)(data, ends, self._signs, spelled, bounds, results)
        row = np.flatnonzero(fits > 0)
        columns = {name: _unescaped(gathered(block.data, starts[i][row], stops[i][row])) for i, name in enumerate(names)}
        if PREFIX in needed:
            columns[PREFIX] = _stamps(gathered(block.data, starts[-1][row], stops[-1][row]))
        lost = np.flatnonzero(fits == kernel.NO_FIT)
        begins = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        skipped = [excerpt(block.data[begins[i] : ends[i]]) for i in lost]
        return Fields(columns, row + block.line, skipped)

    def close(self, needed: Collection[str]) -> None:
        """Return None; nothing is held back."""


def _unescaped(column: pa.Array) -> pa.Array:
    """Replace escapes in values, once per distinct value."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(column, "\\")).as_py():
        return column
    return map_distinct(column, partial(ESCAPE.sub, _character), pa.string())


def _character(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    if match[4]:
        return BLANKS[match[4]]
    code = int(match[2] or match[3], 16)
    # Half of a pair is no character, and a byte above 127 is only a part of one.
    return chr(code) if (match[3] and not 0xD800 <= code < 0xE000) or code < 128 else match[0]


def _stamps(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.struct_field(pc.extract_regex(column, STAMP), "stamp")


def _keys(line: bytes, assign: int, separator: int) -> list[bytes]:
    """List the keys of a line."""
    keys: list[bytes] = []
    p = 0
    while p < len(line):
        key, key_end, _, _, p = kernel.pair(line, p, len(line), assign, separator)
        if key < 0:
            return keys if p <= len(line) else []
        if key < key_end:
            keys.append(line[key:key_end])
    return keys if separator == BLANK or line.count(separator) >= len(keys) - 1 else []


def _splitter(block: Block) -> Pairs | None:
    lines = [
        line
        for line in block.data[: 1 << 20].split(b"\n")[:FIRST_LINES]
        if line.strip() and not line.startswith((b"{", b"[{"))
    ]
    if 2 * sum(map(bool, map(REQUEST_FIRST.match, lines))) > len(lines):
        return None
    best: Pairs | None = None
    most = 0
    for assign, separator in SIGNS:
        keys = [_keys(line, assign, separator) for line in lines]
        fitting = [known for known in keys if len(known) >= kernel.LEAST_PAIRS]
        pairs = sum(map(len, fitting))
        if pairs > most and len(fitting) > FITTING * len(lines):
            most = pairs
            names = dict.fromkeys(key.decode() for known in fitting for key in known)
            best = Pairs(list(names)[:MAX_NAMES], assign, separator)
    return best


LOGFMT = Format(
    name="logfmt",
    title="pairs of key and value: logfmt, key=value, LTSV",
    example='time=2024-05-10T06:25:24.512Z level=info method=GET path="/a b" status=200 remote_addr=203.0.113.7',
    source="https://brandur.org/logfmt",
    splitter=_splitter,
)
