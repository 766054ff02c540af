"""Each named format reads its own example, leaves out what is no request, and is told apart from the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from traffic.formats import FORMATS
from traffic.formats.base import Block, Format, FormatMismatchError
from traffic.formats.choice import choose_format
from traffic.formats.filtered import only_where
from traffic.formats.json_records import JSON
from traffic.logs import LogError, read_log


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_a_format_reads_its_example_before_all_others(format: Format) -> None:
    block = Block((format.example + "\n").encode())
    choice = choose_format(block, FORMATS)
    assert (choice.name, choice.share) == (format.name, 1.0)
    splitter = choice.splitter()
    fields = splitter.split(block, splitter.names)
    held = splitter.close(splitter.names)
    assert len(fields) + (len(held) if held is not None else 0) == 1
    assert format.source.startswith("https://")


STAMPED = {"heroku", "uvicorn"}
"""Formats whose time is the stamp of what wraps their lines."""


@pytest.mark.parametrize("name", FORMATS)
def test_the_example_of_a_format_is_a_request_of_its_client(name: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(FORMATS[name].example + "\n", "utf-8")
    if name in STAMPED:
        with pytest.raises(LogError, match="no field with the time"):
            read_log(log)
        log.write_text(f"2024-05-10T06:25:24.612345678Z stdout F {FORMATS[name].example}\n", "utf-8")
    trace = read_log(log, format=name)
    assert (len(trace), trace.keys) == (1, ("203.0.113.7",))
    assert trace.provenance.skipped == 0
    assert 9e8 < trace.time[0] < 2e9


def test_the_fields_with_a_role_are_there() -> None:
    for format in FORMATS.values():
        splitter = format.splitter(Block((format.example + "\n").encode()))
        assert splitter is not None
        for role, names in format.roles.items():
            assert set(names) & set(splitter.names), (format.name, role)


@pytest.mark.parametrize("name", FORMATS)
def test_a_line_of_something_else_is_no_example(name: str) -> None:
    assert FORMATS[name].splitter(Block(b"Dear diary! Nothing happened today.\n" * 3)) is None


def test_the_share_of_lines_understood_is_the_confidence() -> None:
    example = FORMATS["combined"].example
    choice = choose_format(Block(f"{example}\nx\n{example}\n{example}\n".encode()), FORMATS, "combined")
    assert str(choice) == "combined (75 % of the first lines)"
    with pytest.raises(FormatMismatchError, match="no format that is known fits its first lines"):
        choose_format(Block(b"x y\n"), FORMATS)


def test_records_of_another_kind_are_ignored_and_counted() -> None:
    format = only_where(JSON, {"kind": "request|call"})
    block = Block(
        b'{"kind":"request","a":1}\n{"kind":"x","a":2}\n{"a":3}\n{"kind":"call","a":4}\n{"kind":"requests"}\nno\n', 7
    )
    splitter = format.splitter(block)
    assert splitter is not None
    fields = splitter.split(block, ["a"])
    assert {name: column.to_pylist() for name, column in fields.columns.items()} == {"a": [1, 4]}
    assert fields.line.tolist() == [7, 10]
    assert (fields.ignored, list(fields.skipped)) == (3, ["no"])


def test_a_log_without_requests_is_refused_by_name() -> None:
    line = b'2024/05/10 06:25:24 [error] 7#7: *1 connect() failed, client: 203.0.113.7, request: "GET / HTTP/1.1"\n'
    with pytest.raises(FormatMismatchError, match="nginx's error log; name its access log"):
        choose_format(Block(line), FORMATS)
    example = FORMATS["combined"].example.encode() + b"\n"
    assert choose_format(Block(line + 3 * example), FORMATS, "combined").share == 0.75


def test_the_fields_of_alb_are_all_known(tmp_path: Path) -> None:
    log = tmp_path / "alb.log"
    log.write_text(FORMATS["alb"].example + "\n")
    assert not any("--log-format" in said for said in read_log(log).provenance.assumed)
    with pytest.raises(LogError, match=r"has no status .* in the field 'remote_addr' in any line; name another --status"):
        read_log(log, status="remote_addr")
