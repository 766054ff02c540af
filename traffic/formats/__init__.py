"""The readable log formats: one small reader each, and the registry that names them.

A new format is one file beside this one and one line below. The first lines of a log are tried in the registry's order; of
formats that understand equally many of them, the first wins.
"""

from __future__ import annotations

from collections.abc import Callable

from traffic.formats.apache import Combined, Common
from traffic.formats.csv_columns import CSV
from traffic.formats.field_selection import FieldSelection
from traffic.formats.json_lines import JSONLines
from traffic.formats.rows import Reader

READERS: dict[str, Callable[[FieldSelection], Reader]] = {
    "combined": Combined,
    "common": Common,
    "csv": CSV,
    "jsonl": JSONLines,
}

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""The format of a file name's suffix, used if no line of the log is recognized."""
