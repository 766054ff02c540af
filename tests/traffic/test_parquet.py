import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.formats import parquet
from traffic.formats.base import Fields, FormatMismatchError
from traffic.formats.parquet import Table


def written(folder: Path, columns: dict[str, Any], suffix: str = "parquet", **options: Any) -> Path:
    path = folder / f"log.{suffix}"
    table = pa.table(columns)
    if suffix == "parquet":
        pq.write_table(table, path, **options)
    else:
        feather.write_feather(table, str(path), **options)
    return path


def read(table: Table, *needed: str, rows: int = 100) -> dict[str, list[Any]]:
    parts = list(table.batches(needed, rows))
    return {name: [value for part in parts for value in part.columns[name].to_pylist()] for name in needed}


COLUMNS: list[tuple[Any, Any]] = [
    (pa.array([1715322324512345678], pa.timestamp("ns", "UTC")), "2024-05-10 06:25:24.512345678Z"),
    (pa.array([1715322324000], pa.timestamp("ms", "Europe/Berlin")), "2024-05-10 06:25:24.000Z"),
    (pa.array([1715322324512], pa.timestamp("ms")), "2024-05-10 06:25:24.512"),
    (pa.array([datetime.date(2024, 5, 10)]), "2024-05-10"),
    (pa.array([datetime.time(6, 25, 24)]), "06:25:24.000000"),
    (pa.array([decimal.Decimal("1.50")]), 1.5),
    (pa.array([decimal.Decimal("1715322324512345678")], pa.decimal128(38, 0)), 1715322324512345678),
    (pa.array([429], pa.int16()), 429),
    (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    (pa.array([1.5], pa.float32()), 1.5),
    (pa.array([True]), "true"),
    (pa.array([b"a\xff"]), "a\\xff"),
    (pa.array([["x", "y"]]), "x"),
    (pa.array(["x"], pa.large_string()), "x"),
    (pa.array(["x"]).dictionary_encode(), "x"),
    (pa.nulls(1), None),
]


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
@pytest.mark.parametrize(("array", "value"), COLUMNS)
def test_a_column_of_any_type_is_text_or_a_number(tmp_path: Path, array: Any, value: Any, suffix: str) -> None:
    table = Table(written(tmp_path, {"x": array}, suffix))
    assert read(table, "x") == {"x": [value]}
    sample = table.sample()
    assert sample.columns["x"].type in (pa.string(), pa.int64(), pa.float64())


def test_a_column_inside_a_struct_is_a_path_unless_one_has_that_very_name(tmp_path: Path) -> None:
    inner = pa.array([{"status": 200, "ip": {"v4": "x"}}, None])
    table = Table(written(tmp_path, {"http": inner, "a": pa.array([{"b": "deep"}] * 2), "a.b": ["flat", "flat"]}))
    assert table.names == ("http.status", "http.ip.v4", "a.b")
    assert read(table, "http.status", "http.ip.v4", "a.b") == {
        "http.status": [200, None],
        "http.ip.v4": ["x", None],
        "a.b": ["flat", "flat"],
    }


def test_a_list_is_its_first_element_and_nothing_without_one(tmp_path: Path) -> None:
    lists = pa.array([["x", "y"], [], None, [None], ["z"]])
    assert read(Table(written(tmp_path, {"l": lists})), "l", rows=2) == {"l": ["x", None, None, None, "z"]}


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_rows_come_in_pieces_and_are_numbered_from_one(tmp_path: Path, suffix: str) -> None:
    options = {"row_group_size": 30} if suffix == "parquet" else {"chunksize": 30}
    table = Table(written(tmp_path, {"n": list(range(100)), "other": ["x"] * 100}, suffix, **options))
    parts = list(table.batches(("n", "nothing"), 40))
    assert table.rows == 100
    assert [value for part in parts for value in part.columns["n"].to_pylist()] == list(range(100))
    assert [int(number) for part in parts for number in part.line] == list(range(1, 101))
    assert max(map(len, parts)) <= 40
    assert all(part.columns["nothing"].null_count == len(part) for part in parts)


def test_a_sample_is_of_all_fields_and_empty_for_an_empty_file(tmp_path: Path) -> None:
    sample = Table(written(tmp_path, {"a": [1] * 2000, "b": ["x"] * 2000})).sample()
    assert (list(sample.columns), len(sample)) == (["a", "b"], 1000)
    empty: Fields = Table(written(tmp_path, {"a": pa.array([], pa.int64())})).sample()
    assert (list(empty.columns), len(empty)) == (["a"], 0)


def test_two_columns_of_one_name_are_refused_if_one_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "b"]), path)
    assert read(Table(path), "b") == {"b": [3]}
    with pytest.raises(FormatMismatchError, match="has several columns called 'a'"):
        read(Table(path), "a")


def test_a_file_that_claims_more_rows_than_it_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, {"a": [1] * 100_000})
    monkeypatch.setattr(parquet, "FREE_ROWS", 10)
    with pytest.raises(FormatMismatchError, match=r"claims 100000 rows in [0-9]+ bytes and is damaged"):
        Table(path)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.binary(max_size=20), st.sampled_from(["parquet", "feather"]))
def test_whatever_the_damage_it_is_said_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes, suffix: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), {"t": list(range(50)), "c": ["x", "y"] * 25}, suffix)
    data = path.read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + damage + (data[at + len(damage) :] if len(damage) % 2 else b""))
    try:
        rows = sum(map(len, Table(path).batches(("t", "c"))))
    except FormatMismatchError:
        return
    assert rows <= 2000
