"""Compression of bytes that travel and lie whole. A tag in front says which codec wrote them, so all are read everywhere.

A blob is one tag byte, and after the tag 0 the data as it is. After another tag come the length of the data (LEB128), the
CRC-32 of the data (4 bytes, little endian) and what the codec wrote. Snappy and LZ4 have no checksum of their own, so damage
would pass for data.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

import cramjam

from ratesim.errors import SerializationError

__all__ = ["CODECS", "MAX_INFLATED", "RAW", "Codec", "compress", "decompress"]

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = get_args(Codec)

MAX_INFLATED = 16 * 2**20  # bytes; longer data is stored raw. A log of 100,000 entries has a tenth of it.
RAW = 0  # the tag of data as it is
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class _Coder(NamedTuple):
    compress: Callable[[bytes], cramjam.Buffer]
    inflate: Callable[[bytes, bytearray], int]  # into a buffer, which it never exceeds
    ratio: int  # most bytes that one byte of the format can stand for


# Levels: docs/redis.md, "Compression". Ratios: RFC 1951 (258 bytes for two bits), snappy's format_description.txt (a copy of
# 64 bytes in 3), lz4_Block_format.md (255 for a byte of length), RFC 8878 (a block of 128 KiB in 4 bytes).
_CODERS: dict[int, _Coder] = {
    1: _Coder(partial(cramjam.gzip.compress, level=1), cramjam.gzip.decompress_into, 1032),
    2: _Coder(cramjam.snappy.compress_raw, cramjam.snappy.decompress_raw_into, 22),
    3: _Coder(partial(cramjam.lz4.compress_block, store_size=False), cramjam.lz4.decompress_block_into, 255),
    4: _Coder(partial(cramjam.zstd.compress, level=1), cramjam.zstd.decompress_into, 2**15),
}
_ZSTD = CODECS.index("zstd")


def compress(data: bytes, codec: Codec) -> bytes:
    """Return a blob of the data; raw where the codec does not make it shorter.

    Parameters
    ----------
    data
        At most MAX_INFLATED bytes are compressed.
    codec
        "none" stores them raw.
    """
    coder = _CODERS.get(CODECS.index(codec))
    if coder is not None and 0 < len(data) <= MAX_INFLATED:
        blob = b"".join(
            (
                bytes((CODECS.index(codec),)),
                _varint(len(data)),
                zlib.crc32(data).to_bytes(4, "little"),
                bytes(coder.compress(data)),
            )
        )
        if len(blob) <= len(data):
            return blob
    return bytes((RAW,)) + data


def decompress(blob: bytes, max_inflated: int = MAX_INFLATED) -> bytes:
    """Invert `compress`, with whatever codec.

    Memory is bounded by `max_inflated` and by the greatest ratio of the format, whatever a header claims.

    Raises
    ------
    SerializationError
        The codec is unknown, the data is damaged, or it is longer than `max_inflated` bytes.
    """
    if not blob:
        raise SerializationError("compressed data: no bytes")
    tag = blob[0]
    if tag == RAW:
        return blob[1:]
    coder = _CODERS.get(tag)
    if coder is None:
        raise SerializationError(f"compressed data: codec {tag} is unknown; a newer version wrote it, or it is damaged")
    length, start = _read_varint(blob)
    body = blob[start + 4 :]
    if length > max_inflated:
        raise SerializationError(f"compressed data: would inflate to {length} bytes, above the cap of {max_inflated}")
    if length > coder.ratio * len(body):
        raise _damaged(f"claims {length} bytes, more than {len(body)} can stand for")
    if tag == _ZSTD:
        _check_zstd_frame(body, length)
    data = bytearray(length)
    try:
        inflated = coder.inflate(body, data)
    except (cramjam.DecompressionError, ValueError) as error:
        raise _damaged(str(error)[:100]) from error
    if inflated != length or zlib.crc32(data) != int.from_bytes(blob[start : start + 4], "little"):
        raise _damaged("its length or checksum is wrong")
    return bytes(data)


def _check_zstd_frame(body: bytes, length: int) -> None:
    """Require one frame whose window is no longer than the data: a decoder allocates the window that a header claims.

    The header is that of RFC 8878, 3.1.1.
    """
    if len(body) < 6 or body[:4] != ZSTD_MAGIC:
        raise _damaged("is no zstd frame")
    descriptor = body[4]
    end = 5
    if descriptor & 0x20:  # a single segment: the window is the content
        window = 0
    else:
        exponent, mantissa = body[end] >> 3, body[end] & 7
        window = (1 << (10 + exponent)) * (8 + mantissa) // 8
        end += 1
    width = (1 if descriptor & 0x20 else 0, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(body[end : end + width], "little") + (256 if width == 2 else 0)
    end += width
    if window > max(2 * length, 1024) or (width and size != length) or descriptor & 0x0B:  # reserved, or a dictionary
        raise _damaged("its zstd header claims another length or window")
    last = False
    while not last and end + 3 <= len(body):
        header = int.from_bytes(body[end : end + 3], "little")
        last = bool(header & 1)
        end += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    if not last or end + (4 if descriptor & 4 else 0) != len(body):
        raise _damaged("is not one whole zstd frame")


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def _read_varint(blob: bytes) -> tuple[int, int]:
    """Return the length after the tag, and the place behind it."""
    length = 0
    for place in range(1, min(6, len(blob))):
        length |= (blob[place] & 127) << 7 * (place - 1)
        if blob[place] < 128:
            return length, place + 1
    raise _damaged("its length does not end")


def _damaged(reason: str) -> SerializationError:
    return SerializationError(f"compressed data: damaged ({reason})")
