"""PostgreSQL's binary format of the types that parameters and answers of the storage's statements have."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

__all__ = ["Call", "rows_of"]

BINARY = 1  # a format code of the protocol
CHUNK = 256  # elements of an array that one `Struct` holds, so that there are few of them
HEADER = struct.Struct(">5i")  # of an array: dimensions, whether it has a NULL, OID of the element, length, first index
COUNT = struct.Struct(">i")
EMPTY = struct.Struct(">3i")  # header of an array of no dimension
NULL = -1  # length of an element that is NULL
TEXT = 25  # OIDs
OF_FIXED_SIZE = {"?": 16, "q": 20, "i": 23, "d": 701}  # by the format of `struct`


@cache
def _packer(code: str, count: int) -> struct.Struct:
    return struct.Struct(">" + ("i" + code) * count)


@cache
def _unpacker(code: str, count: int) -> struct.Struct:
    return struct.Struct(">" + ("4x" + code) * count)


def _fixed(code: str, value: Any, codec: str) -> bytes:
    return struct.pack(">" + code, value)


def _fixed_array(code: str, values: Sequence[Any], codec: str) -> bytes:
    count = len(values)
    if not count:
        return EMPTY.pack(0, 0, OF_FIXED_SIZE[code])
    size = struct.calcsize(">" + code)
    parts = [HEADER.pack(1, 0, OF_FIXED_SIZE[code], count, 1)]
    for first in range(0, count, CHUNK):
        chunk = values[first : first + CHUNK]
        elements = [size] * (2 * len(chunk))
        elements[1::2] = chunk
        parts.append(_packer(code, len(chunk)).pack(*elements))
    return b"".join(parts)


def _text(value: str, codec: str) -> bytes:
    return value.encode(codec)


def _text_array(values: Sequence[str], codec: str) -> bytes:
    if not values:
        return EMPTY.pack(0, 0, TEXT)
    parts, length = [HEADER.pack(1, 0, TEXT, len(values), 1)], COUNT.pack
    for value in values:
        encoded = value.encode(codec)
        parts.append(length(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


Encoder = Callable[[Any, str], bytes]  # of a value, with the codec of texts
ENCODERS: dict[str, tuple[int, Encoder]] = {"text": (TEXT, _text), "text[]": (1009, _text_array)}
for _code, _array_oid, *_names in (
    ("?", 1000, "boolean", "bool"),
    ("q", 1016, "bigint", "int8"),
    ("i", 1007, "int", "integer", "int4"),
    ("d", 1022, "float8", "double precision"),
):
    for _name in _names:
        ENCODERS[_name] = OF_FIXED_SIZE[_code], partial(_fixed, _code)
        ENCODERS[f"{_name}[]"] = _array_oid, partial(_fixed_array, _code)


class Call:
    """A statement, and the types of its parameters.

    Attributes
    ----------
    text
        The statement, with parameters `$1`, `$2`, ...
    oids, formats
        Of the parameters, as libpq takes them.
    """

    __slots__ = ("_encoders", "formats", "oids", "text")

    def __init__(self, text: bytes, types: Sequence[str]) -> None:
        self.text = text
        self.oids = [ENCODERS[each][0] for each in types]
        self.formats = [BINARY] * len(types)
        self._encoders = [ENCODERS[each][1] for each in types]

    def encode(self, values: Sequence[Any], codec: str) -> list[bytes]:
        """Write the values of the parameters.

        Raises
        ------
        UnicodeEncodeError
            The codec has no such character.
        psycopg.DataError
            A value is not of the type of its parameter, or out of its range.
        """
        try:
            return [encoder(value, codec) for encoder, value in zip(self._encoders, values, strict=True)]
        except (struct.error, TypeError, AttributeError, OverflowError) as error:
            raise psycopg.DataError(f"a parameter that cannot be sent: {error}") from None


def _decode_fixed(code: str, data: bytes, codec: str) -> Any:
    return struct.unpack(">" + code, data)[0]


def _decode_fixed_array(code: str, data: bytes, codec: str) -> list[Any]:
    if len(data) < HEADER.size:
        return []
    dimensions, has_null, _, count, _ = HEADER.unpack_from(data)
    if dimensions != 1:
        raise psycopg.DataError(f"an array of {dimensions} dimensions")
    if has_null:
        return list(_elements(data, count, partial(_decode_fixed, code, codec="")))
    if count <= CHUNK:
        return list(_unpacker(code, count).unpack_from(data, HEADER.size))
    values: list[Any] = []
    size = 4 + struct.calcsize(">" + code)
    for first in range(0, count, CHUNK):
        values += _unpacker(code, min(CHUNK, count - first)).unpack_from(data, HEADER.size + first * size)
    return values


def _elements(data: bytes, count: int, decode: Callable[[bytes], Any]) -> list[Any]:
    values: list[Any] = []
    place = HEADER.size
    for _ in range(count):
        (length,) = COUNT.unpack_from(data, place)
        place += 4
        if length == NULL:
            values.append(None)
        else:
            values.append(decode(data[place : place + length]))
            place += length
    return values


def _decode_text(data: bytes, codec: str) -> str:
    return data.decode(codec)


def _decode_jsonb(data: bytes, codec: str) -> Any:
    return json.loads(data[1:].decode(codec))  # after the number of the format's version


def _decode_nothing(data: bytes, codec: str) -> None:
    return None


Decoder = Callable[[bytes, str], Any]
DECODERS: dict[int, Decoder] = {TEXT: _decode_text, 3802: _decode_jsonb, 2278: _decode_nothing}
for _code, _oid in OF_FIXED_SIZE.items():
    DECODERS[_oid] = partial(_decode_fixed, _code)
    DECODERS[{16: 1000, 20: 1016, 23: 1007, 701: 1022}[_oid]] = partial(_decode_fixed_array, _code)


def rows_of(result: PGresult, codec: str) -> list[tuple[Any, ...]]:
    """Return the rows of a result.

    Raises
    ------
    psycopg.NotSupportedError
        A column has a type that is none of the storage's.
    """
    columns = range(result.nfields)
    try:
        decoders = [DECODERS[result.ftype(column)] for column in columns]
    except KeyError as error:
        raise psycopg.NotSupportedError(f"a column of the type with the OID {error.args[0]}") from None
    get = result.get_value
    return [
        tuple([None if (value := get(row, column)) is None else decoders[column](value, codec) for column in columns])
        for row in range(result.ntuples)
    ]
