"""Files that a user hands in, read within bounds: a regular file, its size, its encoding, its nesting, and its numbers.

A caller turns `DocumentError` into an error of its own that names the file.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import Any, TypeVar

import msgspec

from ratesim.errors import RatesimError
from ratesim.safe_text import redact, shorten_repr, shorten_text

__all__ = ["DocumentError", "convert_json", "parse_json", "parse_toml", "read_bytes", "read_text"]

T = TypeVar("T")

TOML_BYTES = 1 << 20
JSON_BYTES = 16 << 20
MOST_DEPTH = 64
MOST_KEYS = 64  # joined by dots; the time of Python's parser grows with their square
MOST_INTEGER = 2**64
# Strings and comments whole, even where they do not end, and what opens, closes, joins or ends a key.
_TOKEN = re.compile(
    r'''"""(?s:[^\\"]|\\.|"(?!""))*+"{0,5}|"(?:[^"\\\n]|\\.)*+"?|'''
    r"""'''(?:[^']|'(?!''))*+'{0,5}|'[^'\n]*+'?|#[^\n]*+|[.\[\]{},=\n]"""
)


class DocumentError(RatesimError, ValueError):
    """What a file holds cannot be taken: the reason, without the name of the file."""


def read_bytes(path: str | os.PathLike[str], most: int = JSON_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes. Raises DocumentError."""
    try:
        # A pipe without a writer must not keep `open` waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if stat.S_ISDIR(about.st_mode):
                raise DocumentError("cannot be read: is a directory")
            if not stat.S_ISREG(about.st_mode):
                raise DocumentError("cannot be read: is a pipe or a device; write it to a file first")
            data: bytes | None = file.read(most + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte, or half of a surrogate pair, in the path
        if isinstance(error, DocumentError):
            raise
        raise DocumentError("cannot be read: its name is none that a file can have") from error
    if data is None:  # of a file such as /proc/kmsg, which is regular by its mode alone
        raise DocumentError("cannot be read: would wait for data; write it to a file first")
    if len(data) > most:
        raise DocumentError(f"is longer than {most:,} bytes")
    return data


def read_text(path: str | os.PathLike[str], most: int = TOML_BYTES) -> str:
    """Read a regular file of at most `most` bytes in UTF-8. Raises DocumentError."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"cannot be read: it is not UTF-8 text (byte {error.start})") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML of bounded size, nesting and numbers. Raises DocumentError."""
    if len(text) > TOML_BYTES:
        raise DocumentError(f"is longer than {TOML_BYTES:,} characters")
    _check_keys(text)
    try:
        data = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"not valid TOML: {_short(error)}") from error
    except RecursionError as error:
        raise DocumentError(f"is nested more than {MOST_DEPTH} deep") from error
    except ValueError as error:  # of an integer of thousands of digits, or a date that is none
        raise DocumentError("not valid TOML: a number or a date is out of range") from error
    _check(data)
    return data


def parse_json(data: bytes | str, kind: type[T] | Any = Any) -> T | Any:
    """Parse JSON of bounded size, nesting and numbers as a type. Raises DocumentError, which names the place."""
    if len(data) > JSON_BYTES:
        raise DocumentError(f"is longer than {JSON_BYTES:,} bytes")
    try:
        plain = msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        raise DocumentError(f"is no JSON that is taken: {_short(error)}") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"is no JSON: {_short(error)}") from error
    except UnicodeError as error:
        raise DocumentError("is no JSON: it is not UTF-8 text") from error
    except RecursionError as error:
        raise DocumentError(f"is nested more than {MOST_DEPTH} deep") from error
    except (ValueError, OverflowError) as error:
        raise DocumentError("is no JSON: a number is out of range") from error
    _check(plain)
    return plain if kind is Any else convert_json(plain, kind)


def convert_json(plain: Any, kind: type[T]) -> T:
    """Convert parsed JSON to a type. Raises DocumentError, which names the place."""
    try:
        return msgspec.convert(plain, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise DocumentError(_short(error)) from error


def _check_keys(text: str) -> None:
    """Raise DocumentError for TOML whose brackets or dotted keys are nested beyond the bounds, before it is parsed."""
    depth = dots = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark == ".":
            dots += 1
        elif mark in ",=\n[]{}":
            dots = 0
            depth += (mark in "[{") - (mark in "]}")
        if dots > MOST_KEYS or depth > MOST_DEPTH:
            raise DocumentError(f"is nested more than {MOST_DEPTH} deep")


def _check(data: Any) -> None:
    """Raise DocumentError for a nesting or an integer beyond the bounds."""
    level, depth = [data], 0
    while level:
        if depth > MOST_DEPTH:
            raise DocumentError(f"is nested more than {MOST_DEPTH} deep")
        for value in level:
            if type(value) is int and abs(value) > MOST_INTEGER:
                raise DocumentError(f"has a number that is out of range: {shorten_repr(value, 40)}")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        depth += 1


def _short(error: Exception) -> str:
    """Return the message of a parser, which may quote what it read."""
    return shorten_text(redact(" ".join(str(error).split())))
