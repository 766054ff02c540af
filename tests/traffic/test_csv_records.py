import csv
import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from traffic.formats import csv_records
from traffic.formats.base import Block, Fields, FormatMismatchError
from traffic.formats.csv_records import CSV, RECORD_CHARACTERS, refuse_headless


def split(
    text: str, needed: Sequence[str] | None = None, lines: int = 0
) -> tuple[dict[str, list[Any]], list[int], list[str], int]:
    """Read a text in one block, or in blocks of so many lines: columns, numbers of lines, lost lines, ignored lines."""
    data = text.encode() if text.endswith("\n") else text.encode() + b"\n"
    splitter = CSV.splitter(Block(data))
    assert splitter is not None
    needed = splitter.names if needed is None else needed
    whole = data.splitlines(keepends=True) if b"\r" not in data else [line + b"\n" for line in data.split(b"\n")[:-1]]
    size = lines or len(whole)
    parts: list[Fields | None] = []
    for at in range(0, len(whole), size):
        parts.append(splitter.split(Block(b"".join(whole[at : at + size]), at + 1), needed))
    read = [part for part in (*parts, splitter.close(needed)) if part is not None]
    columns = {name: [value for part in read for value in part.columns[name].to_pylist()] for name in needed}
    assert all(len(part.columns[name]) == len(part) for part in read for name in needed)
    skipped = [line for part in read for line in part.skipped]
    return columns, [int(i) for part in read for i in part.line], skipped, sum(part.ignored for part in read)


def test_a_line_below_the_header_is_a_record_of_text() -> None:
    columns, line, skipped, ignored = split("time,key,cost\n1,a,2\n3,b,\n")
    assert columns == {"time": ["1", "3"], "key": ["a", "b"], "cost": ["2", ""]}
    assert (line, skipped, ignored) == ([2, 3], [], 1)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "^", "~", "\x01", " "])
def test_the_separator_is_told_from_the_lines(separator: str) -> None:
    text = "time,key,say\n1,a,x\n3,b,y\n".replace(",", separator)
    assert split(text)[0] == {"time": ["1", "3"], "key": ["a", "b"], "say": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "columns", "ignored"),
    [
        ("sep=;\ntime;cost\n1;0,5\n2;1\n", {"time": ["1", "2"], "cost": ["0.5", "1"]}, 2),
        ('"sep=,"\ntime,cost\n1,5\n', {"time": ["1"], "cost": ["5"]}, 2),
        ("# made by x\n# today\ntime,key\n1,a\n# mid\n2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 4),
        ("-- a query\ntime,key\n1,a\n", {"time": ["1"], "key": ["a"]}, 2),
        ("# x\n#time,key\n1,a\n2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 2),
        ("time,key\n1,a\ntime,key\n2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 2),
        ("time|key\n1|a\n(1 row)\n", {"time": ["1"], "key": ["a"]}, 2),
        (" time | key \n------+-----\n 1 | a b\n 2 | \n(2 rows)\n\n", {"time": ["1", "2"], "key": ["a b", ""]}, 3),
        ("+---+---+\n| time | key |\n+---+---+\n| 1 | a |\n+---+---+\n", {"time": ["1"], "key": ["a"]}, 4),
        ("| time | key |\n|------|-----|\n| 1 | a |\n", {"time": ["1"], "key": ["a"]}, 2),
        (",time,key\n0,1,a\n1,2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 1),
        ("time,key,\n1,a,\n2,b,\n", {"time": ["1", "2"], "key": ["a", "b"]}, 1),
        ("time,key\n1,a,\n2,b,\n", {"time": ["1", "2"], "key": ["a", "b"]}, 1),
        ('"time","key"\n"1",1,a\n"2",2,b\n', {"time": ["1", "2"], "key": ["a", "b"]}, 1),
        ("time, key\n1, a\n2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 1),
        ('time, key\n1, "a, b"\n', {"time": ["1"], "key": ["a, b"]}, 1),
        ("time\tkey\n1\t\\N\n", {"time": ["1"], "key": [None]}, 1),
        ("\n\ntime,key\n\n1,a\n \n", {"time": ["1"], "key": ["a"]}, 1),
        ("time\n1\n\n2\n", {"time": ["1", "2"]}, 1),
        ('time,"two\nlines"\n1,a\n', {"time": ["1"], "two\nlines": ["a"]}, 2),
        ("time;cost\n1;1,250\n2;2,500\n", {"time": ["1", "2"], "cost": ["1,250", "2,500"]}, 1),
        ("time,key\n", {"time": [], "key": []}, 1),
        ("A report\n\ntime,key\n1,a\n2,b\n", {"time": ["1", "2"], "key": ["a", "b"]}, 2),
        ("time   key\n1      a\n22     bb \n", {"time": ["1", "22"], "key": ["a", "bb"]}, 1),
        ('"time" "key"\n"1" 1 "a b"\n"2" 2 "c"\n', {"time": ["1", "2"], "key": ["a b", "c"]}, 1),
    ],
)
def test_what_tools_write_around_the_columns_is_no_record(text: str, columns: dict[str, list[str]], ignored: int) -> None:
    read, _, skipped, without = split(text)
    assert (read, skipped, without) == (columns, [], ignored)


def test_a_number_that_may_have_a_decimal_comma_or_thousands_stays_text() -> None:
    assert split("time;cost\n1;1,250\n2;10,5\n")[0]["cost"] == ["1.250", "10.5"]
    assert split("time;cost\n1;1,250\n2;2,500\n")[0]["cost"] == ["1,250", "2,500"]


def test_quoted_fields_hold_separators_quotes_and_line_breaks() -> None:
    text = 'time,key\n1,"a,b"\n"2","say ""hi"""\n3,"two\nlines"\n4,"three\n\nlines"\n5,5" disk\n'
    for lines in (0, 1, 2):
        columns, line, skipped, ignored = split(text, lines=lines)
        assert columns["key"] == ["a,b", 'say "hi"', "two\nlines", "three\n\nlines", '5" disk']
        assert (line, skipped, ignored) == ([2, 3, 4, 6, 9], [], 1)


def test_quotes_inside_may_be_escaped_by_backslashes() -> None:
    assert split('time,ua\n1,"say \\"hi\\", you"\n2,"x"\n')[0]["ua"] == ['say "hi", you', "x"]
    assert split('time,path\n1,"C:\\dir"\n2,"say ""x"""\n')[0]["path"] == ["C:\\dir", 'say "x"']


def test_a_quote_that_is_never_closed_costs_its_own_line() -> None:
    columns, _, skipped, _ = split('time,key\n1,a\n2,"b\n3,c\n4,d\n5,"e"x\n6,f\n7,"g\n')
    assert columns["key"] == ["a", "c", "d", "f"]
    assert skipped == ['2,"b', '5,"e"x', '7,"g']


def test_a_quote_that_is_never_closed_costs_its_own_line_in_a_large_file_too() -> None:
    lines = [f"{i},key-{i}" for i in range(20_000)]
    lines[10] = '10,"open'
    text = "time,key\n" + "\n".join(lines) + "\n"
    assert len(text) > 2 * RECORD_CHARACTERS
    columns, _, skipped, _ = split(text, ["key"], lines=5000)
    assert (len(columns["key"]), skipped) == (19_999, ['10,"open'])


@pytest.mark.parametrize("bad", ["2,b", "2,b,1,1", '2,"b,1', "junk"])
def test_a_line_with_other_columns_is_lost_and_shown(bad: str) -> None:
    columns, line, skipped, _ = split(f"time,key,cost\n1,a,2\n{bad}\n3,c,4\n5,d,6\n")
    assert columns["key"] == ["a", "c", "d"]
    assert (line, skipped) == ([2, 4, 5], [bad])


def test_a_column_that_is_needed_must_be_the_only_one_of_its_name() -> None:
    assert split("time,a,a,b\n1,2,3,4\n", ["b"])[0] == {"b": ["4"]}
    with pytest.raises(FormatMismatchError, match="has 2 columns called 'a'; give them names of their own"):
        split("time,a,a,b\n1,2,3,4\n", ["a"])


def test_a_column_that_there_is_not_is_null() -> None:
    assert split("time,a\n1,2\n", ["z", "a"])[0] == {"z": [None], "a": ["2"]}


def test_blocks_without_quotes_are_read_by_threads_in_any_order() -> None:
    splitter = CSV.splitter(Block(b"time,key\n1,a\n"))
    assert splitter is not None
    assert not splitter.in_order
    assert splitter.split(Block(b"2,b\n", 3), ["key"]).columns["key"].to_pylist() == ["b"]
    assert list(splitter.split(Block(b"time,key\n1,a\n"), ["key"]).line) == [2]
    quoted = CSV.splitter(Block(b'time,"key"\n1,a\n'))
    assert quoted is not None
    assert quoted.in_order


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "hello, world\nthis is text\n", "hello\nworld of text\n", '{"a": 1, "b": 2}\n{"a": 1, "b": 2}\n'),
        "#Version: 1.0\n#Fields: date time c-ip\n2024-01-01\t00:00:00\t1.2.3.4\n",
        "2024-01-01T00:00:00Z,1.2.3.4,200\n2024-01-01T00:00:01Z,1.2.3.5,200\n",
        'a=1, b=2\na=2, b=3\n1.2.3.4 - - "x, y"\n',
        '1.2.3.4 - - [10/May/2024:06:25:24 +0000] "GET / HTTP/1.1" 200 1 "-" "Mozilla (KHTML, like Gecko)"\n' * 3,
    ],
)
def test_other_texts_are_no_csv(text: str) -> None:
    assert CSV.splitter(Block(text.encode())) is None


def test_lines_without_a_header_that_no_format_reads_are_refused_with_a_remedy() -> None:
    with pytest.raises(
        FormatMismatchError, match=r"has no header, its first line is 17,acme,2: write .* or name them with --log"
    ):
        refuse_headless(Block(b"\n17,acme,2\n18,acme,3\n"))
    refuse_headless(Block(b"GET /a, 17 times\n"))
    refuse_headless(Block(b""))


TEXTS = st.lists(st.tuples(st.integers(0, 9999), st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)), min_size=1)


@given(TEXTS, st.integers(1, 5))
def test_what_the_csv_module_writes_is_read_back_however_lines_are_dealt_out(
    table: list[tuple[int, str]], size: int
) -> None:
    # A block has neither carriage returns nor zero bytes.
    table = [(number, key.replace("\r", "").replace("\0", "")) for number, key in table]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["time", "key"])
    writer.writerows(table)
    columns, _, skipped, _ = split(text.getvalue(), lines=size)
    assert skipped == []
    assert columns["time"] == [str(number) for number, _ in table]
    assert columns["key"] == [None if key == "\\N" else key for _, key in table]


FIELDS = st.text(st.sampled_from('a1",\n -\\|#x\t'), max_size=5)


@settings(max_examples=150)
@given(st.lists(st.lists(FIELDS, min_size=1, max_size=4).map(",".join), max_size=8), st.integers(0, 3))
def test_pyarrow_and_the_exact_reader_agree(lines: list[str], size: int) -> None:
    text = "\n".join(["time,key,say", "1,a,x", *lines, ""])
    splitter = CSV.splitter(Block(text.encode()))
    assume(splitter is not None)
    names = [name for name in ("time", "key", "say") if splitter is not None and name in splitter.names]
    fast = split(text, names, lines=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "_in_order", lambda data, dialect: False)
        assert split(text, names, lines=size) == fast


DAMAGE = st.text(st.sampled_from('a1",;|\n -\\#=\t+'), max_size=30)


@settings(max_examples=100)
@given(DAMAGE, st.integers(0, 60), st.integers(0, 3))
def test_whatever_the_damage_every_line_is_a_record_lost_or_ignored(damage: str, at: int, size: int) -> None:
    text = 'time,key,cost\n1,"a, b",2\n2,b,3\n3,"c\nd",4\n4,d,5\n'
    text = text[:at] + damage + text[at:]
    splitter = CSV.splitter(Block(text.encode() if text.endswith("\n") else text.encode() + b"\n"))
    if splitter is not None:
        columns, line, skipped, ignored = split(text, [], lines=size)
        assert columns == {}
        assert line == sorted(line)
        assert len(line) + len(skipped) + ignored <= sum(bool(text.strip()) for text in text.split("\n"))


@pytest.mark.parametrize("line", ["-" * 120_000 + "x", '"' * 120_001, "," * 120_000, '"x ' * 40_001, "1." * 60_000])
def test_a_hostile_line_costs_its_length(line: str) -> None:
    # With a pattern that tries again from each character these would take minutes.
    assert split("time,key\n1,a\n2,b\n" + line + "\n", ["key"])[2] == ([] if line[:2] == "--" else [line[:200]])
