"""The files of an `EntryDatabase`: made, read, locked and let go, and their errors named."""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
import sys
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ratesim.errors import CapacityError, ConfigurationError, SerializationError, StorageError
from ratesim.runtime import keep_alive

__all__ = [
    "Row",
    "checksum",
    "create_database",
    "make_directory",
    "mark_owner",
    "named_errors",
    "read_rows",
    "refuse_journal",
    "release",
    "storage_error",
    "sync_directory",
    "sync_file",
    "take_directory",
    "wal_of",
]

APPLICATION, FORMAT = int.from_bytes(b"rsim"), 1

_TABLE = """CREATE TABLE entry (identifier TEXT, name TEXT, state BLOB, expires_at REAL, written INTEGER, crc INTEGER,
PRIMARY KEY (identifier, name)) WITHOUT ROWID"""
_NUMBERS = struct.Struct("<dqI")


class Row(NamedTuple):
    """One entry as it lies on the disk.

    Attributes
    ----------
    identifier, name
        The key. The name of a counter is `COUNTER`.
    state
        The state as `ratesim.state.encode` gives it, or the decimal digits of a counter.
    expires_at
        Seconds since the epoch.
    written
        Position in the order of all writes. Entries are put back in this order, which LRU goes on from.
    crc
        CRC-32 of everything else in the row.
    """

    identifier: str
    name: str
    state: bytes
    expires_at: float
    written: int
    crc: int

    @property
    def key(self) -> Hashable:
        """The key of the entry in the table."""
        return (self.identifier, self.name) if self.name else self.identifier


def checksum(identifier: str, name: str, state: bytes, expires_at: float, written: int) -> int:
    """Return the CRC-32 of a row; UnicodeEncodeError for half of a surrogate pair."""
    key = identifier.encode()
    numbers = _NUMBERS.pack(expires_at, written, len(key))
    return crc32(state, crc32(name.encode(), crc32(key, crc32(numbers))))


def create_database(path: Path) -> None:
    """Make an empty database, which gets its name when it is whole."""
    new = path.with_name(f"{path.name}.new")
    for stale in path.parent.glob(f"{new.name}*"):
        stale.unlink()
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(_TABLE)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    new.rename(path)
    sync_directory(path.parent)


def read_rows(path: Path) -> list[Row]:
    """Read and check the rows, in the order of their writes. Nothing is written, so damaged files stay as they are."""
    beside = [file for file in (wal_of(path), Path(f"{path}-shm")) if not file.exists()]  # which reading makes
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
            known = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if known != [APPLICATION, FORMAT]:
                raise SerializationError(f"{path}: is no database of entries in format {FORMAT}")
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise SerializationError(f"{path}: is damaged ({verdict})")
            rows = [Row(*row) for row in connection.execute("SELECT * FROM entry")]
    finally:
        for file in beside:
            file.unlink(missing_ok=True)
    for row in rows:
        try:
            sound = checksum(*row[:-1]) == row.crc
        except (AttributeError, TypeError, struct.error):  # a column of another type
            sound = False
        if not sound:
            raise SerializationError(f"{path}: is damaged (row {row.written!r} in the order of writes)")
    return sorted(rows, key=lambda row: row.written)


def release(path: Path, connection: sqlite3.Connection | None, lock: int, sound: bool, owner: int) -> None:
    """Close everything. Empty the lock file as soon as the database file is whole."""
    if os.getpid() != owner:
        # The child of a fork. The database is its parent's, whose log SQLite would remove if it closed this connection.
        keep_alive(connection)
        return
    import fcntl  # POSIX's; `take_directory` has refused another system

    try:
        if connection is not None:
            try:
                if connection.in_transaction:  # an error or an interrupt left it open
                    connection.rollback()
                if sound and connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                    mark_owner(lock, "")
            finally:
                connection.close()  # SQLite removes the log when all of it is in the database
                if not wal_of(path).exists():
                    mark_owner(lock, "")
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # the child of a fork may have the descriptor too
        os.close(lock)


def take_directory(path: Path) -> tuple[int, bool]:
    """Lock a directory by a file. Return its descriptor, and whether the last owner left something in the log."""
    if sys.platform == "win32":
        raise ConfigurationError(f"{path}: persistence needs file locks as POSIX systems have them")
    import fcntl

    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock, os.fstat(lock).st_size > 0
    except OSError as error:
        holder = os.read(lock, 20).decode(errors="replace") or "that is starting or ending"
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise ConfigurationError(f"{path.parent}: in use by process {holder}; it has one owner at a time") from error
        raise


def mark_owner(lock: int, content: str) -> None:
    """Write the content of the lock file, synced: the owner's process, or nothing when the log is not needed."""
    os.pwrite(lock, content.encode(), 0)
    os.ftruncate(lock, len(content))
    sync_file(lock)


def wal_of(path: Path) -> Path:
    """Return the path of the write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def refuse_journal(directory: Path) -> None:
    """Raise ConfigurationError for a directory that a former version's journal was written to."""
    for path in (*directory.glob("log-*"), *directory.glob("snapshot-*")):
        if path.is_file():
            with path.open("rb") as file:
                magic = file.read(7)
            if magic in (b"rs-log\0", b"rs-snap"):
                raise ConfigurationError(
                    f"{path}: belongs to the journal of a former version, which is not read any more; "
                    "remove it, or use another directory"
                )


def make_directory(directory: Path) -> None:
    """Make a directory and its parents, open to this user alone, if they are not there."""
    for path in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Return when the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Return when everything written to a file is on the disk."""
    if sys.platform == "darwin":  # there fsync leaves the data in the drive's own cache: fsync(2), F_FULLFSYNC
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Raise an error of the disk or of SQLite as one of the storage's, which names the file."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: Exception) -> StorageError:
    """Return the storage error for an error of the disk or of SQLite. It names the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return CapacityError(f"{path}: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SerializationError(f"{path}: is damaged ({error})")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConfigurationError(f"{path}: in use by another process ({error})")
    return StorageError(f"{path}: {error}")
