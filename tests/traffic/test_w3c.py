from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.formats.base import Block, Fields
from traffic.formats.w3c import LOG

IIS = """#Software: Microsoft Internet Information Services 10.0
#Version: 1.0
#Date: 2022-05-16 13:17:29
#Fields: date time cs-uri-stem c-ip cs(User-Agent) sc-status X-Forwarded-For
2022-05-16 13:17:29 /a+b 172.18.23.68 Mozilla/5.0+(X11;+Linux) 206 203.0.113.7:33453,+172.16.0.1:49770
2022-05-16 13:17:30 /b 172.18.23.68 - 429 -
"""


def split(text: str, *needed: str, lines: int = 0) -> tuple[dict[str, list[Any]], Fields]:
    """Return the columns of all blocks, of so many lines each, and the last block's fields."""
    splitter = LOG.splitter(Block(text.encode()))
    assert splitter is not None
    assert splitter.in_order
    whole = text.encode().splitlines(keepends=True)
    columns: dict[str, list[Any]] = {name: [] for name in needed}
    for at in range(0, len(whole), lines or len(whole)):
        fields = splitter.split(Block(b"".join(whole[at : at + (lines or len(whole))]), at + 1), needed)
        for name in needed:
            assert len(fields.columns[name]) == len(fields)
            columns[name] += fields.columns[name].to_pylist()
    assert splitter.close(needed) is None
    return columns, fields


def test_the_directive_names_the_columns() -> None:
    splitter = LOG.splitter(Block(IIS.encode()))
    assert splitter is not None
    assert splitter.names == ("date", "time", "cs-uri-stem", "c-ip", "cs(User-Agent)", "sc-status", "X-Forwarded-For")
    columns, fields = split(IIS, "date", "time", "c-ip", "sc-status", "nothing")
    assert columns["date"] == ["2022-05-16", "2022-05-16"]
    assert columns["time"] == ["13:17:29", "13:17:30"]
    assert columns["sc-status"] == ["206", "429"]
    assert columns["nothing"] == [None, None]
    assert (list(fields.line), fields.skipped, fields.ignored) == ([5, 6], [], 4)


def test_what_stands_for_blanks_is_a_blank_in_agents_and_lists_but_not_in_paths() -> None:
    columns, _ = split(IIS, "cs(User-Agent)", "X-Forwarded-For", "cs-uri-stem")
    assert columns["cs(User-Agent)"] == ["Mozilla/5.0 (X11; Linux)", None]
    assert columns["X-Forwarded-For"] == ["203.0.113.7:33453, 172.16.0.1:49770", None]
    assert columns["cs-uri-stem"] == ["/a+b", "/b"]


def test_cloudfront_separates_by_tabs_and_encodes_twice() -> None:
    lines = ("2021-01-20\t07:06:13\t2001:db8::1\t200\tMozilla/5.0%2520(X11)\t203.0.113.7,%2010.0.0.2", "bad\tline")
    text = "#Version: 1.0\n#Fields: date time c-ip sc-status cs(User-Agent) x-forwarded-for\n" + "\n".join(lines) + "\n"
    columns, fields = split(text, "c-ip", "cs(User-Agent)", "x-forwarded-for")
    assert columns == {
        "c-ip": ["2001:db8::1"],
        "cs(User-Agent)": ["Mozilla/5.0 (X11)"],
        "x-forwarded-for": ["203.0.113.7, 10.0.0.2"],
    }
    assert (fields.skipped, fields.ignored) == (["bad\tline"], 2)


def test_the_advanced_logging_of_iis_quotes_what_has_blanks() -> None:
    text = (
        "# Software: IIS Advanced Logging Module\n# Fields:  date time c-ip cs(User-Agent) sc-status\n"
        '2014-04-10 12:40:24.190 192.0.2.1 "Mozilla/5.0 (Windows NT 6.2; WOW64)" 200\n'
        "2014-04-10 12:40:25.190 192.0.2.1 - 429\n"
    )
    columns, _ = split(text, "cs(User-Agent)", "sc-status")
    assert columns == {"cs(User-Agent)": ["Mozilla/5.0 (Windows NT 6.2; WOW64)", None], "sc-status": ["200", "429"]}


def test_a_quote_in_an_agent_is_a_character() -> None:
    columns, fields = split(IIS.replace("Mozilla/5.0", '"Mozilla"/5.0'), "cs(User-Agent)")
    assert columns["cs(User-Agent)"] == ['"Mozilla"/5.0 (X11; Linux)', None]
    assert len(fields) == 2


ZEEK = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\thttp\n"
    "#fields\tts\tid.orig_h\tmethod\tstatus_code\n#types\ttime\taddr\tstring\tcount\n"
    "1258531221.486539\t192.0.2.102\tGET\t200\n1258531680.237254\t192.0.2.103\t-\t429\n#close\t2009\n"
)


def test_zeek_writes_the_directive_with_tabs() -> None:
    columns, fields = split(ZEEK, "ts", "id.orig_h", "method")
    assert columns["ts"] == ["1258531221.486539", "1258531680.237254"]
    assert columns["method"] == ["GET", None]
    assert (list(fields.line), fields.ignored) == ([8, 9], 8)


CHANGED = (
    "#Fields: date time c-ip sc-status\n2022-05-16 13:17:29 192.0.2.1 200\n"
    "#Fields: date time s-ip c-ip sc-status cs(User-Agent)\n2022-05-16 13:17:30 10.0.0.1 192.0.2.2 429 M+x \n\nbad line\n"
    "#Date: x\n#Fields: date time s-ip c-ip sc-status cs(User-Agent)\n2022-05-16 13:17:31 10.0.0.1 192.0.2.3 500 -\n"
)


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_the_columns_may_change_in_the_middle(lines: int) -> None:
    columns, _ = split(CHANGED, "c-ip", "sc-status", "cs(User-Agent)", lines=lines)
    assert columns["c-ip"] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert columns["sc-status"] == ["200", "429", "500"]
    assert columns["cs(User-Agent)"] == [None, "M x", None]


def test_counts_add_up_where_the_columns_change() -> None:
    _, fields = split(CHANGED, "c-ip")
    assert (list(fields.line), fields.skipped, fields.ignored) == ([2, 4, 9], ["bad line"], 4)


@pytest.mark.parametrize("text", ["", "hello\n", "# time key\n1 a\n", "#Fields:\n1 a\n", "a,b\n#Fields: x y\n"])
def test_other_texts_are_no_w3c_log(text: str) -> None:
    assert LOG.splitter(Block(text.encode())) is None


@settings(max_examples=100)
@given(st.text(st.sampled_from('#Fields: a\n\t"-%+'), max_size=40), st.integers(0, len(CHANGED)), st.integers(0, 2))
def test_whatever_the_damage_every_line_is_a_record_lost_or_ignored(damage: str, at: int, lines: int) -> None:
    text = CHANGED[:at] + damage + CHANGED[at:] + "\n"
    splitter = LOG.splitter(Block(text.encode()))
    if splitter is not None:
        whole = text.encode().splitlines(keepends=True)
        size = lines or len(whole)
        parts = [splitter.split(Block(b"".join(whole[i : i + size])), ("c-ip",)) for i in range(0, len(whole), size)]
        counted = sum(len(part) + len(part.skipped) + part.ignored for part in parts)
        assert counted == sum(bool(line.strip()) for line in text.split("\n"))
