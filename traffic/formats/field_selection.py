"""`FieldSelection`: the fields of a log that become the key, time, cost and status of its requests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from traffic.addresses import ALL, JOINT, NO_KEY
from traffic.expression import Expression
from traffic.formats.base import FormatMismatchError
from traffic.times.timestamps import TimeUnit

FORWARDED = "xff"
PREFIX = re.compile(r"(.+)/([^/]*+)", re.DOTALL)
PICK = re.compile(r"(.+):([^:]*+)", re.DOTALL)
PICKS = {"first": 0, "last": -1}
IPV4_BITS, IPV6_BITS = 32, 128


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of a key as it was asked for, such as "client/24" or "xff:last".

    Attributes
    ----------
    text : str
        As the user wrote it.
    name : str
        The field or the role.
    pick : int or None
        Which entry of a list of addresses: 0 the first, -1 the last; None if it was not said.
    prefix4, prefix6 : int or None
        Bits that are kept of an address.
    """

    text: str
    name: str
    pick: int | None = None
    prefix4: int | None = None
    prefix6: int | None = None


@dataclass(frozen=True, slots=True)
class FieldSelection:
    """The fields that `read_log` was asked for, as the caller wrote them; None leaves the choice to the log.

    Attributes
    ----------
    key : str or None
        A field or a role, or several joined: "client+endpoint"; or "none", and all requests have the key "all".
    time : str or None
        The field that holds the time, or two: "date+time".
    time_unit : {"s", "ms", "us", "ns", "iso", "excel", "dmy", "mdy", "ymd"} or None
        The unit of the time: seconds, milli-, micro- or nanoseconds since the epoch, or ISO 8601 text.
    time_zone : str or None
        The zone of times that name none.
    cost : str or None
        A field, or arithmetic over several (`traffic.expression`).
    status : str or None
        The field that holds the status of the answer.
    session : str or None
        A field or a role, or several joined.
    endpoint : str or None
        The field that names the endpoint.
    """

    key: str | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    time_zone: str | None = None
    cost: str | None = None
    status: str | None = None
    session: str | None = None
    endpoint: str | None = None

    def key_fields(self, known: Collection[str], otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Split the key into its fields; `otherwise` without a key. A field may have a plus in its own name."""
        if self.key is None:
            return otherwise
        if self.key in known:
            return (self.key,)
        if self.key == NO_KEY:
            return ()
        return tuple(part.strip() for part in self.key.split(JOINT))


def asked_fields(selection: FieldSelection, known: Collection[str]) -> tuple[str, ...]:
    """List what a selection names beside the fields that are known: fields, or roles."""
    names = [part.name for text in (selection.key, selection.session) if text for part in split_key(text, known)]
    names += split_fields(selection.time, known) if selection.time else ()
    names += filter(None, (selection.status, selection.endpoint))
    if selection.cost and selection.cost not in known:
        names += Expression.parse(selection.cost).names
    return tuple(dict.fromkeys(name for name in names if name not in known))


def split_key(key: str, known: Collection[str]) -> tuple[KeyPart, ...]:
    """Read a key; () for "none". A field may have a plus, a colon or a slash in its own name.

    Raises FormatMismatchError if it is written wrongly; whether there are such fields is not looked at.
    """
    if key in known:
        return (KeyPart(key, key),)
    if key.strip() == NO_KEY:
        return ()
    return tuple(_part(part.strip(), known) for part in key.split(JOINT))


def split_fields(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Split "date+time" into its fields. A field may have a plus in its own name."""
    return (text,) if text in known else tuple(part.strip() for part in text.split(JOINT))


def _part(text: str, known: Collection[str]) -> KeyPart:
    if not text:
        raise FormatMismatchError("key with an empty part; write client+endpoint, without a plus at an end")
    if text in known:
        return KeyPart(text, text)
    name, prefix4, prefix6 = text, None, None
    cut = PREFIX.fullmatch(text)
    if cut:
        name = cut[1]
        prefix4, prefix6 = _bits(text, cut[2])
    if name in known:
        return KeyPart(text, name, None, prefix4, prefix6)
    picked = PICK.fullmatch(name)
    if not picked:
        return KeyPart(text, name, None, prefix4, prefix6)
    return KeyPart(text, picked[1], _entry(text, picked[2]), prefix4, prefix6)


def _bits(text: str, said: str) -> tuple[int | None, int | None]:
    bits = said.split(",")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 3 for part in bits) or len(bits) > 2:
        raise FormatMismatchError(
            f"key {text!r}: {said!r} is no length of a prefix; write client/24 (IPv4), client/64 (IPv6) or client/24,64"
        )
    first, *second = map(int, bits)
    if second:
        sizes: tuple[int | None, int | None] = (first, second[0])
    else:
        sizes = (first, None) if first <= IPV4_BITS else (None, first)
    if not 1 <= (sizes[0] or 1) <= IPV4_BITS or not 1 <= (sizes[1] or 1) <= IPV6_BITS or 0 in sizes:
        raise FormatMismatchError(
            f"key {text!r}: a prefix has 1 to {IPV4_BITS} bits (IPv4) or 1 to {IPV6_BITS} (IPv6); write client/24,64"
        )
    return sizes


def _entry(text: str, said: str) -> int:
    if said in PICKS:
        return PICKS[said]
    if re.fullmatch(r"-?[1-9][0-9]?", said):
        place = int(said)
        return place if place < 0 else place - 1
    raise FormatMismatchError(
        f"key {text!r}: {said!r} is no entry of a list; write {FORWARDED}:first, {FORWARDED}:last, {FORWARDED}:2 or "
        f"{FORWARDED}:-2"
    )


def join_names(columns: Sequence[Sequence[str]], rows: int) -> Iterable[str]:
    """Join the values of each row to one name, with a plus between them. Without columns each is called "all".

    Different rows keep different names: a plus inside a value becomes backslash plus, a backslash becomes two.
    """
    if not columns:
        return [ALL] * rows
    if len(columns) == 1:
        return columns[0]
    return map(JOINT.join, zip(*map(_escaped, columns), strict=True))


def _escaped(values: Sequence[str]) -> list[str]:
    return [
        value.replace("\\", "\\\\").replace(JOINT, f"\\{JOINT}") if JOINT in value or "\\" in value else value
        for value in values
    ]
