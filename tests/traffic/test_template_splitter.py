"""The splitter finds the same fields as regular expressions that were written apart from it, also on damaged lines."""

from __future__ import annotations

import random
import re

import pyarrow as pa
import pytest

from traffic.formats import template_splitter
from traffic.formats.base import Block, Fields
from traffic.formats.template import Template
from traffic.formats.template_splitter import TemplateSplitter

QUOTED = r'(?:[^"\\]|\\.)*+'
REST = rf'(?:[ \t]*+$|[ \t](?P<rest>(?:[^"\\]|\\.|"{QUOTED}")*+\\?)$)'
LIST = r"(?! (?!: ))(?: : |(?<=,) |[^ ])++"
STATUS = r"(?>[0-9]{3}(?![0-9])|0(?![0-9])|-1(?![0-9])|-)"
ON = r"(?:[+][0-9]{2}(?![^ ])|[+-][0-9]{2}:?[0-9]{2}[^ ]*|[0-9]{2}:[0-9]{2}[^ ]*|[AP]M(?![^ ])|UTC[^ ]*|GMT[^ ]*)"
COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"',
    rf"(?P<remote_addr>(?:(?! - ) : |(?<=,) |[^ ])++) - "
    rf'(?>"(?P<quoted_user>{QUOTED})" \[|(?P<remote_user>.*?) \[)(?P<time_local>(?>.*?(?=\] ")))\] "(?P<request>{QUOTED})" '
    rf"(?P<status>{STATUS}) "
    rf'(?P<body_bytes_sent>[0-9.+-]++) "(?P<http_referer>{QUOTED})" "(?P<http_user_agent>{QUOTED})"{REST}',
)
ODD = (
    "$time_iso8601 $http_x_forwarded_for  $request $upstream_response_time | $scheme://$host$request_uri | "
    '"$request_method $uri" $remote_user $cache',
    rf"(?P<time_iso8601>[^ ]++(?: {ON})*+) (?P<http_x_forwarded_for>{LIST}) ++"
    rf"(?P<request>(?>-(?= )|[^ ]*+ [^ ]++(?: HTTP/[^ ]*+)?+)) "
    r"(?P<upstream_response_time>(?:(?! \| ) : |(?<=,) |[^ ])++) \| "
    r'(?P<scheme>(?>.*?(?=://)))://(?P<host>[^/]*+)(?P<request_uri>(?>.*?(?= \| "))) \| '
    r'"(?P<request_method>(?>(?:\\.|[^"\\])*?(?= )))'
    rf' (?P<uri>{QUOTED})" (?>"(?P<quoted_user>{QUOTED})" |(?P<remote_user>[^ ]*) )(?P<cache>[^ ]++){REST}',
)
LAST_LIST = (
    "$a|$status|$body_bytes_sent,$remote_addr",
    rf"(?P<a>[^|]*+)\|(?P<status>{STATUS})\|(?P<body_bytes_sent>[0-9.+-]++),(?P<remote_addr>{LIST}){REST}",
)
LAST_TIME = (
    "$remote_user : $http_x_forwarded_for : $time_local",
    rf'(?>"(?P<quoted_user>{QUOTED})" : |(?P<remote_user>.*?) : )(?P<http_x_forwarded_for>(?>(?:(?<=,) |[^ ])++)) : '
    rf"(?P<time_local>[^ ]++(?: {ON})*+){REST}",
)
PORT = (
    "$remote_addr:$remote_port|$status",
    r"(?P<remote_addr>(?>[0-9:.\[\]A-Fa-f]+(?=:)|[^ ](?:(?<=,)[ :]|[^ :])*+(?=:))):(?P<remote_port>[0-9.+-]++)\|"
    rf"(?P<status>{STATUS}){REST}",
)
LAST_USER = (
    "$status $remote_user",
    rf'(?P<status>{STATUS}) (?>"(?P<quoted_user>{QUOTED})"(?=$| )|(?P<remote_user>.*$)){REST}',
)
PIECES = [
    ["203.0.113.7", "10.1.1.1, 203.0.113.7", "2001:db8::1", "-", "a, b : c"],
    ["-", "john smith", '"car 5941"', '""', "bob@EXAMPLE.COM", r'"a\"b" c', "é [x"],
    ["12/Mar/2024:09:44:22 +0800", "2024-03-12T09:44:22Z", ""],
    ["GET /a HTTP/1.1", "", r"\x16\x03\x01", r'GET /"\" x', "POST /é", "a\\\\", "-"],
    ["200", "429", "-", "000", "0", "-1", "2000", "20"],
    ["0", "1234", "-", "0.5", "+3", ""],
    ["-", "https://example.org/?a=[b]", "x\\\\"],
    ["Mozilla/5.0 (X11; Linux)", "", "-", r"\""],
    ["", " ", " 0.003", ' "a" 1', "\t1", ' "a', "x", " \\", ' a "b\\" c" d'],
]
TIMES = [
    *("2024-03-12", "2024-03-12 09:44:22 AM", "12/Mar/2024:09:44:22 +0800", "10:05:03 PM UTC", "-", "2024-03-12 +08"),
    *("09:44 -03:30", "09:44:22 GMT", "09:44 GMT+1", "2024 1:02", "12 -08", "12 +123", "12 AMX", "12 U", "12 GM", "12 UTD"),
    *("1 09:44 A", "1 BM", "1 +1", "1 +12:", "1 09.44", "1 09:4", "1 09:x", "1 -1230"),
]
ADDRESSES = (
    "203.0.113.7",
    "2001:db8::1",
    "2001:DB8::AF",
    "[::1]",
    "host.g",
    "::9",
    "a@b",
    "1/2",
    "",
    "0`",
    "G:1",
    ":",
    "f:A",
)
ODD_PIECES = [
    TIMES,
    ["203.0.113.7", "203.0.113.7, 10.0.0.1", "1 : 2", ""],
    ["GET /a HTTP/1.1", "GET /a", "-", "POST /b HTTP", "-x", "- /"],
    ["0.1", "0.1, 0.2 : 0.3", "-", ""],
    ["https", "", "wss"],
    ["example.org", "", "[::1]:80"],
    ["/a?b", "/", "/a | b"],
    ["GET", "", r"\"x"],
    ["/a b", "", r"/\"c"],
    ["-", '"a b"', '""', "john"],
    ["HIT", "-", ""],
    ["", " 1", "x"],
]


def _write(pieces: list[list[str]], form: str, rng: random.Random) -> str:
    line = form.format(*(rng.choice(choices[:2] if rng.random() < 0.6 else choices) for choices in pieces))
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        place = rng.randrange(len(line) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            line = line[:place]
        elif kind == 1:
            line = line[:place] + line[place + 1 :]
        else:
            line = line[:place] + rng.choice('" [],:\\-0 2a/é|U\t') + line[place + (kind == 2) :]
    return line


Row = dict[str, str | None]


def _expected(lines: list[str], pattern: str, names: tuple[str, ...]) -> tuple[dict[str, Row], list[str]]:
    rows: dict[str, Row] = {}
    skipped = []
    for line in lines:
        found = re.compile(pattern).match(line)
        if found:
            row = found.groupdict()
            if (quoted := row.pop("quoted_user", None)) is not None:
                row["remote_user"] = quoted
            rows[line] = {name: row[name] for name in names}
        elif line.strip(" \t"):
            skipped.append(line[:200])
    return rows, skipped


FORMS = [
    (COMBINED, PIECES, '{0} - {1} [{2}] "{3}" {4} {5} "{6}" "{7}"{8}'),
    (ODD, ODD_PIECES, '{0} {1}   {2} {3} | {4}://{5}{6} | "{7} {8}" {9} {10}{11}'),
    (LAST_LIST, [["x", ""], PIECES[4], PIECES[5], [*PIECES[0], "", "a,", "a : "], PIECES[8]], "{}|{}|{},{}{}"),
    (PORT, [[*ADDRESSES], ["80", "1", ""], PIECES[4], PIECES[8]], "{}:{}|{}{}"),
    (LAST_USER, [PIECES[4], PIECES[1], ["", " x", '"', " ", "\t"]], "{} {}{}"),
    (LAST_TIME, [PIECES[1], ODD_PIECES[1], [*TIMES, ""], PIECES[8]], "{} : {} : {}{}"),
]


@pytest.fixture(params=["plain", "compiled"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_splitter, "SMALL", 1 << 62)
    monkeypatch.setattr(template_splitter, "MANY_SMALL", 1 << 62 if request.param == "plain" else 0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("case", "pieces", "form"), FORMS, ids=["combined", "odd", "list", "port", "user", "time"])
def test_fields_are_those_of_a_regular_expression(case: tuple[str, str], pieces: list[list[str]], form: str) -> None:
    rng = random.Random(1)
    lines = [_write(pieces, form, rng) for _ in range(4000)]
    splitter = TemplateSplitter([Template.parse(case[0])])
    fields = splitter.split(Block("".join(f"{line}\n" for line in lines).encode()), splitter.names)
    rows, skipped = _expected(lines, case[1], splitter.names)
    found = zip(fields.line.tolist(), pa.table(dict(fields.columns)).to_pylist(), strict=True)
    assert {lines[number - 1]: row for number, row in found} == rows
    assert list(fields.skipped) == skipped
    assert len(rows) > 500
    assert len(skipped) > 500


def _split(text: str, *templates: str, needed: tuple[str, ...] | None = None) -> Fields:
    splitter = TemplateSplitter([Template.parse(template) for template in templates])
    return splitter.split(Block(text.encode(), line=11), splitter.names if needed is None else needed)


@pytest.mark.usefixtures("engine")
def test_a_line_is_cut_with_the_first_template_that_fits() -> None:
    fields = _split("a b 200\n\nx 404\n \t\nnone\na c 429\n", "$one $two $status", "$one $status")
    assert {name: column.to_pylist() for name, column in fields.columns.items()} == {
        "one": ["a", "x", "a"],
        "two": ["b", None, "c"],
        "status": ["200", "404", "429"],
        "rest": [None, None, None],
    }
    assert fields.line.tolist() == [11, 13, 16]
    assert fields.skipped == ["none"]


@pytest.mark.usefixtures("engine")
def test_only_needed_fields_are_columns_and_unknown_ones_are_null() -> None:
    fields = _split("a 200\nb 200\n", "$one $status", needed=("status", "absent"))
    assert {name: column.to_pylist() for name, column in fields.columns.items()} == {
        "status": ["200", "200"],
        "absent": [None, None],
    }


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("text", ["", "\n", "\n\n"])
def test_a_block_without_lines_has_no_records(text: str) -> None:
    fields = _split(text, "$remote_addr $status")
    assert len(fields) == 0
    assert fields.skipped == []
    assert len(fields.columns["status"]) == 0


def test_a_skipped_line_is_shown_by_its_first_200_characters() -> None:
    assert _split("é" * 500 + "\n", "$status $a").skipped == ["é" * 200]


def test_parts_of_a_request_that_is_none_are_kept_as_one_field() -> None:
    splitter = Template.parse('"$request_method $uri $server_protocol" $status').splitter()
    fields = splitter.split(Block(b'"GET /a HTTP/1.1" 200\n"\\x16\\x03" 400\n"GET /a 200\n'), splitter.names)
    assert fields.columns["request_method"].to_pylist() == ["GET", None]
    assert fields.columns["request"].to_pylist() == [None, "\\x16\\x03"]
    assert fields.skipped == ['"GET /a 200']
