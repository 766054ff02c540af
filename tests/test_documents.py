"""Files from outside, read within bounds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ratesim.documents import DocumentError, parse_json, parse_toml, read_bytes, read_text

TOML = {
    "arrays": "a=" + "[" * 100_000,
    "closed arrays": "a=" + "[" * 100 + "]" * 100,
    "tables": "a=" + "{a=" * 100_000,
    "dotted key": "a" + ".a" * 300_000 + "=1",
    "dotted key with blanks": "a" + " . a" * 200_000 + "=1",
    "quoted keys": '"a,b"' + '."a=b"' * 100_000 + "=1",
    "header": "[" + ".".join(["a"] * 300_000) + "]",
    "digits": "a=" + "9" * 5000,
    "hexadecimal": "a=0x" + "f" * 5000,
    "quotes": '"' * 1_000_000,
    "backslashes": '"' + "\\" * 900_000,
    "size": "a=1\n" * 400_000,
    "date": "a=0000-01-01",
    "syntax": "a = ",
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_hostile_toml_is_one_short_line(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_toml(text)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ['a.b."c.d"=1', "a=[1.5, " + "2.5, " * 1000 + "]", 'a="' + "x.y " * 1000 + '"', "# [[[[ " + "a." * 999]
)
def test_what_only_looks_nested_is_taken(text: str) -> None:
    assert isinstance(parse_toml(text), dict)


JSON = {
    "arrays": b"[" * 1_000_000,
    "closed arrays": b"[" * 100 + b"]" * 100,
    "objects": b'{"a":' * 100_000,
    "digits": b"9" * 5000,
    "many digits": b"[" + b"9" * 1_000_000 + b"]",
    "20 digits": b"[99999999999999999999]",
    "float": b"1e400",
    "not utf-8": b'"\xff"',
    "half a surrogate": b'"\\ud800"',
    "nan": b"NaN",
    "nothing": b"",
    "cut": b'{"a": 1',
}


@pytest.mark.parametrize("data", JSON.values(), ids=JSON)
def test_hostile_json_is_one_short_line(data: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_json(data)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_json_of_another_shape_names_the_place() -> None:
    class Part(msgspec.Struct):
        number: int

    with pytest.raises(DocumentError, match=r"Expected `int`, got `str` - at `\$\[1\]\.number`"):
        parse_json(b'[{"number": 1}, {"number": "x"}]', list[Part])
    assert parse_json(b'[{"number": 1, "more": 2}]', list[Part]) == [Part(1)]


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    fifo, dangling, empty = tmp_path / "fifo", tmp_path / "link", tmp_path / "empty"
    os.mkfifo(fifo)
    dangling.symlink_to(tmp_path / "nowhere")
    empty.touch()
    odd: list[Any] = [
        fifo,
        dangling,
        tmp_path,
        "/dev/zero",
        "/dev/null",
        tmp_path / "a\0b",
        tmp_path / ("x" * 5000),
        "\ud800",
    ]
    for path in odd:
        with pytest.raises(DocumentError, match="cannot be read"):
            read_bytes(path)
    assert read_bytes(empty) == b""


def test_a_file_is_bounded_and_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes("\ufeffa = 'ü'\r\n".encode())
    assert parse_toml(read_text(file)) == {"a": "ü"}
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(DocumentError, match=r"not UTF-8 text \(byte 5\)"):
        read_text(file)
    file.write_bytes(b"#" * 101)
    with pytest.raises(DocumentError, match="longer than 100 bytes"):
        read_text(file, 100)


def test_a_file_that_would_wait_for_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)
    monkeypatch.setattr("stat.S_ISREG", lambda mode: True)  # as files of the kernel claim
    try:
        with pytest.raises(DocumentError, match="would wait for data"):
            read_bytes(pipe)
    finally:
        os.close(descriptor)
