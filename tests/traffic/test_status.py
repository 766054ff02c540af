"""What a service answered: read from every format, carried through every cut, and never a reason to drop a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from traffic import LogError, Trace, TraceError, read_log

LINE = '{client} - - [17/May/2015:10:05:{second:02d} +0000] "GET /a HTTP/1.1" {status} 5'
AGENT = ' "-" "curl/8.0"'


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: object, name: str = "access.log") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return path

    return write


def codes(trace: Trace) -> list[int]:
    assert trace.status is not None
    return trace.status.tolist()


@pytest.mark.parametrize("tail", ["", AGENT])
def test_an_access_log_says_what_was_answered_and_a_429_is_a_request_like_any_other(
    log: Callable[..., Path], tail: str
) -> None:
    answers = (200, 429, 304, 429)
    lines = [LINE.format(client=c, second=s, status=a) + tail for c, s, a in zip("abab", range(4), answers, strict=True)]
    trace = read_log(log(*lines))
    assert codes(trace) == list(answers)
    assert len(trace) == 4
    assert np.bincount(trace.key).tolist() == [2, 2]
    assert trace.cost.tolist() == [1.0] * 4
    assert trace.provenance.notes == ("the service limits: 2 answers 429 (50 %) are replayed as demand",)
    assert trace.summary()["answered_429"] == 2


def test_a_log_without_429s_has_no_note_of_them(log: Callable[..., Path]) -> None:
    trace = read_log(log(LINE.format(client="a", second=1, status=503)))
    assert codes(trace) == [503]
    assert trace.provenance.notes == ()


def test_status_codes_stay_with_their_requests_when_lines_are_sorted(log: Callable[..., Path]) -> None:
    trace = read_log(log(*(LINE.format(client=c, second=s, status=200 + s) for c, s in (("a", 3), ("b", 1), ("c", 2)))))
    assert codes(trace) == [201, 202, 203]


@pytest.mark.parametrize("name", ["status", "Status", "status_code", "code"])
def test_csv_and_json_lines_have_a_status_where_a_field_is_called_so(log: Callable[..., Path], name: str) -> None:
    csv = read_log(log(f"time,{name}", "1,200", "2,429.0", "3,", name="a.csv"), key="none")
    lines = read_log(log({"time": 1, name: 200}, {"time": 2, name: "429"}, {"time": 3}, name="a.jsonl"), key="none")
    assert codes(csv) == codes(lines) == [200, 429, 0]


def test_the_field_of_the_status_can_be_named(log: Callable[..., Path]) -> None:
    assert codes(read_log(log("time,answer,status", "1,429,200", name="a.csv"), status="answer", key="none")) == [429]
    assert codes(read_log(log({"time": 1, "response": {"code": 429}}), status="response.code", key="none")) == [429]


@pytest.mark.parametrize("value", ["ok", "", "99", "1000", "200.5", "nan", "inf", "-200"])
def test_what_is_no_status_code_is_none_and_loses_no_request(log: Callable[..., Path], value: str) -> None:
    assert read_log(log("time,status,x", f"1,{value},x", name="a.csv"), key="none").status is None
    rows = ["time,status,x", f"1,{value},x", "2,200,x", "3,200,x"]
    assert codes(read_log(log(*rows, name="a.csv"), key="none")) == [0, 200, 200]


@pytest.mark.parametrize("value", [None, {}, {"code": "x"}, [True], True, 10**400])
def test_a_status_of_another_kind_is_none(log: Callable[..., Path], value: object) -> None:
    rows = [{"time": 1, "status": value}, *({"time": 2 + i, "status": 429} for i in range(3))]
    assert codes(read_log(log(*rows), key="none")) == [0, 429, 429, 429]


def test_two_columns_called_status_are_nobodys_unless_one_is_wished(log: Callable[..., Path]) -> None:
    path = log("time,status,status,code", "1,200,429,503", name="a.csv")
    assert codes(read_log(path, key="none", status="code")) == [503]
    with pytest.raises(LogError, match="has 2 columns called 'status'"):
        read_log(path, key="none", status="status")


def test_a_wished_status_that_is_not_there_is_one_line_that_says_so(log: Callable[..., Path]) -> None:
    with pytest.raises(LogError, match=r"has no field 'answer' for the status; its fields are time, n"):
        read_log(log("time,n", "1,2", name="a.csv"), status="answer", key="none")
    with pytest.raises(LogError, match=r"has no field 'answer' for the status"):
        read_log(log({"time": 1}), status="answer", key="none")
    with pytest.raises(LogError, match=r"has no status \(100 to 999\) in the field 'n' in any line"):
        read_log(log("time,n", "1,2", name="a.csv"), status="n", key="none")


# What a refused request would have cost


def test_a_refused_request_without_a_cost_is_kept_at_the_mean_of_its_keys_others(log: Callable[..., Path]) -> None:
    rows = ["1,a,10,200", "2,a,30,200", "3,a,,429", "4,b,6,200", "5,c,,429", "6,b,8,429"]
    trace = read_log(log("time,user,tokens,status", *rows, name="a.csv"), key="user", cost="2*tokens")
    assert trace.cost.tolist() == [20.0, 60.0, 40.0, 12.0, 92 / 3, 16.0]
    assert trace.provenance.skipped == 0
    assert trace.provenance.notes == (
        "the service limits: 3 answers 429 (50 %) are replayed as demand",
        "2 of them have no cost: taken to be their key's mean",
    )


def test_a_request_that_was_not_refused_and_has_no_cost_is_no_request(log: Callable[..., Path]) -> None:
    trace = read_log(log({"time": 1, "n": 3, "status": 429}, {"time": 2, "status": 200}), cost="n", key="none")
    assert (trace.cost.tolist(), trace.provenance.skipped) == ([3.0], 1)


def test_lines_that_are_lost_for_their_cost_are_counted_by_themselves(log: Callable[..., Path], tmp_path: Path) -> None:
    rows = ["time,user,tokens", "1,a,10", '2,a,"1,234"', "3,b,", "when,b,5"]
    trace = read_log(log(*rows, name="a.csv"), key="user", cost="tokens", time="time")
    assert (len(trace), trace.provenance.skipped) == (1, 3)
    assert trace.provenance.notes == ("the cost: no number in a field of it in 2 of the lost lines",)
    with pytest.raises(LogError, match=r"has no number in a field of the cost in any line; name another --cost$"):
        read_log(log("time,user,tokens", "1,a,1.2k", "2,a,3k", name="b.csv"), key="user", cost="tokens")


def test_a_log_of_nothing_but_refusals_without_costs_is_an_error(log: Callable[..., Path]) -> None:
    path = log("time,n,status", "1,,429", "2,,429", name="a.csv")
    with pytest.raises(LogError, match="answers 429 in every line, and has no cost in some; leave the cost out"):
        read_log(path, cost="n", key="none")
    assert len(read_log(path, key="none")) == 2


# The column


def made(**changed: object) -> Trace:
    return Trace(**{"time": [1, 2, 3], "key": [0, 1, 0], "keys": "ab", "status": [200, 429, 0], **changed})


def test_a_status_takes_two_bytes_and_a_trace_without_one_takes_none() -> None:
    trace = made()
    assert trace.status is not None
    assert (trace.status.dtype, trace.status.nbytes) == (np.uint16, 6)
    assert made(status=None).status is None


def test_traces_are_equal_only_if_their_answers_are() -> None:
    assert made() == made()
    assert made() != made(status=[200, 200, 0])
    assert made() != made(status=None)
    assert made(status=None) == made(status=None)


@pytest.mark.parametrize("status", [[200, 429], [99, 200, 200], [1000, 0, 0], [-1, 0, 0], [200.0, 429.0, 0.0], ["200"] * 3])
def test_a_status_that_cannot_be_is_an_error_that_names_it(status: list[object]) -> None:
    with pytest.raises(TraceError, match=r"^status: "):
        made(status=status)


def test_answers_stay_with_their_requests_through_every_cut() -> None:
    rng = np.random.default_rng(0)
    trace = made(time=[3, 1, 2])
    assert codes(trace) == [429, 0, 200]
    assert codes(trace.head(2)) == [429, 0]
    assert codes(trace.window(2, 4)) == [0, 200]
    assert codes(trace.busiest(1.5)) == [429, 0]
    assert codes(trace.speed(2)) == codes(trace.spread(rng)) == codes(trace)
    assert codes(trace.select(trace.key == 0, "a's")) == [0, 200] if trace.keys[0] == "a" else []
    scaled = trace.scale(3, rng)
    assert scaled.status is not None
    for copy in range(3):
        assert sorted(scaled.status[scaled.key // 2 == copy].tolist()) == [0, 200, 429]
    assert trace.head(0).status is not None


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("status", [None, [200, 429, 0]])
def test_a_file_keeps_the_answers(format: str, status: list[int] | None, tmp_path: Path) -> None:
    trace = made(status=status)
    getattr(trace, f"to_{format}")(tmp_path / "t")
    back = getattr(Trace, f"from_{format}")(tmp_path / "t")
    assert back == trace
    assert (back.status is None) == (status is None)


def test_files_without_answers_are_written_as_before_there_was_a_status(tmp_path: Path) -> None:
    made(status=None).to_parquet(tmp_path / "t.parquet")
    made(status=None).to_csv(tmp_path / "t.csv")
    assert pq.read_schema(tmp_path / "t.parquet").names == ["time", "key", "cost", "session", "endpoint"]
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == '"time","key","cost","session","endpoint"'


def test_a_frame_has_the_answers_where_they_are_known() -> None:
    assert made().to_frame()["status"].tolist() == [200, 429, 0]
    assert "status" not in made(status=None).to_frame()
