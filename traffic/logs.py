"""`read_log` turns a log on disk into a `Trace`: access logs, csv, JSON lines; plain, gzip or zstd."""

from __future__ import annotations

from itertools import chain
from os import fspath

from traffic.chunks import FilePath, LogError, Progress, text_blocks
from traffic.expression import ExpressionError
from traffic.formats import READERS, SUFFIXES
from traffic.formats.field_selection import FieldSelection
from traffic.formats.rows import FormatMismatchError, Rows
from traffic.timestamps import TIME_UNITS, TimeUnit
from traffic.trace import Trace

__all__ = ["READERS", "LogError", "read_log"]

SNIFFED_LINES = 1000
BYTE_ORDER_MARK = "\ufeff"


def read_log(
    path: FilePath,
    *,
    key: str | None = None,
    format: str | None = None,
    time: str | None = None,
    time_unit: TimeUnit | None = None,
    cost: str | None = None,
    status: str | None = None,
    max_bytes: int = 8 << 30,
    progress: Progress | None = None,
) -> Trace:
    """Read a log as a trace of one request per line that parses.

    Times are as stamped (whole seconds in access logs, see `Trace.spread`), with their offsets applied. Lines out of order
    are sorted. Endpoints of access logs are "METHOD /first-segment"; after the first 256 distinct ones every further one is
    "other". Sessions are pairs of client and user agent in a combined log, clients in a common one, and keys elsewhere. The
    provenance counts lines (without the header of a csv file), keeps the first three that did not parse, and notes what was
    done. Lines of csv and JSON lines do not parse if their time, or a field of the cost, is missing or unreadable. An empty
    field of the key is "-". Every request is demand, whatever its answer: a request that was answered 429 is in the trace
    like any other. The provenance notes how many there are. A 429 without a cost gets the mean cost of its key's requests
    that were not refused.

    Parameters
    ----------
    path : FilePath
        The log.
    key : str, optional
        The field that a limit counts by, or several joined ("client+endpoint"). Of an access log: "client" (the host; the
        default), "user", "method", "endpoint" (the path without its query), "status", "session", and of a combined one also
        "referrer" and "agent". Of a csv file any column; of JSON lines any field, also by a path ("user.id"). Without one,
        csv and JSON lines have the single key "all".
    format : str, optional
        A name in READERS. None chooses the format that understands most of the first lines, or goes by the file's name.
    time : str, optional
        The column or field of the time in csv and JSON lines. None takes one called time, timestamp, @timestamp, ts or
        datetime, in any case.
    time_unit : {"s", "ms", "us", "ns", "iso"}, optional
        The unit of the time since the epoch, or "iso" (ISO 8601 text, in UTC if it names no offset). None decides by the
        first lines: text, or the unit by which times from 1973 on are plausible.
    cost : str, optional
        The cost of a request: a column or field, or + - * / over several and numbers, such as
        "ContextTokens+GeneratedTokens"; of an access log "size" (bytes answered). None is 1 each.
    status : str, optional
        The column or field of the status code (429 and so on) in csv and JSON lines. None takes one called status,
        status_code or code, in any case. Access logs have their own.
    max_bytes : int
        Refuse a compressed log that inflates to more bytes. A plain log may have any size.
    progress : Progress, optional
        Called now and then with the bytes done and all bytes of the file as it is stored.

    Returns
    -------
    Trace
        The requests, sorted by time.

    Raises
    ------
    LogError
        If the log cannot be opened, is empty, damaged or too large, has no line that parses, or lacks a field that was asked
        for (it names the known ones); or, with the number of the line, if a cost is negative or not finite. The message is
        one line that names the file and the remedy.
    """
    if format is not None and format not in READERS:
        raise LogError(f"{path}: unknown format {format[:80]!r}; the formats known are {', '.join(READERS)}")
    if time_unit is not None and time_unit not in TIME_UNITS:
        raise LogError(f"{path}: unknown time_unit {time_unit[:80]!r}; the units known are {', '.join(TIME_UNITS)}")
    selection = FieldSelection(key, time, time_unit, cost, status)
    blocks = (_split(block) for block in text_blocks(path, max_bytes, progress))
    rows = Rows()
    for first in blocks:
        if rows.line == 1:
            first[0] = first[0].removeprefix(BYTE_ORDER_MARK)
        if any(map(str.strip, first)):
            break
        rows.line += len(first)
    else:
        raise LogError(f"{path}: is empty; name a log that has lines")
    name = format or _sniff(path, first, selection)
    reader = READERS[name](selection)
    try:
        for lines in chain([first], blocks):
            reader.read(lines, rows)
            rows.line += len(lines)
        reader.close(rows)
        if not rows.parsed and not rows.skipped:
            raise LogError(f"{path}: has a header and no line below it; name a log that has requests")
        if not rows.parsed:
            raise _nothing_parsed(path, rows, f"none of its {rows.skipped} lines is a request in format {name}")
        return rows.trace(str(path))
    except FormatMismatchError as error:
        raise LogError(f"{path}: {error}") from error
    except ExpressionError as error:
        raise LogError(f"{path}: cost: {error}") from error


def _split(block: str) -> list[str]:
    lines = block.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _sniff(path: FilePath, lines: list[str], selection: FieldSelection) -> str:
    """Choose the format that understands most of the first lines; if none does, go by the file's name."""
    sample = lines[:SNIFFED_LINES]
    understood = {name: sum(map(reader(selection).recognizes, sample)) for name, reader in READERS.items()}
    name = max(understood, key=understood.__getitem__)
    if not understood[name]:
        plain = fspath(path).removesuffix(".gz").removesuffix(".zst")
        by_name = next((format for suffix, format in SUFFIXES.items() if plain.endswith(suffix)), None)
        if by_name:
            return by_name
        rows = Rows()
        for line in sample:
            rows.skip(line)
        raise _nothing_parsed(path, rows, f"none of its first {rows.skipped} lines is in a format known")
    return name


def _nothing_parsed(path: FilePath, rows: Rows, what: str) -> LogError:
    begins = " | ".join(rows.examples)
    return LogError(f"{path}: {what} ({', '.join(READERS)}); use format= to force one. It begins: {begins}")
