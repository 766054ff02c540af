"""Reading a journal's directory: what it holds, where its last log ends, and whether what is broken was torn or damaged.

`snapshot-<n>` is everything up to the beginning of `log-<n>`, or later; `log-<n>` is what came after `log-<n-1>`. So the
newest snapshot and the logs from its number on, in order, give every record, the last of a key being the one that counts.
Nothing is changed here.

In the last log, frames that were not synced when the machine stopped may be missing, cut, or have holes: those are cut away.
Everything else that is broken was on the disk once, and is refused: it may be repaired, and is worth more than a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ratesim.errors import SerializationError, StorageError
from ratesim.storage.journal.files import FileLayer
from ratesim.storage.journal.records import HEADER_SIZE, Count, Drop, End, Forget, Frame, Header, Put

__all__ = ["Contents", "Layout", "Live", "Recovered", "read_directory"]

_NAME = re.compile(r"(log|snapshot)-(0|[1-9][0-9]*)(\.new)?")
Live = Put | Count


class Layout(NamedTuple):
    """The files of a directory. snapshot: the number of the newest one, or None; logs: the numbers that follow it; stale:
    names of what is unfinished or of an older generation."""

    snapshot: int | None
    logs: list[int]
    stale: list[str]

    @classmethod
    def of(cls, names: list[str]) -> Layout:
        """StorageError when a file is missing."""
        found = [match for name in names if (match := _NAME.fullmatch(name))]
        numbers = {
            kind: sorted(int(match[2]) for match in found if match[1] == kind and not match[3])
            for kind in ("snapshot", "log")
        }
        snapshot = numbers["snapshot"][-1] if numbers["snapshot"] else None
        first = snapshot or 0
        logs = [number for number in numbers["log"] if number >= first]
        expected = range(first, logs[-1] + 1 if logs else first + (snapshot is not None))
        missing = sorted(set(expected) - set(logs))
        if missing:
            raise StorageError(f"log-{missing[0]} is missing")
        stale = [match[0] for match in found if match[3] or int(match[2]) < first]
        return cls(snapshot, logs, stale)


class Recovered(NamedTuple):
    """What was there at the opening.

    records: the newest `Put` or `Count` of every key, in the order in which they were last written; read once, they are let
        go one by one. entries: how many.
    generation: number of the log that goes on.
    cut_bytes, cut_records: what a crash had left broken at the end of the log; a broken record counts as one.
    unclean: whether the journal was not closed the last time.
    """

    records: Iterator[Put | Count]
    entries: int
    generation: int
    cut_bytes: int
    cut_records: int
    unclean: bool


class Contents(NamedTuple):
    """What a directory holds.

    live: the newest record of every key, in the order in which they were written.
    log: the header of the last log, None when there is none yet; log_size: bytes of it that are good.
    log_bytes, snapshot_bytes: bytes of all the logs that were read, without their headers, and of the snapshot.
    cut_bytes, cut_records: what the last log loses, and how many records are known to be in it (a broken one is one).
    """

    live: dict[tuple[str, str | None], Live]
    log: Header | None = None
    log_size: int = 0
    log_bytes: int = 0
    snapshot_bytes: int = 0
    cut_bytes: int = 0
    cut_records: int = 0


class _Merge:
    """Records, of which the last of a key counts."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str | None], Live] = {}
        self._named: dict[str, set[str]] = {}  # by identifier, the names other than ""

    def add(self, record: Put | Count | Drop | Forget) -> None:
        identifier = record.identifier
        if isinstance(record, Put):
            if record.name:
                self._named.setdefault(identifier, set()).add(record.name)
            self._replace((identifier, record.name), record)
        elif isinstance(record, Count):
            self._replace((identifier, None), record)
        elif isinstance(record, Drop):
            self.live.pop((identifier, record.name), None)
        else:
            for name in ("", None, *self._named.pop(identifier, ())):
                self.live.pop((identifier, name), None)

    def _replace(self, key: tuple[str, str | None], record: Live) -> None:
        self.live.pop(key, None)  # so that the order is that of the last writes
        self.live[key] = record


def read_directory(files: FileLayer, directory: Path) -> Contents:
    """What the directory holds.

    StorageError or SerializationError, with the file and the offset, for what is missing, damaged or
    of an unknown version. OSError of the disk."""
    try:
        layout = Layout.of(files.names(directory))
    except StorageError as error:
        raise StorageError(f"{directory}: {error}") from error
    merge = _Merge()
    snapshot_bytes = 0
    if layout.snapshot is not None:
        path = directory / f"snapshot-{layout.snapshot}"
        data = files.read(path)
        snapshot_bytes = len(data)
        with _Naming(path):
            _read_snapshot(data, layout.snapshot, merge)
        del data
    contents = Contents(merge.live, snapshot_bytes=snapshot_bytes)
    good = None
    for number in layout.logs:
        path = directory / f"log-{number}"
        data = files.read(path)
        with _Naming(path):
            header = _header("log", data, number)
            if good is not None and header.before != good:
                raise SerializationError(f"offset 0: follows a log of {header.before} bytes, and the one before has {good}")
            good, lost = _read_log(data, header, merge, number == layout.logs[-1], files.boot())
        contents = contents._replace(
            log=header,
            log_size=good,
            log_bytes=contents.log_bytes + good - HEADER_SIZE,
            cut_bytes=len(data) - good,
            cut_records=lost,
        )
    return contents


class _Naming:
    """Puts the file's path before the message of a SerializationError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SerializationError):
            raise SerializationError(f"{self._path}: {error}; the file is left as it is") from error


def _header(kind: str, data: bytes, number: int) -> Header:
    header = Header.decode(kind, data)
    if header.generation != number:
        raise SerializationError(f"offset 0: this is {kind}-{header.generation}")
    return header


def _frames(data: bytes, marker: bytes) -> Iterator[Frame]:
    """The undamaged frames from the beginning on, up to the first that is not."""
    view = memoryview(data)
    frame = Frame.read(view, HEADER_SIZE, marker)
    while frame is not None:
        yield frame
        frame = Frame.read(view, frame.end, marker)


def _read_snapshot(data: bytes, number: int, merge: _Merge) -> None:
    header = _header("snapshot", data, number)
    count, offset = 0, HEADER_SIZE
    for frame in _frames(data, header.marker):
        record = frame.decode()
        if isinstance(record, End):
            if record.count != count or record.checksum != crc32(memoryview(data)[:offset]):
                raise SerializationError(f"offset {offset}: {count} records, and not the {record.count} that were written")
            if frame.end != len(data):
                raise SerializationError(f"offset {frame.end}: something follows the end")
            return
        merge.add(record)
        count, offset = count + 1, frame.end
    raise SerializationError(f"offset {offset}: damaged, or cut, after {count} records")


def _read_log(data: bytes, header: Header, merge: _Merge, last: bool, boot: bytes) -> tuple[int, int]:
    """The bytes of the log that are good, and how many records are cut away with the rest."""
    offset = HEADER_SIZE
    for frame in _frames(data, header.marker):
        record = frame.decode()
        if isinstance(record, End):
            raise SerializationError(f"offset {offset}: the end of a snapshot in a log")
        merge.add(record)
        offset = frame.end
    if offset == len(data):
        return offset, 0
    if not last:
        raise SerializationError(f"offset {offset}: damaged, or cut, and a later log follows")
    # Without a restart of the machine only the very last write can be cut: there is no hole that a crash could have left.
    restarted = header.boot != boot or not any(boot)
    after = list(Frame.search(data, offset + 1, header.marker))
    if any(frame.synced > offset or not restarted for frame in after):
        raise SerializationError(f"offset {offset}: a damaged record, followed by {len(after)} that are not")
    return offset, 1 + len(after)
