"""`FileLayer`: the few things that a journal asks of a disk, and `RealFiles`, the disk itself.

A test puts a layer in its place that forgets what was not synced, or that is full. Everything raises OSError; `disk_error`
turns it into the storage's family.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import uuid
from pathlib import Path
from typing import Protocol

from ratesim.errors import CapacityError, ConfigurationError, StorageError

__all__ = ["File", "FileLayer", "Lock", "RealFiles", "create_whole", "disk_error"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_error(path: Path, error: OSError) -> StorageError:
    """What to raise instead of the OSError: Capacity when there is no room, StorageError otherwise; both name the path."""
    kind = CapacityError if error.errno in _FULL else StorageError
    return kind(f"{path}: {error.strerror or error}")


class File(Protocol):
    """A file that only grows."""

    def write(self, data: bytes) -> None:
        """Append all of `data`; after an error any prefix of it may be in the file."""

    def sync(self) -> None:
        """Return when everything written is on the disk. Never called again on this file after an error: the pages may be
        marked clean although they were lost (PostgreSQL wiki, "Fsync Errors", 2018)."""

    def close(self) -> None: ...


class Lock(Protocol):
    """Held until it is released, or its process ends.

    unclean: whether the holder before ended without releasing it as clean.
    """

    unclean: bool

    def release(self, clean: bool) -> None: ...


class FileLayer(Protocol):
    """A disk. Names in a directory survive a crash of the machine only after `sync_directory`."""

    def make_directory(self, directory: Path) -> None:
        """Make it, with its parents, if it is not there; open to this user only."""

    def lock(self, path: Path) -> Lock:
        """ConfigurationError when another holds it, in this process or in another one."""

    def names(self, directory: Path) -> list[str]: ...

    def read(self, path: Path) -> bytes: ...

    def create(self, path: Path) -> File:
        """A new, empty file; in the place of another one if there is one."""

    def extend(self, path: Path) -> File:
        """A file that is there, ready to grow."""

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def sync_directory(self, directory: Path) -> None: ...

    def boot(self) -> bytes:
        """16 bytes that are the same until the machine restarts; zeros when that is not known."""

    def marker(self) -> bytes:
        """4 bytes that nobody can guess."""


def create_whole(files: FileLayer, path: Path, beginning: bytes) -> File:
    """A file that has its beginning from the moment on that it has its name, also after a crash.

    Capacity or StorageError when it could not be written, and then it is not there; OSError when that is not known.
    """
    new = path.with_name(f"{path.name}.new")
    file = None
    try:
        file = files.create(new)
        file.write(beginning)
        file.sync()
    except OSError as error:
        if file is not None:
            file.close()
        raise disk_error(new, error) from error
    try:
        files.rename(new, path)
        files.sync_directory(path.parent)
    except OSError:
        file.close()
        raise
    return file


class RealFile:
    """A file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        while written < len(data):  # a disk that fills up takes a part first
            data = data[written:]
            written = os.write(self._descriptor, data)

    def sync(self) -> None:
        _sync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class RealLock:
    """flock on a file that holds the pid of its holder: the system releases it when the holder dies, however it dies."""

    def __init__(self, path: Path) -> None:
        if sys.platform == "win32":
            raise ConfigurationError(f"{path}: a journal needs file locks as POSIX systems have them")
        import fcntl

        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.unclean = os.fstat(self._descriptor).st_size > 0
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode())
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 20).decode(errors="replace") or "that is starting or ending"
            os.close(self._descriptor)
            raise ConfigurationError(f"{path.parent}: in use by process {holder}; a journal has one writer") from error
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self, clean: bool) -> None:
        try:
            if clean:
                os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)


class RealFiles:
    """The disk. Files are made with mode 0600, directories with 0700."""

    def make_directory(self, directory: Path) -> None:
        for path in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
            path.mkdir(mode=0o700, exist_ok=True)
            self.sync_directory(path.parent)

    def lock(self, path: Path) -> Lock:
        return RealLock(path)

    def names(self, directory: Path) -> list[str]:
        return os.listdir(directory)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def create(self, path: Path) -> File:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        return RealFile(os.open(path, flags, 0o600))

    def extend(self, path: Path) -> File:
        return RealFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def boot(self) -> bytes:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # only Linux says
            return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
        return bytes(16)

    def marker(self) -> bytes:
        return os.urandom(4)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":  # there fsync leaves the data in the drive's own cache: fsync(2), F_FULLFSYNC
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
