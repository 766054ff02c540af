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

__all__ = ["fields_of", "prefix_of", "read_state", "to_str", "to_text"]


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
        return {to_str(key): to_str(value) for key, value in pairs.items()}
    except UnicodeDecodeError as error:
        raise SerializationError(f"a hash that is not text: {error}") from error


def to_str(value: bytes | str) -> str:
    """Read one text of an answer."""
    return value.decode() if isinstance(value, bytes) else value


def fields_of(state: RateLimitState, prefix: str, expires_at: float) -> list[Any]:
    """List the fields of a state and their values, for HSET."""
    values: dict[str, Any] = {
        "algorithm": state.algorithm_data.algorithm,
        "created_at": repr(state.created_at),
        "last_accessed": repr(state.last_accessed),
        "expires_at": repr(expires_at),
        "request_count": state.request_count,
    }
    for field, value in state.algorithm_data.fields.items():
        values[field] = " ".join(map(repr, value)) if isinstance(value, list) else repr(value)
    if state.metadata:
        values["metadata"] = msgspec.json.encode(state.metadata).decode()
    for node, mark in state.watermarks.items():
        values[f"w:{node}"] = f"{mark.epoch} {mark.consumed!r}"
    return [item for field, value in values.items() for item in (prefix + field, value)]


def _state(fields: dict[str, str], name: str, now: float | None) -> RateLimitState | None:
    prefix = prefix_of(name)
    if prefix:
        own = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    else:
        own = {key: value for key, value in fields.items() if "." not in key}
    if not own:
        return None
    try:
        if now is not None and float(own["expires_at"]) <= now:
            return None
        algorithm = algorithms.get(own["algorithm"])
        named: dict[str, float | list[float]] = {}
        for field in algorithm.rule.FIELDS:
            text = own[field.removesuffix("[]")]
            named[field.removesuffix("[]")] = [float(part) for part in text.split()] if field.endswith("[]") else float(text)
        if not all(map(math.isfinite, algorithm.flat(named))):
            raise ValueError("a field is not a finite number")
        marks = {}
        for key, value in own.items():
            if key.startswith("w:"):
                epoch, consumed = value.split()
                marks[key.removeprefix("w:")] = Watermark(int(float(epoch)), float(consumed))
        return RateLimitState(
            AlgorithmData(algorithm.name, named),
            micro(float(own["created_at"])),
            micro(float(own["last_accessed"])),
            int(own.get("request_count", 0)),
            msgspec.json.decode(own.get("metadata", "{}"), type=dict[str, str]),
            marks,
        )
    except (KeyError, ValueError, OverflowError, msgspec.DecodeError, InvalidLimitError) as error:
        raise SerializationError(f"a state that cannot be read: {error}; reset it") from error
