import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.formats import json_kernel
from traffic.formats.base import Block, Fields, FormatMismatchError
from traffic.formats.json_records import JSON, MAX_NAMES, RECORD_BYTES, SMALL, JSONLines, JSONStream, column, repaired
from traffic.inputs import text_lines


def split(text: str | bytes, *needed: str, lines: int = 0) -> Fields:
    """Read a text in one block, or in blocks of so many lines."""
    data = text if isinstance(text, bytes) else text.encode()
    data = data if data.endswith(b"\n") else data + b"\n"
    splitter = JSON.splitter(Block(data))
    assert splitter is not None
    whole = data.splitlines(keepends=True)
    parts = []
    for at in range(0, len(whole), lines or len(whole)):
        parts.append(splitter.split(Block(b"".join(whole[at : at + (lines or len(whole))]), at + 1), needed))
    held = splitter.close(needed)
    return joined([*parts, held] if held is not None else parts, needed)


def joined(parts: Iterable[Fields], needed: Iterable[str]) -> Fields:
    parts = list(parts)
    columns = {name: column([value for part in parts for value in part.columns[name].to_pylist()]) for name in needed}
    line = [int(number) for part in parts for number in part.line]
    skipped = [text for part in parts for text in part.skipped]
    return Fields(columns, line, skipped, sum(part.ignored for part in parts))  # type: ignore[arg-type]


def values(fields: Fields, name: str) -> list[Any]:
    return fields.columns[name].to_pylist()  # type: ignore[no-any-return]


def test_a_line_is_a_record_of_the_fields_that_are_needed() -> None:
    fields = split(
        '{"when": 10, "user": {"id": 7}, "cost": 5}\n{"when": 11, "user": {"id": 8}, "cost": 0.25}', "user.id", "cost"
    )
    assert {name: array.to_pylist() for name, array in fields.columns.items()} == {"user.id": [7, 8], "cost": [5.0, 0.25]}
    assert fields.columns["user.id"].type == pa.int64()
    assert (list(fields.line), fields.skipped, fields.ignored) == ([1, 2], [], 0)


def test_names_stand_in_order_of_appearance_those_of_inner_objects_in_their_place() -> None:
    splitter = JSON.splitter(Block(b'{"time": 1, "a": {"b": 1, "d": {"e": 2}}, "z": [{"y": 1}]}\n{"late": 1}\n'))
    assert splitter is not None
    assert splitter.names == ("time", "a.b", "a.d.e", "z", "late")


def test_the_names_of_a_log_are_bounded() -> None:
    splitter = JSON.splitter(Block(json.dumps({f"f{i}": i for i in range(2 * MAX_NAMES)}).encode() + b"\n"))
    assert splitter is not None
    assert len(splitter.names) == MAX_NAMES


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        ({"a": {"b": {"c": "deep"}}}, "a.b.c", "deep"),
        ({"a.b.c": "flat", "a": {"b": {"c": "deep"}}}, "a.b.c", "flat"),
        ({"labels": {"app.io/name": "x"}}, "labels.app.io/name", "x"),
        ({"h": {"X-Forwarded-For": ["203.0.113.7, 10.0.0.2"]}}, "h.X-Forwarded-For", "203.0.113.7, 10.0.0.2"),
        ({"h": {"X-Forwarded-For": ["203.0.113.7", "10.0.0.2"]}}, "h.X-Forwarded-For", "203.0.113.7, 10.0.0.2"),
        ({"h": {"X-Forwarded-For": ["203.0.113.7", "10.0.0.2"]}}, "h.X-Forwarded-For.1", "10.0.0.2"),
        ({"l": [{"ip": "x"}, {"ip": "y"}]}, "l.1.ip", "y"),
        ({"l": ["x"]}, "l.7", None),
        ({"message": '{"ip": "x", "b": {"c": 1}}'}, "message.b.c", 1),
        ({"ts": {"$date": {"$numberLong": "1715322324512"}}}, "ts", "1715322324512"),
        ({"a": 5}, "a.b", None),
        ({"a": None}, "a.b", None),
        ({'say "a"': 1}, 'say "a"', 1),
        ({"1": {"2": 3}}, "1.2", 3),
        ({}, "a", None),
    ],
)
def test_a_path_leads_into_objects_lists_and_spelled_json(record: dict[str, Any], path: str, value: object) -> None:
    other = {"a": {"b": {"c": 1}}}
    assert values(split(json.dumps({"t": 1, **record}) + "\n" + json.dumps(other), path), path)[0] == value


def test_a_field_and_a_part_of_it_may_both_be_needed() -> None:
    fields = split('{"a": {"b": 1, "c": 2}}', "a", "a.b")
    assert (values(fields, "a"), values(fields, "a.b")) == (['{"b":1,"c":2}'], [1])


@pytest.mark.parametrize(
    ("spelled", "read"),
    [
        (["1", "2"], [1, 2]),
        (["1715322324512345678", "2"], [1715322324512345678, 2]),
        (["1715322324512345678", "1.5"], ["1715322324512345678", "1.5"]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", '"x"'], ["1", "x"]),
        (["true", "1"], ["true", "1"]),
        (["null", '""'], [None, ""]),
        (['[1, "a"]', "{}"], ['[1,"a"]', "{}"]),
        (["18446744073709551616", "1"], ["18446744073709551616", "1"]),
        ([r'"\ud800"', '"é"'], ["\\ud800", "é"]),
        (["NaN", "1"], [pytest.approx(float("nan"), nan_ok=True), 1.0]),
        (["-Infinity", "1e999"], [-float("inf"), float("inf")]),
        (['1, "v": 2', "3"], [2, 3]),
    ],
)
def test_values_are_spelled_as_in_json_unless_all_are_numbers(spelled: list[str], read: list[Any]) -> None:
    fields = split("".join(f'{{"v": {value}}}\n' for value in spelled), "v")
    assert values(fields, "v") == read
    assert fields.skipped == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r'{"ua": "say \x22hi\x22 \xC3\xA9", "v": 1}', 'say "hi" é'),
        (r'{"ua": "C:\dir \"q\" \\x22", "v": 1}', 'C:\\dir "q" \\x22'),
        ('{"v": -, "ua": "a:-,b"}', "a:-,b"),
        ('{"v":,"ua":"x"}', "x"),
        ('{"ua":"x","v":}', "x"),
        ('{"ua":"x","v":-}', "x"),
        ('{"ua": "x", "v": 1,}', "x"),
        ('{"v": 0.001, 0.002 : -, "ua": "x"}', "x"),
        ('{"ua": "tab\there"}', "tab\there"),
        ('{"ua": 10/May/2024:06:25:24 +0000, "v": 1}', "10/May/2024:06:25:24 +0000"),
        ('{"v": 1.5e3, "ua": 203.0.113.7}', "203.0.113.7"),
        ('{"v": -, 0.002, "ua": "x", "w": null}', "x"),
        ('[{"ua": "x"},', "x"),
        (',{"ua": "x"}', "x"),
        ('{"ua": "x"}]', "x"),
        ('\x1e{"ua": "x"}', "x"),
    ],
)
def test_a_line_whose_meaning_is_certain_is_repaired(line: str, value: str) -> None:
    fields = split(f'{{"ua": "first"}}\n{line}\n{{"ua": "last"}}\n', "ua")
    assert values(fields, "ua") == ["first", value, "last"]


def test_json_in_a_text_is_read_where_some_records_have_it_spelled_and_some_not() -> None:
    lines = [
        json.dumps({"message": json.dumps({"ip": "x"})}),
        '{"message": "GET /"}',
        '{"message": {"ip": "y"}}',
        '{"message": "{"}',
    ]
    assert values(split("\n".join(lines), "message.ip", "message"), "message.ip") == ["x", None, "y", None]
    assert values(split("\n".join(lines), "message.ip"), "message.ip") == ["x", None, "y", None]


def test_what_has_no_quotes_is_text_and_what_is_empty_is_nothing() -> None:
    assert json.loads(repaired('{"a": 0.001, 0.002 : -, "b": [1, 2], "c": -, "d":, "e": a, b, "f": -1.5e+3, "g":true}')) == {
        "a": "0.001, 0.002 : -",
        "b": [1, 2],
        "c": None,
        "d": None,
        "e": "a, b",
        "f": -1500.0,
        "g": True,
    }


BAD = [
    *("[1, 2]", "3", '"time"', "null", '{"time": 2', "{'time': 2}", '{"time": 2} {"time": 3}', "junk", '{"a" 1}', "{"),
    *('{"time": ' + "[" * 100_000, '{"a":' * 20_000, '{"ua": "x}'),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_is_no_object_is_lost_and_shown(bad: str) -> None:
    good = '{"time": 1}\n' * 10
    fields = split(f"{good}{bad}\n \n{good}", "time")
    assert len(fields) == 20
    assert fields.skipped == [bad[:200]]
    assert list(fields.line) == [*range(1, 11), *range(13, 23)]


def test_the_lines_of_an_array_around_them_are_ignored() -> None:
    fields = split('[\n{"t": 1},\n{"t": 2}\n,\n{"t": 3}\n]\n', "t")
    assert (values(fields, "t"), fields.skipped, fields.ignored) == ([1, 2, 3], [], 3)


def test_lines_of_objects_are_read_by_threads_in_any_order() -> None:
    splitter = JSON.splitter(Block(b'{"a": 1}\n'))
    assert isinstance(splitter, JSONLines)
    assert not splitter.in_order


RECORDS = [{"time": i, "a": {"b": 'x}{"\\'}, "l": [{"q": 1}, {"q": 2}], "status": 200 + i} for i in range(4)]
SHAPES = {
    "pretty array": json.dumps(RECORDS, indent=2),
    "pretty array without blanks": json.dumps(RECORDS, indent=0),
    "array on a line": json.dumps(RECORDS),
    "arrays on lines": json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:]),
    "pretty objects": "\n".join(json.dumps(record, indent=4) for record in RECORDS),
    "pretty objects in RFC 7464": "".join(f"\x1e{json.dumps(record, indent=4)}\n" for record in RECORDS),
    "objects without line feeds": "".join(json.dumps(record) for record in RECORDS),
    "CloudTrail": json.dumps({"Records": RECORDS}),
    "Azure": json.dumps({"records": RECORDS}, indent=1),
    "answers on lines": json.dumps({"entries": RECORDS[:2]}) + "\n" + json.dumps({"entries": RECORDS[2:]}),
    "an object alone": json.dumps({"a": {"whatever it is": RECORDS}}, indent=2),
    "CloudWatch": json.dumps({"owner": "1", "subscriptionFilters": ["x"], "logEvents": RECORDS}),
    "Elasticsearch": json.dumps(
        {"took": 1, "_shards": {"total": 1}, "hits": {"total": {"value": 4}, "hits": RECORDS}}, indent=1
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_objects_of_several_lines_or_several_on_a_line_are_found(shape: str, lines: int) -> None:
    fields = split(SHAPES[shape], "time", "a.b", "status", lines=lines)
    assert values(fields, "time") == [0, 1, 2, 3]
    assert values(fields, "a.b") == ['x}{"\\'] * 4
    assert values(fields, "status") == [200, 201, 202, 203]
    assert (fields.skipped, fields.ignored) == ([], 0)


def test_a_record_of_several_lines_is_numbered_by_its_first() -> None:
    assert list(split(SHAPES["pretty array"], "time", lines=3).line) == [2, 17, 32, 47]


def test_lines_with_inner_arrays_are_records_themselves() -> None:
    text = '{"time": 1, "items": [{"a": 1}, {"a": 2}]}\n{"time": 2, "items": [{"a": 1}]}\n'
    assert values(split(text, "time"), "time") == [1, 2]


@pytest.mark.parametrize("lines", [0, 1, 7])
@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ('"time": 1,', '"time: 1,', [0, 2, 3]),
        ('    "status": 201\n  },\n', "", [0, 2, 3]),
        ('    "time": 1,\n', '    "time": 1,\n    {\n', [0, 2, 3]),
        ('    "status": 201\n  },', '    "status": 201\n  }}}],', [0, 1, 2, 3]),
    ],
)
def test_a_damaged_object_of_several_lines_costs_itself(old: str, new: str, left: list[int], lines: int) -> None:
    text = SHAPES["pretty array"]
    assert text.count(old) == 1
    fields = split(text.replace(old, new), "time", lines=lines)
    assert values(fields, "time") == left
    assert len(fields.skipped) == 4 - len(left)


def test_an_object_that_the_end_cuts_is_lost_and_said() -> None:
    fields = split(SHAPES["pretty array"][:-60], "time")
    assert values(fields, "time") == [0, 1, 2]
    assert fields.skipped == ["{"]


def test_text_between_objects_of_several_lines_is_lost_and_said() -> None:
    text = SHAPES["pretty objects"].replace("}\n{", "}\nIt's started\n\n{", 1)
    fields = split(text, "time")
    assert values(fields, "time") == [0, 1, 2, 3]
    assert fields.skipped == ["It's started"]


def test_an_object_that_never_ends_does_not_take_all_memory() -> None:
    start = Block(SHAPES["pretty array"].removesuffix("]").encode())
    splitter = JSON.splitter(start)
    assert isinstance(splitter, JSONStream)
    assert len(splitter.split(start, ("time",))) == 4
    never = Block(b'  {"a": [\n' + b"    1,\n" * (RECORD_BYTES // 6), 62)
    assert splitter.split(never, ("time",)).skipped == ['{"a": [']
    after = splitter.split(Block(b'  {"time": 5}\n', 999_999), ("time",))
    assert after.columns["time"].to_pylist() == [5]


def test_a_long_array_on_one_line_is_read_to_its_end() -> None:
    text = json.dumps([{"time": i, "pad": "x" * 100, "l": [{"q": 1}, {"q": 2}]} for i in range(20_000)]).encode()
    pieces = [text[at : at + 1_000_000] for at in range(0, len(text), 1_000_000)]
    blocks = list(text_lines.blocks(text[:100], pieces))
    splitter = JSON.splitter(Block(blocks[0]))
    assert splitter is not None
    assert len(blocks) > 1
    parts = [splitter.split(Block(block, number), ("time",)) for number, block in enumerate(blocks, 1)]
    assert [value for part in parts for value in part.columns["time"].to_pylist()] == list(range(20_000))


def test_compiled_and_plain_loops_find_the_same_objects() -> None:
    text = "\n".join([json.dumps(RECORDS, indent=2)] * (SMALL // len(SHAPES["pretty array"]) + 1)).replace("]\n[", ",")
    large = split(text, "time")
    assert len(text) > SMALL
    assert values(large, "time") == values(split(text, "time", lines=100), "time")
    assert len(large) % 4 == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{'time': 1, 'a': None}\n", "has Python's spelling of dictionaries, not JSON; write each with json.dumps"),
        (json.dumps({"a": RECORDS[0], "b": RECORDS[1]}, indent=1), "is one object of many records; write each as an object"),
        (json.dumps({"time": [1, 2], "ip": ["x", "y"]}), "is one object of many records; write each as an object"),
        (json.dumps({"columns": ["time"], "data": [[1]]}), "is one object of many records; write each as an object"),
        ('{"status":"success","data":{"resultType":"streams","result":[]}}', "is an answer of Loki's API; write lines with"),
    ],
)
def test_what_is_certainly_something_else_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(FormatMismatchError, match=complaint):
        JSON.splitter(Block(text.encode()))


@pytest.mark.parametrize(
    "text", ["", "\n\n", "hello\n", '"x"\n', "{\n", "[\n]\n", "[1,2]\n", '[["a",1]]\n', "time,key\n1,a\n"]
)
def test_other_texts_are_no_json(text: str) -> None:
    assert JSON.splitter(Block(text.encode())) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["time", "a", "b.c", "b", "c"]), inner),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5))
def test_whatever_the_values_every_line_is_a_record_or_lost(values: list[Any]) -> None:
    lines = ['{"time": 1, "a": 1, "b": {"c": 2}}'] * 9 + [json.dumps(value) for value in values]
    fields = split("\n".join(lines), "b.c", "a", "time")
    assert len(fields) + len(fields.skipped) == len(lines)
    assert all(len(array) == len(fields) for array in fields.columns.values())
    assert len(fields) >= 9 + sum(isinstance(value, dict) for value in values)


PIECES = st.lists(st.sampled_from([*'{}[]":,\\\n -1ax', '{"a": 1}', '"a": ', "\\x22", "}\n{"]), max_size=40).map("".join)


@settings(max_examples=100)
@given(PIECES, st.sampled_from(sorted(SHAPES)), st.integers(0, 200), st.integers(0, 3))
def test_whatever_the_damage_nothing_raises_and_what_is_before_it_is_read(
    damage: str, shape: str, at: int, lines: int
) -> None:
    text = SHAPES[shape]
    text = text[:at] + damage + text[at:]
    try:
        splitter = JSON.splitter(Block(text.encode() + b"\n"))
    except FormatMismatchError:
        return
    if splitter is not None:
        fields = split(text, "time", lines=lines)
        assert all(len(array) == len(fields) for array in fields.columns.values())
        assert all(text.strip() and "\n" not in text for text in fields.skipped)
        assert list(fields.line) == sorted(fields.line)


@given(PIECES, st.integers(0, 2), st.integers(-1, 1))
def test_the_objects_found_never_overlap(text: str, level: int, indent: int) -> None:
    data = text.encode()
    state = [level, 1 << (level - 1) if level else 0, 0]
    room = data.count(b"{") + 1
    starts, stops = [0] * room, [0] * room
    count, rest = json_kernel.find(data, state, level, indent, True, starts, stops)
    ends = [abs(stop) for stop in stops[:count]]
    assert all(start < end for start, end in zip(starts, ends, strict=False))
    assert all(end <= start for end, start in zip(ends, starts[1:count], strict=False))
    assert rest == len(data)


HOSTILE = [
    '{"a"' + ":1" * 60_000,
    '"' + '\\"' * 60_000,
    "{" + ":1," * 40_000,
    '{"a":' + " " * 120_000,
    '{"x":[{"a":' + "1," * 60_000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_costs_its_length(line: str) -> None:
    # With a pattern that tries again from each character these would take minutes.
    assert split('{"a": 1}\n' * 9 + line, "a").skipped == [line[:200].strip()]
