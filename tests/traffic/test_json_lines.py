import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic import LogError, Trace, read_log
from traffic.chunks import BLOCK_BYTES
from traffic.formats import READERS
from traffic.formats.field_selection import FieldSelection
from traffic.formats.json_lines import JSONLines
from traffic.formats.rows import Rows


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: Any, name: str = "requests.jsonl") -> Path:
        path = tmp_path / name
        spelled = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_bytes("".join(f"{line}\n" for line in spelled).encode())
        return path

    return write


def names(trace: Trace) -> list[str]:
    return [trace.keys[key] for key in trace.key]


def test_a_line_becomes_a_request(file: Callable[..., Path]) -> None:
    path = file({"when": 10, "user": {"id": 7}, "tokens": 5}, {"when": 11.5, "user": {"id": "u-8"}, "tokens": 0.25})
    trace = read_log(path, time="when", key="user.id", cost="tokens")
    assert trace.time.tolist() == [10.0, 11.5]
    assert names(trace) == ["7", "u-8"]
    assert trace.cost.tolist() == [5.0, 0.25]
    assert trace.session.tolist() == trace.key.tolist()
    assert trace.provenance.lines == trace.provenance.parsed == 2


def test_without_a_key_there_is_one(file: Callable[..., Path]) -> None:
    assert read_log(file({"time": 1}, {"time": 2})).keys == ("all",)


def test_times_are_numbers_or_iso_text(file: Callable[..., Path]) -> None:
    assert read_log(file({"ts": 1700000000500}, {"ts": 1700000001000})).time.tolist() == [1700000000.5, 1700000001.0]
    assert read_log(file({"ts": "2023-11-14T22:13:20.5Z"}, {"ts": "2023-11-14 22:13:21"})).time.tolist() == [
        1700000000.5,
        1700000001.0,
    ]


def test_a_path_leads_into_objects_unless_a_field_has_that_very_name(file: Callable[..., Path]) -> None:
    path = file({"time": 1, "a": {"b": {"c": "deep"}}}, {"time": 2, "a.b.c": "flat", "a": {"b": {"c": "deep"}}})
    assert names(read_log(path, key="a.b.c")) == ["deep", "flat"]


def test_costs_are_expressions_over_paths(file: Callable[..., Path]) -> None:
    path = file({"time": 1, "usage": {"prompt": 100, "completion": "20"}, "a-b": 3})
    assert read_log(path, cost="usage.prompt + 2 * usage.completion").cost.tolist() == [140.0]
    assert read_log(path, cost="a-b").cost.tolist() == [3.0]


def test_several_fields_make_a_key(file: Callable[..., Path]) -> None:
    path = file({"time": 1, "user": {"id": 7}, "path": "/a+b"}, {"time": 2, "user": None, "path": "/"})
    assert names(read_log(path, key="user.id+path")) == ["7+/a\\+b", "-+/"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("x", "x"),
        (1, "1"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "-"),
        ("", "-"),
        ([1, "a"], '[1,"a"]'),
        ("é", "é"),
        ("\ud800", "\\ud800"),
    ],
)
def test_any_value_is_a_key(file: Callable[..., Path], value: object, name: str) -> None:
    assert names(read_log(file({"time": 1, "key": value}, {"time": 2, "key": "z"}), key="key")) == [name, "z"]


def test_a_field_of_the_key_may_be_missing_here_and_there(file: Callable[..., Path]) -> None:
    early = [{"time": i, "pad": "x" * 100} for i in range(2 * BLOCK_BYTES // 100)]
    trace = read_log(file(*early, {"time": len(early), "user": "late"}), key="user")
    assert trace.keys == ("-", "late")


def test_blank_lines_carriage_returns_and_a_byte_order_mark_do_not_show(file: Callable[..., Path]) -> None:
    trace = read_log(file('\ufeff{"time": 1}\r', "", "  ", '  {"time": 2}\r'))
    assert trace.time.tolist() == [1.0, 2.0]
    assert trace.provenance.skipped == 0


BAD = [
    *("[1, 2]", "3", '"time"', "null", '{"time": 2', "{'time': 2}", '{"time": 2} {"time": 3}', "junk"),
    *('{"time": "x"}', '{"time": null}', '{"time": true, "n": 1}', '{"n": 1}', '{"time": {"a": 1}, "n": 1}'),
    *('{"time": 2}', '{"time": 2, "n": null}', '{"time": 2, "n": "x"}', '{"time": 2, "n": true}', '{"time": 2, "n": [1]}'),
    *('{"time": NaN, "n": 1}', '{"time": 1' + "0" * 400 + ', "n": 1}', '{"time": ' + "[" * 100_000, '{"a":' * 20_000),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_line_without_a_time_or_cost_or_that_is_no_object_is_counted_and_shown(
    file: Callable[..., Path], bad: str
) -> None:
    trace = read_log(file({"time": 1, "n": 2}, bad, {"time": 3, "n": 4}), cost="n")
    assert trace.cost.tolist() == [2.0, 4.0]
    assert (trace.provenance.lines, trace.provenance.skipped) == (3, 1)
    assert trace.provenance.examples == (bad[:200],)


@pytest.mark.parametrize("bad", ["-1", "NaN", "Infinity", "1e999", "1" + "0" * 400, '"nan"'])
def test_a_cost_that_is_negative_or_not_finite_is_an_error_that_names_the_line(file: Callable[..., Path], bad: str) -> None:
    path = file("", {"time": 1, "n": 2}, "junk", f'{{"time": 2, "n": {bad}}}')
    with pytest.raises(LogError, match=r"requests\.jsonl: line 4: its cost is (-1|nan|inf); a cost is a finite number >= 0"):
        read_log(path, cost="n")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"time": "when"}, "has no field 'when' for the time"),
        ({"cost": "tokens"}, "has no field 'tokens' for the cost"),
        ({"cost": "a.b+a.c"}, "has no field 'a.c' for the cost"),
        ({"key": "color"}, "has nothing in the field 'color' of the key in any line"),
        ({"key": "user+color"}, "has nothing in the field 'color' of the key in any line"),
    ],
)
def test_a_missing_field_is_an_error_that_names_it_and_those_known(
    file: Callable[..., Path], wish: dict[str, str], message: str
) -> None:
    path = file({"time": 1, "user": "x", "a": {"b": 1, "d": {"e": 2}}}, {"time": 2, "z": 1})
    with pytest.raises(LogError) as caught:
        read_log(path, **wish)  # type: ignore[arg-type]
    assert str(caught.value) == f"{path}: {message}; its fields are time, user, a.b, a.d.e, z"


def test_without_a_field_called_as_times_are_one_must_be_named(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="name one with time=; its fields are a, b"):
        read_log(file({"a": 1, "b": 2}))


def test_a_file_in_which_no_line_is_an_object_is_an_error(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="none of its 2 lines is a request in format jsonl"):
        read_log(file("[", "]"))


def test_an_empty_file_is_an_error(file: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match="is empty"):
        read_log(file())


def test_json_lines_are_known_by_their_looks_whatever_the_name(file: Callable[..., Path]) -> None:
    path = file({"time": 1, "a": "x,y"}, {"time": 2}, name="a.log")
    assert len(read_log(path)) == 2
    packed = path.with_name("packed")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_log(packed) == read_log(path)
    assert READERS["jsonl"] is JSONLines


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["time", "a", "b.c", "b", "c"]), inner),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5))
def test_whatever_the_values_every_line_is_a_request_or_reported(values: list[Any]) -> None:
    reader, rows = JSONLines(FieldSelection(key="b.c+a")), Rows()
    lines = ['{"time": 1, "a": 1, "b": {"c": 2}}', *map(json.dumps, values)]
    reader.read(lines, rows)
    reader.close(rows)
    assert rows.parsed + rows.skipped == len(lines)
    assert rows.parsed >= 1
