import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.formats import logfmt
from traffic.formats.base import Block, Fields
from traffic.formats.logfmt import LOGFMT, Pairs


def split(text: str, *needed: str) -> tuple[dict[str, list[Any]], Fields]:
    splitter = LOGFMT.splitter(Block(text.encode()))
    assert isinstance(splitter, Pairs)
    fields = splitter.split(Block(text.encode()), needed or splitter.names)
    assert splitter.close(needed) is None
    return {name: column.to_pylist() for name, column in fields.columns.items()}, fields


def test_keys_stand_in_any_order_and_missing_ones_are_null() -> None:
    columns, fields = split('a=1 b="x y" c=\nc=3 a=2\n\njunk\nb=z a=5\n', "a", "b", "c", "d")
    assert columns == {"a": ["1", "2", "5"], "b": ["x y", None, "z"], "c": ["", "3", None], "d": [None, None, None]}
    assert (list(fields.line), fields.skipped, fields.ignored) == ([1, 2, 5], ["junk"], 0)


def test_names_stand_in_order_of_appearance() -> None:
    splitter = LOGFMT.splitter(Block(b"time=1 http.status=200\nuser-id=1 time=2\n"))
    assert splitter is not None
    assert splitter.names == ("time", "http.status", "user-id", "prefix")


HEROKU = (
    '2024-05-10T06:25:24.512345+00:00 heroku[router]: at=info method=GET path="/a?b=1" host=app.example.com'
    ' fwd="203.0.113.7,10.0.0.1" dyno=web.1 connect=0ms service=18ms status=200 bytes=13\n'
)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        (HEROKU, "fwd", "203.0.113.7,10.0.0.1"),
        (HEROKU, "path", "/a?b=1"),
        (HEROKU, "prefix", "2024-05-10T06:25:24.512345+00:00"),
        ("time=10/May/2024:06:25:24 +0000 method=GET", "time", "10/May/2024:06:25:24 +0000"),
        ("method=GET time=2024-05-10 06:25:24 +0200", "time", "2024-05-10 06:25:24 +0200"),
        ("time=[10/May/2024:06:25:24 +0000] method=GET", "time", "10/May/2024:06:25:24 +0000"),
        ("ua=Mozilla/5.0 (X11; Linux) path=/a?x=1&y=2 status=200", "ua", "Mozilla/5.0 (X11; Linux)"),
        ("ua=Mozilla/5.0 (X11; Linux) path=/a?x=1&y=2 status=200", "path", "/a?x=1&y=2"),
        ("status=200 ip=192.0.2.1 and so on", "ip", "192.0.2.1"),
        ('msg="status=500 a=b" status=200', "status", "200"),
        (r'msg="say \"status=500\" \\ \x22 \u00e9 \n" status=200', "msg", 'say "status=500" \\ " é \n'),
        ("msg='a b' status=200", "msg", "a b"),
        ("status=200 status=429", "status", "429"),
        ("a=1, b=2 x, c=3", "b", "2 x"),
        ("a=1|b=2 x|c=3", "b", "2 x"),
        ("a=1;b=;c=3", "b", ""),
        ("time:2024-05-10T06:25:24Z\thost:192.0.2.1\treq:GET /a b HTTP/1.1", "req", "GET /a b HTTP/1.1"),
        ("time:2024-05-10T06:25:24Z\thost:192.0.2.1\treq:GET /a b HTTP/1.1", "time", "2024-05-10T06:25:24Z"),
        ("2024-05-10 06:25:24,123 INFO handled status=200 ip=192.0.2.1", "prefix", "2024-05-10 06:25:24,123"),
        ("[10/May/2024:06:25:24 +0000] app: status=200 ip=192.0.2.1", "prefix", "10/May/2024:06:25:24 +0000"),
        ("app: status=200 ip=192.0.2.1", "prefix", None),
        ("ip=192.0.2.1 [10/May/2024:06:25:24 +0000] status=200", "prefix", "10/May/2024:06:25:24 +0000"),
        ("ip=192.0.2.1 [10/May/2024:06:25:24 +0000] status=200", "ip", "192.0.2.1"),
    ],
)
def test_a_value_is_what_was_meant(line: str, key: str, value: str | None) -> None:
    assert split(line + "\n", key)[0][key] == [value]


def test_a_quote_that_is_never_closed_costs_its_line() -> None:
    columns, fields = split('a=1 b=2\na=3 b="x c=4\na=5 b=6\n', "a")
    assert columns["a"] == ["1", "5"]
    assert fields.skipped == ['a=3 b="x c=4']


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello world\n", "a=1\n", '{"a": "b=1 c=2"}\n', "a,b\n1,2\n", "#Fields: a b\n"),
        '192.0.2.1 - - [10/May/2024:06:25:24 +0000] "GET /a?b=1&c=2 HTTP/1.1" 200 1 "https://x?a=1" "M/5.0 (a=1; b=2)"\n',
    ],
)
def test_other_texts_are_no_pairs(text: str) -> None:
    assert LOGFMT.splitter(Block(text.encode())) is None


NAMES = st.sampled_from(["a", "b", "time", "http.status", "x-y"])
RECORDS = st.lists(
    st.dictionaries(NAMES, st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=6), min_size=2)
)


@given(RECORDS)
def test_quoted_values_are_read_back(records: list[dict[str, str]]) -> None:
    # JSON escapes as Go does what these texts have.
    lines = [
        " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in record.items()) for record in records
    ]
    splitter = Pairs(["a", "b", "time", "http.status", "x-y"], logfmt.EQUALS, logfmt.BLANK)
    fields = splitter.split(Block("".join(line + "\n" for line in lines).encode()), ("a", "time", "x-y"))
    assert fields.skipped == []
    controls = [any(ord(character) < 32 for value in record.values() for character in value) for record in records]
    for name in ("a", "time", "x-y"):
        read = fields.columns[name].to_pylist()
        expected = [record.get(name) for record in records]
        assert [v for v, odd in zip(read, controls, strict=True) if not odd] == [
            v for v, odd in zip(expected, controls, strict=True) if not odd
        ]


@settings(max_examples=100)
@given(st.text(st.sampled_from("ab=:\"' \\\t[],|\n"), max_size=60), st.sampled_from(logfmt.SIGNS))
def test_compiled_and_plain_loops_agree_and_every_line_is_counted(text: str, signs: tuple[int, int]) -> None:
    splitter = Pairs(["a", "b", "ab"], *signs)
    block = Block(text.encode() + b"\n")
    plain = splitter.split(block, splitter.names)
    assert len(plain) + len(plain.skipped) == sum(bool(line.strip(" \t")) for line in text.split("\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfmt, "SMALL", 0)
        compiled = splitter.split(block, splitter.names)
    assert list(compiled.line) == list(plain.line)
    assert compiled.columns == plain.columns
    assert compiled.skipped == plain.skipped
