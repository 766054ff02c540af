"""The command at the end of a page is read back into the very parameters that the page was made with."""

from __future__ import annotations

import re
import shlex
from html import unescape
from types import SimpleNamespace

import pytest

from ratesim.notebook import find, given, notebooks, parameters_of
from ratesim.pages.recommendation import detail_cells
from ratesim.pages.repro_command import repro_command, reproduction, seed_range
from ratesim.simulation.cost_model.environment import environment
from ratesim.simulation.scenario.scenario import Scenario

NAMES = sorted(path.stem for path in notebooks().glob("*.ipynb"))
AWKWARD = {
    str: "a b'c\"$(touch x)`;&|<>*?~ä -p nodes=3",
    int: 1_234_567_890_123,
    float: 1.5e-7,
    bool: False,
}


def read_back(line: str) -> tuple[str, dict]:
    """The notebook and the parameters of a line, as the command line takes it."""
    program, verb, name, *rest = shlex.split(line)
    assert (program, verb) == ("ratesim", "notebook")
    assert set(rest[::3]) <= {"-p"}
    return name, given(list(zip(rest[1::3], rest[2::3], strict=True)), parameters_of(find(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_line_without_parameters_is_that_of_a_page_of_defaults(name):
    defaults = {each.name: each.default for each in parameters_of(find(name))}
    assert repro_command(name, defaults) == f"ratesim notebook {name}"
    assert repro_command(name, {}) == f"ratesim notebook {name}"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_comes_back_as_it_was(name):
    units = {"%": "0.3%", "s": "150us"}  # by the end of a default that is a share or a time
    asked = {
        each.name: units.get(each.default[-1:], AWKWARD[str])
        if isinstance(each.default, str) and each.default[:1].isdecimal()
        else AWKWARD[type(each.default)]
        for each in parameters_of(find(name))
    }
    changed = {each.name for each in parameters_of(find(name)) if asked[each.name] != each.default}
    found, values = read_back(repro_command(name, asked))
    assert found == name
    assert values == {each: asked[each] for each in changed}
    assert {each: type(value) for each, value in values.items()} == {each: type(asked[each]) for each in changed}


def test_the_part_has_the_command_the_seeds_the_versions_and_no_markup_of_a_value():
    page = reproduction(
        "consistency", {"limit": "<img src=x>/s", "seed": 3}, seed_range(3, 2), "The same <b>.", "Profile."
    ).data
    assert "<img" not in page
    assert "<b>" not in page
    command = unescape(re.search("<code>(.*?)</code>", page)[1])
    assert read_back(command) == ("consistency", {"limit": "<img src=x>/s", "seed": 3})
    for row in ("Command", 'Seeds</th><td class="n">3 to 4', "Machine", "Date", "Versions", "Profile"):
        assert row in page
    assert (seed_range(5, 1), seed_range(5, 3)) == ("5", "5 to 7")


def test_a_report_names_its_files_and_a_page_from_a_notebook_its_parameters():
    recommendation = SimpleNamespace(
        parts={"screening": "a tenth", "in full": "all"},
        assessments=[1],
        whole=[],
        profile=SimpleNamespace(sentence="The profile."),
    )
    screened = SimpleNamespace(assessments=[1, 2])
    study = SimpleNamespace(
        scenario=Scenario.load("quickstart"), findings=SimpleNamespace(screened=screened), environment=environment()
    )
    defaults = {each.name: each.default for each in parameters_of(find("recommendation"))}

    def command(**given):
        page = detail_cells.method(study, recommendation, defaults | given).data
        return unescape(re.search("<code>(.*?)</code>", page)[1])

    report = "ratesim report --scenario scenario.toml --profile profile.json --prices prices.toml --out again"
    of_report = {"scenario": "scenario.toml", "out": ".", "prices": "prices.toml"}
    assert command(**of_report) == report
    assert command(**of_report, live=False, seconds=30.0) == f"{report} --no-live --seconds 30"
    asked = {"log": "my log.csv", "limit": "5/minute", "cost": "a+b", "live": False}
    assert read_back(command(**asked)) == ("recommendation", asked)
