import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import traffic
from traffic import LogError, Trace, read_log
from traffic.chunks import BLOCK_BYTES
from traffic.formats import READERS
from traffic.formats.csv_columns import CSV, RECORD_CHARACTERS
from traffic.formats.field_selection import FieldSelection
from traffic.formats.rows import Rows

AZURE = Path(traffic.__file__).parent / "data" / "azure_llm_code_500.csv.gz"


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, name: str = "requests.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def names(trace: Trace) -> list[str]:
    return [trace.keys[key] for key in trace.key]


# A real trace. The sums were taken with awk from the inflated file, not with this reader.


def test_the_real_trace_has_500_requests_of_one_key_that_cost_1093698_tokens() -> None:
    trace = read_log(AZURE, cost="ContextTokens+GeneratedTokens")
    assert (len(trace), trace.keys) == (500, ("all",))
    assert trace.cost.sum() == 1_081_658 + 12_040
    assert trace.cost[0] == 4808 + 10
    assert (trace.provenance.lines, trace.provenance.skipped, trace.provenance.notes) == (500, 0, ())


def test_the_real_trace_keeps_its_fractions_of_a_second() -> None:
    trace = read_log(AZURE)
    assert trace.time[0] == 1700158623.97996  # date -d "2023-11-16 18:17:03.97996 UTC" +%s.%N
    assert trace.time[-1] == 1700158856.781047
    assert trace.cost.tolist() == [1.0] * 500


# What a line says


def test_a_line_becomes_a_request(file: Callable[..., Path]) -> None:
    path = file("when,who,tokens,place\n10,alice,5,x\n11.5,bob,0.25,y\n12,alice,0,x\n")
    trace = read_log(path, time="when", key="who", cost="tokens")
    assert trace.time.tolist() == [10.0, 11.5, 12.0]
    assert names(trace) == ["alice", "bob", "alice"]
    assert trace.cost.tolist() == [5.0, 0.25, 0.0]
    assert trace.session.tolist() == trace.key.tolist()
    assert trace.endpoints == ("-",)
    assert trace.provenance.source == str(path)


def test_columns_are_found_by_name_and_not_by_place(file: Callable[..., Path]) -> None:
    one = read_log(file("time,key,cost\n1,a,2\n3,b,4\n"), key="key", cost="cost")
    other = read_log(file("cost,time,other,key\n2,1,,a\n4,3,,b\n"), key="key", cost="cost")
    assert one == other


@pytest.mark.parametrize("name", ["time", "Timestamp", "TIMESTAMP", "@timestamp", "ts", "DateTime"])
def test_a_column_called_as_times_are_is_the_time_unless_another_is_named(file: Callable[..., Path], name: str) -> None:
    path = file(f"at,{name}\n5,10\n")
    assert read_log(path).time.tolist() == [10.0]
    assert read_log(path, time="at").time.tolist() == [5.0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate(file: Callable[..., Path], separator: str) -> None:
    path = file("time,key,cost\n1,a,2\n3,b,4\n".replace(",", separator))
    assert names(read_log(path, key="key")) == ["a", "b"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_endings_and_a_byte_order_mark_do_not_show(
    file: Callable[..., Path], ending: str, mark: str, last: bool
) -> None:
    lines = ["time,cost,key", "1,2,a", '3,4,"b"', "5,6,a"]
    trace = read_log(file(mark + ending.join(lines) + (ending if last else "")), key="key", cost="cost")
    assert trace.keys == ("a", "b")
    assert trace.cost.tolist() == [2.0, 4.0, 6.0]
    assert trace.provenance.skipped == 0


def test_quoted_fields_hold_separators_quotes_and_line_breaks(file: Callable[..., Path]) -> None:
    text = 'time,"key"\n1,"a,b"\n"2","say ""hi"""\n3,"two\r\nlines"\n4,"three\n\nlines"\n5,5" disk\n'
    trace = read_log(file(text), key="key")
    assert names(trace) == ["a,b", 'say "hi"', "two\nlines", "three\n\nlines", '5" disk']
    assert trace.provenance.skipped == 0


def test_a_quote_that_is_never_closed_costs_its_own_line(file: Callable[..., Path]) -> None:
    trace = read_log(file('time,key\n1,a\n2,"b\n3,c\n4,d\n5,"e"x\n6,f\n7,"g\n'), key="key")
    assert names(trace) == ["a", "c", "d", "f"]
    assert trace.provenance.examples == ('2,"b', '5,"e"x', '7,"g')


def test_a_quote_that_is_never_closed_costs_its_own_line_in_a_large_file_too(file: Callable[..., Path]) -> None:
    lines = [f"{i},key-{i}" for i in range(30_000)]
    lines[10] = '10,"open'
    text = "time,key\n" + "\n".join(lines) + "\n"
    assert len(text) > 2 * BLOCK_BYTES > RECORD_CHARACTERS
    trace = read_log(file(text), key="key")
    assert (len(trace), trace.provenance.skipped) == (29_999, 1)


TABLES = st.lists(st.tuples(st.integers(0, 9999), st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)), min_size=1)


@given(TABLES, st.integers(1, 5), st.booleans())
def test_what_the_csv_module_writes_is_read_back_however_lines_are_dealt_out(
    table: list[tuple[int, str]], size: int, crlf: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n" if crlf else "\n")
    writer.writerow(["time", "key"])
    # A line break within a field is read as a line feed.
    table = [(t, key.replace("\r", "")) for t, key in table]
    writer.writerows(table)
    reader, rows = CSV(FieldSelection(key="key")), Rows()
    lines = text.getvalue().split("\n")
    for at in range(0, len(lines), size):
        reader.read(lines[at : at + size], rows)
        rows.line += len(lines[at : at + size])
    assert rows.skipped == 0
    if all(key in ("", "-") for _, key in table):
        return
    reader.close(rows)
    trace = rows.trace("here")
    assert sorted(zip(trace.time.tolist(), names(trace), strict=True)) == sorted((t, key or "-") for t, key in table)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_files_read_alike(file: Callable[..., Path], compress: Callable[[bytes], bytes]) -> None:
    text = b"time,key\n" + b"".join(b"%d,key-%d\n" % (i, i % 7) for i in range(50_000))
    plain, packed = file(text), file(compress(text), "packed")
    assert read_log(packed, key="key") == read_log(plain, key="key")
    with pytest.raises(LogError, match="inflates to more than 1000 bytes"):
        read_log(packed, max_bytes=1000)


def test_progress_ends_at_the_size_of_the_file() -> None:
    seen: list[tuple[int, int]] = []
    read_log(AZURE, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4440, 4440)


# Times, keys and costs


def test_times_may_be_iso_text_and_numbers_of_any_unit(file: Callable[..., Path]) -> None:
    for column in (["2023-11-14 22:13:20.5", "2023-11-15T00:13:21+02:00"], ["1700000000500", "1700000001000"]):
        trace = read_log(file("time\n" + "\n".join(column) + "\n"), format="csv")
        assert trace.time.tolist() == [1700000000.5, 1700000001.0]
    assert trace.provenance.notes == ("time taken for milliseconds by its size",)


def test_a_unit_that_is_given_is_taken_and_not_noted(file: Callable[..., Path]) -> None:
    trace = read_log(file("time\n500\n1500\n"), format="csv", time_unit="ms")
    assert trace.time.tolist() == [0.5, 1.5]
    assert trace.provenance.notes == ()


def test_an_unknown_unit_is_an_error_that_names_those_known(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match=r"requests\.csv: unknown time_unit 'h'; the units known are s, ms, us, ns, iso"):
        read_log(file("time,key\n1,a\n"), time_unit="h")  # type: ignore[arg-type]


def test_times_out_of_order_are_sorted_and_said(file: Callable[..., Path]) -> None:
    trace = read_log(file("time,key\n3,c\n1,a\n2,b\n"), key="key")
    assert names(trace) == ["a", "b", "c"]
    assert trace.provenance.notes == ("time out of order: 2 rows sorted",)


def test_several_columns_make_a_key_and_a_column_may_have_a_plus(file: Callable[..., Path]) -> None:
    path = file("time,a,b,a+b\n1,x,y,z\n")
    assert names(read_log(path, key="b+a")) == ["y+x"]
    assert names(read_log(path, key="a+b")) == ["z"]


def test_an_empty_key_is_a_dash_as_in_an_access_log(file: Callable[..., Path]) -> None:
    assert names(read_log(file("time,key\n1,a\n2,\n3,a\n"), key="key")) == ["a", "-", "a"]


def test_a_key_that_is_empty_in_every_line_is_an_error(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="nothing in the field 'key' of the key in any line; its fields are time, key, user"):
        read_log(file("time,key,user\n1,,a\n2,,b\n"), key="user+key")


def test_costs_are_expressions_over_columns_or_a_column_of_any_name(file: Callable[..., Path]) -> None:
    path = file("time,in,out,in-out,Total ($)\n1,4808,10,1,3\n2,110,27,2,4\n")
    assert read_log(path, cost="out * 2 + 1").cost.tolist() == [21.0, 55.0]
    assert read_log(path, cost="in-out").cost.tolist() == [1.0, 2.0]
    assert read_log(path, cost="Total ($)").cost.tolist() == [3.0, 4.0]
    with pytest.raises(LogError, match=r"requests\.csv: cost: 'in \+ out' is not an expression"):
        read_log(path, cost="in + out")  # `in` is a word of Python's own


# What cannot be read


@pytest.mark.parametrize("bad", ["x,b,1", ",b,1", "2,b,x", "2,b,", "2,b", "2,b,1,1", '2,"b,1', "nan,b,1"])
def test_a_line_without_a_time_or_cost_or_with_other_columns_is_counted_and_shown(
    file: Callable[..., Path], bad: str
) -> None:
    trace = read_log(file(f"time,key,cost\n1,a,2\n{bad}\n3,c,4\n"), key="key", cost="cost")
    assert names(trace) == ["a", "c"]
    assert trace.cost.tolist() == [2.0, 4.0]
    assert (trace.provenance.lines, trace.provenance.parsed, trace.provenance.skipped) == (3, 2, 1)
    assert trace.provenance.examples == (bad,)


@pytest.mark.parametrize(
    ("bad", "shown"), [("-1", "-1"), ("nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("1e999", "inf")]
)
def test_a_cost_that_is_negative_or_not_finite_is_an_error_that_names_the_line(
    file: Callable[..., Path], bad: str, shown: str
) -> None:
    path = file(f'\n\ntime,key,cost\nx,,\n1,"two\nlines",2\n2,b,{bad}\n3,c,-5\n')
    with pytest.raises(LogError) as caught:
        read_log(path, key="key", cost="cost")
    assert str(caught.value) == f"{path}: line 7: its cost is {shown}; a cost is a finite number >= 0"


def test_a_line_number_counts_through_blocks(file: Callable[..., Path]) -> None:
    lines = ["time,cost", *(f"{i},1" for i in range(40_000))]
    lines[30_000] = "5,-1"
    assert sum(map(len, lines)) > 2 * BLOCK_BYTES
    with pytest.raises(LogError, match="line 30001: its cost is -1"):
        read_log(file("\n".join(lines)), cost="cost")


def test_a_line_number_counts_blank_blocks(file: Callable[..., Path]) -> None:
    blank = 2 * BLOCK_BYTES
    with pytest.raises(LogError, match=f"line {blank + 2}: its cost is -1"):
        read_log(file("\n" * blank + "time,cost\n5,-1\n"), cost="cost")


def test_a_division_by_zero_is_an_error_that_names_the_line(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="line 3: its cost is inf"):
        read_log(file("time,a,b\n1,1,1\n2,1,0\n"), cost="a/b")


@pytest.mark.parametrize(
    ("wish", "use", "name"),
    [
        ({"time": "when"}, "time", "when"),
        ({"key": "color"}, "key", "color"),
        ({"key": "user+color"}, "key", "color"),
        ({"cost": "tokens"}, "cost", "tokens"),
        ({"cost": "a+tokens*2"}, "cost", "tokens"),
    ],
)
def test_a_missing_column_is_an_error_that_names_it_and_those_known(
    file: Callable[..., Path], wish: dict[str, str], use: str, name: str
) -> None:
    path = file("time,user,a\n1,x,2\n")
    with pytest.raises(LogError) as caught:
        read_log(path, **wish)  # type: ignore[arg-type]
    assert str(caught.value) == f"{path}: has no field '{name}' for the {use}; its fields are time, user, a"


def test_of_many_columns_the_first_twenty_are_named_and_safe_to_print(file: Callable[..., Path]) -> None:
    path = file("time," + ",".join(f"\x1bc{i}" for i in range(30)) + "\n")
    with pytest.raises(LogError, match=r"\\x1bc18 and 11 more$") as caught:
        read_log(path, key="color")
    assert str(caught.value).isprintable()


def test_without_a_column_called_as_times_are_one_must_be_named(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="name one with time=; its fields are a, b"):
        read_log(file("a,b\n1,2\n"))


def test_two_columns_of_one_name_are_an_error_if_that_is_wished(file: Callable[..., Path]) -> None:
    path = file("time,a,a,b\n1,2,3,4\n")
    assert read_log(path, cost="b").cost.tolist() == [4.0]
    with pytest.raises(LogError, match="has 2 columns called 'a'"):
        read_log(path, cost="a")


@pytest.mark.parametrize("text", ["time,key\n", "time,key", "\ufeff\r\ntime,key\r\n\r\n"])
def test_a_header_alone_is_an_error(file: Callable[..., Path], text: str) -> None:
    with pytest.raises(LogError, match=r"requests\.csv: has a header and no line below it"):
        read_log(file(text))


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "\r\n"])
def test_an_empty_file_is_an_error(file: Callable[..., Path], text: str) -> None:
    with pytest.raises(LogError, match=r"requests\.csv: is empty"):
        read_log(file(text))


def test_a_file_in_which_no_line_parses_is_an_error_that_shows_the_first(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match=r"none of its 2 lines is a request in format csv .* It begins: x,a \| y,b"):
        read_log(file("time,key\nx,a\ny,b\n"))


# Which format it is


def test_a_csv_file_is_known_by_its_header_whatever_its_name(file: Callable[..., Path]) -> None:
    assert len(read_log(file("time,key\n1,a\n", "requests.log"))) == 1
    assert len(read_log(file("when;key\n1;a\n", "requests.log"), time="when")) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv.zst"])
def test_a_csv_file_without_a_known_time_is_known_by_its_name(file: Callable[..., Path], name: str) -> None:
    text = b"a,b\n1,2\n"
    if name.endswith("gz"):
        text = gzip.compress(text)
    if name.endswith("zst"):
        text = zstandard.ZstdCompressor().compress(text)
    assert read_log(file(text, name), time="b").time.tolist() == [2.0]
    with pytest.raises(LogError, match="name one with time="):
        read_log(file(text, name))


def test_an_access_log_called_csv_is_an_access_log(file: Callable[..., Path]) -> None:
    line = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a,b HTTP/1.1" 200 1 "-" "a, b"\n'
    assert read_log(file("time,x\n" + line * 3)).keys == ("10.0.0.1",)


def test_the_registry_has_csv() -> None:
    assert READERS["csv"] is CSV


def test_a_field_of_a_hundred_thousand_quotes_takes_linear_time() -> None:
    reader, rows = CSV(FieldSelection()), Rows()
    reader.read(["time,key", *['1,"' + 'a""' * 30_000] * 3, *["1,'\"" for _ in range(1000)], "2,b"], rows)
    reader.close(rows)
    assert np.concatenate(rows._columns["time"])[-1] == 2.0
