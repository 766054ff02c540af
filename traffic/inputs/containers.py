"""Compressed files and archives, as streams of what is in them, within bounds of memory and work.

The first bytes tell what a file is, its name does not. Everything is inflated while it is read; only a zip or parquet file
inside another container is written to a temporary file, because it cannot be read from its beginning to its end. Whatever a
file claims, some tens of megabytes are in memory at a time.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from traffic.inputs.files import LogError
from traffic.inputs.text_lines import encoding
from traffic.provenance import printable

if TYPE_CHECKING:
    import zipfile

PIECE_BYTES = 1 << 20
# What is looked at to tell what a file is.
HEAD_BYTES = 1 << 16
# What is handed to an inflater at a time. Where the inflater does not bound its output, the format does: four bytes of zstd
# are at most 128 KiB, so that a piece becomes 8 MB at worst.
READ_BYTES = 1 << 14
ZSTD_BYTES = 1 << 8
# As zstd --long=31 asks for, and four times as much as xz -9 does.
ZSTD_WINDOW = 1 << 31
LZMA_MEMORY = 1 << 28
# What a compressed log may cost to read, in bytes; a line costs as much as 100 of them. Access logs are compressed to a
# tenth, and a line of them takes 10 bytes or more. A 400th is allowed, beyond what takes about a second in any case.
FREE_WORK = 20_000_000
WORK_PER_BYTE = 400
WORK_PER_LINE = 100
WORK_PER_MEMBER = 20_000  # of an archive; the format of each is found anew
MOST_MEMBERS = 100_000
# A log that is compressed, in an archive, which is compressed, in an archive.
DEEPEST = 4
# The directory of a zip archive, and a long name in a tar archive, are read at once.
ZIP_DIRECTORY_BYTES = 1 << 23
TAR_NAME_BYTES = 1 << 20
TAR_BLOCK = 512

# Of columns: parquet and Arrow.
COLUMNAR = (b"PAR1", b"ARROW1\0\0")
SNAPPY = b"\xff\x06\0\0sNaPpY"
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
DAMAGED = "copy it again from its source"
CUT = f"{DAMAGED}, or wait until it is complete"
EXPORT = "export its rows as csv or JSON lines"
UNPACK = "unpack it first"
# What is no log, by its first bytes, with the remedy.
REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"Rar!\x1a\x07", "a rar archive", UNPACK),
    (rb"\x1f\x9d", "compressed with compress (.Z)", "inflate it first"),
    (rb"LZIP\x01", "compressed with lzip", "inflate it first"),
    (rb"\x89LZO", "compressed with lzop", "inflate it first"),
    (rb"\x02\x21\x4c\x18", "compressed with lz4 in its legacy format", "inflate it first"),
    (rb"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    (rb"!<arch>\n", "an ar archive or a Debian package", UNPACK),
    (rb"\x7fELF", "a program", "name a log"),
    (rb"MZ[\s\S]{0,200}?\0\0", "a program", "name a log"),
    (rb"\xca\xfe\xba\xbe", "a program", "name a log"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*", "a picture", "name a log"),
    (rb"%PDF-", "a PDF document", "name a log"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", EXPORT),
    (rb"SQLite format 3\0", "a SQLite database", EXPORT),
    (rb"[\s\S]{8}DUCK[\s\S]\0{7}", "a DuckDB database", EXPORT),
    (rb"ElfFile\0", "a Windows event log (.evtx)", EXPORT),
    (rb"LPKSHHRH", "a systemd journal", "export it with journalctl -o json"),
    (rb"\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4|\x4d\x3c\xb2\xa1|\xa1\xb2\x3c\x4d|\x0a\x0d\x0d\x0a[\s\S]{4}(?:\x1a\x2b\x3c\x4d|\x4d\x3c\x2b\x1a)",
     "a packet capture", EXPORT),
    (rb"Obj\x01", "an Avro file", EXPORT),
    (rb"ORC[\s\S]{0,200}?\0", "an ORC file", EXPORT),
    (rb"FEA1\0", "a Feather file of version 1", "write it as parquet"),
    (rb"PARE[\s\S]{0,200}?\0", "an encrypted parquet file", "decrypt it first"),
    (rb"\x89HDF\r\n", "an HDF5 file", EXPORT),
)  # fmt: skip
_REFUSED = tuple((re.compile(magic), what, remedy) for magic, what, remedy in REFUSED)
_NO_CONTROL = bytes(sorted(set(range(256)) - {*range(7), *range(14, 27), *range(28, 32), 127}))
_PADDING = re.compile(rb"\0{8,}+")


def no_log(head: bytes) -> str | None:
    """Say what a file is that begins so, and what to do with it; None for what may be a log, or hold one."""
    for magic, what, remedy in _REFUSED:
        if magic.match(head):
            return f"is {what}; {remedy}"
    if head.startswith(COLUMNAR) or encoding(head) != "utf-8":
        return None
    lines = _PADDING.sub(b"", head).split(b"\n")
    control = [line.translate(None, _NO_CONTROL) for line in lines]
    # Delimiters such as ^A are few, and so are lines with what an attacker sent; a program's data has them all everywhere.
    if (
        sum(map(bool, control)) > len(lines) / 2
        and sum(map(len, control)) > len(head) / 50
        and len(set(b"".join(control))) > 5
    ):
        return "is binary data, and neither text nor a compression known; write it as text"
    return None


class Stream:
    """Bytes in pieces, the first of which can be looked at before they are taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = filter(None, pieces)
        self._kept = b""

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.some(1 << 62):
            yield piece

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or what is left, and leave them."""
        if len(self._kept) < size:
            parts, missing = [self._kept], size - len(self._kept)
            while missing > 0 and (piece := next(self._pieces, b"")):
                parts.append(piece)
                missing -= len(piece)
            self._kept = b"".join(parts)
        return self._kept[:size]

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or what is left."""
        taken = self.peek(size)
        self._kept = self._kept[size:]
        return taken

    def some(self, most: int) -> bytes:
        """Return the next piece, of `most` bytes at most; empty at the end."""
        piece = self._kept or next(self._pieces, b"")
        self._kept = piece[most:]
        return piece[:most]


class Budget:
    """What one file that was handed in may inflate to, in all of its layers and members.

    Parameters
    ----------
    name : str
        The file.
    max_bytes : int
        Most bytes that it may inflate to.
    stored : int
        Bytes of the file as it is stored; of a pipe, those read so far.
    """

    def __init__(self, name: str, max_bytes: int, stored: int) -> None:
        self.name = name
        self.stored = stored
        self._max_bytes = max_bytes
        self._size = self._work = self._members = 0

    def spend(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass inflated pieces on. Raises LogError where they are more than the file's size justifies."""
        for piece in pieces:
            self._size += len(piece)
            self._spend(len(piece) + WORK_PER_LINE * piece.count(b"\n"))
            if self._size > self._max_bytes:
                raise LogError(
                    f"{self.name}: inflates to more than {self._max_bytes} bytes; raise max_bytes if you trust it"
                )
            yield piece

    def open_member(self) -> None:
        """Count a member of an archive. Raises LogError where there are more than the file's size justifies."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise LogError(f"{self.name}: has more than {MOST_MEMBERS} members; {UNPACK}")
        self._spend(WORK_PER_MEMBER)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > FREE_WORK + WORK_PER_BYTE * self.stored:
            raise LogError(f"{self.name}: inflates far more than a log does; inflate it to a file first if you trust it")

    def spool(self, pieces: Iterable[bytes]) -> IO[bytes]:
        """Write pieces to a private temporary file, which goes when it is closed."""
        size = 0
        file = tempfile.NamedTemporaryFile(prefix="traffic-")  # noqa: SIM115 - the caller closes it
        try:
            for piece in pieces:
                size += len(piece)
                if size > self._max_bytes:
                    raise LogError(f"{self.name}: has more than {self._max_bytes} bytes; raise max_bytes if you trust it")
                file.write(piece)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


class _Codec(NamedTuple):
    name: str
    magic: re.Pattern[bytes]
    inflate: Callable[[Stream], Iterator[bytes]]


class _CutError(Exception):
    """The compressed data end in their middle."""


class _DamagedError(Exception):
    """The compressed data are not what they should be."""


def _members(stream: Stream, open_member: Callable[[], Any], inflate: Callable[[Any, bytes], Iterator[bytes]],
             read: int, error: type[Exception]) -> Iterator[bytes]:  # fmt: skip
    """Inflate members one after the other (rotated logs are often joined); zero bytes may pad the end."""
    member: Any = None
    for block in stream:
        for start in range(0, len(block), read):
            rest = block[start : start + read]
            while member or (rest := rest.lstrip(b"\0")):
                try:
                    member = member or open_member()
                    yield from inflate(member, rest)
                except error as problem:
                    raise _DamagedError(str(problem)) from problem
                if not member.eof:
                    break
                rest, member = member.unused_data, None
    if member:
        raise _CutError


def _gzip(stream: Stream) -> Iterator[bytes]:
    import zlib

    def inflate(member: Any, data: bytes) -> Iterator[bytes]:
        while True:
            piece = member.decompress(data, PIECE_BYTES)
            data = member.unconsumed_tail
            yield piece
            if member.eof or (not data and len(piece) < PIECE_BYTES):
                return

    return _members(stream, lambda: zlib.decompressobj(wbits=31), inflate, READ_BYTES, zlib.error)


def _until_it_needs_more(member: Any, data: bytes) -> Iterator[bytes]:
    yield member.decompress(data, PIECE_BYTES)
    while not (member.eof or member.needs_input):
        yield member.decompress(b"", PIECE_BYTES)


def _bzip2(stream: Stream) -> Iterator[bytes]:
    import bz2

    return _members(stream, bz2.BZ2Decompressor, _until_it_needs_more, READ_BYTES, OSError)


def _xz(stream: Stream) -> Iterator[bytes]:
    import lzma

    def open_member() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=LZMA_MEMORY)

    return _members(stream, open_member, _until_it_needs_more, READ_BYTES, lzma.LZMAError)


def _zstd(stream: Stream) -> Iterator[bytes]:
    import zstandard

    def inflate(member: Any, data: bytes) -> Iterator[bytes]:
        yield member.decompress(data)

    inflater = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    return _joined(_members(stream, inflater.decompressobj, inflate, ZSTD_BYTES, zstandard.ZstdError))


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces, and cut large ones."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES // 4:
            whole = parts[0] if len(parts) == 1 else b"".join(parts)
            parts, size = [], 0
            for start in range(0, len(whole), PIECE_BYTES):
                yield whole[start : start + PIECE_BYTES]
    yield b"".join(parts)


class _Reader(io.RawIOBase):
    """A stream as a file, for pyarrow."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.some(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _lz4(stream: Stream) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.PythonFile(_Reader(stream), mode="r"), "lz4") as inflated:
            while piece := inflated.read(PIECE_BYTES):
                yield piece
    except (OSError, pa.ArrowException) as error:
        if "runcated" in str(error):
            raise _CutError from error
        raise _DamagedError(str(error)) from error


def _snappy(stream: Stream) -> Iterator[bytes]:
    """Inflate the framing format: https://github.com/google/snappy/blob/main/framing_format.txt ."""
    import cramjam

    while header := stream.take(4):
        kind, size = header[0], int.from_bytes(header[1:], "little")
        if 1 < kind < 0x80:  # the others may be skipped
            raise _DamagedError(f"no piece is of kind {kind}")
        body = stream.take(size)
        if len(header) < 4 or len(body) < size:
            raise _CutError
        if kind < 2:
            try:
                yield bytes(cramjam.snappy.decompress(SNAPPY + header + body))  # with its checksum, at most 64 KiB
            except cramjam.DecompressionError as error:
                raise _DamagedError(str(error)) from error


CODECS = tuple(
    _Codec(name, re.compile(magic), inflate)
    for name, magic, inflate in (
        ("gzip", rb"\x1f\x8b", _gzip),
        ("bzip2", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90|[\s\S]{0,5}\Z)", _bzip2),
        ("xz", rb"\xfd7zXZ\0|\x5d\0\0[\0-\xff]{10}", _xz),
        ("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", _zstd),
        ("lz4", rb"\x04\x22\x4d\x18", _lz4),
        ("snappy", re.escape(SNAPPY), _snappy),
    )
)


def inflated(name: str, codec: _Codec, stream: Stream) -> Iterator[bytes]:
    """Yield what a compressed stream inflates to. Raises LogError where it is damaged or cut short."""
    try:
        yield from codec.inflate(stream)
    except _CutError as error:
        raise LogError(f"{name}: ends in the middle of its {codec.name} data; {CUT}") from error
    except _DamagedError as error:
        problem = " ".join(str(error).split())[:200]
        raise LogError(
            f"{name}: should be a {codec.name} file and is not one, or is damaged ({problem}); {DAMAGED}"
        ) from error


class Content(NamedTuple):
    """What lies innermost: a stream that is neither compressed nor an archive.

    Attributes
    ----------
    name : str
        The file, and the members that lead to it: "logs.zip:access.log".
    stream : Stream
        Its bytes, to be read before the next content is asked for.
    is_member : bool
        Whether it lies in an archive.
    is_stored : bool
        Whether the stream is the file itself, as it is stored.
    """

    name: str
    stream: Stream
    is_member: bool
    is_stored: bool


class Unpacker:
    """Unpacks one file that was handed in.

    Parameters
    ----------
    budget : Budget
        What it may inflate to.
    is_named : bool
        Whether what is no log is an error; if not, it is left out.
    read : Callable[[int], None]
        Told how many stored bytes of members of a zip archive have been read.
    leave_out : Callable[[str], None]
        Told which members are no logs, in a sentence.
    """

    def __init__(
        self, budget: Budget, is_named: bool, read: Callable[[int], None], leave_out: Callable[[str], None]
    ) -> None:
        self._budget = budget
        self._is_named = is_named
        self._read = read
        self._leave_out = leave_out

    def contents(self, stream: Stream, file: IO[bytes] | None = None) -> Iterator[Content]:
        """Yield what is in a file; `file` is the file itself where it can be read in any order."""
        return self._open(self._budget.name, stream, file, 0, False)

    def _open(self, name: str, stream: Stream, file: IO[bytes] | None, depth: int, is_member: bool) -> Iterator[Content]:
        head = stream.peek(HEAD_BYTES)
        codec = next((codec for codec in CODECS if codec.magic.match(head)), None)
        is_archive = head.startswith(ZIP) or _is_tar(head)
        if (codec or is_archive) and depth == DEEPEST:
            raise LogError(f"{name}: lies in {DEEPEST} containers and is one; {UNPACK}")
        if codec:
            pieces = self._budget.spend(inflated(name, codec, stream))
            yield from self._open(name, Stream(pieces), None, depth + 1, is_member)
        elif head.startswith(ZIP):
            yield from self._zip(name, stream, file, depth + 1, is_member)
        elif is_archive:
            for member, content in _tar(name, stream):
                if _is_wanted(member):
                    self._budget.open_member()
                    yield from self._open(f"{name}:{printable(member)}", content, None, depth + 1, True)
        elif (why := no_log(head)) is None:
            yield Content(name, stream, is_member, depth == 0)
        else:
            self._refuse(name, why, is_member)

    def _refuse(self, name: str, why: str, is_member: bool) -> None:
        if self._is_named and not is_member:
            raise LogError(f"{name}: {why}")
        self._leave_out(f"{name} {why.partition(';')[0]}")

    def _zip(self, name: str, stream: Stream, file: IO[bytes] | None, depth: int, is_member: bool) -> Iterator[Content]:
        import zipfile

        spooled = None if file else self._budget.spool(stream)
        try:
            with _zip_errors(name):
                archive = zipfile.ZipFile(_ShortReads(file or spooled))
                members = archive.infolist()
            if any(info.filename == "[Content_Types].xml" for info in members):
                self._refuse(name, f"is an Office document; {EXPORT}", is_member)
                return
            for info in members:
                if info.is_dir() or not info.file_size or not _is_wanted(info.filename):
                    continue
                self._budget.open_member()
                member = f"{name}:{printable(info.filename)}"
                pieces = self._budget.spend(self._zip_member(member, archive, info, depth))
                yield from self._open(member, Stream(pieces), None, depth, True)
        finally:
            if spooled:
                spooled.close()

    def _zip_member(self, name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, depth: int) -> Iterator[bytes]:
        if info.flag_bits & 1:
            raise LogError(f"{name}: is encrypted; {UNPACK}")
        done = size = 0
        with _zip_errors(name), archive.open(info) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
                size += len(piece)
                if depth == 1:  # the archive is the file that was handed in
                    before, done = done, min(info.compress_size, info.compress_size * size // info.file_size)
                    self._read(done - before)


class _ShortReads:
    """The file of a zip archive, which refuses a directory that would fill the memory."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size if 0 <= size <= ZIP_DIRECTORY_BYTES else ZIP_DIRECTORY_BYTES + 1)
        if len(data) > ZIP_DIRECTORY_BYTES:
            raise _DamagedError("its directory is too long")
        return data


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    import lzma
    import zipfile
    import zlib

    try:
        yield
    except NotImplementedError as error:
        raise LogError(f"{name}: is compressed in a way that is not known here ({error}); {UNPACK}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error, RuntimeError,
            _DamagedError) as error:  # fmt: skip
        problem = printable(" ".join(str(error).split()))
        raise LogError(f"{name}: is a damaged zip archive ({problem or type(error).__name__}); {DAMAGED}") from error


def _is_wanted(member: str) -> bool:
    parts = [part for part in member.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _is_tar(head: bytes) -> bool:
    if len(head) < TAR_BLOCK:
        return False
    try:
        tarfile.TarInfo.frombuf(head[:TAR_BLOCK], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _tar(name: str, stream: Stream) -> Iterator[tuple[str, Stream]]:
    """Yield the files of a tar archive, one after the other. Archives that were joined are read to the end."""
    long_name, size, is_ended = "", -1, False
    while header := stream.take(TAR_BLOCK):
        is_ended = not header.strip(b"\0")
        if is_ended:
            continue
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            cut = len(header) < TAR_BLOCK
            raise LogError(f"{name}: {'ends in the middle' if cut else 'is a damaged tar archive'}; {DAMAGED}") from error
        if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            for _ in _part(name, stream, max(info.size, 0)):
                pass
            continue
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if not 0 <= info.size <= TAR_NAME_BYTES:
                raise LogError(f"{name}: is a damaged tar archive (a name of {info.size} bytes); {DAMAGED}")
            data = b"".join(_part(name, stream, info.size))
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            else:
                fields = _pax(name, data)
                if any(key.startswith(b"GNU.sparse") for key in fields):
                    raise LogError(f"{name}: holds files with holes; {UNPACK}")
                long_name = fields.get(b"path", b"").decode("utf-8", "surrogateescape") or long_name
                size = _number(name, fields[b"size"]) if b"size" in fields else size
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise LogError(f"{name}: holds files with holes; {UNPACK}")
        member, length = long_name or info.name, size if size >= 0 else info.size
        if length < 0:
            raise LogError(f"{name}: is a damaged tar archive (a file of {length} bytes); {DAMAGED}")
        long_name, size = "", -1
        if info.type in tarfile.REGULAR_TYPES:
            content = Stream(_part(name, stream, length))
            if length and not member.endswith("/"):
                yield member, content
            for _ in content:
                pass
        elif info.type not in tarfile.SUPPORTED_TYPES:
            for _ in _part(name, stream, length):
                pass
    if not is_ended:  # it was cut between two files
        raise LogError(f"{name}: ends without the zero bytes that end a tar archive; {DAMAGED}, or unpack it first")


def _part(name: str, stream: Stream, size: int) -> Iterator[bytes]:
    """Yield the next bytes of a tar archive, and pass over what fills their last block."""
    left = size
    while left:
        piece = stream.some(left)
        if not piece:
            raise LogError(f"{name}: ends in the middle of its tar data; {CUT}")
        left -= len(piece)
        yield piece
    if len(stream.take(-size % TAR_BLOCK)) < -size % TAR_BLOCK:
        raise LogError(f"{name}: ends in the middle of its tar data; {CUT}")


def _pax(name: str, data: bytes) -> dict[bytes, bytes]:
    """Return the fields of an extended header: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html ."""
    fields, start = {}, 0
    while start < len(data):
        space = data.find(b" ", start, start + 20)
        length = _number(name, data[start : max(space, start)])
        key, _, value = data[space + 1 : start + max(length, 1) - 1].partition(b"=")
        fields[key] = value
        start += max(length, 1)
    return fields


def _number(name: str, digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise LogError(f"{name}: is a damaged tar archive (no number in its header); {DAMAGED}")
    return int(digits)
