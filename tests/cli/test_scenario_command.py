"""`ratesim scenario` prints a file that can be used, and says all that is wrong with one; options need units as files do."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import command, refused

from ratesim.cli.options import scenario_from_options
from ratesim.simulation.scenario.grid import parse_grid, variants
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError


def test_a_scenario_is_printed_as_a_file_that_reads_back(tmp_path: Path) -> None:
    printed = command("scenario", "quickstart")
    assert printed.returncode == 0
    assert Scenario.parse(printed.stdout) == Scenario.load("quickstart")
    (tmp_path / "mine.toml").write_text(printed.stdout)
    assert command("scenario", tmp_path / "mine.toml").stdout == printed.stdout
    assert "no problem found" in command("scenario", "--check", tmp_path / "mine.toml").stdout
    assert Scenario.parse(command("scenario", "--example").stdout).name == "example"
    assert '"http://json-schema.org/draft-07/schema#"' in command("scenario", "--schema").stdout


def test_a_check_has_a_line_for_each_problem(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        "[workload]\nrequests_per_second = 5\nduration = 60\n[limit]\nrate = '5/s'\nbrust = 3\n[deployment]\nnodes = 0\n"
    )
    for arguments in (("--check", file), (file,)):
        found = command("scenario", *arguments)
        assert (found.returncode, found.stdout) == (2, "")
        lines = found.stderr.splitlines()
        assert [line.split(": ")[2] for line in lines] == ["workload.duration", "limit.brust", "deployment.nodes"]
        assert lines[0].endswith('60 has no unit; write "60ms" or "60s"')
        assert "did you mean burst?" in lines[1]
    refused(command("scenario", "--check"), "NAME or a FILE")
    refused(command("scenario", "quickstart", "--example"), "NAME or a FILE")
    file.write_text("[workload]\nlog = 'none.log'\n[limit]\nrate = '5/s'\n")
    refused(command("scenario", "--check", file), "none.log")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("p99", "2", 'requirements.p99: 2 has no unit; write "2ms" or "2s"'),
        ("rtt", "0.0004", 'deployment.rtt: 0.0004 has no unit; write "400us"'),
        ("max_over_admission", "1", 'requirements.max_over_admission: 1 has no unit; write "1%"'),
        ("workload", ["requests_per_second=20", "duration=60"], 'workload.duration: 60 has no unit; write "60ms" or "60s"'),
    ],
)
def test_an_option_without_a_unit_is_refused(option: str, value: object, says: str) -> None:
    options = [
        "scenario",
        "log",
        "workload",
        "limit",
        "key",
        "busiest",
        "nodes",
        "p99",
        "rtt",
        "max_over_admission",
        "without",
    ]
    asked = dict.fromkeys(options) | {"workload": ["requests_per_second=20"], "limit": "9/minute", option: value}
    with pytest.raises(ScenarioError) as caught:
        scenario_from_options(asked)
    assert str(caught.value) == f"options: {says}"


def test_a_value_of_a_grid_without_a_unit_is_refused_on_the_command_line_alone() -> None:
    asked = Scenario.load("situations/cross-region")
    assert [each.values["warmup"] for each in variants(asked, parse_grid(["warmup=0,30s"]))] == [0.0, 30.0]
    assert [each.values["faults.0.duration"] for each in variants(asked, {"faults.0.duration": [2, "3s"]})] == [2.0, 3.0]
    for text in ("warmup=30", "faults.0.duration=2", "deployment.loss=0.01", "workload.lifetime=60"):
        with pytest.raises(ScenarioError, match="has no unit"):
            variants(asked, parse_grid([text]))
    assert variants(asked, parse_grid(["workload.lifetime=null"]))[0].values == {"workload.lifetime": None}
