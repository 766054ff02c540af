"""What a report shows in the place of a key and of a log's line, so that it can be handed on: no address, user or secret."""

from __future__ import annotations

import hashlib
import re

from traffic.addresses import ALL, JOINT, address, shorten
from traffic.provenance import printable

__all__ = ["key_label", "line_shape"]

OPEN = frozenset({"endpoint", "path", "method", "status"})  # fields that name no one
WIDEST4, WIDEST6 = 24, 48  # bits of an address that are shown
DIGITS = 4  # of a hash: enough to tell keys of a table apart, and too few to look a secret up by
_LETTER, _DIGIT = re.compile(r"[^\W\d_]"), re.compile(r"\d")
_COPY = re.compile(r"(.*)(#[0-9]+)", re.DOTALL)  # of a scaled trace
_JOINT = re.compile(r"(?<!\\)\+")


def key_label(name: str, key: str | None = None) -> str:
    """Return what is shown of a key: the network of an address, an endpoint as it is, of anything else a short hash.

    Parameters
    ----------
    name : str
        The key, such as "203.0.113.7", which is shown as "203.0.113.0/24". Of several fields each is shown by itself.
    key : str, optional
        The field that it is of, or several, as of `read_log`.
    """
    copy = _COPY.fullmatch(name)
    name, number = copy.groups() if copy else (name, "")
    fields = (key or "").split(JOINT)
    parts = _JOINT.split(name) if len(fields) > 1 else [name]
    if len(parts) != len(fields):
        return f"key {_hash(name)}{number}"
    return JOINT.join(_part(part, field.strip()) for part, field in zip(parts, fields, strict=True)) + number


def line_shape(line: str) -> str:
    """Return a line with each letter as x and each digit as 0: why it was not read, and nothing of whom it is about."""
    return _LETTER.sub("x", _DIGIT.sub("0", printable(line)))


def _part(value: str, field: str) -> str:
    if value in (ALL, "-", "") or field in OPEN:
        return value
    host, slash, bits = value.partition("/")  # a key may be a network
    found = address(host)
    if found is None or (slash and not bits.isdecimal()):
        return f"key {_hash(value)}"
    return value if slash and int(bits) <= (WIDEST6 if ":" in found else WIDEST4) else shorten(found, WIDEST4, WIDEST6)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS] + "…"
