"""A study: an investigation of all candidates, kept, found again, and never made twice."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from examples import sample

from ratesim import Scenario, recommend, sweep
from ratesim.recommendation.decide.check import CheckResult, check
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate import study as study_module
from ratesim.recommendation.investigate.study import FILES, Study, study

CANDIDATES = [
    {"name": "memory", "storage": "memory://"},
    {"name": "redis", "storage": "redis://h"},
    {"name": "eventual", "storage": "hybrid+redis://h?sync_interval=0.1"},
]


def scenario(rate: str = "5/second", **more: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 3.0},
            "limit": {"rate": rate},
            "deployment": {"nodes": 4},
            "replications": 2,
            "candidates": CANDIDATES,
            **more,
        }
    )


def made(asked: Scenario | None = None, **how: object) -> Study:
    return study(asked or scenario(), **{"live": False, "beyond": False, "processes": 1, **how})  # type: ignore[arg-type]


@pytest.mark.slow
def test_its_numbers_are_those_of_a_sweep_whoever_makes_them() -> None:
    asked = scenario(replications=1)  # of one seed nothing is replicated more often
    alone, together = (made(asked, processes=processes).findings for processes in (1, 2))
    pd.testing.assert_frame_equal(together.results.rows, alone.results.rows, check_exact=True)
    assert together.fault_impacts == alone.fault_impacts
    swept = sweep(asked, processes=1).drop(columns="partial")
    pd.testing.assert_frame_equal(alone.results.rows[list(swept.columns)], swept, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", sample([1, 2], [2]))
def test_one_that_was_stopped_goes_on_from_where_it_was(processes: int, tmp_path: Path) -> None:
    seen: list[str] = []

    def interrupt(done: int, total: int, what: str) -> None:
        if "seed" in what and (named := what.split(";")[0]) not in seen:
            seen.append(named)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(runs=tmp_path, processes=processes, progress=interrupt)
    kept = len(list((tmp_path / "parts").glob("*.parquet")))
    assert kept >= 4
    again = made(runs=tmp_path)
    whole = made()
    pd.testing.assert_frame_equal(again.findings.results.rows, whole.findings.results.rows, check_exact=True)


def test_what_was_kept_is_not_run_again(tmp_path: Path) -> None:
    made(runs=tmp_path)
    told: list[str] = []
    made(runs=tmp_path, progress=lambda done, total, what: told.append(what))
    assert [what for what in told if "seed" in what] == []


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["5/second", "20/second"])
def test_a_finished_one_is_found_and_not_made_again(rate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(scenario(rate), out=tmp_path, beyond=True)
    assert (first.limit_pressure.suggestion is None) == (rate == "20/second")
    monkeypatch.setattr(Scenario, "trace", lambda *_: pytest.fail("nothing is read again"))
    found = made(scenario(rate), out=tmp_path, beyond=True)
    for name in ("results", "screened"):
        mine, its = getattr(found.findings, name), getattr(first.findings, name)
        pd.testing.assert_frame_equal(mine.rows, its.rows, check_exact=True)
    for name in ("fault_impacts", "headroom", "flips", "parts", "details"):
        assert getattr(found.findings, name) == getattr(first.findings, name)
    assert (found.limit_pressure, found.summary, found.provenance) == (first.limit_pressure, first.summary, first.provenance)
    assert recommend(found).to_json() == recommend(first).to_json()
    assert {entry.name for entry in tmp_path.iterdir()} == set(FILES)


@pytest.mark.slow
def test_what_another_version_kept_or_half_of_it_is_made_again(tmp_path: Path) -> None:
    whole = made(out=tmp_path)
    file = tmp_path / "study.json"
    kept = json.loads(file.read_text())
    del kept["findings"]["fault_impacts"][0]["fault"]
    halves = [
        (file, text) for text in (json.dumps(kept), json.dumps({"question": kept["question"]}), file.read_text()[:100])
    ]
    for part, text in [*halves, (tmp_path / "details.json", "{")]:
        part.write_text(text)
        again = made(out=tmp_path)
        pd.testing.assert_frame_equal(again.findings.results.rows, whole.findings.results.rows, check_exact=True)


def test_a_store_that_never_answers_is_a_finding_and_no_failure() -> None:
    from ratesim.pages.recommendation import cells, detail_cells

    cut_off = scenario(faults=[{"kind": "partition", "start": 0, "duration": 60}], candidates=CANDIDATES[1:2])
    found = made(cut_off, beyond=True)
    chosen = recommend(found)
    assert chosen.choice is None
    assert "of the requests get no decision" in chosen.closest_misses[0].reason
    for page in (cells.verdict(found, chosen), cells.tradeoff(found, chosen), detail_cells.faults(chosen)):
        assert "nan" not in page.data.lower().replace("nano", "")


@pytest.mark.slow
def test_another_question_in_the_same_place_is_answered_anew(tmp_path: Path) -> None:
    made(out=tmp_path)
    other = made(scenario("6/second"), out=tmp_path)
    pd.testing.assert_frame_equal(
        other.findings.results.rows, made(scenario("6/second")).findings.results.rows, check_exact=True
    )
    assert json.loads((tmp_path / "study.json").read_text())["limit_pressure"] == asdict(other.limit_pressure)


def test_another_requirement_asks_for_another_answer_and_makes_no_run_again(tmp_path: Path) -> None:
    made(out=tmp_path)
    told: list[str] = []
    strict = scenario(requirements={"max_over_admission": 0})
    made(strict, out=tmp_path, progress=lambda done, total, what: told.append(what))
    assert [what for what in told if "seed" in what] == []


def test_each_contender_has_the_details_of_its_runs_without_a_run_of_their_own(tmp_path: Path) -> None:
    found = made(runs=tmp_path).findings
    assert sorted(found.details) == sorted(each["name"] for each in CANDIDATES)
    for each in found.results.assessments:
        detail = found.details[each.candidate]
        latency = dict(zip(detail.shares, detail.latency, strict=True))
        assert (latency[0.5], latency[0.99]) == pytest.approx((each.p50.mean, each.p99.mean), rel=1e-12)
        rows = found.results.rows.query("candidate == @each.candidate")
        assert (detail.seeds, detail.requests) == (len(rows), (rows["requests"] - rows["failed"]).sum())
        assert detail.beyond[detail.shares.index(0.99)] == round(detail.requests / 100)
        first = rows.iloc[0]
        assert sum(detail.first.series["over_admitted"]) == pytest.approx(first["over_admission"] * first["exact_total"])
    made_runs = len(list((tmp_path / "parts").glob("*.parquet")))
    assert made_runs == len(found.results.rows) + 3 * 3  # what is screened, and well, is run in full; and three faults


def test_progress_goes_up_and_ends_at_its_end() -> None:
    told: list[tuple[int, int]] = []
    made(progress=lambda done, total, what: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.slow
def test_more_replications_are_run_where_one_is_too_close_to_call() -> None:
    p99 = made().findings.results.rows.query("candidate == 'redis'")["latency_p99"]
    middle = float(p99.mean())
    close = scenario(requirements={"p99": middle, "persistence": "session"})
    found = made(close).findings.results.rows
    counts = found.groupby("candidate").size()
    assert counts["redis"] > 2
    assert counts["memory"] == 2  # it is not what the choice hangs on


@pytest.mark.slow
def test_traffic_that_is_long_is_cut_and_the_choice_is_tried_on_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ratesim.recommendation.investigate import full_runs

    monkeypatch.setattr(full_runs, "FULL", 100)
    long = scenario(workload={"requests_per_second": 100.0, "keys": 20, "duration": 20.0})
    slow = CANDIDATES[1:]
    found = made(long.model_copy(update={"candidates": scenario(candidates=slow).candidates}), seconds=0.004)
    assert 100 <= found.findings.results.rows["requests"].max() < 1500
    assert found.findings.whole.rows["requests"].tolist() == [int(found.summary["requests"])]
    chosen = recommend(found)
    assert [each.candidate for each in chosen.whole] == [chosen.choice]
    (left_out,) = (each for each in chosen.assumed if "as its busiest part" in each)
    assert all(str(each["name"]) in left_out for each in slow)


def test_what_was_measured_live_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario().model_copy(update={"candidates": scenario().candidates[:1]})
    measured = [0]

    def measure(*_: object, **__: object) -> dict[str, object]:
        measured[0] += 1
        return {"candidate": "memory", "p50": 1e-5 * measured[0]}

    monkeypatch.setattr(study_module, "live_row", measure)
    first = made(asked, out=tmp_path, runs=tmp_path / "runs", live=True)
    again = made(asked, out=tmp_path, live=True)
    resumed = made(asked, runs=tmp_path / "runs", live=True)
    assert first.live["p50"].tolist() == again.live["p50"].tolist() == resumed.live["p50"].tolist() == [1e-5]


def test_a_disturbed_replay_is_made_again_when_the_report_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario().model_copy(update={"candidates": scenario().candidates[:1]})
    said = ["the loop was woken 4 ms late at the median", ""]
    monkeypatch.setattr(study_module, "live_row", lambda *_, **__: {"candidate": "memory", "disturbed": said.pop(0)})
    first = made(asked, out=tmp_path, runs=tmp_path / "runs", live=True)
    assert first.live["disturbed"].tolist() == ["the loop was woken 4 ms late at the median"]
    shown = made(asked, out=tmp_path, live=True)  # a page shows what was found
    assert shown.live["disturbed"].tolist() == first.live["disturbed"].tolist()
    again = made(asked, out=tmp_path, runs=tmp_path / "runs", live=True, retry_live=True)
    assert again.live["disturbed"].tolist() == [""]


def test_a_headline_says_where_its_own_live_column_does_not_confirm_it() -> None:
    found = made()
    row = {"candidate": "redis", "store": "redis", "failure": "", "disturbed": "", "utilization": 0.02}
    row |= {"latency_p50": 6e-4, "simulated_p50": 5.8e-4, "latency_p99": 4.1e-3, "simulated_p99": 1.3e-3}

    def told(**more: object) -> tuple[Recommendation, CheckResult]:
        said = recommend(replace(found, live=pd.DataFrame([{**row, **more}])))
        return said, check(said)

    off, checked = told()
    assert off.verdict.endswith(
        "simulations disagree by more than the model's error: redis p99 4.1 ms live, 1.3 ms simulated."
    )
    assert (off.confidence.level, checked.status) == ("too thin", 3)
    confirmed = recommend(found)
    control = " The same replay on one node over loopback: p99 4.1 ms live, 4 ms simulated."
    disturbed = {"disturbed": "the loop was woken 4 ms late at the median"}
    for more, figures in (({"simulated_p99": 4e-3}, control), (disturbed, "")):
        said, checked = told(**more)
        assert (said.verdict, said.confidence.level) == (confirmed.verdict + figures, confirmed.confidence.level)
        assert "disagree" not in checked.sentence
