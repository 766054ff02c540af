"""`Scenario.from_log` states a question in the words of the command line."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from ratesim import Limit, Scenario
from ratesim.cli.options import QuestionOptions, scenario_from_options
from ratesim.limit import InvalidLimitError
from ratesim.simulation.scenario.options import PLACES, LogOptions
from ratesim.simulation.scenario.scenario import ScenarioError
from traffic import LogError

# On the command line: no words about a log.
OTHERS = {"scenario", "log", "workload", "show_keys", "processes", "seconds", "profile", "prices"}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "access.csv").write_text("time,user,tokens\n" + "".join(f"{i},10.0.0.{i % 3},{i % 7}\n" for i in range(50)))
    return "access.csv"


def test_the_words_are_those_of_the_command_line() -> None:
    options = {each.name for each in fields(QuestionOptions)} - OTHERS
    assert options == set(PLACES) | {"without"}
    assert set(LogOptions.__annotations__) | {"limit"} == options


def test_the_same_words_make_the_same_scenario(log: str) -> None:
    words = {"key": "user", "cost": "tokens", "nodes": 4, "p99": "2ms", "max_over_admission": "1%", "without": ["postgres"]}
    words |= {"seed": 7, "replications": 2, "network": "cross_zone", "busiest": "30s", "also": ["gcra"]}
    asked = {each.name: None for each in fields(QuestionOptions)} | {"log": [log], "limit": "9/minute"} | words
    stated = Scenario.from_log(log, limit="9/minute", **words)
    assert stated == scenario_from_options(asked)
    assert (stated.requirements.p99, stated.deployment.nodes, stated.workload.key) == (0.002, 4, "user")
    assert stated.requirements.allowed == ("memory", "redis", "hybrid")
    assert stated == Scenario.from_log(log, limit="9/minute", **words | {"without": "postgres", "also": "gcra"})


def test_a_relative_path_counts_from_the_working_directory(log: str, tmp_path: Path) -> None:
    scenario = Scenario.from_log(Path(log), limit="9/minute", key=None)  # type: ignore[typeddict-item]
    assert scenario.workload.log == str(tmp_path / log)
    assert scenario.name == "access.csv"
    assert len(scenario.trace()) == 50


def test_values_may_be_those_of_python(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Limit.parse("9/minute", "token_bucket", burst=20)
    stated = Scenario.from_log(log, limit=given, p99=pd.Timedelta("2ms"), busiest=timedelta(seconds=30))
    assert stated.limit.limit() == given
    assert (stated.requirements.p99, stated.workload.busiest) == (0.002, 30.0)
    plain = Scenario.from_log(log, limit=Limit.parse("10 per 5 seconds"))
    assert (plain.limit.limit(), plain.limit.burst) == (Limit.parse("10 per 5 seconds"), None)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert Scenario.from_log(f"~/{log}", limit="9/minute") == Scenario.from_log(log, limit="9/minute")


@pytest.mark.parametrize("wrong", [None, b"access.csv", 3, pd.DataFrame({"time": [1.0]})])
def test_what_is_no_path_is_told_in_one_line(wrong: object) -> None:
    with pytest.raises(
        ScenarioError, match=f"^log: a {type(wrong).__name__} is no path of a file; a DataFrame's to_csv writes one$"
    ):
        Scenario.from_log(wrong, limit="9/minute")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"nods": 8}, TypeError, r"option 'nods': did you mean nodes\?"),
        ({"max_overadmission": "1%"}, ScenarioError, r"did you mean max_over_admission\?"),
        ({"zzz": 1}, ScenarioError, "option 'zzz': known are limit, algorithm"),
        ({"limit": "9/fortnight"}, InvalidLimitError, "fortnight"),
        ({"network": "same_zon"}, ScenarioError, r"did you mean same_zone\? known are loopback, same_zone"),
        ({"nodes": 0}, ScenarioError, r"deployment\.nodes"),
        ({"p99": "fast"}, ScenarioError, r"requirements\.p99"),
        ({"without": "reddis"}, ScenarioError, r"without 'reddis': did you mean redis\?"),
        ({"without": ["memory", "redis", "postgres", "hybrid"]}, ScenarioError, "no backend is left"),
        ({"key": "usr"}, LogError, "usr"),
        ({"cost": "tokns"}, LogError, "tokns"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_stated(log: str, options, error, said) -> None:
    with pytest.raises(error, match=said):
        Scenario.from_log(log, **{"limit": "9/minute"} | options)


def test_a_log_that_is_not_there_is_said_when_it_is_stated(log: str) -> None:
    with pytest.raises(LogError, match=r"missing\.log"):
        Scenario.from_log("missing.log", limit="9/minute")
