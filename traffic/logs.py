"""`read_log` turns an access log on disk into a Trace: any registered format, plain, gzip or zstd."""

from __future__ import annotations

from itertools import chain

from traffic.blocks import FilePath, LogError, Progress, text_blocks
from traffic.formats import READERS
from traffic.formats.rows import Rows
from traffic.trace import Trace

__all__ = ["READERS", "LogError", "read_log"]

SNIFFED_LINES = 1000
ANONYMOUS = "-"


def read_log(
    path: FilePath,
    *,
    key: str = "client",
    format: str | None = None,
    max_bytes: int = 8 << 30,
    progress: Progress | None = None,
) -> Trace:
    """Read an access log.

    key        what a limit counts: "client" (the host), "user" or "endpoint" (the path without its query)
    format     a name in READERS; None chooses the one that understands most of the first lines
    max_bytes  refuse a compressed log that inflates to more; a plain one may have any size
    progress   called now and then with (bytes done, bytes in all) of the file as it is stored

    The trace has one request per line that parses, cost 1 each, time as stamped (whole seconds, offset
    honoured; see `Trace.spread`); out-of-order lines are sorted. Endpoints are "METHOD /first-segment";
    after the first 256 distinct ones every further one is "other". Sessions are the reader's business: pairs
    of client and user agent in a combined log, clients in a common one. `origin` counts lines, keeps the
    first three that did not parse, and says what was done. Raises LogError, one line that names the file and
    the remedy, if the log cannot be opened, is empty, damaged or too large, or has no line that parses.
    """
    if format is not None and format not in READERS:
        raise LogError(f"{path}: unknown format {format!r}; the formats known are {', '.join(READERS)}")
    blocks = (_split(block) for block in text_blocks(path, max_bytes, progress))
    first = next((lines for lines in blocks if any(map(str.strip, lines))), None)
    if first is None:
        raise LogError(f"{path}: is empty; name a log that has lines")
    name = format or _sniff(path, first, key)
    reader = READERS[name](key)
    if key not in reader.fields:
        raise LogError(f"{path}: a {name} log has no field {key!r} to be the key; use {' or '.join(reader.fields)}")
    rows = Rows()
    for lines in chain([first], blocks):
        reader.read(lines, rows)
    if not rows.parsed:
        raise _nothing_parsed(path, rows, f"none of its {rows.skipped} lines is a request in format {name}")
    if key == "user" and list(rows.keys) == [ANONYMOUS]:
        raise LogError(f"{path}: names no user in any line; use key='client'")
    return rows.trace(str(path))


def _split(block: str) -> list[str]:
    lines = block.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _sniff(path: FilePath, lines: list[str], key: str) -> str:
    """The name of the format that understands most of the first lines."""
    sample = lines[:SNIFFED_LINES]
    understood = {name: sum(map(reader(key).recognises, sample)) for name, reader in READERS.items()}
    name = max(understood, key=understood.__getitem__)
    if not understood[name]:
        rows = Rows()
        for line in sample:
            rows.skip(line)
        raise _nothing_parsed(path, rows, f"none of its first {rows.skipped} lines is in a format known")
    return name


def _nothing_parsed(path: FilePath, rows: Rows, what: str) -> LogError:
    begins = " | ".join(rows.examples)
    return LogError(f"{path}: {what} ({', '.join(READERS)}); use format= to force one. It begins: {begins}")
