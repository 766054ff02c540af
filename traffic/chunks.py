"""A log file, plain, gzip or zstd, as blocks of whole lines of text, within bounds of memory and size.

Compression is recognized by the file's first bytes, and inflated while the file is read. Whatever the file claims, only some
tens of megabytes are in memory at a time. Reading stops at `max_bytes` of inflated text.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from os import PathLike
from typing import IO, Any, NamedTuple

from traffic.provenance import TrafficError

FilePath = str | PathLike[str]
Progress = Callable[[int, int], None]

# What fits the processor's cache: reading a combined log was 1.2 to 1.7 times as slow in blocks of 1 MiB.
BLOCK_BYTES = 1 << 17
# What is handed to the inflater at a time. It does not bound its output, but the formats do: deflate grows at
# most 1032-fold and four bytes of zstd are at most 128 KiB, so that a piece becomes 4 or 17 MB at worst.
GZIP_PIECE_BYTES = 1 << 12
ZSTD_PIECE_BYTES = 1 << 9
# A longer line is read up to here. Access logs have lines of a few hundred bytes; servers refuse requests
# above 8 KiB.
LINE_BYTES = BLOCK_BYTES
# What a compressed log may cost to read, in bytes; a line costs as much as 100 of them. Access logs are compressed to a
# tenth, and a line of them takes 10 bytes or more. A 400th is allowed, beyond what takes about a second in any case.
FREE_WORK = 20_000_000
WORK_PER_BYTE = 400
WORK_PER_LINE = 100


class LogError(TrafficError):
    """A log cannot be read. The message names the file and the remedy."""


def text_blocks(path: FilePath, max_bytes: int, progress: Progress | None = None) -> Iterator[str]:
    """Yield the file's text in blocks of about 128 KiB, each ending at the end of a line.

    Parameters
    ----------
    path : FilePath
        The file.
    max_bytes : int
        Upper bound on the inflated size of a compressed file, in bytes.
    progress : Progress, optional
        Called with the bytes read and all bytes, both of the file as it is stored.

    Yields
    ------
    str
        Text. Bytes that are not UTF-8 become backslash escapes, so that different names stay different.

    Raises
    ------
    LogError
        If the file cannot be opened, is damaged or cut short, or inflates to more than `max_bytes`.
    """
    try:
        with open_regular(path) as file:
            for block in _lines(_inflated(path, file, max_bytes, progress)):
                yield block.decode("utf-8", "backslashreplace")
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


class _Codec(NamedTuple):
    name: str
    piece: int
    inflater: Callable[[], Any]
    error: type[Exception]


def _codec(first: bytes, name: str) -> _Codec | None:
    if first.startswith(b"\x1f\x8b") or name.endswith(".gz"):
        return _Codec("gzip", GZIP_PIECE_BYTES, lambda: zlib.decompressobj(wbits=31), zlib.error)
    if first == b"\x28\xb5\x2f\xfd" or name.endswith(".zst"):
        import zstandard

        inflater = zstandard.ZstdDecompressor().decompressobj
        return _Codec("zstd", ZSTD_PIECE_BYTES, inflater, zstandard.ZstdError)
    return None


def _inflated(path: FilePath, file: IO[bytes], max_bytes: int, progress: Progress | None) -> Iterator[bytes]:
    first = file.read(4)
    codec = _codec(first, str(path))
    stored = _stored(first, file, progress)
    if codec is None:
        return stored
    total = os.fstat(file.fileno()).st_size
    return _bounded(path, _inflate(path, codec, stored), max_bytes, FREE_WORK + WORK_PER_BYTE * total)


def _stored(first: bytes, file: IO[bytes], progress: Progress | None) -> Iterator[bytes]:
    # As long as the file was when it was opened: a log that is written meanwhile may grow faster than it is read.
    total, done, piece = os.fstat(file.fileno()).st_size, 0, first
    while piece:
        done += len(piece)
        yield piece
        if progress:
            progress(done, total)
        piece = file.read(min(BLOCK_BYTES, max(total - done, 0)))


def _inflate(path: FilePath, codec: _Codec, stored: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate a file of one or more members (rotated logs are often joined); zero bytes may pad its end."""
    member: Any = None
    for block in stored:
        for start in range(0, len(block), codec.piece):
            rest = block[start : start + codec.piece]
            while member or (rest := rest.lstrip(b"\0")):
                member = member or codec.inflater()
                try:
                    yield member.decompress(rest)
                except codec.error as error:
                    problem = f"should be a {codec.name} file and is not one, or is damaged ({error})"
                    raise LogError(f"{path}: {problem}; copy it again from its source") from error
                if not member.eof:
                    break
                rest, member = member.unused_data, None
    if member:
        raise LogError(f"{path}: ends in the middle of its {codec.name} data; copy it again from its source")


def _bounded(path: FilePath, pieces: Iterator[bytes], max_bytes: int, max_work: int) -> Iterator[bytes]:
    size = lines = 0
    for piece in pieces:
        size += len(piece)
        lines += piece.count(b"\n")
        if size > max_bytes:
            raise LogError(f"{path}: inflates to more than {max_bytes} bytes; raise max_bytes if you trust it")
        if size + WORK_PER_LINE * lines > max_work:
            raise LogError(f"{path}: inflates far more than a log does; inflate it to a file first if you trust it")
        for start in range(0, len(piece), BLOCK_BYTES):
            yield piece[start : start + BLOCK_BYTES]


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces to blocks of about BLOCK_BYTES that end with a line; cut lines longer than LINE_BYTES."""
    kept: list[bytes] = []
    size = 0
    cut = False  # inside a line of which enough has been kept
    for piece in pieces:
        if cut:
            end = piece.find(b"\n")
            if end < 0:
                continue
            piece, cut = piece[end:], False
        kept.append(piece)
        size += len(piece)
        if size < BLOCK_BYTES:
            continue
        block = b"".join(kept)
        end = block.rfind(b"\n") + 1
        tail = block[end:]
        if len(tail) > LINE_BYTES:
            tail, cut = tail[:LINE_BYTES], True
        if end:
            yield block[:end]
        kept, size = [tail], len(tail)
    if size:
        yield b"".join(kept)
