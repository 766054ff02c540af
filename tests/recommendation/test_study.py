"""A study: a sweep of the catalogue with what a report needs beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ratesim import Scenario, sweep
from ratesim.recommendation import study as study_module
from ratesim.recommendation.study import study

CANDIDATES = [
    {"name": "memory", "storage": "memory://"},
    {"name": "redis", "storage": "redis://h"},
    {"name": "eventual", "storage": "hybrid+redis://h?sync_interval=0.1"},
]


def scenario(rate: str = "5/second") -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 3.0},
            "limit": {"rate": rate},
            "deployment": {"nodes": 4},
            "replications": 2,
            "candidates": CANDIDATES,
        }
    )


def test_its_numbers_are_those_of_a_sweep_whoever_makes_them() -> None:
    alone, together = (study(scenario(), live=False, processes=processes).results for processes in (1, 2))
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    swept = sweep(scenario(), processes=1)
    pd.testing.assert_frame_equal(alone[list(swept.columns)], swept, check_exact=True)
    assert alone["key"].nunique() == len(alone) == 6


@pytest.mark.parametrize("processes", [1, 2])
def test_one_that_was_stopped_goes_on_from_where_it_was(processes: int, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(scenario(), runs=tmp_path, live=False, processes=processes, progress=interrupt)
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 3
    told: list[tuple[int, int]] = []
    again = study(
        scenario(), runs=tmp_path, live=False, processes=1, progress=lambda done, total, what: told.append((done, total))
    )
    assert told[:2] == [(0, 7), (4, 7)]
    assert told[-1] == (7, 7)
    pd.testing.assert_frame_equal(again.results, study(scenario(), live=False, processes=1).results, check_exact=True)


def test_a_finished_one_is_found_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(scenario(), out=tmp_path, live=False, processes=1)
    monkeypatch.setattr(Scenario, "trace", lambda *_: pytest.fail("nothing is read again"))
    found = study(scenario(), out=tmp_path, live=False, processes=1)
    pd.testing.assert_frame_equal(found.results, made.results, check_exact=True)
    assert (found.binding, found.trace_summary, found.origin) == (made.binding, made.trace_summary, made.origin)


def test_another_question_in_the_same_place_is_answered_anew(tmp_path: Path) -> None:
    study(scenario(), out=tmp_path, live=False, processes=1)
    other = study(scenario("6/second"), out=tmp_path, live=False, processes=1)
    pd.testing.assert_frame_equal(
        other.results, study(scenario("6/second"), live=False, processes=1).results, check_exact=True
    )
    assert json.loads((tmp_path / "study.json").read_text())["binding"] == other.binding


def test_what_was_measured_live_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario().model_copy(update={"candidates": scenario().candidates[:1]})
    measured = [0]

    def measure(*_: object) -> dict[str, object]:
        measured[0] += 1
        return {"candidate": "memory", "p50": 1e-5 * measured[0]}

    monkeypatch.setattr(study_module, "live_row", measure)
    first = study(asked, out=tmp_path, runs=tmp_path / "runs", processes=1)
    again = study(asked, out=tmp_path, processes=1)
    resumed = study(asked, runs=tmp_path / "runs", processes=1)
    assert first.live["p50"].tolist() == again.live["p50"].tolist() == resumed.live["p50"].tolist() == [1e-5]
