"""Compressed bytes: what comes back, what damage does, and what a bomb may take."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.errors import SerializationError
from ratesim.storage.compression import CODECS, MAX_INFLATED, RAW, compress, decompress

COMPRESSING = [codec for codec in CODECS if codec != "none"]
TEXT = b'{"plan": "professional", "region": "eu-west", "owner": "team-payments"}' * 9

data = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 4000)),
    st.builds(lambda seed, size: np.random.default_rng(seed).bytes(size), st.integers(0, 9), st.integers(0, 5000)),
)


@given(data, st.sampled_from(CODECS))
def test_what_was_compressed_comes_back_and_never_grows_by_more_than_its_tag(plain: bytes, codec: str) -> None:
    blob = compress(plain, codec)  # type: ignore[arg-type]
    assert decompress(blob) == plain
    assert len(blob) <= len(plain) + 1
    assert blob[0] in (RAW, CODECS.index(codec))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", COMPRESSING)
@pytest.mark.parametrize("size", [2_000_000, MAX_INFLATED, MAX_INFLATED + 1])
def test_long_data_comes_back_and_above_the_cap_it_is_raw(codec: str, size: int) -> None:
    rng = np.random.default_rng(1)
    plain = (rng.integers(0, 4, size // 2, np.uint8).tobytes() + bytes(size))[:size]
    blob = compress(plain, codec)  # type: ignore[arg-type]
    assert (blob[0] == RAW) == (size > MAX_INFLATED)
    assert decompress(blob) == plain


@pytest.mark.parametrize("codec", COMPRESSING)
def test_what_repeats_shrinks_and_what_does_not_is_raw(codec: str) -> None:
    assert len(compress(TEXT, codec)) < len(TEXT) / 3  # type: ignore[arg-type]
    noise = np.random.default_rng(2).bytes(1000)
    assert compress(noise, codec) == bytes((RAW,)) + noise  # type: ignore[arg-type]


@settings(max_examples=400)
@given(
    st.sampled_from(COMPRESSING),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_damage_is_a_serialization_error_or_changes_nothing(codec: str, changes: list[tuple[int, int]]) -> None:
    blob = bytearray(compress(TEXT, codec))  # type: ignore[arg-type]
    for place, mask in changes:
        blob[1 + place % (len(blob) - 1)] ^= mask
    _refuse_or_return(bytes(blob), TEXT)


@pytest.mark.parametrize("codec", COMPRESSING)
def test_every_cut_is_a_serialization_error_and_an_appendix_changes_nothing(codec: str) -> None:
    blob = compress(TEXT, codec)  # type: ignore[arg-type]
    for end in range(len(blob)):
        with pytest.raises(SerializationError):
            decompress(blob[:end])
    for more in (b"\0", b"x" * 30, blob, blob[7:]):
        _refuse_or_return(blob + more, TEXT)


@given(st.integers(1, 255), st.binary(max_size=200))
def test_no_bytes_do_more_than_raise_a_serialization_error(tag: int, rest: bytes) -> None:
    if tag < len(CODECS):
        with suppress(SerializationError):
            decompress(bytes((tag,)) + rest)
    else:
        with pytest.raises(SerializationError, match="unknown"):
            decompress(bytes((tag,)) + rest)


def test_no_bytes_at_all_are_refused() -> None:
    with pytest.raises(SerializationError, match="no bytes"):
        decompress(b"")


@pytest.mark.parametrize("codec", COMPRESSING)
def test_the_cap_is_that_of_the_reader(codec: str) -> None:
    blob = compress(TEXT, codec)  # type: ignore[arg-type]
    assert decompress(blob, max_inflated=len(TEXT)) == TEXT
    with pytest.raises(SerializationError, match="above the cap"):
        decompress(blob, max_inflated=len(TEXT) - 1)


BOMBS = """
import resource, sys, zlib
import cramjam
from ratesim.errors import SerializationError
from ratesim.storage.compression import CODECS, MAX_INFLATED, _varint, decompress

TIMES = 40
room = bytes(MAX_INFLATED * TIMES)
bodies = {
    "gzip": cramjam.gzip.compress(room), "snappy": cramjam.snappy.compress_raw(room),
    "lz4": cramjam.lz4.compress_block(room, store_size=False), "zstd": cramjam.zstd.compress(room, level=1),
}
bodies = {codec: bytes(body) for codec, body in bodies.items()}
frame = bytes(cramjam.zstd.compress(bytes(1000), level=1))
bodies["zstd, many frames"] = bytes(cramjam.zstd.compress(bytes(MAX_INFLATED), level=1)) * TIMES
bodies["zstd, a window of 2 GiB"] = frame[:4] + bytes((0x00, 21 << 3)) + frame[-4:]
bodies["gzip, many members"] = bytes(cramjam.gzip.compress(bytes(MAX_INFLATED))) * TIMES
bodies["snappy, a claim alone"] = bytes.fromhex("ffffffff0f") + bytes(2**20)
del room
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 16 * MAX_INFLATED,) * 2)  # of a bomb it would take 40
for name, body in bodies.items():
    tag = CODECS.index(name.split(",")[0])
    for claim in (0, 1, 1000, MAX_INFLATED, MAX_INFLATED + 1, MAX_INFLATED * TIMES, 2**35 - 1):
        blob = bytes((tag,)) + _varint(claim) + zlib.crc32(b"").to_bytes(4, "little") + body
        try:
            decompress(blob)
        except SerializationError:
            continue
        sys.exit(f"{name}, {claim}: inflated")
print("bounded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is measured and bounded by Linux' own means")
def test_a_bomb_takes_no_more_memory_than_the_cap() -> None:
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "bounded\n", done.stderr


def test_a_zstd_frame_that_claims_a_large_window_or_a_dictionary_is_refused() -> None:
    blob = compress(TEXT, "zstd")
    start = blob.index(bytes.fromhex("28b52ffd"))
    for descriptor in (0x00, 0x04, 0x08, 0x01, 0x60 | 0x03, 0x80, 0xE0):
        changed = blob[: start + 4] + bytes((descriptor,)) + blob[start + 5 :]
        with pytest.raises(SerializationError):
            decompress(changed)


def test_the_coders_never_write_behind_their_buffer() -> None:
    # `decompress` stands on this: a buffer that is too small is an error of the library.
    small = bytearray(10)
    for inflate, body in (
        (cramjam.gzip.decompress_into, cramjam.gzip.compress(TEXT)),
        (cramjam.snappy.decompress_raw_into, cramjam.snappy.compress_raw(TEXT)),
        (cramjam.lz4.decompress_block_into, cramjam.lz4.compress_block(TEXT, store_size=False)),
        (cramjam.zstd.decompress_into, cramjam.zstd.compress(TEXT)),
    ):
        with pytest.raises(cramjam.DecompressionError):
            inflate(bytes(body), small)


def _refuse_or_return(blob: bytes, plain: bytes) -> None:
    with suppress(SerializationError):
        assert decompress(blob) == plain
