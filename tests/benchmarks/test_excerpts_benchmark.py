"""The benchmark of excerpts: its logs are the same each time, and a part of a log is held against all of it."""

from __future__ import annotations

import pytest

from ratesim.benchmarks.excerpts import LIMITS, compare, logs
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError

CANDIDATES = (
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://h"),
    Candidate(name="eventual", storage="hybrid+redis://h?sync_interval=1"),
)


def test_its_logs_are_the_same_each_time() -> None:
    first, again = (dict(logs(3_000)) for _ in range(2))
    assert list(first) == list(LIMITS)
    for name, trace in first.items():
        assert trace == again[name]
        assert 1_000 < len(trace) < 9_000


def test_a_part_of_a_log_is_held_against_all_of_it() -> None:
    name, trace = next(logs(600))
    found = compare(trace, LIMITS[name], CANDIDATES, sizes=(100, len(trace)), excerpt=200, processes=1)
    assert found.agreement[len(trace)] == (1.0, 1.0, True)
    assert -1.0 <= found.agreement[100][0] <= 1.0
    assert set(found.verdicts) == {each.name for each in CANDIDATES}
    assert found.left_out == ()
    budget = 2e-6 * len(trace)
    cheap = compare(trace, LIMITS[name], CANDIDATES, sizes=(100,), excerpt=len(trace), seconds=budget, processes=1)
    assert cheap.wrong == {}, "the excerpt is all of it"
    assert "eventual" in cheap.left_out, "either engine takes too long for it"
    assert "memory" not in cheap.left_out
    with pytest.raises(ScenarioError, match=r"seconds 1e-09: no candidate can be run on all of it; the cheapest takes "):
        compare(trace, LIMITS[name], CANDIDATES[:1], sizes=(100,), seconds=1e-9, processes=1)
