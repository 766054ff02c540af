import itertools
import json
import random
import tracemalloc

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from traffic.inputs import text_lines
from traffic.inputs.text_lines import BLOCK_BYTES, LINE_BYTES, ZEROS, blocks

LINE = '203.0.113.7 - - "GET /café HTTP/1.1"'
ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
# Neither line ends nor padding nor a byte order mark, but what other programs take for line ends.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff"), max_size=30)
CUTS = st.lists(st.integers(0, 10**6), max_size=8)
# What decides something, more often than chance has it.
BYTES = st.lists(
    st.sampled_from([b"\0", b"\0" * 9, b"\r", b"\n", b"a", "é".encode(), b"\xff", b"\xc3", b"\xef\xbb\xbf"])
    | st.binary(max_size=3)
).map(b"".join)


def read(*pieces: bytes) -> bytes:
    return b"".join(blocks(b"".join(pieces)[:512], pieces))


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_is_known_by_its_mark(name: str) -> None:
    assert read(f"\ufeff{LINE}\r\nlast".encode(name)) == f"{LINE}\nlast\n".encode()


@pytest.mark.parametrize("name", ENCODINGS)
def test_colors_of_a_terminal_are_left_out_and_nothing_else_that_it_obeys(name: str) -> None:
    colored = "\ufeff|\x1b[97;42m 200 \x1b[0m|\x1b[m\x1b[38:5:1mé\x1b[0m\x1b[2J\n"
    assert read(colored.encode(name)) == "| 200 |é\x1b[2J\n".encode()


@pytest.mark.parametrize("name", ENCODINGS[:3])
def test_an_encoding_is_known_without_its_mark(name: str) -> None:
    assert read(f"{LINE}\nlast".encode(name)) == f"{LINE}\nlast\n".encode()


def test_marks_of_files_that_were_joined_are_left_out() -> None:
    assert read(f"\ufeff{LINE}\n\ufeff{LINE}\n".encode()) == f"{LINE}\n{LINE}\n".encode()


def test_bytes_that_are_not_utf8_come_out_as_escapes_and_stay_distinct() -> None:
    assert read(b"caf\xe9 caf\xe8 caf\xc3\xa9 \xed\xa0\x80\n") == "caf\\xe9 caf\\xe8 café \\xed\\xa0\\x80\n".encode()


def test_half_of_a_surrogate_pair_is_an_escape() -> None:
    assert (
        read(b"\xff\xfe" + "ab".encode("utf-16-le") + b"\x00\xd8" + "c\n".encode("utf-16-le") + b"\x01")
        == b"ab\\x00\\xd8c\n\\x01\n"
    )


@given(st.lists(TEXT), st.sampled_from(ENCODINGS), st.sampled_from(["\n", "\r\n", "\r"]), CUTS, st.booleans())
@example(["a\u2028b\x0cc\x85d\x1ce"], "utf-8", "\r\n", [11], True)
def test_a_text_comes_out_as_its_lines_whatever_the_encoding_and_the_pieces(
    lines: list[str], name: str, end: str, cuts: list[int], ended: bool
) -> None:
    text = end.join(lines) + end * ended
    data = ("\ufeff" * (name != "utf-8") + text).encode(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lines, "BLOCK_BYTES", 16)
        found = list(blocks(data[:512], in_pieces(data, cuts)))
    assert all(block.endswith(b"\n") for block in found)
    assert b"".join(found).decode() == text.replace(end, "\n") + "\n" * bool(text and not text.endswith(end))


@given(BYTES, CUTS)
@example(b"\r\0\n", [1, 2])
@example(b"a" + bytes(12) + b"b", [4])
def test_the_pieces_make_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = read(data)
    assert read(*in_pieces(data, cuts)) == whole
    assert b"\0" not in whole
    assert b"\r" not in whole
    assert whole[-1:] in (b"", b"\n")
    whole.decode()


@given(st.binary(max_size=60))
def test_what_is_not_utf8_is_escaped_as_python_does(data: bytes) -> None:
    assume(
        not set(data) & set(b"\0\r\n") and not data.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\xef\xbb\xbf" not in data
    )
    assert read(data + b"\n").decode() == data.decode("utf-8", "backslashreplace") + "\n"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\n" + bytes(4096) + b"two\n", b"one\ntwo\n"),
        (bytes(3) + b"one\n\0two\n", b"one\ntwo\n"),
        (b"one\0\ntwo\0\0", b"one\ntwo\n"),
        (b"cut" + bytes(4096) + b"two\n", b"cut\ntwo\n"),  # truncated within a line
        (b"a\0b a\0\0b\n", rb"a\x00b a\x00\x00b" + b"\n"),
        (bytes(100), b""),
    ],
)
def test_zero_bytes_are_padding_unless_they_are_few_within_a_line(data: bytes, lines: bytes) -> None:
    assert read(data) == lines


def test_a_gigabyte_of_zero_bytes_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        assert read_pieces([b"one\ncut", *[ZEROS] * 1024, b"two\n"]) == b"one\ncut\ntwo\n"
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def read_pieces(pieces: list[bytes]) -> bytes:
    return b"".join(blocks(pieces[0], pieces))


def test_blocks_are_bounded_and_hold_whole_lines() -> None:
    rng = random.Random(1)
    data = b"".join(b"%x\n" % rng.getrandbits(rng.randrange(4, 900)) for _ in range(40_000))
    found = list(blocks(data[:512], in_pieces(data, [rng.randrange(10**9) for _ in range(1000)])))
    assert b"".join(found) == data
    assert len(found) > 2
    assert all(block.endswith(b"\n") and len(block) <= BLOCK_BYTES + len(data) // 10 for block in found)


def test_a_very_long_line_is_cut_and_the_next_one_is_whole() -> None:
    pieces = [b"first\n", *[b"x" * BLOCK_BYTES] * 5, b"\nlast\n"]
    first, long, last = read_pieces(pieces).splitlines()
    assert (first, last) == (b"first", b"last")
    assert set(long) == set(b"x")
    assert LINE_BYTES <= len(long) <= LINE_BYTES + BLOCK_BYTES


@pytest.mark.parametrize(("between", "colon"), [(",", ":"), (", ", ": "), ("", ":"), ("  ", ":")])
def test_json_on_one_line_is_broken_between_its_objects(between: str, colon: str) -> None:
    record = {"path": '/a"},{"b": "\\', "inner": [{"a": 1}, {"b": 2}], "end": "\\\\"}
    text = between.join([json.dumps(record, separators=(", ", colon))] * 30_000)
    line = (f"[{text}]" if "," in between else text).encode()
    found = list(blocks(line[:512], in_pieces(line, list(range(0, len(line), 100_000)))))
    assert len(found) > 1
    assert max(map(len, found)) <= LINE_BYTES + BLOCK_BYTES
    read, decoder, place = b"".join(found).decode(), json.JSONDecoder(), 0
    values = []
    while place < len(read):
        value, place = decoder.raw_decode(read, place)
        values += value if isinstance(value, list) else [value]
        place += len(read[place : place + 9]) - len(read[place : place + 9].lstrip())
    assert values == [record] * 30_000
