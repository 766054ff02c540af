"""What a journal keeps of a storage (`Put`, `Count`, `Drop`, `Forget`), and how it lies in a file.

A file is a header and frames, little-endian. A header is magic (7 bytes), version (1), generation (8), marker (4), length of
the log before it (8), boot (16) and the CRC-32 of all that. A frame is marker (4), length of the payload (4), synced (8),
payload (MessagePack), and the CRC-32 of all that, begun with the frame's offset in the file.

The marker is the file's own and nobody can guess it: so after a damaged frame the next ones can be found, and no identifier
can look like one. `synced` is how much of the log was known to be on the disk when the frame was written: what is damaged
below it was there once, and what is damaged above it may never have arrived.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

import msgspec

from ratesim.errors import SerializationError

__all__ = ["HEADER_SIZE", "Count", "Drop", "End", "Forget", "Frame", "Header", "Put", "Record"]

VERSION = 1
MAGIC = {"log": b"rs-log\0", "snapshot": b"rs-snap"}
_HEADER = struct.Struct("<7sBQ4sQ16s")
_FRAME = struct.Struct("<4sIQ")
_CRC = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CRC.size


class Put(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=0):
    """The state of the identifier's limit `name`, as `ratesim.state.encode` gives it, until `expires_at`."""

    identifier: str
    name: str
    state: bytes
    expires_at: float


class Count(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The identifier's plain counter, until `expires_at`."""

    identifier: str
    count: int
    expires_at: float


class Drop(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """One state of the identifier is gone, or its counter (name None)."""

    identifier: str
    name: str | None


class Forget(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Every state and counter of the identifier is gone."""

    identifier: str


class End(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """The last frame of a snapshot: how many records came before, and the CRC-32 of the file up to here."""

    count: int
    checksum: int


Record = Put | Count | Drop | Forget

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Record | End] = msgspec.msgpack.Decoder(Record | End)


class Header(NamedTuple):
    """The beginning of a file. kind: log or snapshot; before: the bytes of the log that this one follows."""

    kind: str
    generation: int
    marker: bytes
    before: int
    boot: bytes

    def encode(self) -> bytes:
        body = _HEADER.pack(MAGIC[self.kind], VERSION, self.generation, self.marker, self.before, self.boot)
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, kind: str, data: bytes) -> Header:
        """SerializationError when the file is no such file, of an unknown version, or its header is damaged."""
        if data[:7] != MAGIC[kind]:
            raise SerializationError(f"offset 0: no {kind} of a journal")
        if len(data) > 7 and data[7] != VERSION:
            raise SerializationError(f"offset 7: version {data[7]} is unknown; this is version {VERSION}")
        if len(data) < HEADER_SIZE or _CRC.unpack_from(data, _HEADER.size) != (crc32(data[: _HEADER.size]),):
            raise SerializationError("offset 0: the header is damaged")
        _, _, generation, marker, before, boot = _HEADER.unpack_from(data)
        return cls(kind, generation, marker, before, boot)


class Frame(NamedTuple):
    """A frame that was read. end: the offset after it."""

    payload: memoryview
    synced: int
    end: int

    @staticmethod
    def encode(record: Record | End, marker: bytes, synced: int, offset: int) -> bytes:
        """The bytes of a record that will lie at `offset`; SerializationError when it cannot be written."""
        try:
            payload = _encode(record)
            body = _FRAME.pack(marker, len(payload), synced) + payload
        except (struct.error, ValueError, OverflowError, TypeError) as error:
            raise SerializationError(f"record of {getattr(record, 'identifier', 'a snapshot')!r}: {error}") from error
        return body + _CRC.pack(crc32(body, offset & 0xFFFFFFFF))

    @classmethod
    def read(cls, data: memoryview, offset: int, marker: bytes) -> Frame | None:
        """The frame at `offset`; None when no whole, undamaged frame lies there."""
        start = offset + _FRAME.size
        if start > len(data):
            return None
        found, length, synced = _FRAME.unpack_from(data, offset)
        end = start + length + _CRC.size
        if found != marker or end > len(data):
            return None
        if _CRC.unpack_from(data, end - _CRC.size)[0] != crc32(data[offset : end - _CRC.size], offset & 0xFFFFFFFF):
            return None
        return cls(data[start : end - _CRC.size], synced, end)

    @classmethod
    def search(cls, data: bytes, offset: int, marker: bytes) -> Iterator[Frame]:
        """All undamaged frames from `offset` on, wherever they begin."""
        view = memoryview(data)
        offset = data.find(marker, offset)
        while offset >= 0:
            frame = cls.read(view, offset, marker)
            if frame is not None:
                yield frame
            offset = data.find(marker, offset + 1 if frame is None else frame.end)

    def decode(self) -> Record | End:
        """SerializationError when the payload is no record of this version."""
        try:
            return _decoder.decode(self.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SerializationError(f"offset {self.end - len(self.payload) - _CRC.size}: no record ({error})") from error
