"""What a user hands in (files, patterns, directories, archives, standard input) as sources of whole lines of UTF-8."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from io import FileIO
from os import fspath
from typing import IO, NamedTuple

from traffic.inputs import text_lines
from traffic.inputs.containers import COLUMNAR, HEAD_BYTES, PIECE_BYTES, Budget, Stream, Unpacker
from traffic.inputs.files import FilePath, LogError, Progress, naming, open_regular
from traffic.inputs.text_lines import ZEROS
from traffic.provenance import printable

STANDARD_INPUT = "-"
MOST_SENTENCES = 20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Source:
    """One log: a file, a member of an archive, or standard input. It is read once, before the next source is taken.

    Attributes
    ----------
    name : str
        As it is shown; a member of an archive is "archive.zip:member".
    size : int or None
        Bytes of the file that was handed in, as it is stored (of the archive, for a member); None for a pipe.
    path : str or None
        A file with just these bytes, which can be read in any order, where there is one; always for parquet. That of a
        member or of standard input is temporary.
    is_parquet : bool
        Whether it is a parquet or Arrow file, which has no lines.
    is_named : bool
        Whether the user named this very log, and neither a directory, a pattern nor an archive that it is in.
    """

    def __init__(self, name: str, size: int | None, path: str | None, is_named: bool, head: bytes, stream: Stream) -> None:
        self.name = name
        self.size = size
        self.path = path
        self.is_parquet = head.startswith(COLUMNAR)
        self.is_named = is_named
        self._blocks = iter(()) if self.is_parquet else text_lines.blocks(head, stream)
        self._first: bytes | None = None
        self._is_over = False

    def first(self) -> bytes:
        """Return the first block, empty where there are no lines. `blocks` yields it all the same."""
        if self._first is None:
            self._first = self._next()
        return self._first

    def blocks(self) -> Iterator[bytes]:
        """Yield the lines in blocks of about 1 MiB.

        Yields
        ------
        bytes
            Whole lines of valid UTF-8; each ends with a line feed, and there are no carriage returns and no zero bytes.

        Raises
        ------
        LogError
            If the log is damaged, cut short, or inflates to more than is allowed.
        """
        block, self._first = self.first(), b""
        while block:
            yield block
            block = self._next()

    def _next(self) -> bytes:
        if self._is_over:
            raise RuntimeError(f"{self.name}: is read after the next source was taken, or all were dropped")
        return next(self._blocks, b"")

    def _end(self) -> None:
        self._is_over = True


class _Input(NamedTuple):
    name: str
    path: str  # STANDARD_INPUT, or what can be opened
    size: int | None  # None for what has no size before it ends
    is_named: bool
    identity: tuple[int, int]  # device and inode


class Sources(Iterator[Source]):
    """The sources of what was handed in, one after the other. Their files are open as long as this object is kept."""

    def __init__(self, paths: FilePath | Sequence[FilePath], max_bytes: int, progress: Progress | None) -> None:
        self._left_out: list[str] = []
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise LogError("no log is named; name one or several files")
        inputs = _once([found for path in given for found in _expanded(fspath(path), self._left_out)], self._left_out)
        opener = _Opener(inputs, max_bytes, progress, self._left_out)
        # The generator does not know this object, so that its files are closed when this object is dropped.
        self._sources = opener.opened(" ".join(str(path) for path in given)[:200])

    def __next__(self) -> Source:
        return next(self._sources)

    @property
    def left_out(self) -> list[str]:
        """Sentences on what was found and is not read, or is there twice; more of them with every source."""
        more = len(self._left_out) - MOST_SENTENCES
        return [
            *self._left_out[:MOST_SENTENCES],
            *([f"{more} more files were left out or are there twice"] if more > 0 else []),
        ]


class _Opener:
    """Opens inputs one after the other."""

    def __init__(self, inputs: Sequence[_Input], max_bytes: int, progress: Progress | None, left_out: list[str]) -> None:
        self._inputs = inputs
        self._max_bytes = max_bytes
        self._progress = progress
        self._left_out = left_out
        self._heads: dict[bytes, str] = {}  # digests of what sources begin with
        self._done = self._end = 0  # bytes read, and those where this input ends
        self._total = sum(found.size or 0 for found in inputs)

    def opened(self, shown: str) -> Iterator[Source]:
        count = 0
        for found in self._inputs:
            self._end += found.size or 0
            for source in self._contents(found):
                count += 1
                try:
                    yield source
                finally:
                    source._end()
            self._advance(self._end - self._done)
        if not count:
            why = f" ({'; '.join(self._left_out)[:500]})" if self._left_out else ""
            raise LogError(f"{shown}: holds no log{why}; name a log that has lines")

    def _contents(self, found: _Input) -> Iterator[Source]:
        budget = Budget(found.name, self._max_bytes, found.size or 0)
        with ExitStack() as stack, naming(found.name):
            if found.size is None:
                file, stored = None, None
                stream = Stream(self._piped(found, budget, stack))
            else:
                file = stack.enter_context(open_regular(found.path))
                stored = _StoredPieces(found.name, file, budget.stored, self._advance)
                stream = Stream(stored)
            unpacker = Unpacker(budget, found.is_named, self._advance, self._left_out.append)
            for name, pieces, is_member, is_stored in unpacker.contents(stream, file):
                head = pieces.peek(HEAD_BYTES)
                if head and (same := self._heads.setdefault(blake2b(head).digest(), name)) != name:
                    self._left_out.append(f"{name} begins as {same} does: if it is a copy, its requests count twice")
                path, spooled = found.path if stored and is_stored else None, None
                if head.startswith(COLUMNAR) and path is None:
                    spooled = budget.spool(pieces)
                    path = spooled.name
                elif stored and is_stored:
                    stored.skip_holes = True
                try:
                    yield Source(name, found.size, path, found.is_named and not is_member, head, pieces)
                finally:
                    if spooled:
                        spooled.close()

    def _piped(self, found: _Input, budget: Budget, stack: ExitStack) -> Iterator[bytes]:
        with naming(found.name):
            is_standard = found.path == STANDARD_INPUT
            read = sys.stdin.buffer.read if is_standard else stack.enter_context(FileIO(found.path)).read
            while piece := read(PIECE_BYTES):
                budget.stored += len(piece)
                self._end += len(piece)
                self._total += len(piece)
                yield piece
                self._advance(len(piece))

    def _advance(self, count: int) -> None:
        count = min(count, self._end - self._done)
        if count > 0:
            self._done += count
            if self._progress:
                self._progress(self._done, self._total)


class _StoredPieces:
    """The bytes of a regular file, as long as it was when it was opened: a log may grow faster than it is read."""

    def __init__(self, name: str, file: IO[bytes], size: int, advance: Callable[[int], None]) -> None:
        self._name = name
        self._file = file
        self._size = size
        self._advance = advance
        self.skip_holes = False  # whether zero bytes that the disk does not even store may be left out

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        while done < self._size:
            with naming(self._name):
                piece = os.pread(self._file.fileno(), min(PIECE_BYTES, self._size - done), done)
            if not piece:
                break
            end = done + len(piece)
            if self.skip_holes and not piece[0] and piece == ZEROS[: len(piece)]:
                end = max(end, _next_data(self._file.fileno(), end, self._size))
            yield piece
            self._advance(end - done)
            done = end


def _next_data(descriptor: int, start: int, size: int) -> int:
    if not hasattr(os, "SEEK_DATA"):
        return start
    try:
        return min(os.lseek(descriptor, start, os.SEEK_DATA), size)
    except OSError as error:
        return size if error.errno == errno.ENXIO else start  # there is only a hole to the end; or holes are not known


def sources(paths: FilePath | Sequence[FilePath], max_bytes: int, progress: Progress | None = None) -> Sources:
    """Return the logs in what a user hands in.

    Parameters
    ----------
    paths : FilePath or Sequence[FilePath]
        One or several of: a file; a pattern ("access.log*", "logs/**/*.gz"), unless a file has just that name; a directory,
        of which all files are taken that are not hidden, also those in directories in it; an archive; a named pipe; "-",
        which is standard input.
    max_bytes : int
        Upper bound on what one compressed file, or archive, inflates to, in bytes. A plain log may have any size.
    progress : Progress, optional
        Called with the bytes read and all bytes, both as the files are stored.

    Returns
    -------
    Sources
        An iterator. Each source is read before the next one is taken.

    Raises
    ------
    LogError
        If a name is no file, or something that is no log; also later, while sources are taken and read. The message names
        the file and the remedy.
    """
    return Sources(paths, max_bytes, progress)


def files_of(paths: FilePath | Sequence[FilePath]) -> list[str]:
    """Return the paths that `sources` reads of what a user hands in, in its order, without opening any.

    Raises
    ------
    LogError
        If a name is no file.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return [found.path for found in _once([found for path in given for found in _expanded(fspath(path), [])], [])]


def _expanded(path: str, left_out: list[str]) -> list[_Input]:
    if path == STANDARD_INPUT:
        return [_standard_input()]
    path = os.path.expanduser(path)  # a shell does not do it where the pattern is quoted
    if _ADDRESS.match(path):
        raise LogError(f"{path[:200]}: is an address, and only files are read; download it first")
    try:
        with naming(path):
            status = os.stat(path)
    except LogError:
        if os.path.lexists(path) or not glob.has_magic(path):
            raise
        matches = sorted(glob.glob(path, recursive=True))
        if "**" not in path:  # which goes into directories by itself
            matches = [file for match in matches for file in (_walked(match, left_out) if os.path.isdir(match) else [match])]
        return _found(path, matches, "matches no file; check the pattern", left_out)
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise LogError(f"{ascii(path)[:200]}: is no name that a file can have; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        return _found(path, _walked(path, left_out), "has no file that is not hidden; name a directory with logs", left_out)
    if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return [_Input(_shown(path), path, size, True, (status.st_dev, status.st_ino))]
    raise LogError(f"{path}: is a terminal or a device, which may have no end; write it to a file first")


def _standard_input() -> _Input:
    name, identity = "standard input", (-1, -1)
    if sys.stdin is None or sys.stdin.closed:
        raise LogError(f"{name}: is closed; pipe a log into it")
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # replaced by something that is no file
        return _Input(name, STANDARD_INPUT, None, True, identity)
    if stat.S_ISCHR(status.st_mode):
        raise LogError(f"{name}: is a terminal or a device; pipe a log into it")
    return _Input(name, STANDARD_INPUT, None, True, (status.st_dev, status.st_ino))


def _walked(directory: str, left_out: list[str]) -> list[str]:
    found = []
    for root, directories, files in os.walk(directory, onerror=_raise):
        directories[:] = [name for name in directories if not name.startswith(".")]
        links = [path for name in directories if os.path.islink(path := os.path.join(root, name))]
        left_out += [f"{_shown(path)} is a link to a directory, which is not followed" for path in links]
        found += [os.path.join(root, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _shown(path: str) -> str:
    return path if path.isprintable() else printable(path)


def _raise(error: OSError) -> None:
    with naming(error.filename):
        raise error


def _found(path: str, files: list[str], problem: str, left_out: list[str]) -> list[_Input]:
    found = []
    for file in files:
        try:
            status = os.stat(file)
        except FileNotFoundError:  # a link that leads nowhere
            left_out.append(f"{_shown(file)} is a link that leads nowhere")
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(_Input(_shown(file), file, status.st_size, False, (status.st_dev, status.st_ino)))
    if not found:
        raise LogError(f"{path}: {problem}")
    return [file for file in found if file.size] or found[:1]


def _once(inputs: list[_Input], left_out: list[str]) -> list[_Input]:
    first: dict[tuple[int, int], _Input] = {}
    for found in inputs:
        same = first.setdefault(found.identity, found)
        if same is not found:
            left_out.append(f"{found.name} is the same file as {same.name}, and is read once")
    return list(first.values())
