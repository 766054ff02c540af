"""Damaged logs: whatever bytes a file holds, it is read or refused in one line, and the counts add up."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traffic import LogError, Trace, read_log

LOGS = Path(__file__).parent / "logs"
ABOUT = ("README.md", "expected.json", "further.json", "refused.json")
SAMPLES = sorted(path for path in LOGS.iterdir() if path.name not in ABOUT)
PIECES = [b"\n", b"\r\n", b"\0" * 9, b'"', b"\\", b"{", b"}", b"[", b",", b" ", b"-", b"1e999"]
PIECES += [b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04", b"\xed\xa0\x80"]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path: Path, **options: str) -> Trace | None:
    """Read a file; None if it is refused in a line that is safe to print."""
    try:
        trace = read_log(path, **options)  # type: ignore[arg-type]
    except LogError as error:
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 4000
        return None
    origin = trace.provenance
    assert origin.lines == origin.parsed + origin.skipped + origin.ignored
    assert origin.parsed == len(trace) > 0
    assert np.isfinite(trace.time).all()
    assert (np.diff(trace.time) >= 0).all()
    assert len(origin.examples) == min(origin.skipped, 3)
    return trace


@st.composite
def damages(draw: st.DrawFn) -> bytes:
    """A sample whose bytes were cut, moved, doubled, replaced and joined with those of another one."""
    data = draw(st.sampled_from(SAMPLES)).read_bytes()[:20_000]
    for _ in range(draw(st.integers(1, 4))):
        first, last = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        kind = draw(st.sampled_from(["cut", "end", "double", "insert", "replace", "join", "lines"]))
        if kind == "cut":
            data = data[:first] + data[min(last, first + 200) :]
        elif kind == "end":
            data = data[:last]
        elif kind == "double":
            data = data[:last] + data[first:]
        elif kind == "insert":
            data = data[:first] + draw(st.sampled_from(PIECES)) + data[first:]
        elif kind == "replace":
            data = data[:first] + draw(st.binary(min_size=1, max_size=8)) + data[first + 1 :]
        elif kind == "join":
            data = data[:first] + draw(st.sampled_from(SAMPLES)).read_bytes()[:2000] + data[first:]
        else:
            lines = data.split(b"\n")
            data = b"\n".join(draw(st.permutations(lines[:12])) + lines[12:])
    return data


@QUICK
@given(damages(), st.sampled_from(["client", "none", "endpoint", "client/24"]))
def test_a_damaged_log_is_read_or_refused_and_its_counts_add_up(tmp_path: Path, data: bytes, key: str) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(data)
    outcome(path, key=key)


@pytest.mark.nightly
@settings(QUICK, max_examples=3000)
@given(damages(), st.sampled_from(["client", "none", "endpoint", "client/24", "user", "xff:last"]))
def test_many_damaged_logs_are_read_or_refused(tmp_path: Path, data: bytes, key: str) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(data)
    outcome(path, key=key)


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(data)
    outcome(path)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_twice_has_the_same_requests_twice(path: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies.tar"
    with tarfile.open(copies, "w") as archive:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            data = path.read_bytes()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    one, two = outcome(path, key="none"), outcome(copies, key="none")
    assert (one is None) == (two is None)
    if one is not None and two is not None:
        assert two.time.tolist() == [each for each in one.time.tolist() for _ in range(2)]
        assert (two.provenance.lines, two.provenance.skipped) == (2 * one.provenance.lines, 2 * one.provenance.skipped)
