import gzip
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from traffic import chunks
from traffic.chunks import BLOCK_BYTES, LINE_BYTES, LogError, _lines, text_blocks

NO_BOUND = 1 << 40


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zst}


def text(path: Path, max_bytes: int = NO_BOUND) -> str:
    return "".join(text_blocks(path, max_bytes))


def some_lines(size: int) -> bytes:
    rng = random.Random(1)
    data = bytearray()
    while len(data) < size:
        data += b"%x\n" % rng.getrandbits(rng.randrange(4, 900))
    return bytes(data)


@pytest.mark.parametrize("kind", ["log", "gz", "zst"])
def test_text_comes_back_whole_and_in_blocks_of_whole_lines(kind: str, tmp_path: Path) -> None:
    data = some_lines(3 * BLOCK_BYTES)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(COMPRESS.get(kind, bytes)(data))
    blocks = list(text_blocks(path, NO_BOUND))
    assert "".join(blocks) == data.decode()
    assert len(blocks) > 1
    assert all(block.endswith("\n") for block in blocks)


@given(st.lists(st.binary(max_size=30), max_size=30))
def test_blocks_join_to_what_was_read_whatever_the_pieces(pieces: list[bytes]) -> None:
    assert b"".join(_lines(iter(pieces))) == b"".join(pieces)


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_known_by_the_first_bytes_and_not_by_the_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log.1"
    path.write_bytes(COMPRESS[kind](b"hello\n"))
    assert text(path) == "hello\n"


@pytest.mark.parametrize("kind", COMPRESS)
def test_joined_members_are_read_one_after_the_other(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(COMPRESS[kind](b"one\n") + COMPRESS[kind](b"two\n") + COMPRESS[kind](b"three\n"))
    assert text(path) == "one\ntwo\nthree\n"


def test_zero_bytes_may_pad_a_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\n") + bytes(1000))
    assert text(path) == "one\n"


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_truncated_file_is_an_error_that_names_it_wherever_it_was_cut(kind: str, tmp_path: Path) -> None:
    whole = COMPRESS[kind](some_lines(2000))
    path = tmp_path / f"cut.{kind}"
    for size in (5, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(LogError, match=rf"cut\.{kind}: ends in the middle"):
            text(path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_corrupt_file_is_an_error_that_names_it(kind: str, tmp_path: Path) -> None:
    whole = bytearray(COMPRESS[kind](some_lines(5000)))
    whole[len(whole) // 2 :] = bytes(b ^ 0x5A for b in whole[len(whole) // 2 :])
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(whole)
    with pytest.raises(LogError, match=rf"bad\.{kind}: ") as caught:
        text(path)
    assert "copy it again" in str(caught.value)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_that_only_pretends_to_be_compressed_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"plain.{kind}"
    path.write_bytes(b"127.0.0.1 - - nothing compressed here\n")
    with pytest.raises(LogError, match=rf"plain\.{kind}: should be a "):
        text(path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_that_inflates_too_far_is_refused_with_the_remedy(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"big.{kind}"
    path.write_bytes(COMPRESS[kind](b"x" * 99 + b"\n"))
    assert len(text(path, 100)) == 100
    with pytest.raises(LogError, match=r"big\..*: inflates to more than 99 bytes; raise max_bytes"):
        text(path, 99)


def test_a_plain_file_may_have_any_size(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 1000)
    assert len(text(path, 10)) == 1000


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("filler", [b"\n", b"a"])
def test_a_bomb_takes_little_memory(kind: str, filler: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = 128 << 20
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        if kind == "gz":
            squeeze = zlib.compressobj(9, wbits=31)
            for _ in range(inflated >> 20):
                file.write(squeeze.compress(filler * (1 << 20)))
            file.write(squeeze.flush())
        else:
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:
                for _ in range(inflated >> 20):
                    writer.write(filler * (1 << 20))
    with pytest.raises(LogError, match="inflates far more than a log does"):
        list(text_blocks(path, NO_BOUND))
    monkeypatch.setattr(chunks, "FREE_WORK", NO_BOUND)
    tracemalloc.start()
    try:
        longest = max(len(block) for block in text_blocks(path, NO_BOUND))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert longest <= LINE_BYTES + 2 * BLOCK_BYTES
    assert peak < inflated / 2  # 15 MB (gzip) and 34 MB (zstd) seen of 128


def test_a_very_long_line_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"first\n" + b"x" * (5 * LINE_BYTES) + b"\nlast\n")
    first, long, last = text(path).splitlines()
    assert (first, last) == ("first", "last")
    assert set(long) == {"x"}
    assert len(long) <= LINE_BYTES + BLOCK_BYTES


def test_bytes_that_are_not_utf8_come_out_as_escapes_and_stay_distinct(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"caf\xe9 caf\xe8 caf\xc3\xa9\n")
    assert text(path) == "caf\\xe9 caf\\xe8 café\n"


@pytest.mark.parametrize("kind", ["log", "gz", "zst"])
def test_progress_counts_the_bytes_of_the_stored_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(COMPRESS.get(kind, bytes)(some_lines(4 * BLOCK_BYTES)))
    seen: list[tuple[int, int]] = []
    for _ in text_blocks(path, NO_BOUND, lambda done, total: seen.append((done, total))):
        pass
    size = path.stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
    assert {total for _, total in seen} == {size}


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.log: no such file"):
        text(tmp_path / "nowhere.log")


def test_a_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="is a directory"):
        text(tmp_path)


def test_a_file_that_may_not_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "secret.log"
    path.write_bytes(b"x\n")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything, so stop being root for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(LogError, match=r"secret\.log: may not be read"):
            text(path)
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o600)


def test_a_path_that_leads_through_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(LogError, match=r"file/a\.log: cannot be read: Not a directory"):
        text(tmp_path / "file" / "a.log")


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", "/dev/null"):
        with pytest.raises(LogError, match="is a pipe or a device"):
            text(path)
    for path in ("a\0b", "\ud800"):
        with pytest.raises(LogError, match="no name that a file can have"):
            text(path)


def test_a_file_that_would_wait_for_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)
    monkeypatch.setattr("stat.S_ISREG", lambda mode: True)  # as files of the kernel claim
    try:
        with pytest.raises(LogError, match="would wait for data"):
            text(pipe)
    finally:
        os.close(descriptor)


def test_a_log_that_grows_is_read_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x\n" * 500_000)
    read = 0
    for block in text_blocks(path, NO_BOUND):
        read += len(block)
        with path.open("ab") as file:
            file.write(b"y\n" * 500_000)
    assert read == 1_000_000


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("line", [b"\n", b"{\n", b",\n", b'"\n'])
def test_lines_that_cost_more_than_their_bytes_are_bounded(kind: str, line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(COMPRESS[kind](line * 5_000_000))
    with pytest.raises(LogError, match="inflates far more than a log does"):
        list(text_blocks(path, NO_BOUND))
