"""PostgreSQL's binary format of the types that parameters and answers of the storage's statements have."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

__all__ = ["Call", "rows_of"]

BINARY = 1  # a format code of the protocol
CHUNK = 256  # elements of an array that one `struct` holds, so that there are few of them
HEADER = struct.Struct(">5i")  # of an array: dimensions, whether it has a NULL, OID of the element, length, first index
COUNT = struct.Struct(">i")
EMPTY = struct.Struct(">3i")  # header of an array of no dimension
NULL = -1  # length of an element that is NULL
TEXT, TEXT_ARRAY = 25, 1009  # OIDs
OF_FIXED_SIZE = {"?": 16, "q": 20, "i": 23, "d": 701}  # by the format of `struct`
ARRAYS = {"?": 1000, "q": 1016, "i": 1007, "d": 1022}
SIZES = {code: struct.calcsize(">" + code) for code in OF_FIXED_SIZE}


@cache
def _packer(code: str, count: int) -> Callable[..., bytes]:
    """Return what writes the header and the elements of an array."""
    return struct.Struct(">5i" + ("i" + code) * count).pack


@cache
def _unpacker(code: str, count: int) -> Callable[..., tuple[Any, ...]]:
    return struct.Struct(">" + ("4x" + code) * count).unpack_from


def _fixed_array(code: str, values: Sequence[Any]) -> bytes:
    count, oid, size = len(values), OF_FIXED_SIZE[code], SIZES[code]
    if count == 1:
        return _packer(code, 1)(1, 0, oid, 1, 1, size, values[0])
    if count > CHUNK:
        parts = [_fixed_array(code, values[first : first + CHUNK])[HEADER.size :] for first in range(0, count, CHUNK)]
        return HEADER.pack(1, 0, oid, count, 1) + b"".join(parts)
    if not count:
        return EMPTY.pack(0, 0, oid)
    elements = [size] * (2 * count)
    elements[1::2] = values
    return _packer(code, count)(1, 0, oid, count, 1, *elements)


def _text_array(values: Sequence[str], codec: str = "utf-8") -> bytes:
    if not values:
        return EMPTY.pack(0, 0, TEXT)
    parts, length = [HEADER.pack(1, 0, TEXT, len(values), 1)], COUNT.pack
    for value in values:
        encoded = value.encode(codec)
        parts.append(length(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


Encoder = Callable[..., bytes]  # of a value; that of texts takes a codec as well
ENCODERS: dict[str, tuple[int, Encoder]] = {"text": (TEXT, str.encode), "text[]": (TEXT_ARRAY, _text_array)}
for _code, *_names in (
    ("?", "boolean", "bool"),
    ("q", "bigint", "int8"),
    ("i", "int", "integer", "int4"),
    ("d", "float8", "double precision"),
):
    for _name in _names:
        ENCODERS[_name] = OF_FIXED_SIZE[_code], struct.Struct(">" + _code).pack
        ENCODERS[f"{_name}[]"] = ARRAYS[_code], partial(_fixed_array, _code)


class Call:
    """A statement, and the types of its parameters.

    Attributes
    ----------
    text
        The statement, with parameters `$1`, `$2`, ...
    name
        Its name where it is prepared, which says its text: in whatever session it is found, it is this statement.
    oids, formats
        Of the parameters, as libpq takes them.
    """

    __slots__ = ("_encoders", "formats", "name", "oids", "text")

    def __init__(self, text: bytes, types: Sequence[str]) -> None:
        self.text = text
        self.name = b"ratesim_" + hashlib.sha256(text).hexdigest()[:32].encode()
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
            if codec == "utf-8":
                return [encoder(value) for encoder, value in zip(self._encoders, values, strict=True)]
            return [
                encoder(value, codec) if oid in (TEXT, TEXT_ARRAY) else encoder(value)
                for oid, encoder, value in zip(self.oids, self._encoders, values, strict=True)
            ]
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
        return list(_unpacker(code, count)(data, HEADER.size))
    values: list[Any] = []
    size = 4 + SIZES[code]
    for first in range(0, count, CHUNK):
        values += _unpacker(code, min(CHUNK, count - first))(data, HEADER.size + first * size)
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
    DECODERS[ARRAYS[_code]] = partial(_decode_fixed_array, _code)


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
