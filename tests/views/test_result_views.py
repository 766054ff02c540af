"""Results show themselves: short escaped HTML, tidy frames with units, and figures on matplotlib axes."""

from __future__ import annotations

import copy
import pickle
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

import ratesim
from ratesim import Candidate, Profile, RunResult, Scenario, Trace, recommend, replicate, run, sweep
from ratesim.formatting import format_seconds
from ratesim.simulation.scenario.scenario import ScenarioError
from ratesim.views.html import MOST_ROWS, card_html
from ratesim.views.plots import plot_keys, plot_over_time, plot_percentiles, plot_trade_off

EVIL = "<script>alert(1)</script> & \x1b[31m"


@pytest.fixture(autouse=True)
def _figures_are_closed():
    mpl.use("agg")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario.of(
        {
            "name": "small",
            "replications": 2,
            "workload": {"requests_per_second": 40.0, "duration": 5.0, "keys": 10},
            "limit": {"rate": "9/second"},
            "deployment": {"nodes": 2},
            "requirements": {"p99": "2ms"},
        }
    )


@pytest.fixture(scope="module")
def result(scenario: Scenario) -> RunResult:
    return run(scenario, "memory")


@pytest.fixture(scope="module")
def results(scenario: Scenario) -> pd.DataFrame:
    return sweep(scenario, ["redis", "redis://localhost?pool_size=2", "memory"], processes=1)


# HTML -----------------------------------------------------------------------------------------------------------


def test_every_text_of_a_card_is_escaped_and_has_no_secret() -> None:
    card = card_html(EVIL, [(EVIL, EVIL), ("url", "redis://me:hunter2@h")], head=(EVIL,), rows=[(EVIL, EVIL)], note=EVIL)
    assert "<script" not in card
    assert "\x1b" not in card
    assert "hunter2" not in card
    assert card.count("&lt;script&gt;") == 7


def test_what_a_plain_shell_shows_is_short_too(scenario: Scenario, result: RunResult) -> None:
    assert (
        repr(result)
        == f"RunResult(memory on small, seed 1: {len(result.trace)} requests, {result.allowed.sum()} admitted, 0 failed)"
    )
    assert "arrivals" not in repr(scenario)
    assert "deployment=Deployment(nodes=2)" in repr(scenario)
    assert repr(Candidate(name="mine", storage="redis://localhost")) == "Candidate(name='mine', storage='redis://localhost')"
    assert len(repr(Profile.shipped())) < 200


def test_what_would_be_ignored_is_refused(scenario: Scenario) -> None:
    with pytest.raises(TypeError, match=r"name candidates as candidates=\[\.\.\.\]"):
        recommend(scenario, ["redis"])  # type: ignore[arg-type]
    assert scenario.requiring(p99="3ms").requirements.p99 == 0.003
    assert scenario.requiring(key_count=5).requirements.p99 == scenario.requirements.p99
    with pytest.raises(ScenarioError, match=r"requirements: p98: unknown key; did you mean p99\?"):
        scenario.requiring(p98="3ms")


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), "10s"])
def test_a_bin_has_a_length(result: RunResult, wrong: object) -> None:
    with pytest.raises(ValueError, match=r"^seconds .*: must be a number above 0$"):
        result.series(wrong)  # type: ignore[arg-type]


def test_completion_has_no_names_of_others(scenario: Scenario) -> None:
    assert {"to_frame", "plot_traffic", "limit", "from_log"} <= set(dir(scenario))
    assert not {"model_dump", "parse_raw", "construct"} & set(dir(scenario))
    assert not {"logging", "sys", "TYPE_CHECKING", "annotations", "lazy_exports"} & set(dir(ratesim))
    assert {"run", "limit", "__version__"} <= set(dir(ratesim))


def test_a_run_can_be_compared_kept_in_a_set_copied_and_pickled(result: RunResult) -> None:
    again = pickle.loads(pickle.dumps(result))
    assert again != result
    assert len({result, again, copy.copy(result)}) == 3
    pd.testing.assert_frame_equal(again.to_frame(), result.to_frame())


def test_a_card_is_short() -> None:
    card = card_html("many", [("empty", ""), ("none", None)], rows=[(number,) for number in range(MOST_ROWS + 5)])
    assert card.count("<tr>") == MOST_ROWS
    assert "and 5 more; to_frame() has all" in card
    assert "empty" not in card
    assert len(card_html("x" * 10**6)) < 1000


def test_a_run_a_scenario_a_candidate_and_a_trace_show_what_they_are(scenario: Scenario, result: RunResult) -> None:
    said = result._repr_html_()
    assert "memory on small, seed 1" in said
    assert f"{1 + result.accuracy.worst_excess:.2f} x the limit" in said
    assert "9/second, sliding_window" in scenario._repr_html_()
    assert "p99 2 ms" in scenario._repr_html_()
    assert "redis://localhost" in Candidate(name="mine", storage="redis://localhost")._repr_html_()
    assert f"{len(result.trace)}" in result.trace._repr_html_()
    assert "over-admission" in result.accuracy._repr_html_()


def test_the_folder_of_a_log_is_not_shown(tmp_path) -> None:
    (tmp_path / "a<b>.csv").write_text("time\n1\n2\n")
    scenario = Scenario.from_log(tmp_path / "a<b>.csv", limit="9/second", key="none")
    for said in (scenario._repr_html_(), scenario.trace()._repr_html_()):
        assert "a&lt;b&gt;.csv" in said
        assert tmp_path.name not in said


# Frames ---------------------------------------------------------------------------------------------------------


def test_frames_are_tidy(scenario: Scenario, result: RunResult) -> None:
    pd.testing.assert_frame_equal(result.to_frame(), result.decisions())
    accuracy = result.accuracy.to_frame().set_index("measure")["value"]
    assert accuracy["over_admission"] == result.accuracy.over_admission
    fields = scenario.to_frame().set_index(["part", "field"])["value"]
    assert fields["limit", "rate"] == "9/second"
    assert fields["deployment", "nodes"] == 2
    assert Candidate(name="mine", storage="memory://").to_frame()["storage"].tolist() == ["memory://"]


def test_each_column_of_a_run_is_explained(results: pd.DataFrame) -> None:
    said = RunResult.row.__doc__ or ""
    known = set(re.findall(r"\w+\*?", said))
    groups = tuple(each.removesuffix("*") for each in known if each.endswith("_*"))
    assert {"faulty_", "stalled_", "view_age_"} == set(groups)
    assert not [name for name in results.columns if name not in known and not name.startswith(groups)]


def test_the_table_of_a_profile_has_a_row_for_each_backend() -> None:
    profile = Profile.shipped()
    frame = profile.to_frame().set_index("backend")
    assert list(frame.index) == list(profile.backends)
    assert frame.loc["redis", "round_trip"] == profile.backends["redis"].round_trip
    assert frame["commit"].isna().to_dict() == {name: each.commit is None for name, each in profile.backends.items()}
    assert set(frame.columns) <= set(re.findall(r"\w+", Profile.to_frame.__doc__ or ""))
    assert profile.machine in profile._repr_html_()
    assert "redis" in profile._repr_html_()


def test_the_table_of_a_sweep_is_a_data_frame_and_sums_itself_up(results: pd.DataFrame) -> None:
    assert type(results) is pd.DataFrame
    assert "pool_size 2" in results.ratesim._repr_html_()
    frame = results.ratesim.to_frame()
    assert frame["candidate"].tolist() == ["redis", "redis, pool_size 2", "memory"]
    assert frame["seeds"].tolist() == [2, 2, 2]
    own = results[results["candidate"] == "memory"]["over_admission"]
    assert frame["over_admission"].iloc[2] == own.mean()
    assert frame["over_admission_half_width"].iloc[2] == pytest.approx(12.7062 * own.std() / np.sqrt(2), rel=1e-4)
    with pytest.raises(AttributeError, match="no table of a sweep: it has no backend, candidate, seed"):
        _ = pd.DataFrame({"a": [1]}).ratesim


def test_what_replicate_returns_shows_itself(scenario: Scenario) -> None:
    found = replicate(scenario, "memory", share=1.0, least=2, processes=1)
    assert found.to_frame() is found.results
    assert found.verdict in found._repr_html_()
    assert format_seconds(found.precision[0].mean) in found._repr_html_()
    assert found.verdict in repr(found)
    assert found.plot().get_xlabel().startswith("latency_p99")
    with pytest.raises(ScenarioError, match=r"metric 'latency_99': did you mean latency_p99\?"):
        found.plot("latency_99")


# Figures --------------------------------------------------------------------------------------------------------


def test_percentiles_are_of_the_shares_that_they_stand_at() -> None:
    ax = plot_percentiles({"a$b": ([0.5, 0.99], [0.001, 0.01])}, {"a$b": "redis"})
    (line,) = ax.lines
    assert line.get_xdata() == pytest.approx([2.0, 100.0])
    assert line.get_ydata() == pytest.approx([0.001, 0.01])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0 %", "50 %", "90 %", "99 %"]
    assert ax.texts[0].get_text() == r"a\$b"


def test_a_run_over_time_has_its_latencies_and_its_outcomes() -> None:
    series = pd.DataFrame({"begin": [0.0, 1.0], "latency_p50": [1e-3, 2e-3], "latency_p99": [3e-3, 4e-3]})
    upper, lower = plot_over_time(series.assign(admitted=[5, 6], denied=[1, 0], failed=[0, 2]))
    assert [list(line.get_ydata()) for line in upper.lines] == [[1e-3, 2e-3], [3e-3, 4e-3]]
    assert [list(line.get_ydata()) for line in lower.lines] == [[5, 6], [1, 0], [0, 2]]


def test_only_keys_with_too_much_are_drawn_the_most_first() -> None:
    ax = plot_keys(["a", "b", "c"], [1.0, 0.0, 3.0], [10.0, 10.0, 10.0])
    assert [bar.get_width() for bar in ax.patches] == [0.3, 0.1]
    assert ax.get_title(loc="left") == "2 of 3 keys were admitted more than exactly"
    assert len(plot_keys(["a"], [0.0], [1.0]).patches) == 0


def test_a_trade_off_leaves_out_what_is_not_known_and_shows_what_is_required() -> None:
    points = pd.DataFrame(
        {"candidate": ["a", "b"], "backend": "redis", "latency_p99": [1e-3, np.nan], "over_admission": [0.0, 0.1]}
    )
    _, mine = pyplot.subplots()
    ax = plot_trade_off(points, mine, p99=0.002, over=0.01)
    assert ax is mine
    assert [text.get_text() for text in ax.texts] == ["a"]
    assert ax.lines[0].get_xdata()[0] == 0.002


def test_results_draw_on_axes_of_their_own_or_on_given_ones(result: RunResult, results: pd.DataFrame) -> None:
    table = results.ratesim
    for draw in (result.plot_latency, result.plot_keys, result.trace.plot, table.plot, table.plot_metric):
        _, mine = pyplot.subplots()
        assert draw(ax=mine) is mine
        assert isinstance(draw(), Axes)
        assert draw().get_xlabel()
    assert len(result.plot_over_time()) == 2
    steps = result.trace.plot().lines[0].get_ydata()
    assert steps.sum() * result.trace.duration / len(steps) == pytest.approx(len(result.trace))
    assert isinstance(Trace([1.0], [0], ["a"]).plot(), Axes)
