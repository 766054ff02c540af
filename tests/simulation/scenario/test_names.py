"""A scenario and a candidate may be given as themselves, by name, by file, or by storage URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratesim import Candidate, Scenario, named_candidates
from ratesim.errors import ConfigurationError
from ratesim.simulation.scenario.names import find_candidate, find_candidates, find_scenario, with_candidates
from ratesim.simulation.scenario.scenario import ScenarioError
from ratesim.suggestion import close_names, unknown_name

OWN = {"name": "mine", "storage": "redis://localhost?pool_size=3"}


@pytest.fixture
def scenario() -> Scenario:
    return Scenario.of({"workload": {"requests_per_second": 20.0}, "limit": {"rate": "9/second"}, "candidates": [OWN]})


def test_a_scenario_is_itself_a_name_or_a_file(scenario: Scenario, tmp_path: Path) -> None:
    assert find_scenario(scenario) is scenario
    assert find_scenario("quickstart") == Scenario.load("quickstart")
    file = tmp_path / "mine.toml"
    file.write_text(scenario.to_toml())
    assert find_scenario(file) == find_scenario(str(file)) == scenario
    with pytest.raises(ScenarioError, match=r"scenario 'quikstart': no such file; .*; did you mean quickstart\?"):
        find_scenario("quikstart")
    with pytest.raises(ScenarioError, match="scenario 7: give a Scenario, a name such as 'quickstart', or a TOML file"):
        find_scenario(7)  # type: ignore[arg-type]


def test_a_candidate_is_itself_a_name_of_the_scenario_or_the_catalogue_or_a_url(scenario: Scenario) -> None:
    (own,) = scenario.candidates
    assert find_candidate(scenario, own) is own
    assert find_candidate(scenario, "mine") == own
    assert find_candidate(scenario, "redis").storage == "redis://localhost"
    assert find_candidate(scenario, "redis sentinel").storage.startswith("redis+sentinel://")  # of the whole catalogue
    asked = find_candidate(scenario, "redis://localhost?pool_size=20")
    assert asked == Candidate(name="redis, pool_size 20", storage="redis://localhost?pool_size=20")


def test_a_name_of_the_scenario_goes_before_that_of_the_catalogue(scenario: Scenario) -> None:
    mine = Candidate(name="redis", storage="redis://localhost?pool_size=3")
    both = scenario.model_copy(update={"candidates": (mine,)})
    assert find_candidate(both, "redis") == mine
    assert next(iter(named_candidates(both))) == "redis"


def test_a_wrong_name_gets_one_line_with_the_close_ones(scenario: Scenario) -> None:
    with pytest.raises(ScenarioError, match=r"^candidate 'reddis': did you mean redis\?") as wrong:
        find_candidate(scenario, "reddis")
    assert len(str(wrong.value)) < 200
    with pytest.raises(ScenarioError, match=r"did you mean hybrid lease 1 s\?"):
        find_candidate(scenario, "hybrid lease 1s")
    with pytest.raises(ScenarioError, match=r"did you mean hybrid"):
        find_candidate(scenario, "hybird")
    with pytest.raises(ScenarioError, match=r"'elasticsearch': no such name; `ratesim run --list` lists them all") as far:
        find_candidate(scenario, "elasticsearch")
    assert len(str(far.value)) < 200
    with pytest.raises(ScenarioError, match="candidate 5: give a Candidate"):
        find_candidate(scenario, 5)  # type: ignore[arg-type]


def test_a_url_that_opens_nothing_or_names_a_password_is_refused_without_it(scenario: Scenario) -> None:
    with pytest.raises(ConfigurationError, match="mongo"):
        find_candidate(scenario, "mongo://localhost")
    with pytest.raises(ScenarioError, match="names a user or a password") as wrong:
        find_candidate(scenario, "redis://me:hunter2@localhost")
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, None),
        ("redis", ["redis"]),
        (["redis", "memory"], ["redis", "memory"]),
        (("redis://localhost", "redis", "redis://localhost/1", "redis://localhost"), ["redis 2", "redis", None, "redis 3"]),
    ],
)
def test_a_list_of_candidates_has_a_name_for_each(scenario: Scenario, given, names) -> None:
    found = find_candidates(scenario, given)
    if found is None:
        assert names is None
        return
    assert len({each.name for each in found}) == len(found)
    for each, name in zip(found, names, strict=True):
        assert name in (None, each.name)


def test_an_empty_list_of_candidates_is_refused(scenario: Scenario) -> None:
    with pytest.raises(ScenarioError, match="the list is empty; leave it out for all"):
        find_candidates(scenario, [])


def test_a_scenario_with_candidates_is_checked_as_a_file_is(scenario: Scenario) -> None:
    assert [each.name for each in with_candidates(scenario, ["memory", "redis"]).candidates] == ["memory", "redis"]
    assert with_candidates(scenario, None) is scenario
    wrong = Candidate(name="odd", storage="memory://", algorithm="magic")
    with pytest.raises(ScenarioError, match="magic"):
        with_candidates(scenario, [wrong])


def test_names_are_close_whatever_their_case_and_only_if_they_are_alike() -> None:
    known = ["redis", "postgres", "memory, sticky"]
    assert close_names("Postgers", known) == ["postgres"]
    assert close_names("memory", known) == ["memory, sticky"]
    assert close_names("kafka", known) == []
    assert close_names("redis" * 1000, known) == []
    assert unknown_name("backend", "kafka", known) == "backend 'kafka': known are redis, postgres, memory, sticky"
    assert "hunter2" not in unknown_name("candidate", "redis:/me:hunter2@h", ["redis"], "x")
