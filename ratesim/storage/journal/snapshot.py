"""`SnapshotWriter`: a snapshot on its way to the disk, written in slices under a temporary name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from ratesim.errors import StorageError
from ratesim.storage.journal.files import FileLayer, disk_error
from ratesim.storage.journal.records import HEADER_SIZE, Count, End, Frame, Header, Put

__all__ = ["SnapshotWriter"]

# Bytes after which what was written is sent to the disk, so that no single sync takes long. As in Redis, which does it
# every 4 MB (redis.conf, rdb-save-incremental-fsync).
SYNC_EVERY = 1 << 22


class SnapshotWriter:
    """A snapshot that begins to exist with `commit`, and that `abort` or an error takes away again.

    What it is given may be of any moment since it was begun: what is appended meanwhile is in the new log, and counts.
    As a context manager it aborts what was not committed. One thread at a time.
    """

    def __init__(self, files: FileLayer, directory: Path, header: Header, ended: Callable[[int | None], None]) -> None:
        """ended: told once, with the snapshot's bytes when it was committed and with None otherwise."""
        self._files = files
        self._path = directory / f"snapshot-{header.generation}"
        self._new = self._path.with_name(f"{self._path.name}.new")
        self._marker = header.marker
        self._ended = ended
        self._open = True
        self._count = 0
        self._unsynced = 0
        beginning = header.encode()
        self._size = HEADER_SIZE
        self._checksum = crc32(beginning)
        try:
            self._file = files.create(self._new)
        except OSError as error:
            self._open = False
            raise disk_error(self._new, error) from error
        self._write(beginning)

    def write(self, records: Iterable[Put | Count]) -> None:
        """One slice. Capacity or StorageError of the disk, after which the snapshot is gone and the journal goes on."""
        frames = []
        size = self._size
        for record in records:
            frame = Frame.encode(record, self._marker, 0, size)
            frames.append(frame)
            size += len(frame)
        data = b"".join(frames)
        self._checksum = crc32(data, self._checksum)
        self._write(data)
        self._size = size
        self._count += len(frames)

    def commit(self) -> None:
        """The snapshot takes the place of the older one and of the logs before it, which are removed."""
        end = Frame.encode(End(self._count, self._checksum), self._marker, 0, self._size)
        self._write(end, sync=True)
        try:
            self._files.rename(self._new, self._path)
            self._files.sync_directory(self._path.parent)
        except OSError as error:  # there or not, it says nothing that the older one and the logs do not say
            self._end()
            raise disk_error(self._path, error) from error
        self._end(self._size + len(end))

    def abort(self) -> None:
        """Take away what was written; does nothing after `commit`."""
        if self._open:
            self._end()
            try:
                self._files.remove(self._new)
            except OSError as error:
                raise disk_error(self._new, error) from error

    def _write(self, data: bytes, sync: bool = False) -> None:
        if not self._open:
            raise StorageError(f"{self._path}: this snapshot is committed or gone")
        try:
            self._file.write(data)
            self._unsynced += len(data)
            if sync or self._unsynced >= SYNC_EVERY:
                self._file.sync()
                self._unsynced = 0
        except OSError as error:
            self.abort()
            raise disk_error(self._new, error) from error

    def _end(self, size: int | None = None) -> None:
        self._open = False
        self._file.close()
        self._ended(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()
