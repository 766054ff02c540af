"""Scenarios as people write them, rightly and wrongly."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from ratesim.simulation.scenario.scenario import Scenario, ScenarioError, shipped_scenarios
from traffic import LogError

GOOD = """
[workload]
requests_per_second = 10
[limit]
rate = "10/minute"
[deployment]
nodes = 3
[requirements]
p99 = "2ms"
max_over_admission = "1%"
"""


def test_a_scenario_is_read_and_written_and_read_again() -> None:
    scenario = Scenario.parse(GOOD)
    assert scenario.requirements.p99 == 0.002
    assert scenario.requirements.max_over_admission == 0.01
    assert Scenario.parse(scenario.to_toml()) == scenario
    quickstart = Scenario.load("quickstart")
    assert Scenario.parse(quickstart.to_toml()) == quickstart


def test_anything_in_a_string_survives_being_written() -> None:
    scenario = Scenario.parse(GOOD).model_copy(update={"name": 'a "b" \\ \n [x] é'})
    assert Scenario.parse(scenario.to_toml()).name == scenario.name


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "nodes = 3",
            "node = 3",
            r"deployment.node: unknown key; did you mean node_timeout or nodes\? known here: type, nodes, routing, network",
        ),
        ("nodes = 3", 'nodes = "many"', "deployment.nodes"),
        ("nodes = 3", "nodes = 0", "deployment.nodes"),
        ("10/minute", "10/fortnight", "limit.*fortnight"),
        ("10/minute", "-10/minute", "limit.*rate -10"),
        ("2ms", "2 parsecs", "requirements.p99.*not a time"),
        ("1%", "one", "requirements.max_over_admission"),
        ("requests_per_second = 10", "", "workload.*log"),
        ("[workload]", "[traffic]", "workload|traffic"),
        ("nodes = 3", "nodes = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(old: str, new: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says) as caught:
        Scenario.parse(GOOD.replace(old, new), "my.toml")
    assert "my.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scenario_that_is_not_there_is_named_with_those_that_are(tmp_path) -> None:
    with pytest.raises(ScenarioError, match="quickstart"):
        Scenario.load("quickstrat")
    with pytest.raises(ScenarioError, match="cannot be read"):
        Scenario.load(tmp_path / "none.toml")


def test_what_ships_is_named_by_its_place() -> None:
    names = list(shipped_scenarios())
    assert names == sorted(names)
    assert {"quickstart", "situations/login"} <= set(names)
    assert all(Scenario.load(name) == Scenario.load(path) for name, path in shipped_scenarios().items())
    with pytest.raises(ScenarioError, match=r"no such file; shipped with ratesim: quickstart, situations/audit, "):
        Scenario.load("situations/logn")
    with pytest.raises(ScenarioError, match="no such file"):
        Scenario.load("situations")


def test_a_candidate_that_cannot_be_opened_is_refused_before_anything_runs() -> None:
    text = """
    [workload]
    requests_per_second = 10.0
    [limit]
    rate = "10/minute"
    [[candidates]]
    name = "small"
    storage = "memory://?memory_limit=100mb"
    """
    with pytest.raises(ScenarioError, match=r"candidates\.0\.storage: memory_limit '100mb': must be a whole number"):
        Scenario.parse(text)


def test_a_csv_is_read_by_the_names_of_its_columns_and_its_cost_may_be_a_sum() -> None:
    with resources.as_file(resources.files("traffic") / "data" / "azure_llm_code_500.csv.gz") as path:
        workload = {"log": str(path), "key": "none", "cost": "ContextTokens + GeneratedTokens", "spread": False}
        scenario = Scenario.of({"workload": workload, "limit": {"rate": "100000/minute", "algorithm": "token_bucket"}})
        trace = scenario.trace()
        assert (len(trace), list(trace.keys)) == (500, ["all"])
        assert trace.cost.min() > 1
        again = Scenario.parse(scenario.to_toml())
        assert again.trace().cost.tolist() == trace.cost.tolist()
        with pytest.raises(LogError, match="TIMESTAMP, ContextTokens, GeneratedTokens"):
            Scenario.of({**scenario.model_dump(exclude_none=True), "workload": {**workload, "key": "user"}}).trace()


def test_a_recipe_is_drawn_anew_for_each_seed_and_a_log_is_what_it_is(tmp_path: Path) -> None:
    recipe = Scenario.of({"workload": {"requests_per_second": 50.0, "duration": 2.0}, "limit": {"rate": "5/second"}})
    assert recipe.trace(recipe.seed) == recipe.trace()
    assert recipe.trace(2) != recipe.trace()
    log = tmp_path / "requests.csv"
    log.write_text("time,key\n1,a\n2,b\n3,a\n")
    asked = Scenario.of(
        {"workload": {"log": str(log), "format": "csv", "time": "time", "key": "key"}, "limit": {"rate": "5/second"}}
    )
    assert asked.trace(2) == asked.trace()


@pytest.mark.parametrize(
    "storage",
    [
        "redis://u:secret@host/0",
        "postgresql://host/db?password=secret",
        "postgresql://host/db?p%61ssword=secret",
        "hybrid+redis://:secret@h?consistency=strong",
        "redis+sentinel://h/limits?sentinel_password=secret",
        "redis+sentinel://h/limits?sentinel_username=secret",
        "rediss+cluster://h?ssl_password=secret",
        "redis://h?username=secret",
    ],
)
def test_a_candidate_with_a_password_is_refused_and_not_repeated(storage: str) -> None:
    with pytest.raises(ScenarioError, match="names a user or a password") as refused:
        Scenario.of(
            {
                "workload": {"requests_per_second": 1},
                "limit": {"rate": "1/second"},
                "candidates": [{"name": "mine", "storage": storage}],
            }
        )
    assert "secret" not in str(refused.value)


def test_a_log_of_times_that_no_storage_decides_at_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "requests.csv"
    log.write_text("time,key\n-5,a\n3,b\n")
    workload = {"log": str(log), "format": "csv", "time": "time", "key": "key", "time_unit": "s"}
    scenario = Scenario.of({"workload": workload, "limit": {"rate": "5/second"}})
    with pytest.raises(ScenarioError, match=r"seconds since the epoch.*check the times"):
        scenario.trace()


def test_a_whole_number_is_no_share_unless_it_is_said_what_is_meant() -> None:
    small = {"workload": {"requests_per_second": 9, "duration": 1}, "limit": {"rate": "9/second"}}
    with pytest.raises(ScenarioError, match=r'max_over_admission: 5 is 500%; write "5%" or "500%"'):
        Scenario.of({**small, "requirements": {"max_over_admission": 5}})
    for number in (0, 1, 0.05, "500%"):
        Scenario.of({**small, "requirements": {"max_over_admission": number}})
