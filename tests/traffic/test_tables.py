import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic import Provenance, Trace, TraceError

FORMATS = ["parquet", "csv"]


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any trace: awkward floats, awkward names (quotes, newlines, commas, empty), names that no row uses."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
        ['"', "a,b", "x\ny", "\r\n", "", "NA", "null", "#", "1.0", " ", "'", "é\u2028", "\x00"]
    )
    keys = draw(st.lists(text, min_size=1, max_size=6, unique=True))
    endpoints = draw(st.lists(text, min_size=1, max_size=3, unique=True))
    n = draw(st.integers(0, 20))

    def column(of: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(draw(st.lists(of, min_size=n, max_size=n)))

    return Trace(
        np.sort(column(st.floats(-1e18, 1e18))),
        column(st.integers(0, len(keys) - 1)).astype(np.int64),
        keys,
        cost=column(st.floats(0, 1e300)),
        session=column(st.integers(-(2**63), 2**63 - 1)).astype(np.int64),
        endpoint=column(st.integers(0, len(endpoints) - 1)).astype(np.int64),
        endpoints=endpoints,
        provenance=Provenance(draw(text), 3, 2, 1, (draw(text),), (draw(text), "scale 2")),
    )


def written(trace: Trace, path: Path, format: str) -> Trace:
    getattr(trace, f"to_{format}")(path)
    return getattr(Trace, f"from_{format}")(path)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(60))
@given(trace=traces())
def test_a_trace_comes_back_from_a_file_exactly(format: str, trace: Trace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = written(trace, Path(folder) / "trace", format)
    assert back == trace
    assert back.provenance == trace.provenance
    assert back.time.tobytes() == trace.time.tobytes()
    assert back.cost.tobytes() == trace.cost.tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_a_trace_of_many_row_groups_and_keys_comes_back_exactly(format: str, tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 250_000
    key = rng.integers(0, 30_000, n)
    trace = Trace(np.sort(rng.random(n) * 1.5e9), key, [f"client\n{i:07d}" for i in range(40_000)], cost=rng.random(n))
    assert written(trace, tmp_path / "trace", format) == trace


def test_other_tools_see_names_and_not_numbers(tmp_path: Path) -> None:
    trace = Trace([1.5, 2.5], [1, 0], ["alice", "bob"], cost=[1, 2], endpoint=[0, 0], endpoints=["GET /a"])
    trace.to_parquet(tmp_path / "t.parquet")
    trace.to_csv(tmp_path / "t.csv")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert list(frame.columns) == ["time", "key", "cost", "session", "endpoint"]
    assert frame["key"].tolist() == ["bob", "alice"]
    table = pd.read_csv(tmp_path / "t.csv", comment="#")
    assert table["key"].tolist() == ["bob", "alice"]
    assert table["endpoint"].tolist() == ["GET /a", "GET /a"]
    assert table["time"].tolist() == [1.5, 2.5]


def test_a_frame_has_one_row_per_request_and_names_as_categories() -> None:
    trace = Trace([1.5, 2.5], [1, 0], ["alice", "bob", "never"], cost=[1, 2])
    frame = trace.to_frame()
    assert frame["key"].tolist() == ["bob", "alice"]
    assert frame["key"].cat.categories.tolist() == ["alice", "bob", "never"]
    assert frame["cost"].tolist() == [1.0, 2.0]
    assert len(Trace([], [], ["a"]).to_frame()) == 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_file_is_an_error_that_names_it(format: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere: cannot be read"):
        getattr(Trace, f"from_{format}")(tmp_path / "nowhere")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("content", [b"", b"time,key\n1,a\n", b"PAR1 is not enough", b"\x00\xff" * 50])
def test_a_file_that_no_trace_wrote_is_an_error_that_names_it(format: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(TraceError, match="other: ") as caught:
        getattr(Trace, f"from_{format}")(tmp_path / "other")
    assert "\n" not in str(caught.value)


def test_a_parquet_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    pd.DataFrame({"time": [1.0], "key": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(TraceError, match=r"other.parquet: was not written by a Trace"):
        Trace.from_parquet(tmp_path / "other.parquet")


def test_a_csv_file_with_a_damaged_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Trace([1.5, 2.5], [1, 0], ["alice", "bob"]).to_csv(path)
    good = path.read_text()
    for damage in (("1.5", "yesterday"), ('1.5,"bob"', '1.5,"mallory"'), ('1.5,"bob",', "1.5,")):
        assert damage[0] in good
        path.write_text(good.replace(*damage))
        with pytest.raises(TraceError, match=r"t\.csv: is damaged"):
            Trace.from_csv(path)


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Trace([1.5], [0], ["alice"]).to_csv(path)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(TraceError, match="version 2"):
        Trace.from_csv(path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_name_that_is_not_unicode_is_an_error(format: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="keys"):
        getattr(Trace([1], [0], ["\ud800"]), f"to_{format}")(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_the_footer_keeps_the_names_that_no_row_uses(tmp_path: Path) -> None:
    Trace([1], [1], ["never", "a"]).to_parquet(tmp_path / "t")
    assert b"never" in pq.read_schema(tmp_path / "t").metadata[b"traffic.trace"]
