"""A packed log comes back bit for bit, and damage is said."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.errors import SerializationError
from ratesim.storage.compression import CODECS, compress
from ratesim.storage.redis.packed_log import pack, unpack

EDGES = (0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, float("inf"), float("-inf"))


@given(st.lists(st.floats(allow_nan=False) | st.sampled_from(EDGES), max_size=200), st.sampled_from(CODECS))
def test_floats_come_back_bit_for_bit(values: list[float], codec: str) -> None:
    back = unpack(pack(values, codec))  # type: ignore[arg-type]
    assert struct.pack(f"{len(back)}d", *back) == struct.pack(f"{len(values)}d", *values)


@pytest.mark.parametrize("codec", CODECS)
def test_a_log_of_times_and_costs_takes_a_fraction_of_its_text(codec: str) -> None:
    log = [part for place in range(1000) for part in (1_700_000_000.0 + place * 0.0625, 1.0)]
    assert unpack(pack(log, codec)) == log  # type: ignore[arg-type]
    assert len(pack(log, codec)) < len(" ".join(map(repr, log))) * (0.9 if codec == "none" else 0.2)  # type: ignore[arg-type]


@given(st.binary(max_size=100))
def test_damage_is_a_serialization_error(data: bytes) -> None:
    with suppress(SerializationError):
        assert len(unpack(data)) * 8 == len(data) - 1
    if len(data) % 8:
        with pytest.raises(SerializationError, match="no floats"):
            unpack(compress(data, "none"))
