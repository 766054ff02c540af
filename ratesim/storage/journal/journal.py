"""`Journal`: the records of a storage in a directory, recovered when it is opened and appended to while it lives.

`append` returns when a record is with the operating system: it then survives a kill -9 of the process. What survives a crash
of the machine depends on `fsync`:

- always: everything that `append` returned for;
- interval: everything before the last `sync`, which the caller calls at his interval, and `close`;
- never: what the system happened to write; at most what was there at the last opening or snapshot is certain.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from ratesim.errors import StorageError
from ratesim.storage.journal.files import File, FileLayer, Lock, RealFiles, create_whole, disk_error
from ratesim.storage.journal.records import HEADER_SIZE, Count, Frame, Header, Put, Record
from ratesim.storage.journal.recovery import Contents, Layout, Recovered, read_directory
from ratesim.storage.journal.snapshot import SnapshotWriter

__all__ = ["FsyncPolicy", "Journal"]

FsyncPolicy = Literal["always", "interval", "never"]
LEAST_LOG = 1 << 20  # bytes of log below which no snapshot is worth its writing
SLICE = 1000  # records


class Journal:
    """One directory, one writer. Threads may share it; a snapshot is written by one at a time.

    After an error of the disk in `append` or `sync` nobody knows what is on it: the journal refuses everything but `close`,
    until it is opened again. (To ask fsync again would be to be lied to: PostgreSQL wiki, "Fsync Errors", 2018.)
    """

    def __init__(self, directory: Path, fsync: FsyncPolicy = "interval", files: FileLayer | None = None) -> None:
        self.directory = directory
        self._always = fsync == "always"
        self._never = fsync == "never"
        self._files = files or RealFiles()
        self._appending = threading.Lock()
        self._syncing = threading.Lock()  # taken before the other one
        self._lock: Lock | None = None
        self._log: File | None = None
        self._refusal = "is not open"
        self._writer: SnapshotWriter | None = None
        self._generation = self._size = self._synced = self._earlier = self._due = 0
        self._marker = b""

    def open(self) -> Recovered:
        """Recover what is there and be ready to append.

        ConfigurationError when another process, or another journal, has the directory open; StorageError or
        SerializationError, naming file and offset, when something is missing, damaged or of another version: then every
        file is left as it is.
        """
        if self._lock is not None:
            raise StorageError(f"{self.directory}: this journal is open already")
        try:
            self._files.make_directory(self.directory)
            lock = self._files.lock(self.directory / "lock")
        except OSError as error:
            raise disk_error(self.directory, error) from error
        try:
            contents = read_directory(self._files, self.directory)
            self._go_on(contents, lock.unclean)
        except BaseException as error:
            log, self._log = self._log, None
            if log is not None:
                log.close()
            lock.release(clean=False)
            if isinstance(error, OSError):
                raise disk_error(self.directory, error) from error
            raise
        self._lock = lock
        self._refusal = ""
        self._due = max(LEAST_LOG, 2 * contents.snapshot_bytes)
        live = contents.live
        return Recovered(
            (live.pop(key) for key in list(live)),
            len(live),
            self._generation,
            contents.cut_bytes,
            contents.cut_records,
            lock.unclean,
        )

    def _go_on(self, contents: Contents, unclean: bool) -> None:
        """The log to append to; what was recovered is on the disk before anything is removed or answered.

        After an unclean end the log is copied: if its fsync had failed, what was read may be in the system's memory only,
        and another fsync of that file would not write it.
        """
        if contents.log is None:
            self._begin_log(0, 0)
        else:
            path = self._path(contents.log.generation)
            if unclean or contents.cut_bytes:
                good = self._files.read(path)[HEADER_SIZE : contents.log_size]
                header = contents.log._replace(boot=self._files.boot())
                self._log = create_whole(self._files, path, header.encode() + good)
            else:
                self._log = self._files.extend(path)
                self._log.sync()
                self._files.sync_directory(self.directory)
            self._generation = contents.log.generation
            self._marker = contents.log.marker
            self._size = self._synced = contents.log_size
        self._earlier = contents.log_bytes - (self._size - HEADER_SIZE)
        self._remove_stale()

    def append(self, records: Sequence[Record]) -> None:
        """Keep these, in this order; with `always`, one fsync for all of them.

        SerializationError for a record that cannot be written, and then none is. Capacity when the disk is full,
        StorageError for another error of it: then, whatever of them was written, the journal refuses to go on.
        """
        with self._appending:
            log = self._log
            if self._refusal or log is None:
                raise self._refused()
            size, synced, marker = self._size, self._synced, self._marker
            frames = []
            for record in records:
                frame = Frame.encode(record, marker, synced, size)
                frames.append(frame)
                size += len(frame)
            try:
                log.write(frames[0] if len(frames) == 1 else b"".join(frames))
                if self._always:
                    log.sync()
                    self._synced = size
                self._size = size
            except OSError as error:
                raise self._fail(error) from error
            except BaseException as error:  # a signal's handler raised: what was written is unknown
                self._refuse(f"was interrupted by {error!r}")
                raise

    def sync(self) -> None:
        """Everything appended before is on the disk; does nothing with `always`, which is ahead, and `never`.

        May run in a thread of its own beside appends. Errors as of `append`.
        """
        if not self._never:
            with self._syncing:
                self._sync()

    def _sync(self) -> None:
        with self._appending:
            log, size = self._log, self._size
            if self._refusal or log is None:
                raise self._refused()
            if size == self._synced:
                return
        try:
            log.sync()
        except OSError as error:
            with self._appending:
                raise self._fail(error) from error
        with self._appending:
            self._synced = size

    @property
    def needs_snapshot(self) -> bool:
        """Whether the logs have outgrown max(1 MiB, twice the snapshot), or grown by 1 MiB since a snapshot failed; not
        while one is being written."""
        return self._writer is None and not self._refusal and self._log_bytes > self._due

    @property
    def _log_bytes(self) -> int:
        return self._earlier + self._size - HEADER_SIZE

    def begin_snapshot(self) -> SnapshotWriter:
        """A new log for what comes from now on, and a writer for everything that is live now, or until it is committed.

        Syncs the old log, under every policy. Errors as of `append`; but when a new file cannot be written, as on a full
        disk, the journal goes on as before.
        """
        with self._syncing:
            if self._writer is not None:
                raise StorageError(f"{self.directory}: a snapshot is being written already")
            self._sync()  # the long part, while others may append
            with self._appending:
                self._rotate()
            number = self._generation
            header = Header("snapshot", number, self._files.marker(), 0, self._files.boot())
            try:
                self._writer = SnapshotWriter(self._files, self.directory, header, self._snapshot_ended)
            except StorageError:
                self._snapshot_ended(None)
                raise
            return self._writer

    def snapshot(self, records: Iterable[Put | Count]) -> int:
        """A whole snapshot at once, of everything that is live; how many records."""
        records = iter(records)
        count = 0
        with self.begin_snapshot() as writer:
            while part := list(islice(records, SLICE)):
                writer.write(part)
                count += len(part)
            writer.commit()
        return count

    def close(self) -> None:
        """Sync (except with `never`) and let the directory go; a snapshot in the making is given up. Twice does no more.

        StorageError of the disk; it is closed then as well.
        """
        lock = self._lock
        if lock is None:
            return
        clean = False
        try:
            if self._writer is not None:
                self._writer.abort()
            if not self._refusal:
                self.sync()
                clean = True
        finally:
            with self._syncing, self._appending:
                self._lock = None
                self._writer = None
                self._refusal = "is closed"
                log, self._log = self._log, None
                try:
                    if log is not None:
                        log.close()
                    lock.release(clean)
                except OSError as error:
                    raise disk_error(self.directory, error) from error

    # -- logs ---------------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self.directory / f"log-{number}"

    def _rotate(self) -> None:
        """The next log. The one before it is on the disk as a whole: a log that another one follows has no torn tail."""
        if self._refusal or self._log is None:
            raise self._refused()
        before, size = self._log, self._size
        try:
            if size != self._synced:
                before.sync()
                self._synced = size
        except OSError as error:
            raise self._fail(error) from error
        try:
            self._begin_log(self._generation + 1, size)
            before.close()
        except OSError as error:
            raise self._fail(error) from error
        self._earlier += size - HEADER_SIZE

    def _begin_log(self, number: int, before: int) -> None:
        header = Header("log", number, self._files.marker(), before, self._files.boot())
        self._log = create_whole(self._files, self._path(number), header.encode())
        self._generation, self._marker = number, header.marker
        self._size = self._synced = HEADER_SIZE

    def _snapshot_ended(self, size: int | None) -> None:
        """A snapshot of `size` bytes took the place of what is older, or (None) it failed."""
        with self._appending:
            self._due = self._log_bytes + LEAST_LOG
            if size is not None:
                self._earlier = 0
                self._due = max(LEAST_LOG, 2 * size)
        try:
            if size is not None:
                self._remove_stale()
        except OSError as error:
            raise disk_error(self.directory, error) from error
        finally:
            self._writer = None

    def _remove_stale(self) -> None:
        for name in Layout.of(self._files.names(self.directory)).stale:
            self._files.remove(self.directory / name)

    @property
    def refusal(self) -> str:
        """Why it takes nothing; "" while it does."""
        return self._refusal

    # -- refusing -----------------------------------------------------------------------------------------------------

    def _fail(self, error: OSError) -> StorageError:
        failed = disk_error(self._path(self._generation), error)
        self._refuse(f"has failed ({failed})")
        return failed

    def _refuse(self, why: str) -> None:
        self._refusal = f"{why} and must be closed and opened again"

    def _refused(self) -> StorageError:
        return StorageError(f"{self.directory}: the journal {self._refusal}")
