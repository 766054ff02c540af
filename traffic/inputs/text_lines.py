"""Bytes of any encoding, as blocks of whole lines of UTF-8.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 are recognized by the first bytes. Every other byte that is not
UTF-8 becomes a backslash escape, so that different names stay different. A line ends with a line feed, a carriage return, or
both. Runs of zero bytes, which a log truncated while it is written leaves, are padding. Colors of a terminal are left out.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

import numpy as np

BLOCK_BYTES = 1 << 21
# A longer line is read up to here. Access logs have lines of a few hundred bytes; servers refuse requests above 8 KiB.
LINE_BYTES = 1 << 20
# How many closing braces of a long line of JSON are looked at to break it, from its end; and how many of those that may be
# part of a string.
BRACES, TRIES = 1000, 16
# Fewer zero bytes than these inside a line are data; programs pad by pages.
PADDING_BYTES = 8
ZEROS = bytes(BLOCK_BYTES)

MARK = codecs.BOM_UTF8
# UTF-32 before UTF-16, whose mark begins its.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# At the start of a line or at its end, zero bytes are padding however few.
_EDGES = re.compile(rb"(?<=\n)\0++|\0++(?=\n)")
_PADDING = re.compile(rb"\0{%d,}+" % PADDING_BYTES)
# What a program writes around its words where it takes its output for a terminal.
_COLOR = re.compile(rb"\x1b\[[0-9;:]{0,40}m")
_NEXT_OBJECT = re.compile(rb"\},?[ \t]{0,40}\{")


def encoding(head: bytes) -> str:
    """Return the encoding of a text that begins so: UTF-8, UTF-16 or UTF-32."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    half = len(head) // 2
    even, odd = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if half and odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    if half and even > 0.7 * half and odd < 0.1 * half:
        return "utf-16-be"
    return "utf-8"


def blocks(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a text in blocks of about `BLOCK_BYTES`, each of whole lines.

    Parameters
    ----------
    head : bytes
        The text's first bytes, some hundred, which tell its encoding.
    pieces : Iterable[bytes]
        The text, the first bytes included.

    Yields
    ------
    bytes
        Valid UTF-8 that ends with a line feed, without carriage returns, zero bytes and colors. A line of more than
        `LINE_BYTES` is cut, unless it is JSON, which is broken between two objects.
    """
    name = encoding(head)
    if name != "utf-8":
        pieces = _decoded(name, pieces)
    for block in _lines(_line_feeds(pieces)):
        if b"\x1b[" in block:
            block = _COLOR.sub(b"", block)
        if block.isascii():
            yield block
        else:
            block = _valid(block)
            yield block.removeprefix(MARK).replace(b"\n" + MARK, b"\n") if MARK in block else block


def _decoded(name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(name)("backslashreplace")
    for piece in pieces:
        # Half of a pair that stands alone is no character in UTF-8 either.
        yield decoder.decode(piece).encode("utf-8", "backslashreplace")
    yield decoder.decode(b"", final=True).encode("utf-8", "backslashreplace")


def _valid(block: bytes) -> bytes:
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, len(block)], np.int32))
    try:
        # Ten times as fast as decoding, and lets other threads run.
        pa.Array.from_buffers(pa.utf8(), 1, [None, offsets, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        return block.decode("utf-8", "backslashreplace").encode()
    return block


def _line_feeds(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """End each line with a line feed alone, and leave padding out."""
    returned = False  # the piece before ended with a carriage return
    begins = True  # at the start of a line
    zeros = 0  # zero bytes at the end of the pieces before, which are no part of a line yet
    for piece in pieces:
        if returned and piece.startswith(b"\n"):
            piece = piece[1:]
        if not piece:
            continue
        if not piece[0] and piece == ZEROS[: len(piece)]:
            zeros += len(piece)
            returned = False
            continue
        returned = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if zeros or b"\0" in piece:
            before, body = min(zeros, PADDING_BYTES), piece.rstrip(b"\0")
            zeros = len(piece) - len(body)
            piece = _unpadded(body.lstrip(b"\0") if begins else ZEROS[:before] + body)
        if piece:
            begins = piece.endswith(b"\n")
            yield piece


def _unpadded(piece: bytes) -> bytes:
    return _PADDING.sub(b"\n", _EDGES.sub(b"", piece)).replace(b"\0", rb"\x00")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces to blocks of about BLOCK_BYTES that end with a line; break or cut lines longer than LINE_BYTES."""
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
        if end:
            yield block[:end]
        while len(tail) > LINE_BYTES and (end := _between_objects(tail)):
            yield tail[:end] + b"\n"
            tail = tail[end:]
        if len(tail) > LINE_BYTES:
            tail, cut = tail[:LINE_BYTES], True
        kept, size = [tail], len(tail)
    if size:
        rest = b"".join(kept)
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _between_objects(line: bytes) -> int:
    """Return the last place in a line of JSON where an object begins right after another; 0 where there is none."""
    place = len(line) if line.lstrip()[:1] in (b"[", b"{") else 0
    tries = 0
    for _ in range(BRACES):
        place = line.rfind(b"}", 0, place)
        if place < 0 or tries == TRIES:
            break
        if not _NEXT_OBJECT.match(line, place):
            continue
        tries += 1
        before = line[:place].replace(b"\\\\", b"")
        if (before.count(b'"') - before.count(b'\\"')) % 2 == 0:  # outside of a string
            return place + 1 + (line[place + 1 : place + 2] == b",")
    return 0
