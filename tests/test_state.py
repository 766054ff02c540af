"""The wire format of a state: what is not one is a SerializationError error, whatever the bytes."""

from __future__ import annotations

import math

import msgspec
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Limit, algorithms
from ratesim.errors import SerializationError
from ratesim.state import VERSION, AlgorithmData, RateLimitState, Watermark, decode, encode
from ratesim.storage import MemoryStorage

NOW = 1_700_000_000.0


def state_of(algorithm: str) -> RateLimitState:
    memory = MemoryStorage()
    limit = Limit(10, 60.0, algorithm)
    for step in range(9):
        memory.acquire_nowait("user", limit, 0.7, NOW + step)
    entry = memory.entries["user"]
    origin = entry.details()  # type: ignore[union-attr]
    origin.metadata, origin.watermarks = {"plan": "free"}, {"node": Watermark(3, 4.5)}
    return entry.export()  # type: ignore[union-attr]


STATES = {name: state_of(name) for name in algorithms.names()}


@pytest.mark.parametrize("algorithm", STATES)
def test_a_state_comes_back_as_it_was(algorithm: str) -> None:
    data = encode(STATES[algorithm])
    assert data[0] == VERSION
    assert decode(data) == STATES[algorithm]


@pytest.mark.parametrize("algorithm", STATES)
def test_every_cut_is_refused(algorithm: str) -> None:
    data = encode(STATES[algorithm])
    for length in range(len(data)):
        with pytest.raises(SerializationError):
            decode(data[:length])
    with pytest.raises(SerializationError):
        decode(data + b"\0")


@settings(max_examples=examples(2000))
@given(
    st.sampled_from(sorted(STATES)), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5)
)
def test_damaged_bytes_are_refused_or_still_a_state(algorithm: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(encode(STATES[algorithm]))
    for place, byte in damage:
        data[place % len(data)] = byte
    accepted(bytes(data))


@settings(max_examples=examples(1000))
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_state(data: bytes) -> None:
    accepted(data)
    accepted(bytes((VERSION,)) + data)


def accepted(data: bytes) -> None:
    """Decodes to a state that any storage takes and decides on, or raises SerializationError and nothing else."""
    try:
        state = decode(data)
    except SerializationError:
        return
    memory = MemoryStorage()
    memory.set_state_nowait("user", state, math.inf)
    decision = memory.acquire_nowait("user", Limit(10, 60.0, state.algorithm_data.algorithm), 1.0, NOW + 10)
    assert not math.isnan(decision.remaining)


def test_another_version_is_refused_by_its_number() -> None:
    with pytest.raises(SerializationError, match="version 7 is unknown"):
        decode(b"\x07" + encode(STATES["gcra"])[1:])


@pytest.mark.parametrize(
    ("algorithm", "fields", "message"),
    [
        ("nobody", {}, "unknown algorithm"),
        ("token_buket", {}, r"known are adaptive, .*; did you mean token_bucket\?"),
        ("gcra", {"last": 1.0, "backlog": 0.0}, "tolerance"),
        ("gcra", {"last": 1.0, "backlog": 0.0, "tolerance": 1.0, "more": 2.0}, "unknown field 'more'"),
        ("gcra", {"last": [1.0], "backlog": 0.0, "tolerance": 1.0}, "last"),
        ("gcra", {"last": math.inf, "backlog": 0.0, "tolerance": 1.0}, "finite"),
        ("sliding_window", {"window_start": 1.0, "counts": 3.0}, "counts"),
        ("sliding_log", {"last": 1.0, "used": 1.0, "log": [1.0]}, "time without a cost"),
        ("sliding_log", {"last": 1.0, "used": 2.0, "log": [2.0, 1.0, 1.0, 1.0]}, "order"),
    ],
)
def test_what_is_no_state_says_why(algorithm: str, fields: dict[str, float | list[float]], message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        AlgorithmData(algorithm, fields).values()
    data = msgspec.msgpack.encode(RateLimitState(AlgorithmData(algorithm, fields), NOW, NOW))
    with pytest.raises(SerializationError, match=message):
        decode(bytes((VERSION,)) + data)
