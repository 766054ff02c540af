"""Damage to bytes: as a disk, an editor, a wrong program and an attacker do it."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Sequence

import zstandard

__all__ = ["mutate"]

NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
WORD = re.compile(rb"[A-Za-z_]{3,}")
NUMBERS = [
    *b"0 -1 1e400 -1e400 nan inf 1e-400 1_000 1e308 4294967296 18446744073709551616 0.1 007 1. +5 true null".split(),
    *(b"9" * 25, b"9" * 5000, b"-" + b"9" * 400, b"0x" + b"f" * 300, "１２".encode()),
]
TOKENS = [
    *(
        b"[" * 100_000,
        b"{" * 50_000,
        b'{"a":' * 20_000,
        b"a." * 50_000,
        b"]" * 100,
        b"x" * 100_000,
        b"\n" * 1000,
        b" " * 1000,
    ),
    *(b'"', b"'", b'"""', b"\\", b"\\ud800", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1b[2J", b"\r"),
    *(b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"a=1\n" * 1000, b"[[a]]\n" * 1000, b"\xe2\x80\xae"),
    *b"= , ; # @ % %00 %FF & ? :// <!-- PAR1 - /".split(),
]
SHAPES = [b"[]", b"{}", b"null", b"5", b'"x"', b"[[]]", b'[{"a": 1}]', b"", b"\n", b" "]
BOMBS = [gzip.compress(unit * (12_000_000 // len(unit)), 9) for unit in (b"\n", b"{\n", b",\n", b"x", b"\0")]


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the bytes with one to four damages."""
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        data = rng.choice(DAMAGES)(rng, data, others)[:2_000_000]
    return data


def _place(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(rng.expovariate(1 / 20)) + 1)


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _place(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _place(rng, data)
    return data[:start] + data[start:end] * rng.choice((2, 3, 100, 5000)) + data[end:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice(TOKENS) + data[start:]


def _replace(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], values: Sequence[bytes]) -> bytes:
    found = list(pattern.finditer(data[:50_000]))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(values) + data[match.end() :]


def _number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return _replace(rng, data, NUMBER, NUMBERS)


def _word(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return _replace(rng, data, WORD, [*TOKENS[-12:], *NUMBERS, *SHAPES])


def _shape(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put a value of another shape in the place of a JSON or TOML value."""
    return _replace(rng, data, re.compile(rb"""(?<=[:=] )(?:"[^"\n]*"|[0-9.]+|true|false|null|\[[^\n]*\])"""), SHAPES)


def _nothing(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return rng.choice(SHAPES)


def _compress(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    packed = gzip.compress(data, 1) if rng.random() < 0.5 else zstandard.ZstdCompressor().compress(data)
    return rng.choice((packed, packed + packed, packed[:-3], _flip(rng, packed, ()), packed + b"\0" * 50))


def _bomb(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return gzip.compress(data, 1) + rng.choice(BOMBS) if rng.random() < 0.3 else data


DAMAGES = [
    _flip,
    _flip,
    _truncate,
    _delete,
    _repeat,
    _splice,
    _insert,
    _insert,
    _number,
    _number,
    _word,
    _shape,
    _shape,
    _nothing,
    _compress,
    _bomb,
]
