"""Opens a regular file for reading, and names what is wrong with one that cannot be read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from os import PathLike

from traffic.provenance import TrafficError

FilePath = str | PathLike[str]
Progress = Callable[[int, int], None]


class LogError(TrafficError):
    """A log cannot be read. The message names the file and the remedy."""


@contextmanager
def naming(path: FilePath) -> Iterator[None]:
    """Turn an OSError into a LogError that names the file and the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise LogError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise LogError(f"{path}: is a directory; name one log file in it") from error
    except PermissionError as error:
        raise LogError(f"{path}: may not be read by this user; grant read permission") from error
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}; check the path and the disk") from error


def open_regular(path: FilePath) -> BufferedReader:
    """Open a regular file for reading. Raises OSError, and LogError for a pipe or a device, which may have no end."""
    try:
        # A pipe without a writer must not keep `open` waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise LogError(f"{ascii(path)[:200]}: is no name that a file can have; check the path") from error
    file = os.fdopen(descriptor, "rb", closefd=True) if not stat.S_ISDIR(os.fstat(descriptor).st_mode) else None
    if file is None:
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise LogError(f"{path}: is a pipe or a device; write it to a file first")
    waits = os.fstat(descriptor).st_size == 0 and file.read(1) is None
    if waits:  # a file such as /proc/kmsg, which is regular by its mode alone
        file.close()
        raise LogError(f"{path}: would wait for data; write it to a file first")
    file.seek(0)
    return file
