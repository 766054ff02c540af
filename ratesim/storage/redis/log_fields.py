"""A log of entries as fields of a hash, as lua/log.lua keeps it: chunks, so that a decision touches one or two of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["CHUNK", "LogRecord", "entries_of", "expiry_of", "fields_of_log", "is_log_field", "read_log", "to_bytes"]

CHUNK = 496  # bytes of a full chunk: 31 entries; with Redis' own 6 bytes it fills an allocation of 512
SPAN = 512  # more than CHUNK
HEAD = struct.Struct(">8d")


class LogRecord(NamedTuple):
    """A record that has a log.

    Attributes
    ----------
    expires_at, last_accessed, request_count : float
        As in every record.
    values : list[float]
        The stored state: its time, the sum, then time and cost of each entry.
    """

    expires_at: float
    last_accessed: float
    request_count: float
    values: list[float]


def to_bytes(entries: Sequence[float]) -> bytes:
    """Return times and costs, oldest first, as the bytes of a whole log: 16 for an entry."""
    return struct.pack(f">{len(entries)}d", *entries)


def entries_of(log: bytes) -> list[float]:
    """Invert `to_bytes`; ValueError for bytes that are no entries."""
    if len(log) % 16:
        raise ValueError(f"a log of {len(log)} bytes, which are no entries")
    return list(struct.unpack(f">{len(log) // 8}d", log))


def is_log_field(name: str) -> bool:
    """Tell whether a field without its prefix belongs to a log."""
    return name in ("log", "log_head") or name.startswith("log:")


def fields_of_log(record: LogRecord) -> dict[str, bytes]:
    """Return the fields of a record: its numbers and the chunks."""
    time, used, *entries = record.values
    log = to_bytes(entries)
    newest = max(len(log) - 1, 0) // CHUNK  # full ones are closed when the next entry comes
    fields = {f"log:{number}": log[number * CHUNK : (number + 1) * CHUNK] for number in range(newest)}
    head = HEAD.pack(*record[:3], time, used, newest, newest * SPAN + 1, entries[0] if entries else 0.0)
    return {"log_head": head, "log": log[newest * CHUNK :], **fields}


def read_log(fields: Mapping[str, bytes]) -> LogRecord:
    """Invert `fields_of_log`; KeyError or ValueError for fields that are damaged."""
    expires_at, last_accessed, request_count, time, used, newest, begins, _ = _head(fields["log_head"])
    others, place = divmod(int(begins), SPAN)
    chunks = [fields[f"log:{number}"] for number in range(int(newest) - others, int(newest))]
    log = b"".join([*chunks, fields["log"]])[place - 1 :]
    return LogRecord(expires_at, last_accessed, request_count, [time, used, *entries_of(log)])


def expiry_of(head: bytes) -> float:
    """Return when the record of a `log_head` expires; ValueError for one that is damaged."""
    return _head(head)[0]


def _head(data: bytes) -> tuple[float, ...]:
    try:
        return HEAD.unpack(data)
    except struct.error as error:
        raise ValueError(f"log_head: {error}") from error
