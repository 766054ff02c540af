"""A state as the fields of a hash, written by `Put` and read from what the server answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from ratesim import algorithms
from ratesim.errors import SerializationError
from ratesim.limit import InvalidLimitError
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.compression import RAW, Codec, compress, decompress
from ratesim.storage.redis.log_fields import LogRecord, expiry_of, fields_of_log, is_log_field, read_log
from ratesim.storage.redis.packed_log import pack, unpack

__all__ = [
    "COMPRESSED_FROM",
    "PACKED",
    "expiries_of",
    "fields_of",
    "is_packed_whole",
    "metadata_value",
    "prefix_of",
    "read_state",
    "to_str",
    "to_text",
]

PACKED = "packed"  # the field of a list of floats that scripts do not read (lua/unpack.lua)
PACKED_FROM = 128  # floats, 64 entries of a log: a shorter one saves less than a kilobyte and lies in two chunks
COMPRESSED_FROM = 256  # bytes: shorter metadata loses less than a hundred (docs/redis.md), and stays readable for a person


def prefix_of(name: str) -> str:
    """Return what the fields of a limit begin with."""
    return f"{name}." if name else ""


def read_state(raw: Any, name: str, now: float | None) -> RateLimitState | SerializationError | None:
    """Read the state of a limit from HGETALL; None where there is none that is live at `now`."""
    try:
        return _state(to_text(raw), name, now)
    except SerializationError as error:
        return error


def to_text(raw: Any) -> dict[str, str]:
    """Read HGETALL as texts. Raises SerializationError."""
    pairs: Mapping[Any, Any] = raw if isinstance(raw, Mapping) else dict(zip(raw[::2], raw[1::2], strict=True))
    try:
        return {key: _text_of(key, value) for key, value in zip(map(to_str, pairs), pairs.values(), strict=True)}
    except UnicodeDecodeError as error:
        raise SerializationError(f"a hash that is not text: {error}") from error


def _text_of(field: str, value: bytes | str) -> str:
    """Read the value of a field; bytes that are no text, which only blobs and logs may have, become lone surrogates."""
    name = field.rpartition(".")[2]
    if isinstance(value, bytes) and (name in ("metadata", PACKED) or is_log_field(name)):
        return value.decode(errors="surrogateescape")
    return to_str(value)


def expiries_of(raw: Any) -> list[float]:
    """Read from HGETALL when the records in a hash, or its counter, expire. Raises SerializationError or ValueError."""
    ends = []
    for field, value in to_text(raw).items():
        name = field.rpartition(".")[2]
        if name == "expires_at":
            ends.append(float(value))
        elif name == "log_head":
            ends.append(expiry_of(_to_bytes(value)))
    return ends


def _to_bytes(text: str) -> bytes:
    """Invert `_text_of`."""
    return text.encode(errors="surrogateescape")


def to_str(value: bytes | str) -> str:
    """Read one text of an answer."""
    return value.decode() if isinstance(value, bytes) else value


def fields_of(state: RateLimitState, prefix: str, expires_at: float, codec: Codec) -> list[Any]:
    """List the fields of a state and their values, for HSET; long metadata is compressed."""
    data = state.algorithm_data
    packed = is_packed_whole(data, codec)
    values: dict[str, Any] = {"algorithm": data.algorithm, "created_at": repr(state.created_at)}
    if algorithms.get(data.algorithm).pairs and not packed:
        values |= fields_of_log(LogRecord(expires_at, state.last_accessed, state.request_count, data.values()))
    else:
        values["last_accessed"], values["expires_at"] = repr(state.last_accessed), repr(expires_at)
        values["request_count"] = state.request_count
        for field, value in data.fields.items():
            if not isinstance(value, list):
                values[field] = repr(value)
            elif packed:
                values[PACKED] = pack(value, codec)
            else:
                values[field] = " ".join(map(repr, value))
    if state.metadata:
        values["metadata"] = metadata_value(state.metadata, codec)
    for node, mark in state.watermarks.items():
        values[f"w:{node}"] = f"{mark.epoch} {mark.consumed!r}"
    return [item for field, value in values.items() for item in (prefix + field, value)]


def _metadata(text: str) -> dict[str, str]:
    data = _to_bytes(text)
    data = data if data.startswith(b"{") else decompress(data)
    return msgspec.json.decode(data, type=dict[str, str])


def is_packed_whole(data: AlgorithmData, codec: Codec) -> bool:
    """Tell whether a state that is put whole has a list that is long enough to be packed."""
    return codec != "none" and any(isinstance(value, list) and len(value) >= PACKED_FROM for value in data.fields.values())


def metadata_value(metadata: dict[str, str], codec: Codec) -> bytes:
    """Return the value of the field of metadata: JSON, or a blob of it where that is shorter."""
    text = msgspec.json.encode(metadata)
    if len(text) < COMPRESSED_FROM:
        return text
    blob = compress(text, codec)
    return text if blob[0] == RAW else blob


def _state(fields: dict[str, str], name: str, now: float | None) -> RateLimitState | None:
    prefix = prefix_of(name)
    if prefix:
        own = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    else:
        own = {key: value for key, value in fields.items() if "." not in key}
    if not own:
        return None
    try:
        record = _record(own)
        if now is not None and record.expires_at <= now:
            return None
        algorithm = algorithms.get(own["algorithm"])
        if not all(map(math.isfinite, record.values)):
            raise ValueError("a field is not a finite number")
        marks = {}
        for key, value in own.items():
            if key.startswith("w:"):
                epoch, consumed = value.split()
                marks[key.removeprefix("w:")] = Watermark(int(float(epoch)), float(consumed))
        return RateLimitState(
            AlgorithmData(algorithm.name, algorithm.named(record.values)),
            micro(float(own["created_at"])),
            micro(record.last_accessed),
            int(record.request_count),
            _metadata(own.get("metadata", "{}")),
            marks,
        )
    except (KeyError, ValueError, OverflowError, msgspec.DecodeError, InvalidLimitError, SerializationError) as error:
        raise SerializationError(f"a state that cannot be read: {error}; reset it") from error


def _record(own: Mapping[str, str]) -> LogRecord:
    """Read the numbers of a record from its fields."""
    if "log_head" in own:
        return read_log({name: _to_bytes(value) for name, value in own.items() if is_log_field(name)})
    algorithm = algorithms.get(own["algorithm"])
    values: list[float] = []
    for field in algorithm.rule.FIELDS:
        if not field.endswith("[]"):
            values.append(float(own[field]))
        elif PACKED in own:
            values += unpack(_to_bytes(own[PACKED]))
        else:
            values.extend(map(float, own[field.removesuffix("[]")].split()))
    return LogRecord(float(own["expires_at"]), float(own["last_accessed"]), int(own.get("request_count", 0)), values)
