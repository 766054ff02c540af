"""A study and its recommendation are asked for by names, tell their stages, and show themselves."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib import pyplot

from ratesim import Scenario, Study, recommend, study
from ratesim.progress import FINISHED
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.investigate import full_runs, screening
from ratesim.simulation.scenario.scenario import ScenarioError

pytestmark = pytest.mark.slow

SCENARIO = {
    "name": "<b>small</b>",
    "replications": 2,
    "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 3.0},
    "limit": {"rate": "5/second"},
    "deployment": {"nodes": 4},
    "requirements": {"p99": 0.05, "max_over_admission": 0.01},
}
STAGES = ["making the traffic", "screening 3 candidates", "in full, 3 contenders", "with faults"]


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def studied(told: list[str]) -> Study:
    return study(
        Scenario.of(SCENARIO),
        candidates=["memory", "redis://localhost?pool_size=4"],
        current="redis",
        live=False,
        beyond=False,
        processes=1,
        progress=lambda done, total, what: told.append(what),
    )


@pytest.fixture(autouse=True)
def _figures_are_closed():
    mpl.use("agg")
    yield
    pyplot.close("all")


def test_a_study_has_the_candidates_of_these_names_and_what_is_in_force(studied: Study) -> None:
    found = {each.name: each.storage for each in studied.candidates}
    assert found == {
        CURRENT: "redis://localhost",
        "memory": "memory://",
        "redis, pool_size 4": "redis://localhost?pool_size=4",
    }


def test_it_tells_its_stages_in_order(studied: Study, told: list[str]) -> None:
    stages = list(dict.fromkeys(what.partition(": ")[0] for what in told))
    assert stages == [*STAGES, FINISHED]


def test_a_recommendation_is_a_frame_a_table_and_a_figure(studied: Study) -> None:
    found = recommend(studied)
    frame = found.to_frame().set_index("candidate")
    assert list(frame.index) == [each.candidate for each in found.assessments]
    assert frame["verdict"][found.choice] == "chosen"
    assert frame["verdict"]["memory"] == "fails"
    assert frame["missed"]["memory"] == "over-admission"
    for each in found.assessments:
        row = frame.loc[each.candidate]
        assert (row["latency_p99"], row["latency_p99_low"], row["latency_p99_high"]) == (
            each.p99.mean,
            each.p99.low,
            each.p99.high,
        )
        assert row["cost_per_month"] == each.cost
    said = found._repr_html_()
    assert said.count("<tr>") == 1 + len(frame)
    assert "busiest window" in said
    ax = found.plot()
    assert {text.get_text() for text in ax.texts} == set(frame.index)
    assert [line.get_xdata()[0] for line in ax.lines[:1]] == [0.05]


def test_a_study_shows_its_contenders(studied: Study) -> None:
    assert "&lt;b&gt;small&lt;/b&gt;" in studied._repr_html_()
    assert studied.to_frame().equals(studied.findings.results.rows)
    assert len(studied.plot_latency().lines) == 3
    _, lower = studied.plot_over_time("memory")
    offered = sum(line.get_ydata().sum() for line in lower.lines)
    assert offered == studied.to_frame().query("candidate == 'memory'")["requests"].iloc[0]
    assert len(studied.plot_keys("memory").patches) > 0
    with pytest.raises(ScenarioError, match=r"contender 'memry': did you mean memory\?"):
        studied.plot_over_time("memry")


def test_what_belongs_to_a_study_is_refused_for_a_finished_one(studied: Study) -> None:
    with pytest.raises(TypeError, match="belong to a study, and this one is finished"):
        recommend(studied, candidates=["redis"])  # type: ignore[call-overload]
    with pytest.raises(ScenarioError, match=r"did you mean redis\?"):
        recommend("quickstart", candidates=["reddis"])


def test_traffic_that_takes_too_long_is_not_simulated_whole_and_that_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "FIRST_LOOK", 20)
    monkeypatch.setattr(full_runs, "FULL", 50)
    said = {}
    for seconds in (0.0, 600.0):
        named = {"candidates": ["redis"], "live": False, "beyond": False, "processes": 1, "progress": False}
        found = study(Scenario.of(SCENARIO), seconds=seconds, **named)  # type: ignore[arg-type]
        rest = [each for each in found.assumed if "as its busiest part" in each]
        said[seconds] = (found.findings.parts["in full"] == "all of it", len(found.findings.whole.assessments), len(rest))
    assert said == {0.0: (False, 0, 1), 600.0: (True, 0, 0)}
    with pytest.raises(ScenarioError, match="seconds nan: must be a number of seconds"):
        study(Scenario.of(SCENARIO), seconds=float("nan"))
