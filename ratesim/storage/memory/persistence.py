"""`EntryDatabase`: the entries of a MemoryStorage on disk, in a SQLite database to which every change is committed.

The directory holds `entries.db`, its write-ahead log `entries.db-wal`, and `lock`, a file that the owner of the directory
keeps locked. The lock file is empty if and only if the last owner left the whole content in `entries.db`. In every other
state SQLite needs the write-ahead log, and a log that is missing is therefore noticed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ratesim.errors import CapacityError, SerializationError, StorageError
from ratesim.runtime import Runtime, keep_alive
from ratesim.safe_text import shorten_identifier
from ratesim.state import encode
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.memory.database_files import (
    Row,
    checksum,
    create_database,
    make_directory,
    mark_owner,
    named_errors,
    read_rows,
    refuse_journal,
    release,
    storage_error,
    sync_directory,
    sync_file,
    take_directory,
    wal_of,
)
from ratesim.storage.memory.entry import Counter
from ratesim.storage.memory.entry_table import EntryTable

__all__ = ["COUNTER", "EntryDatabase"]

COUNTER = ":counter"  # the name under which an identifier's counter lies; no limit can have it
DATABASE = "entries.db"
PROBE = ":probe"  # of `health_check`
PROBE_BYTES = 2000  # more than a page of the database, so that the probe needs room
CHECKPOINT = 4000  # pages of 1 KiB in the log before SQLite copies them into the database: a pause of about 27 ms

_UPSERT = """INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (identifier, name) DO UPDATE SET
state = excluded.state, expires_at = excluded.expires_at, written = excluded.written, crc = excluded.crc"""
_DELETE = "DELETE FROM entry WHERE identifier = ? AND name = ?"


class EntryDatabase:
    """The database of one directory, with one owner at a time. The caller of every method holds the storage's lock.

    A change is committed at once, or with others at the end of a `batch`, or, with fsync=always, with everything that the
    tasks of one turn of the event loop changed (`gathering` and `commit_turn`). After an error of the disk the content of
    the disk is unknown. Everything but `close` is then refused until the database is opened again.

    Parameters
    ----------
    config
        Says the directory and when to sync.
    entries
        The table whose changes are recorded.
    lock
        The storage's lock.

    Attributes
    ----------
    refusal : str
        Why nothing is taken; empty while it is.
    groups : bool
        Whether changes of one turn of the event loop share one commit.
    """

    def __init__(self, config: MemoryStorageConfig, entries: EntryTable, lock: AbstractContextManager[object]) -> None:
        assert config.persist_to_disk is not None
        self.path = Path(config.persist_to_disk) / DATABASE
        self.refusal = "is not open"
        self.groups = config.fsync == "always"
        self._interval = config.fsync == "interval"
        self._entries = entries
        self._storage_lock = lock
        self._pending: dict[Hashable, tuple[object, ...]] = {}
        self._gathering = False
        self._turn = self._changes = self._committed = self._synced = 0
        self._syncing = threading.Lock()  # a sync in a thread uses the descriptor that `close` closes
        self._owner = os.getpid()
        self._lock: int | None = None
        self._wal: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._at_exit: weakref.finalize[..., EntryDatabase] | None = None

    # -- opening and closing ------------------------------------------------------------------------------------------

    def read(self) -> list[Row]:
        """Take the directory and read what is there, in the order in which it was written. `start` or `close` comes next.

        Raises
        ------
        ConfigurationError
            Another storage has the directory, or it holds the journal of a former version.
        SerializationError
            The database is damaged or of another format. It is left as it is.
        StorageError
            A file is missing, or the disk fails.
        """
        with named_errors(self.path):
            directory, wal = self.path.parent, wal_of(self.path)
            make_directory(directory)
            refuse_journal(directory)
            self._lock, unclean = take_directory(directory / "lock")
            there = self.path.exists()
            if (not there and wal.exists()) or (unclean and not (there and wal.exists())):
                raise StorageError(
                    f"{wal if there else self.path}: is missing, and what was written last with it; "
                    f"to go on without, remove {directory / 'lock'}{'' if there else f' and {wal.name}'}"
                )
            if not there:
                create_database(self.path)
            rows = read_rows(self.path)
            self._changes = self._committed = self._synced = rows[-1].written if rows else 0
            return rows

    def start(self) -> None:
        """Begin to take changes. What was read is first written to the database file and synced.

        An fsync that failed before may have marked pages as clean that never reached the disk (PostgreSQL wiki, "Fsync
        Errors", 2018), so what was read from the log is written once more. Errors are those of `read`.
        """
        assert self._lock is not None
        with named_errors(self.path):
            connection = self._connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
            for setting in (
                "locking_mode = EXCLUSIVE",  # so SQLite needs no file of shared memory
                f"synchronous = {'FULL' if self.groups else 'NORMAL'}",
                "fullfsync = ON",
                "checkpoint_fullfsync = ON",
                f"wal_autocheckpoint = {CHECKPOINT}",  # a checkpoint that fails is tried again after the next commit
                f"journal_size_limit = {4 * CHECKPOINT * 1024}",
                "cell_size_check = ON",
            ):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._wal = os.open(wal_of(self.path), os.O_RDONLY | os.O_CLOEXEC)
            sync_directory(self.path.parent)
            mark_owner(self._lock, str(os.getpid()))
            self._at_exit = weakref.finalize(self, release, self.path, connection, self._lock, True, self._owner)
            self.refusal = ""

    def close(self) -> None:
        """Commit what is pending, leave the whole content in one synced file, and let the directory go.

        Raises
        ------
        StorageError
            The disk fails. The database is closed nevertheless.
        """
        try:
            if not self.refusal:
                self.commit()
        finally:
            sound, self.refusal = not self.refusal, "is closed"
            if self._at_exit is not None:
                self._at_exit.detach()
            with self._syncing:
                wal, self._wal = self._wal, None
                if wal is not None:
                    os.close(wal)
            connection, self._connection = self._connection, None
            lock, self._lock = self._lock, None
            if lock is not None:
                with named_errors(self.path):
                    release(self.path, connection, lock, sound, self._owner)

    def leave_to_parent(self) -> None:
        """Refuse everything in the child of a fork, and let the parent's files go as they are."""
        if self._connection is None:
            return
        self.refusal = (
            f"belongs to process {self._owner}, which this one is a fork of; "
            "open a storage in each process after the fork, each with a persist_to_disk of its own"
        )
        keep_alive(self._connection)  # SQLite would remove the parent's log if it closed this
        self._connection = None
        self._pending = {}
        self._syncing = threading.Lock()  # a thread of the parent may hold the former one
        if self._at_exit is not None:
            self._at_exit.detach()
        for descriptor in (self._wal, self._lock):  # a lock lasts while any process has its descriptor
            if descriptor is not None:
                os.close(descriptor)
        self._wal = self._lock = None

    def probe(self) -> None:
        """Write a row and remove it, in one transaction.

        A disk that is full is reported, and refuses nothing yet: the transaction of the probe is rolled back as a whole.

        Raises
        ------
        StorageError
            The disk fails, is full, or failed before.
        """
        connection = self._usable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_UPSERT, (PROBE, PROBE, b" " * PROBE_BYTES, 0.0, 0, 0))
            connection.execute(_DELETE, (PROBE, PROBE))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failed = storage_error(self.path, error)
            if not isinstance(failed, CapacityError):
                self._fail(error)
                raise StorageError(f"{self.path}: the database {self.refusal}") from error
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise CapacityError(f"{failed}; make room on the disk") from error

    def require_usable(self) -> None:
        """Raise StorageError while everything is refused."""
        self._usable()

    # -- writing ------------------------------------------------------------------------------------------------------

    def wrote(self, key: Hashable) -> None:
        """Record that the entry of this key was written.

        Raises
        ------
        SerializationError
            The entry cannot be stored; nothing is.
        CapacityError
            The disk is full.
        StorageError
            The disk fails, or failed before.
        """
        entry = self._entries.by_key[key]
        identifier, name = _split(key)
        try:
            state = str(entry.count).encode() if isinstance(entry, Counter) else encode(entry.export())
            row = (identifier, name, state, entry.expires_at, self._changes + 1)
            crc = checksum(*row)
        except UnicodeEncodeError as error:
            raise SerializationError(
                f"{shorten_identifier(identifier)}: half of a surrogate pair cannot be kept on disk"
            ) from error
        self._change(key, _UPSERT, (*row, crc))

    def dropped(self, key: Hashable) -> None:
        """Record that the entry of this key is gone. Errors are those of `wrote`."""
        row = _split(key)
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            return  # `wrote` refused it, so it is not on the disk
        self._change(key, _DELETE, row)

    def _change(self, key: Hashable, statement: str, row: tuple[object, ...]) -> None:
        connection = self._usable()
        self._changes += 1
        if self._gathering or self._pending:
            self._pending[key] = row
            if not self._gathering:
                self.commit()  # what other tasks left pending comes before this
            return
        try:
            connection.execute(statement, row)
        except sqlite3.Error as error:
            raise self._fail(error) from error
        self._committed = self._changes

    def commit(self) -> None:
        """Write everything pending in one transaction. Errors are those of `wrote`."""
        if not self._pending:
            return
        connection, rows = self._usable(), self._pending.values()
        try:
            connection.execute("BEGIN")
            connection.executemany(_UPSERT, [row for row in rows if len(row) > 2])
            connection.executemany(_DELETE, [row for row in rows if len(row) == 2])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._fail(error) from error
        except BaseException as error:  # the handler of a signal raised
            self.refusal = f"was interrupted by {error!r} and must be closed and opened again"
            raise
        self._pending = {}
        self._turn += 1
        self._committed = self._changes

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Leave changes pending until the next commit."""
        before, self._gathering = self._gathering, True
        try:
            yield
        finally:
            self._gathering = before

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit the changes at the end, in one transaction."""
        try:
            with self.gathering():
                yield
        finally:
            if not self._gathering:
                self.commit()

    async def commit_turn(self, runtime: Runtime) -> None:
        """Return when every change so far is committed. The caller does not hold the lock.

        With fsync=always the other tasks that are ready change their entries first, so that one sync serves all of them.
        """
        turn = self._turn
        try:
            if self.groups and self._pending:
                await runtime.sleep(0)
        finally:  # the change of a caller that is canceled is in memory, so it belongs on the disk
            with self._storage_lock:
                if self._turn == turn:
                    self.commit()

    def sync(self) -> None:
        """Sync every commit so far, with fsync=interval; may run in a thread, without the storage's lock.

        Raises
        ------
        StorageError
            The disk fails. Every later change is refused.
        """
        with self._syncing:
            committed = self._committed  # a change that is pending, or under way in another thread, is for the next sync
            if not self._interval or self.refusal or self._wal is None or committed == self._synced:
                return
            try:
                sync_file(self._wal)
            except OSError as error:
                raise self._fail(error) from error
            self._synced = committed

    # -- refusing -----------------------------------------------------------------------------------------------------

    def _usable(self) -> sqlite3.Connection:
        if self.refusal or self._connection is None:
            raise StorageError(f"{self.path}: the database {self.refusal}")
        return self._connection

    def _fail(self, error: sqlite3.Error | OSError) -> StorageError:
        failed = storage_error(self.path, error)
        self.refusal = f"has failed ({failed}) and must be closed and opened again"
        return failed


def _split(key: Hashable) -> tuple[str, str]:
    return key if isinstance(key, tuple) else (str(key), "")
