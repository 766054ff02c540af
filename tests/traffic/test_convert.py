"""A log that was converted block by block is the trace that reading it gives, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import traffic
from traffic import LogError, Trace, read_log
from traffic.anonymize import Anonymizer
from traffic.convert import convert_log
from traffic.formats import collector
from traffic.formats.field_selection import FieldSelection
from traffic.reading import Reading

REAL = Path(traffic.__file__).parent / "data" / "apache_access_10k.log.gz"
LOGS = Path(__file__).parent / "logs"


@pytest.fixture(params=[1 << 20, 700], ids=["one group", "many groups"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "ROWS_OF_A_GROUP", request.param)


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize(
    ("paths", "key"),
    [
        (REAL, "client"),
        (REAL, "client+endpoint"),
        ([LOGS / "minute.csv", REAL, LOGS / "kong.log"], None),
        (LOGS / "mixed_frac.jsonl", "k"),
    ],
)
def test_a_converted_log_is_the_trace_that_is_read(paths: Path | list[Path], key: str | None, tmp_path: Path) -> None:
    out = tmp_path / "trace.parquet"
    provenance = convert_log(paths, out, Reading(FieldSelection(key=key)))
    trace = read_log(paths, key=key)
    assert Trace.from_parquet(out) == trace == read_log(out)
    sorted_later = Trace.from_parquet(out).provenance
    assert sorted_later == trace.provenance
    assert (provenance.lines, provenance.parsed) == (trace.provenance.lines, len(trace))
    assert [each.name for each in tmp_path.iterdir()] == ["trace.parquet"]


def test_groups_do_not_change_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_log(REAL)
    monkeypatch.setattr(collector, "ROWS_OF_A_GROUP", 100)
    assert read_log(REAL) == whole


def test_a_trace_is_read_as_it_is(tmp_path: Path) -> None:
    trace = read_log(LOGS / "kong.log")
    for suffix in ("parquet", "csv"):
        path = tmp_path / f"t.{suffix}"
        getattr(trace, f"to_{suffix}")(path)
        assert read_log(path) == trace
        with pytest.raises(LogError, match="is a trace, whose requests have their keys and costs; leave key out"):
            read_log(path, key="client")
        with pytest.raises(LogError, match="is a trace and is read alone"):
            read_log([path, LOGS / "kong.log"])


def test_an_anonymized_trace_names_nobody(tmp_path: Path) -> None:
    out = tmp_path / "trace.parquet"
    secret = Anonymizer(b"0123456789abcdef")
    convert_log(LOGS / "kong.log", out, Reading(FieldSelection(), anonymize=secret))
    assert read_log(LOGS / "kong.log", anonymize=secret) == Trace.from_parquet(out)
    for text in (b"203.0.113", b"198.51.100", b"kong.log"):
        assert text not in out.read_bytes()


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    rows = [{"time": 1700000000, "ip": "203.0.113.7", "n": 1, "status": 200}, {"time": 1700000001, "ip": "-", "status": 429}]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(LogError, match="a request answered 429 has no cost"):
        convert_log(log, tmp_path / "out.parquet", Reading(FieldSelection(cost="n")))
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]
